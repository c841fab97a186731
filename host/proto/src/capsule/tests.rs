use std::slice;

use proptest::{collection::vec, prelude::*};

use super::*;

mod streams;

const DATAGRAM_BYTES_MAX: usize = 300;
/// The longest header and the longest payload that may be held incomplete.
const BUFFERED_MAX: usize = HEADER_MAX + 4 + REASON_BYTES_MAX;

/// All capsules in `pieces`, and how it ended.
fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Capsule>, Result<(), Violation>) {
    decode_by(Decoder::new(DATAGRAM_BYTES_MAX), pieces)
}

fn decode_by<'a>(
    mut decoder: Decoder,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<Capsule>, Result<(), Violation>) {
    let mut capsules = Vec::new();
    for piece in pieces {
        decoder.push(Bytes::copy_from_slice(piece));
        loop {
            match decoder.poll() {
                Ok(Some(capsule)) => capsules.push(capsule),
                Ok(None) => break,
                Err(violation) => {
                    assert_eq!(decoder.poll(), Err(violation));
                    assert_eq!(decoder.buffered(), 0);
                    return (capsules, decoder.finish());
                }
            }
        }
        assert!(decoder.buffered() < BUFFERED_MAX);
    }
    (capsules, decoder.finish())
}

fn encode(capsules: &[Capsule]) -> Vec<u8> {
    let mut out = BytesMut::new();
    for capsule in capsules {
        capsule.encode(&mut out);
    }
    out.into()
}

fn raw(kind: u64, payload: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    put_bytes(&mut out, kind, &[payload]);
    out.into()
}

fn int(value: u64) -> VarInt {
    VarInt::try_from(value).unwrap()
}

fn answer(bytes: &[u8]) -> Option<HttpCode> {
    decode([bytes]).1.err().map(|violation| violation.code)
}

#[test]
fn the_bytes_are_those_of_the_drafts() {
    let rows: Vec<(Capsule, &[u8])> = vec![
        (
            Capsule::Close {
                code: 0x0102_0304,
                reason: "bye".into(),
            },
            b"\x68\x43\x07\x01\x02\x03\x04bye",
        ),
        (Capsule::Drain, b"\x80\x00\x78\xae\x00"),
        (Capsule::MaxData(int(1024)), b"\x99\x0b\x4d\x3d\x02\x44\x00"),
        (
            Capsule::MaxStreams(Dir::Bi, int(3)),
            b"\x99\x0b\x4d\x3f\x01\x03",
        ),
        (
            Capsule::MaxStreams(Dir::Uni, int(3)),
            b"\x99\x0b\x4d\x40\x01\x03",
        ),
        (Capsule::DataBlocked(int(63)), b"\x99\x0b\x4d\x41\x01\x3f"),
        (
            Capsule::StreamsBlocked(Dir::Bi, int(0)),
            b"\x99\x0b\x4d\x43\x01\x00",
        ),
        (
            Capsule::StreamsBlocked(Dir::Uni, int(0)),
            b"\x99\x0b\x4d\x44\x01\x00",
        ),
        (
            Capsule::MaxStreamData {
                stream: int(4).into(),
                limit: int(64),
            },
            b"\x99\x0b\x4d\x3e\x03\x04\x40\x40",
        ),
        (
            Capsule::StreamDataBlocked {
                stream: int(5).into(),
                limit: int(64),
            },
            b"\x99\x0b\x4d\x42\x03\x05\x40\x40",
        ),
        (Capsule::Datagram("hi".into()), b"\x00\x02hi"),
    ];
    for (capsule, bytes) in rows {
        assert_eq!(encode(slice::from_ref(&capsule)), bytes, "{capsule:?}");
        assert_eq!(decode([bytes]), (vec![capsule], Ok(())));
    }
}

#[test]
fn integers_in_more_bytes_than_they_need_are_accepted() {
    let bytes = b"\xc0\x00\x00\x00\x19\x0b\x4d\x3d\x40\x02\x40\x05";
    assert_eq!(
        decode([&bytes[..]]),
        (vec![Capsule::MaxData(int(5))], Ok(()))
    );
}

#[test]
fn a_reason_of_1024_bytes_passes_and_one_of_1025_does_not() {
    let payload = |length| [&[0; 4][..], &vec![b'x'; length]].concat();
    assert_eq!(answer(&raw(CLOSE, &payload(1024))), None);
    assert_eq!(
        answer(&raw(CLOSE, &payload(1025))),
        Some(HttpCode::H3_MESSAGE_ERROR)
    );
}

