//! The table from a name in the path to what the guest then does.

use crate::bindings::wharf::webtransport::types::{StreamId, StreamKind};
use crate::echo::Echo;
use crate::scene::Scene;
use crate::sending::Flood;
use crate::sins::{Trap, TrapAt, TrapOnClosed};
use crate::timers::Timer;
use crate::{misuse, reach, replies, sending, sins, timers};
use Act::{AtOnce, OnData, OnFirstData, Own};
use std::cell::Cell;

/// What one session does at the callbacks. A method left out does nothing.
pub(crate) trait Behaviour {
    fn constructed(&self, _scene: &Scene) {}
    fn opened(&self, _scene: &Scene, _id: StreamId, _kind: StreamKind) {}
    fn data(&self, _scene: &Scene, _id: StreamId, _data: &[u8], _fin: bool) {}
    fn reset(&self, _scene: &Scene, _id: StreamId, _code: Option<u32>) {}
    fn stopped(&self, _scene: &Scene, _id: StreamId, _code: Option<u32>) {}
    fn writable(&self, _scene: &Scene, _id: StreamId) {}
    fn stream_closed(&self, _id: StreamId) {}
    fn datagram(&self, _scene: &Scene, _data: &[u8]) {}
    fn timer(&self, _scene: &Scene) {}
    fn drain(&self) {}
    fn closed(&self) {}
}

/// When a behaviour acts, and what it does then.
enum Act {
    /// In the constructor.
    AtOnce(fn(&Scene)),
    /// When the first stream data comes, on whichever stream that is.
    OnFirstData(fn(&Scene, StreamId)),
    /// Whenever stream data comes.
    OnData(fn(&Scene, StreamId)),
    /// When it likes.
    Own(fn() -> Box<dyn Behaviour>),
}

