//! Where a connection leaves what belongs to a session, until the session's task takes it.
//!
//! Both ends hold it; neither waits for the other. Its queues are bounded: a stream too many is handed back, a datagram
//! too many pushes the oldest out and is counted.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;

use wharf_proto::id::Dir;

use super::{session::kind, stream::Arrival};
use crate::ready::Token;

/// A word from the connection to one of its sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// The peer is about to leave the connection.
    PeerDrains,
    /// The host is to stop.
    Drain,
    /// The host ends the session with this code and reason.
    Close(u32, String),
    /// The connection is lost; the code is the application's where the peer gave one.
    Lost(u32, String),
}

/// What came out of an inbox.
#[derive(Debug)]
pub(super) enum Delivery {
    Notice(Notice),
    Stream(Arrival),
    Datagram(Bytes),
    /// The peer opened a stream of the kind, most likely in this session, and reset it before its header was read.
    LostStream(Dir),
}

/// The inbox of one session.
#[derive(Debug)]
pub(super) struct Inbox {
    token: Arc<Token>,
    streams_max: usize,
    datagrams_max: usize,
    state: Mutex<State>,
    // These change with the state, and are read without its lock.
    datagram_bytes: AtomicUsize,
    datagrams_dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    closed: bool,
    notices: VecDeque<Notice>,
    streams: VecDeque<Arrival>,
    datagrams: VecDeque<Bytes>,
    /// Streams that were lost: bidirectional, unidirectional.
    lost: [u32; 2],
}

impl Inbox {
    pub(super) fn new(token: Arc<Token>, streams_max: usize, datagrams_max: usize) -> Self {
        Self {
            token,
            streams_max,
            datagrams_max,
            state: Mutex::default(),
            datagram_bytes: AtomicUsize::new(0),
            datagrams_dropped: AtomicU64::new(0),
        }
    }

    /// Leaves a stream, or hands it back when the session is over or has as many waiting as it may.
    pub(super) fn put_stream(&self, stream: Arrival) -> Result<(), Refused> {
        let mut state = self.state();
        if state.closed {
            return Err(Refused::Gone(stream));
        }
        if state.streams.len() >= self.streams_max {
            return Err(Refused::Full(stream));
        }
        state.streams.push_back(stream);
        self.token.arm();
        Ok(())
    }

    /// Leaves a datagram; the oldest makes room for it.
    pub(super) fn put_datagram(&self, datagram: Bytes) {
        let mut state = self.state();
        if state.closed {
            return;
        }
        if state.datagrams.len() >= self.datagrams_max {
            self.datagrams_dropped.fetch_add(1, Ordering::Relaxed);
            let Some(oldest) = state.datagrams.pop_front() else {
                return; // a limit of zero
            };
            self.datagram_bytes
                .fetch_sub(oldest.len(), Ordering::Relaxed);
        }
        self.datagram_bytes
            .fetch_add(datagram.len(), Ordering::Relaxed);
        state.datagrams.push_back(datagram);
        drop(state);
        self.token.arm();
    }

    /// Leaves a word. There are few kinds and each is left once, so they need no limit.
    pub(super) fn put_notice(&self, notice: Notice) {
        let mut state = self.state();
        if !state.closed && !state.notices.contains(&notice) {
            state.notices.push_back(notice);
            self.token.arm();
        }
    }

    /// Notes that a stream was lost.
    pub(super) fn put_lost_stream(&self, dir: Dir) {
        let mut state = self.state();
        let lost = &mut state.lost[kind(dir)];
        *lost = lost.saturating_add(1);
        self.token.arm();
    }

    /// Takes the next thing: words first, then streams and datagrams by turns.
    pub(super) fn take(&self, datagram_first: bool) -> Option<Delivery> {
        let mut state = self.state();
        if let Some(notice) = state.notices.pop_front() {
            return Some(Delivery::Notice(notice));
        }
        for dir in [Dir::Bi, Dir::Uni] {
            if let Some(left) = state.lost[kind(dir)].checked_sub(1) {
                state.lost[kind(dir)] = left;
                return Some(Delivery::LostStream(dir));
            }
        }
        if (!datagram_first || state.datagrams.is_empty())
            && let Some(stream) = state.streams.pop_front()
        {
            return Some(Delivery::Stream(stream));
        }
        let datagram = state.datagrams.pop_front()?;
        self.datagram_bytes
            .fetch_sub(datagram.len(), Ordering::Relaxed);
        Some(Delivery::Datagram(datagram))
    }

