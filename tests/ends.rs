//! Handlers that end badly: their session ends, the peer is told why, and nothing is left of either.

use crate::{
    harness::{Log, TestServer, path},
    peer::{End, Http, Peer, over_both},
};

const TRAPPED: u32 = 0xffff_ff01;
const OUT_OF_TIME: u32 = 0xffff_ff02;

over_both!(a_trap_in_the_last_callback_ends_nothing_but_the_instance);
async fn a_trap_in_the_last_callback_ends_nothing_but_the_instance(http: Http) {
    let server = TestServer::start().await;
    let peer = Peer::connect(http, &server).await;
    let other = peer.session("/plain").await;
    let path = path("trap-on-closed");
    let session = peer.session(&path).await;
    assert!(session.close(7, "bye").await);
    assert_eq!(session.closed().await, End::Fin);
    Log::line(&path, "closed 7 peer clean \"bye\"").await;
    other.expect_echo(b"the other goes on").await;
    drop(other);
    server.no_instances().await;
}

over_both!(a_trap_at_a_datagram_ends_that_session_only);
async fn a_trap_at_a_datagram_ends_that_session_only(http: Http) {
    let server = TestServer::start().await;
    let peer = Peer::connect(http, &server).await;
    let other = peer.session("/plain").await;
    let session = peer.session(&path("trap")).await;
    session.send_datagram(b"x").unwrap();
    assert_eq!(
        session.closed().await,
        http.closed(TRAPPED, "handler trapped")
    );
    other.expect_echo(b"the other goes on").await;
}

over_both!(a_handler_that_does_not_return_leaves_its_neighbours_on_the_connection);
/// The two that share a connection share nothing else.
async fn a_handler_that_does_not_return_leaves_its_neighbours_on_the_connection(http: Http) {
    let server = TestServer::start().await;
    let peer = Peer::connect(http, &server).await;
    let other = peer.session("/plain").await;
    let session = peer.session(&path("spin")).await;
    let (mut send, _recv) = session.open_bi().await.unwrap();
    send.write_all(b"x").await.unwrap();
    for _ in 0..20 {
        other.expect_echo(b"meanwhile").await;
    }
    let End::Close(code, _) = session.closed().await else {
        panic!("no close came");
    };
    assert_eq!(code, OUT_OF_TIME);
}

over_both!(a_failed_handler_leaves_nothing_behind_however_it_fails);
async fn a_failed_handler_leaves_nothing_behind_however_it_fails(http: Http) {
    let server = TestServer::start().await;
    let peer = Peer::connect(http, &server).await;
    for name in ["trap", "trap-in-constructor", "spin", "grow"] {
        let session = peer.session(&path(name)).await;
        if name != "trap-in-constructor" {
            let (mut send, _recv) = session.open_bi().await.unwrap();
            send.write_all(b"x").await.unwrap();
        }
        let end = session.closed().await;
        assert!(
            matches!(end, End::Close(code, _) if code != 0),
            "{name}: the peer is told why, not {end:?}"
        );
    }
    server.no_instances().await;
}

over_both!(lines_that_are_hard_to_log_are_logged_in_bounds);
async fn lines_that_are_hard_to_log_are_logged_in_bounds(http: Http) {
    let server = TestServer::start().await;
    let path = path("stdio");
    let _session = server.session(http, &path).await;
    Log::line(&path, "a line on stdout").await;
    let long = Log::line(&path, "xxx").await;
    assert!(long.ends_with("[line cut]") && long.len() < 1100, "{long}");
    Log::line(&path, "not UTF-8: \u{fffd}").await;
}
