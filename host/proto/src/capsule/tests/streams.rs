//! The capsules that carry streams.

use super::*;

const FLAVOURS: [FinOrder; 2] = [FinOrder::Deployed, FinOrder::Draft15];

/// [`decode`](super::decode) in the capsule flavour, where pieces of one WT_STREAM are put together again.
fn decode<'a>(
    order: FinOrder,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<Capsule>, Result<(), Violation>) {
    let decoder = Decoder::with_streams(DATAGRAM_BYTES_MAX, order);
    let (capsules, end) = decode_by(decoder, pieces);
    let mut merged: Vec<Capsule> = Vec::new();
    for capsule in capsules {
        if let Capsule::Stream { stream, data, fin } = &capsule
            && let Some(Capsule::Stream {
                stream: last,
                data: before,
                fin: fin_before,
            }) = merged.last_mut()
            && (last == stream && !*fin_before)
        {
            *before = [&before[..], data].concat().into();
            *fin_before = *fin;
        } else {
            merged.push(capsule);
        }
    }
    (merged, end)
}

fn stream_of(stream: u64, data: &'static str, fin: bool) -> Capsule {
    let data = Bytes::from(data);
    let stream = int(stream).into();
    Capsule::Stream { stream, data, fin }
}

#[test]
fn the_bytes_of_streams_are_those_of_the_draft() {
    let rows: [(Capsule, &[u8]); 7] = [
        (stream_of(0, "", false), b"\x99\x0b\x4d\x3b\x01\x00"),
        (stream_of(4, "hi", false), b"\x99\x0b\x4d\x3b\x03\x04hi"),
        (stream_of(64, "hi", true), b"\x99\x0b\x4d\x3c\x04\x40\x40hi"),
        (
            Capsule::ResetStream {
                stream: int(5).into(),
                code: u32::MAX,
                reliable_size: Some(int(64)),
            },
            b"\x99\x0b\x4d\x39\x0b\x05\xc0\x00\x00\x00\xff\xff\xff\xff\x40\x40",
        ),
        (
            Capsule::ResetStream {
                stream: int(5).into(),
                code: 0,
                reliable_size: None,
            },
            b"\x99\x0b\x4d\x39\x02\x05\x00",
        ),
        (
            Capsule::StopSending {
                stream: int(6).into(),
                code: 7,
            },
            b"\x99\x0b\x4d\x3a\x02\x06\x07",
        ),
        (Capsule::Drain, b"\x80\x00\x78\xae\x00"),
    ];
    for (capsule, bytes) in rows {
        assert_eq!(encode(slice::from_ref(&capsule)), bytes, "{capsule:?}");
        let decoded = decode(FinOrder::Deployed, [bytes]);
        assert_eq!(decoded, (vec![capsule], Ok(())));
    }
}

#[test]
fn a_header_in_either_order_is_read_in_the_same_order() {
    for order in FLAVOURS {
        for fin in [false, true] {
            let mut bytes = BytesMut::new();
            encode_stream_header(order, int(8).into(), fin, 2, &mut bytes);
            bytes.extend_from_slice(b"hi");
            let expected = vec![stream_of(8, "hi", fin)];
            assert_eq!(decode(order, [&bytes[..]]), (expected, Ok(())));
        }
    }
}

#[test]
fn the_payload_of_a_stream_is_given_out_as_it_comes_and_never_copied() {
    let mut decoder = Decoder::with_streams(DATAGRAM_BYTES_MAX, FinOrder::Deployed);
    let mut begin = BytesMut::new();
    let length = usize::try_from(VarInt::MAX.into_inner()).unwrap() - 1;
    encode_stream_header(FinOrder::Deployed, int(0).into(), true, length, &mut begin);
    decoder.push(begin.freeze());
    assert_eq!(
        decoder.poll(),
        Ok(Some(stream_of(0, "", false))),
        "it opens the stream"
    );
    let piece = Bytes::from(vec![7; 1 << 16]);
    for _ in 0..100 {
        assert_eq!(decoder.poll(), Ok(None));
        assert_eq!(decoder.buffered(), 0);
        decoder.push(piece.clone());
        let Ok(Some(Capsule::Stream { data, fin, .. })) = decoder.poll() else {
            panic!("bytes of a stream were pushed");
        };
        assert_eq!(
            (data.as_ptr(), data.len(), fin),
            (piece.as_ptr(), 1 << 16, false)
        );
    }
    assert!(decoder.finish().is_err());
}

