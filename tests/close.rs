//! The end of a session: both ends learn of it, once, with code and reason.

use std::time::{Duration, Instant};

use wharf_proto::capsule::Capsule;

use crate::{
    harness::{Log, TestServer, path},
    peer::{End, Http, Peer, PeerSession, Terms, over_both},
    raw::Raw,
    relay::either::AnyRelay,
};

/// The code of the server's close.
async fn code_of_close(session: &PeerSession) -> u32 {
    match session.closed().await {
        End::Close(code, _) => code,
        other => panic!("closed otherwise: {other:?}"),
    }
}

fn closed_lines(path: &str) -> Vec<String> {
    Log::of(path)
        .into_iter()
        .filter(|line| line.starts_with("closed"))
        .collect()
}

over_both!(close_reason_reaches_the_handler_exactly_once);
async fn close_reason_reaches_the_handler_exactly_once(http: Http) {
    let server = TestServer::start().await;
    for (code, reason) in [(0, ""), (7, "bye"), (u32::MAX, "\u{1f6a2} ends")] {
        let path = path("report");
        let session = server.session(http, &path).await;
        assert!(session.close(code, reason).await);
        Log::line(&path, "closed").await;
        server.no_instances().await;
        assert_eq!(
            closed_lines(&path),
            [format!("closed {code} peer clean {reason:?}")]
        );
        assert_eq!(session.closed().await, End::Fin, "no close answers a close");
    }
}

over_both!(the_handlers_close_reaches_the_peer_and_itself_exactly_once);
async fn the_handlers_close_reaches_the_peer_and_itself_exactly_once(http: Http) {
    let server = TestServer::start().await;
    for name in ["close", "close-on-data"] {
        let path = format!("{}?code=42&reason=good+bye", path(name));
        let session = server.session(http, &path).await;
        if name == "close-on-data" {
            let (mut send, _recv) = session.open_bi().await.unwrap();
            send.write_all(b"x").await.unwrap();
        }
        assert_eq!(session.closed().await, http.closed(42, "good bye"));
        drop(session);
        server.no_instances().await;
        assert_eq!(closed_lines(&path), ["closed 42 local clean \"good bye\""]);
    }
}

over_both!(a_trap_ends_that_session_only_and_the_peer_sees_why);
async fn a_trap_ends_that_session_only_and_the_peer_sees_why(http: Http) {
    let server = TestServer::start().await;
    let other = server.session(http, "/plain").await;
    for name in ["trap", "trap-in-constructor"] {
        let path = path(name);
        let session = server.session(http, &path).await;
        if name == "trap" {
            let (mut send, _recv) = session.open_bi().await.unwrap();
            send.write_all(b"x").await.unwrap();
        }
        assert_eq!(code_of_close(&session).await, 0xffff_ff01);
        assert!(
            Log::of(&path)
                .iter()
                .any(|line| line.contains("trap on purpose")),
            "the guest's standard error is not in the log: {:#?}",
            Log::of(&path)
        );
    }
    other.expect_echo(b"still here").await;
}

over_both!(a_handler_that_does_not_return_is_ended_with_its_session_only);
async fn a_handler_that_does_not_return_is_ended_with_its_session_only(http: Http) {
    let server = TestServer::start().await;
    let other = server.session(http, "/plain").await;
    let session = server.session(http, &path("spin")).await;
    let (mut send, _recv) = session.open_bi().await.unwrap();
    send.write_all(b"x").await.unwrap();
    assert_eq!(code_of_close(&session).await, 0xffff_ff02);
    other.expect_echo(b"still here").await;
}

over_both!(a_handler_that_takes_all_memory_is_ended);
async fn a_handler_that_takes_all_memory_is_ended(http: Http) {
    let server = TestServer::start().await;
    let session = server.session(http, &path("grow")).await;
    let (mut send, _recv) = session.open_bi().await.unwrap();
    send.write_all(b"x").await.unwrap();
    assert_eq!(code_of_close(&session).await, 0xffff_ff03);
    drop(session);
    server.no_instances().await;
}

over_both!(a_session_that_is_aborted_ends_unclean_for_the_handler);
async fn a_session_that_is_aborted_ends_unclean_for_the_handler(http: Http) {
    let server = TestServer::start().await;
    let peer = Peer::connect(http, &server).await;
    let other = peer.session("/plain").await;
    let path = path("report");
    let session = peer.session(&path).await;
    Log::line(&path, "constructed").await;
    session.abort().await;
    let line = Log::line(&path, "closed").await;
    assert!(line.starts_with("closed 0 peer unclean"), "{line}");
    other.expect_echo(b"the other goes on").await;
}

over_both!(a_client_that_vanishes_is_noticed_within_the_idle_timeout);
async fn a_client_that_vanishes_is_noticed_within_the_idle_timeout(http: Http) {
    let server = TestServer::with(|config| {
        config.transport.idle_timeout = Duration::from_secs(1);
        config.transport.keep_alive = Duration::from_millis(300);
    })
    .await;
    let path = path("report");
    let relay = AnyRelay::to(http, server.address).await;
    let vanished = Peer::connect_to(http, relay.address(), Terms::default()).await;
    let _session = vanished.session(&path).await;
    Log::line(&path, "constructed").await;
    relay.cut();
    let vanished_at = Instant::now();
    let line = Log::line(&path, "closed").await;
    // One answer may have come just before; and a machine may be busy.
    let noticed = vanished_at.elapsed();
    assert!(noticed < Duration::from_secs(4), "{noticed:?}");
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
