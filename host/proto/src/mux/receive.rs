//! What the peer's capsules do to the streams of a session.

use bytes::Bytes;

use super::{End, Mux};
use crate::{
    capsule::Capsule,
    code::{HttpCode, Violation},
    contract::{Event, Half},
    id::{Dir, StreamId},
    varint::VarInt,
};

impl Mux {
    /// Takes bytes of the CONNECT stream, in pieces of any size. The work, and the events, are bounded by their number.
    pub fn receive(&mut self, bytes: Bytes) {
        self.core.push(bytes);
        while let Some(capsule) = self.core.poll_capsule() {
            if let Err(violation) = self.take(capsule) {
                self.core.fail(violation);
            }
        }
        self.take_core_events();
    }

    /// Takes the end of the CONNECT stream. Without a capsule that closes, it means code 0 and no reason.
    pub fn receive_fin(&mut self) {
        self.core.receive_fin();
        self.take_core_events();
    }

    /// Takes the peer's reset of the CONNECT stream.
    pub fn receive_abort(&mut self, reason: &str) {
        self.core.receive_abort(reason);
        self.take_core_events();
    }

    /// Takes the end of the connection. Nothing more is transmitted.
    pub fn connection_lost(&mut self, code: u32, reason: &str) {
        self.core.connection_lost(code, reason);
        self.take_core_events();
    }

    fn take(&mut self, capsule: Capsule) -> Result<(), Violation> {
        match capsule {
            Capsule::Stream { stream, data, fin } => {
                let id = self.id(stream);
                self.take_data(id, data, fin)
            }
            Capsule::ResetStream {
                stream,
                code,
                reliable_size,
            } => {
                let id = self.id(stream);
                self.take_reset(id, code, reliable_size)
            }
            Capsule::StopSending { stream, code } => {
                let id = self.id(stream);
                self.take_stop(id, code)
            }
            Capsule::MaxStreamData { stream, limit } => {
                let id = self.id(stream);
                let receives_only = id.dir() == Dir::Uni && id.initiator() != self.config.side;
                if self.config.swapped_ids && receives_only {
                    return Ok(()); // it grants credit for every stream that it opens
                }
                self.take_max_data(id, limit)
            }
            Capsule::StreamDataBlocked { stream, .. } => {
                // More is granted as it is used up, whether or not the peer says that it waits.
                let id = self.id(stream);
                self.touch(id, Direction::Receive).map(drop)
            }
            Capsule::Datagram(datagram) => {
                self.take_datagram(datagram);
                Ok(())
            }
            Capsule::Close { .. }
            | Capsule::Drain
            | Capsule::MaxData(_)
            | Capsule::MaxStreams(..)
            | Capsule::DataBlocked(_)
            | Capsule::StreamsBlocked(..) => Ok(()), // taken by the core
        }
    }

    /// Whose stream an id on the wire names, and the other way round.
    pub(super) fn id(&self, wire: StreamId) -> StreamId {
        if self.config.swapped_ids {
            wire.swapped()
        } else {
            wire
        }
    }

    fn take_data(&mut self, id: StreamId, data: Bytes, fin: bool) -> Result<(), Violation> {
        let Some(()) = self.touch(id, Direction::Receive)? else {
            return Err(state("data on a stream that is over"));
        };
        let n = data.len() as u64;
        let Some(stream) = self.streams.get_mut(&id) else {
            return Ok(());
        };
        if stream.peer_ended {
            return Err(state("data after a stream's end"));
        }
        let within = stream.receive_credit.receive(n);
        within.map_err(|_| flow("more data than was granted for a stream"))?;
        self.core.received(n)?;
        stream.peer_ended = fin;
        match &mut stream.recv {
            Half::Open(receiving) => {
                receiving.buffer.push(data);
                receiving.end = fin.then_some(End::Fin);
                if n > 0 || fin {
                    self.list_readable(id);
                }
                if fin {
                    self.list_news(id); // no further credit
                }
            }
            // Stopped by us: what is still on its way counts as used.
            Half::Absent | Half::Finished | Half::Reset => {
                self.consumed(id, n);
                self.release(id);
            }
        }
        Ok(())
    }

