//! The life of a session: open, draining, closed; session-level limits; events.
//!
//! In the native flavour, over HTTP/3, every stream is a stream of QUIC's, and the capsules on the CONNECT stream carry
//! only limits, drain and close. The session counts streams and bytes and never sees them; who holds them ends them with
//! [`HttpCode::WT_SESSION_GONE`] when the session is over. In the capsule flavour that holder is [`mux`](crate::mux).
//!
//! # States
//!
//! How one state leads to another; the first four are a session's life. Each cell is the next state and, after the colon,
//! what is transmitted. A dash means that nothing changes, and `same` is what stands to the left. Rows in lower case are
//! methods of [`Session`], the others what its peer sends.
//!
//! | event \ state       | Open                 | LocalDraining      | PeerDraining        | BothDraining       | PeerClosed    | Closed |
//! |---------------------|----------------------|--------------------|---------------------|--------------------|---------------|--------|
//! | `ask_to_drain`      | Open: DRAIN          | -                  | PeerDraining: DRAIN | -                  | -             | -      |
//! | `drain`             | LocalDraining: DRAIN | -                  | BothDraining: DRAIN | -                  | -             | -      |
//! | `end` of the last   | -                    | Closed: CLOSE, FIN | -                   | Closed: CLOSE, FIN | -             | -      |
//! | `close`             | Closed: CLOSE, FIN   | same               | same                | same               | -             | -      |
//! | `fail`              | Closed: abort        | same               | same                | same               | -             | -      |
//! | DRAIN               | PeerDraining         | BothDraining       | -                   | -                  | Closed: abort | -      |
//! | CLOSE               | PeerClosed: FIN      | same               | same                | same               | Closed: abort | -      |
//! | another capsule     | -                    | -                  | -                   | -                  | Closed: abort | -      |
//! | a malformed capsule | Closed: abort        | same               | same                | same               | Closed: abort | -      |
//! | `receive_fin`       | Closed: FIN          | same               | same                | same               | Closed        | -      |
//! | `receive_abort`     | Closed: abort        | same               | same                | same               | Closed        | -      |
//! | `connection_lost`   | Closed               | same               | same                | same               | Closed        | -      |
//!
//! DRAIN is sent once: `drain` after `ask_to_drain` sends no other. `drain` without streams is followed by `end` of the
//! last at once, and its DRAIN is not sent. What is counted on
//! streams (`open`, `accept`, `received`, ...) changes no state, unless the peer passes a limit: that is `fail`.
//!
//! In the capsule flavour, `fail` and a malformed capsule transmit CLOSE, FIN instead of an abort: HTTP/2 has no codes
//! that could tell what was wrong.

use std::{collections::VecDeque, mem};

use bytes::{Bytes, BytesMut};

use crate::{
    capsule::{Capsule, Decoder, FinOrder, cut_reason},
    code::{CLOSE_PROTOCOL_VIOLATION, HttpCode, Violation},
    id::Dir,
};
pub use outcome::{By, Closed, Event, OpenError, Transmit};

use flow::Flow;
use state::{Drain, Ending, State};

mod flow;
mod outcome;
mod state;

/// Events that wait for [`Session::poll_event`] before the oldest datagram gives way to a new one.
pub const EVENTS_MAX: usize = 256;

/// What one end grants at a session's beginning: the WT_INITIAL_MAX_* settings (WT-H3, "Flow Control SETTINGS").
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub struct Limits {
    /// Bytes on all streams.
    pub data: u64,
    /// Bidirectional streams.
    pub streams_bidi: u64,
    /// Unidirectional streams.
    pub streams_uni: u64,
}

impl Limits {
    /// Whether all are zero, which says that this end wants no flow control.
    #[must_use]
    pub const fn is_zero(&self) -> bool {
        self.data == 0 && self.streams_bidi == 0 && self.streams_uni == 0
    }
}

/// How a session's streams travel.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// As streams of QUIC.
    Native,
    /// In capsules, of which these end a stream.
    Capsule(FinOrder),
}

