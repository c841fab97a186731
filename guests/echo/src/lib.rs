//! Sends back what the peer sends: streams of both kinds, and datagrams.
//!
//! A bidirectional stream is answered piece by piece on itself. A unidirectional one is collected,
//! and answered whole on a new unidirectional stream when it ends.

wit_bindgen::generate!({ path: "../../wit", world: "batching-handler" });

use exports::wharf::webtransport::batches;
use exports::wharf::webtransport::callbacks::{
    CloseInfo, Guest, GuestHandler, HandlerBorrow, Request, StreamId, StreamKind,
};
use std::cell::RefCell;
use std::collections::BTreeMap;
use wharf::webtransport::transport::{Error, Session};

struct Echo;
export!(Echo);

impl Guest for Echo {
    type Handler = Handler;
}

impl batches::Guest for Echo {
    fn on_datagrams(handler: HandlerBorrow<'_>, data: Vec<u8>, sizes: Vec<u32>) {
        let handler: &Handler = handler.get();
        let _ = handler.session.send_datagrams(&data, &sizes);
    }
}

/// One session.
///
/// An error of a session function is no fault here: a stream may be reset, or the session lost,
/// at any moment, and then there is nobody left to answer.
struct Handler {
    session: Session,
    /// Of the peer's uni streams, what came so far; of our own, the answer that waits for room.
    uni: RefCell<BTreeMap<StreamId, Vec<u8>>>,
}

impl GuestHandler for Handler {
    fn new(session: Session, _request: Request) -> Self {
        let uni = RefCell::default();
        Self { session, uni }
    }

    fn on_stream_opened(&self, id: StreamId, kind: StreamKind) {
        if kind == StreamKind::Uni {
            self.uni.borrow_mut().insert(id, Vec::new());
        }
    }

    fn on_stream_data(&self, id: StreamId, data: Vec<u8>, fin: bool) {
        let mut uni = self.uni.borrow_mut();
        let Some(collected) = uni.get_mut(&id) else {
            // Never `would-block`: the host delivers a piece only when there is room for its echo.
            let _ = self.session.send(id, &data, fin);
            return;
        };
        collected.extend(data);
        if fin && let Ok(answer) = self.session.open_stream(StreamKind::Uni) {
            let whole = std::mem::take(collected);
            uni.insert(answer, whole);
            drop(uni);
            self.on_stream_writable(answer);
        }
    }

    fn on_stream_reset(&self, id: StreamId, code: Option<u32>) {
        // The echo ends as its original did. Without this a bidirectional stream stays half open.
        let _ = self.session.reset_stream(id, code.unwrap_or(0));
    }

    fn on_stop_sending(&self, id: StreamId, code: Option<u32>) {
        // Nobody reads the echo, so the original is of no use either.
        let _ = self.session.stop_sending(id, code.unwrap_or(0));
    }

    fn on_stream_writable(&self, id: StreamId) {
        let mut uni = self.uni.borrow_mut();
        if let Some(answer) = uni.get(&id)
            && !matches!(self.session.send(id, answer, true), Err(Error::WouldBlock))
        {
            uni.remove(&id);
        }
    }

    fn on_stream_closed(&self, id: StreamId) {
        self.uni.borrow_mut().remove(&id);
    }

    fn on_datagram(&self, _data: Vec<u8>) {} // they come by the batch

    fn on_drain(&self) {}

    fn on_timer(&self, _timer: u64) {}

    fn on_closed(&self, _info: CloseInfo) {}
}
