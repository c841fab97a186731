//! A component in the client's role.

use wharf::transport::{Closer, Dir, Event};

use super::{
    native::Native,
    program::{Client, connected, ours, theirs},
};
use crate::{
    harness::{Log, TestServer, guest, path},
    peer::{Http, over_both},
};

const TRAPPED: u32 = 0xffff_ff01;

fn with_handler(handler: &std::path::Path) -> [&str; 2] {
    ["--handler", handler.to_str().unwrap()]
}

over_both!(a_handler_answers_the_server_and_ends_with_its_session);
async fn a_handler_answers_the_server_and_ends_with_its_session(http: Http) {
    let server = TestServer::with(|config| config.drain = std::time::Duration::ZERO).await;
    let path = path("push");
    let echo = guest("echo");
    let client = Client::to(http, &server, &path, &with_handler(&echo));
    // What the server pushed comes back: on the same stream, and on one of the client's own.
    let (bidi, uni) = (theirs(http, Dir::Bi), ours(http, Dir::Uni, 0));
    Log::line(&path, &format!("opened {uni} uni")).await;
    let data = Log::line(&path, &format!("data {bidi} ")).await;
    assert!(!data.starts_with(&format!("data {bidi} 0 ")), "{data}");
    server.stop().await;
    let ended = client.end().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.lines, [connected(http, 200)]);
}

over_both!(a_handler_is_told_its_role_and_what_was_asked);
async fn a_handler_is_told_its_role_and_what_was_asked(http: Http) {
    let mut server = Native::bind(http).await;
    let path = path("request");
    let faults = guest("faults");
    let arguments = server.arguments(&path);
    let client = Client::run(&[&arguments[..], &with_handler(&faults).map(str::to_owned)].concat());
    let mut session = server.session().await;
    let stream = session.open(Dir::Bi).unwrap();
    session.send(stream, "?".into(), true).unwrap();
    let told = String::from_utf8(session.read(stream).await).unwrap();
    for line in [
        "role=client".to_owned(),
        format!("path={path}"),
        format!("http={}", http.name()),
    ] {
        assert!(told.lines().any(|told| told == line), "{line} in {told}");
    }
    session.close(7, "bye", Closer::Local);
    session.closed().await;
    let ended = client.end().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(
        ended.errors.contains("closed 7 peer clean \\\"bye\\\"")
            || ended.errors.contains("closed 7 peer clean \"bye\""),
        "{ended:?}"
    );
}

over_both!(a_handler_that_fails_tells_the_server_and_the_exit_code);
async fn a_handler_that_fails_tells_the_server_and_the_exit_code(http: Http) {
    let mut server = Native::bind(http).await;
    let faults = guest("faults");
    let arguments = server.arguments("/trap/1");
    let client = Client::run(&[&arguments[..], &with_handler(&faults).map(str::to_owned)].concat());
    let mut session = server.session().await;
    session.send_datagram(b"now").unwrap();
    let closed = session
        .event(|event| match event {
            Event::Closed(closed) => Some(closed.clone()),
            _ => None,
        })
        .await;
    let ended = client.end().await;
    ended.badly(1, &["the handler trapped"]);
    assert_eq!((closed.code, closed.by), (TRAPPED, Closer::Peer));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_no_handler_is_named_before_the_server_is_asked() {
    let arguments = ["https://192.0.2.1/", "--handler", "missing.wasm"];
    let ended = Client::run(&arguments).end().await;
    ended.badly(1, &["missing.wasm", "no such file"]);
}

#[cfg(unix)]
over_both!(an_interrupt_ends_the_session_of_a_handler);
#[cfg(unix)]
async fn an_interrupt_ends_the_session_of_a_handler(http: Http) {
    let server = TestServer::start().await;
    let path = path("report");
    let faults = guest("faults");
    let mut client = Client::to(http, &server, &path, &with_handler(&faults));
    client.until("connected").await;
    Log::line(&path, "constructed").await;
    client.interrupt().await;
    let ended = client.end().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.errors.contains("closed 0 host clean"), "{ended:?}");
    assert_eq!(Log::line(&path, "closed").await, "closed 0 peer clean \"\"");
}
