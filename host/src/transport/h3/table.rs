//! The sessions of one connection, and what arrived for them before they existed.
//!
//! The network may deliver a stream or a datagram before the CONNECT request of its session (WebTransport over HTTP/3,
//! "Buffering Incoming Streams and Datagrams"). A few of each are held for a while; what belongs to a session that is
//! gone, or was refused, is turned away.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;
use wharf_proto::{
    code::HttpCode,
    id::{Dir, SessionId},
};

use super::{
    allowance::{Grant, PeerStreams},
    inbox::{Inbox, Notice, Refused},
    stream::Arrival,
    window::Window,
};
use crate::transport::{Limits, SessionLimits};

/// The session table of one connection.
#[derive(Debug)]
pub(super) struct Table {
    early_streams: usize,
    early_datagrams: usize,
    hold: Duration,
    pub(super) peer_streams: PeerStreams,
    pub(super) window: Window,
    /// Bytes that QUIC's queue of datagrams takes for sure.
    datagram_room: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    sessions: BTreeMap<SessionId, Entry>,
    /// Every stream id of the peer's requests below this one has been seen.
    seen_below: u64,
    streams: VecDeque<EarlyStream>,
    datagrams: VecDeque<(SessionId, Bytes)>,
    /// What all sessions were told, for those that begin later. There are three kinds and each is told once.
    notices: Vec<Notice>,
}

#[derive(Debug)]
enum Entry {
    /// A stream that may become a request.
    Asked,
    /// A request for a session that is being decided.
    Deciding,
    Live(Arc<Inbox>, Share),
}

/// What sessions let their peer send ahead and hold open.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Share {
    pub(super) sessions: u32,
    pub(super) bytes: u64,
    /// Of each kind, with the one that carries the session.
    pub(super) streams: u32,
}

impl Share {
    pub(super) fn of(limits: &SessionLimits) -> Self {
        Self {
            sessions: 1,
            bytes: limits.session_receive_credit.into(),
            streams: limits.streams_per_kind.saturating_add(1),
        }
    }

    pub(super) fn with(self, other: Self) -> Self {
        Self {
            sessions: self.sessions.saturating_add(other.sessions),
            bytes: self.bytes.saturating_add(other.bytes),
            streams: self.streams.saturating_add(other.streams),
        }
    }
}

#[derive(Debug)]
struct EarlyStream {
    session: SessionId,
    stream: Arrival,
    until: Instant,
}

