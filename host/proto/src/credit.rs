//! The only arithmetic on limits: what was granted, what was used, when to grant more.
//!
//! A limit is cumulative: it counts from the session's beginning and never shrinks. The same two types serve bytes and
//! streams (WT-H3, "Flow Control").

use thiserror::Error;

/// What the peer granted us.
#[derive(Debug)]
pub struct SendCredit {
    limit: u64,
    used: u64,
    blocked: Blocked,
}

/// Whether the peer was told that its limit holds us up.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Blocked {
    No,
    Untold,
    Told,
}

impl SendCredit {
    /// Nothing used yet.
    #[must_use]
    pub const fn new(limit: u64) -> Self {
        Self {
            limit,
            used: 0,
            blocked: Blocked::No,
        }
    }

    /// How much may be used in all.
    #[must_use]
    pub const fn limit(&self) -> u64 {
        self.limit
    }

    /// How much may still be used.
    #[must_use]
    pub const fn available(&self) -> u64 {
        self.limit.saturating_sub(self.used)
    }

    /// Uses `n`.
    ///
    /// # Errors
    ///
    /// If less than `n` is available; then nothing is used.
    pub fn take(&mut self, n: u64) -> Result<(), Exceeded> {
        if n > self.available() {
            return Err(Exceeded);
        }
        self.used = self.used.saturating_add(n);
        Ok(())
    }

    /// Takes over a new limit of the peer's, and says whether nothing had been available before.
    ///
    /// # Errors
    ///
    /// If it is not greater than the limit before, which then stays.
    pub fn raise(&mut self, limit: u64) -> Result<bool, NotIncreased> {
        if limit <= self.limit {
            return Err(NotIncreased);
        }
        let waited = self.available() == 0;
        self.limit = limit;
        self.blocked = Blocked::No;
        Ok(waited)
    }

    /// Notes that more is wanted. Without effect while something is available.
    pub fn note_blocked(&mut self) {
        if self.available() == 0 && self.blocked == Blocked::No {
            self.blocked = Blocked::Untold;
        }
    }

    /// Whether [`poll_blocked`](Self::poll_blocked) has something to say.
    #[must_use]
    pub fn has_blocked(&self) -> bool {
        self.blocked == Blocked::Untold
    }

    /// The limit to tell the peer that it holds us up, once per limit.
    pub fn poll_blocked(&mut self) -> Option<u64> {
        if self.blocked != Blocked::Untold {
            return None;
        }
        self.blocked = Blocked::Told;
        Some(self.limit)
    }
}

/// What we grant the peer: a window that moves on as what came is consumed.
#[derive(Debug)]
pub struct ReceiveCredit {
    window: u64,
    max: u64,
    limit: u64,
    received: u64,
    consumed: u64,
    forgiven: u64,
    /// The window was enlarged and the peer has not been told.
    enlarged: bool,
}

impl ReceiveCredit {
    /// Grants `window` at first, and never more than `max` in all.
    #[must_use]
    pub const fn new(window: u64, max: u64) -> Self {
        Self {
            window,
            max,
            limit: if window < max { window } else { max },
            received: 0,
            consumed: 0,
            forgiven: 0,
            enlarged: false,
        }
    }

    /// How much the peer may still send.
    #[must_use]
    pub const fn available(&self) -> u64 {
        self.limit.saturating_sub(self.received)
    }

    /// How much came in all.
    #[must_use]
    pub const fn received(&self) -> u64 {
        self.received
    }

    /// How much came and is not consumed.
    #[must_use]
    pub const fn outstanding(&self) -> u64 {
        self.received.saturating_sub(self.consumed)
    }

    /// Counts what came.
    ///
    /// # Errors
    ///
    /// If it is more than was granted; then nothing is counted.
    pub fn receive(&mut self, n: u64) -> Result<(), Exceeded> {
        if n > self.available() {
            return Err(Exceeded);
        }
        self.received = self.received.saturating_add(n);
        Ok(())
    }

