//! What may be asked of a capsule session between two events. Nothing here waits.

use std::mem;

use bytes::Bytes;

use super::Mux;
use crate::{
    contract::{Closer, CommandError, Half},
    id::{Dir, StreamId},
    session::OpenError,
};

impl Mux {
    /// Opens a stream. The peer learns of it before any data.
    ///
    /// # Errors
    ///
    /// `StreamLimit`, where the peer or our limit allows no other; `Draining`; `Closed`.
    pub fn open(&mut self, dir: Dir) -> Result<StreamId, CommandError> {
        if self.core.is_closed() {
            return Err(CommandError::Closed);
        }
        let limit = self.config.limits.streams_per_kind;
        if !self.core.is_draining_locally() && *self.own_streams.get(dir) >= limit {
            return Err(CommandError::StreamLimit);
        }
        self.core.open(dir).map_err(|error| match error {
            OpenError::Limit => CommandError::StreamLimit,
            OpenError::Draining => CommandError::Draining,
            OpenError::Closed => CommandError::Closed,
        })?;
        let next = self.next_own.get_mut(dir);
        let id = StreamId::new(self.config.side, dir, *next).ok_or(CommandError::StreamLimit)?;
        *next = next.saturating_add(1);
        self.insert(id, false);
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.announce = true;
        }
        self.list_news(id);
        Ok(id)
    }

    /// Sends bytes, and FIN after them where `fin` is set: all or nothing.
    ///
    /// # Errors
    ///
    /// `WouldBlock`, where the buffer of the stream or of the session has no room; [`Event::Writable`] follows. `TooLarge`,
    /// where it is more than the whole room. `UnknownStream`, `WrongDirection`, `Finished`, `Reset`, `Closed`.
    ///
    /// [`Event::Writable`]: crate::contract::Event::Writable
    pub fn send(&mut self, id: StreamId, data: Bytes, fin: bool) -> Result<(), CommandError> {
        let (limits, buffered) = (self.config.limits.send, self.buffered);
        let buffer = self.sending(id)?;
        let len = data.len();
        if len > limits.room {
            return Err(CommandError::TooLarge);
        }
        if !buffer.fits(len, limits, buffered) {
            buffer.refuse(len);
            if buffer.waits_for_session(limits) {
                self.list_starved(id);
            }
            return Err(CommandError::WouldBlock);
        }
        buffer.push(data);
        if fin {
            buffer.push_fin();
        }
        self.buffered = self.buffered.saturating_add(len);
        self.list_ready(id);
        if fin {
            self.list_news(id);
            self.feed(id); // what comes in need not wait for the buffer any more
        }
        Ok(())
    }

    /// How many bytes [`send`](Self::send) would take now, within the limits. An empty buffer takes more.
    ///
    /// # Errors
    ///
    /// `UnknownStream`, `WrongDirection`, `Finished`, `Reset`, `Closed`.
    pub fn send_capacity(&mut self, id: StreamId) -> Result<u64, CommandError> {
        let limits = self.config.limits.send;
        let session_room = limits.all().saturating_sub(self.buffered);
        let buffer = self.sending(id)?;
        Ok(limits.stream.saturating_sub(buffer.len()).min(session_room) as u64)
    }

    /// Sets how many bytes the send buffers of all streams may come to by what is sent from now on, beside
    /// [`SendLimits::session`], of which it takes the place of [`SendLimits::room`]. What waits already stays.
    ///
    /// [`SendLimits::session`]: crate::buffer::SendLimits::session
    /// [`SendLimits::room`]: crate::buffer::SendLimits::room
    pub fn set_room(&mut self, bytes: usize) {
        self.config.limits.send.room = bytes;
        self.feed_starved();
    }

    /// Ends the sending direction with FIN, after what was sent before.
    ///
    /// # Errors
    ///
    /// `UnknownStream`, `WrongDirection`, `Finished`, `Reset`, `Closed`.
    pub fn finish(&mut self, id: StreamId) -> Result<(), CommandError> {
        self.send(id, Bytes::new(), true)
    }

    /// Gives up the sending direction.
    ///
    /// # Errors
    ///
    /// `UnknownStream`, `WrongDirection`, `Finished` when all is on its way, `Reset` when done before, `Closed`.
    pub fn reset(&mut self, id: StreamId, code: u32) -> Result<(), CommandError> {
        self.stream(id)?.send.open()?;
        self.give_up_sending(id, code);
        Ok(())
    }

    /// Gives up the receiving direction.
    ///
    /// # Errors
    ///
    /// `UnknownStream`, `WrongDirection`, `Finished`, `Reset` when done before, `Closed`.
    pub fn stop(&mut self, id: StreamId, code: u32) -> Result<(), CommandError> {
        let stream = self.stream(id)?;
        let dropped = stream.recv.open()?.buffer.clear();
        stream.recv = Half::Reset;
        if !stream.peer_ended {
            stream.stop = Some(code);
        }
        self.list_news(id);
        self.consumed(id, dropped as u64);
        self.release(id);
        Ok(())
    }

    /// Sets a stream's priority among those of the session; higher goes first, 0 is the default.
    ///
    /// # Errors
    ///
    /// `UnknownStream`, `WrongDirection`, `Finished`, `Reset`, `Closed`.
    pub fn set_priority(&mut self, id: StreamId, priority: i32) -> Result<(), CommandError> {
        self.sending(id)?;
        let stream = self.stream(id)?;
        if mem::replace(&mut stream.priority, priority) != priority
            && let Some(turn) = stream.turn.take()
        {
            self.ready.remove(&turn);
            self.list_ready(id);
        }
        Ok(())
    }

    /// Sends a datagram. Where too many wait, or they are too long together, the oldest is dropped and counted.
    ///
    /// # Errors
    ///
    /// `TooLarge`, `Closed`.
    pub fn send_datagram(&mut self, payload: &[u8]) -> Result<(), CommandError> {
        let limits = self.config.limits;
        if self.core.is_closed() {
            return Err(CommandError::Closed);
        }
        if payload.len() > limits.datagram_bytes {
            return Err(CommandError::TooLarge);
        }
        while self.datagrams_out.len() >= limits.datagrams_out
            || self.datagram_bytes_out.saturating_add(payload.len()) > limits.send.session
        {
            self.counters.dropped_out = self.counters.dropped_out.saturating_add(1);
            let Some(dropped) = self.datagrams_out.pop_front() else {
                return Ok(()); // no limit lets it wait
            };
            self.datagram_bytes_out = self.datagram_bytes_out.saturating_sub(dropped.len());
        }
        self.datagram_bytes_out = self.datagram_bytes_out.saturating_add(payload.len());
        self.datagrams_out
            .push_back(Bytes::copy_from_slice(payload));
        Ok(())
    }

    /// Asks the peer to bring the session to its end, and opens no further streams. It closes with code 0 when its last
    /// stream ends.
    pub fn drain(&mut self) {
        self.core.drain();
        self.take_core_events();
    }

    /// Asks both the peer and the application to bring the session to its end, each once, and goes on as before: the
    /// host's wish.
    pub fn ask_to_drain(&mut self) {
        self.core.ask_to_drain();
        self.peer_drains();
    }

    /// Tells the application that the session is to end, where it was not told before: the peer has said so, and not in
    /// a capsule.
    pub fn peer_drains(&mut self) {
        if !self.core.is_closed() {
            self.tell_draining();
        }
    }

    /// Ends the session. A second call does nothing. [`Event::Closed`] follows.
    ///
    /// [`Event::Closed`]: crate::contract::Event::Closed
    pub fn close(&mut self, code: u32, reason: &str, by: Closer) {
        if !self.core.is_closed() {
            self.closed_by_host = by == Closer::Host;
            self.core.close(code, reason);
            self.take_core_events();
        }
    }

    /// Ends a stream's sending direction, where it goes on.
    pub(super) fn give_up_sending(&mut self, id: StreamId, code: u32) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        if let Half::Open(sending) = mem::replace(&mut stream.send, Half::Reset) {
            stream.reset = Some(code);
            if let Some(turn) = stream.turn.take() {
                self.ready.remove(&turn);
            }
            self.buffered = self.buffered.saturating_sub(sending.buffer.len());
            self.list_news(id);
            // What waited for room in the send buffer need not wait any more.
            self.feed(id);
            self.feed_starved();
        }
    }

    fn stream(&mut self, id: StreamId) -> Result<&mut super::Stream, CommandError> {
        if self.core.is_closed() {
            return Err(CommandError::Closed);
        }
        self.streams.get_mut(&id).ok_or(CommandError::UnknownStream)
    }

    /// The buffer of a sending direction that takes more.
    fn sending(&mut self, id: StreamId) -> Result<&mut crate::buffer::SendBuffer, CommandError> {
        let buffer = &mut self.stream(id)?.send.open()?.buffer;
        if buffer.has_fin() {
            return Err(CommandError::Finished);
        }
        Ok(buffer)
    }
}
