//! A session of the capsule flavour: streams, credit and datagrams in capsules on one byte stream (WT-H2).
//!
//! HTTP/2 gives such a byte stream, and so does a pipe in memory. The life of the session, and what counts for all of its
//! streams, is [`session`]'s; here are the streams themselves: their states as in QUIC, the credit of each, what waits to be
//! sent and what waits to be given out.
//!
//! | file | responsibility |
//! |---|---|
//! | `stream` | One stream: its two directions, and which capsules are due for it. |
//! | `receive` | What the peer's capsules do to the streams. |
//! | `commands` | What the application may ask for. |
//! | `lists` | Which streams wait for what. |
//! | `transmit` | Which capsules go next: news, then datagrams, then the streams in turn. |
//!
//! A peer that breaks a rule ends its session: it is closed with
//! [`CLOSE_PROTOCOL_VIOLATION`](crate::code::CLOSE_PROTOCOL_VIOLATION) and a reason that says what was wrong.

use std::collections::{BTreeMap, HashMap, VecDeque};

use bytes::Bytes;

use crate::{
    buffer::SendLimits,
    capsule::FinOrder,
    contract::{Event, Half, Info},
    credit::{ReceiveCredit, SendCredit},
    id::{ByDir, Dir, Side, StreamId},
    session::{self, By, Flavour, Session},
    varint::VarInt,
};
use lists::Turn;
use stream::{End, Receiving, Sending, Stream};

mod commands;
mod lists;
mod receive;
mod stream;
mod transmit;

pub use transmit::{Chunks, Transmit};

/// Less room than this is not worth giving data out for, unless it is all there is.
const READ_ROOM_MIN: usize = 4 << 10;
/// The most that one event gives out.
const READ_MAX: usize = 64 << 10;

/// What one end grants at a session's beginning (WT-H2, "Flow Control SETTINGS"). "Local" and "remote" are as the end
/// that grants sees it.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// For the whole session.
    pub session: session::Limits,
    /// Bytes on each unidirectional stream that the other end opens.
    pub uni: u64,
    /// Bytes on each bidirectional stream that the granting end opens.
    pub bidi_local: u64,
    /// Bytes on each bidirectional stream that the other end opens.
    pub bidi_remote: u64,
}

/// How much may wait on our side.
#[derive(Copy, Clone, Debug)]
pub struct Limits {
    /// Bytes taken from the application that the transport has not taken yet.
    pub send: SendLimits,
    /// Whether bytes of a stream are given out only while its own send buffer, and the session's, have room.
    pub reads_wait_for_room: bool,
    /// Streams of each kind that this end may hold open.
    pub streams_per_kind: u32,
    /// Datagrams that wait for the application; the oldest is dropped beyond.
    pub datagrams_in: usize,
    /// Datagrams that wait for the transport; the oldest is dropped beyond.
    pub datagrams_out: usize,
    /// The longest datagram, in bytes, in either direction; a longer one of the peer's is skipped.
    pub datagram_bytes: usize,
}

/// What a session must know at its beginning.
#[derive(Copy, Clone, Debug)]
pub struct Config {
    /// Which end this is.
    pub side: Side,
    /// How streams end on the wire.
    pub order: FinOrder,
    /// Whether the peer takes the ids of its streams for ours and the other way round. Such a peer may grant credit for
    /// streams on which it receives nothing, too. Both are against the draft, and known of one client.
    pub swapped_ids: bool,
    /// What we grant, and keep granting as it is used up.
    pub local: Grants,
    /// What the peer grants.
    pub peer: Grants,
    /// How much may wait on our side.
    pub limits: Limits,
}

