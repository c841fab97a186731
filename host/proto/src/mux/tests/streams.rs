//! Which streams there are: ids, how one opens others, how many may be open, how FIN travels.

use super::*;

#[test]
fn ids_are_even_at_the_client_and_odd_at_the_server_and_say_the_directions() {
    for (side, ids) in [(Side::Client, [0, 4, 2, 6]), (Side::Server, [1, 5, 3, 7])] {
        let mut mux = Mux::new(config(side));
        let opened = [Dir::Bi, Dir::Bi, Dir::Uni, Dir::Uni].map(|dir| mux.open(dir).unwrap());
        assert_eq!(opened.map(u64::from), ids);
    }
}

#[test]
fn a_stream_is_announced_before_it_has_data_and_in_order() {
    let mut mux = server();
    let ids = [Dir::Uni, Dir::Bi, Dir::Uni].map(|dir| mux.open(dir).unwrap());
    assert_eq!(said(&mut mux), ids.map(|id| wt_stream(id, "", false)));
    mux.send(ids[2], "data".into(), false).unwrap();
    assert_eq!(said(&mut mux), [wt_stream(ids[2], "data", false)]);
}

#[test]
fn an_empty_capsule_opens_a_stream_at_once() {
    let mut mux = server();
    let (bi, _) = peers();
    let capsule = encode([wt_stream(bi, "later", false)]);
    mux.receive(capsule.slice(..capsule.len() - 5));
    assert_eq!(events(&mut mux), [Event::Opened(bi)]);
    mux.receive(capsule.slice(capsule.len() - 5..));
    assert_eq!(events(&mut mux), [data(bi, "later", false)]);
    let (_, uni) = peers();
    hear(
        &mut mux,
        [wt_stream(uni, "", false), wt_stream(uni, "", false)],
    );
    assert_eq!(events(&mut mux), [Event::Opened(uni)]);
}

#[test]
fn an_id_opens_all_lower_ones_of_its_kind_and_each_once() {
    let mut mux = server();
    let ids = [0, 1, 2].map(|index| stream_id(Side::Client, Dir::Uni, index));
    let opened = ids.map(Event::Opened);
    hear(&mut mux, [wt_stream(ids[2], "", false)]);
    assert_eq!(events(&mut mux), opened);
    hear(
        &mut mux,
        [wt_stream(ids[0], "a", true), wt_stream(ids[1], "b", false)],
    );
    let told = [
        data(ids[0], "a", true),
        Event::StreamClosed(ids[0]),
        data(ids[1], "b", false),
    ];
    assert_eq!(events(&mut mux), told);
}

#[test]
fn every_capsule_about_a_direction_opens_the_stream() {
    let (bi, uni) = peers();
    let limit = int(500);
    let rows = [
        (wt_stream(uni, "", false), uni),
        (reset_stream(uni, 1, 0), uni),
        (Capsule::StreamDataBlocked { stream: uni, limit }, uni),
        (reset_stream(bi, 1, 0), bi),
        (Capsule::MaxStreamData { stream: bi, limit }, bi),
        (stop_sending(bi, 1), bi),
    ];
    for (capsule, id) in rows {
        let mut mux = server();
        hear(&mut mux, [capsule.clone()]);
        assert_eq!(mux.poll_event(), Some(Event::Opened(id)), "{capsule:?}");
    }
}

#[test]
fn streams_count_against_the_limit_by_their_ids() {
    let mut mux = server();
    let third = stream_id(Side::Client, Dir::Bi, 2);
    hear(&mut mux, [wt_stream(third, "", false)]);
    assert_eq!(mux.info().streams_bidi, 3);
    assert!(!mux.is_closed());
    let fourth = stream_id(Side::Client, Dir::Bi, 3);
    hear(&mut mux, [wt_stream(fourth, "", false)]);
    assert_violation(&mut mux, "more streams than were granted");

    let mut mux = server();
    hear(
        &mut mux,
        [wt_stream(
            stream_id(Side::Client, Dir::Uni, (1 << 60) - 1),
            "",
            false,
        )],
    );
    assert_violation(&mut mux, "more streams than were granted");
}

#[test]
fn more_streams_are_granted_when_the_end_of_others_was_told() {
    let mut mux = server();
    let ids = [0, 1, 2].map(|index| stream_id(Side::Client, Dir::Uni, index));
    hear(&mut mux, ids.map(|id| wt_stream(id, "", true)));
    assert_eq!(said(&mut mux), [], "nothing was told");
    let told = |id| {
        [
            Event::Opened(id),
            data(id, "", true),
            Event::StreamClosed(id),
        ]
    };
    let events = events(&mut mux);
    assert_eq!(events[..3], ids.map(Event::Opened));
    assert_eq!(events[3..5], told(ids[0])[1..]);
    assert_eq!(said(&mut mux), [Capsule::MaxStreams(Dir::Uni, int(6))]);
    assert_eq!(mux.info().streams_uni, 0);
}

