//! Which capsules of a session go next: what concerns the whole session, then datagrams, then what streams have to say
//! without data, then their data, in turn and by priority.

use std::{collections::VecDeque, io::IoSlice, mem};

use bytes::{Buf, Bytes, BytesMut};

use super::{Half, Mux, lists::list};
use crate::{
    capsule::{Capsule, encode_stream_header},
    code::HttpCode,
    id::StreamId,
    session,
    varint::VarInt,
};

/// The longest capsule with data, its header included: what another stream waits for at most. It fills a DATA frame of the
/// size that every peer takes; one that went beyond would be cut, and come in two pieces.
const CAPSULE_MAX: usize = 16 << 10;
/// The type and the length of a capsule no longer than that, in bytes.
const CAPSULE_HEADER: usize = 4 + 2;
/// The most that is made at once: what a datagram waits for at most.
const BATCH_MAX: usize = 64 << 10;
/// Less room than this is not worth a capsule with data.
const ROOM_MIN: usize = 64;
/// Payloads shorter than this are copied next to their header.
const COPY_BELOW: usize = 512;

/// What to do to the CONNECT stream, in order.
#[derive(Debug)]
pub enum Transmit {
    /// Send these bytes.
    Capsules(Chunks),
    /// Finish the sending direction.
    Fin,
    /// Give up both directions: the session was aborted, or its peer broke a rule after the close.
    Abort(HttpCode),
}

/// Capsules, in pieces: payloads are not copied.
#[derive(Debug, Default)]
pub struct Chunks {
    pieces: VecDeque<Bytes>,
    /// The end of the queue, where headers and small payloads are gathered.
    tail: BytesMut,
    len: usize,
}

impl Chunks {
    fn push(&mut self, piece: Bytes) {
        if piece.len() < COPY_BELOW {
            self.write(|tail| tail.extend_from_slice(&piece));
        } else {
            self.len = self.len.saturating_add(piece.len());
            self.seal();
            self.pieces.push_back(piece);
        }
    }

    fn write(&mut self, write: impl FnOnce(&mut BytesMut)) {
        let before = self.tail.len();
        write(&mut self.tail);
        let written = self.tail.len().saturating_sub(before);
        self.len = self.len.saturating_add(written);
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.pieces.push_back(self.tail.split().freeze());
        }
    }
}

impl From<Bytes> for Chunks {
    fn from(bytes: Bytes) -> Self {
        let mut chunks = Self::default();
        chunks.push(bytes);
        chunks.seal();
        chunks
    }
}

impl Buf for Chunks {
    fn remaining(&self) -> usize {
        self.len
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.front().map_or(&[], |piece| piece)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let pairs = slices.iter_mut().zip(&self.pieces);
        pairs
            .map(|(slice, piece)| *slice = IoSlice::new(piece))
            .count()
    }

    fn advance(&mut self, mut n: usize) {
        self.len = self.len.saturating_sub(n);
        while n > 0 {
            let Some(first) = self.pieces.front_mut() else {
                return;
            };
            if n < first.len() {
                return first.advance(n);
            }
            n = n.saturating_sub(first.len());
            self.pieces.pop_front();
        }
    }
}

/// How much of a DATA frame is left behind so many bytes; all of the next one's besides, where that is not worth a capsule.
fn to_frame_end(len: usize) -> usize {
    let left = CAPSULE_MAX.saturating_sub(len % CAPSULE_MAX);
    if left < ROOM_MIN {
        left.saturating_add(CAPSULE_MAX)
    } else {
        left
    }
}

impl Mux {
    /// Whether there is something to transmit: whether [`poll_transmit`](Self::poll_transmit), with any room, would say
    /// something. Every other call may change that, [`poll_event`](Self::poll_event) too.
    #[must_use]
    pub fn has_transmit(&self) -> bool {
        let of_streams = || {
            let data = !self.ready.is_empty() && self.core.send_credit() > 0;
            !self.datagrams_out.is_empty() || !self.news.is_empty() || data
        };
        self.core.has_transmit() || !self.core.is_closed() && of_streams()
    }

    /// The next thing to do to the CONNECT stream, which has room for so many bytes. Little more is made: at most one
    /// capsule too much, without data or with a datagram. Without room, only an end that needs none is given out.
    pub fn poll_transmit(&mut self, room: usize) -> Option<Transmit> {
        let mut out = Chunks::default();
        if room == 0 && !self.core.ends_now() {
            return None;
        }
        match self.core.poll_transmit() {
            Some(session::Transmit::Capsules(capsules)) => out.push(capsules),
            Some(session::Transmit::Fin) => return Some(Transmit::Fin),
            Some(session::Transmit::Abort(code)) => return Some(Transmit::Abort(code)),
            None => {}
        }
        if room > 0 && !self.core.is_closed() {
            let room = room.min(BATCH_MAX);
            self.put_datagrams(&mut out, room);
            self.put_news(&mut out, room);
            self.put_data(&mut out, room);
            self.put_news(&mut out, room); // who has no credit says so
        }
        out.seal();
        (out.len > 0).then_some(Transmit::Capsules(out))
    }

