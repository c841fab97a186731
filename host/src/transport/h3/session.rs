//! A native session: every WebTransport stream is a QUIC stream, capsules on the CONNECT stream carry the rest.
//!
//! One task owns the session and asks it for [`Event`]s; `commands` holds what may be asked of it in between. The rules
//! of the protocol are `wharf_proto`'s `Session`; here are the streams, what waits on them, and whose turn it is.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use slab::Slab;
use wharf_proto::{
    code::{AppCode, HttpCode},
    id::{Dir, SessionId, StreamId},
    session::{self as proto, By, Transmit},
};

use super::{
    connect::{ConnectStream, Received},
    inbox::{Delivery, Inbox, Notice},
    ready::{Ready, Token},
    stream::{Arrival, Half, Read, RecvHalf, SendEnd, SendHalf, Stream},
    table::Table,
};
use crate::transport::{Closed, Closer, Event, Limits};

const CONNECT: usize = 0;
const INBOX: usize = 1;
const DATAGRAMS: usize = 2;
/// The token of the stream in slot `n` has the number `FIRST_STREAM + n`.
const FIRST_STREAM: usize = 3;
/// Less room than this is not worth a read, unless it is all there is.
const READ_ROOM_MIN: usize = 4 << 10;

type SendingDatagram = Pin<Box<dyn Future<Output = Result<(), quinn::SendDatagramError>> + Send>>;

/// A session over HTTP/3, accepted.
///
/// Driven by [`poll_event`](Self::poll_event) until [`Event::Closed`], then by
/// [`finish_closing`](Self::finish_closing). Dropping it earlier aborts the session.
pub struct Session {
    pub(super) id: SessionId,
    pub(super) conn: quinn::Connection,
    pub(super) limits: Arc<Limits>,
    pub(super) core: proto::Session,
    pub(super) streams: Slab<Stream>,
    pub(super) slots: HashMap<StreamId, usize>,
    /// Open streams that this end opened: bidirectional, unidirectional.
    pub(super) own_streams: [u32; 2],
    /// Open streams that the peer opened, likewise.
    pub(super) peer_streams: [u32; 2],
    /// Bytes that wait in all send buffers.
    pub(super) buffered: usize,
    /// Whether some stream waits for room in the session's send buffer.
    pub(super) starving: bool,
    pub(super) datagrams_out: VecDeque<Bytes>,
    pub(super) counters: Counters,
    pub(super) closed_by_host: bool,
    pub(super) over: bool,
    connect: ConnectStream,
    table: Arc<Table>,
    inbox: Arc<Inbox>,
    ready: Arc<Ready>,
    connect_part: Part,
    inbox_part: Part,
    datagrams_part: Part,
    sending_datagram: Option<SendingDatagram>,
    /// What is ready and not looked at yet.
    turn: VecDeque<usize>,
    events: VecDeque<Event>,
    /// Bytes given out with the last event, whose credit goes back with the next call.
    lent: u64,
    datagram_first: bool,
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
    fn new(number: usize, ready: &Arc<Ready>) -> Self {
        let token = Token::new(number, ready);
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
        limits: Arc<Limits>,
        core: proto::Session,
        connect: ConnectStream,
        table: Arc<Table>,
    ) -> Self {
        let ready = Arc::new(Ready::default());
        let inbox_part = Part::new(INBOX, &ready);
        let waiting_max = 2 * limits.streams_per_kind as usize;
        let inbox = Arc::new(Inbox::new(
            inbox_part.token.clone(),
            waiting_max,
            limits.datagrams_in,
        ));
        table.begin(id, &inbox);
        let connect_part = Part::new(CONNECT, &ready);
        connect_part.token.arm();
        Self {
            id,
            conn,
            limits,
            core,
            streams: Slab::new(),
            slots: HashMap::new(),
            own_streams: [0; 2],
            peer_streams: [0; 2],
            buffered: 0,
            starving: false,
            datagrams_out: VecDeque::new(),
            counters: Counters::default(),
            closed_by_host: false,
            over: false,
            connect,
            table,
            inbox,
            datagrams_part: Part::new(DATAGRAMS, &ready),
            connect_part,
            inbox_part,
            ready,
            sending_datagram: None,
            turn: VecDeque::new(),
            events: VecDeque::new(),
            lent: 0,
            datagram_first: false,
        }
    }