#[test]
fn a_long_reason_is_cut_between_characters() {
    assert_eq!(cut_reason("short"), "short");
    let reason = format!("{}äöü", "x".repeat(1021));
    assert_eq!(cut_reason(&reason), format!("{}ä", "x".repeat(1021)));
    let (capsules, end) = decode([&encode(&[Capsule::Close { code: 1, reason }])[..]]);
    let reason = format!("{}ä", "x".repeat(1021));
    assert_eq!(capsules, [Capsule::Close { code: 1, reason }]);
    assert_eq!(end, Ok(()));
}

#[test]
fn a_known_type_of_a_wrong_length_is_a_message_error() {
    let long = vec![0; 17];
    let rows: &[(u64, &[u8])] = &[
        (CLOSE, &[0; 3]),
        (CLOSE, &[]),
        (CLOSE, b"\0\0\0\0\xff"),
        (DRAIN, &[0]),
        (MAX_DATA, &[]),
        (MAX_DATA, &[0x40]),
        (MAX_DATA, &[0, 0]),
        (MAX_DATA, &long),
        (MAX_STREAMS_BIDI, &[0, 0]),
        (STREAMS_BLOCKED_UNI, &[0x80]),
        (DATA_BLOCKED, &[0xc0; 7]),
        (MAX_STREAM_DATA, &[0]),
        (MAX_STREAM_DATA, &[0x40, 0]),
        (MAX_STREAM_DATA, &[0, 0, 0]),
        (STREAM_DATA_BLOCKED, &long),
    ];
    for (kind, payload) in rows {
        let code = answer(&raw(*kind, payload));
        assert_eq!(
            code,
            Some(HttpCode::H3_MESSAGE_ERROR),
            "{kind:#x} {payload:x?}"
        );
    }
}

#[test]
fn a_wrong_length_is_refused_before_the_payload_comes() {
    let mut bytes = BytesMut::new();
    put_header(&mut bytes, DRAIN, usize::MAX);
    assert_eq!(answer(&bytes), Some(HttpCode::H3_MESSAGE_ERROR));
}

#[test]
fn a_stream_limit_beyond_2_to_the_60_is_a_flow_control_error() {
    for dir in [Dir::Bi, Dir::Uni] {
        for make in [Capsule::MaxStreams, Capsule::StreamsBlocked] {
            let over = encode(&[make(dir, int((1 << 60) + 1))]);
            assert_eq!(answer(&over), Some(HttpCode::WT_FLOW_CONTROL_ERROR));
            assert_eq!(answer(&encode(&[make(dir, int(1 << 60))])), None);
        }
    }
}

#[test]
fn unknown_capsules_are_skipped_whatever_their_type() {
    for kind in [
        0x17,
        0x40 * 41 + 23,
        0xff_37a0,
        0x190b_4d38,
        0x190b_4d3c,
        VarInt::MAX.into_inner(),
    ] {
        let bytes = [
            raw(kind, b""),
            raw(kind, &[7; 5000]),
            encode(&[Capsule::Drain]),
        ]
        .concat();
        assert_eq!(
            decode([&bytes[..]]),
            (vec![Capsule::Drain], Ok(())),
            "{kind:#x}"
        );
    }
}

#[test]
fn an_unknown_capsule_of_any_length_is_skipped_without_being_held() {
    let mut decoder = Decoder::new(DATAGRAM_BYTES_MAX);
    let mut header = BytesMut::new();
    VarInt::from(0x17u8).encode(&mut header);
    VarInt::MAX.encode(&mut header);
    decoder.push(header.freeze());
    let piece = Bytes::from(vec![0; 1 << 16]);
    for _ in 0..1000 {
        assert_eq!(decoder.poll(), Ok(None));
        assert_eq!(decoder.buffered(), 0);
        decoder.push(piece.clone());
    }
}

#[test]
fn a_datagram_longer_than_wanted_is_skipped() {
    let datagram = |length| Capsule::Datagram(vec![1; length].into());
    let bytes = encode(&[
        datagram(DATAGRAM_BYTES_MAX),
        datagram(DATAGRAM_BYTES_MAX + 1),
        datagram(0),
    ]);
    assert_eq!(
        decode([&bytes[..]]),
        (vec![datagram(DATAGRAM_BYTES_MAX), datagram(0)], Ok(()))
    );
}

#[test]
fn a_datagram_within_one_piece_is_not_copied() {
    let piece = Bytes::from(raw(DATAGRAM, b"payload"));
    let mut decoder = Decoder::new(DATAGRAM_BYTES_MAX);
    decoder.push(piece.clone());
    let Ok(Some(Capsule::Datagram(payload))) = decoder.poll() else {
        panic!("a datagram was pushed");
    };
    assert_eq!(payload.as_ptr(), piece[2..].as_ptr());
}

