//! The rooms: who is in each, and what was said there last.
//!
//! Nothing waits here for a slow reader. What does not fit into a person's stream is left out, and when there is room
//! again they are given the room anew: who is in it, and the history.

use crate::wharf::webtransport::transport::{Error, Session};
use crate::{NO_MEMORY, StreamId};
use serde::Serialize;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Messages that a room remembers.
const HISTORY: usize = 50;
/// Bytes of the messages that all rooms together remember. An instance has 64 MiB by default, for people too.
const HISTORIES_MAX: usize = 8 << 20;
/// People in a room; each message goes to every one of them.
const PEOPLE_MAX: usize = 100;

thread_local! {
    /// The rooms by their paths. A room is made by who enters first, and forgotten when the last one leaves.
    static ROOMS: RefCell<BTreeMap<String, Room>> = RefCell::default();
    /// Bytes of the messages that are remembered.
    static REMEMBERED: Cell<usize> = const { Cell::new(0) };
}

/// Lets a person into a room; false where it is full.
pub fn enter(path: &str, id: u64, person: Person) -> bool {
    ROOMS.with_borrow_mut(|rooms| rooms.entry(path.to_owned()).or_default().enter(id, person))
}

/// Does something in a room, where there is one at that path.
pub fn in_room(path: &str, act: impl FnOnce(&mut Room)) {
    ROOMS.with_borrow_mut(|rooms| rooms.get_mut(path).map(act));
}

/// Tells everybody in a room, and remembers it for who comes later. What was said first, in whichever room, is forgotten
/// for it.
pub fn say(path: &str, id: u64, text: &str) {
    ROOMS.with_borrow_mut(|rooms| {
        if let Some(room) = rooms.get_mut(path) {
            room.say(id, text);
        }
        while REMEMBERED.get() > HISTORIES_MAX {
            let first = |room: &Room| room.history.front().map(|said| said.at);
            let rooms = rooms.values_mut().filter(|room| first(room).is_some());
            let Some(room) = rooms.min_by_key(|room| first(room)) else {
                return;
            };
            room.history.pop_front();
        }
    });
}

/// Takes a person out of a room, if they are there.
pub fn leave(path: &str, id: u64) {
    ROOMS.with_borrow_mut(|rooms| {
        let Some(room) = rooms.get_mut(path) else {
            return;
        };
        room.leave(id);
        if room.people.is_empty() {
            rooms.remove(path);
        }
    });
}

/// What a person is told: a line of JSON.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Event<'a> {
    /// The room as it is now. The history follows, and replaces what was told before.
    Welcome {
        /// The name that was given; one that was taken has a number behind it.
        you: &'a str,
        /// The names of all who are here.
        here: Vec<&'a str>,
    },
    /// Somebody came.
    Joined { name: &'a str },
    /// Somebody went.
    Left { name: &'a str },
    /// Somebody, oneself too, said something, so many milliseconds after 1970.
    Said {
        name: &'a str,
        text: &'a str,
        at: u64,
    },
}

impl Event<'_> {
    fn line(&self) -> String {
        let json = serde_json::to_string(self).expect("strings and numbers become JSON");
        json + "\n"
    }
}

/// Somebody in a room.
pub struct Person {
    session: Rc<Session>,
    stream: StreamId,
    name: String,
    /// Whether something did not fit into their stream.
    behind: bool,
}

impl Person {
    pub fn new(session: Rc<Session>, stream: StreamId, name: &str) -> Self {
        Self {
            session,
            stream,
            name: name.to_owned(),
            behind: false,
        }
    }

    /// Sends lines, if there is room for all of them.
    fn tell(&mut self, lines: &str) {
        let sent = self.session.send(self.stream, lines.as_bytes(), false);
        self.behind = matches!(sent, Err(Error::WouldBlock));
        if matches!(sent, Err(Error::TooLarge)) {
            self.session.close(NO_MEMORY, "the server is out of memory");
        }
    }
}

/// A message that is remembered.
struct Said {
    at: u64,
    line: Box<str>,
}

impl Said {
    fn new(at: u64, line: String) -> Self {
        REMEMBERED.set(REMEMBERED.get() + line.len());
        let line = line.into_boxed_str();
        Self { at, line }
    }
}

impl Drop for Said {
    fn drop(&mut self) {
        REMEMBERED.set(REMEMBERED.get() - self.line.len());
    }
}

/// A room, with at least one person in it.
#[derive(Default)]
pub struct Room {
    /// By the number of the session.
    people: BTreeMap<u64, Person>,
    /// What was said, the newest last.
    history: VecDeque<Said>,
}

impl Room {
    fn enter(&mut self, id: u64, mut person: Person) -> bool {
        if self.people.len() >= PEOPLE_MAX {
            return false;
        }
        person.name = self.free_name(&person.name);
        let joined = Event::Joined { name: &person.name };
        self.tell_all(&joined.line());
        self.people.insert(id, person);
        self.welcome(id);
        true
    }

    fn leave(&mut self, id: u64) {
        if let Some(person) = self.people.remove(&id) {
            let left = Event::Left { name: &person.name };
            self.tell_all(&left.line());
        }
    }

    fn say(&mut self, id: u64, text: &str) {
        let Some(person) = self.people.get(&id) else {
            return;
        };
        let name = &person.name;
        let at = now();
        let line = Event::Said { name, text, at }.line();
        self.tell_all(&line);
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(Said::new(at, line));
    }

    /// Tells the others that somebody types.
    pub fn typing(&mut self, id: u64) {
        let Some(typist) = self.people.get(&id) else {
            return;
        };
        for (other, person) in &self.people {
            if *other != id {
                let _ = person.session.send_datagram(typist.name.as_bytes());
            }
        }
    }

    /// There is room in a person's stream again.
    pub fn catch_up(&mut self, id: u64) {
        if self.people.get(&id).is_some_and(|person| person.behind) {
            self.welcome(id);
        }
    }

    /// Gives somebody the room as it is.
    fn welcome(&mut self, id: u64) {
        let Some(you) = self.people.get(&id).map(|person| &person.name) else {
            return;
        };
        let here = self.people.values().map(|person| &*person.name).collect();
        let mut lines = Event::Welcome { you, here }.line();
        lines.extend(self.history.iter().map(|said| &*said.line));
        if let Some(person) = self.people.get_mut(&id) {
            person.tell(&lines);
        }
    }

    fn tell_all(&mut self, line: &str) {
        for person in self.people.values_mut().filter(|person| !person.behind) {
            person.tell(line);
        }
    }

    /// The name, or the name with the first number that nobody has.
    fn free_name(&self, name: &str) -> String {
        let taken = |name: &String| self.people.values().any(|person| person.name == *name);
        let numbered = (2..).map(|number| format!("{name} {number}"));
        let mut names = std::iter::once(name.to_owned()).chain(numbered);
        names.find(|name| !taken(name)).expect("a number is free")
    }
}

/// Milliseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}
