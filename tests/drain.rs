//! Drain: a session is brought to its end, and everything goes on until there.

use std::time::Duration;

use wharf_proto::capsule::Capsule;

use crate::{
    capsules::{Said, close, framed},
    harness::{Log, TestServer, path, within},
    raw::Raw,
};

fn lines(path: &str, start: &str) -> Vec<String> {
    let mut lines = Log::of(path);
    lines.retain(|line| line.starts_with(start));
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn the_handlers_drain_is_told_and_the_session_ends_with_its_last_stream() {
    let server = TestServer::start().await;
    let raw = Raw::connect(&server).await;
    let path = path("drain-on-data");
    let (id, _connect, mut said) = raw.session(&path).await.split();
    let (mut old, mut old_recv) = raw.open_bi(id).await;
    old.write_all(b"x").await.unwrap();
    assert_eq!(said.capsule().await, Capsule::Drain);
    // What is open goes on, the peer may still open streams, and datagrams pass.
    old.write_all(b"more").await.unwrap();
    Log::line(&path, "data 4 4").await;
    let mut new = raw.open_uni(id).await;
    new.write_all(b"another").await.unwrap();
    let number: u64 = new.id().into();
    Log::line(&path, &format!("data {number} 7")).await;
    raw.datagram(id, b"word");
    Log::line(&path, "datagram 4").await;
    new.finish().unwrap();
    Log::line(&path, &format!("stream-closed {number}")).await;
    assert_eq!(lines(&path, "closed"), [""; 0], "a stream is left");
    old.finish().unwrap();
    old_recv.stop(0_u32.into()).unwrap();
    Log::line(&path, "stream-closed 4").await;
    assert_eq!(said.capsule().await, close(0, ""));
    assert_eq!(said.next().await, Said::Fin);
    Log::line(&path, "closed").await;
    assert_eq!(lines(&path, "closed"), ["closed 0 local clean \"\""]);
    assert_eq!(lines(&path, "drain"), [""; 0], "the handler asked itself");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_without_streams_closes_at_once() {
    let server = TestServer::start().await;
    let raw = Raw::connect(&server).await;
    let path = path("drain");
    let (_, _connect, mut said) = raw.session(&path).await.split();
    assert_eq!(said.next().await, Said::Capsule(close(0, "")));
    assert_eq!(said.next().await, Said::Fin);
    assert_eq!(
        Log::line(&path, "closed").await,
        "closed 0 local clean \"\""
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peers_drain_reaches_the_handler_once_and_both_ends_open_streams_after_it() {
    let server = TestServer::start().await;
    let raw = Raw::connect(&server).await;
    let path = path("echo");
    let (id, mut connect, mut said) = raw.session(&path).await.split();
    for _ in 0..2 {
        connect.write_all(&framed(&Capsule::Drain)).await.unwrap();
    }
    Log::line(&path, "drain").await;
    raw.expect_echo(id, b"opened by the client").await;
    let mut uni = raw.open_uni(id).await;
    uni.write_all(b"opened by the server").await.unwrap();
    uni.finish().unwrap();
    let mut answer = within("a stream of the server", raw.webtransport_uni()).await;
    assert_eq!(
        within("the answer", answer.read_to_end(99)).await.unwrap(),
        b"opened by the server"
    );
    connect
        .write_all(&framed(&close(7, "enough")))
        .await
        .unwrap();
    assert_eq!(said.next().await, Said::Fin);
    Log::line(&path, "closed 7 peer clean \"enough\"").await;
    assert_eq!(lines(&path, "drain"), ["drain"]);
    assert_eq!(lines(&path, "closed").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_peer_may_close_while_the_handler_drains() {
    let server = TestServer::start().await;
    let raw = Raw::connect(&server).await;
    let path = path("drain-on-data");
    let (id, mut connect, mut said) = raw.session(&path).await.split();
    let (mut open, _recv) = raw.open_bi(id).await;
    open.write_all(b"x").await.unwrap();
    assert_eq!(said.capsule().await, Capsule::Drain);
    connect.write_all(&framed(&close(7, "now"))).await.unwrap();
    assert_eq!(said.next().await, Said::Fin);
    Log::line(&path, "closed").await;
    assert_eq!(lines(&path, "closed"), ["closed 7 peer clean \"now\""]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_handler_may_close_while_it_drains() {
    let server = TestServer::start().await;
    let raw = Raw::connect(&server).await;
    let path = format!("{}?code=5&reason=now", path("errors"));
    let (id, _connect, mut said) = raw.session(&path).await.split();
    let (mut open, _recv) = raw.open_bi(id).await;
    open.write_all(b"x").await.unwrap();
    assert_eq!(said.capsule().await, close(5, "now"));
    assert_eq!(said.next().await, Said::Fin);
    Log::line(&path, "error open-after-drain draining").await;
    Log::line(&path, "closed").await;
    assert_eq!(lines(&path, "closed"), ["closed 5 local clean \"now\""]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_close_in_the_same_piece_as_a_drain_is_not_lost() {
    let server = TestServer::start().await;
    let raw = Raw::connect(&server).await;
    for (path, fin) in [(path("report"), false), (path("report"), true)] {
        let (_, mut connect, mut said) = raw.session(&path).await.split();
        let mut bytes = framed(&Capsule::Drain);
        if !fin {
            bytes.extend(framed(&close(3, "both")));
        }
        connect.write_all(&bytes).await.unwrap();
        connect.finish().unwrap();
        assert_eq!(said.next().await, Said::Fin);
        let expected = if fin {
            "closed 0 peer clean \"\""
        } else {
            "closed 3 peer clean \"both\""
        };
        assert_eq!(Log::line(&path, "closed").await, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_tells_handlers_and_peers_and_closes_what_is_left() {
    const SHUTTING_DOWN: u32 = 0xffff_ff04;
    let server = TestServer::with(|config| config.drain = Duration::from_millis(300)).await;
    let raw = Raw::connect(&server).await;
    let path = path("echo");
    let (id, connect, mut said) = raw.session(&path).await.split();
    let ends = async {
        Log::line(&path, "drain").await;
        raw.expect_echo(id, b"everything goes on").await;
        let Said::Capsule(Capsule::Close { code, .. }) = said.next().await else {
            panic!("no close came");
        };
        assert_eq!(code, SHUTTING_DOWN);
        assert_eq!(said.next().await, Said::Fin);
        drop(connect);
    };
    tokio::join!(within("the server to stop", server.stop()), ends);
    assert_eq!(lines(&path, "drain"), ["drain"]);
    let closed = lines(&path, "closed");
    assert_eq!(closed.len(), 1);
    assert!(
        closed[0].starts_with("closed 4294967044 host clean"),
        "{closed:?}"
    );
}

/// RFC 9114, "Connection Shutdown": a client's GOAWAY says that it is about to leave.
#[tokio::test(flavor = "multi_thread")]
async fn a_peers_goaway_is_told_to_each_of_its_sessions_once() {
    let server = TestServer::start().await;
    let mut raw = Raw::connect(&server).await;
    let paths = [path("echo"), path("echo")];
    let mut sessions = Vec::new();
    for path in &paths {
        sessions.push(raw.session(path).await);
    }
    for push_id in [9, 0] {
        let control = raw.control.as_mut().unwrap();
        let goaway = crate::raw::frame(0x07, &[push_id]);
        control.write_all(&goaway).await.unwrap();
    }
    for (path, session) in paths.iter().zip(&mut sessions) {
        Log::line(path, "drain").await;
        session.send_capsule(&Capsule::Drain).await;
        raw.expect_echo(session.id, b"everything goes on").await;
        session.send.finish().unwrap();
        session.received().await;
        Log::line(path, "closed").await;
        let told = Log::of(path);
        assert_eq!(told.iter().filter(|line| *line == "drain").count(), 1);
    }
}