#[test]
fn the_end_inside_a_capsule_is_a_message_error() {
    let whole = [
        encode(&[
            Capsule::MaxData(int(1 << 40)),
            Capsule::Datagram("hi".into()),
        ]),
        raw(0x17, b"unknown"),
    ]
    .concat();
    let capsule_ends = [0, 13, 17, 26];
    for end in 0..=whole.len() {
        let expected = (!capsule_ends.contains(&end)).then_some(HttpCode::H3_MESSAGE_ERROR);
        assert_eq!(answer(&whole[..end]), expected, "{end}");
    }
}

fn any_int() -> impl Strategy<Value = VarInt> {
    (0..=VarInt::MAX.into_inner(), 0..62u32).prop_map(|(value, shift)| int(value >> shift))
}

fn any_streams() -> impl Strategy<Value = VarInt> {
    (0..=STREAMS_MAX, 0..60u32).prop_map(|(value, shift)| int(value >> shift))
}

fn any_dir() -> impl Strategy<Value = Dir> {
    prop_oneof![Just(Dir::Bi), Just(Dir::Uni)]
}

fn any_capsule() -> impl Strategy<Value = Capsule> {
    prop_oneof![
        vec(any::<u8>(), 0..=DATAGRAM_BYTES_MAX)
            .prop_map(|payload| Capsule::Datagram(payload.into())),
        (any::<u32>(), ".{0,300}").prop_map(|(code, reason)| Capsule::Close {
            code,
            reason: cut_reason(&reason).to_owned()
        }),
        Just(Capsule::Drain),
        any_int().prop_map(Capsule::MaxData),
        any_int().prop_map(Capsule::DataBlocked),
        (any_dir(), any_streams()).prop_map(|(dir, n)| Capsule::MaxStreams(dir, n)),
        (any_dir(), any_streams()).prop_map(|(dir, n)| Capsule::StreamsBlocked(dir, n)),
        (any_int(), any_int()).prop_map(|(stream, limit)| Capsule::MaxStreamData {
            stream: stream.into(),
            limit
        }),
        (any_int(), any_int()).prop_map(|(stream, limit)| Capsule::StreamDataBlocked {
            stream: stream.into(),
            limit
        }),
    ]
}

/// Bytes that are mostly capsules: known, unknown, too long, malformed.
fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    let one = prop_oneof![
        8 => any_capsule().prop_map(|capsule| encode(&[capsule])),
        2 => (any_int(), vec(any::<u8>(), 0..40)).prop_map(|(kind, payload)| raw(kind.into_inner(), &payload)),
        1 => vec(any::<u8>(), DATAGRAM_BYTES_MAX..400).prop_map(|payload| raw(DATAGRAM, &payload)),
        1 => vec(any::<u8>(), 0..20),
    ];
    vec(one, 0..8).prop_map(|parts| parts.concat())
}

/// `bytes` in pieces that begin at the given places.
fn cut(bytes: &[u8], mut places: Vec<usize>) -> Vec<&[u8]> {
    places.retain(|place| *place < bytes.len());
    places.sort_unstable();
    places.push(bytes.len());
    let mut from = 0;
    places
        .into_iter()
        .map(|to| &bytes[mem::replace(&mut from, to)..to])
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_capsule_survives_the_wire(capsules in vec(any_capsule(), 0..6)) {
        prop_assert_eq!(decode([&encode(&capsules)[..]]), (capsules, Ok(())));
    }

    #[test]
    fn any_cut_of_any_bytes_gives_the_same_capsules(
        bytes in any_bytes(),
        places in vec(0..1000usize, 0..12),
    ) {
        let whole = decode([&bytes[..]]);
        prop_assert_eq!(&decode(cut(&bytes, places)), &whole);
        prop_assert_eq!(&decode(bytes.chunks(1)), &whole);
    }

    #[test]
    fn pieces_that_were_not_polled_are_joined(bytes in any_bytes(), place in 0..1000usize) {
        let mut decoder = Decoder::new(DATAGRAM_BYTES_MAX);
        for piece in cut(&bytes, vec![place]) {
            decoder.push(Bytes::copy_from_slice(piece));
        }
        let mut capsules = Vec::new();
        while let Ok(Some(capsule)) = decoder.poll() {
            capsules.push(capsule);
        }
        prop_assert_eq!((capsules, decoder.finish()), decode([&bytes[..]]));
    }
}
