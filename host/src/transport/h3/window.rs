//! How far ahead of the handlers QUIC lets a peer send: as far as the path needs, and as far as its sessions may where a
//! handler falls behind.
//!
//! What is sent ahead beyond that fills no path. It waits in memory until it is read, is out of the processor's caches by
//! then, and costs `quinn` a copy where it is much.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::table::Share;

/// What a connection begins with: what is on its way at 1 Gbit/s and 8 ms.
const FIRST: u64 = 1 << 20;
/// How long a stream may wait for room before its handler counts as behind.
pub(super) const BEHIND: Duration = Duration::from_millis(100);

/// The window of one connection.
#[derive(Debug)]
pub(super) struct Window {
    state: Mutex<State>,
    /// Half of it, or `u64::MAX` where it is all that the sessions may have.
    half: AtomicU64,
}

#[derive(Debug)]
struct State {
    granted: u64,
    /// What the sessions may have.
    most: u64,
    /// Whether a session has begun. Nothing is taken back after that: quinn takes back as bytes are read, and gives at once, so
    /// that a peer whose sessions come and go, and who sends nothing, would be granted ever more.
    begun: bool,
}

impl Window {
    /// What a connection begins with.
    pub(super) fn first(one: Share) -> Self {
        let most = bytes(one);
        let state = State {
            granted: most.min(FIRST),
            most,
            begun: false,
        };
        Self {
            half: AtomicU64::new(state.half()),
            state: Mutex::new(state),
        }
    }

    /// What QUIC is to grant.
    pub(super) fn granted(&self) -> quinn::VarInt {
        varint(self.state().granted)
    }

    /// Grants what the connection's sessions may have: all of it where they are several, so that one whose handler falls
    /// behind does not hold up the others.
    pub(super) fn share(&self, share: Share, grant: impl FnOnce(quinn::VarInt)) {
        let mut state = self.state();
        state.most = bytes(share);
        let enough = if share.sessions > 1 {
            state.most
        } else {
            state.most.min(FIRST)
        };
        let window = if state.begun {
            enough.max(state.granted)
        } else {
            state.granted.clamp(enough, state.most)
        };
        state.begun = true;
        self.set(state, window, grant);
    }

    /// Grants all that the sessions may have.
    pub(super) fn open(&self, grant: impl FnOnce(quinn::VarInt)) {
        let state = self.state();
        let window = state.granted.max(state.most);
        self.set(state, window, grant);
    }

    fn double(&self, grant: impl FnOnce(quinn::VarInt)) {
        let state = self.state();
        let window = state.granted.saturating_mul(2).min(state.most);
        let window = window.max(state.granted);
        self.set(state, window, grant);
    }

    /// Whether it is all that the sessions may have.
    pub(super) fn is_open(&self) -> bool {
        self.half() == u64::MAX
    }

    fn half(&self) -> u64 {
        self.half.load(Ordering::Relaxed)
    }

