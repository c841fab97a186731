//! How often the epoch's clock ticks: seldom while no call is long.

use std::{sync::Arc, time::Duration};

use super::Lane;

/// How long no call has to have been long.
const CALM: Duration = Duration::from_secs(1);
/// How long the first long call runs then, twice that at most, until it yields. A tick costs more than many calls: the
/// system stops a worker for the clock's thread.
const STEP: Duration = Duration::from_millis(4);

/// The pace of one clock. Long calls are those that come into the lane.
#[derive(Debug)]
pub(in super::super) struct Pace {
    tick: Duration,
    lane: Arc<Lane>,
    /// How many had come into the lane when it was looked at last.
    entered: u64,
    /// How long ago the last was in it.
    calm: Duration,
}

impl Pace {
    pub(in super::super) fn new(tick: Duration, lane: Arc<Lane>) -> Self {
        Self {
            tick,
            lane,
            entered: 0,
            calm: CALM,
        }
    }

    /// How long it is until the next tick.
    pub(in super::super) fn step(&mut self) -> Duration {
        let (entered, taken) = self.lane.usage();
        if taken || entered != self.entered {
            self.calm = Duration::ZERO;
        }
        self.entered = entered;
        let step = if self.calm < CALM {
            self.tick
        } else {
            self.tick.max(STEP)
        };
        self.calm = self.calm.saturating_add(step);
        step
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Account, AccountLimits, lane::Place},
        *,
    };

    const TICK: Duration = Duration::from_millis(1);

    async fn entered(lane: &Arc<Lane>) -> Place {
        let account = Account::new(AccountLimits::default());
        lane.enter(&account, Duration::ZERO, None).await
    }

    #[tokio::test]
    async fn the_clock_ticks_at_its_rate_while_a_call_is_long_and_for_a_second_after() {
        let lane = Arc::new(Lane::new(2));
        let mut pace = Pace::new(TICK, lane.clone());
        assert_eq!(pace.step(), STEP);
        let place = entered(&lane).await;
        for _ in 0..5_000 {
            assert_eq!(pace.step(), TICK);
        }
        drop(place);
        for _ in 1..1_000 {
            assert_eq!(pace.step(), TICK);
        }
        assert_eq!(pace.step(), STEP);
    }

    #[tokio::test]
    async fn a_call_is_seen_that_was_in_the_lane_between_two_looks() {
        let lane = Arc::new(Lane::new(2));
        let mut pace = Pace::new(TICK, lane.clone());
        assert_eq!(pace.step(), STEP);
        drop(entered(&lane).await);
        assert_eq!(pace.step(), TICK);
    }

    #[test]
    fn a_tick_that_is_longer_stays_as_it_is() {
        let mut pace = Pace::new(2 * STEP, Arc::new(Lane::new(2)));
        assert_eq!(pace.step(), 2 * STEP);
    }
}
