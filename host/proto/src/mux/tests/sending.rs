//! What waits to be sent: limits, room, whose turn it is.

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::seeded::check_seeded;

/// A server with these limits, and so many streams that it opened and announced.
fn with(send: SendLimits, peer: Grants, streams: usize) -> (Mux, Vec<StreamId>) {
    let mut config = config(Side::Server);
    config.limits.send = send;
    config.peer = peer;
    let mut mux = Mux::new(config);
    let ids = (0..streams).map(|_| mux.open(Dir::Bi).unwrap()).collect();
    said(&mut mux);
    (mux, ids)
}

const WIDE: Grants = Grants {
    session: session::Limits {
        data: 1 << 30,
        streams_bidi: 100,
        streams_uni: 100,
    },
    uni: 1 << 20,
    bidi_local: 1 << 20,
    bidi_remote: 1 << 20,
};

/// Streams, but not a byte on them.
const MUTE: Grants = Grants {
    session: session::Limits {
        data: 0,
        ..WIDE.session
    },
    ..WIDE
};

const SEND: SendLimits = SendLimits {
    stream: 400,
    session: 1_000,
    room: usize::MAX,
};

fn max_stream_data(stream: StreamId, limit: u64) -> Capsule {
    let limit = int(limit);
    Capsule::MaxStreamData { stream, limit }
}

/// Which stream each capsule carries data of, and how much.
fn turns(capsules: Vec<Capsule>) -> Vec<(StreamId, usize)> {
    let turn = |capsule| {
        let Capsule::Stream { stream, data, .. } = capsule else {
            panic!("{capsule:?}");
        };
        (stream, data.len())
    };
    capsules.into_iter().map(turn).collect()
}

#[test]
fn a_send_is_taken_whole_or_not_at_all() {
    let (mut mux, ids) = with(SEND, WIDE, 1);
    mux.send(ids[0], bytes(300), false).unwrap();
    assert_eq!(mux.send_capacity(ids[0]), Ok(100));
    assert_eq!(
        mux.send(ids[0], bytes(101), true),
        Err(CommandError::WouldBlock)
    );
    assert_eq!(mux.info().send_buffered, 300);
    mux.send(ids[0], bytes(100), false).unwrap();
    mux.finish(ids[0]).unwrap();
    let len = turns(said(&mut mux)).iter().map(|(_, n)| n).sum::<usize>();
    assert_eq!(len, 400);
    assert_eq!(events(&mut mux), [], "who finished waits for nothing");
}

#[test]
fn room_is_told_once_when_half_is_free() {
    let narrow = Grants {
        bidi_remote: 199,
        ..WIDE
    };
    let (mut mux, ids) = with(SEND, narrow, 1);
    mux.send(ids[0], bytes(400), false).unwrap();
    for _ in 0..3 {
        assert_eq!(
            mux.send(ids[0], bytes(1), false),
            Err(CommandError::WouldBlock)
        );
    }
    said(&mut mux);
    assert_eq!(events(&mut mux), [], "one byte less than half");
    hear(&mut mux, [max_stream_data(ids[0], 200)]);
    said(&mut mux);
    assert_eq!(events(&mut mux), [Event::Writable(ids[0])]);
    hear(&mut mux, [max_stream_data(ids[0], 300)]);
    said(&mut mux);
    assert_eq!(events(&mut mux), []);
    mux.send(ids[0], bytes(300), false).unwrap();
}

#[test]
fn room_for_a_large_send_is_told_when_it_would_be_taken() {
    let narrow = Grants {
        bidi_remote: 300,
        ..WIDE
    };
    let (mut mux, ids) = with(SEND, narrow, 1);
    mux.send(ids[0], bytes(400), false).unwrap();
    assert_eq!(
        mux.send(ids[0], bytes(350), false),
        Err(CommandError::WouldBlock)
    );
    said(&mut mux);
    assert_eq!(events(&mut mux), [], "300 are free");
    hear(&mut mux, [max_stream_data(ids[0], 350)]);
    said(&mut mux);
    assert_eq!(events(&mut mux), [Event::Writable(ids[0])]);
    mux.send(ids[0], bytes(350), false).unwrap();
}

