//! How a session comes to its end.

use super::*;
use crate::capsule::REASON_BYTES_MAX;

/// What is transmitted of a session that is over: a close, and then FIN.
fn said_last(mux: &mut Mux) -> (Vec<Capsule>, bool) {
    let (bytes, fin) = transmitted(mux, 1 << 20);
    (decode(bytes), fin)
}

#[test]
fn a_close_is_told_at_both_ends_and_is_the_last_word() {
    for (by, code) in [(Closer::Local, 0), (Closer::Host, u32::MAX)] {
        let (mut a, mut b) = pair();
        let id = a.open(Dir::Bi).unwrap();
        a.send(id, bytes(100), true).unwrap();
        a.close(code, "bye", by);
        a.close(5, "again", Closer::Local);
        assert_eq!(said_last(&mut a), (vec![close_capsule(code, "bye")], true));
        hear(&mut b, [close_capsule(code, "bye")]);
        assert_eq!(said_last(&mut b), (vec![], true));
        b.receive_fin();
        a.receive_fin();
        for (mux, by) in [(&mut a, by), (&mut b, Closer::Peer)] {
            assert!(mux.is_closed() && !mux.is_told());
            assert_eq!(events(mux), [closed(code, "bye", by, true)]);
            assert!(mux.is_told() && !mux.has_transmit());
            assert_eq!(events(mux), []);
        }
    }
}

#[test]
fn nothing_is_kept_and_nothing_told_of_streams_when_the_session_is_over() {
    let mut mux = server();
    let (bi, uni) = peers();
    hear(
        &mut mux,
        [wt_stream(bi, bytes(300), false), wt_stream(uni, "", true)],
    );
    hear(&mut mux, [Capsule::Datagram("hi".into()), Capsule::Drain]);
    let own = mux.open(Dir::Bi).unwrap();
    mux.send(own, bytes(400), false).unwrap();
    mux.send_datagram(b"hi").unwrap();
    hear(&mut mux, [close_capsule(1, "")]);
    check(&mux);
    assert!(mux.streams.is_empty());
    assert_eq!(mux.info().send_buffered, 0);
    assert_eq!(events(&mut mux), [closed(1, "", Closer::Peer, true)]);
}

#[test]
fn a_long_reason_is_cut_between_characters() {
    let mut mux = server();
    let reason = format!("{}ä", "x".repeat(REASON_BYTES_MAX - 1));
    let cut = "x".repeat(REASON_BYTES_MAX - 1);
    mux.close(1, &reason, Closer::Local);
    assert_eq!(events(&mut mux), [closed(1, &cut, Closer::Local, true)]);
    assert_eq!(said_last(&mut mux), (vec![close_capsule(1, &cut)], true));
}

#[test]
fn a_drain_is_said_told_once_and_ends_with_the_last_stream() {
    let (mut a, mut b) = pair();
    let id = a.open(Dir::Bi).unwrap();
    settle(&mut a, &mut b);
    events(&mut b);
    a.drain();
    a.drain();
    settle(&mut a, &mut b);
    assert_eq!(events(&mut b), [Event::Draining]);
    assert_eq!(a.open(Dir::Uni), Err(CommandError::Draining));
    let other = b.open(Dir::Uni).unwrap();
    b.finish(other).unwrap();
    settle(&mut a, &mut b);
    let told = [
        Event::Opened(other),
        data(other, "", true),
        Event::StreamClosed(other),
    ];
    assert_eq!(events(&mut a), told);
    assert!(!a.is_closed());
    a.send(id, "last".into(), true).unwrap();
    b.finish(id).unwrap();
    settle(&mut a, &mut b);
    let told = [
        data(id, "", true),
        Event::StreamClosed(id),
        closed(0, "", Closer::Local, true),
    ];
    assert_eq!(events(&mut a), told);
    settle(&mut a, &mut b);
    assert_eq!(
        events(&mut b).pop(),
        Some(closed(0, "", Closer::Peer, true))
    );
}

#[test]
fn a_drain_without_streams_closes_at_once() {
    let mut mux = server();
    mux.drain();
    assert_eq!(events(&mut mux), [closed(0, "", Closer::Local, true)]);
    assert_eq!(said_last(&mut mux), (vec![close_capsule(0, "")], true));
}