const TABLE: &[(&str, Act)] = &[
    // Nothing: only the report.
    ("report", Own(|| Box::new(Silent))),
    // Sends back streams and datagrams, and keeps what would block.
    ("echo", Own(|| Box::<Echo>::default())),
    // Answers with the fields of `session-info` and the session's id, in one line.
    ("info", OnData(replies::info)),
    // Answers with keying material.
    ("export", OnData(replies::export)),
    // Answers with the request, one line for each value.
    ("request", OnData(replies::request)),
    // Traps; the first at data or a datagram.
    ("trap", Own(|| Box::new(Trap))),
    ("trap-in-constructor", AtOnce(|_| sins::trap())),
    ("trap-on-closed", Own(|| Box::new(TrapOnClosed))),
    // Traps in the callback `at`: opened, data, reset, stop, writable, stream-closed, datagram, drain, timer, closed.
    ("trap-at", Own(|| Box::<TrapAt>::default())),
    // Loops for ever.
    ("spin", OnFirstData(|_, _| sins::spin())),
    ("spin-in-constructor", AtOnce(|_| sins::spin())),
    // Sleeps for `ms` milliseconds at each data, and answers.
    ("sleep", OnData(sins::sleep)),
    // Computes `rounds` at each data, and answers.
    ("compute", OnData(sins::compute)),
    // Calls itself without end.
    ("recurse", OnFirstData(|_, _| sins::recurse())),
    // Calls the host without end.
    ("storm", OnFirstData(sins::storm)),
    // Sends datagrams without end.
    ("datagram-storm", OnFirstData(sins::datagram_storm)),
    // Computes for `ms` milliseconds at each data.
    ("slow", OnData(sins::slow)),
    // Allocates without end; 1 GiB at once; as much as it gets, and answers how many KiB that were.
    ("grow", OnFirstData(|_, _| sins::grow())),
    ("grow-at-once", OnFirstData(|_, _| sins::grow_at_once())),
    ("grow-gently", OnFirstData(sins::grow_gently)),
    // Keeps `mib` MiB, and answers.
    ("keep", OnFirstData(sins::keep)),
    // Writes `mib` MiB on stdout without an end of line.
    ("babble", OnFirstData(sins::babble)),
    // Closes with a reason of `mib` MiB.
    ("long-reason", OnFirstData(sins::long_reason)),
    // Answers what it can reach outside of itself, in lines of `what outcome`.
    ("reach", OnFirstData(reach::reach)),
    // Answers with a count of the sessions of its instance that have asked.
    ("count", OnFirstData(replies::count)),
    // Writes lines on stdout that are hard to log.
    ("stdio", AtOnce(|_| sins::stdio())),
    // Sends on a stream that never was.
    ("send-unknown", AtOnce(misuse::send_unknown)),
    // Walks through the errors of the session functions.
    ("errors", OnFirstData(misuse::errors)),
    // Closes with `code` and `reason`.
    ("close", AtOnce(Scene::close)),
    ("close-on-data", OnFirstData(|scene, _| scene.close())),
    // Drains.
    ("drain", AtOnce(Scene::drain)),
    ("drain-on-data", OnFirstData(|scene, _| scene.drain())),
    // Opens a bidi and a uni stream, sends a word on each and ends it.
    ("push", AtOnce(sending::push)),
    // Opens a bidi stream, no more.
    ("open-only", AtOnce(sending::open_only)),
    // Opens a uni stream and gives it up at once, with `code`.
    ("open-and-reset", AtOnce(sending::open_and_reset)),
    // Opens uni streams until refused: `opened-count <count> <error>`.
    ("exhaust-streams", AtOnce(sending::exhaust_streams)),
    // Sends `bytes` on the stream, in pieces, as they are taken.
    ("flood", Own(|| Box::<Flood>::default())),
    // Sends `bytes` on the stream at once.
    ("big", OnFirstData(sending::big)),
    // Sends `bytes` of `l` on a uni stream, then of `h` on one of higher priority.
    ("priority", OnFirstData(sending::priority)),
    // Sends `count` datagrams of `bytes`, each beginning with its number.
    ("datagrams", OnFirstData(sending::datagrams)),
    // Sends `count` datagrams of `bytes` bytes in one call.
    ("datagrams-at-once", OnFirstData(sending::datagrams_at_once)),
    // Sends three datagrams at once, the second too large: `error send-datagrams too-large`. Then with sizes that do
    // not add up, twice: `error wrong-sizes invalid`. Then one more.
    (
        "datagrams-together",
        OnFirstData(sending::datagrams_together),
    ),
    // Gives up a direction of the stream with `code`.
    ("reset", OnFirstData(sending::reset)),
    ("stop", OnFirstData(sending::stop)),
    // Sends the datagram `tick` after `ms` milliseconds, for one of two timers: one is cancelled.
    ("timer", Own(|| Box::new(Timer))),
    // Sets timers until refused: `timers <count> <error>`.
    ("timers", AtOnce(timers::exhaust)),
];

/// The behaviour of that name.
///
/// # Panics
///
/// When there is none, so that a misspelt path fails its test at once.
pub(crate) fn named(name: &str) -> Box<dyn Behaviour> {
    let row = TABLE.iter().find(|(known, _)| *known == name);
    match row {
        Some((_, AtOnce(act))) => Box::new(Starter(*act)),
        Some((_, OnFirstData(act))) => Box::new(Answerer::new(*act, true)),
        Some((_, OnData(act))) => Box::new(Answerer::new(*act, false)),
        Some((_, Own(make))) => make(),
        None => panic!("no behaviour is named {name:?}"),
    }
}

struct Silent;

impl Behaviour for Silent {}

struct Starter(fn(&Scene));

impl Behaviour for Starter {
    fn constructed(&self, scene: &Scene) {
        (self.0)(scene);
    }
}

struct Answerer {
    act: fn(&Scene, StreamId),
    once: bool,
    acted: Cell<bool>,
}

impl Answerer {
    fn new(act: fn(&Scene, StreamId), once: bool) -> Self {
        let acted = Cell::new(false);
        Self { act, once, acted }
    }
}

impl Behaviour for Answerer {
    fn data(&self, scene: &Scene, id: StreamId, _data: &[u8], _fin: bool) {
        if !(self.acted.replace(true) && self.once) {
            (self.act)(scene, id);
        }
    }
}