#[test]
fn a_send_larger_than_the_limit_is_taken_when_nothing_waits() {
    let (mut mux, ids) = with(SEND, WIDE, 2);
    mux.send(ids[0], bytes(5_000), false).unwrap();
    assert_eq!(
        mux.send(ids[0], bytes(5_000), false),
        Err(CommandError::WouldBlock)
    );
    assert_eq!(
        mux.send(ids[1], bytes(1), false),
        Err(CommandError::WouldBlock)
    );
    assert_eq!(mux.send_capacity(ids[1]), Ok(0));
    assert_eq!(turns(said(&mut mux)), [(ids[0], 5_000)]);
    assert_eq!(events(&mut mux), [ids[0], ids[1]].map(Event::Writable));
    mux.send(ids[0], bytes(5_000), false).unwrap();
}

#[test]
fn the_limit_of_the_session_is_shared_and_room_in_it_is_told_to_all_who_wait() {
    let (mut mux, ids) = with(SEND, MUTE, 4);
    for id in &ids[..2] {
        mux.send(*id, bytes(400), false).unwrap();
    }
    mux.send(ids[2], bytes(200), false).unwrap();
    for id in &ids[2..] {
        assert_eq!(
            mux.send(*id, bytes(10), false),
            Err(CommandError::WouldBlock)
        );
    }
    hear(&mut mux, [Capsule::MaxData(int(499))]);
    said(&mut mux);
    assert_eq!(events(&mut mux), []);
    hear(&mut mux, [Capsule::MaxData(int(500))]);
    said(&mut mux);
    assert_eq!(events(&mut mux), [ids[2], ids[3]].map(Event::Writable));
    assert_eq!(events(&mut mux), []);
}

#[test]
fn who_was_refused_is_told_even_where_others_take_the_room_first() {
    let (mut mux, ids) = with(SEND, WIDE, 3);
    mux.send(ids[0], bytes(400), false).unwrap();
    assert_eq!(
        mux.send(ids[0], bytes(1), false),
        Err(CommandError::WouldBlock)
    );
    mux.poll_transmit(107).unwrap();
    for _ in 0..2 {
        mux.send(ids[1], bytes(200), false).unwrap();
        mux.send(ids[2], bytes(150), false).unwrap();
    }
    assert_eq!(mux.info().send_buffered, 1_000);
    // Half of its own buffer is free when the session's is full.
    mux.set_priority(ids[0], 1).unwrap();
    mux.poll_transmit(107).unwrap();
    mux.send(ids[2], bytes(100), false).unwrap();
    check(&mux);
    assert_eq!(events(&mut mux), []);
    said(&mut mux);
    assert_eq!(events(&mut mux), [Event::Writable(ids[0])]);
}

#[test]
fn a_reset_and_a_stop_free_the_room_for_others() {
    for act in ["reset", "stop"] {
        let (mut mux, ids) = with(SEND, MUTE, 4);
        for id in &ids[..2] {
            mux.send(*id, bytes(400), false).unwrap();
        }
        mux.send(ids[2], bytes(200), false).unwrap();
        assert_eq!(
            mux.send(ids[3], bytes(1), false),
            Err(CommandError::WouldBlock)
        );
        for id in &ids[..2] {
            match act {
                "reset" => mux.reset(*id, 1).unwrap(),
                _ => hear(&mut mux, [stop_sending(*id, 1)]),
            }
        }
        assert_eq!(
            events(&mut mux).pop(),
            Some(Event::Writable(ids[3])),
            "{act}"
        );
        assert_eq!(mux.info().send_buffered, 200);
    }
}

#[test]
fn what_comes_in_waits_for_room_and_goes_on_when_there_is_some() {
    let (bi, _) = peers();
    let blocked = |free: fn(&mut Mux, StreamId)| {
        let (mut mux, _) = with(SEND, MUTE, 0);
        hear(&mut mux, [wt_stream(bi, "ping", false)]);
        assert_eq!(mux.poll_event(), Some(Event::Opened(bi)));
        mux.send(bi, bytes(400), false).unwrap();
        assert_eq!(events(&mut mux), []);
        free(&mut mux, bi);
        check(&mux);
        let told = events(&mut mux);
        assert!(told.contains(&data(bi, "ping", false)), "{told:?}");
    };
    blocked(|mux, _| {
        hear(mux, [Capsule::MaxData(int(400))]);
        said(mux);
    });
    blocked(|mux, id| mux.reset(id, 1).unwrap());
    blocked(|mux, id| hear(mux, [stop_sending(id, 1)]));
}

