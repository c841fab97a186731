//! Decides on the request's path whether a session begins, then sends back what the peer sends.
//!
//! `/refuse/<status>` is refused, `/accept/<status>` accepted, each with that status and a field
//! of its own, `/accept/never` never decided on; for `/accept/told` the session that began last gets a datagram first, where
//! the instance is shared. Any other path is accepted with 200. Of the protocols offered the first is chosen.
//! Bidirectional streams and datagrams are echoed; the example `echo` shows the rest.

wit_bindgen::generate!({ path: "../../wit", world: "admitting-handler" });

use std::{cell::RefCell, rc::Rc};

use exports::wharf::webtransport::{admission, callbacks};
use wharf::webtransport::transport::Session;
use wharf::webtransport::types::{
    Acceptance, CloseInfo, Field, Rejection, Request, StreamId, StreamKind,
};

thread_local! {
    static LAST: RefCell<Option<Rc<Session>>> = const { RefCell::new(None) };
}

struct Admitting;
export!(Admitting);

impl admission::Guest for Admitting {
    fn admit(request: Request) -> Result<Acceptance, Rejection> {
        let path = request.path.split('?').next().unwrap_or_default();
        while path.starts_with("/accept/never") {
            std::hint::spin_loop();
        }
        if path == "/accept/told" {
            LAST.with_borrow(|last| last.as_ref().map(|session| session.send_datagram(b"asked")));
        }
        if let Some(status) = status_after("/refuse/", path) {
            let fields = vec![field("x-reason", "refused by the handler")];
            return Err(Rejection { status, fields });
        }
        let (status, fields) = match status_after("/accept/", path) {
            Some(status) => (status, vec![field("x-wharf", "yes")]),
            None => (200, Vec::new()),
        };
        let protocol = request.offered_protocols.into_iter().next();
        Ok(Acceptance {
            status,
            fields,
            protocol,
        })
    }
}

fn status_after(prefix: &str, path: &str) -> Option<u16> {
    path.strip_prefix(prefix)?.parse().ok()
}

fn field(name: &str, value: &str) -> Field {
    (name.to_owned(), value.as_bytes().to_vec())
}

impl callbacks::Guest for Admitting {
    type Handler = Handler;
}

/// One session, held only to answer on it.
struct Handler(Rc<Session>);

impl callbacks::GuestHandler for Handler {
    fn new(session: Session, _request: Request) -> Self {
        let session = Rc::new(session);
        LAST.set(Some(session.clone()));
        Self(session)
    }

    fn on_stream_opened(&self, _id: StreamId, _kind: StreamKind) {}

    fn on_stream_data(&self, id: StreamId, data: Vec<u8>, fin: bool) {
        // Of a peer's uni stream there is no way back: `wrong-direction`.
        let _ = self.0.send(id, &data, fin);
    }

    fn on_stream_reset(&self, id: StreamId, code: Option<u32>) {
        let _ = self.0.reset_stream(id, code.unwrap_or(0));
    }

    fn on_stop_sending(&self, id: StreamId, code: Option<u32>) {
        let _ = self.0.stop_sending(id, code.unwrap_or(0));
    }

    fn on_stream_writable(&self, _id: StreamId) {}

    fn on_stream_closed(&self, _id: StreamId) {}

    fn on_datagram(&self, data: Vec<u8>) {
        let _ = self.0.send_datagram(&data);
    }

    fn on_drain(&self) {}

    fn on_timer(&self, _timer: u64) {}

    fn on_closed(&self, _info: CloseInfo) {}
}
