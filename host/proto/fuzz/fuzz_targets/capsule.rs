//! Any cut of any bytes gives the same capsules, and the decoder holds no more than one of them.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use wharf_proto::{
    capsule::{Capsule, Decoder, REASON_BYTES_MAX},
    code::Violation,
};

const DATAGRAM_BYTES_MAX: usize = 1200;
/// Two integers, and the longest payload: a close with its code, or a datagram.
const BUFFERED_MAX: usize = 16
    + if DATAGRAM_BYTES_MAX > 4 + REASON_BYTES_MAX {
        DATAGRAM_BYTES_MAX
    } else {
        4 + REASON_BYTES_MAX
    };

// The first bytes of the input are the sizes of the pieces, over and over.
fuzz_target!(|input: &[u8]| {
    let Some((sizes, bytes)) = input.split_first_chunk::<4>() else {
        return;
    };
    let bytes = Bytes::copy_from_slice(bytes);
    let whole = decode([bytes.clone()]);
    let mut rest = bytes.clone();
    let pieces = sizes.iter().cycle().map_while(|&size| {
        let size = rest.len().min(1 + usize::from(size));
        (size > 0).then(|| rest.split_to(size))
    });
    assert_eq!(decode(pieces), whole);
});

fn decode(pieces: impl IntoIterator<Item = Bytes>) -> (Vec<Capsule>, Result<(), Violation>) {
    let mut decoder = Decoder::new(DATAGRAM_BYTES_MAX);
    let mut capsules = Vec::new();
    for piece in pieces {
        decoder.push(piece);
        loop {
            match decoder.poll() {
                Ok(Some(capsule)) => capsules.push(capsule),
                Ok(None) => break,
                Err(violation) => return (capsules, Err(violation)),
            }
        }
        assert!(decoder.buffered() < BUFFERED_MAX);
    }
    (capsules, decoder.finish())
}