    /// Counts what was consumed of what came. More than [`outstanding`](Self::outstanding) counts as that much.
    pub fn consume(&mut self, n: u64) {
        self.consumed = self.consumed.saturating_add(n).min(self.received);
    }

    /// Grants `n` for good, for what the peer has used up and will never arrive.
    pub fn forgive(&mut self, n: u64) {
        self.forgiven = self.forgiven.saturating_add(n);
    }

    /// Grants a window of that size from now on. One that is not larger than the one before has no effect: what was
    /// granted is not taken back.
    pub fn enlarge(&mut self, window: u64) {
        if window > self.window {
            self.window = window;
            self.enlarged = true;
        }
    }

    /// The new limit to tell the peer, once at least half of the window was consumed since the last, or the window was
    /// enlarged. Each is greater than the one before.
    pub fn poll_update(&mut self) -> Option<u64> {
        let limit = self.update()?;
        self.limit = limit;
        self.enlarged = false;
        Some(limit)
    }

    /// Whether [`poll_update`](Self::poll_update) has something to say.
    #[must_use]
    pub fn has_update(&self) -> bool {
        self.update().is_some()
    }

    fn update(&self) -> Option<u64> {
        let gone = self.consumed.saturating_add(self.forgiven);
        let limit = gone.saturating_add(self.window).min(self.max);
        let gain = limit.saturating_sub(self.limit);
        let worthwhile = self.window.div_ceil(2).max(1);
        let at_once = self.enlarged || limit == self.max;
        (gain >= worthwhile || (gain > 0 && at_once)).then_some(limit)
    }
}

/// More than the limit allows.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Error)]
#[error("more than the limit allows")]
pub struct Exceeded;

