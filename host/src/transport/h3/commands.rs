//! What may be asked of a native session between two events. Nothing here waits.

use std::{
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
};

use bytes::{BufMut, Bytes, BytesMut};
use wharf_proto::{
    buffer::SendLimits,
    code::AppCode,
    contract::Half,
    id::{Dir, StreamId},
    session::OpenError,
    varint::VarInt,
};

use super::{
    classify::{BIDI_WEBTRANSPORT, UNI_WEBTRANSPORT},
    session::{Session, kind},
    stream::{RecvHalf, SendHalf, Stream},
};
use crate::transport::{Closer, CommandError, Info, exporter};

/// No packet holds more; what it does hold is QUIC's to say.
const DATAGRAM_MAX: usize = u16::MAX as usize;

impl Session {
    pub(in crate::transport) fn id(&self) -> u64 {
        self.id.into()
    }

    /// The header of the stream is on its way before any data.
    pub(in crate::transport) fn open(&mut self, dir: Dir) -> Result<StreamId, CommandError> {
        if self.core.is_closed() {
            return Err(CommandError::Closed);
        }
        if self.core.is_draining_locally() {
            return Err(CommandError::Draining);
        }
        if self.own_streams[kind(dir)] >= self.limits.streams_per_kind {
            return Err(CommandError::StreamLimit);
        }
        // The core counts a stream for good, so it is asked only when QUIC has one to give.
        if self.core.open_credit(dir) != Some(0) {
            let cx = &mut Context::from_waker(Waker::noop());
            let conn = self.conn.clone();
            let opened = match dir {
                Dir::Bi => pin!(conn.open_bi())
                    .poll(cx)
                    .map_ok(|(send, recv)| (send, Some(recv))),
                Dir::Uni => pin!(conn.open_uni()).poll(cx).map_ok(|send| (send, None)),
            };
            let (send, recv) = match opened {
                Poll::Pending => return Err(CommandError::StreamLimit),
                Poll::Ready(Err(_)) => return Err(CommandError::Closed),
                Poll::Ready(Ok(halves)) => halves,
            };
            self.core.open(dir).map_err(refused)?;
            return self.begin(dir, send, recv);
        }
        // Has the peer told that its limit is in the way.
        self.core.open(dir).map_or_else(
            |error| Err(refused(error)),
            |()| Err(CommandError::StreamLimit),
        )
    }

    fn begin(
        &mut self,
        dir: Dir,
        send: quinn::SendStream,
        recv: Option<quinn::RecvStream>,
    ) -> Result<StreamId, CommandError> {
        let id = StreamId::try_from(u64::from(send.id())).map_err(|_| CommandError::StreamLimit)?;
        let signal = match dir {
            Dir::Bi => BIDI_WEBTRANSPORT,
            Dir::Uni => UNI_WEBTRANSPORT,
        };
        let mut header = BytesMut::with_capacity(2 * VarInt::MAX_SIZE);
        signal.encode(&mut header);
        VarInt::from(StreamId::from(self.id)).encode(&mut header);
        let recv = match recv {
            Some(recv) => Half::Open(RecvHalf::new(recv, Bytes::new())),
            None => Half::Absent,
        };
        let slot = self.insert(
            id,
            false,
            Half::Open(SendHalf::new(send, header.freeze())),
            recv,
        );
        self.flush(slot);
        Ok(id)
    }

    pub(in crate::transport) fn send(
        &mut self,
        stream: StreamId,
        data: Bytes,
        fin: bool,
    ) -> Result<(), CommandError> {
        let (limits, buffered) = (self.send_limits(), self.buffered);
        let (slot, send) = self.sending(stream)?;
        let len = data.len();
        if len > limits.room {
            return Err(CommandError::TooLarge);
        }
        if !send.buffer.fits(len, limits, buffered) {
            send.buffer.refuse(len);
            self.starving |= send.buffer.waits_for_session(limits);
            return Err(CommandError::WouldBlock);
        }
        send.buffer.push(data);
        if fin {
            send.buffer.push_fin();
        }
        self.buffered += len;
        self.flush(slot);
        Ok(())
    }

    pub(in crate::transport) fn send_capacity(
        &mut self,
        stream: StreamId,
    ) -> Result<u64, CommandError> {
        let limits = self.send_limits();
        let session_room = limits.all().saturating_sub(self.buffered);
        let (_, send) = self.sending(stream)?;
        let room = limits
            .stream
            .saturating_sub(send.buffer.len())
            .min(session_room);
        Ok(room as u64)
    }

    pub(in crate::transport) fn set_room(&mut self, bytes: usize) {
        self.room = bytes;
        self.feed_starving();
    }

    /// The limits of the send buffers, and the room.
    pub(super) fn send_limits(&self) -> SendLimits {
        SendLimits {
            room: self.room,
            ..self.limits.send_limits()
        }
    }

    pub(in crate::transport) fn finish(&mut self, stream: StreamId) -> Result<(), CommandError> {
        self.send(stream, Bytes::new(), true)
    }

    pub(in crate::transport) fn reset(
        &mut self,
        stream: StreamId,
        code: u32,
    ) -> Result<(), CommandError> {
        let slot = self.slot(stream)?;
        self.stream(slot)?.send.open()?;
        self.give_up_sending(slot, self.codes.encode(AppCode(code)));
        Ok(())
    }

    pub(in crate::transport) fn stop(
        &mut self,
        stream: StreamId,
        code: u32,
    ) -> Result<(), CommandError> {
        let slot = self.slot(stream)?;
        let code = self.codes.encode(AppCode(code));
        let stream = self.stream(slot)?;
        let recv = stream.recv.open()?;
        let dropped = recv.ahead_len();
        recv.stop(code);
        stream.recv = Half::Reset;
        self.ahead -= dropped;
        self.forgive_rest();
        self.release(slot);
        Ok(())
    }

