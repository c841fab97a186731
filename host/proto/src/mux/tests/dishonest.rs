//! A peer that keeps no rule, and an application that knows no measure: the session ends or holds, and nothing grows.

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::seeded::check_seeded;

/// What is endless here.
const MANY: u32 = 100_000;
/// More than any session here may hold without what credit and limits let it.
const HELD_MAX: usize = 40_000;

/// All that a session holds, as its text has it: every element of every list, every byte of every buffer.
fn held(mux: &Mux) -> usize {
    format!("{mux:?}").len()
}

/// A server that grants one stream of each kind a mebibyte.
fn generous() -> Mux {
    let mut config = config(Side::Server);
    config.local = Grants {
        session: session::Limits {
            data: 1 << 20,
            streams_bidi: 1,
            streams_uni: 1,
        },
        uni: 1 << 20,
        bidi_local: 1 << 20,
        bidi_remote: 1 << 20,
    };
    config.limits.send = SendLimits {
        stream: 1 << 20,
        session: 1 << 20,
        room: usize::MAX,
    };
    Mux::new(config)
}

fn header(kind: u32, length: u64) -> BytesMut {
    let mut out = BytesMut::new();
    VarInt::from_u32(kind).encode(&mut out);
    int(length).encode(&mut out);
    out
}

#[test]
fn capsules_of_no_interest_are_skipped_however_long_and_many() {
    let mut mux = server();
    let piece = Bytes::from(vec![0; 1 << 16]);
    let before = held(&mux);
    for kind in [0x190b_4d38, 0x17, 0x00] {
        let length = (1 << 25) + 5;
        mux.receive(header(kind, length).freeze());
        for _ in 0..1 << 9 {
            mux.receive(piece.clone());
            assert!(held(&mux) < before + 100);
        }
        mux.receive(piece.slice(..5));
    }
    let short = [&header(0x190b_4d38, 3)[..], &[0; 3]].concat();
    for _ in 0..MANY {
        mux.receive(short.clone().into());
    }
    let (bi, _) = peers();
    hear(&mut mux, [wt_stream(bi, "on", false)]);
    assert_eq!(events(&mut mux), [Event::Opened(bi), data(bi, "on", false)]);
}

#[test]
fn a_stream_capsule_of_any_length_ends_the_session_at_the_limit() {
    let mut mux = server();
    let mut begin = header(0x190b_4d3b, VarInt::MAX.into_inner());
    int(0).encode(&mut begin);
    mux.receive(begin.freeze());
    for _ in 0..300 {
        mux.receive(bytes(1));
        assert!(!mux.is_closed());
    }
    mux.receive(bytes(1));
    assert_violation(&mut mux, "more data than was granted for a stream");
}

#[test]
fn malformed_capsules_end_the_session() {
    let long = [&header(0x2843, 4 + 1025)[..], &[b'x'; 4 + 1025]].concat();
    let rows = [
        (long, "capsule of a wrong length"),
        (
            header(0x2843, 1 << 40).to_vec(),
            "capsule of a wrong length",
        ),
        (
            b"\x68\x43\x05\0\0\0\0\xff".to_vec(),
            "close reason is not UTF-8",
        ),
        (
            b"\x99\x0b\x4d\x3b\x00\x00".to_vec(),
            "capsule of a wrong length",
        ),
        (
            b"\x99\x0b\x4d\x3c\x01\x40\x00".to_vec(),
            "capsule of a wrong length",
        ),
        (
            header(0x190b_4d39, 25).to_vec(),
            "capsule of a wrong length",
        ),
        (
            b"\x99\x0b\x4d\x39\x04\x00\x00\x00\x00".to_vec(),
            "capsule of a wrong length",
        ),
        (
            b"\x99\x0b\x4d\x3a\x01\x00".to_vec(),
            "capsule of a wrong length",
        ),
        (
            b"\x99\x0b\x4d\x3f\x08\xd0\0\0\0\0\0\0\x01".to_vec(),
            "stream limit beyond 2^60",
        ),
    ];
    for (bytes, reason) in rows {
        let mut mux = server();
        mux.receive(bytes.into());
        assert_violation(&mut mux, reason);
    }
}

#[test]
fn tiny_pieces_are_gathered() {
    let mut mux = generous();
    let (bi, _) = peers();
    for _ in 0..MANY {
        mux.receive(encode([wt_stream(bi, "x", false)]));
    }
    let Half::Open(receiving) = &mux.streams[&bi].recv else {
        panic!("it goes on");
    };
    assert!(receiving.buffer.pieces() < 20);
    assert!(held(&mux) < MANY as usize + 8_000);
    let (mut told, mut events) = (0, 0);
    while let Some(event) = mux.poll_event() {
        events += 1;
        if let Event::Data { data, .. } = event {
            told += data.len();
        }
    }
    assert_eq!(told, MANY as usize);
    assert!(events < 20);
}