    /// WT-H2, "WT_RESET_STREAM Capsule".
    fn take_reset(
        &mut self,
        id: StreamId,
        code: u32,
        reliable_size: Option<VarInt>,
    ) -> Result<(), Violation> {
        let Some(()) = self.touch(id, Direction::Receive)? else {
            return Err(state("reset of a stream that is over"));
        };
        let Some(stream) = self.streams.get_mut(&id) else {
            return Ok(());
        };
        if stream.peer_ended {
            return Err(state("reset after a stream's end"));
        }
        let received = stream.receive_credit.received();
        if reliable_size.is_some_and(|size| size.into_inner() != received) {
            return Err(state("reliable size that differs from what was sent"));
        }
        stream.peer_ended = true;
        if let Half::Open(receiving) = &mut stream.recv {
            receiving.end = Some(End::Reset(code));
            self.list_readable(id);
            self.list_news(id);
        } else {
            self.release(id);
        }
        Ok(())
    }

    /// WT-H2, "WT_STOP_SENDING Capsule".
    fn take_stop(&mut self, id: StreamId, code: u32) -> Result<(), Violation> {
        let Some(()) = self.touch(id, Direction::Send)? else {
            return Ok(()); // it crossed the stream's end
        };
        let Some(stream) = self.streams.get_mut(&id) else {
            return Ok(());
        };
        if std::mem::replace(&mut stream.peer_stopped, true) {
            return Err(state("second stop of a stream"));
        }
        if !stream.send.is_over() {
            self.events.push_back(Event::Stopped(id, Some(code)));
            // The peer's code goes back (RFC 9000, "Solicited State Transitions").
            self.give_up_sending(id, code);
        }
        Ok(())
    }

    fn take_max_data(&mut self, id: StreamId, limit: VarInt) -> Result<(), Violation> {
        let Some(()) = self.touch(id, Direction::Send)? else {
            return Ok(());
        };
        let Some(stream) = self.streams.get_mut(&id) else {
            return Ok(());
        };
        let Half::Open(sending) = &mut stream.send else {
            return Ok(());
        };
        if limit.into_inner() == sending.credit.limit() {
            return Ok(());
        }
        let raised = sending.credit.raise(limit.into_inner());
        raised.map_err(|_| flow("limit of a stream that decreases"))?;
        self.list_ready(id);
        self.list_news(id); // nothing holds it up
        Ok(())
    }

    fn take_datagram(&mut self, datagram: Bytes) {
        if self.datagrams_in.len() >= self.config.limits.datagrams_in {
            self.counters.dropped_in = self.counters.dropped_in.saturating_add(1);
            let Some(oldest) = self.datagrams_in.pop_front() else {
                return; // a limit of zero
            };
            self.datagram_bytes_in = self.datagram_bytes_in.saturating_sub(oldest.len());
        }
        self.datagram_bytes_in = self.datagram_bytes_in.saturating_add(datagram.len());
        // One that nobody has taken yet may pin a whole read of the transport.
        self.datagrams_in
            .push_back(match self.datagrams_in.is_empty() {
                true => datagram,
                false => Bytes::copy_from_slice(&datagram),
            });
    }

    /// Looks for a stream, and has the peer's opened, and all of the peer's before it, where it is new. `None` says that
    /// it is over.
    fn touch(&mut self, id: StreamId, direction: Direction) -> Result<Option<()>, Violation> {
        let dir = id.dir();
        let ours = id.initiator() == self.config.side;
        let lawful = match direction {
            Direction::Receive => dir == Dir::Bi || !ours,
            Direction::Send => dir == Dir::Bi || ours,
        };
        if !lawful {
            return Err(state("capsule for a direction that its stream lacks"));
        }
        if ours && id.index() >= *self.next_own.get(dir) {
            return Err(state("capsule for a stream that was never opened"));
        }
        while !ours && *self.next_peer.get(dir) <= id.index() {
            // Ends by the credit for streams, however high the id.
            self.core.accept(dir)?;
            let next = self.next_peer.get_mut(dir);
            let index = *next;
            *next = index.saturating_add(1);
            if let Some(opened) = StreamId::new(self.config.side.other(), dir, index) {
                self.insert(opened, true);
                self.events.push_back(Event::Opened(opened));
            }
        }
        Ok(self.streams.contains_key(&id).then_some(()))
    }
}

/// Which direction of a stream a capsule is about.
#[derive(Copy, Clone)]
enum Direction {
    Receive,
    Send,
}

/// WT_STREAM_STATE_ERROR of WT-H2 has no number yet; the reason tells the peer.
const fn state(reason: &'static str) -> Violation {
    Violation {
        code: HttpCode::H3_MESSAGE_ERROR,
        reason,
    }
}

const fn flow(reason: &'static str) -> Violation {
    Violation {
        code: HttpCode::WT_FLOW_CONTROL_ERROR,
        reason,
    }
}
