//! The setup of an HTTP/3 connection survives any bytes: however they are cut, the frames that are let through, the SETTINGS
//! and the `:protocol` are the same, and no more is held than the caps say.

#![no_main]

use std::collections::VecDeque;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use wharf_proto::code::Violation;

use filter::Filter;
use settings::{PeerSettings, Version};

// They have no I/O, and are the host crate's own: what is built on them there is of no interest here.
#[rustfmt::skip] // it would look for the file's own tests here
#[path = "../../../src/transport/h3/filter.rs"]
mod filter;
#[path = "../../../src/transport/h3/qpack.rs"]
mod qpack;
#[path = "../../../src/transport/h3/settings.rs"]
#[expect(dead_code, reason = "the host uses the rest")]
mod settings;

const FIELD_SECTION_MAX: u32 = 1 << 10;
/// A field section and its slack, each byte of it escaped, and the names of the fields.
const SHOWN_MAX: usize = 4 * (6 << 10) + 1_000;

// The first byte says which stream it is, the next how long the pieces are.
fuzz_target!(|input: &[u8]| {
    let [which, size, bytes @ ..] = input else {
        return;
    };
    let filter = || match which % 3 {
        0 => Filter::control(),
        1 => Filter::request(FIELD_SECTION_MAX),
        _ => Filter::response(FIELD_SECTION_MAX),
    };
    let whole = run(filter(), bytes, usize::MAX);
    let cut = run(filter(), bytes, 1 + usize::from(*size));
    assert_eq!(whole, cut);
    if let Ok(settings) = PeerSettings::parse(bytes) {
        let version: Option<Version> = settings.version_to_ask();
        assert!(version.is_none_or(|version| settings.suffice(version)));
    }
    if let Some(rewrite) = qpack::rewrite_protocol(bytes) {
        // What `h3` is shown is understood, and only once rewritten.
        assert!(qpack::rewrite_protocol(&rewrite.block).is_none());
    }
    if let Some(section) = qpack::with_protocol(bytes, "webtransport-h3") {
        let rewrite = qpack::rewrite_protocol(&section).unwrap();
        assert_eq!(rewrite.token, "webtransport-h3");
    }
});

/// What a filter lets through of bytes in pieces of that size, what it has seen, and how it ends.
type Outcome = (
    Vec<u8>,
    Option<PeerSettings>,
    Option<String>,
    bool,
    Result<(), Violation>,
);

fn run(mut filter: Filter, bytes: &[u8], size: usize) -> Outcome {
    let mut out = VecDeque::new();
    let mut result = Ok(());
    for piece in bytes.chunks(size.min(bytes.len().max(1))) {
        result = result.and_then(|()| filter.push(Bytes::copy_from_slice(piece), &mut out));
    }
    assert!(format!("{filter:?}").len() < SHOWN_MAX);
    assert!(out.iter().all(|piece| !piece.is_empty()));
    let result = result.and_then(|()| filter.finish());
    let through = out.iter().flatten().copied().collect();
    let seen = (
        filter.take_settings(),
        filter.take_token(),
        filter.take_goaway(),
    );
    (through, seen.0, seen.1, seen.2, result)
}