#[test]
fn both_ends_may_drain_and_then_either_closes() {
    let (mut a, mut b) = pair();
    let id = a.open(Dir::Bi).unwrap();
    settle(&mut a, &mut b);
    a.drain();
    b.drain();
    settle(&mut a, &mut b);
    assert_eq!(events(&mut a), [Event::Draining]);
    assert_eq!(events(&mut b), [Event::Opened(id), Event::Draining]);
    b.close(4, "enough", Closer::Local);
    settle(&mut a, &mut b);
    assert_eq!(events(&mut b), [closed(4, "enough", Closer::Local, true)]);
    assert_eq!(events(&mut a), [closed(4, "enough", Closer::Peer, true)]);
}

#[test]
fn the_hosts_wish_to_drain_is_told_and_said_once_and_everything_goes_on() {
    let mut mux = server();
    mux.ask_to_drain();
    hear(&mut mux, [Capsule::Drain]);
    mux.ask_to_drain();
    assert_eq!(events(&mut mux), [Event::Draining]);
    assert_eq!(transmitted(&mut mux, 1).0, b"\x80\x00\x78\xae\x00");
    mux.ask_to_drain();
    assert!(!mux.has_transmit() && mux.open(Dir::Bi).is_ok());
    mux.close(0, "", Closer::Local);
    mux.ask_to_drain();
    assert_eq!(events(&mut mux), [closed(0, "", Closer::Local, true)]);
}

#[test]
fn what_the_peer_says_of_its_leaving_is_told_once_and_not_said_back() {
    let mut mux = server();
    mux.peer_drains();
    hear(&mut mux, [Capsule::Drain]);
    assert_eq!(events(&mut mux), [Event::Draining]);
    assert!(!mux.has_transmit());
}

#[test]
fn fin_without_a_close_means_code_0_and_is_answered() {
    let mut mux = server();
    mux.open(Dir::Bi).unwrap();
    mux.receive_fin();
    assert_eq!(events(&mut mux), [closed(0, "", Closer::Peer, true)]);
    assert_eq!(said_last(&mut mux), (vec![], true));
}

#[test]
fn fin_inside_a_capsule_is_a_violation() {
    let (bi, _) = peers();
    let whole = encode([wt_stream(bi, "data", true)]);
    for end in 1..whole.len() {
        let mut mux = server();
        mux.receive(whole.slice(..end));
        assert!(!mux.is_closed());
        mux.receive_fin();
        assert_violation(&mut mux, "the stream ended inside a capsule");
    }
}

#[test]
fn a_reset_of_the_connect_stream_ends_it_for_both_directions() {
    let mut mux = server();
    mux.open(Dir::Bi).unwrap();
    mux.receive_abort("reset");
    assert_eq!(events(&mut mux), [closed(0, "reset", Closer::Peer, false)]);
    assert!(matches!(mux.poll_transmit(100), Some(Transmit::Abort(_))));
    assert!(mux.poll_transmit(100).is_none());
}

#[test]
fn after_the_loss_of_the_connection_nothing_is_transmitted() {
    for closed_before in [false, true] {
        let mut mux = server();
        mux.open(Dir::Bi).unwrap();
        if closed_before {
            mux.close(1, "bye", Closer::Local);
        }
        mux.connection_lost(3, "timed out");
        let told = match closed_before {
            true => closed(1, "bye", Closer::Local, true),
            false => closed(3, "timed out", Closer::Peer, false),
        };
        assert_eq!(events(&mut mux), [told]);
        assert!(!mux.has_transmit() && mux.poll_transmit(100).is_none());
    }
}

#[test]
fn bytes_after_the_peers_close_abort_the_stream_and_change_nothing_told() {
    let mut mux = server();
    let (bi, _) = peers();
    hear(
        &mut mux,
        [close_capsule(1, "bye"), wt_stream(bi, "x", false)],
    );
    assert_eq!(events(&mut mux), [closed(1, "bye", Closer::Peer, true)]);
    assert!(matches!(mux.poll_transmit(100), Some(Transmit::Abort(_))));
}

#[test]
fn what_comes_after_our_close_is_of_no_interest() {
    let mut mux = server();
    mux.close(1, "bye", Closer::Local);
    let (bi, _) = peers();
    hear(
        &mut mux,
        [wt_stream(bi, bytes(5_000), true), close_capsule(2, "late")],
    );
    mux.receive(Bytes::from_static(b"\x68"));
    mux.receive_fin();
    assert_eq!(events(&mut mux), [closed(1, "bye", Closer::Local, true)]);
    assert_eq!(said_last(&mut mux), (vec![close_capsule(1, "bye")], true));
}