#[test]
fn a_stream_without_a_whole_id_or_a_code_beyond_32_bits_is_a_message_error() {
    let rows: [(u64, &[u8]); 9] = [
        (STREAM_3B, b""),
        (STREAM_3C, b"\x40"),
        (RESET_STREAM, b"\x00"),
        (RESET_STREAM, b"\x00\x40"),
        (RESET_STREAM, b"\x00\x00\x00\x00"),
        (RESET_STREAM, b"\x00\xc0\x00\x00\x01\x00\x00\x00\x00"),
        (STOP_SENDING, b"\x00"),
        (STOP_SENDING, b"\x00\x00\x00"),
        (STOP_SENDING, b"\x00\xc0\x00\x00\x01\x00\x00\x00\x00"),
    ];
    for (kind, payload) in rows {
        let bytes = [&raw(kind, payload)[..], &[0; 8]].concat();
        for order in FLAVOURS {
            let (capsules, end) = decode(order, [&bytes[..]]);
            let code = end.err().map(|violation| violation.code);
            assert_eq!(
                code,
                Some(HttpCode::H3_MESSAGE_ERROR),
                "{kind:#x} {payload:x?}"
            );
            assert_eq!(capsules, []);
        }
    }
}

#[test]
fn the_end_inside_a_stream_capsule_is_a_message_error() {
    let bytes = encode(&[stream_of(100, "data", true)]);
    for end in 1..bytes.len() {
        assert!(
            decode(FinOrder::Deployed, [&bytes[..end]]).1.is_err(),
            "{end}"
        );
    }
}

#[test]
fn in_the_native_flavour_streams_are_unknown() {
    let bytes = encode(&[
        stream_of(0, "data", true),
        Capsule::StopSending {
            stream: int(0).into(),
            code: 1,
        },
        Capsule::Drain,
    ]);
    assert_eq!(super::decode([&bytes[..]]), (vec![Capsule::Drain], Ok(())));
}

fn any_of_streams() -> impl Strategy<Value = Capsule> {
    let id = || any_int().prop_map(StreamId::from);
    let size = prop::option::of(any_int());
    prop_oneof![
        any_capsule(),
        // Two on one stream in a row would be put together.
        (id(), vec(any::<u8>(), 0..300)).prop_map(|(stream, data)| Capsule::Stream {
            stream,
            data: data.into(),
            fin: true,
        }),
        (id(), any::<u32>(), size).prop_map(|(stream, code, reliable_size)| {
            Capsule::ResetStream {
                stream,
                code,
                reliable_size,
            }
        }),
        (id(), any::<u32>()).prop_map(|(stream, code)| Capsule::StopSending { stream, code }),
    ]
}

fn any_bytes_of_streams() -> impl Strategy<Value = Vec<u8>> {
    let kind = STREAM_3B - 3..STREAM_3B + 12;
    let one = prop_oneof![
        8 => any_of_streams().prop_map(|capsule| encode(&[capsule])),
        2 => (kind, vec(any::<u8>(), 0..20)).prop_map(|(kind, payload)| raw(kind, &payload)),
        1 => vec(any::<u8>(), 0..20),
    ];
    vec(one, 0..8).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_capsule_of_the_capsule_flavour_survives_the_wire(
        capsules in vec(any_of_streams(), 0..6),
    ) {
        let decoded = decode(FinOrder::Deployed, [&encode(&capsules)[..]]);
        prop_assert_eq!(decoded, (capsules, Ok(())));
    }

    #[test]
    fn any_cut_of_any_bytes_gives_the_same_streams(
        bytes in any_bytes_of_streams(),
        places in vec(0..1000usize, 0..12),
        draft: bool,
    ) {
        let order = FLAVOURS[usize::from(draft)];
        let whole = decode(order, [&bytes[..]]);
        prop_assert_eq!(&decode(order, cut(&bytes, places)), &whole);
        prop_assert_eq!(&decode(order, bytes.chunks(1)), &whole);
    }
}