    /// The next event. The credit of the bytes in the last [`Event::Data`] goes back to the peer with this call.
    ///
    /// After [`Event::Closed`] there is none, for ever.
    pub fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if self.lent > 0 {
            self.core.consumed(std::mem::take(&mut self.lent));
        }
        loop {
            self.take_core_events();
            self.transmit();
            if let Some(event) = self.next_event() {
                return Poll::Ready(event);
            }
            if self.over {
                return Poll::Pending;
            }
            self.ready.register(cx.waker());
            if self.turn.is_empty() {
                self.ready.take(&mut self.turn);
            }
            let Some(number) = self.turn.pop_front() else {
                return Poll::Pending;
            };
            match number {
                CONNECT => self.poll_connect(),
                INBOX => self.poll_inbox(),
                DATAGRAMS => self.poll_datagrams(),
                stream => self.poll_stream(stream - FIRST_STREAM),
            }
        }
    }

    /// Tells the peer what is left to tell, and waits until it has ended the CONNECT stream too, at most
    /// [`Limits::close_timeout`].
    pub async fn finish_closing(mut self) {
        let timeout = self.limits.close_timeout;
        let finish = async {
            while let Some(transmit) = self.core.poll_transmit() {
                std::future::poll_fn(|cx| self.connect.poll_ready(cx)).await;
                self.connect.transmit(transmit);
            }
            self.connect.finished().await;
        };
        // A peer that does not end its side in time is left behind.
        _ = tokio::time::timeout(timeout, finish).await;
    }

    /// Datagrams that were dropped before they could be given out.
    pub(super) fn datagrams_dropped_in(&self) -> u64 {
        self.inbox.datagrams_dropped()
    }

    /// Has datagrams sent that wait in the queue.
    pub(super) fn arm_datagrams(&self) {
        self.datagrams_part.token.arm();
    }

    /// Puts a stream in its place and has it looked at.
    pub(super) fn insert(
        &mut self,
        id: StreamId,
        by_peer: bool,
        send: Half<SendHalf>,
        recv: Half<RecvHalf>,
    ) -> usize {
        let entry = self.streams.vacant_entry();
        let slot = entry.key();
        let mut stream = Stream::new(id, by_peer, Token::new(FIRST_STREAM + slot, &self.ready));
        stream.send = send;
        stream.recv = recv;
        stream.token.arm();
        entry.insert(stream);
        self.slots.insert(id, slot);
        self.count(by_peer, id.dir(), true);
        slot
    }

    /// Hands QUIC what it takes of a stream's buffer, and says what follows from that.
    pub(super) fn flush(&mut self, slot: usize) {
        let Some(stream) = self.streams.get_mut(slot) else {
            return;
        };
        let Half::Open(send) = &mut stream.send else {
            return;
        };
        let cx = &mut Context::from_waker(&stream.waker);
        let mut ended = None;
        while !send.is_flushed() {
            let credit = self.core.send_credit();
            if credit == 0 && send.queued() > 0 {
                self.core.note_blocked();
                break;
            }
            match send.poll_flush(cx, credit) {
                Poll::Pending => break,
                Poll::Ready(Ok(written)) => {
                    self.core.take_send_credit(written as u64);
                    self.counters.bytes_sent += written as u64;
                    self.buffered -= written;
                }
                Poll::Ready(Err(end)) => {
                    ended = Some(end);
                    break;
                }
            }
        }
        if let Some(end) = ended {
            return self.sending_ended(slot, end);
        }
        let room = self
            .limits
            .session_send_buffer
            .saturating_sub(self.buffered);
        if send.is_flushed() && send.has_fin() {
            send.finish();
            stream.send = Half::Finished;
            self.release(slot);
        } else if send.take_writable(self.limits.stream_send_buffer, room) {
            self.events.push_back(Event::Writable(stream.id));
        }
        self.feed_starving();
    }

    /// Ends a stream's sending direction, where it has not ended yet.
    pub(super) fn give_up_sending(&mut self, slot: usize, code: HttpCode) {
        let Some(stream) = self.streams.get_mut(slot) else {
            return;
        };
        if let Half::Open(send) = &mut stream.send {
            self.buffered -= send.queued();
            send.reset(code);
            stream.send = Half::Reset;
            self.feed_starving();
            self.release(slot);
        }
    }

    /// Says that a stream is over, where both of its directions are. Its slot is freed when that has been told.
    pub(super) fn release(&mut self, slot: usize) {
        if let Some(stream) = self.streams.get(slot)
            && stream.is_over()
        {
            self.events.push_back(Event::StreamClosed(stream.id));
        }
    }

    fn next_event(&mut self) -> Option<Event> {
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
        }
        Some(event)
    }

    fn count(&mut self, by_peer: bool, dir: Dir, open: bool) {
        let counts = if by_peer {
            &mut self.peer_streams
        } else {
            &mut self.own_streams
        };
        let count = &mut counts[kind(dir)];
        *count = if open { *count + 1 } else { *count - 1 };
    }

    /// Turns what the protocol core says into events.
    fn take_core_events(&mut self) {
        while let Some(event) = self.core.poll_event() {
            match event {
                proto::Event::Draining => self.events.push_back(Event::Draining),
                proto::Event::Datagram(datagram) => {
                    self.events.push_back(Event::Datagram(datagram))
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
        let by = match closed.by {
            By::Peer => Closer::Peer,
            By::Local if self.closed_by_host || !closed.clean => Closer::Host,
            By::Local => Closer::Local,
        };
        self.events.push_back(Event::Closed(Closed {
            code: closed.code,
            reason: closed.reason,
            by,
            clean: closed.clean,
        }));
    }

    fn drop_streams(&mut self) {
        self.slots.clear();
        for stream in self.streams.drain() {
            stream.abandon(HttpCode::WT_SESSION_GONE);
        }
        self.buffered = 0;
        self.datagrams_out.clear();
        self.table.end(self.id);
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
        self.connect_part.token.arm();
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
            Delivery::Notice(Notice::Drain) => self.events.push_back(Event::Draining),
            Delivery::Notice(Notice::Close(code, reason)) => {
                self.closed_by_host |= !self.core.is_closed();
                self.core.close(code, &reason);
            }
            Delivery::Notice(Notice::Lost(code, reason)) => self.lost(code, &reason),
        }
        self.inbox_part.token.arm();
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

    fn accept(&mut self, arrival: Arrival) {
        let dir = arrival.id.dir();
        if self.core.accept(dir).is_err() {
            // The core has closed the session, and says so next.
            return arrival.refuse(HttpCode::WT_SESSION_GONE);
        }
        if self.peer_streams[kind(dir)] >= self.limits.streams_per_kind {
            self.core.end(By::Peer, dir);
            return arrival.refuse(HttpCode::WT_BUFFERED_STREAM_REJECTED);
        }
        let send = match arrival.send {
            Some(send) => Half::Open(SendHalf::new(send, Bytes::new())),
            None => Half::Absent,
        };
        let recv = Half::Open(RecvHalf::new(arrival.recv, arrival.prefix));
        self.insert(arrival.id, true, send, recv);
        self.events.push_back(Event::Opened(arrival.id));
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
            let conn = self.conn.clone();
            self.sending_datagram =
                Some(Box::pin(
                    async move { conn.send_datagram_wait(datagram).await },
                ));
        }
    }

    fn poll_stream(&mut self, slot: usize) {
        let Some(stream) = self.streams.get(slot) else {
            return;
        };
        stream.token.disarm();
        let told = self.events.len();
        self.flush(slot);
        self.read(slot);
        if self.events.len() == told {
            self.watch_stop(slot);
        } else if let Some(stream) = self.streams.get(slot)
            && let Half::Open(send) = &stream.send
            && !send.is_watched()
        {
            // Watched when next looked at: the handler may well end the stream before.
            stream.token.arm();
        }
    }

    /// Reads once, as much as the send buffers have room for.
    fn read(&mut self, slot: usize) {
        let Some(stream) = self.streams.get_mut(slot) else {
            return;
        };
        let Half::Open(recv) = &mut stream.recv else {
            return;
        };
        let stream_max = self.limits.stream_send_buffer;
        let stream_room = match &stream.send {
            Half::Open(send) if !send.has_fin() => stream_max.saturating_sub(send.queued()),
            Half::Open(_) | Half::Absent | Half::Finished | Half::Reset => usize::MAX,
        };
        let session_room = self
            .limits
            .session_send_buffer
            .saturating_sub(self.buffered);
        if session_room < READ_ROOM_MIN.min(self.limits.session_send_buffer) {
            self.starving = true;
            return;
        }
        if stream_room < READ_ROOM_MIN.min(stream_max) {
            return; // QUIC has the waker, because something waits
        }
        let cx = &mut Context::from_waker(&stream.waker);
        let room = stream_room.min(session_room).max(1);
        match recv.poll_read(cx, room) {
            Poll::Pending | Poll::Ready(Read::Lost) => {}
            Poll::Ready(Read::Data(data, fin)) => {
                if recv.has_ahead() {
                    stream.token.arm();
                }
                if fin {
                    stream.recv = Half::Finished;
                }
                let stream = stream.id;
                if self.core.received(data.len() as u64).is_ok() {
                    self.events.push_back(Event::Data { stream, data, fin });
                    self.release(slot);
                }
            }
            Poll::Ready(Read::Reset(code)) => {
                stream.recv = Half::Reset;
                self.events.push_back(Event::Reset(stream.id, code));
                self.release(slot);
            }
        }
    }

    fn watch_stop(&mut self, slot: usize) {
        let Some(stream) = self.streams.get_mut(slot) else {
            return;
        };
        let Half::Open(send) = &mut stream.send else {
            return;
        };
        let cx = &mut Context::from_waker(&stream.waker);
        if let Poll::Ready(end) = send.poll_stopped(cx) {
            self.sending_ended(slot, end);
        }
    }

    fn sending_ended(&mut self, slot: usize, end: SendEnd) {
        let SendEnd::Stopped(code) = end else {
            return; // the connection is lost, and the session will be told
        };
        if let Some(stream) = self.streams.get(slot) {
            self.events.push_back(Event::Stopped(stream.id, code));
        }
        // The peer's code goes back (RFC 9000, "Solicited State Transitions").
        let answer = code.map_or(HttpCode::H3_REQUEST_CANCELLED, |code| {
            AppCode(code).to_http3()
        });
        self.give_up_sending(slot, answer);
    }

    /// Has the streams looked at that wait for room in the session's buffer.
    fn feed_starving(&mut self) {
        let free = self
            .limits
            .session_send_buffer
            .saturating_sub(self.buffered);
        if self.starving && free >= self.limits.session_send_buffer / 2 {
            self.starving = false;
            self.arm_streams();
        }
    }

    fn arm_streams(&self) {
        for (_, stream) in &self.streams {
            stream.token.arm();
        }
    }
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
