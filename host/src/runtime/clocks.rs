//! The clocks that guests see: no finer than they are granted, because a fine clock tells of the neighbours.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use wasmtime_wasi::clocks::{HostMonotonicClock, HostWallClock};

/// A clock that shows multiples of its resolution.
#[derive(Debug)]
pub(super) struct Coarse {
    resolution: Duration,
    start: Instant,
}

impl Coarse {
    pub(super) fn new(resolution: Duration) -> Self {
        Self {
            resolution: resolution.max(Duration::from_nanos(1)),
            start: Instant::now(),
        }
    }

    fn round(&self, time: Duration) -> Duration {
        let step = self.resolution.as_nanos();
        let nanos = time.as_nanos() / step * step;
        u64::try_from(nanos).map_or(time, Duration::from_nanos)
    }
}

impl HostWallClock for Coarse {
    fn resolution(&self) -> Duration {
        self.resolution
    }

    fn now(&self) -> Duration {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        self.round(now.unwrap_or_default())
    }
}

impl HostMonotonicClock for Coarse {
    fn resolution(&self) -> u64 {
        u64::try_from(self.resolution.as_nanos()).unwrap_or(u64::MAX)
    }

    fn now(&self) -> u64 {
        let now = self.round(self.start.elapsed());
        u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_shown_in_multiples_of_the_resolution_and_goes_on() {
        let clock = Coarse::new(Duration::from_millis(1));
        let first = HostMonotonicClock::now(&clock);
        assert_eq!(first % 1_000_000, 0);
        assert_eq!(HostWallClock::now(&clock).subsec_nanos() % 1_000_000, 0);
        while HostMonotonicClock::now(&clock) == first {
            std::hint::spin_loop();
        }
        assert_eq!(HostMonotonicClock::now(&clock) - first, 1_000_000);
    }
}
