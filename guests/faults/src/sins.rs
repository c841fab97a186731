//! Traps, loops, hoards and babbles.

use crate::behaviour::Behaviour;
use crate::bindings::wharf::webtransport::types::{StreamId, StreamKind};
use crate::replies::reply;
use crate::scene::Scene;
use std::cell::RefCell;
use std::hint;
use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

/// Traps at the first data or datagram.
pub(crate) struct Trap;

impl Behaviour for Trap {
    fn data(&self, _scene: &Scene, _id: StreamId, _data: &[u8], _fin: bool) {
        trap();
    }

    fn datagram(&self, _scene: &Scene, _data: &[u8]) {
        trap();
    }
}

/// Traps in the last callback.
pub(crate) struct TrapOnClosed;

impl Behaviour for TrapOnClosed {
    fn closed(&self) {
        trap();
    }
}

/// Traps in the callback that the path names.
#[derive(Default)]
pub(crate) struct TrapAt {
    callback: RefCell<String>,
}

impl TrapAt {
    fn at(&self, callback: &str) {
        if *self.callback.borrow() == callback {
            trap();
        }
    }
}

impl Behaviour for TrapAt {
    fn constructed(&self, scene: &Scene) {
        *self.callback.borrow_mut() = scene.text("at");
        if scene.text("at") == "timer" {
            let _ = scene.session.set_timer(1);
        }
    }

    fn opened(&self, _scene: &Scene, _id: StreamId, _kind: StreamKind) {
        self.at("opened");
    }

    fn data(&self, scene: &Scene, id: StreamId, _data: &[u8], _fin: bool) {
        self.at("data");
        if self.callback.borrow().as_str() == "writable" {
            // Fills the buffer, so that there is room again later.
            while scene.session.send(id, &[0; 64 << 10], false).is_ok() {}
        } else {
            // The peer knows from that that the stream has begun.
            let _ = scene.session.send(id, b"x", false);
        }
    }

    fn reset(&self, _scene: &Scene, _id: StreamId, _code: Option<u32>) {
        self.at("reset");
    }

    fn stopped(&self, _scene: &Scene, _id: StreamId, _code: Option<u32>) {
        self.at("stop");
    }

    fn writable(&self, _scene: &Scene, _id: StreamId) {
        self.at("writable");
    }

    fn stream_closed(&self, _id: StreamId) {
        self.at("stream-closed");
    }

    fn datagram(&self, _scene: &Scene, _data: &[u8]) {
        self.at("datagram");
    }

    fn drain(&self) {
        self.at("drain");
    }

    fn timer(&self, _scene: &Scene) {
        self.at("timer");
    }

    fn closed(&self) {
        self.at("closed");
    }
}

/// Panics: this is how a Rust guest traps.
pub(crate) fn trap() {
    panic!("trap on purpose");
}

/// Never returns.
pub(crate) fn spin() {
    loop {
        hint::spin_loop();
    }
}

/// Returns after `ms` milliseconds, and computes until then.
pub(crate) fn slow(scene: &Scene, _id: StreamId) {
    let until = Instant::now() + Duration::from_millis(scene.number("ms", 10));
    while Instant::now() < until {
        hint::spin_loop();
    }
}

/// Sleeps for `ms` milliseconds, then answers.
pub(crate) fn sleep(scene: &Scene, id: StreamId) {
    thread::sleep(Duration::from_millis(scene.number("ms", 10)));
    reply(scene, id, "awake");
}

/// Computes so many rounds, whose number and not whose time is given, then answers.
pub(crate) fn compute(scene: &Scene, id: StreamId) {
    let mut word = 1_u64;
    for round in 0..scene.number("rounds", 1_000_000_u64) {
        word = hint::black_box(word.rotate_left(5) ^ round);
    }
    let _ = scene.session.send(id, &word.to_le_bytes(), false);
}

/// Calls itself until the stack is full.
pub(crate) fn recurse() {
    fn deeper(depth: u64) -> u64 {
        let frame = hint::black_box([depth; 16]);
        match hint::black_box(depth) {
            u64::MAX => 0,
            depth => deeper(depth + 1) + frame[0],
        }
    }
    hint::black_box(deeper(0));
}

/// Calls the host without end.
pub(crate) fn storm(scene: &Scene, _id: StreamId) {
    loop {
        hint::black_box(scene.session.info());
    }
}

/// Sends datagrams without end.
pub(crate) fn datagram_storm(scene: &Scene, _id: StreamId) {
    loop {
        let _ = scene.session.send_datagram(&[7; 1000]);
    }
}

/// Allocates 1 GiB, which the host refuses.
pub(crate) fn grow_at_once() {
    hint::black_box(vec![1_u8; 1 << 30]);
}

/// Allocates as much as there is, gives it back, and answers how many KiB that were.
pub(crate) fn grow_gently(scene: &Scene, id: StreamId) {
    const PIECE: usize = 64 << 10;
    let mut hoard = Vec::new();
    loop {
        let mut piece = Vec::<u8>::new();
        if hoard.try_reserve(1).is_err() || piece.try_reserve_exact(PIECE).is_err() {
            break;
        }
        hoard.push(piece);
    }
    let kib = hoard.len() * (PIECE >> 10);
    drop(hoard);
    reply(scene, id, &kib.to_string());
}

/// Keeps `mib` MiB for good, then answers.
pub(crate) fn keep(scene: &Scene, id: StreamId) {
    let kept = vec![1_u8; scene.number::<usize>("mib", 1) << 20];
    hint::black_box(kept.leak());
    reply(scene, id, "kept");
}

/// Writes `mib` MiB of one line on stdout.
pub(crate) fn babble(scene: &Scene, id: StreamId) {
    let mut out = std::io::stdout();
    for _ in 0..scene.number::<usize>("mib", 1) << 4 {
        let _ = out.write_all(&[b'b'; 64 << 10]);
        let _ = out.flush();
    }
    reply(scene, id, "said");
}

/// Closes with a reason of `mib` MiB.
pub(crate) fn long_reason(scene: &Scene, _id: StreamId) {
    let reason = "r".repeat(scene.number::<usize>("mib", 1) << 20);
    scene.session.close(9, &reason);
}

/// Allocates until the host refuses, which traps.
pub(crate) fn grow() {
    let mut hoard = Vec::new();
    loop {
        // Not zeros: those would leave the pages of the host untouched.
        hoard.push(hint::black_box(vec![1_u8; 1 << 20]));
    }
}

/// Writes lines on stdout that are hard to log: one plain, one of 100 KiB, one that is not UTF-8
/// and one that never ends. They are not on stderr because that carries the report.
pub(crate) fn stdio() {
    let mut out = std::io::stdout();
    let long = [b'x'; 100 << 10];
    for text in [
        b"a line on stdout\n".as_slice(),
        &long,
        b"\n",
        b"not UTF-8: \xff\xfe\n",
        b"no newline at the end",
    ] {
        // A guest whose stdout is gone has nobody to tell.
        let _ = out.write_all(text);
    }
    let _ = out.flush();
}