    pub(in crate::transport) fn set_priority(
        &mut self,
        stream: StreamId,
        priority: i32,
    ) -> Result<(), CommandError> {
        let (_, send) = self.sending(stream)?;
        send.set_priority(priority);
        Ok(())
    }

    pub(in crate::transport) fn send_datagram(
        &mut self,
        payload: &[u8],
        memory: &mut BytesMut,
    ) -> Result<(), CommandError> {
        if self.core.is_closed() {
            return Err(CommandError::Closed);
        }
        let quarter = self.id.quarter();
        let len = quarter.size() + payload.len();
        if len > DATAGRAM_MAX {
            return Err(CommandError::TooLarge);
        }
        memory.reserve(len);
        quarter.encode(memory);
        memory.put_slice(payload);
        let datagram = if memory.capacity() == len {
            std::mem::take(memory).freeze() // a split would share it, and keep count of that
        } else {
            memory.split().freeze()
        };
        if self.datagrams_out.is_empty() && self.table.datagrams_have_room(&self.conn, len) {
            return match self.conn.send_datagram(datagram) {
                Ok(()) => {
                    self.counters.datagrams_sent += 1;
                    Ok(())
                }
                Err(quinn::SendDatagramError::TooLarge) => Err(CommandError::TooLarge),
                Err(
                    quinn::SendDatagramError::UnsupportedByPeer
                    | quinn::SendDatagramError::Disabled,
                ) => Err(CommandError::Unsupported),
                Err(quinn::SendDatagramError::ConnectionLost(_)) => Err(CommandError::Closed),
            };
        }
        match self.conn.max_datagram_size() {
            None => return Err(CommandError::Unsupported),
            Some(max) if len > max => return Err(CommandError::TooLarge),
            Some(_) => {}
        }
        if self.datagrams_out.len() >= self.limits.datagrams_out {
            self.counters.datagrams_dropped += 1;
            let Some(oldest) = self.datagrams_out.pop_front() else {
                return Ok(()); // a limit of zero
            };
            self.datagram_bytes_out -= oldest.len();
        }
        self.datagram_bytes_out += len;
        self.datagrams_out.push_back(datagram);
        self.arm_datagrams();
        Ok(())
    }

    pub(in crate::transport) fn drain(&mut self) {
        self.core.drain();
    }

    pub(in crate::transport) fn close(&mut self, code: u32, reason: &str, by: Closer) {
        if !self.core.is_closed() {
            self.closed_by_host = by == Closer::Host;
            self.core.close(code, reason);
        }
    }

    pub(in crate::transport) fn is_closed(&self) -> bool {
        self.core.is_closed()
    }

    pub(in crate::transport) fn is_told(&self) -> bool {
        self.over
    }

    pub(in crate::transport) fn counts(&self) -> Info {
        let counters = self.counters;
        let mut info = Info::default();
        info.streams_bidi = self.own_streams[0] + self.peer_streams[0];
        info.streams_uni = self.own_streams[1] + self.peer_streams[1];
        info.open_credit_bidi = self.core.open_credit(Dir::Bi);
        info.open_credit_uni = self.core.open_credit(Dir::Uni);
        info.send_credit = self.core.send_limit().map(|_| self.core.send_credit());
        info.receive_credit = self.core.receive_credit();
        info.send_buffered = self.buffered as u64;
        info.bytes_sent = counters.bytes_sent;
        info.bytes_received = counters.bytes_received;
        info.datagrams_sent = counters.datagrams_sent;
        info.datagrams_received = counters.datagrams_received;
        info.datagrams_dropped_out = counters.datagrams_dropped;
        info.datagrams_dropped_in = self.datagrams_dropped_in();
        info
    }

    pub(in crate::transport) fn info(&self) -> Info {
        let max_datagram = self.conn.max_datagram_size().unwrap_or(0);
        let max_datagram = max_datagram.saturating_sub(self.id.quarter().size());
        let mut info = self.counts();
        info.rtt = Some(self.conn.rtt());
        info.max_datagram_size = u32::try_from(max_datagram).unwrap_or(u32::MAX);
        info
    }

    pub(in crate::transport) fn export_keying_material(
        &self,
        label: &[u8],
        context: &[u8],
        out: &mut [u8],
    ) -> Result<(), CommandError> {
        if self.core.is_closed() {
            return Err(CommandError::Closed);
        }
        let full = exporter::context(self.id.into(), label, context)?;
        self.conn
            .export_keying_material(out, exporter::LABEL, &full)
            .map_err(|_| CommandError::TooLarge)
    }

    fn slot(&self, stream: StreamId) -> Result<usize, CommandError> {
        if self.core.is_closed() {
            return Err(CommandError::Closed);
        }
        self.slots
            .get(&stream)
            .copied()
            .ok_or(CommandError::UnknownStream)
    }

    fn stream(&mut self, slot: usize) -> Result<&mut Stream, CommandError> {
        self.streams
            .get_mut(slot)
            .ok_or(CommandError::UnknownStream)
    }

    fn sending(&mut self, stream: StreamId) -> Result<(usize, &mut SendHalf), CommandError> {
        let slot = self.slot(stream)?;
        let send = self.stream(slot)?.send.open()?;
        if send.buffer.has_fin() {
            return Err(CommandError::Finished);
        }
        Ok((slot, send))
    }
}

fn refused(error: OpenError) -> CommandError {
    match error {
        OpenError::Limit => CommandError::StreamLimit,
        OpenError::Draining => CommandError::Draining,
        OpenError::Closed => CommandError::Closed,
    }
}
