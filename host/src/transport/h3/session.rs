//! A native session: every WebTransport stream is a QUIC stream, capsules on the CONNECT stream carry the rest.
//!
//! One task owns the session and asks it for [`Event`]s; `commands` holds what may be asked of it in between. The rules
//! of the protocol are `wharf_proto`'s `Session`; `streams` holds what is done with streams; here is whose turn it is.

use std::{
    collections::VecDeque,
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Instant,
};

use bytes::Bytes;
use rustc_hash::FxHashMap;
use slab::Slab;
use tokio::time::Sleep;
use wharf_proto::{
    code::{AppCodes, HttpCode},
    id::{Dir, SessionId, StreamId},
    session::{self as proto, By, Transmit},
};

use super::{
    client::Carrier,
    connect::{ConnectStream, Received},
    hold::Hold,
    inbox::{Delivery, Inbox, Notice},
    resets::Resets,
    stream::Stream,
    table::{Share, Table},
    window::{self, Pace},
};
use crate::{
    ready::{Rounds, Token},
    transport::{Event, Limits, SessionLimits},
};

const CONNECT: usize = 0;
const INBOX: usize = 1;
const DATAGRAMS: usize = 2;
const RESETS: usize = 3;
const BEHIND: usize = 4;
/// The token of the stream in slot `n` has the number `FIRST_STREAM + n`.
pub(super) const FIRST_STREAM: usize = 5;

type SendingDatagram = Pin<Box<dyn Future<Output = Result<(), quinn::SendDatagramError>> + Send>>;

/// A session over HTTP/3, accepted, at whichever end. Its public face is
/// [`transport::Session`](crate::transport::Session). A connection that was made for the session alone is closed with it.
pub struct Session {
    pub(super) id: SessionId,
    pub(super) conn: quinn::Connection,
    pub(super) limits: SessionLimits,
    /// What its connection keeps.
    pub(super) shared_limits: Arc<Limits>,
    pub(super) core: proto::Session,
    /// What the peer understands of codes.
    pub(super) codes: AppCodes,
    pub(super) streams: Slab<Stream>,
    pub(super) slots: FxHashMap<StreamId, usize>,
    /// Open streams that this end opened: bidirectional, unidirectional.
    pub(super) own_streams: [u32; 2],
    /// Open streams that the peer opened, likewise.
    pub(super) peer_streams: [u32; 2],
    /// Bytes that wait in all send buffers.
    pub(super) buffered: usize,
    /// Bytes that were read of streams and not given out.
    pub(super) ahead: usize,
    /// How many bytes the handler may have wait, beside the limits.
    pub(super) room: usize,
    /// Whether some stream waits for room in the session's send buffer.
    pub(super) starving: bool,
    pub(super) datagrams_out: VecDeque<Bytes>,
    pub(super) datagram_bytes_out: usize,
    pub(super) counters: Counters,
    pub(super) closed_by_host: bool,
    pub(super) over: bool,
    connect: ConnectStream,
    pub(super) table: Arc<Table>,
    inbox: Arc<Inbox>,
    pub(super) rounds: Rounds,
    connect_part: Part,
    inbox_part: Part,
    datagrams_part: Part,
    resets_part: Part,
    pub(super) resets: Resets,
    behind_part: Part,
    /// Until a stream that waits for room has waited for long.
    behind: Option<Pin<Box<Sleep>>>,
    pub(super) pace: Pace,
    /// Whether the handler knows that the session is to end.
    draining_told: bool,
    sending_datagram: Option<SendingDatagram>,
    pub(super) events: VecDeque<Event>,
    /// Bytes given out with the last event, whose credit goes back with the next call.
    lent: u64,
    datagram_first: bool,
    /// Keeps its connection's driver back, where that listens.
    pub(super) hold: Hold,
    /// The connection, where it was made for this session alone. The last field, so that all else ends before it.
    pub(super) carrier: Option<Carrier>,
}

/// What a session begins with.
pub(super) struct Terms {
    /// The session's own limits.
    pub(super) limits: SessionLimits,
    /// Its connection's.
    pub(super) shared: Arc<Limits>,
    /// What the peer understands of codes.
    pub(super) codes: AppCodes,
    /// What the peer grants, if flow control is enabled.
    pub(super) peer: Option<proto::Limits>,
}

/// What a session counts.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counters {
    pub(super) bytes_sent: u64,
    pub(super) bytes_received: u64,
    pub(super) datagrams_sent: u64,
    pub(super) datagrams_received: u64,
    pub(super) datagrams_dropped: u64,
}

