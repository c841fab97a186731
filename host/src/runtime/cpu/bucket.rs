//! A budget of CPU time that refills at a steady rate.

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// No limit.
const UNLIMITED: u64 = u64::MAX;
const SECOND: u64 = 1_000_000_000;

/// A token bucket, kept as the time at which all that was spent is paid off: one number, so that all sessions of a tenant
/// may spend at once. The bucket holds what refills in `burst`.
#[derive(Debug)]
pub(super) struct Bucket {
    /// Nanoseconds of CPU per second.
    rate: AtomicU64,
    burst: Duration,
    /// In nanoseconds since the process's beginning.
    paid_off: AtomicU64,
}

impl Bucket {
    /// A full bucket of CPU time per second; `None` is without limit.
    pub(super) fn new(per_second: Option<Duration>, burst: Duration) -> Self {
        Self {
            rate: AtomicU64::new(rate(per_second)),
            burst,
            paid_off: AtomicU64::new(0),
        }
    }

    /// Refills at another rate from now on.
    pub(super) fn set_rate(&self, per_second: Option<Duration>) {
        self.rate.store(rate(per_second), Ordering::Relaxed);
    }

    /// Takes out what was spent, even where it is not there.
    pub(super) fn spend(&self, now: Instant, spent: Duration) {
        let rate = self.rate.load(Ordering::Relaxed);
        if rate == UNLIMITED {
            return;
        }
        let price = u128::from(nanos(spent)) * u128::from(SECOND) / u128::from(rate.max(1));
        let price = u64::try_from(price).unwrap_or(u64::MAX);
        let full = since_start(now).saturating_sub(nanos(self.burst));
        let pay = |paid_off: u64| Some(paid_off.max(full).saturating_add(price));
        _ = self
            .paid_off
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, pay);
    }

    /// How long until something may be spent again: nothing while something is left.
    pub(super) fn delay(&self, now: Instant) -> Duration {
        if self.rate.load(Ordering::Relaxed) == UNLIMITED {
            return Duration::ZERO;
        }
        let paid_off = self.paid_off.load(Ordering::Relaxed);
        Duration::from_nanos(paid_off.saturating_sub(since_start(now)))
    }
}

fn rate(per_second: Option<Duration>) -> u64 {
    per_second.map_or(UNLIMITED, nanos)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn since_start(now: Instant) -> u64 {
    // Some seconds ahead, so that a bucket is full at the beginning.
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    nanos(now.saturating_duration_since(*START)).saturating_add(10 * SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_second_at_the_rate_is_free_and_what_is_beyond_is_waited_for() {
        let bucket = Bucket::new(Some(200 * MS), Duration::from_secs(1));
        let now = Instant::now();
        bucket.spend(now, 199 * MS);
        assert_eq!(bucket.delay(now), Duration::ZERO);
        bucket.spend(now, 51 * MS);
        assert_eq!(bucket.delay(now), 250 * MS, "50 ms at a fifth of a core");
        assert_eq!(bucket.delay(now + 250 * MS), Duration::ZERO);
    }

    #[test]
    fn a_bucket_does_not_hold_more_than_its_burst() {
        let bucket = Bucket::new(Some(100 * MS), 100 * MS);
        let later = Instant::now() + Duration::from_secs(3600);
        bucket.spend(later, 20 * MS);
        assert_eq!(bucket.delay(later), 100 * MS);
    }

    #[test]
    fn without_a_rate_nothing_is_waited_for_and_a_new_rate_counts_from_now() {
        let bucket = Bucket::new(None, Duration::from_secs(1));
        let now = Instant::now();
        bucket.spend(now, Duration::from_secs(100));
        assert_eq!(bucket.delay(now), Duration::ZERO);
        bucket.set_rate(Some(100 * MS));
        assert_eq!(bucket.delay(now), Duration::ZERO);
        bucket.spend(now, 200 * MS);
        assert_eq!(bucket.delay(now), Duration::from_secs(1));
        bucket.set_rate(None);
        assert_eq!(bucket.delay(now), Duration::ZERO);
    }
}