/// The new limit is not greater than the one before.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Error)]
#[error("the new limit is not greater than the one before")]
pub struct NotIncreased;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_is_taken_beyond_the_limit() {
        let mut credit = SendCredit::new(10);
        assert_eq!(credit.take(11), Err(Exceeded));
        assert_eq!(credit.take(10), Ok(()));
        assert_eq!(credit.available(), 0);
        assert_eq!(credit.take(1), Err(Exceeded));
        assert_eq!(credit.take(0), Ok(()));
    }

    #[test]
    fn a_limit_must_increase() {
        let mut credit = SendCredit::new(10);
        assert_eq!(credit.raise(10), Err(NotIncreased));
        assert_eq!(credit.raise(9), Err(NotIncreased));
        assert_eq!(credit.raise(11), Ok(false));
        credit.take(11).unwrap();
        assert_eq!(credit.raise(12), Ok(true));
        assert_eq!((credit.limit(), credit.available()), (12, 1));
    }

    #[test]
    fn being_blocked_is_told_once_per_limit() {
        let mut credit = SendCredit::new(1);
        credit.note_blocked();
        assert_eq!(credit.poll_blocked(), None, "something is available");
        credit.take(1).unwrap();
        credit.note_blocked();
        assert_eq!(credit.poll_blocked(), Some(1));
        credit.note_blocked();
        assert_eq!(credit.poll_blocked(), None);
        credit.raise(2).unwrap();
        credit.take(1).unwrap();
        credit.note_blocked();
        assert_eq!(credit.poll_blocked(), Some(2));
        credit.raise(3).unwrap();
        credit.take(1).unwrap();
        credit.note_blocked();
        credit.raise(4).unwrap();
        assert_eq!(
            credit.poll_blocked(),
            None,
            "the limit was raised meanwhile"
        );
    }

    #[test]
    fn more_is_granted_at_half_of_the_window() {
        let mut credit = ReceiveCredit::new(5, u64::MAX);
        credit.receive(5).unwrap();
        assert_eq!(credit.receive(1), Err(Exceeded));
        credit.consume(2);
        assert_eq!(credit.poll_update(), None);
        credit.consume(1);
        assert_eq!(credit.poll_update(), Some(8));
        assert_eq!(credit.poll_update(), None);
        assert_eq!((credit.available(), credit.outstanding()), (3, 2));
    }

    #[test]
    fn a_window_of_one_moves_by_one() {
        let mut credit = ReceiveCredit::new(1, u64::MAX);
        for limit in 2..9 {
            credit.receive(1).unwrap();
            assert_eq!(credit.poll_update(), None);
            credit.consume(1);
            assert_eq!(credit.poll_update(), Some(limit));
        }
    }

    #[test]
    fn what_is_forgiven_may_be_used_beside_the_window() {
        let mut credit = ReceiveCredit::new(4, u64::MAX);
        credit.forgive(1);
        assert_eq!(credit.poll_update(), None, "less than half of the window");
        credit.forgive(1);
        assert_eq!(credit.poll_update(), Some(6));
        credit.receive(4).unwrap();
        credit.consume(4);
        assert_eq!(credit.poll_update(), Some(10));
        credit.receive(6).unwrap();
        assert_eq!(credit.receive(1), Err(Exceeded));
    }

    #[test]
    fn a_window_of_zero_grants_nothing_ever() {
        let mut credit = ReceiveCredit::new(0, u64::MAX);
        assert_eq!(credit.receive(1), Err(Exceeded));
        credit.consume(1);
        assert_eq!(credit.poll_update(), None);
    }

    #[test]
    fn the_last_grant_stops_at_the_maximum() {
        let mut credit = ReceiveCredit::new(10, 12);
        credit.receive(10).unwrap();
        credit.consume(10);
        assert_eq!(credit.poll_update(), Some(12));
        credit.receive(2).unwrap();
        credit.consume(2);
        assert_eq!(credit.poll_update(), None);
        assert_eq!(ReceiveCredit::new(20, 12).available(), 12);
    }

    #[test]
    fn a_larger_window_is_granted_at_once_and_a_smaller_one_never() {
        let mut credit = ReceiveCredit::new(10, 100);
        credit.receive(10).unwrap();
        credit.enlarge(11);
        assert_eq!(credit.poll_update(), Some(11));
        credit.enlarge(5);
        assert_eq!(credit.poll_update(), None);
        credit.receive(1).unwrap();
        credit.consume(6);
        assert_eq!(credit.poll_update(), Some(17), "half of the window of 11");
        credit.enlarge(1_000);
        assert_eq!(credit.poll_update(), Some(100), "never beyond the maximum");
    }

    proptest! {
        #[test]
        fn a_pair_of_credits_agrees_and_never_passes_its_limit(
            window in 0..40u64,
            max in 0..200u64,
            steps in prop::collection::vec((0..6u8, 0..50u64), 0..200),
        ) {
            // What was sent and lost on the way.
            let mut lost = 0_u64;
            let mut ours = ReceiveCredit::new(window, max);
            let mut theirs = SendCredit::new(ours.available());
            for (step, n) in steps {
                match step {
                    0 => if theirs.take(n).is_ok() {
                        prop_assert!(ours.receive(n).is_ok());
                    },
                    1 => ours.consume(n),
                    // As much is lost as is forgiven, or less.
                    2 => if theirs.take(n).is_ok() {
                        lost = lost.saturating_add(n);
                        ours.forgive(n);
                    },
                    3 => ours.forgive(n),
                    4 => {
                        let larger = n > ours.window;
                        ours.enlarge(n);
                        if let Some(limit) = ours.poll_update() {
                            prop_assert!(theirs.raise(limit).is_ok());
                        }
                        let granted = ours.available().saturating_add(ours.outstanding());
                        prop_assert!(!larger || granted >= n || theirs.limit() == max);
                    }
                    _ => if let Some(limit) = ours.poll_update() {
                        prop_assert!(limit <= max);
                        prop_assert!(theirs.raise(limit).is_ok());
                    },
                }
                prop_assert_eq!(theirs.available().saturating_add(lost), ours.available());
                prop_assert!(theirs.limit() <= max);
            }
        }
    }
}
