//! A chat: a room for each path, people with names, and the last messages for who comes late.
//!
//! A session is a person in a room: `/harbour?name=Ann` is Ann, in the room `/harbour`. The person opens one bidirectional
//! stream. Lines of text on it are what they say; what happens in the room comes back as lines of JSON, each an
//! `room::Event`. A datagram, with whatever in it, tells that they type just now, and reaches the others as a
//! datagram with the name: if one is lost, the next will do.
//!
//! Rooms are plain values in the memory of the one instance that all sessions share. With an instance for each session it
//! works too, and everybody is alone.

wit_bindgen::generate!({ path: "../../wit", world: "session-handler" });

use exports::wharf::webtransport::callbacks::{
    CloseInfo, Guest, GuestHandler, Request, StreamId, StreamKind,
};
use room::{Person, enter, in_room, leave, say};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use wharf::webtransport::transport::Session;

mod room;

/// The longest message, in bytes.
const MESSAGE_MAX: usize = 1000;
/// The longest name, in characters.
const NAME_MAX: usize = 32;

/// Why the handler closes a session or gives up a stream; 0 where the person left.
const TOO_LONG: u32 = 1;
const ROOM_FULL: u32 = 2;
const ONE_STREAM_ONLY: u32 = 3;
const GOING_AWAY: u32 = 4;
const NO_MEMORY: u32 = 5;

struct Chat;
export!(Chat);

impl Guest for Chat {
    type Handler = Handler;
}

/// One session.
///
/// An error of a session function is no fault here: the session may be lost at any moment, and
/// `on_closed` tells of it.
struct Handler {
    session: Rc<Session>,
    id: u64,
    /// The path.
    room: String,
    /// The name that was asked for.
    name: String,
    /// The person's stream, once they have opened it: they are in the room from then on.
    stream: Cell<Option<StreamId>>,
    /// What came so far of the line that is not complete yet.
    line: RefCell<Vec<u8>>,
}

impl GuestHandler for Handler {
    fn new(session: Session, request: Request) -> Self {
        let (room, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        Self {
            id: session.id(),
            session: Rc::new(session),
            room: room.to_owned(),
            name: name(query),
            stream: Cell::default(),
            line: RefCell::default(),
        }
    }

    fn on_stream_opened(&self, id: StreamId, kind: StreamKind) {
        if kind == StreamKind::Uni || self.stream.get().is_some() {
            let _ = self.session.stop_sending(id, ONE_STREAM_ONLY);
            let _ = self.session.reset_stream(id, ONE_STREAM_ONLY);
            return;
        }
        self.stream.set(Some(id));
        let person = Person::new(self.session.clone(), id, &self.name);
        if !enter(&self.room, self.id, person) {
            self.session.close(ROOM_FULL, "the room is full");
        }
    }

    fn on_stream_data(&self, id: StreamId, data: Vec<u8>, fin: bool) {
        if self.stream.get() != Some(id) {
            return;
        }
        let mut line = self.line.borrow_mut();
        for piece in data.split_inclusive(|byte| *byte == b'\n') {
            line.extend_from_slice(piece);
            let text = line.strip_suffix(b"\n");
            if text.unwrap_or(&line).len() > MESSAGE_MAX {
                let reason = format!("a message has {MESSAGE_MAX} bytes at most");
                self.session.close(TOO_LONG, &reason);
                return;
            }
            if let Some(text) = text {
                let text = printable(&String::from_utf8_lossy(text));
                if !text.is_empty() {
                    say(&self.room, self.id, &text);
                }
                line.clear();
            }
        }
        if fin {
            self.session.close(0, "");
        }
    }

    fn on_stream_reset(&self, id: StreamId, _code: Option<u32>) {
        if self.stream.get() == Some(id) {
            self.session.close(0, "");
        }
    }

    fn on_stop_sending(&self, id: StreamId, code: Option<u32>) {
        self.on_stream_reset(id, code);
    }

    fn on_stream_writable(&self, _id: StreamId) {
        in_room(&self.room, |room| room.catch_up(self.id));
    }

    fn on_stream_closed(&self, _id: StreamId) {}

    fn on_datagram(&self, _data: Vec<u8>) {
        in_room(&self.room, |room| room.typing(self.id));
    }

    fn on_drain(&self) {
        // A chat never ends by itself. Who is told now can come back before the server is gone.
        self.session.close(GOING_AWAY, "the server goes away");
    }

    fn on_timer(&self, _timer: u64) {}

    fn on_closed(&self, _info: CloseInfo) {
        leave(&self.room, self.id);
    }
}

/// The name that a query asks for, fit to be shown.
fn name(query: &str) -> String {
    let asked = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "name");
    let name = asked.map(|(_, name)| printable(&name)).unwrap_or_default();
    let name: String = name.chars().take(NAME_MAX).collect();
    match name.trim_end() {
        "" => "guest".to_owned(),
        name => name.to_owned(),
    }
}

/// The text without control characters, and without white space around it.
fn printable(text: &str) -> String {
    let kept: String = text.chars().filter(|char| !char.is_control()).collect();
    kept.trim().to_owned()
}