#[test]
fn what_comes_in_does_not_come_in_bytes_where_nothing_more_may_be_sent() {
    let (bi, _) = peers();
    let (mut mux, _) = with(SEND, MUTE, 0);
    mux.set_room(0);
    hear(&mut mux, [wt_stream(bi, bytes(200), false)]);
    let told = events(&mut mux);
    assert_eq!(told, [Event::Opened(bi), data(bi, bytes(200), false)]);
}

#[test]
fn fin_frees_what_comes_in_from_waiting_for_room() {
    let send = SendLimits {
        stream: 400,
        session: 10_000,
        room: usize::MAX,
    };
    let (mut mux, _) = with(send, MUTE, 0);
    let (bi, _) = peers();
    hear(&mut mux, [wt_stream(bi, "ping", false)]);
    assert_eq!(mux.poll_event(), Some(Event::Opened(bi)));
    mux.send(bi, bytes(400), false).unwrap();
    assert_eq!(events(&mut mux), []);
    mux.finish(bi).unwrap();
    assert_eq!(events(&mut mux), [data(bi, "ping", false)]);
}

#[test]
fn an_echo_is_never_refused() {
    let pieces = vec((0..4u64, 0..9_000usize), 1..20);
    let limits = (1..20_000usize, 0..20_000usize);
    let rooms = vec(1..6_000usize, 1..6);
    check_seeded(300, &(pieces, limits, rooms), |(pieces, limits, rooms)| {
        let send = SendLimits {
            stream: limits.0,
            session: limits.0 + limits.1,
            room: usize::MAX,
        };
        let patient = SendLimits {
            stream: 1 << 30,
            session: 1 << 30,
            room: usize::MAX,
        };
        let [mut client, mut server] =
            [(Side::Client, patient), (Side::Server, send)].map(|(side, send)| {
                let mut config = config(side);
                (config.local, config.peer) = (WIDE, WIDE);
                (config.local.bidi_remote, config.peer.bidi_remote) = (7_000, 7_000);
                config.limits.send = send;
                Mux::new(config)
            });
        let ids: Vec<StreamId> = (0..4).map(|_| client.open(Dir::Bi).unwrap()).collect();
        let mut sent = [0; 4];
        for (stream, len) in pieces {
            let stream = usize::try_from(stream).unwrap();
            client.send(ids[stream], bytes(len), false).unwrap();
            sent[stream] += len;
        }
        for id in &ids {
            client.finish(*id).unwrap();
        }
        let (mut came, mut over) = ([0; 4], 0);
        for room in rooms.iter().cycle().take(100_000) {
            for (from, to) in [(true, false), (false, true)] {
                let (from, to) = match (from, to) {
                    (true, _) => (&mut client, &mut server),
                    _ => (&mut server, &mut client),
                };
                if let Some(Transmit::Capsules(mut chunks)) = from.poll_transmit(*room) {
                    to.receive(chunks.copy_to_bytes(chunks.remaining()));
                }
            }
            while let Some(event) = server.poll_event() {
                if let Event::Data { stream, data, fin } = event {
                    prop_assert_eq!(server.send(stream, data, fin), Ok(()));
                }
            }
            while let Some(event) = client.poll_event() {
                if let Event::Data { stream, data, .. } = event {
                    let place = ids.iter().position(|id| *id == stream).unwrap();
                    came[place] += data.len();
                } else {
                    prop_assert!(matches!(event, Event::StreamClosed(_)), "{event:?}");
                    over += 1;
                }
            }
            if over == 4 {
                prop_assert_eq!(came, sent);
                check(&server);
                return Ok(());
            }
        }
        prop_assert!(false, "it does not end: {:?} of {:?}", came, sent);
        Ok(())
    });
}