/// What a session must know at its beginning.
#[derive(Copy, Clone, Debug)]
pub struct Config {
    /// How its streams travel.
    pub flavour: Flavour,
    /// What we grant, and keep granting as it is used up. Without effect unless `peer` is given.
    pub local: Limits,
    /// What the peer grants, if flow control is enabled: if neither side's limits are all zero (WT-H3, "Negotiating the
    /// Use of Flow Control").
    pub peer: Option<Limits>,
    /// The longest datagram, in bytes, that is taken from a capsule; longer ones are skipped.
    pub datagram_bytes_max: usize,
}

/// A session over HTTP/3, from the response that accepts it to its end.
///
/// There are four kinds of methods:
///
/// - `receive_*` and [`connection_lost`](Self::connection_lost) take what comes on the CONNECT stream;
/// - commands: [`open`](Self::open), [`accept`](Self::accept) and [`end`](Self::end) for streams;
///   [`take_send_credit`](Self::take_send_credit), [`note_blocked`](Self::note_blocked), [`received`](Self::received)
///   and [`consumed`](Self::consumed) for the bytes on them; [`forgive`](Self::forgive) and
///   [`forgive_stream`](Self::forgive_stream) for what a reset has lost; [`enlarge`](Self::enlarge) for what we grant;
///   [`drain`](Self::drain), [`ask_to_drain`](Self::ask_to_drain), [`close`](Self::close) and [`fail`](Self::fail) for
///   the session;
/// - `poll_*` give out what is to be done: [`poll_event`](Self::poll_event) for the application and
///   [`poll_transmit`](Self::poll_transmit) for the CONNECT stream;
/// - the rest are questions.
///
/// After calls of the first two kinds, poll events until there are none; then, whenever the CONNECT stream takes bytes,
/// poll what to transmit until there is nothing. What is transmitted is made when it is polled, from the latest state,
/// so that a peer that does not read makes nothing grow. Once the session is over, commands have no effect.
#[derive(Debug)]
pub struct Session {
    flavour: Flavour,
    state: State,
    ending: Ending,
    drain: Drain,
    /// `None` when flow control is not enabled.
    flow: Option<Flow>,
    /// Streams of both ends that are not over.
    streams: usize,
    decoder: Decoder,
    events: VecDeque<Event>,
}