/// A session of the capsule flavour, accepted.
///
/// [`receive`](Self::receive) takes what comes, [`poll_event`](Self::poll_event) gives out what happened, commands act at
/// once or say why not, and [`poll_transmit`](Self::poll_transmit) makes what is to be sent, whenever the transport has
/// room. Nothing here grows beyond the limits: what a peer may send is bounded by credit, which it gets back as the
/// application asks for the next event; what a command takes is bounded by [`Limits`].
///
/// What came on a stream is given out only as far as the send buffers, of the stream and of the session, have room for it:
/// who sends back what it gets is never refused. The price is that two such ends which fill their buffers before they read
/// wait for each other for ever; one of them must have room for all that its application sends, or not hold reads back
/// ([`Limits::reads_wait_for_room`]).
#[derive(Debug)]
pub struct Mux {
    config: Config,
    core: Session,
    streams: HashMap<StreamId, Stream>,
    /// The index of the next stream that either end opens: ours, the peer's.
    next_own: ByDir<u64>,
    next_peer: ByDir<u64>,
    /// Open streams that this end opened.
    own_streams: ByDir<u32>,
    peer_streams: ByDir<u32>,
    events: VecDeque<Event>,
    /// Streams that have something to give out.
    readable: VecDeque<StreamId>,
    /// Streams that refused bytes and have room again, unless the session has none.
    writable: VecDeque<StreamId>,
    /// Streams that wait for room in the session's send buffer.
    starved: VecDeque<StreamId>,
    /// Streams for which capsules without data are due, and no others.
    news: VecDeque<StreamId>,
    /// Streams with data to send and credit of their own, and no others, by priority and turn.
    ready: BTreeMap<Turn, StreamId>,
    /// How many turns were given.
    turns: u64,
    datagrams_in: VecDeque<Bytes>,
    datagram_bytes_in: usize,
    datagrams_out: VecDeque<Bytes>,
    datagram_bytes_out: usize,
    /// Whether a datagram goes before the next stream, so that neither waits for the other's end.
    datagram_first: bool,
    /// Bytes in all send buffers.
    buffered: usize,
    /// Given out with the last event; the credit for it goes back with the next call.
    lent: Option<(StreamId, u64)>,
    closed_by_host: bool,
    draining_told: bool,
    over: bool,
    counters: Counters,
}

#[derive(Debug, Default)]
struct Counters {
    bytes_sent: u64,
    bytes_received: u64,
    datagrams_sent: u64,
    datagrams_received: u64,
    dropped_out: u64,
    dropped_in: u64,
}

