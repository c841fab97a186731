use std::{collections::BTreeSet, iter};

use super::*;
use crate::{capsule::REASON_BYTES_MAX, id::StreamId, varint::VarInt};

mod pair;
mod table;

const LIMITS: Limits = Limits {
    data: 100,
    streams_bidi: 2,
    streams_uni: 2,
};

fn session() -> Session {
    Session::new(Config {
        local: LIMITS,
        peer: Some(LIMITS),
        flavour: Flavour::Native,
        datagram_bytes_max: 100,
    })
}

fn session_without_flow_control() -> Session {
    Session::new(Config {
        local: LIMITS,
        peer: None,
        flavour: Flavour::Native,
        datagram_bytes_max: 100,
    })
}

fn encode(capsules: impl IntoIterator<Item = Capsule>) -> Bytes {
    let mut out = BytesMut::new();
    for capsule in capsules {
        capsule.encode(&mut out);
    }
    out.freeze()
}

fn decode(bytes: Bytes) -> Vec<Capsule> {
    let mut decoder = Decoder::new(100);
    decoder.push(bytes);
    iter::from_fn(|| decoder.poll().unwrap()).collect()
}

fn events(session: &mut Session) -> Vec<Event> {
    iter::from_fn(|| session.poll_event()).collect()
}

fn transmits(session: &mut Session) -> Vec<Transmit> {
    iter::from_fn(|| session.poll_transmit()).collect()
}

/// The capsules that are to be sent, when nothing else is.
fn news(session: &mut Session) -> Vec<Capsule> {
    transmits(session)
        .into_iter()
        .flat_map(|transmit| match transmit {
            Transmit::Capsules(bytes) => decode(bytes),
            Transmit::Fin | Transmit::Abort(_) => panic!("the session is over: {transmit:?}"),
        })
        .collect()
}

fn close_capsule(code: u32, reason: &str) -> Capsule {
    Capsule::Close {
        code,
        reason: reason.to_owned(),
    }
}

fn closed(code: u32, reason: &str, by: By, clean: bool) -> Event {
    Event::Closed(Closed {
        code,
        reason: reason.to_owned(),
        by,
        clean,
    })
}

fn limit(n: u64) -> VarInt {
    VarInt::try_from(n).unwrap()
}