impl Table {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            early_streams: limits.early_streams,
            early_datagrams: limits.early_datagrams,
            hold: limits.setup_timeout,
            peer_streams: PeerStreams::new(&Grant::first(limits)),
            window: Window::first(Share::of(&limits.session)),
            datagram_room: AtomicUsize::new(0),
            state: Mutex::default(),
        }
    }

    /// The peer opened a bidirectional stream, which may turn out to ask for a session.
    pub(super) fn asked(&self, id: SessionId) {
        let mut state = self.state();
        state.seen(u64::from(id));
        state.sessions.insert(id, Entry::Asked);
    }

    /// The peer opened a stream that asks for no session.
    pub(super) fn seen(&self, id: u64) {
        self.state().seen(id);
    }

    /// The stream asks for a session. Says whether one more may live beside those that live or may yet.
    pub(super) fn decide(&self, id: SessionId, most: u32) -> bool {
        let mut state = self.state();
        let may = state.count() < most as usize;
        if may {
            state.sessions.insert(id, Entry::Deciding);
        }
        may
    }

    /// The session begins: what came early is its first delivery. It is told what the others were told while it was
    /// being decided; above all that the connection is lost, which nobody would tell it again.
    pub(super) fn begin(&self, id: SessionId, inbox: &Arc<Inbox>, share: Share) {
        let mut state = self.state();
        state.sessions.insert(id, Entry::Live(inbox.clone(), share));
        for notice in &state.notices {
            inbox.put_notice(notice.clone());
        }
        for early in state.take_streams(id) {
            deliver(inbox, early);
        }
        for datagram in state.take_datagrams(id) {
            inbox.put_datagram(datagram);
        }
    }

    /// The stream asked for no session, or was refused one, or its session is over.
    pub(super) fn end(&self, id: SessionId) {
        let mut state = self.state();
        let entry = state.sessions.remove(&id);
        let mut streams = state.take_streams(id);
        state.take_datagrams(id);
        drop(state);
        if let Some(Entry::Live(inbox, _)) = entry {
            streams.extend(inbox.close());
        }
        for stream in streams {
            stream.refuse(HttpCode::WT_SESSION_GONE);
        }
    }

    /// What the sessions that live, or may yet, have together; one that is being decided has `undecided`.
    pub(super) fn share(&self, undecided: Share) -> Share {
        let state = self.state();
        let shares = state.sessions.values().map(|entry| match entry {
            Entry::Asked => Share::default(),
            Entry::Deciding => undecided,
            Entry::Live(_, share) => *share,
        });
        shares.fold(Share::default(), Share::with)
    }

    /// The session that lives, where there is one only and none is asked for.
    pub(super) fn only_session(&self) -> Option<Arc<Inbox>> {
        let state = self.state();
        let mut entries = state.sessions.values();
        match (entries.next(), entries.next()) {
            (Some(Entry::Live(inbox, _)), None) => Some(inbox.clone()),
            (Some(Entry::Live(..) | Entry::Asked | Entry::Deciding), _) | (None, _) => None,
        }
    }

    /// Whether no session is live and none is being asked for.
    pub(super) fn is_empty(&self) -> bool {
        self.state().sessions.is_empty()
    }

    /// Passes a stream on, holds it, or turns it away.
    pub(super) fn deliver_stream(&self, session: SessionId, stream: Arrival) {
        let mut state = self.state();
        state.seen(u64::from(stream.id));
        let asked = match state.sessions.get(&session) {
            Some(Entry::Live(inbox, _)) => return deliver(inbox, stream),
            Some(Entry::Asked | Entry::Deciding) => true,
            None => u64::from(session) >= state.seen_below,
        };
        if !asked {
            stream.refuse(HttpCode::WT_SESSION_GONE);
        } else if state.streams.len() >= self.early_streams {
            stream.refuse(HttpCode::WT_BUFFERED_STREAM_REJECTED);
        } else {
            let until = Instant::now() + self.hold;
            state.streams.push_back(EarlyStream {
                session,
                stream,
                until,
            });
        }
    }

    /// Passes on what is known of a stream that was reset before its header was read. Which session it was of is lost with
    /// the header, for want of RESET_STREAM_AT; where one session lives, it is taken for its own.
    pub(super) fn deliver_reset(&self, stream: Arrival) {
        self.seen(stream.id.into());
        let dir = stream.id.dir();
        let inbox = self.only_session();
        tracing::trace!(stream = %stream.id, attributed = inbox.is_some(), "a stream was reset before its header was read");
        match inbox {
            Some(inbox) if dir == Dir::Uni => deliver(&inbox, stream),
            // It may as well have been a request, so the handler is not told.
            Some(inbox) => {
                inbox.put_lost_stream(dir);
                stream.refuse(HttpCode::H3_REQUEST_CANCELLED);
            }
            None => stream.refuse(HttpCode::H3_REQUEST_CANCELLED),
        }
    }

    /// Passes a datagram on, holds it, or drops it. Gives the inbox of its session, where that lives.
    pub(super) fn deliver_datagram(
        &self,
        session: SessionId,
        datagram: Bytes,
    ) -> Option<Arc<Inbox>> {
        let mut state = self.state();
        match state.sessions.get(&session) {
            Some(Entry::Live(inbox, _)) => {
                inbox.put_datagram(datagram);
                return Some(inbox.clone());
            }
            Some(Entry::Asked | Entry::Deciding) => {}
            None if u64::from(session) >= state.seen_below => {}
            None => return None,
        }
        if state.datagrams.len() >= self.early_datagrams && state.datagrams.pop_front().is_none() {
            return None; // a limit of zero
        }
        state.datagrams.push_back((session, datagram));
        None
    }

    /// Whether QUIC's queue takes a datagram of that length without dropping another, which the caller then sends. QUIC is
    /// asked now and then only, and then half of what it has left is kept in reserve, because sessions may ask at once.
    pub(super) fn datagrams_have_room(&self, conn: &quinn::Connection, len: usize) -> bool {
        let room = &self.datagram_room;
        let take = |room: usize| room.checked_sub(len);
        if room
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok()
        {
            return true;
        }
        let left = conn.datagram_send_buffer_space().checked_sub(len);
        room.store(left.unwrap_or(0) / 2, Ordering::Relaxed);
        left.is_some()
    }

    /// When the next early stream has been held long enough.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.state().streams.front().map(|early| early.until)
    }

    /// Turns away what has been held long enough.
    pub(super) fn expire(&self, now: Instant) {
        let mut state = self.state();
        while state
            .streams
            .front()
            .is_some_and(|early| early.until <= now)
        {
            if let Some(early) = state.streams.pop_front() {
                early.stream.refuse(HttpCode::WT_BUFFERED_STREAM_REJECTED);
            }
        }
    }

    /// Gives every session a word: those that live, and those that are yet to begin.
    pub(super) fn notify(&self, notice: &Notice) {
        let mut state = self.state();
        if !state.notices.contains(notice) {
            state.notices.push(notice.clone());
        }
        for entry in state.sessions.values() {
            if let Entry::Live(inbox, _) = entry {
                inbox.put_notice(notice.clone());
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn count(&self) -> usize {
        let counts = |entry: &&Entry| matches!(entry, Entry::Deciding | Entry::Live(..));
        self.sessions.values().filter(counts).count()
    }

    fn seen(&mut self, id: u64) {
        if SessionId::try_from(id).is_ok() {
            self.seen_below = self.seen_below.max(id + 4);
        }
    }

    fn take_streams(&mut self, id: SessionId) -> Vec<Arrival> {
        let mut taken = Vec::new();
        for early in std::mem::take(&mut self.streams) {
            if early.session == id {
                taken.push(early.stream);
            } else {
                self.streams.push_back(early);
            }
        }
        taken
    }

    fn take_datagrams(&mut self, id: SessionId) -> Vec<Bytes> {
        let mut taken = Vec::new();
        self.datagrams.retain(|(session, datagram)| {
            if *session == id {
                taken.push(datagram.clone());
            }
            *session != id
        });
        taken
    }
}

fn deliver(inbox: &Inbox, stream: Arrival) {
    match inbox.put_stream(stream) {
        Ok(()) => {}
        Err(Refused::Gone(stream)) => stream.refuse(HttpCode::WT_SESSION_GONE),
        Err(Refused::Full(stream)) => stream.refuse(HttpCode::WT_BUFFERED_STREAM_REJECTED),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::inbox::Delivery, *};
    use crate::ready::Rounds;

    #[test]
    fn a_session_that_begins_on_a_lost_connection_is_told_so() {
        let table = Table::new(&Limits::default());
        let id = SessionId::try_from(0).unwrap();
        let lost = Notice::Lost(0, "connection lost".to_owned());
        assert!(table.decide(id, 1));
        table.notify(&lost);
        let token = Rounds::default().token(0);
        let inbox = Arc::new(Inbox::new(token, 1, 1));
        table.begin(id, &inbox, Share::default());
        let told = inbox.take(false);
        assert!(matches!(told, Some(Delivery::Notice(notice)) if notice == lost));
        assert!(inbox.take(false).is_none());
    }
}