#[test]
fn empty_pieces_leave_nothing() {
    let mut mux = generous();
    let (bi, _) = peers();
    let limit = int(0);
    for _ in 0..MANY {
        mux.receive(encode([
            wt_stream(bi, "", false),
            Capsule::StreamDataBlocked { stream: bi, limit },
        ]));
    }
    assert!(held(&mux) < HELD_MAX);
    assert_eq!(events(&mut mux), [Event::Opened(bi)]);
}

#[test]
fn a_tiny_piece_does_not_pin_what_it_came_in() {
    let mut mux = generous();
    let (bi, _) = peers();
    let padding = [&header(0x190b_4d38, 1 << 14)[..], &[0; 1 << 14]].concat();
    let read = Bytes::from([&encode([wt_stream(bi, "x", false)])[..], &padding].concat());
    mux.receive(read.clone());
    assert!(read.is_unique(), "nothing else refers to it");
    let datagram = Capsule::Datagram("x".into());
    let read = Bytes::from([&encode([datagram.clone(), datagram])[..], &padding].concat());
    let second = read.slice(3..);
    mux.receive(read);
    mux.receive(Bytes::new());
    mux.datagrams_in.pop_front();
    assert!(second.is_unique(), "the second datagram was copied");
}

#[test]
fn streams_opened_and_reset_at_once_are_told_and_gone() {
    let mut mux = server();
    let mut told = 0;
    for index in 0..u64::from(MANY) {
        let id = stream_id(Side::Client, Dir::Uni, index);
        mux.receive(encode([reset_stream(id, 1, 0)]));
        told += events(&mut mux).len();
        mux.poll_transmit(1_000);
    }
    assert_eq!(told, 3 * MANY as usize);
    assert!(held(&mux) < HELD_MAX && mux.streams.is_empty());
    // An application that asks for nothing grants nothing.
    for index in u64::from(MANY)..u64::from(MANY) + 4 {
        let id = stream_id(Side::Client, Dir::Uni, index);
        mux.receive(encode([reset_stream(id, 1, 0)]));
    }
    assert_violation(&mut mux, "more streams than were granted");
}

#[test]
fn a_handler_that_opens_and_resets_for_ever_is_held_where_the_peer_reads_nothing() {
    let mut mux = server();
    let all = int(1 << 60);
    hear(
        &mut mux,
        [Dir::Bi, Dir::Uni].map(|dir| Capsule::MaxStreams(dir, all)),
    );
    let mut opened = 0;
    for _ in 0..MANY {
        for dir in [Dir::Bi, Dir::Uni] {
            if let Ok(id) = mux.open(dir) {
                opened += 1;
                mux.send(id, bytes(10), false).unwrap();
                mux.reset(id, 1).unwrap();
            }
        }
        mux.poll_event();
    }
    assert_eq!(opened, 2 * 8);
    assert!(held(&mux) < HELD_MAX);
    check(&mux);
}

#[test]
fn a_handler_that_sends_for_ever_is_held_where_the_peer_grants_or_reads_nothing() {
    for peer in [
        Grants {
            session: session::Limits {
                data: 0,
                ..GRANTS.session
            },
            ..GRANTS
        },
        GRANTS,
    ] {
        let mut mux = Mux::new(Config {
            peer,
            ..config(Side::Server)
        });
        let ids = [Dir::Bi, Dir::Uni].map(|dir| mux.open(dir).unwrap());
        for n in 0..MANY / 10 {
            for id in ids {
                let _ = mux.send(id, bytes(100), false);
                mux.set_priority(id, i32::try_from(n).unwrap()).unwrap();
            }
            mux.send_datagram(&[1; 100]).unwrap();
            if peer.session.data == 0 {
                said(&mut mux);
            }
            mux.poll_event();
        }
        assert_eq!(mux.info().send_buffered, 800);
        assert!(held(&mux) < HELD_MAX);
        check(&mux);
    }
}

#[test]
fn a_flood_of_datagrams_is_bounded_in_both_directions() {
    let mut mux = server();
    let flood = encode((0..1_000).map(|_| Capsule::Datagram(bytes(100))));
    for _ in 0..MANY / 1_000 {
        mux.receive(flood.clone());
        for _ in 0..1_000 {
            mux.send_datagram(&[1; 100]).unwrap();
        }
    }
    assert!(held(&mux) < HELD_MAX);
    let info = mux.info();
    assert_eq!(info.datagrams_dropped_in, u64::from(MANY) - 4);
    assert_eq!(info.datagrams_dropped_out, u64::from(MANY) - 4);
}