/// A sentence, what happens, how the session is told to have ended, and what is transmitted from then on.
type Race = (&'static str, fn(&mut Session), Event, Vec<Transmit>);

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn races_end_as_they_should() {
    let close_and_fin = |code, reason| {
        vec![
            Transmit::Capsules(encode([close_capsule(code, reason)])),
            Transmit::Fin,
        ]
    };
    let abort = |code| vec![Transmit::Abort(code)];
    let races: Vec<Race> = vec![
        (
            "a close while we drain keeps its code",
            |s| {
                s.drain();
                s.close(1, "enough");
                s.end(By::Local, Dir::Bi);
            },
            closed(1, "enough", By::Local, true),
            close_and_fin(1, "enough"),
        ),
        (
            "a close by the peer while we drain ends the session before its last stream",
            |s| {
                s.drain();
                s.receive(encode([close_capsule(2, "bye")]));
                s.end(By::Local, Dir::Bi);
            },
            closed(2, "bye", By::Peer, true),
            vec![Transmit::Fin],
        ),
        (
            "a close by the peer while ours is in flight is not told",
            |s| {
                s.close(1, "enough");
                s.receive(encode([close_capsule(2, "bye")]));
                s.receive_fin();
            },
            closed(1, "enough", By::Local, true),
            close_and_fin(1, "enough"),
        ),
        (
            "our close after the peer's is not sent",
            |s| {
                s.receive(encode([close_capsule(2, "bye")]));
                s.close(1, "enough");
            },
            closed(2, "bye", By::Peer, true),
            vec![Transmit::Fin],
        ),
        (
            "of two closes by us the first counts",
            |s| {
                s.close(1, "enough");
                s.close(3, "again");
            },
            closed(1, "enough", By::Local, true),
            close_and_fin(1, "enough"),
        ),
        (
            "bytes after the peer's close, in the same piece, abort the stream and change nothing told",
            |s| s.receive(encode([close_capsule(2, "bye"), Capsule::Drain])),
            closed(2, "bye", By::Peer, true),
            abort(HttpCode::H3_MESSAGE_ERROR),
        ),
        (
            "bytes after the peer's close, in a later piece, abort the stream and change nothing told",
            |s| {
                s.receive(encode([close_capsule(2, "bye")]));
                s.receive(Bytes::from_static(b"\x17"));
                s.receive(Bytes::from_static(b"\x00"));
            },
            closed(2, "bye", By::Peer, true),
            abort(HttpCode::H3_MESSAGE_ERROR),
        ),
        (
            "an empty piece after the peer's close is nothing",
            |s| {
                s.receive(encode([close_capsule(2, "bye")]));
                s.receive(Bytes::new());
                s.receive_fin();
            },
            closed(2, "bye", By::Peer, true),
            vec![Transmit::Fin],
        ),
        (
            "a reset after the peer's close is not told",
            |s| {
                s.receive(encode([close_capsule(2, "bye")]));
                s.receive_abort("reset");
            },
            closed(2, "bye", By::Peer, true),
            vec![Transmit::Fin],
        ),
        (
            "a loss before our close is sent leaves nothing to transmit",
            |s| {
                s.close(1, "enough");
                s.connection_lost(0, "timed out");
            },
            closed(1, "enough", By::Local, true),
            vec![],
        ),
        (
            "a loss is told with its code and reason",
            |s| s.connection_lost(4, "timed out"),
            closed(4, "timed out", By::Peer, false),
            vec![],
        ),
        (
            "the end of the stream without a close means code 0",
            Session::receive_fin,
            closed(0, "", By::Peer, true),
            vec![Transmit::Fin],
        ),
        (
            "the end of the stream inside a capsule is a violation",
            |s| {
                s.receive(Bytes::from_static(b"\x68"));
                s.receive_fin();
            },
            closed(
                CLOSE_PROTOCOL_VIOLATION,
                "the stream ended inside a capsule",
                By::Local,
                false,
            ),
            abort(HttpCode::H3_MESSAGE_ERROR),
        ),
        (
            "a violation after our drain and before the last stream ends is told as one",
            |s| {
                s.drain();
                s.receive(encode([Capsule::MaxData(VarInt::from_u32(100))]));
                s.end(By::Local, Dir::Bi);
            },
            closed(
                CLOSE_PROTOCOL_VIOLATION,
                "data limit that does not increase",
                By::Local,
                false,
            ),
            abort(HttpCode::WT_FLOW_CONTROL_ERROR),
        ),
        (
            "a drain that is followed by a close is not sent",
            |s| {
                s.end(By::Local, Dir::Bi);
                s.drain();
            },
            closed(0, "", By::Local, true),
            close_and_fin(0, ""),
        ),
    ];
    for (sentence, happens, told, transmitted) in races {
        let mut session = session();
        session.open(Dir::Bi).unwrap();
        happens(&mut session);
        assert_eq!(events(&mut session), [told], "{sentence}");
        assert_eq!(transmits(&mut session), transmitted, "{sentence}");
        assert!(session.is_closed(), "{sentence}");
    }
}

#[test]
fn bytes_after_the_peers_close_abort_even_after_our_fin() {
    let mut session = session();
    session.receive(encode([close_capsule(2, "bye")]));
    assert_eq!(transmits(&mut session), [Transmit::Fin]);
    session.receive(Bytes::from_static(b"x"));
    assert_eq!(
        transmits(&mut session),
        [Transmit::Abort(HttpCode::H3_MESSAGE_ERROR)]
    );
    assert_eq!(events(&mut session), [closed(2, "bye", By::Peer, true)]);
}

#[test]
fn a_long_reason_is_cut_in_what_is_sent_and_what_is_told() {
    let mut session = session();
    let reason = format!("{}ä", "x".repeat(REASON_BYTES_MAX - 1));
    let cut = "x".repeat(REASON_BYTES_MAX - 1);
    session.close(1, &reason);
    assert_eq!(events(&mut session), [closed(1, &cut, By::Local, true)]);
    let expected = encode([close_capsule(1, &cut)]);
    assert_eq!(session.poll_transmit(), Some(Transmit::Capsules(expected)));

    let mut session = self::session();
    session.connection_lost(1, &reason);
    assert_eq!(events(&mut session), [closed(1, &cut, By::Peer, false)]);
}

#[test]
fn a_drain_by_the_peer_is_told_once_and_everything_goes_on() {
    let mut session = session();
    session.receive(encode([Capsule::Drain, Capsule::Drain]));
    session.receive(encode([Capsule::Drain]));
    assert_eq!(events(&mut session), [Event::Draining]);
    session.open(Dir::Bi).unwrap();
    session.accept(Dir::Uni).unwrap();
    assert!(!session.is_draining_locally());
}

#[test]
fn a_peer_that_was_asked_is_not_asked_again_by_our_drain() {
    let mut session = session();
    session.open(Dir::Bi).unwrap();
    session.ask_to_drain();
    session.ask_to_drain();
    assert_eq!(news(&mut session), [Capsule::Drain]);
    session.open(Dir::Bi).unwrap();
    session.drain();
    assert_eq!(news(&mut session), []);
    assert_eq!(session.open(Dir::Uni), Err(OpenError::Draining));
}

#[test]
fn our_drain_is_sent_once_and_waits_for_the_streams_of_both_ends() {
    let mut session = session();
    session.open(Dir::Bi).unwrap();
    session.accept(Dir::Uni).unwrap();
    session.drain();
    session.drain();
    assert_eq!(news(&mut session), [Capsule::Drain]);
    assert_eq!(session.open(Dir::Uni), Err(OpenError::Draining));
    session.end(By::Local, Dir::Bi);
    session.accept(Dir::Bi).unwrap();
    session.end(By::Peer, Dir::Uni);
    assert!(!session.is_closed(), "the peer may still open streams");
    session.end(By::Peer, Dir::Bi);
    assert_eq!(events(&mut session), [closed(0, "", By::Local, true)]);
}

#[test]
fn datagrams_before_a_close_are_told_before_it() {
    let mut session = session();
    session.receive(encode([
        Capsule::Datagram("1".into()),
        Capsule::Drain,
        Capsule::Datagram("2".into()),
        close_capsule(2, ""),
    ]));
    let expected = [
        Event::Datagram("1".into()),
        Event::Draining,
        Event::Datagram("2".into()),
        closed(2, "", By::Peer, true),
    ];
    assert_eq!(events(&mut session), expected);
}

#[test]
fn datagrams_that_nobody_takes_give_way_to_newer_ones() {
    let mut session = session();
    let datagram = |n: usize| Bytes::from(n.to_string());
    session.receive(encode([Capsule::Drain]));
    session.receive(encode((0..1000).map(|n| Capsule::Datagram(datagram(n)))));
    let events = events(&mut session);
    assert_eq!(events.len(), EVENTS_MAX);
    assert_eq!(events[0], Event::Draining);
    assert_eq!(events[1], Event::Datagram(datagram(1001 - EVENTS_MAX)));
    assert_eq!(events.last(), Some(&Event::Datagram(datagram(999))));
}

#[test]
fn a_peer_that_does_not_read_gets_one_limit_of_each_kind() {
    let mut session = session();
    for _ in 0..1000 {
        session.received(100).unwrap();
        session.consumed(100);
        session.accept(Dir::Bi).unwrap();
        session.end(By::Peer, Dir::Bi);
        session
            .flow
            .as_mut()
            .unwrap()
            .encode_news(&mut BytesMut::new());
    }
    session.received(60).unwrap();
    session.consumed(30);
    session.consumed(30);
    session.accept(Dir::Bi).unwrap();
    session.end(By::Peer, Dir::Bi);
    let expected = [
        Capsule::MaxData(limit(100_000 + 60 + 100)),
        Capsule::MaxStreams(Dir::Bi, limit(1000 + 1 + 2)),
    ];
    assert_eq!(news(&mut session), expected);
    assert_eq!(news(&mut session), []);
}

#[test]
fn the_peer_may_not_pass_a_limit() {
    type Pass = fn(&mut Session) -> Result<(), Violation>;
    let rows: [(Pass, &str); 3] = [
        (
            |s| (0..3).try_for_each(|_| s.accept(Dir::Bi)),
            "more streams than were granted",
        ),
        (
            |s| (0..3).try_for_each(|_| s.accept(Dir::Uni)),
            "more streams than were granted",
        ),
        (
            |s| (0..101).try_for_each(|_| s.received(1)),
            "more data than was granted",
        ),
    ];
    for (pass, reason) in rows {
        let mut session = session();
        let violation = pass(&mut session).unwrap_err();
        assert_eq!(violation.code, HttpCode::WT_FLOW_CONTROL_ERROR);
        assert_eq!(violation.reason, reason);
        let told = closed(CLOSE_PROTOCOL_VIOLATION, reason, By::Local, false);
        assert_eq!(events(&mut session), [told]);
        assert_eq!(transmits(&mut session), [Transmit::Abort(violation.code)]);
    }
}

#[test]
fn a_limit_of_the_peers_must_increase() {
    let stuck = [
        Capsule::MaxData(limit(100)),
        Capsule::MaxData(limit(99)),
        Capsule::MaxStreams(Dir::Bi, limit(2)),
        Capsule::MaxStreams(Dir::Uni, limit(0)),
    ];
    for capsule in stuck {
        let mut session = session();
        session.receive(encode([capsule.clone()]));
        let abort = Transmit::Abort(HttpCode::WT_FLOW_CONTROL_ERROR);
        assert_eq!(transmits(&mut session), [abort], "{capsule:?}");
    }
}

#[test]
fn limits_of_streams_are_prohibited() {
    let stream = StreamId::from(limit(4));
    let limit = limit(1000);
    for capsule in [
        Capsule::MaxStreamData { stream, limit },
        Capsule::StreamDataBlocked { stream, limit },
    ] {
        for mut session in [session(), session_without_flow_control()] {
            session.receive(encode([capsule.clone()]));
            let abort = Transmit::Abort(HttpCode::WT_FLOW_CONTROL_ERROR);
            assert_eq!(transmits(&mut session), [abort], "{capsule:?}");
        }
    }
}

#[test]
fn raised_limits_are_told_when_nothing_had_been_left() {
    let mut session = session();
    session.receive(encode([
        Capsule::MaxData(limit(200)),
        Capsule::MaxStreams(Dir::Bi, limit(3)),
    ]));
    assert_eq!(events(&mut session), []);
    assert_eq!(
        (session.send_credit(), session.send_limit()),
        (200, Some(200))
    );
    session.take_send_credit(200);
    for _ in 0..2 {
        session.open(Dir::Uni).unwrap();
    }
    session.receive(encode([
        Capsule::MaxData(limit(201)),
        Capsule::MaxStreams(Dir::Uni, limit(4)),
        Capsule::MaxData(limit(300)),
    ]));
    assert_eq!(
        events(&mut session),
        [Event::DataCredit, Event::StreamCredit(Dir::Uni)]
    );
    assert_eq!(session.send_credit(), 100);
    let open_credit = [Dir::Bi, Dir::Uni].map(|dir| session.open_credit(dir));
    assert_eq!(open_credit, [Some(3), Some(2)]);
}

#[test]
fn what_a_session_grants_beyond_its_first_limits_is_told_at_once() {
    let mut session = session();
    session.enlarge(Limits {
        data: 101,
        streams_bidi: 3,
        streams_uni: 1,
    });
    let expected = [
        Capsule::MaxData(limit(101)),
        Capsule::MaxStreams(Dir::Bi, limit(3)),
    ];
    assert_eq!(news(&mut session), expected);
    for dir in [Dir::Bi, Dir::Bi, Dir::Bi, Dir::Uni, Dir::Uni] {
        session.accept(dir).unwrap();
    }
    session.accept(Dir::Uni).unwrap_err();
}

#[test]
fn being_held_up_is_said_once_per_limit() {
    let mut session = session();
    session.take_send_credit(100);
    let mut expected = vec![
        Capsule::DataBlocked(limit(100)),
        Capsule::StreamsBlocked(Dir::Uni, limit(2)),
    ];
    for _ in 0..2 {
        session.open(Dir::Uni).unwrap();
    }
    for _ in 0..3 {
        session.note_blocked();
        assert_eq!(session.open(Dir::Uni), Err(OpenError::Limit));
        assert_eq!(news(&mut session), mem::take(&mut expected));
    }
    assert_eq!(session.open_streams(), 2);
}

#[test]
fn without_flow_control_nothing_is_limited_and_limits_are_ignored() {
    let mut session = session_without_flow_control();
    session.receive(encode([
        Capsule::MaxData(limit(0)),
        Capsule::MaxStreams(Dir::Bi, limit(0)),
        Capsule::DataBlocked(limit(0)),
        Capsule::StreamsBlocked(Dir::Uni, limit(0)),
    ]));
    for _ in 0..1000 {
        session.open(Dir::Bi).unwrap();
        session.accept(Dir::Bi).unwrap();
        session.end(By::Peer, Dir::Bi);
        session.received(1 << 20).unwrap();
        session.consumed(1 << 20);
        session.take_send_credit(1 << 20);
        session.note_blocked();
    }
    assert_eq!(session.send_credit(), u64::MAX);
    assert_eq!(session.receive_credit(), None);
    assert_eq!(session.open_credit(Dir::Bi), None);
    assert_eq!(session.send_limit(), None);
    assert_eq!((events(&mut session), news(&mut session)), (vec![], vec![]));
}

#[test]
fn after_the_end_commands_have_no_effect() {
    let gone = Err(Violation {
        code: HttpCode::WT_SESSION_GONE,
        reason: "the session is over",
    });
    for state in ["PeerClosed", "Closed"] {
        let mut session = table::in_state(state);
        assert_eq!(session.open(Dir::Bi), Err(OpenError::Closed));
        assert_eq!(session.accept(Dir::Bi), gone);
        assert_eq!(session.received(1), gone);
        assert_eq!(session.send_credit(), 0);
        session.take_send_credit(1000);
        session.note_blocked();
        session.consumed(1);
        session.end(By::Local, Dir::Bi);
        session.drain();
        assert_eq!((events(&mut session), news(&mut session)), (vec![], vec![]));
        assert_eq!(session.open_streams(), 0);
    }
}

#[test]
fn the_events_of_any_cut_of_the_stream_are_the_same() {
    let script = encode([
        Capsule::Datagram("one".into()),
        Capsule::MaxStreams(Dir::Bi, limit(10)),
        Capsule::Drain,
        close_capsule(7, "done"),
    ]);
    let mut seen = BTreeSet::new();
    for piece in 1..=script.len() {
        let mut session = session();
        for bytes in script.chunks(piece) {
            session.receive(Bytes::copy_from_slice(bytes));
        }
        let outcome = (events(&mut session), transmits(&mut session));
        seen.insert(format!("{outcome:?}"));
    }
    assert_eq!(seen.len(), 1, "{seen:#?}");
}
