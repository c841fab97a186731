//! Drain: a session is brought to its end, and everything goes on until there.

use std::time::Duration;

use wharf_proto::capsule::Capsule;

use crate::{
    capsules::{Said, close, framed},
    harness::{Log, TestServer, path, within},
    peer::{Dir, End, Http, over_both},
    raw::Raw,
};

fn lines(path: &str, start: &str) -> Vec<String> {
    let mut lines = Log::of(path);
    lines.retain(|line| line.starts_with(start));
    lines
}

over_both!(the_handlers_drain_is_told_and_the_session_ends_with_its_last_stream);
async fn the_handlers_drain_is_told_and_the_session_ends_with_its_last_stream(http: Http) {
    let server = TestServer::start().await;
    let path = path("drain-on-data");
    let session = server.session(http, &path).await;
    let (mut old, mut old_recv) = session.open_bi().await.unwrap();
    let old_id = old.id();
    assert_eq!(old_id, http.client_stream(Dir::Bi, 0));
    old.write_all(b"x").await.unwrap();
    session.draining().await;
    // What is open goes on, the peer may still open streams, and datagrams pass.
    old.write_all(b"more").await.unwrap();
    Log::line(&path, &format!("data {old_id} 4")).await;
    let mut new = session.open_uni().await.unwrap();
    let new_id = new.id();
    new.write_all(b"another").await.unwrap();
    Log::line(&path, &format!("data {new_id} 7")).await;
    session.send_datagram(b"word").unwrap();
    Log::line(&path, "datagram 4").await;
    new.finish().unwrap();
    Log::line(&path, &format!("stream-closed {new_id}")).await;
    assert_eq!(lines(&path, "closed"), [""; 0], "a stream is left");
    old.finish().unwrap();
    old_recv.stop(0);
    Log::line(&path, &format!("stream-closed {old_id}")).await;
    assert_eq!(session.closed().await, http.closed(0, ""));
    Log::line(&path, "closed").await;
    assert_eq!(lines(&path, "closed"), ["closed 0 local clean \"\""]);
    assert_eq!(lines(&path, "drain"), [""; 0], "the handler asked itself");
}

over_both!(a_drain_without_streams_closes_at_once);
async fn a_drain_without_streams_closes_at_once(http: Http) {
    let server = TestServer::start().await;
    let path = path("drain");
    let session = server.session(http, &path).await;
    assert_eq!(session.closed().await, http.closed(0, ""));
    assert_eq!(
        Log::line(&path, "closed").await,
        "closed 0 local clean \"\""
    );
}

/// Its close says all: no DRAIN precedes it.
#[tokio::test(flavor = "multi_thread")]
async fn a_drain_without_streams_is_a_close_alone() {
    let server = TestServer::start().await;
    let raw = Raw::connect(&server).await;
    let (_, _connect, mut said) = raw.session(&path("drain")).await.split();
    assert_eq!(said.next().await, Said::Capsule(close(0, "")));
    assert_eq!(said.next().await, Said::Fin);
}

over_both!(a_peers_drain_is_told_once_and_everything_goes_on);
async fn a_peers_drain_is_told_once_and_everything_goes_on(http: Http) {
    let server = TestServer::start().await;
    let path = path("echo");
    let session = server.session(http, &path).await;
    // A stream that stays, so that the session does.
    let (mut held, mut held_recv) = session.open_bi().await.unwrap();
    let mut uni = session.open_uni().await.unwrap();
    uni.write_all(b"opened by ").await.unwrap();
    session.drain().await;
    Log::line(&path, "drain").await;
    uni.write_all(b"the server").await.unwrap();
    uni.finish().unwrap();
    let answer = within("a stream of the server", session.accept_uni()).await;
    let answer = answer.unwrap().read_to_end(99).await.unwrap();
    assert_eq!(answer, b"opened by the server");
    held.write_all(b"as before").await.unwrap();
    let mut echo = [0; 9];
    within("the echo", held_recv.read_exact(&mut echo))
        .await
        .unwrap();
    assert_eq!(echo, *b"as before");
    assert!(session.close(7, "enough").await);
    assert_eq!(session.closed().await, End::Fin);
    Log::line(&path, "closed 7 peer clean \"enough\"").await;
    assert_eq!(lines(&path, "drain"), ["drain"]);
    assert_eq!(lines(&path, "closed").len(), 1);
}

/// By hand, because wharf's own end opens no stream after it asked for the session's end.
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

over_both!(the_peer_may_close_while_the_handler_drains);
async fn the_peer_may_close_while_the_handler_drains(http: Http) {
    let server = TestServer::start().await;
    let path = path("drain-on-data");
    let session = server.session(http, &path).await;
    let (mut open, _recv) = session.open_bi().await.unwrap();
    open.write_all(b"x").await.unwrap();
    session.draining().await;
    assert!(session.close(7, "now").await);
    assert_eq!(session.closed().await, End::Fin);
    Log::line(&path, "closed").await;
    assert_eq!(lines(&path, "closed"), ["closed 7 peer clean \"now\""]);
}

over_both!(the_handler_may_close_while_it_drains);
async fn the_handler_may_close_while_it_drains(http: Http) {
    let server = TestServer::start().await;
    let path = format!("{}?code=5&reason=now", path("errors"));
    let session = server.session(http, &path).await;
    let (mut open, _recv) = session.open_bi().await.unwrap();
    open.write_all(b"x").await.unwrap();
    assert_eq!(session.closed().await, http.closed(5, "now"));
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

over_both!(a_server_that_stops_tells_handlers_and_peers_and_closes_what_is_left);
async fn a_server_that_stops_tells_handlers_and_peers_and_closes_what_is_left(http: Http) {
    const SHUTTING_DOWN: u32 = 0xffff_ff04;
    let server = TestServer::with(|config| config.drain = Duration::from_millis(300)).await;
    let path = path("echo");
    let session = server.session(http, &path).await;
    let ends = async {
        session.draining().await;
        Log::line(&path, "drain").await;
        let mut uni = session.open_uni().await.unwrap();
        uni.write_all(b"answered on a stream of the server's")
            .await
            .unwrap();
        uni.finish().unwrap();
        let mut answer = within("a stream", session.accept_uni()).await.unwrap();
        answer.read_to_end(99).await.unwrap();
        session.expect_echo(b"everything goes on").await;
        let End::Close(code, _) = session.closed().await else {
            panic!("no close came");
        };
        assert_eq!(code, SHUTTING_DOWN);
        drop(session);
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
