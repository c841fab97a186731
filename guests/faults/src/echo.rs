//! Sends back streams and datagrams, and keeps for later what a stream has no room for.

use crate::behaviour::Behaviour;
use crate::bindings::wharf::webtransport::types::{Error, StreamId, StreamKind};
use crate::report;
use crate::scene::Scene;
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Bidirectional streams are answered on themselves, unidirectional ones whole on a new one.
#[derive(Default)]
pub(crate) struct Echo {
    /// Of the peer's uni streams, what came so far.
    collected: RefCell<BTreeMap<StreamId, Vec<u8>>>,
    /// What waits for room. Never empty: FIN alone always fits.
    waiting: RefCell<BTreeMap<StreamId, Rest>>,
}

struct Rest {
    data: Vec<u8>,
    fin: bool,
}

impl Echo {
    /// Sends the data, or keeps it: behind what waits already, so that the order stays.
    fn offer(&self, scene: &Scene, id: StreamId, data: &[u8], fin: bool) {
        let mut waiting = self.waiting.borrow_mut();
        if let Some(rest) = waiting.get_mut(&id) {
            rest.data.extend_from_slice(data);
            rest.fin = fin;
            return;
        }
        match scene.session.send(id, data, fin) {
            Err(Error::WouldBlock) => {
                report::would_block(id);
                let data = data.to_vec();
                waiting.insert(id, Rest { data, fin });
            }
            result => report::outcome("send", result),
        }
    }
}

impl Behaviour for Echo {
    fn opened(&self, _scene: &Scene, id: StreamId, kind: StreamKind) {
        if kind == StreamKind::Uni {
            self.collected.borrow_mut().insert(id, Vec::new());
        }
    }

    fn data(&self, scene: &Scene, id: StreamId, data: &[u8], fin: bool) {
        let mut streams = self.collected.borrow_mut();
        let Some(collected) = streams.get_mut(&id) else {
            return self.offer(scene, id, data, fin);
        };
        collected.extend_from_slice(data);
        if fin {
            match scene.session.open_stream(StreamKind::Uni) {
                Ok(answer) => self.offer(scene, answer, collected, true),
                Err(error) => report::outcome::<()>("open-stream", Err(error)),
            }
            streams.remove(&id);
        }
    }

    fn reset(&self, scene: &Scene, id: StreamId, code: Option<u32>) {
        self.stream_closed(id);
        // A peer's uni stream has no direction to reset; a bidi one would stay half open.
        let _ = scene.session.reset_stream(id, code.unwrap_or(0));
    }

    fn stopped(&self, scene: &Scene, id: StreamId, code: Option<u32>) {
        self.stream_closed(id);
        let _ = scene.session.stop_sending(id, code.unwrap_or(0));
    }

    fn writable(&self, scene: &Scene, id: StreamId) {
        let Some(Rest { data, fin }) = self.waiting.borrow_mut().remove(&id) else {
            return;
        };
        // The first part fills the room that there is. The second then meets `would-block`, which
        // asks for the next callback.
        let room = scene.session.send_capacity(id).unwrap_or(0);
        let split = usize::try_from(room).map_or(data.len(), |room| room.min(data.len()));
        let (now, later) = data.split_at(split);
        if later.is_empty() {
            return self.offer(scene, id, now, fin);
        }
        self.offer(scene, id, now, false);
        self.offer(scene, id, later, fin);
    }

    fn stream_closed(&self, id: StreamId) {
        self.collected.borrow_mut().remove(&id);
        self.waiting.borrow_mut().remove(&id);
    }

    fn datagram(&self, scene: &Scene, data: &[u8]) {
        report::outcome("send-datagram", scene.session.send_datagram(data));
    }
}
