//! The timers of one session.

use std::{
    collections::BTreeMap,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::time::{Instant, Sleep};

/// Timers by when they are due, and one sleep for the first of them.
#[derive(Debug, Default)]
pub(super) struct Timers {
    due: BTreeMap<(Instant, u64), ()>,
    last: u64,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timers {
    /// Sets a timer and returns its number, unless there are `max` already.
    pub(super) fn set(&mut self, due: Instant, max: usize) -> Option<u64> {
        if self.due.len() >= max {
            return None;
        }
        self.last += 1;
        self.due.insert((due, self.last), ());
        Some(self.last)
    }

    /// Forgets a timer.
    pub(super) fn cancel(&mut self, timer: u64) {
        self.due.retain(|(_, number), ()| *number != timer);
    }

    /// Waits for the first timer and takes it.
    pub(super) fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<u64> {
        let Some(((due, number), ())) = self.due.first_key_value() else {
            return Poll::Pending;
        };
        let (due, number) = (*due, *number);
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        if sleep.deadline() != due {
            sleep.as_mut().reset(due);
        }
        std::task::ready!(sleep.as_mut().poll(cx));
        self.due.remove(&(due, number));
        Poll::Ready(number)
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use super::*;

    #[tokio::test]
    async fn timers_fire_in_the_order_they_are_due_and_cancelled_ones_do_not() {
        let mut timers = Timers::default();
        let now = Instant::now();
        let late = timers.set(now + Duration::from_millis(20), 3).unwrap();
        let never = timers.set(now + Duration::from_millis(10), 3).unwrap();
        let early = timers.set(now, 3).unwrap();
        assert_eq!(timers.set(now, 3), None, "no more than allowed");
        timers.cancel(never);
        timers.cancel(77);
        assert_eq!(poll_fn(|cx| timers.poll_due(cx)).await, early);
        assert_eq!(poll_fn(|cx| timers.poll_due(cx)).await, late);
        assert!(timers.set(now, 3).is_some(), "fired timers make room");
    }
}