impl Mux {
    /// A session that was accepted just now.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            core: Session::new(session::Config {
                flavour: Flavour::Capsule(config.order),
                local: config.local.session,
                peer: Some(config.peer.session),
                datagram_bytes_max: config.limits.datagram_bytes,
            }),
            config,
            streams: HashMap::new(),
            next_own: ByDir::default(),
            next_peer: ByDir::default(),
            own_streams: ByDir::default(),
            peer_streams: ByDir::default(),
            events: VecDeque::new(),
            readable: VecDeque::new(),
            writable: VecDeque::new(),
            starved: VecDeque::new(),
            news: VecDeque::new(),
            ready: BTreeMap::new(),
            turns: 0,
            datagrams_in: VecDeque::new(),
            datagram_bytes_in: 0,
            datagrams_out: VecDeque::new(),
            datagram_bytes_out: 0,
            datagram_first: false,
            buffered: 0,
            lent: None,
            closed_by_host: false,
            draining_told: false,
            over: false,
            counters: Counters::default(),
        }
    }

    /// Grants as much from now on, for a session whose own limits were not known when the first were told. Where it is
    /// less than before, what was granted stays.
    pub fn enlarge(&mut self, local: session::Limits) {
        self.core.enlarge(local);
    }

    /// The next event. The credit of the bytes in the last [`Event::Data`] goes back to the peer with this call. After
    /// [`Event::Closed`] there is none, for ever.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.give_back();
        loop {
            if let Some(event) = self.events.pop_front() {
                self.told(&event);
                return Some(event);
            }
            if let Some(id) = self.writable.pop_front() {
                if self.is_writable(id) {
                    return Some(Event::Writable(id));
                }
                continue;
            }
            let datagram_first = std::mem::take(&mut self.datagram_first);
            if !datagram_first && let Some(id) = self.readable.pop_front() {
                self.datagram_first = true;
                self.read(id);
                continue;
            }
            if let Some(datagram) = self.datagrams_in.pop_front() {
                self.datagram_bytes_in = self.datagram_bytes_in.saturating_sub(datagram.len());
                let received = &mut self.counters.datagrams_received;
                *received = received.saturating_add(1);
                return Some(Event::Datagram(datagram));
            }
            if self.readable.is_empty() {
                return None;
            }
        }
    }

    /// Whether the session is over, told or not.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.core.is_closed()
    }

    /// Whether the last event was given out.
    #[must_use]
    pub fn is_told(&self) -> bool {
        self.over
    }

    /// Bytes that are held for the session: what waits in the send buffers, what came and was not used by the application,
    /// and datagrams in both directions.
    #[must_use]
    pub fn held(&self) -> usize {
        if self.core.is_closed() {
            return 0;
        }
        let unused = usize::try_from(self.core.unconsumed()).unwrap_or(usize::MAX);
        let datagrams = self
            .datagram_bytes_in
            .saturating_add(self.datagram_bytes_out);
        self.buffered
            .saturating_add(unused)
            .saturating_add(datagrams)
            .saturating_add(self.core.buffered())
    }

    /// A snapshot. The round-trip time is the transport's to add.
    #[must_use]
    pub fn info(&self) -> Info {
        let counters = &self.counters;
        let open = |dir| self.core.open_credit(dir);
        Info {
            streams_bidi: self.own_streams.bi.saturating_add(self.peer_streams.bi),
            streams_uni: self.own_streams.uni.saturating_add(self.peer_streams.uni),
            open_credit_bidi: open(Dir::Bi),
            open_credit_uni: open(Dir::Uni),
            send_credit: self.core.send_limit().map(|_| self.core.send_credit()),
            receive_credit: self.core.receive_credit(),
            send_buffered: self.buffered as u64,
            bytes_sent: counters.bytes_sent,
            bytes_received: counters.bytes_received,
            datagrams_sent: counters.datagrams_sent,
            datagrams_received: counters.datagrams_received,
            datagrams_dropped_out: counters.dropped_out,
            datagrams_dropped_in: counters.dropped_in,
            rtt: None,
            max_datagram_size: u32::try_from(self.config.limits.datagram_bytes).unwrap_or(u32::MAX),
            datagrams_reliable: true,
        }
    }

    /// What follows when an event is given out.
    fn told(&mut self, event: &Event) {
        match event {
            Event::StreamClosed(id) => {
                if let Some(stream) = self.streams.remove(id) {
                    self.unlist(*id, &stream);
                    let count = self.count(stream.by_peer, id.dir());
                    *count = count.saturating_sub(1);
                    let by = if stream.by_peer { By::Peer } else { By::Local };
                    self.core.end(by, id.dir());
                    self.take_core_events();
                }
            }
            Event::Data { stream, data, .. } => {
                let n = data.len() as u64;
                self.lent = Some((*stream, n));
                self.counters.bytes_received = self.counters.bytes_received.saturating_add(n);
            }
            Event::Closed(_) => self.over = true,
            Event::Opened(_)
            | Event::Reset(..)
            | Event::Stopped(..)
            | Event::Writable(_)
            | Event::Datagram(_)
            | Event::Draining => {}
        }
    }

    fn count(&mut self, by_peer: bool, dir: Dir) -> &mut u32 {
        if by_peer {
            self.peer_streams.get_mut(dir)
        } else {
            self.own_streams.get_mut(dir)
        }
    }

    /// The application has used what was given out last.
    fn give_back(&mut self) {
        let Some((id, n)) = self.lent.take() else {
            return;
        };
        self.consumed(id, n);
    }

    fn consumed(&mut self, id: StreamId, n: u64) {
        self.core.consumed(n);
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.receive_credit.consume(n);
            self.list_news(id);
        }
    }

    /// After all that may end the session, so that nothing of it is held longer, and no event of the core's waits.
    fn take_core_events(&mut self) {
        while let Some(event) = self.core.poll_event() {
            match event {
                session::Event::Draining => self.tell_draining(),
                // Streams with data stay listed, and the next `open` finds its credit.
                session::Event::DataCredit | session::Event::StreamCredit(_) => {}
                session::Event::Datagram(_) => {} // of the native flavour
                session::Event::Closed(closed) => self.end(closed),
            }
        }
    }

    fn tell_draining(&mut self) {
        if !std::mem::replace(&mut self.draining_told, true) {
            self.events.push_back(Event::Draining);
        }
    }

    /// The session is over: no stream outlives it, and what was not told of streams is not told any more.
    fn end(&mut self, closed: session::Closed) {
        self.events.clear();
        self.streams.clear();
        self.readable.clear();
        self.writable.clear();
        self.starved.clear();
        self.news.clear();
        self.ready.clear();
        self.datagrams_in.clear();
        self.datagrams_out.clear();
        self.own_streams = ByDir::default();
        self.peer_streams = ByDir::default();
        (self.datagram_bytes_in, self.datagram_bytes_out) = (0, 0);
        self.buffered = 0;
        self.lent = None;
        let closed = closed.told(self.closed_by_host);
        self.events.push_back(Event::Closed(closed));
    }

    /// Puts a stream in its place.
    fn insert(&mut self, id: StreamId, by_peer: bool) {
        let (local, peer) = (&self.config.local, &self.config.peer);
        let (receive, send) = match (id.dir(), by_peer) {
            (Dir::Bi, true) => (Some(local.bidi_remote), Some(peer.bidi_local)),
            (Dir::Bi, false) => (Some(local.bidi_local), Some(peer.bidi_remote)),
            (Dir::Uni, true) => (Some(local.uni), None),
            (Dir::Uni, false) => (None, Some(peer.uni)),
        };
        let sending = |limit| Half::Open(Sending::new(SendCredit::new(limit)));
        let stream = Stream {
            by_peer,
            recv: receive.map_or(Half::Absent, |_| Half::Open(Receiving::default())),
            receive_credit: ReceiveCredit::new(receive.unwrap_or(0), VarInt::MAX.into_inner()),
            send: send.map_or(Half::Absent, sending),
            ..Stream::default()
        };
        self.streams.insert(id, stream);
        let count = self.count(by_peer, id.dir());
        *count = count.saturating_add(1);
    }

    /// Gives out once what a stream has, as much as the send buffers have room for.
    fn read(&mut self, id: StreamId) {
        let limits = self.config.limits.send;
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        stream.listed_readable = false;
        let waits = self.config.limits.reads_wait_for_room;
        let stream_room = match &stream.send {
            Half::Open(sending) if waits && !sending.buffer.has_fin() => {
                limits.stream.saturating_sub(sending.buffer.len())
            }
            Half::Open(_) | Half::Absent | Half::Finished | Half::Reset => usize::MAX,
        };
        let session_room = if waits {
            limits.session.saturating_sub(self.buffered)
        } else {
            usize::MAX
        };
        let Half::Open(receiving) = &mut stream.recv else {
            return;
        };
        if session_room < READ_ROOM_MIN.min(limits.session) {
            return self.list_starved(id);
        }
        if stream_room < READ_ROOM_MIN.min(limits.stream) {
            return; // listed again when some of the send buffer has left
        }
        let room = stream_room.min(session_room).clamp(1, READ_MAX);
        let data = receiving.buffer.take(room);
        let end = receiving.end.filter(|_| receiving.buffer.is_empty());
        match end {
            Some(End::Reset(code)) if data.is_empty() => {
                stream.recv = Half::Reset;
                self.events.push_back(Event::Reset(id, Some(code)));
                return self.release(id);
            }
            Some(End::Fin) => stream.recv = Half::Finished,
            Some(End::Reset(_)) => self.list_readable(id),
            None if data.is_empty() => return,
            None if !receiving.buffer.is_empty() => self.list_readable(id),
            None => {}
        }
        let fin = end == Some(End::Fin);
        let stream = id;
        self.events.push_back(Event::Data { stream, data, fin });
        self.release(id);
    }

    /// Says that a stream is over, where it is and that was not said. Its place is free when that has been told.
    fn release(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id)
            && stream.is_over()
            && !std::mem::replace(&mut stream.released, true)
        {
            self.events.push_back(Event::StreamClosed(id));
        }
    }
}

#[cfg(test)]
mod tests;