    /// Takes datagrams for as long as nothing else waits and `take` takes them; the one that it does not stays. Gives back
    /// how many it took.
    pub(super) fn take_datagrams(&self, mut take: impl FnMut(&Bytes) -> bool) -> u64 {
        let mut state = self.state();
        if !state.notices.is_empty() || !state.streams.is_empty() || state.lost != [0; 2] {
            return 0;
        }
        let (mut taken, mut bytes) = (0, 0);
        while let Some(datagram) = state.datagrams.front()
            && take(datagram)
        {
            taken += 1;
            bytes += datagram.len();
            state.datagrams.pop_front();
        }
        self.datagram_bytes.fetch_sub(bytes, Ordering::Relaxed);
        taken
    }

    /// Takes nothing more, and gives back the streams that wait.
    pub(super) fn close(&self) -> VecDeque<Arrival> {
        let mut state = self.state();
        state.closed = true;
        state.datagrams.clear();
        self.datagram_bytes.store(0, Ordering::Relaxed);
        std::mem::take(&mut state.streams)
    }

    /// How many bytes of datagrams wait.
    pub(super) fn datagram_bytes(&self) -> usize {
        self.datagram_bytes.load(Ordering::Relaxed)
    }

    /// How many datagrams made room for others.
    pub(super) fn datagrams_dropped(&self) -> u64 {
        self.datagrams_dropped.load(Ordering::Relaxed)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a stream was handed back.
#[derive(Debug)]
pub(super) enum Refused {
    /// The session is over.
    Gone(Arrival),
    /// As many streams wait as may.
    Full(Arrival),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ready::Rounds;

    fn inbox(datagrams_max: usize) -> Inbox {
        Inbox::new(Rounds::default().token(0), 1, datagrams_max)
    }

    #[test]
    fn a_full_inbox_drops_the_oldest_datagram_and_counts_it() {
        let inbox = inbox(2);
        for n in 0..5u8 {
            inbox.put_datagram(Bytes::copy_from_slice(&[n]));
        }
        assert_eq!(inbox.datagram_bytes(), 2);
        let mut left = Vec::new();
        while let Some(Delivery::Datagram(datagram)) = inbox.take(true) {
            left.push(datagram[0]);
        }
        assert_eq!((left, inbox.datagrams_dropped()), (vec![3, 4], 3));
        assert_eq!(inbox.datagram_bytes(), 0);
    }

    #[test]
    fn an_inbox_with_room_for_no_datagram_drops_each_one() {
        let inbox = inbox(0);
        inbox.put_datagram(Bytes::from_static(b"a"));
        assert!(inbox.take(true).is_none());
        assert_eq!(inbox.datagrams_dropped(), 1);
    }

    #[test]
    fn datagrams_are_taken_together_until_one_is_not_wanted_or_something_else_waits() {
        let inbox = inbox(4);
        for n in 0..4u8 {
            inbox.put_datagram(Bytes::copy_from_slice(&[n]));
        }
        let mut taken = Vec::new();
        let two = |datagram: &Bytes| {
            taken.push(datagram[0]);
            taken.len() < 3
        };
        assert_eq!(inbox.take_datagrams(two), 2);
        assert_eq!((taken, inbox.datagram_bytes()), (vec![0, 1, 2], 2));
        inbox.put_notice(Notice::Drain);
        assert_eq!(inbox.take_datagrams(|_| true), 0);
        assert!(matches!(inbox.take(true), Some(Delivery::Notice(_))));
        inbox.put_lost_stream(Dir::Bi);
        assert_eq!(inbox.take_datagrams(|_| true), 0);
        assert!(matches!(inbox.take(true), Some(Delivery::LostStream(_))));
        assert_eq!(inbox.take_datagrams(|_| true), 2);
        assert_eq!(inbox.datagram_bytes(), 0);
    }

    #[test]
    fn a_notice_comes_before_datagrams_and_only_once() {
        let inbox = inbox(2);
        inbox.put_datagram(Bytes::from_static(b"a"));
        inbox.put_notice(Notice::Drain);
        inbox.put_notice(Notice::Drain);
        assert!(matches!(
            inbox.take(true),
            Some(Delivery::Notice(Notice::Drain))
        ));
        assert!(matches!(inbox.take(true), Some(Delivery::Datagram(_))));
        assert!(inbox.take(true).is_none());
    }
}
