//! Commits the fault, or gives the report, that the request path names, and tells every callback
//! on stderr.
//!
//! A path is `/<name>/<anything>`, optionally with arguments, `?key=value&…`; `behaviour` has the
//! table of names. The name may stand behind `/quiet`: then data and datagrams are not told, of
//! which there may be very many. A callback is one line, in the words of the WIT:
//!
//! ```text
//! constructed <path>
//! opened <id> bidi|uni
//! data <id> <length> fin|more
//! reset <id> <code>|none
//! stop <id> <code>|none
//! writable <id>
//! stream-closed <id>
//! datagram <length>
//! drain
//! timer <timer>
//! closed <code> local|peer|host clean|unclean <reason, quoted as in Rust>
//! ```
//!
//! A send that finds no room is told as `would-block <id>`, another session function that fails as
//! `error <function> <error>`.

mod behaviour;
mod echo;
mod misuse;
mod reach;
mod replies;
mod report;
mod scene;
mod sending;
mod sins;
mod timers;

mod bindings {
    wit_bindgen::generate!({ path: "../../wit", world: "session-handler" });
}

use behaviour::Behaviour;
use bindings::exports::wharf::webtransport::callbacks::{
    CloseInfo, Guest, GuestHandler, Request, StreamId, StreamKind,
};
use bindings::wharf::webtransport::transport::Session;
use scene::Scene;

struct Faults;
bindings::export!(Faults with_types_in bindings);

impl Guest for Faults {
    type Handler = Handler;
}

/// One session: tells what it is told, then lets the behaviour act.
struct Handler {
    scene: Scene,
    behaviour: Box<dyn Behaviour>,
}

impl GuestHandler for Handler {
    fn new(session: Session, request: Request) -> Self {
        report::line(&format!("constructed {}", request.path));
        let scene = Scene::new(session, request);
        let behaviour = behaviour::named(&scene.name);
        behaviour.constructed(&scene);
        Self { scene, behaviour }
    }

    fn on_stream_opened(&self, id: StreamId, kind: StreamKind) {
        let kind_name = match kind {
            StreamKind::Bidi => "bidi",
            StreamKind::Uni => "uni",
        };
        report::line(&format!("opened {id} {kind_name}"));
        self.behaviour.opened(&self.scene, id, kind);
    }

    fn on_stream_data(&self, id: StreamId, data: Vec<u8>, fin: bool) {
        if !self.scene.quiet {
            let last = if fin { "fin" } else { "more" };
            report::line(&format!("data {id} {} {last}", data.len()));
        }
        self.behaviour.data(&self.scene, id, &data, fin);
    }

    fn on_stream_reset(&self, id: StreamId, code: Option<u32>) {
        report::line(&format!("reset {id} {}", report::or_none(code)));
        self.behaviour.reset(&self.scene, id, code);
    }

    fn on_stop_sending(&self, id: StreamId, code: Option<u32>) {
        report::line(&format!("stop {id} {}", report::or_none(code)));
        self.behaviour.stopped(&self.scene, id, code);
    }

    fn on_stream_writable(&self, id: StreamId) {
        report::line(&format!("writable {id}"));
        self.behaviour.writable(&self.scene, id);
    }

    fn on_stream_closed(&self, id: StreamId) {
        report::line(&format!("stream-closed {id}"));
        self.behaviour.stream_closed(id);
    }

    fn on_datagram(&self, data: Vec<u8>) {
        if !self.scene.quiet {
            report::line(&format!("datagram {}", data.len()));
        }
        self.behaviour.datagram(&self.scene, &data);
    }

    fn on_drain(&self) {
        report::line("drain");
        self.behaviour.drain();
    }

    fn on_timer(&self, timer: u64) {
        report::line(&format!("timer {timer}"));
        self.behaviour.timer(&self.scene);
    }

    fn on_closed(&self, info: CloseInfo) {
        report::closed(&info);
        self.behaviour.closed();
    }
}