    /// QUIC is told under the lock, so that the last that it is told is what stands here.
    fn set(
        &self,
        mut state: MutexGuard<'_, State>,
        window: u64,
        grant: impl FnOnce(quinn::VarInt),
    ) {
        if window != state.granted {
            state.granted = window;
            grant(varint(window));
        }
        self.half.store(state.half(), Ordering::Relaxed);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn half(&self) -> u64 {
        if self.granted < self.most {
            self.granted / 2
        } else {
            u64::MAX
        }
    }
}

/// What QUIC is to grant for sessions of that share. Capsules, headers and what is HTTP must always find room: streams may
/// wait for the credit that a capsule brings, and the peer for those. Sessions never use more than was granted them; QUIC's
/// own grant may lag behind by an eighth, which is when quinn renews it.
fn bytes(share: Share) -> u64 {
    let bytes = share.bytes.saturating_add(64 << 10);
    bytes.saturating_add(bytes.div_ceil(7))
}

fn varint(window: u64) -> quinn::VarInt {
    quinn::VarInt::from_u64(window).unwrap_or(quinn::VarInt::MAX)
}

/// How fast a session takes what comes.
#[derive(Debug, Default)]
pub(super) struct Pace {
    taken: u64,
    since: Option<Instant>,
}

impl Pace {
    /// So many bytes were taken. A peer that nothing but the window holds back sends one of it each round trip: where half
    /// took less than a round trip the window may be what is in its way, and is doubled.
    pub(super) fn took(
        &mut self,
        bytes: u64,
        window: &Window,
        round_trip: impl FnOnce() -> Duration,
        grant: impl FnOnce(quinn::VarInt),
    ) {
        self.taken = self.taken.saturating_add(bytes);
        if self.taken < window.half() {
            return;
        }
        self.taken = 0;
        let now = Instant::now();
        let since = self.since.replace(now);
        if since.is_some_and(|since| now - since < round_trip()) {
            window.double(grant);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::SessionLimits;

    fn one(credit: u32) -> Share {
        Share::of(&SessionLimits {
            session_receive_credit: credit,
            ..SessionLimits::default()
        })
    }

    /// What QUIC is told by a step, if anything.
    fn told(step: impl FnOnce(&mut dyn FnMut(quinn::VarInt))) -> Option<u64> {
        let mut told = None;
        step(&mut |window| told = Some(window.into_inner()));
        told
    }

    #[test]
    fn sessions_that_use_up_their_credit_leave_the_connection_room_for_capsules() {
        for credit in [1, 1 << 20, 16 << 20] {
            for sessions in [1_u32, 2, 64] {
                let share = (0..sessions).fold(Share::default(), |all, _| all.with(one(credit)));
                let window = Window::first(one(credit));
                window.share(share, |_| {});
                window.open(|_| {});
                let granted = window.granted().into_inner();
                let used = u64::from(credit) * u64::from(sessions);
                assert!(
                    granted - granted / 8 >= used + (64 << 10),
                    "{credit} {sessions}"
                );
            }
        }
    }

    #[test]
    fn one_session_begins_with_little_and_several_with_all_they_may_have() {
        let one = one(16 << 20);
        let window = Window::first(one);
        assert_eq!(window.granted().into_inner(), FIRST);
        assert_eq!(told(|grant| window.share(one, grant)), None);
        assert!(!window.is_open());
        let both = one.with(one);
        assert_eq!(told(|grant| window.share(both, grant)), Some(bytes(both)));
        assert!(window.is_open());
    }

    #[test]
    fn a_first_session_with_less_credit_has_less() {
        let less = one(10_000);
        let window = Window::first(one(16 << 20));
        assert_eq!(told(|grant| window.share(less, grant)), Some(bytes(less)));
        assert!(window.is_open());
    }

    #[test]
    fn sessions_that_come_and_go_are_not_granted_the_same_again() {
        let one = one(16 << 20);
        let window = Window::first(one);
        window.share(one, |_| {});
        assert!(told(|grant| window.share(one.with(one), grant)).is_some());
        for _ in 0..10 {
            assert_eq!(told(|grant| window.share(one, grant)), None);
            assert_eq!(told(|grant| window.share(one.with(one), grant)), None);
        }
    }

    #[test]
    fn the_window_doubles_while_half_of_it_is_taken_within_a_round_trip() {
        let one = one(16 << 20);
        let window = Window::first(one);
        let mut pace = Pace::default();
        let mut took = |round_trip: Duration| {
            told(|grant| pace.took(FIRST / 2, &window, || round_trip, grant))
        };
        let far = Duration::from_secs(3600);
        assert_eq!(took(far), None, "how long that took is not known");
        assert_eq!(took(Duration::ZERO), None, "it is what the handler takes");
        assert_eq!(took(far), Some(2 * FIRST));
        assert_eq!(took(far), None, "less than half");
        assert_eq!(took(far), Some(4 * FIRST));
        let last = (0..100).filter_map(|_| took(far)).last();
        assert_eq!(last, Some(bytes(one)));
    }

    #[test]
    fn what_was_granted_before_the_first_session_is_not_granted_again() {
        let one = one(16 << 20);
        let window = Window::first(one);
        window.open(|_| {});
        assert_eq!(told(|grant| window.share(one, grant)), None);
        assert_eq!(told(|grant| window.open(grant)), None);
    }

    #[test]
    fn a_window_that_is_opened_is_all_that_the_session_may_have() {
        let one = one(16 << 20);
        let window = Window::first(one);
        assert_eq!(told(|grant| window.open(grant)), Some(bytes(one)));
        assert!(window.is_open());
        assert_eq!(told(|grant| window.open(grant)), None);
    }
}
