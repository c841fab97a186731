//! The end of a session: both ends learn of it, once, with code and reason.

use std::time::Duration;

use web_transport_quinn::{Session, SessionError, WebTransportError};
use wharf_proto::capsule::Capsule;

use crate::{
    harness::{Log, TestServer, path, within},
    raw::{NEWEST, Raw},
    relay::Relay,
};

async fn closed_by_server(session: &Session) -> (u32, String) {
    match within("the close", session.closed()).await {
        SessionError::WebTransportError(WebTransportError::Closed(code, reason)) => (code, reason),
        other => panic!("closed otherwise: {other}"),
    }
}

fn closed_lines(path: &str) -> Vec<String> {
    Log::of(path)
        .into_iter()
        .filter(|line| line.starts_with("closed"))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn close_reason_reaches_the_handler_exactly_once() {
    let server = TestServer::start().await;
    for (code, reason) in [(0, ""), (7, "bye"), (u32::MAX, "\u{1f6a2} ends")] {
        let path = path("report");
        let session = server.connect(&path).await;
        session.close(code, reason.as_bytes());
        Log::line(&path, "closed").await;
        server.no_instances().await;
        assert_eq!(
            closed_lines(&path),
            [format!("closed {code} peer clean {reason:?}")]
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_handlers_close_reaches_the_peer_and_itself_exactly_once() {
    let server = TestServer::start().await;
    for name in ["close", "close-on-data"] {
        let path = format!("{}?code=42&reason=good+bye", path(name));
        let session = server.connect(&path).await;
        if name == "close-on-data" {
            let (mut send, _recv) = session.open_bi().await.unwrap();
            send.write_all(b"x").await.unwrap();
        }
        assert_eq!(
            closed_by_server(&session).await,
            (42, "good bye".to_owned())
        );
        server.no_instances().await;
        assert_eq!(closed_lines(&path), ["closed 42 local clean \"good bye\""]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trap_ends_that_session_only_and_the_peer_sees_why() {
    let server = TestServer::start().await;
    let other = server.connect("/plain").await;
    for name in ["trap", "trap-in-constructor"] {
        let path = path(name);
        let session = server.connect(&path).await;
        if name == "trap" {
            let (mut send, _recv) = session.open_bi().await.unwrap();
            send.write_all(b"x").await.unwrap();
        }
        assert_eq!(closed_by_server(&session).await.0, 0xffff_ff01);
        assert!(
            Log::of(&path)
                .iter()
                .any(|line| line.contains("trap on purpose")),
            "the guest's standard error is not in the log: {:#?}",
            Log::of(&path)
        );
    }
    let (mut send, mut recv) = other.open_bi().await.unwrap();
    send.write_all(b"still here").await.unwrap();
    send.finish().unwrap();
    assert_eq!(
        within("the echo", recv.read_to_end(99)).await.unwrap(),
        b"still here"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_does_not_return_is_ended_with_its_session_only() {
    let server = TestServer::start().await;
    let other = server.connect("/plain").await;
    let session = server.connect(&path("spin")).await;
    let (mut send, _recv) = session.open_bi().await.unwrap();
    send.write_all(b"x").await.unwrap();
    assert_eq!(closed_by_server(&session).await.0, 0xffff_ff02);
    let (mut send, mut recv) = other.open_bi().await.unwrap();
    send.write_all(b"still here").await.unwrap();
    send.finish().unwrap();
    assert_eq!(
        within("the echo", recv.read_to_end(99)).await.unwrap(),
        b"still here"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_takes_all_memory_is_ended() {
    let server = TestServer::start().await;
    let session = server.connect(&path("grow")).await;
    let (mut send, _recv) = session.open_bi().await.unwrap();
    send.write_all(b"x").await.unwrap();
    assert_eq!(closed_by_server(&session).await.0, 0xffff_ff03);
    server.no_instances().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_vanishes_is_noticed_within_the_idle_timeout() {
    let server = TestServer::with(|config| {
        config.transport.idle_timeout = Duration::from_secs(1);
        config.transport.keep_alive = Duration::from_millis(300);
    })
    .await;
    let path = path("report");
    let relay = Relay::to(server.address).await;
    let vanished = Raw::connect_to(relay.address, NEWEST).await;
    let _session = vanished.session(&path).await;
    Log::line(&path, "constructed").await;
    relay.cut();
    let line = Log::line(&path, "closed").await;
    assert!(line.starts_with("closed 0 peer unclean"), "{line}");
    server.no_instances().await;
    assert_eq!(closed_lines(&path).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_close_counts_though_the_connection_is_closed_right_behind_it() {
    let server = TestServer::start().await;
    for _ in 0..20 {
        let path = path("report");
        let raw = Raw::connect(&server).await;
        let mut session = raw.session(&path).await;
        let sent = raw.conn.stats().frame_tx.stream;
        session
            .send_capsule(&Capsule::Close {
                code: 77,
                reason: "done".into(),
            })
            .await;
        // What has not left yet when a connection is closed never leaves.
        while raw.conn.stats().frame_tx.stream == sent {
            tokio::task::yield_now().await;
        }
        raw.conn.close(0_u32.into(), b"");
        let line = Log::line(&path, "closed").await;
        assert_eq!(line, "closed 77 peer clean \"done\"");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_closed_with_a_reason_ends_its_sessions_with_it() {
    let server = TestServer::start().await;
    for _ in 0..20 {
        let path = path("report");
        let raw = Raw::connect(&server).await;
        let _session = raw.session(&path).await;
        raw.conn.close(77_u32.into(), b"done");
        let line = Log::line(&path, "closed").await;
        assert_eq!(line, "closed 0 peer unclean \"done\"");
    }
}
