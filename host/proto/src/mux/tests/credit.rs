//! Credit for bytes, of streams and of the session, in both directions.

use super::*;

fn max_stream_data(stream: StreamId, limit: u64) -> Capsule {
    let limit = int(limit);
    Capsule::MaxStreamData { stream, limit }
}

fn stream_data_blocked(stream: StreamId, limit: u64) -> Capsule {
    let limit = int(limit);
    Capsule::StreamDataBlocked { stream, limit }
}

#[test]
fn credit_goes_back_when_the_next_event_is_asked_for_and_once_per_half_window() {
    let mut mux = server();
    let (_, uni) = peers();
    let piece = |n| wt_stream(uni, bytes(n), false);
    hear(&mut mux, [piece(149)]);
    assert_eq!(mux.poll_event(), Some(Event::Opened(uni)));
    assert!(mux.poll_event().is_some());
    assert_eq!(mux.poll_event(), None);
    assert!(!mux.has_transmit(), "less than half of 300");
    hear(&mut mux, [piece(151)]);
    assert!(mux.poll_event().is_some());
    assert!(
        !mux.has_transmit(),
        "the application has the bytes, and not asked on"
    );
    assert_eq!(mux.poll_event(), None);
    assert_eq!(said(&mut mux), [max_stream_data(uni, 600)]);
    assert_eq!(said(&mut mux), []);
    assert_eq!(
        mux.info().receive_credit,
        Some(700),
        "half of the session's is not used"
    );
    hear(&mut mux, [piece(200)]);
    events(&mut mux);
    let expected = [Capsule::MaxData(int(1_500)), max_stream_data(uni, 800)];
    assert_eq!(said(&mut mux), expected);
}

#[test]
fn credit_for_a_stream_whose_end_has_come_is_the_sessions_only() {
    let mut mux = server();
    let ids = [0, 1].map(|index| stream_id(Side::Client, Dir::Bi, index));
    hear(&mut mux, ids.map(|id| wt_stream(id, bytes(300), true)));
    events(&mut mux);
    assert_eq!(said(&mut mux), [Capsule::MaxData(int(1_600))]);

    let mut mux = server();
    hear(&mut mux, [wt_stream(ids[0], bytes(300), false)]);
    events(&mut mux);
    hear(&mut mux, [wt_stream(ids[0], "", true)]);
    assert_eq!(said(&mut mux), [], "what was due is not any more");
}

#[test]
fn every_kind_of_stream_has_its_own_window_from_both_ends() {
    let grants = |n| Grants {
        session: GRANTS.session,
        uni: n,
        bidi_local: n + 1,
        bidi_remote: n + 2,
    };
    let mut mux = Mux::new(Config {
        local: grants(10),
        peer: grants(20),
        ..config(Side::Server)
    });
    let (bi, uni) = peers();
    hear(
        &mut mux,
        [wt_stream(bi, "", false), wt_stream(uni, "", false)],
    );
    let [own_bi, own_uni] = [Dir::Bi, Dir::Uni].map(|dir| mux.open(dir).unwrap());
    let windows = |id| {
        let stream = &mux.streams[&id];
        let send = match &stream.send {
            Half::Open(sending) => sending.credit.limit(),
            Half::Absent | Half::Finished | Half::Reset => 0,
        };
        (stream.receive_credit.available(), send)
    };
    assert_eq!(windows(bi), (12, 21));
    assert_eq!(windows(uni), (10, 0));
    assert_eq!(windows(own_bi), (11, 22));
    assert_eq!(windows(own_uni), (0, 20));
}

#[test]
fn data_beyond_a_streams_or_the_sessions_credit_is_a_violation() {
    let ids = [0, 1, 2].map(|index| stream_id(Side::Client, Dir::Bi, index));
    let mut mux = server();
    hear(&mut mux, [wt_stream(ids[0], bytes(300), false)]);
    assert!(!mux.is_closed());
    hear(&mut mux, [wt_stream(ids[0], bytes(1), false)]);
    assert_violation(&mut mux, "more data than was granted for a stream");

    let mut mux = Mux::new(Config {
        local: Grants {
            bidi_remote: 10_000,
            ..GRANTS
        },
        ..config(Side::Server)
    });
    hear(
        &mut mux,
        [
            wt_stream(ids[1], bytes(999), false),
            wt_stream(ids[2], bytes(1), false),
        ],
    );
    assert!(!mux.is_closed());
    hear(&mut mux, [wt_stream(ids[0], bytes(1), false)]);
    assert_violation(&mut mux, "more data than was granted");
}

#[test]
fn no_more_is_sent_on_a_stream_than_the_peer_grants_and_it_is_told_once_per_limit() {
    let mut mux = server();
    let id = mux.open(Dir::Uni).unwrap();
    mux.send(id, bytes(350), false).unwrap();
    let expected = [
        wt_stream(id, "", false),
        wt_stream(id, bytes(300), false),
        stream_data_blocked(id, 300),
    ];
    assert_eq!(said(&mut mux), expected);
    mux.send(id, bytes(10), false).unwrap();
    assert_eq!(said(&mut mux), []);
    hear(&mut mux, [max_stream_data(id, 300)]);
    assert_eq!(said(&mut mux), [], "the limit is the same");
    hear(&mut mux, [max_stream_data(id, 355)]);
    let expected = [
        wt_stream(id, bytes(55), false),
        stream_data_blocked(id, 355),
    ];
    assert_eq!(said(&mut mux), expected);
    hear(&mut mux, [max_stream_data(id, 400)]);
    assert_eq!(said(&mut mux), [wt_stream(id, bytes(5), false)]);
}

