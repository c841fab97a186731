//! What a session does with its streams: takes them in, fills and flushes them, and says when they are over.

use std::{
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use wharf_proto::{
    code::{AppCode, HttpCode},
    contract::Half,
    id::{Dir, StreamId},
    session::By,
};

use super::{
    session::{FIRST_STREAM, Session, kind},
    stream::{Arrival, Read, RecvHalf, SendEnd, SendHalf, Stream},
};
use crate::transport::Event;

/// Less room than this is not worth a read, unless it is all there is.
const READ_ROOM_MIN: usize = 4 << 10;

impl Session {
    pub(super) fn accept(&mut self, arrival: Arrival) {
        let dir = arrival.id.dir();
        if arrival.reset.is_some() && self.core.accept_credit(dir) == Some(0) {
            return; // a guess that cannot be right: the stream was none of this session's
        }
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
        let recv = match arrival.reset {
            Some(code) => RecvHalf::reset(arrival.recv, code),
            None => RecvHalf::new(arrival.recv, arrival.prefix),
        };
        self.ahead += recv.ahead_len();
        let recv = Half::Open(recv);
        self.insert(arrival.id, true, send, recv);
        self.events.push_back(Event::Opened(arrival.id));
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
        let mut stream = Stream::new(id, by_peer, self.rounds.token(FIRST_STREAM + slot));
        stream.send = send;
        stream.recv = recv;
        self.rounds.again(&stream.token);
        entry.insert(stream);
        self.slots.insert(id, slot);
        self.count(by_peer, id.dir(), true);
        slot
    }

    pub(super) fn poll_stream(&mut self, slot: usize) {
        let Some(stream) = self.streams.get(slot) else {
            return;
        };
        stream.token.disarm();
        let told = self.events.len();
        self.flush(slot);
        self.read(slot);
        let Some(stream) = self.streams.get(slot) else {
            return;
        };
        let Half::Open(send) = &stream.send else {
            return;
        };
        // What woke a stream that is watched may have been its stop.
        if self.events.len() == told || send.is_watched() {
            self.watch_stop(slot);
        } else {
            // Watched when next looked at: the handler may well end the stream before.
            self.rounds.again(&stream.token);
        }
    }

    /// Hands QUIC what it takes of a stream's buffer, and says what follows from that.
    pub(super) fn flush(&mut self, slot: usize) {
        let (limits, before) = (self.send_limits(), self.buffered);
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
            if credit == 0 && !send.buffer.is_empty() {
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
        if send.is_flushed() && send.buffer.has_fin() {
            send.finish();
            stream.send = Half::Finished;
            self.release(slot);
        } else if send.buffer.take_writable(limits, self.buffered) {
            self.events.push_back(Event::Writable(stream.id));
        } else {
            self.starving |= send.buffer.waits_for_session(limits);
        }
        if self.buffered < before {
            self.feed_starving();
        }
    }

    /// Reads once, as much as the send buffers have room for.
    fn read(&mut self, slot: usize) {
        let (limits, waits) = (self.send_limits(), self.limits.reads_wait_for_room);
        let Some(stream) = self.streams.get_mut(slot) else {
            return;
        };
        let Half::Open(recv) = &mut stream.recv else {
            return;
        };
        let stream_room = match &stream.send {
            Half::Open(send) if waits && !send.buffer.has_fin() => {
                limits.stream.saturating_sub(send.buffer.len())
            }
            Half::Open(_) | Half::Absent | Half::Finished | Half::Reset => usize::MAX,
        };
        let session_room = if waits {
            limits.session.saturating_sub(self.buffered)
        } else {
            usize::MAX
        };
        let starving = session_room < READ_ROOM_MIN.min(limits.session);
        // Of a stream that waits for its own room QUIC has the waker, because something waits to be sent.
        if starving || stream_room < READ_ROOM_MIN.min(limits.stream) {
            self.starving |= starving;
            if !self.table.window.is_open() {
                let since = *stream.waits.get_or_insert_with(Instant::now);
                self.await_room(since);
            }
            return;
        }
        stream.waits = None;
        let cx = &mut Context::from_waker(&stream.waker);
        let room = stream_room.min(session_room).max(1);
        let before = recv.ahead_len();
        let found = recv.poll_read(cx, room);
        self.ahead = self.ahead + recv.ahead_len() - before;
        match found {
            Poll::Pending | Poll::Ready(Read::Lost) => {}
            Poll::Ready(Read::Data(data, fin)) => {
                if recv.has_ahead() {
                    self.rounds.again(&stream.token);
                }
                if fin {
                    stream.recv = Half::Finished;
                }
                let stream = stream.id;
                let len = data.len() as u64;
                let rtt = || self.conn.stats().path.min_rtt;
                let grant = |window| self.conn.set_receive_window(window);
                self.pace.took(len, &self.table.window, rtt, grant);
                if self.core.received(len).is_ok() {
                    self.events.push_back(Event::Data { stream, data, fin });
                    self.release(slot);
                }
            }
            Poll::Ready(Read::Reset(code)) => {
                stream.recv = Half::Reset;
                self.events.push_back(Event::Reset(stream.id, code));
                self.forgive_rest();
                self.release(slot);
            }
        }
    }

    /// A stream's receiving direction was cut short. The peer counts what it sent beyond what came here, up to the final
    /// size, which quinn does not tell; so it is given back the most that this can be.
    pub(super) fn forgive_rest(&mut self) {
        let window = self.shared_limits.stream_receive_credit.into();
        let unused = self.core.receive_credit().unwrap_or(0);
        self.core.forgive(unused.min(window));
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

    /// Ends a stream's sending direction, where it has not ended yet.
    pub(super) fn give_up_sending(&mut self, slot: usize, code: HttpCode) {
        let Some(stream) = self.streams.get_mut(slot) else {
            return;
        };
        if stream.send.is_over() {
            return;
        }
        if let Half::Open(send) = std::mem::replace(&mut stream.send, Half::Reset) {
            self.buffered -= send.buffer.len();
            let rest = stream
                .opened
                .and_then(|opened| self.resets.delay(opened, self.conn.rtt()));
            match rest {
                Some(until) => {
                    self.resets.put(until, send, code);
                    self.arm_resets();
                }
                None => send.reset(code),
            }
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

    pub(super) fn drop_streams(&mut self) {
        self.slots.clear();
        for stream in self.streams.drain() {
            stream.abandon(HttpCode::WT_SESSION_GONE);
        }
        self.resets.flush();
        (self.buffered, self.ahead, self.datagram_bytes_out) = (0, 0, 0);
        self.datagrams_out.clear();
        self.own_streams = [0; 2];
        let open = std::mem::take(&mut self.peer_streams).iter().sum();
        self.table.peer_streams.closed(open);
        self.table.end(self.id);
    }

    /// Has the streams looked at that wait for room in the session's buffer.
    pub(super) fn feed_starving(&mut self) {
        if self.starving && self.buffered <= self.send_limits().session / 2 {
            self.starving = false;
            self.arm_streams();
        }
    }

    pub(super) fn arm_streams(&mut self) {
        for (_, stream) in &self.streams {
            self.rounds.again(&stream.token);
        }
    }

    pub(super) fn count(&mut self, by_peer: bool, dir: Dir, open: bool) {
        let counts = if by_peer {
            &mut self.peer_streams
        } else {
            &mut self.own_streams
        };
        let count = &mut counts[kind(dir)];
        *count = if open { *count + 1 } else { *count - 1 };
        if by_peer && !open {
            self.table.peer_streams.closed(1);
        }
    }
}
