//! Handlers that end badly: their session ends, the peer is told why, and nothing is left of either.

use crate::{
    capsules::{Said, close},
    harness::{Log, TestServer, path, within},
    raw::Raw,
};

const TRAPPED: u32 = 0xffff_ff01;
const OUT_OF_TIME: u32 = 0xffff_ff02;

#[tokio::test(flavor = "multi_thread")]
async fn a_trap_in_the_last_callback_ends_nothing_but_the_instance() {
    let server = TestServer::start().await;
    let raw = Raw::connect(&server).await;
    let other = raw.session("/plain").await;
    let path = path("trap-on-closed");
    let mut session = raw.session(&path).await;
    session.send_capsule(&close(7, "bye")).await;
    session.send.finish().unwrap();
    let (_, _connect, mut said) = session.split();
    assert_eq!(said.next().await, Said::Fin);
    Log::line(&path, "closed 7 peer clean \"bye\"").await;
    raw.expect_echo(other.id, b"the other goes on").await;
    drop(other);
    server.no_instances().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trap_at_a_datagram_ends_that_session_only() {
    let server = TestServer::start().await;
    let raw = Raw::connect(&server).await;
    let other = raw.session("/plain").await;
    let (id, _connect, mut said) = raw.session(&path("trap")).await.split();
    raw.datagram(id, b"x");
    assert_eq!(said.capsule().await, close(TRAPPED, "handler trapped"));
    assert_eq!(said.next().await, Said::Fin);
    raw.expect_echo(other.id, b"the other goes on").await;
}

/// The two that share a connection share nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_does_not_return_leaves_its_neighbours_on_the_connection() {
    let server = TestServer::start().await;
    let raw = Raw::connect(&server).await;
    let other = raw.session("/plain").await;
    let (id, _connect, mut said) = raw.session(&path("spin")).await.split();
    let (mut send, _recv) = raw.open_bi(id).await;
    send.write_all(b"x").await.unwrap();
    for _ in 0..20 {
        raw.expect_echo(other.id, b"meanwhile").await;
    }
    let Said::Capsule(wharf_proto::capsule::Capsule::Close { code, .. }) = said.next().await else {
        panic!("no close came");
    };
    assert_eq!(code, OUT_OF_TIME);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_handler_leaves_nothing_behind_however_it_fails() {
    let server = TestServer::start().await;
    let raw = Raw::connect(&server).await;
    for name in ["trap", "trap-in-constructor", "spin", "grow"] {
        let (mut session, path) = {
            let path = path(name);
            (raw.session(&path).await, path)
        };
        if name != "trap-in-constructor" {
            let (mut send, _recv) = raw.open_bi(session.id).await;
            send.write_all(b"x").await.unwrap();
        }
        let payload = session.received().await;
        assert!(!payload.is_empty(), "{path}: the peer is told why");
    }
    within("all of it to end", server.no_instances()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_that_are_hard_to_log_are_logged_in_bounds() {
    let server = TestServer::start().await;
    let raw = Raw::connect(&server).await;
    let path = path("stdio");
    let _session = raw.session(&path).await;
    Log::line(&path, "a line on stdout").await;
    let long = Log::line(&path, "xxx").await;
    assert!(long.ends_with("[line cut]") && long.len() < 1100, "{long}");
    Log::line(&path, "not UTF-8: \u{fffd}").await;
}