#[test]
fn no_more_is_sent_on_the_session_than_the_peer_grants_and_it_is_told_once_per_limit() {
    let mut mux = Mux::new(Config {
        peer: Grants {
            session: session::Limits {
                data: 100,
                ..GRANTS.session
            },
            ..GRANTS
        },
        ..config(Side::Server)
    });
    let [a, b] = [(); 2].map(|()| mux.open(Dir::Uni).unwrap());
    mux.send(a, bytes(100), false).unwrap();
    mux.send(b, bytes(20), false).unwrap();
    let expected = [
        wt_stream(a, "", false),
        wt_stream(b, "", false),
        wt_stream(a, bytes(100), false),
        Capsule::DataBlocked(int(100)),
    ];
    assert_eq!(said(&mut mux), expected);
    mux.send(a, bytes(1), false).unwrap();
    hear(&mut mux, [Capsule::MaxData(int(100))]);
    assert_eq!(said(&mut mux), []);
    hear(&mut mux, [Capsule::MaxData(int(121))]);
    let expected = [
        wt_stream(b, bytes(20), false),
        wt_stream(a, bytes(1), false),
    ];
    assert_eq!(
        said(&mut mux),
        expected,
        "all is sent, so nothing holds it up"
    );
}

#[test]
fn a_stream_without_credit_does_not_hold_up_the_others() {
    let mut mux = server();
    let [a, b] = [(); 2].map(|()| mux.open(Dir::Uni).unwrap());
    mux.send(a, bytes(350), false).unwrap();
    mux.send(b, bytes(20), true).unwrap();
    let said = said(&mut mux);
    assert!(said.contains(&wt_stream(b, bytes(20), true)), "{said:?}");
}

#[test]
fn a_limit_lower_than_before_is_a_violation_and_the_same_is_none() {
    let bi = stream_id(Side::Server, Dir::Bi, 0);
    let rows = [
        (
            Capsule::MaxData(int(999)),
            Capsule::MaxData(int(1_000)),
            "data limit that does not increase",
        ),
        (
            Capsule::MaxStreams(Dir::Bi, int(2)),
            Capsule::MaxStreams(Dir::Bi, int(3)),
            "stream limit that does not increase",
        ),
        (
            Capsule::MaxStreams(Dir::Uni, int(0)),
            Capsule::MaxStreams(Dir::Uni, int(3)),
            "stream limit that does not increase",
        ),
        (
            max_stream_data(bi, 299),
            max_stream_data(bi, 300),
            "limit of a stream that decreases",
        ),
    ];
    for (lower, same, reason) in rows {
        let mut mux = server();
        mux.open(Dir::Bi).unwrap();
        hear(&mut mux, [same.clone(), same]);
        assert!(!mux.is_closed());
        hear(&mut mux, [lower]);
        assert_violation(&mut mux, reason);
    }
}

#[test]
fn what_the_peer_says_of_being_blocked_changes_nothing() {
    let mut mux = server();
    let (bi, _) = peers();
    let blocked = [
        Capsule::DataBlocked(int(0)),
        Capsule::StreamsBlocked(Dir::Bi, int(3)),
        Capsule::StreamsBlocked(Dir::Uni, int(1 << 60)),
        stream_data_blocked(bi, 300),
    ];
    hear(&mut mux, blocked);
    assert_eq!(events(&mut mux), [Event::Opened(bi)]);
    assert_eq!(said(&mut mux), []);
}

#[test]
fn limits_for_what_is_over_are_ignored() {
    let mut mux = server();
    let id = mux.open(Dir::Bi).unwrap();
    mux.finish(id).unwrap();
    said(&mut mux);
    hear(&mut mux, [max_stream_data(id, 1), wt_stream(id, "", true)]);
    events(&mut mux);
    hear(
        &mut mux,
        [max_stream_data(id, 1), stream_data_blocked(id, 1)],
    );
    assert!(!mux.is_closed() && mux.streams.is_empty());
}

#[test]
fn data_on_a_stopped_stream_is_counted_and_given_back() {
    let mut mux = server();
    let (bi, _) = peers();
    hear(&mut mux, [wt_stream(bi, bytes(200), false)]);
    assert_eq!(mux.poll_event(), Some(Event::Opened(bi)));
    mux.stop(bi, 3).unwrap();
    hear(&mut mux, [wt_stream(bi, bytes(100), false)]);
    assert_eq!(mux.info().receive_credit, Some(700));
    assert_eq!(
        said(&mut mux),
        [stop_sending(bi, 3)],
        "less than half of the session's"
    );
    let other = stream_id(Side::Client, Dir::Bi, 1);
    hear(&mut mux, [wt_stream(other, bytes(200), false)]);
    assert_eq!(
        events(&mut mux),
        [Event::Opened(other), data(other, bytes(200), false)]
    );
    let expected = [Capsule::MaxData(int(1_500)), max_stream_data(other, 500)];
    assert_eq!(
        said(&mut mux),
        expected,
        "none for the stream that was stopped"
    );
    hear(&mut mux, [wt_stream(bi, bytes(1), false)]);
    assert_violation(&mut mux, "more data than was granted for a stream");
}
