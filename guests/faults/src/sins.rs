//! Traps, loops, hoards and babbles.

use crate::behaviour::Behaviour;
use crate::bindings::wharf::webtransport::types::StreamId;
use crate::scene::Scene;
use std::hint;
use std::io::Write;
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
