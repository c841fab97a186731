//! The end of the server: sessions are asked to end, and those that do not are closed.

use std::time::Duration;

use crate::{
    binary::Wharf,
    harness::{Log, TestServer, path, root, within},
    peer::{End, Http, Peer, Terms, over_both},
};

over_both!(a_server_that_stops_asks_its_handlers_and_closes_the_sessions_that_stay);
async fn a_server_that_stops_asks_its_handlers_and_closes_the_sessions_that_stay(http: Http) {
    let server = TestServer::with(|config| config.drain = Duration::from_millis(100)).await;
    let path = path("report");
    let session = server.session(http, &path).await;
    Log::line(&path, "constructed").await;
    let closed = tokio::spawn(async move { session.closed().await });
    server.stop().await;
    Log::line(&path, "drain").await;
    let end = within("the close", closed).await.unwrap();
    assert_eq!(end, http.closed(0xffff_ff04, "server shutting down"));
    let line = Log::line(&path, "closed").await;
    assert_eq!(
        line,
        "closed 4294967044 host clean \"server shutting down\""
    );
}

over_both!(a_server_that_stops_waits_for_a_session_that_ends_in_time);
async fn a_server_that_stops_waits_for_a_session_that_ends_in_time(http: Http) {
    let server = TestServer::start().await;
    let peer = Peer::connect(http, &server).await;
    let path = path("echo");
    let session = peer.session(&path).await;
    let stopping = tokio::spawn(server.stop());
    Log::line(&path, "drain").await;
    session.expect_echo(b"not yet").await;
    assert!(session.close(0, "").await);
    assert_eq!(session.closed().await, End::Fin);
    peer.closed().await;
    within("the server to stop", stopping).await.unwrap();
    assert_eq!(Log::line(&path, "closed").await, "closed 0 peer clean \"\"");
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_ends_the_program_with_code_0() {
    let wharf = Wharf::run(&root().join("guests/echo")).await;
    assert_eq!(wharf.interrupt().await, Some(0));
}

over_both!(a_server_that_is_stopped_waits_for_no_session);
async fn a_server_that_is_stopped_waits_for_no_session(http: Http) {
    let server = TestServer::start().await;
    let path = path("report");
    let session = server.session(http, &path).await;
    server.control.drain();
    assert!(server.control.is_draining());
    session.draining().await;
    Log::line(&path, "drain").await;
    server.control.stop();
    assert_ne!(session.closed().await, End::Fin);
    within("the server to stop", server.ended()).await;
}

#[cfg(unix)]
over_both!(a_second_signal_ends_the_program_at_once_and_with_code_0);
#[cfg(unix)]
async fn a_second_signal_ends_the_program_at_once_and_with_code_0(http: Http) {
    // It drains for 30 s.
    let wharf = Wharf::run(&root().join("guests/echo")).await;
    let peer = Peer::connect_to(http, wharf.address(), Terms::default()).await;
    let session = peer.session("/").await;
    wharf.signal("TERM").await;
    session.draining().await;
    session.expect_echo(b"everything goes on").await;
    wharf.signal("TERM").await;
    assert_eq!(wharf.exit().await, Some(0));
}