/// A token and the waker made of it.
struct Part {
    token: Arc<Token>,
    waker: Waker,
}

impl Part {
    fn new(number: usize, rounds: &Rounds) -> Self {
        let token = rounds.token(number);
        Self {
            waker: token.clone().into(),
            token,
        }
    }
}

impl Session {
    pub(super) fn new(
        id: SessionId,
        conn: quinn::Connection,
        terms: Terms,
        connect: ConnectStream,
        table: Arc<Table>,
    ) -> Self {
        let Terms {
            limits,
            shared: shared_limits,
            codes,
            peer,
        } = terms;
        let mut rounds = Rounds::default();
        let inbox_part = Part::new(INBOX, &rounds);
        // One more than may be open, so that the first one beyond the limit is seen to be.
        let waiting_max = 2 * limits.streams_per_kind as usize + 1;
        let inbox = Arc::new(Inbox::new(
            inbox_part.token.clone(),
            waiting_max,
            limits.datagrams_in,
        ));
        table.begin(id, &inbox, Share::of(&limits));
        let connect_part = Part::new(CONNECT, &rounds);
        rounds.again(&connect_part.token);
        let resets = Resets::new(limits.delayed_resets);
        Self {
            id,
            conn,
            core: core(&shared_limits.session, &limits, peer),
            limits,
            shared_limits,
            codes,
            streams: Slab::new(),
            slots: FxHashMap::default(),
            own_streams: [0; 2],
            peer_streams: [0; 2],
            buffered: 0,
            ahead: 0,
            room: usize::MAX,
            starving: false,
            datagrams_out: VecDeque::new(),
            datagram_bytes_out: 0,
            counters: Counters::default(),
            closed_by_host: false,
            over: false,
            connect,
            table,
            inbox,
            datagrams_part: Part::new(DATAGRAMS, &rounds),
            resets_part: Part::new(RESETS, &rounds),
            resets,
            behind_part: Part::new(BEHIND, &rounds),
            behind: None,
            pace: Pace::default(),
            draining_told: false,
            connect_part,
            inbox_part,
            rounds,
            sending_datagram: None,
            events: VecDeque::new(),
            lent: 0,
            datagram_first: false,
            hold: Hold::default(),
            carrier: None,
        }
    }

    pub(in crate::transport) async fn next_event(&mut self) -> Option<Event> {
        if self.over {
            self.tell_end().await;
            return None;
        }
        Some(poll_fn(|cx| self.poll_event(cx)).await)
    }

