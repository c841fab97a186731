//! Datagrams, which no credit counts and which may be dropped.

use super::*;

fn datagram(n: u8) -> Bytes {
    vec![n; 10].into()
}

#[test]
fn datagrams_go_before_streams_and_cost_no_credit() {
    let mut mux = Mux::new(Config {
        peer: Grants::default(),
        local: Grants::default(),
        ..config(Side::Server)
    });
    for n in 0..3 {
        mux.send_datagram(&datagram(n)).unwrap();
    }
    let expected = [0, 1, 2].map(|n| Capsule::Datagram(datagram(n)));
    assert_eq!(said(&mut mux), expected);
    hear(&mut mux, expected);
    let told = [0, 1, 2].map(|n| Event::Datagram(datagram(n)));
    assert_eq!(events(&mut mux), told);

    let mut mux = server();
    let id = mux.open(Dir::Uni).unwrap();
    mux.send(id, "data".into(), true).unwrap();
    mux.send_datagram(&datagram(0)).unwrap();
    let expected = [
        Capsule::Datagram(datagram(0)),
        wt_stream(id, "", false),
        wt_stream(id, "data", true),
    ];
    assert_eq!(said(&mut mux), expected);
}

#[test]
fn the_longest_datagram_passes_and_a_longer_one_does_not() {
    let mut mux = server();
    assert_eq!(mux.info().max_datagram_size, 100);
    mux.send_datagram(&[1; 100]).unwrap();
    assert_eq!(mux.send_datagram(&[1; 101]), Err(CommandError::TooLarge));
    mux.send_datagram(&[]).unwrap();
    let expected = [
        Capsule::Datagram(vec![1; 100].into()),
        Capsule::Datagram(Bytes::new()),
    ];
    assert_eq!(said(&mut mux), expected);
    let long = Capsule::Datagram(vec![1; 101].into());
    hear(&mut mux, [long, expected[0].clone(), expected[1].clone()]);
    let told = [
        Event::Datagram(vec![1; 100].into()),
        Event::Datagram(Bytes::new()),
    ];
    assert_eq!(events(&mut mux), told);
}

#[test]
fn the_oldest_gives_way_in_both_directions_and_is_counted() {
    let mut mux = server();
    for n in 0..10 {
        mux.send_datagram(&datagram(n)).unwrap();
    }
    let kept = [6, 7, 8, 9].map(|n| Capsule::Datagram(datagram(n)));
    assert_eq!(said(&mut mux), kept);
    hear(&mut mux, (0..10).map(|n| Capsule::Datagram(datagram(n))));
    let told = [6, 7, 8, 9].map(|n| Event::Datagram(datagram(n)));
    assert_eq!(events(&mut mux), told);
    let info = mux.info();
    assert_eq!((info.datagrams_sent, info.datagrams_dropped_out), (4, 6));
    assert_eq!((info.datagrams_received, info.datagrams_dropped_in), (4, 6));
}

#[test]
fn datagrams_that_wait_are_no_longer_together_than_the_sessions_buffer() {
    let mut limits = config(Side::Server).limits;
    (limits.datagrams_out, limits.send.session) = (1_000, 250);
    let mut mux = Mux::new(Config {
        limits,
        ..config(Side::Server)
    });
    for _ in 0..100 {
        mux.send_datagram(&[1; 100]).unwrap();
        check(&mux);
    }
    assert_eq!(said(&mut mux).len(), 2);
    assert_eq!(mux.info().datagrams_dropped_out, 98);
}

#[test]
fn with_a_limit_of_zero_none_waits() {
    let mut limits = config(Side::Server).limits;
    (limits.datagrams_out, limits.datagrams_in) = (0, 0);
    let mut mux = Mux::new(Config {
        limits,
        ..config(Side::Server)
    });
    mux.send_datagram(&[1]).unwrap();
    hear(&mut mux, [Capsule::Datagram(datagram(1))]);
    assert_eq!((said(&mut mux), events(&mut mux)), (vec![], vec![]));
    let info = mux.info();
    assert_eq!(
        (info.datagrams_dropped_out, info.datagrams_dropped_in),
        (1, 1)
    );
}

#[test]
fn datagrams_and_streams_are_given_out_in_turns() {
    let mut mux = server();
    let ids = [0, 1].map(|index| stream_id(Side::Client, Dir::Bi, index));
    hear(&mut mux, ids.map(|id| wt_stream(id, "x", false)));
    hear(&mut mux, (0..3).map(|n| Capsule::Datagram(datagram(n))));
    let told = [
        Event::Opened(ids[0]),
        Event::Opened(ids[1]),
        data(ids[0], "x", false),
        Event::Datagram(datagram(0)),
        data(ids[1], "x", false),
        Event::Datagram(datagram(1)),
        Event::Datagram(datagram(2)),
    ];
    assert_eq!(events(&mut mux), told);
}
