//! A component in the client's role.

use super::{foreign::Quinn, program::Client};
use crate::harness::{Log, TestServer, guest, path, within};

const TRAPPED: u32 = 0xffff_ff01;

fn with_handler(handler: &std::path::Path) -> [&str; 2] {
    ["--handler", handler.to_str().unwrap()]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_answers_the_server_and_ends_with_its_session() {
    let server = TestServer::with(|config| config.drain = std::time::Duration::ZERO).await;
    let path = path("push");
    let echo = guest("echo");
    let client = Client::to(&server, &path, &with_handler(&echo));
    // What the server pushed comes back: on the same stream, and on one of the client's own.
    Log::line(&path, "opened 14 uni").await;
    let data = Log::line(&path, "data 1 ").await;
    assert!(!data.starts_with("data 1 0 "), "{data}");
    server.stop().await;
    let ended = client.end().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.lines, ["connected http3 draft-15 status 200"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_is_told_its_role_and_what_was_asked() {
    let mut server = Quinn::bind();
    let path = path("request");
    let faults = guest("faults");
    let arguments = server.arguments(&path);
    let client = Client::run(&[&arguments[..], &with_handler(&faults).map(str::to_owned)].concat());
    let session = server.accept().await;
    let (mut send, mut recv) = within("a stream", session.open_bi()).await.unwrap();
    send.write_all(b"?").await.unwrap();
    send.finish().unwrap();
    let told = within("the request", recv.read_to_end(9999)).await.unwrap();
    let told = String::from_utf8(told).unwrap();
    for line in ["role=client".to_owned(), format!("path={path}")] {
        assert!(told.lines().any(|told| told == line), "{line} in {told}");
    }
    session.close(7, b"bye");
    let ended = client.end().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(
        ended.errors.contains("closed 7 peer clean \\\"bye\\\"")
            || ended.errors.contains("closed 7 peer clean \"bye\""),
        "{ended:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_fails_tells_the_server_and_the_exit_code() {
    let mut server = Quinn::bind();
    let faults = guest("faults");
    let arguments = server.arguments("/trap/1");
    let client = Client::run(&[&arguments[..], &with_handler(&faults).map(str::to_owned)].concat());
    let session = server.accept().await;
    session.send_datagram("now".into()).unwrap();
    let closed = within("the close", session.closed()).await.to_string();
    let ended = client.end().await;
    ended.badly(1, &["the handler trapped"]);
    assert!(closed.contains(&TRAPPED.to_string()), "{closed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_no_handler_is_named_before_the_server_is_asked() {
    let arguments = ["https://192.0.2.1/", "--handler", "missing.wasm"];
    let ended = Client::run(&arguments).end().await;
    ended.badly(1, &["missing.wasm", "no such file"]);
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_ends_the_session_of_a_handler() {
    let server = TestServer::start().await;
    let path = path("report");
    let faults = guest("faults");
    let mut client = Client::to(&server, &path, &with_handler(&faults));
    client.until("connected").await;
    Log::line(&path, "constructed").await;
    client.interrupt().await;
    let ended = client.end().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.errors.contains("closed 0 host clean"), "{ended:?}");
    assert_eq!(Log::line(&path, "closed").await, "closed 0 peer clean \"\"");
}