    pub(in crate::transport) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if self.lent > 0 {
            self.core.consumed(std::mem::take(&mut self.lent));
        }
        loop {
            self.take_core_events();
            self.transmit();
            if let Some(event) = self.pop_event() {
                return Poll::Ready(event);
            }
            if self.over {
                return Poll::Pending;
            }
            let Some(number) = self.rounds.next(cx.waker()) else {
                return Poll::Pending;
            };
            match number {
                CONNECT => self.poll_connect(),
                INBOX => self.poll_inbox(),
                DATAGRAMS => self.poll_datagrams(),
                RESETS => self.poll_resets(),
                BEHIND => self.poll_behind(),
                stream => self.poll_stream(stream - FIRST_STREAM),
            }
        }
    }

    pub(in crate::transport) async fn finish_closing(mut self: Box<Self>) {
        self.tell_end().await;
    }

    pub(in crate::transport) fn hold(&self) -> Hold {
        self.hold.clone()
    }

    pub(in crate::transport) fn stopper(&self) -> impl Fn(u32, &str) + Send + Sync + 'static {
        let inbox = self.inbox.clone();
        move |code, reason| inbox.put_notice(Notice::Close(code, reason.to_owned()))
    }

    async fn tell_end(&mut self) {
        let timeout = self.shared_limits.close_timeout;
        let finish = poll_fn(|cx| self.poll_finish(cx));
        // A peer that does not end its side in time is left behind.
        _ = tokio::time::timeout(timeout, finish).await;
        if let Some(carrier) = &mut self.carrier {
            carrier.close(HttpCode::H3_NO_ERROR).await;
        }
    }

    /// What the peer sent before it knew of our close is passed over; what it sends after its own is not.
    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            while self.connect.poll_ready(cx).is_ready() {
                match self.core.poll_transmit() {
                    Some(transmit) => self.connect.transmit(transmit),
                    None => break,
                }
            }
            match self.connect.poll_receive(cx) {
                Poll::Pending if self.connect.is_over() => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Received::Bytes(bytes)) => self.core.receive(bytes),
                Poll::Ready(Received::Fin) => self.core.receive_fin(),
                Poll::Ready(Received::Aborted) => {}
            }
        }
    }

    /// Bytes that the session holds, the last ones given out among them. QUIC's own buffers are its connection's.
    pub(in crate::transport) fn held(&self) -> usize {
        if self.core.is_closed() {
            return 0;
        }
        let lent = usize::try_from(self.lent).unwrap_or(usize::MAX);
        let datagrams = self.datagram_bytes_out + self.inbox.datagram_bytes();
        self.buffered + self.ahead + lent + datagrams + self.core.buffered()
    }

    /// Datagrams that were dropped before they could be given out.
    pub(super) fn datagrams_dropped_in(&self) -> u64 {
        self.inbox.datagrams_dropped()
    }

    /// Has datagrams sent that wait in the queue.
    pub(super) fn arm_datagrams(&mut self) {
        self.rounds.again(&self.datagrams_part.token);
    }

    fn pop_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front()?;
        match &event {
            Event::StreamClosed(id) => {
                if let Some(slot) = self.slots.remove(id) {
                    let stream = self.streams.remove(slot);
                    let by = if stream.by_peer { By::Peer } else { By::Local };
                    self.count(stream.by_peer, id.dir(), false);
                    self.core.end(by, id.dir());
                }
            }
            Event::Data { data, .. } => {
                self.lent = data.len() as u64;
                self.counters.bytes_received += self.lent;
            }
            Event::Datagram(_) => self.counters.datagrams_received += 1,
            Event::Closed(_) => self.over = true,
            Event::Opened(_)
            | Event::Reset(..)
            | Event::Stopped(..)
            | Event::Writable(_)
            | Event::Draining => {}
            _ => {} // of the capsule flavour only, should there be one
        }
        Some(event)
    }

    /// Turns what the protocol core says into events.
    fn take_core_events(&mut self) {
        while let Some(event) = self.core.poll_event() {
            match event {
                proto::Event::Draining => self.tell_draining(),
                proto::Event::Datagram(datagram) => {
                    self.events.push_back(Event::Datagram(datagram));
                }
                proto::Event::DataCredit => self.arm_streams(),
                proto::Event::StreamCredit(_) => {} // the next `open` finds it
                proto::Event::Closed(closed) => self.end(closed),
            }
        }
    }

    /// The session is over: no stream outlives it.
    fn end(&mut self, closed: proto::Closed) {
        // What has not been told of streams is not told any more: `Closed` follows.
        self.events.clear();
        self.drop_streams();
        let closed = closed.told(self.closed_by_host);
        self.events.push_back(Event::Closed(closed));
    }

    /// Hands the CONNECT stream what the core wants to say, as far as it takes it.
    fn transmit(&mut self) {
        let cx = &mut Context::from_waker(&self.connect_part.waker);
        while self.connect.poll_ready(cx).is_ready() {
            match self.core.poll_transmit() {
                Some(transmit) => self.connect.transmit(transmit),
                None => break,
            }
        }
    }

    fn poll_connect(&mut self) {
        self.connect_part.token.disarm();
        let cx = &mut Context::from_waker(&self.connect_part.waker);
        match self.connect.poll_receive(cx) {
            Poll::Pending => return,
            Poll::Ready(Received::Bytes(bytes)) => self.core.receive(bytes),
            Poll::Ready(Received::Fin) => self.core.receive_fin(),
            Poll::Ready(Received::Aborted) => self.receive_abort(),
        }
        self.rounds.again(&self.connect_part.token);
    }

    fn receive_abort(&mut self) {
        // A lost connection aborts the CONNECT stream too; the connection's own word says why, and comes.
        if self.conn.close_reason().is_none() {
            self.core.receive_abort("the peer aborted the session");
        }
    }

    fn poll_inbox(&mut self) {
        self.inbox_part.token.disarm();
        let Some(delivery) = self.inbox.take(self.datagram_first) else {
            return;
        };
        self.datagram_first = matches!(delivery, Delivery::Stream(_));
        match delivery {
            Delivery::Stream(arrival) => self.accept(arrival),
            Delivery::Datagram(datagram) => self.events.push_back(Event::Datagram(datagram)),
            Delivery::LostStream(dir) => self.core.forgive_stream(dir),
            Delivery::Notice(Notice::PeerDrains) => self.tell_draining(),
            Delivery::Notice(Notice::Drain) => {
                self.core.ask_to_drain();
                self.tell_draining();
            }
            Delivery::Notice(Notice::Close(code, reason)) => {
                self.closed_by_host |= !self.core.is_closed();
                self.core.close(code, &reason);
            }
            Delivery::Notice(Notice::Lost(code, reason)) => self.lost(code, &reason),
        }
        self.rounds.again(&self.inbox_part.token);
    }

    /// Takes datagrams that come next, without an event for each, for as long as `take` takes them.
    pub(in crate::transport) fn take_datagrams(&mut self, take: impl FnMut(&Bytes) -> bool) {
        if self.events.is_empty() {
            self.counters.datagrams_received += self.inbox.take_datagrams(take);
        }
    }

    /// A capsule, a GOAWAY and the host may all say it.
    fn tell_draining(&mut self) {
        if !std::mem::replace(&mut self.draining_told, true) {
            self.events.push_back(Event::Draining);
        }
    }

    fn poll_resets(&mut self) {
        self.resets_part.token.disarm();
        let cx = &mut Context::from_waker(&self.resets_part.waker);
        self.resets.poll(cx);
    }

    /// Has delayed resets looked at.
    pub(super) fn arm_resets(&mut self) {
        self.rounds.again(&self.resets_part.token);
    }

    /// Lets the peer send all that it may, where a stream has waited for room for long: what comes for others is not to wait
    /// behind what came for that one.
    fn poll_behind(&mut self) {
        self.behind_part.token.disarm();
        let cx = &mut Context::from_waker(&self.behind_part.waker);
        let Some(sleep) = &mut self.behind else {
            return;
        };
        if sleep.as_mut().poll(cx).is_pending() {
            return;
        }
        self.behind = None;
        let waits = self.streams.iter().filter_map(|(_, stream)| stream.waits);
        match waits.min() {
            Some(since) if since.elapsed() >= window::BEHIND => {
                let grant = |window| self.conn.set_receive_window(window);
                self.table.window.open(grant);
            }
            Some(since) => self.await_room(since),
            None => {}
        }
    }

    /// A stream waits for room since then.
    pub(super) fn await_room(&mut self, since: Instant) {
        if self.behind.is_none() {
            let until = (since + window::BEHIND).into();
            self.behind = Some(Box::pin(tokio::time::sleep_until(until)));
            self.rounds.again(&self.behind_part.token);
        }
    }

    /// The connection is lost. What the peer said on the CONNECT stream before that still counts.
    fn lost(&mut self, code: u32, reason: &str) {
        let cx = &mut Context::from_waker(Waker::noop());
        while let Poll::Ready(received) = self.connect.poll_receive(cx) {
            match received {
                Received::Bytes(bytes) => self.core.receive(bytes),
                Received::Fin => self.core.receive_fin(),
                Received::Aborted => break,
            }
        }
        self.core.connection_lost(code, reason);
    }

    fn poll_datagrams(&mut self) {
        self.datagrams_part.token.disarm();
        let cx = &mut Context::from_waker(&self.datagrams_part.waker);
        loop {
            if let Some(sending) = &mut self.sending_datagram {
                match sending.as_mut().poll(cx) {
                    Poll::Pending => return,
                    Poll::Ready(Ok(())) => self.counters.datagrams_sent += 1,
                    Poll::Ready(Err(_)) => self.counters.datagrams_dropped += 1, // the path shrank meanwhile
                }
                self.sending_datagram = None;
            }
            let Some(datagram) = self.datagrams_out.pop_front() else {
                return;
            };
            self.datagram_bytes_out -= datagram.len();
            let conn = self.conn.clone();
            self.sending_datagram =
                Some(Box::pin(
                    async move { conn.send_datagram_wait(datagram).await },
                ));
        }
    }
}

/// A session at its beginning: the peer was told of one credit, and has another.
fn core(
    told: &SessionLimits,
    limits: &SessionLimits,
    peer: Option<proto::Limits>,
) -> proto::Session {
    let mut core = proto::Session::new(proto::Config {
        flavour: proto::Flavour::Native,
        local: told.grants(),
        peer,
        datagram_bytes_max: usize::from(u16::MAX),
    });
    core.enlarge(limits.grants());
    core
}

/// The place of a kind of streams in a pair of counts.
pub(super) fn kind(dir: Dir) -> usize {
    match dir {
        Dir::Bi => 0,
        Dir::Uni => 1,
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if !self.over {
            self.connect
                .transmit(Transmit::Abort(HttpCode::H3_INTERNAL_ERROR));
        }
        self.drop_streams();
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.id)
            .field("streams", &self.streams.len())
            .field("buffered", &self.buffered)
            .finish_non_exhaustive()
    }
}
