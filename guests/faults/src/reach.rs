//! Tries to reach what a guest has no business with, and tells how far it got.

use crate::bindings::wharf::webtransport::types::StreamId;
use crate::replies::reply;
use crate::scene::Scene;
use std::env;
use std::fs;
use std::net::{TcpStream, UdpSocket};
use std::time::Instant;

/// Answers with lines of what was tried and how it went: `denied`, or what was found.
pub(crate) fn reach(scene: &Scene, id: StreamId) {
    let mut lines = vec![
        format!("read {}", outcome(fs::read("/etc/passwd").is_ok())),
        format!("list {}", outcome(fs::read_dir("/").is_ok())),
        format!("write {}", outcome(fs::write("/tmp/x", "x").is_ok())),
        format!("tcp {}", outcome(TcpStream::connect("127.0.0.1:1").is_ok())),
        format!("udp {}", outcome(UdpSocket::bind("127.0.0.1:0").is_ok())),
        format!("arguments {}", env::args().count()),
        format!("clock {}", clock_step()),
    ];
    for (name, value) in env::vars() {
        lines.push(format!("variable {name}={value}"));
    }
    reply(scene, id, &lines.join("\n"));
}

fn outcome(done: bool) -> &'static str {
    if done { "done" } else { "denied" }
}

/// The nanoseconds of the shortest step that the clock makes.
fn clock_step() -> u128 {
    let start = Instant::now();
    loop {
        let step = start.elapsed().as_nanos();
        if step > 0 {
            return step;
        }
    }
}