impl Session {
    /// A session that was accepted just now.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let datagram_bytes_max = config.datagram_bytes_max;
        Self {
            flavour: config.flavour,
            state: State::Open,
            ending: Ending::Nothing,
            drain: Drain::Unasked,
            flow: config.peer.map(|peer| Flow::new(config.local, peer)),
            streams: 0,
            decoder: match config.flavour {
                Flavour::Native => Decoder::new(datagram_bytes_max),
                Flavour::Capsule(order) => Decoder::with_streams(datagram_bytes_max, order),
            },
            events: VecDeque::new(),
        }
    }

    /// Takes bytes of the CONNECT stream, in pieces of any size. The work, and the events, are bounded by their number.
    pub fn receive(&mut self, bytes: Bytes) {
        self.push(bytes);
        while self.poll_capsule().is_some() {
            // WT-H3, "Data Limits": prohibited, since QUIC has limits for each stream.
            self.fail(Violation {
                code: HttpCode::WT_FLOW_CONTROL_ERROR,
                reason: "capsule for the limit of a stream",
            });
        }
    }

    /// Takes bytes as [`receive`](Self::receive) does, for who polls the capsules.
    pub(crate) fn push(&mut self, bytes: Bytes) {
        if self.state == State::PeerClosed && !bytes.is_empty() {
            self.refuse_bytes_after_close();
        }
        if !self.is_closed() {
            self.decoder.push(bytes);
        }
    }

    /// Takes the capsules that concern the session as a whole, up to the next one that does not.
    pub(crate) fn poll_capsule(&mut self) -> Option<Capsule> {
        while !self.is_closed() {
            let taken = match self.decoder.poll() {
                Ok(Some(capsule)) => match self.take(capsule) {
                    Ok(None) => Ok(()),
                    Ok(Some(other)) => return Some(other),
                    Err(violation) => Err(violation),
                },
                Ok(None) => return None,
                Err(violation) => Err(violation),
            };
            if let Err(violation) = taken {
                self.fail(violation);
            }
        }
        if self.state == State::PeerClosed && self.decoder.buffered() > 0 {
            self.refuse_bytes_after_close();
        }
        None
    }

    /// Takes the end of the CONNECT stream. Without a capsule that closes, it means code 0 and no reason.
    pub fn receive_fin(&mut self) {
        if self.is_closed() {
            self.state = State::Closed;
            return;
        }
        match self.decoder.finish() {
            Ok(()) => self.conclude(
                State::Closed,
                Ending::Fin,
                Closed {
                    code: 0,
                    reason: String::new(),
                    by: By::Peer,
                    clean: true,
                },
            ),
            Err(violation) => self.fail(violation),
        }
    }

    /// Takes the peer's reset of the CONNECT stream, or its refusal to read it.
    pub fn receive_abort(&mut self, reason: &str) {
        self.lose(Ending::Abort(HttpCode::H3_REQUEST_CANCELLED), 0, reason);
    }

    /// Takes the end of the connection. Nothing more is transmitted.
    pub fn connection_lost(&mut self, code: u32, reason: &str) {
        self.lose(Ending::Nothing, code, reason);
        self.ending = Ending::Nothing;
    }

    /// Counts a stream that we are about to open.
    ///
    /// # Errors
    ///
    /// If none can be opened. At [`OpenError::Limit`] the peer is told so, once per limit.
    pub fn open(&mut self, dir: Dir) -> Result<(), OpenError> {
        if self.is_closed() {
            return Err(OpenError::Closed);
        }
        if self.is_draining_locally() {
            return Err(OpenError::Draining);
        }
        if let Some(flow) = &mut self.flow {
            flow.open(dir).map_err(|_| OpenError::Limit)?;
        }
        self.streams = self.streams.saturating_add(1);
        Ok(())
    }

    /// Counts a stream that the peer opened.
    ///
    /// # Errors
    ///
    /// The code to refuse the stream with. If the stream is beyond the limit, the session fails.
    pub fn accept(&mut self, dir: Dir) -> Result<(), Violation> {
        self.count(|flow| flow.accept(dir))?;
        self.streams = self.streams.saturating_add(1);
        Ok(())
    }

    /// Counts that a stream which `by` opened is over in all its directions. For one of its own, the peer may open
    /// another. When we drain, the end of the last stream closes the session with code 0.
    pub fn end(&mut self, by: By, dir: Dir) {
        debug_assert!(self.streams > 0, "a stream ended that was not opened");
        self.streams = self.streams.saturating_sub(1);
        if let (By::Peer, Some(flow)) = (by, &mut self.flow) {
            flow.end(dir);
        }
        self.close_if_drained();
    }

    /// Counts bytes that we send on any stream: at most [`send_credit`](Self::send_credit).
    pub fn take_send_credit(&mut self, n: u64) {
        if self.is_closed() {
            return;
        }
        if let Some(flow) = &mut self.flow {
            let taken = flow.send(n);
            debug_assert!(taken.is_ok(), "more was sent than the peer allows");
        }
    }

    /// Notes that bytes wait although [`send_credit`](Self::send_credit) is used up. The peer is told, once per limit.
    pub fn note_blocked(&mut self) {
        if let Some(flow) = &mut self.flow {
            flow.note_blocked();
        }
    }

    /// Counts bytes that came on any stream, without the stream's header.
    ///
    /// # Errors
    ///
    /// The code to stop the stream with. If the bytes are beyond the limit, the session fails.
    pub fn received(&mut self, n: u64) -> Result<(), Violation> {
        self.count(|flow| flow.receive(n))
    }

    /// Grants as much from now on. Where that is less than before, what was granted stays.
    pub fn enlarge(&mut self, local: Limits) {
        if let Some(flow) = &mut self.flow {
            flow.enlarge(local);
        }
    }

    /// Counts bytes that came and were used: the peer may send as many again.
    pub fn consumed(&mut self, n: u64) {
        if let Some(flow) = &mut self.flow {
            flow.consume(n);
        }
    }

    /// Grants bytes that the peer has used up and that will never come: at most so many were on their way when it reset
    /// the stream that carried them. Their true number is lost, and without them the peer would starve.
    pub fn forgive(&mut self, n: u64) {
        if let Some(flow) = &mut self.flow {
            flow.forgive(n);
        }
    }

    /// Grants a stream that the peer opened and reset before its header was read.
    pub fn forgive_stream(&mut self, dir: Dir) {
        if let Some(flow) = &mut self.flow {
            flow.forgive_stream(dir);
        }
    }

    /// Asks the peer to end the session soon, opens no more streams, and closes with code 0 when none is left.
    pub fn drain(&mut self) {
        let Some(state) = self.state.drain() else {
            return;
        };
        self.state = state;
        self.ask_to_drain();
        self.close_if_drained();
    }

    /// Asks the peer to end the session soon, and goes on as before until it does.
    pub fn ask_to_drain(&mut self) {
        if self.drain == Drain::Unasked {
            self.drain = Drain::Due;
        }
    }

    /// Ends the session with a code and a reason, which is cut by [`cut_reason`].
    pub fn close(&mut self, code: u32, reason: &str) {
        let reason = cut_reason(reason).to_owned();
        self.conclude(
            State::Closed,
            Ending::Close {
                code,
                reason: reason.clone(),
            },
            Closed {
                code,
                reason,
                by: By::Local,
                clean: true,
            },
        );
    }

    /// Ends the session because the peer broke a rule. It is closed with [`CLOSE_PROTOCOL_VIOLATION`] here; on the wire it
    /// is aborted with the violation's code, or closed like here in the capsule flavour.
    pub fn fail(&mut self, violation: Violation) {
        let ending = match self.flavour {
            Flavour::Native => Ending::Abort(violation.code),
            Flavour::Capsule(_) => Ending::Close {
                code: CLOSE_PROTOCOL_VIOLATION,
                reason: violation.reason.to_owned(),
            },
        };
        self.conclude(
            State::Closed,
            ending,
            Closed {
                code: CLOSE_PROTOCOL_VIOLATION,
                reason: violation.reason.to_owned(),
                by: By::Local,
                clean: false,
            },
        );
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Whether there is something to transmit.
    #[must_use]
    pub fn has_transmit(&self) -> bool {
        match self.ending {
            Ending::Nothing if self.is_closed() => false,
            Ending::Nothing => {
                self.drain == Drain::Due || self.flow.as_ref().is_some_and(Flow::has_news)
            }
            Ending::Close { .. } | Ending::Fin | Ending::Abort(_) => true,
        }
    }

    /// Whether what comes next is no capsule.
    pub(crate) fn ends_now(&self) -> bool {
        matches!(self.ending, Ending::Fin | Ending::Abort(_))
    }

    /// The next thing to do to the CONNECT stream.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        let mut out = BytesMut::new();
        match mem::take(&mut self.ending) {
            Ending::Nothing if self.is_closed() => return None,
            Ending::Nothing => {
                if self.drain == Drain::Due {
                    self.drain = Drain::Sent;
                    Capsule::Drain.encode(&mut out);
                }
                if let Some(flow) = &mut self.flow {
                    flow.encode_news(&mut out);
                }
            }
            Ending::Close { code, reason } => {
                Capsule::Close { code, reason }.encode(&mut out);
                self.ending = Ending::Fin;
            }
            Ending::Fin => return Some(Transmit::Fin),
            Ending::Abort(code) => return Some(Transmit::Abort(code)),
        }
        (!out.is_empty()).then(|| Transmit::Capsules(out.freeze()))
    }

    /// Whether the session is over.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.state.is_over()
    }

    /// Whether we drain, and the session is not over.
    #[must_use]
    pub fn is_draining_locally(&self) -> bool {
        self.state.is_draining_locally()
    }

    /// Streams of both ends that are not over.
    #[must_use]
    pub fn open_streams(&self) -> usize {
        self.streams
    }

    /// Streams of the kind that the peer lets us open; `None` if it sets no limit.
    #[must_use]
    pub fn open_credit(&self, dir: Dir) -> Option<u64> {
        self.flow.as_ref().map(|flow| flow.open_credit(dir))
    }

    /// Streams of the kind that the peer may still open; `None` if we set no limit.
    #[must_use]
    pub fn accept_credit(&self, dir: Dir) -> Option<u64> {
        self.flow.as_ref().map(|flow| flow.accept_credit(dir))
    }

    /// Bytes that the peer lets us send now: [`u64::MAX`] if it sets no limit, none if the session is over.
    #[must_use]
    pub fn send_credit(&self) -> u64 {
        match &self.flow {
            _ if self.is_closed() => 0,
            Some(flow) => flow.send_credit(),
            None => u64::MAX,
        }
    }

    /// Bytes that the peer lets us send in all; `None` if it sets no limit.
    #[must_use]
    pub fn send_limit(&self) -> Option<u64> {
        self.flow.as_ref().map(Flow::send_limit)
    }

    /// Bytes that we let the peer send now; `None` if we set no limit.
    #[must_use]
    pub fn receive_credit(&self) -> Option<u64> {
        self.flow.as_ref().map(Flow::receive_credit)
    }

    /// Takes a capsule that concerns the whole session, and gives back any other.
    fn take(&mut self, capsule: Capsule) -> Result<Option<Capsule>, Violation> {
        match capsule {
            Capsule::Datagram(datagram) if self.flavour == Flavour::Native => {
                self.take_datagram(datagram);
            }
            Capsule::Close { code, reason } => self.conclude(
                State::PeerClosed,
                Ending::Fin,
                Closed {
                    code,
                    reason,
                    by: By::Peer,
                    clean: true,
                },
            ),
            Capsule::Drain => self.take_drain(),
            Capsule::MaxData(limit) => {
                let lenient = self.flavour != Flavour::Native;
                if let Some(flow) = &mut self.flow
                    && flow.raise_data(limit, lenient)?
                {
                    self.events.push_back(Event::DataCredit);
                }
            }
            Capsule::MaxStreams(dir, limit) => {
                let lenient = self.flavour != Flavour::Native;
                if let Some(flow) = &mut self.flow
                    && flow.raise_streams(dir, limit, lenient)?
                {
                    self.events.push_back(Event::StreamCredit(dir));
                }
            }
            // More is granted as it is used up, whether or not the peer says that it waits.
            Capsule::DataBlocked(_) | Capsule::StreamsBlocked(..) => {}
            Capsule::Datagram(_)
            | Capsule::MaxStreamData { .. }
            | Capsule::StreamDataBlocked { .. }
            | Capsule::Stream { .. }
            | Capsule::ResetStream { .. }
            | Capsule::StopSending { .. } => return Ok(Some(capsule)),
        }
        Ok(None)
    }

    fn take_datagram(&mut self, datagram: Bytes) {
        let is_datagram = |event: &Event| matches!(event, Event::Datagram(_));
        if self.events.len() >= EVENTS_MAX
            && let Some(oldest) = self.events.iter().position(is_datagram)
        {
            self.events.remove(oldest);
        }
        self.events.push_back(Event::Datagram(datagram));
    }

    fn take_drain(&mut self) {
        if let Some(state) = self.state.peer_drains() {
            self.state = state;
            self.events.push_back(Event::Draining);
        }
    }

    /// Counts something of the peer's against the limit on it.
    fn count(
        &mut self,
        count: impl FnOnce(&mut Flow) -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        if self.is_closed() {
            return Err(Violation {
                code: HttpCode::WT_SESSION_GONE,
                reason: "the session is over",
            });
        }
        let result = self.flow.as_mut().map_or(Ok(()), count);
        if let Err(violation) = result {
            self.fail(violation);
        }
        result
    }

    fn close_if_drained(&mut self) {
        if self.is_draining_locally() && self.streams == 0 {
            self.close(0, "");
        }
    }

    fn lose(&mut self, ending: Ending, code: u32, reason: &str) {
        self.conclude(
            State::Closed,
            ending,
            Closed {
                code,
                reason: cut_reason(reason).to_owned(),
                by: By::Peer,
                clean: false,
            },
        );
        self.state = State::Closed;
    }

    /// WT-H3, "Session Termination". How the session was closed has been told, and that stands.
    fn refuse_bytes_after_close(&mut self) {
        self.state = State::Closed;
        self.ending = Ending::Abort(HttpCode::H3_MESSAGE_ERROR);
    }

    /// The one step out of life. Whatever comes second has no effect.
    fn conclude(&mut self, state: State, ending: Ending, closed: Closed) {
        if self.is_closed() {
            return;
        }
        self.state = state;
        self.ending = ending;
        self.events.push_back(Event::Closed(closed));
    }
}

#[cfg(test)]
mod tests;