    fn put_datagrams(&mut self, out: &mut Chunks, room: usize) {
        while out.len < room
            && let Some(datagram) = self.datagrams_out.pop_front()
        {
            self.datagram_bytes_out = self.datagram_bytes_out.saturating_sub(datagram.len());
            self.counters.datagrams_sent = self.counters.datagrams_sent.saturating_add(1);
            out.write(|out| Capsule::Datagram(datagram).encode(out));
        }
    }

    fn put_news(&mut self, out: &mut Chunks, room: usize) {
        while out.len < room
            && let Some(id) = self.news.pop_front()
        {
            self.put_news_of(id, out);
            self.release(id);
        }
    }

    fn put_news_of(&mut self, id: StreamId, out: &mut Chunks) {
        let (wire, order) = (self.id(id), self.config.order);
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        stream.listed_news = false;
        let fin = matches!(&stream.send, Half::Open(sending) if sending.fin_is_due());
        if mem::take(&mut stream.announce) || fin {
            out.write(|out| encode_stream_header(order, wire, fin, 0, out));
        }
        if fin {
            stream.send = Half::Finished;
        }
        if let Some(code) = stream.stop.take() {
            let stream = wire;
            out.write(|out| Capsule::StopSending { stream, code }.encode(out));
        }
        if let Some(code) = stream.reset.take() {
            let capsule = Capsule::ResetStream {
                stream: wire,
                code,
                reliable_size: Some(VarInt::saturating(stream.sent)),
            };
            out.write(|out| capsule.encode(out));
        }
        if stream.grants()
            && let Some(limit) = stream.receive_credit.poll_update()
        {
            let (stream, limit) = (wire, VarInt::saturating(limit));
            out.write(|out| Capsule::MaxStreamData { stream, limit }.encode(out));
        }
        if let Half::Open(sending) = &mut stream.send
            && let Some(limit) = sending.credit.poll_blocked()
        {
            let (stream, limit) = (wire, VarInt::saturating(limit));
            out.write(|out| Capsule::StreamDataBlocked { stream, limit }.encode(out));
        }
    }

    fn put_data(&mut self, out: &mut Chunks, room: usize) {
        while out.len.saturating_add(ROOM_MIN) <= room || out.len == 0 {
            if self.core.send_credit() == 0 {
                return;
            }
            let Some(id) = self.pop_ready() else {
                return;
            };
            self.put_data_of(id, out, room);
        }
    }

    fn put_data_of(&mut self, id: StreamId, out: &mut Chunks, room: usize) {
        let (wire, order, credit) = (self.id(id), self.config.order, self.core.send_credit());
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let Half::Open(sending) = &mut stream.send else {
            return;
        };
        let credit = credit.min(sending.credit.available());
        let header = CAPSULE_HEADER.saturating_add(VarInt::from(wire).size());
        let room = room.saturating_sub(out.len).min(to_frame_end(out.len));
        let room = room.saturating_sub(header).max(1);
        let room = usize::try_from(credit).map_or(room, |credit| credit.min(room));
        let mut left = sending.buffer.len().min(room);
        let n = left as u64;
        let taken = sending.credit.take(n);
        debug_assert!(taken.is_ok(), "the credit was looked at");
        let fin = sending.buffer.has_fin() && left == sending.buffer.len();
        stream.sent = stream.sent.saturating_add(n);
        out.write(|out| encode_stream_header(order, wire, fin, left, out));
        while left > 0 {
            let piece = sending.buffer.take(left);
            if piece.is_empty() {
                break; // it has as many as it says
            }
            left = left.saturating_sub(piece.len());
            out.push(piece);
        }
        if fin {
            stream.send = Half::Finished;
        }
        self.core.take_send_credit(n);
        self.sent(id, n);
        if !self.ready.is_empty() {
            self.core.note_blocked();
        }
    }

    /// What follows when bytes of a stream have left.
    fn sent(&mut self, id: StreamId, n: u64) {
        self.counters.bytes_sent = self.counters.bytes_sent.saturating_add(n);
        let n = usize::try_from(n).unwrap_or(usize::MAX);
        self.buffered = self.buffered.saturating_sub(n);
        self.list_ready(id);
        self.feed(id);
        self.release(id);
        self.feed_starved();
    }

    /// A stream may have room again, and then takes more in both ways.
    pub(super) fn feed(&mut self, id: StreamId) {
        let limits = self.config.limits.send;
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        if let Half::Open(sending) = &stream.send
            && sending.buffer.waits_for_session(limits)
        {
            list(id, &mut stream.listed_writable, &mut self.writable);
        }
        if let Half::Open(receiving) = &stream.recv
            && (!receiving.buffer.is_empty() || receiving.end.is_some())
        {
            list(id, &mut stream.listed_readable, &mut self.readable);
        }
    }

    /// Streams that waited for room in the session's send buffer are looked at when half of it is free.
    pub(super) fn feed_starved(&mut self) {
        if self.buffered > self.config.limits.send.session / 2 {
            return;
        }
        for _ in 0..self.starved.len() {
            let Some(id) = self.starved.pop_front() else {
                return;
            };
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.listed_starved = false;
            }
            self.feed(id);
        }
    }
}
