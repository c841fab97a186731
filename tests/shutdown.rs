//! The end of the server: sessions are asked to end, and those that do not are closed.

use std::time::Duration;

use web_transport_quinn::{SessionError, WebTransportError};

use crate::{
    binary::Wharf,
    harness::{Log, TestServer, path, root, within},
    raw::Raw,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_asks_its_handlers_and_closes_the_sessions_that_stay() {
    let server = TestServer::with(|config| config.drain = Duration::from_millis(100)).await;
    let path = path("report");
    let session = server.connect(&path).await;
    Log::line(&path, "constructed").await;
    let closed = tokio::spawn(async move { session.closed().await });
    server.stop().await;
    Log::line(&path, "drain").await;
    match within("the close", closed).await.unwrap() {
        SessionError::WebTransportError(WebTransportError::Closed(code, reason)) => {
            assert_eq!(
                (code, reason.as_str()),
                (0xffff_ff04, "server shutting down")
            );
        }
        other => panic!("closed otherwise: {other}"),
    }
    let line = Log::line(&path, "closed").await;
    assert_eq!(
        line,
        "closed 4294967044 host clean \"server shutting down\""
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_waits_for_a_session_that_ends_in_time() {
    let server = TestServer::start().await;
    let raw = Raw::connect(&server).await;
    let path = path("echo");
    let mut session = raw.session(&path).await;
    let stopping = tokio::spawn(server.stop());
    Log::line(&path, "drain").await;
    raw.expect_echo(session.id, b"not yet").await;
    session.send.finish().unwrap();
    session.received().await;
    within("the server to stop", stopping).await.unwrap();
    assert_eq!(Log::line(&path, "closed").await, "closed 0 peer clean \"\"");
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_ends_the_program_with_code_0() {
    let wharf = Wharf::run(&root().join("guests/echo")).await;
    assert_eq!(wharf.interrupt().await, Some(0));
}