#[test]
fn streams_of_equal_priority_take_turns_of_one_capsule_of_16_kib_with_its_header() {
    let wide = SendLimits {
        stream: 1 << 20,
        session: 1 << 20,
        room: usize::MAX,
    };
    let (mut mux, ids) = with(wide, WIDE, 2);
    mux.send(ids[0], bytes(40_000), false).unwrap();
    mux.send(ids[1], bytes(20_000), false).unwrap();
    let expected = [
        (ids[0], 16_377),
        (ids[1], 16_377),
        (ids[0], 16_377),
        (ids[1], 3_623),
        (ids[0], 7_246),
    ];
    assert_eq!(turns(said(&mut mux)), expected);
}

#[test]
fn a_capsule_holds_what_was_sent_in_pieces_and_ends_where_a_frame_does() {
    let wide = SendLimits {
        stream: 1 << 20,
        session: 1 << 20,
        room: usize::MAX,
    };
    let (mut mux, ids) = with(wide, WIDE, 1);
    mux.send_datagram(&bytes(10)).unwrap();
    for _ in 0..30 {
        mux.send(ids[0], bytes(2_000), false).unwrap();
    }
    let Some(Transmit::Capsules(mut chunks)) = mux.poll_transmit(1 << 20) else {
        panic!("there is data");
    };
    let mut frames = Vec::new();
    while chunks.has_remaining() {
        let frame = chunks.copy_to_bytes(chunks.remaining().min(16 << 10));
        frames.push(decode(frame.into()).len()); // each is whole by itself
    }
    assert_eq!(frames, [2, 1, 1, 1]);
}

#[test]
fn a_higher_priority_goes_first_and_a_new_one_counts_at_once() {
    let wide = SendLimits {
        stream: 1 << 20,
        session: 1 << 20,
        room: usize::MAX,
    };
    let (mut mux, ids) = with(wide, WIDE, 3);
    mux.set_priority(ids[0], -1).unwrap();
    mux.set_priority(ids[2], 1).unwrap();
    for id in &ids {
        mux.send(*id, bytes(20_000), false).unwrap();
    }
    let first = |mux: &mut Mux| {
        let Some(Transmit::Capsules(mut chunks)) = mux.poll_transmit(5_000) else {
            panic!("there is data");
        };
        let all = chunks.copy_to_bytes(chunks.remaining());
        turns(decode(all.into()))[0].0
    };
    assert_eq!(first(&mut mux), ids[2]);
    mux.set_priority(ids[0], 2).unwrap();
    assert_eq!(first(&mut mux), ids[0]);
    mux.set_priority(ids[0], i32::MIN).unwrap();
    mux.set_priority(ids[1], i32::MAX).unwrap();
    assert_eq!(first(&mut mux), ids[1]);
    let mut rest: Vec<StreamId> = turns(said(&mut mux))
        .into_iter()
        .map(|(id, _)| id)
        .collect();
    rest.dedup(); // where a frame ends
    assert_eq!(rest, [ids[1], ids[2], ids[0]]);
}

#[test]
fn little_more_is_made_than_there_is_room_for() {
    let wide = SendLimits {
        stream: 1 << 20,
        session: 1 << 20,
        room: usize::MAX,
    };
    for room in [1, 63, 64, 1_000, 65_535, 1 << 20] {
        let (mut mux, ids) = with(wide, WIDE, 1);
        mux.send(ids[0], bytes(200_000), false).unwrap();
        assert!(mux.poll_transmit(0).is_none());
        let Some(Transmit::Capsules(chunks)) = mux.poll_transmit(room) else {
            panic!("there is data");
        };
        assert!(chunks.remaining() <= room.min(64 << 10) + 20, "{room}");
    }
}

#[test]
fn payloads_are_not_copied() {
    let (mut mux, ids) = with(SEND, WIDE, 1);
    let payload = bytes(5_000);
    mux.send(ids[0], payload.clone(), false).unwrap();
    let Some(Transmit::Capsules(mut chunks)) = mux.poll_transmit(1 << 20) else {
        panic!("there is data");
    };
    let header = chunks.chunk().len();
    assert_eq!(chunks.remaining(), header + payload.len());
    let mut slices = [std::io::IoSlice::new(&[]); 4];
    assert_eq!(chunks.chunks_vectored(&mut slices), 2);
    chunks.advance(header);
    assert_eq!(chunks.chunk().as_ptr(), payload.as_ptr());
    chunks.advance(payload.len());
    assert!(!chunks.has_remaining());
}