#[test]
fn limits_raised_a_byte_at_a_time_leave_nothing_where_the_application_sleeps() {
    let mut config = config(Side::Server);
    config.peer.session.data = 0;
    config.limits.send = SendLimits {
        stream: 1 << 20,
        session: 1 << 20,
        room: usize::MAX,
    };
    let mut mux = Mux::new(config);
    let id = mux.open(Dir::Uni).unwrap();
    mux.send(id, bytes(1 << 15), false).unwrap();
    for n in 1..1 << 14 {
        let stream = id;
        mux.receive(encode([
            Capsule::MaxData(int(n)),
            Capsule::MaxStreams(Dir::Bi, int(n + 3)),
            Capsule::MaxStreamData {
                stream,
                limit: int(n + 300),
            },
        ]));
        assert!(mux.poll_transmit(1_000).is_some());
    }
    assert_eq!(mux.info().bytes_sent, (1 << 14) - 1);
    mux.reset(id, 1).unwrap();
    assert!(held(&mux) < HELD_MAX);
}

#[test]
fn stopped_streams_hold_nothing_of_what_still_comes() {
    let mut mux = generous();
    let (bi, _) = peers();
    hear(&mut mux, [wt_stream(bi, "", false)]);
    events(&mut mux);
    mux.stop(bi, 1).unwrap();
    for _ in 0..MANY {
        mux.receive(encode([wt_stream(bi, "12345678", false)]));
    }
    assert!(held(&mux) < HELD_MAX);
    assert!(!mux.is_closed());
    hear(&mut mux, [wt_stream(bi, bytes(1 << 20), false)]);
    assert_violation(&mut mux, "more data than was granted for a stream");
}

fn any_capsule() -> impl Strategy<Value = Bytes> {
    let id = (0..4u64, prop_oneof![20 => 0..4u64, 1 => 0..1u64 << 60])
        .prop_map(|(kind, index)| StreamId::from(int(index * 4 + kind)));
    let limit = prop_oneof![
        (0..2_000u64).boxed(),
        (0..=VarInt::MAX.into_inner()).boxed()
    ]
    .prop_map(int);
    let streams = (0..9u64).prop_map(int);
    let dir = prop_oneof![Just(Dir::Bi), Just(Dir::Uni)];
    prop_oneof![
        8 => (id.clone(), 0..200usize, any::<bool>())
            .prop_map(|(id, n, fin)| wt_stream(id, bytes(n), fin)),
        2 => (id.clone(), any::<u32>(), prop::option::of(0..200u64)).prop_map(|(stream, code, size)| {
            Capsule::ResetStream { stream, code, reliable_size: size.map(int) }
        }),
        2 => (id.clone(), any::<u32>()).prop_map(|(stream, code)| Capsule::StopSending { stream, code }),
        2 => (id.clone(), limit.clone()).prop_map(|(stream, limit)| Capsule::MaxStreamData { stream, limit }),
        1 => (id, limit.clone()).prop_map(|(stream, limit)| Capsule::StreamDataBlocked { stream, limit }),
        1 => limit.prop_map(Capsule::MaxData),
        1 => (dir, streams).prop_map(|(dir, limit)| Capsule::MaxStreams(dir, limit)),
        1 => (0..150usize).prop_map(|n| Capsule::Datagram(bytes(n))),
        1 => Just(Capsule::Drain),
    ]
    .prop_map(|capsule| encode([capsule]))
}

#[test]
fn whatever_a_peer_says_the_session_holds_or_ends_once() {
    let noise = vec(any::<u8>(), 0..12).prop_map(Bytes::from);
    let said = prop_oneof![20 => any_capsule(), 1 => noise];
    check_seeded(1_000, &vec((said, 0..9u8), 0..60), |steps| {
        let mut mux = server();
        let (mut ids, mut over) = (Vec::new(), false);
        for (bytes, act) in steps {
            mux.receive(bytes);
            match act {
                0 => ids.extend(mux.open(Dir::Bi)),
                1 => ids.extend(mux.open(Dir::Uni)),
                2 | 3 => {
                    for id in &ids {
                        let _ = mux.send(*id, super::bytes(150), act == 3);
                    }
                }
                4 => {
                    if let Some(id) = ids.pop() {
                        let _ = mux.stop(id, 1);
                    }
                }
                5 => while let Some(Transmit::Capsules(_)) = mux.poll_transmit(50) {},
                _ => {
                    for event in events(&mut mux) {
                        prop_assert!(!over, "{event:?} after the last");
                        over = matches!(event, Event::Closed(_));
                        if let Event::Opened(id) = event {
                            ids.push(id);
                        }
                    }
                }
            }
            check(&mux);
            prop_assert!(held(&mux) < HELD_MAX);
        }
        Ok(())
    });
}
