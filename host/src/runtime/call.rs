//! The deadline of a call into a guest, in CPU time.

use std::{pin::pin, task::Poll, time::Duration};

use rustix::time::{ClockId, clock_gettime};

/// The call took more CPU than it may. The instance is dead: it stopped where it stood.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct OutOfTime;

/// Runs a call to its end, or until it has spent `deadline` of CPU in polls. The guest yields each tick of the epoch, so
/// this looks as often. The first poll is not counted: nearly every call ends with it, and reading the clock twice would
/// cost as much as the call.
pub(super) async fn within<T>(
    deadline: Duration,
    call: impl Future<Output = T>,
) -> Result<T, OutOfTime> {
    let mut call = pin!(call);
    let mut spent = None;
    std::future::poll_fn(move |cx| {
        let started = spent.map(|_| thread_cpu());
        if let Poll::Ready(value) = call.as_mut().poll(cx) {
            return Poll::Ready(Ok(value));
        }
        let now = spent.get_or_insert(Duration::ZERO);
        *now += started.map_or(Duration::ZERO, |started| {
            thread_cpu().saturating_sub(started)
        });
        if *now > deadline {
            return Poll::Ready(Err(OutOfTime));
        }
        Poll::Pending
    })
    .await
}

/// The CPU time of this thread: a poll is not charged for what others run meanwhile.
fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waiting_is_free_and_computing_is_not() {
        let wait = tokio::time::sleep(Duration::from_millis(30));
        assert_eq!(within(Duration::from_millis(10), wait).await, Ok(()));
        let compute = async {
            loop {
                let until = thread_cpu() + Duration::from_millis(2);
                while thread_cpu() < until {
                    std::hint::spin_loop();
                }
                tokio::task::yield_now().await;
            }
        };
        assert_eq!(
            within::<()>(Duration::from_millis(10), compute).await,
            Err(OutOfTime)
        );
    }
}
