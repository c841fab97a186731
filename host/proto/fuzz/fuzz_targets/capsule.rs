//! Any cut of any bytes gives the same capsules, and the decoder holds no more than one of them.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use wharf_proto::{
    capsule::{Capsule, Decoder, FinOrder, REASON_BYTES_MAX},
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

// The first byte of the input says which flavour the decoder knows, and the next ones are the sizes of the pieces, over and
// over.
fuzz_target!(|input: &[u8]| {
    let Some((&[flavour, ref sizes @ ..], bytes)) = input.split_first_chunk::<5>() else {
        return;
    };
    let decoder = || match flavour % 3 {
        0 => Decoder::new(DATAGRAM_BYTES_MAX),
        1 => Decoder::with_streams(DATAGRAM_BYTES_MAX, FinOrder::Deployed),
        _ => Decoder::with_streams(DATAGRAM_BYTES_MAX, FinOrder::Draft15),
    };
    let bytes = Bytes::copy_from_slice(bytes);
    let whole = decode(decoder(), [bytes.clone()]);
    let mut rest = bytes.clone();
    let pieces = sizes.iter().cycle().map_while(|&size| {
        let size = rest.len().min(1 + usize::from(size));
        (size > 0).then(|| rest.split_to(size))
    });
    assert_eq!(decode(decoder(), pieces), whole);
});

fn decode(
    mut decoder: Decoder,
    pieces: impl IntoIterator<Item = Bytes>,
) -> (Vec<Capsule>, Result<(), Violation>) {
    let mut capsules = Vec::new();
    for piece in pieces {
        decoder.push(piece);
        loop {
            match decoder.poll() {
                Ok(Some(capsule)) => push(&mut capsules, capsule),
                Ok(None) => break,
                Err(violation) => return (capsules, Err(violation)),
            }
        }
        assert!(decoder.buffered() < BUFFERED_MAX);
    }
    (capsules, decoder.finish())
}

/// Puts together what came of a stream in several pieces, in one capsule or in several.
fn push(capsules: &mut Vec<Capsule>, capsule: Capsule) {
    if let Capsule::Stream { stream, data, fin } = &capsule
        && let Some(Capsule::Stream {
            stream: last,
            data: before,
            fin: ended,
        }) = capsules.last_mut()
        && last == stream
        && !*ended
    {
        *before = [&before[..], data].concat().into();
        *ended = *fin;
    } else {
        capsules.push(capsule);
    }
}
