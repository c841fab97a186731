//! Keeps QUIC's driver of a connection back while one of its sessions takes its turn.
//!
//! A driver is woken by the first thing that a turn sends. It would then send that alone, from another thread, and contend
//! with the turn for the lock of the connection. Kept back, it finds all that there is to send, and nobody else.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
};

use futures_util::task::AtomicWaker;

use super::ride::{Ride, Rider};

thread_local! {
    /// What the next driver that is spawned on this thread listens to.
    static NEXT: Cell<Option<Hold>> = const { Cell::new(None) };
}

/// A hold on the driver of one connection. All clones are one.
#[derive(Clone, Debug, Default)]
pub(in crate::transport) struct Hold(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    turns: AtomicUsize,
    driver: AtomicWaker,
    ride: Ride,
}

impl Hold {
    /// A hold on the driver that `begin` spawns.
    pub(super) fn on_driver_of<T>(begin: impl FnOnce() -> T) -> (Self, T) {
        let hold = Self::default();
        NEXT.set(Some(hold.clone()));
        let begun = begin();
        NEXT.set(None); // where it spawned none
        (hold, begun)
    }

    /// The place beside the driver.
    pub(super) fn ride(&self) -> &Ride {
        &self.0.ride
    }

    /// The hold on the driver that is being spawned, if there is one.
    pub(super) fn next() -> Option<Self> {
        NEXT.take()
    }

    /// Runs the driver whenever it is woken, or at the end of a turn where one is taken then. Of several sessions whose turns
    /// overlap, one that ends suffices.
    pub(super) fn drive(self, driver: Rider) -> impl Future<Output = ()> {
        let open = self.0.ride.open(); // for who comes before the driver is polled
        let (mut waited, mut driver) = (false, Some(driver));
        poll_fn(move |cx| {
            let Inner {
                turns,
                driver: waker,
                ..
            } = &*self.0;
            if turns.load(Ordering::Acquire) > 0 && !waited {
                waker.register(cx.waker());
                // It may have ended before it could know whom to wake.
                if turns.load(Ordering::Acquire) > 0 {
                    waited = true;
                    return Poll::Pending;
                }
            }
            waited = false;
            open.poll(cx, &mut driver)
        })
    }

    /// Runs a future each of whose polls is a turn.
    pub(in crate::transport) async fn turns<T>(
        self,
        mut task: Pin<&mut impl Future<Output = T>>,
    ) -> T {
        poll_fn(|cx| {
            let _turn = Turn::new(&self.0);
            task.as_mut().poll(cx)
        })
        .await
    }
}

/// A turn, until it is dropped.
struct Turn<'a>(&'a Inner);

impl<'a> Turn<'a> {
    fn new(hold: &'a Inner) -> Self {
        hold.turns.fetch_add(1, Ordering::AcqRel);
        Self(hold)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.turns.fetch_sub(1, Ordering::AcqRel);
        self.0.driver.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use tokio::sync::watch;

    use super::{super::ride::tests::others_run, *};

    /// Spawns a driver that listens to a hold, and counts how often it runs; sending wakes it.
    fn driver() -> (Hold, watch::Sender<()>, Arc<AtomicUsize>) {
        let (wake, mut woken) = watch::channel(());
        let runs = Arc::new(AtomicUsize::new(0));
        let count = runs.clone();
        let driver = Box::pin(async move {
            while woken.changed().await.is_ok() {
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        let (hold, ()) = Hold::on_driver_of(|| {
            let hold = Hold::next().unwrap();
            tokio::spawn(hold.drive(driver));
        });
        assert!(Hold::next().is_none(), "it is of one driver");
        (hold, wake, runs)
    }

    #[tokio::test]
    async fn a_driver_waits_for_the_end_of_a_turn_and_runs_once_for_all_of_it() {
        let (hold, wake, runs) = driver();
        others_run().await;
        let mut turns = 0;
        let task = pin!(poll_fn(|cx| {
            assert_eq!(
                runs.load(Ordering::Relaxed),
                turns,
                "once for each turn before"
            );
            if turns == 3 {
                return Poll::Ready(());
            }
            turns += 1;
            for _ in 0..2 {
                wake.send_replace(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        }));
        hold.turns(task).await;
    }

    #[tokio::test]
    async fn of_turns_that_overlap_one_that_ends_lets_the_driver_run() {
        let (hold, wake, runs) = driver();
        others_run().await;
        let _endless = Turn::new(&hold.0);
        let turn = Turn::new(&hold.0);
        wake.send_replace(());
        others_run().await;
        assert_eq!(runs.load(Ordering::Relaxed), 0);
        drop(turn);
        others_run().await;
        assert_eq!(runs.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_driver_runs_whenever_it_is_woken_while_nobody_takes_a_turn() {
        let (_hold, wake, runs) = driver();
        for run in 1..4 {
            wake.send_replace(());
            others_run().await;
            assert_eq!(runs.load(Ordering::Relaxed), run);
        }
    }
}