#[test]
fn no_more_streams_are_opened_than_the_peer_or_our_limit_allows() {
    let mut mux = server();
    for _ in 0..3 {
        mux.open(Dir::Bi).unwrap();
    }
    for _ in 0..3 {
        assert_eq!(mux.open(Dir::Bi), Err(CommandError::StreamLimit));
    }
    let blocked = |limit| Capsule::StreamsBlocked(Dir::Bi, int(limit));
    let said_first = said(&mut mux);
    assert_eq!(said_first[0], blocked(3), "once");
    assert_eq!(said_first.len(), 1 + 3);
    hear(&mut mux, [Capsule::MaxStreams(Dir::Bi, int(3))]);
    assert_eq!(mux.open(Dir::Bi), Err(CommandError::StreamLimit));
    assert_eq!(said(&mut mux), [], "the limit is the same");
    hear(&mut mux, [Capsule::MaxStreams(Dir::Bi, int(1 << 60))]);
    for _ in 3..8 {
        mux.open(Dir::Bi).unwrap();
    }
    assert_eq!(mux.open(Dir::Bi), Err(CommandError::StreamLimit));
    assert_eq!(
        said(&mut mux).len(),
        5,
        "our limit is no business of the peer's"
    );
    assert!(mux.open(Dir::Uni).is_ok());
}

#[test]
fn fin_rides_on_the_last_data_and_goes_alone_when_nothing_is_left() {
    let mut mux = server();
    let [a, b, c] = [(); 3].map(|()| mux.open(Dir::Uni).unwrap());
    mux.send(a, "with".into(), true).unwrap();
    mux.send(b, "before".into(), false).unwrap();
    mux.finish(b).unwrap();
    mux.finish(c).unwrap();
    let expected = [
        wt_stream(a, "", false),
        wt_stream(b, "", false),
        wt_stream(c, "", true),
        wt_stream(a, "with", true),
        wt_stream(b, "before", true),
    ];
    assert_eq!(said(&mut mux), expected);
    assert_eq!(events(&mut mux), [c, a, b].map(Event::StreamClosed));
}

#[test]
fn both_orders_of_fin_are_these_bytes() {
    let (data, fin) = (b"\x99\x0b\x4d\x3b", b"\x99\x0b\x4d\x3c");
    for (order, more, last) in [
        (FinOrder::Deployed, data, fin),
        (FinOrder::Draft15, fin, data),
    ] {
        let [mut a, mut b] = [Side::Client, Side::Server].map(|side| {
            Mux::new(Config {
                order,
                ..config(side)
            })
        });
        let id = a.open(Dir::Uni).unwrap();
        assert_eq!(
            transmitted(&mut a, 100).0,
            [&more[..], b"\x01\x02"].concat()
        );
        a.send(id, "hi".into(), false).unwrap();
        let first = transmitted(&mut a, 100).0;
        assert_eq!(first, [&more[..], b"\x03\x02hi"].concat());
        a.send(id, "ho".into(), true).unwrap();
        let second = transmitted(&mut a, 100).0;
        assert_eq!(second, [&last[..], b"\x03\x02ho"].concat());
        b.receive([first, second].concat().into());
        assert_eq!(
            events(&mut b),
            [
                Event::Opened(id),
                super::data(id, "hiho", true),
                Event::StreamClosed(id)
            ]
        );
    }
}

#[test]
fn a_peer_that_swaps_the_ids_is_understood_and_answered_in_its_way() {
    let mut mux = Mux::new(Config {
        swapped_ids: true,
        ..config(Side::Server)
    });
    let (bi, _) = peers();
    hear(&mut mux, [wt_stream(bi.swapped(), "ping", true)]);
    assert_eq!(
        events(&mut mux),
        [Event::Opened(bi), data(bi, "ping", true)]
    );
    mux.send(bi, "pong".into(), true).unwrap();
    let own = mux.open(Dir::Uni).unwrap();
    assert_eq!(own.initiator(), Side::Server);
    let expected = [
        wt_stream(own.swapped(), "", false),
        wt_stream(bi.swapped(), "pong", true),
    ];
    assert_eq!(said(&mut mux), expected);
    hear(&mut mux, [stop_sending(own.swapped(), 5)]);
    assert_eq!(said(&mut mux), [reset_stream(own.swapped(), 5, 0)]);
}

#[test]
fn credit_for_a_stream_that_sends_only_is_borne_with_of_a_peer_that_swaps_the_ids() {
    let (_, uni) = peers();
    for (swapped_ids, wire) in [(true, uni.swapped()), (false, uni)] {
        let mut mux = Mux::new(Config {
            swapped_ids,
            ..config(Side::Server)
        });
        let limit = int(500);
        let credit = Capsule::MaxStreamData {
            stream: wire,
            limit,
        };
        hear(&mut mux, [wt_stream(wire, "", false), credit]);
        hear(&mut mux, [wt_stream(wire, "ping", true)]);
        let goes_on = events(&mut mux).contains(&data(uni, "ping", true));
        assert_eq!(goes_on, swapped_ids);
    }
}
