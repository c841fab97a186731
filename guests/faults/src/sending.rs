//! Opens streams, sends on them and gives them up; sends datagrams.

use crate::behaviour::Behaviour;
use crate::bindings::wharf::webtransport::types::{Error, StreamId, StreamKind};
use crate::report;
use crate::scene::Scene;
use std::cell::Cell;

/// Sends `bytes` in pieces on the stream of the first data, as they are taken, and FIN with the
/// last one.
#[derive(Default)]
pub(crate) struct Flood {
    /// The bytes still to send; none before the first data.
    left: Cell<Option<u64>>,
}

impl Flood {
    const PIECE: u64 = 64 << 10;

    fn pour(&self, scene: &Scene, id: StreamId, mut left: u64) {
        loop {
            let piece = left.min(Self::PIECE);
            let result = scene.session.send(id, &pattern(piece), piece == left);
            match result {
                Ok(()) => {
                    left -= piece;
                    if left == 0 {
                        break;
                    }
                }
                Err(Error::WouldBlock) => {
                    report::would_block(id);
                    break;
                }
                Err(_) => {
                    report::outcome("send", result);
                    break;
                }
            }
        }
        self.left.set(Some(left));
    }
}

impl Behaviour for Flood {
    fn data(&self, scene: &Scene, id: StreamId, _data: &[u8], _fin: bool) {
        if self.left.get().is_none() {
            self.pour(scene, id, scene.number("bytes", 1 << 20));
        }
    }

    fn writable(&self, scene: &Scene, id: StreamId) {
        if let Some(left) = self.left.get() {
            self.pour(scene, id, left);
        }
    }
}

/// Sends `bytes` on the stream in one call, with FIN.
pub(crate) fn big(scene: &Scene, id: StreamId) {
    let data = pattern(scene.number("bytes", 1 << 20));
    report::outcome("send", scene.session.send(id, &data, true));
}

/// Opens a stream of either kind, sends its word and ends it.
pub(crate) fn push(scene: &Scene) {
    send_on_new(scene, StreamKind::Bidi, 0, b"pushed-bidi");
    send_on_new(scene, StreamKind::Uni, 0, b"pushed-uni");
}

/// Sends the less urgent stream first, so that only its priority can make it come last.
pub(crate) fn priority(scene: &Scene, _id: StreamId) {
    let bytes = scene.number("bytes", 64 << 10);
    send_on_new(scene, StreamKind::Uni, -1, &vec![b'l'; bytes]);
    send_on_new(scene, StreamKind::Uni, 1, &vec![b'h'; bytes]);
}

fn send_on_new(scene: &Scene, kind: StreamKind, priority: i32, data: &[u8]) {
    match scene.session.open_stream(kind) {
        Ok(id) => {
            report::outcome("set-priority", scene.session.set_priority(id, priority));
            report::outcome("send", scene.session.send(id, data, true));
        }
        Err(error) => report::outcome::<()>("open-stream", Err(error)),
    }
}

/// Opens a bidi stream and sends nothing.
pub(crate) fn open_only(scene: &Scene) {
    report::outcome("open-stream", scene.session.open_stream(StreamKind::Bidi));
}

/// Opens a uni stream and gives it up at once, with `code`.
pub(crate) fn open_and_reset(scene: &Scene) {
    match scene.session.open_stream(StreamKind::Uni) {
        Ok(id) => reset(scene, id),
        Err(error) => report::outcome::<()>("open-stream", Err(error)),
    }
}

/// Opens uni streams until the host refuses one.
pub(crate) fn exhaust_streams(scene: &Scene) {
    let mut count = 0;
    let error = loop {
        match scene.session.open_stream(StreamKind::Uni) {
            Ok(_) => count += 1,
            Err(error) => break error,
        }
    };
    let name = report::error_name(&error);
    report::line(&format!("opened-count {count} {name}"));
}

/// Sends `count` datagrams of `bytes`: a number of four bytes, big-endian, from 0 on, then zeros.
pub(crate) fn datagrams(scene: &Scene, _id: StreamId) {
    for number in 0..scene.number("count", 1_u32) {
        let mut data = number.to_be_bytes().to_vec();
        data.resize(scene.number("bytes", 4), 0);
        report::outcome("send-datagram", scene.session.send_datagram(&data));
    }
}

/// Sends `count` datagrams of `bytes` in one call, numbered in their first 4 bytes.
pub(crate) fn datagrams_at_once(scene: &Scene, _id: StreamId) {
    let size = scene.number("bytes", 4_u32);
    let numbers = 0..scene.number("count", 1_u32);
    let sizes: Vec<_> = numbers.clone().map(|_| size).collect();
    let data = numbers.flat_map(|number| {
        let rest = std::iter::repeat_n(7, (size as usize).saturating_sub(4));
        number.to_be_bytes().into_iter().chain(rest)
    });
    let data: Vec<u8> = data.collect();
    report::outcome(
        "send-datagrams",
        scene.session.send_datagrams(&data, &sizes),
    );
}

/// Sends three datagrams at once, the second larger than the path carries.
pub(crate) fn datagrams_together(scene: &Scene, _id: StreamId) {
    let largest = usize::try_from(scene.session.info().max_datagram_size).unwrap_or(usize::MAX);
    let datagrams = [&b"before"[..], &vec![0; largest + 1], b"after"];
    let sizes = datagrams.map(|datagram| u32::try_from(datagram.len()).unwrap_or(u32::MAX));
    let data = datagrams.concat();
    report::outcome(
        "send-datagrams",
        scene.session.send_datagrams(&data, &sizes),
    );
    for wrong in [&sizes[1..], &[u32::MAX; 2]] {
        report::outcome("wrong-sizes", scene.session.send_datagrams(&data, wrong));
    }
    report::outcome("send-datagram", scene.session.send_datagram(b"last"));
}

/// Gives up sending on the stream, with `code`.
pub(crate) fn reset(scene: &Scene, id: StreamId) {
    let result = scene.session.reset_stream(id, scene.number("code", 0));
    report::outcome("reset-stream", result);
}

/// Gives up reading the stream, with `code`.
pub(crate) fn stop(scene: &Scene, id: StreamId) {
    let result = scene.session.stop_sending(id, scene.number("code", 0));
    report::outcome("stop-sending", result);
}

/// Bytes that count from 0 to 255 over and over, so that a reader sees what was lost or repeated.
/// Pieces join without a seam when all but the last are a multiple of 256 long.
fn pattern(len: u64) -> Vec<u8> {
    let len = usize::try_from(len).expect("the path asks for less than the memory has");
    (0..=u8::MAX).cycle().take(len).collect()
}
