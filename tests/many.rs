//! Many of a kind: streams one after the other, streams at once, sessions beside each other.

use std::{collections::HashSet, time::Duration};

use crate::{
    harness::{Log, TestServer, eventually, path, within},
    peer::{Dir, End, Http, Peer, over_both},
    raw::{BROWSER, Raw},
};

over_both!(ten_thousand_streams_one_after_the_other_leave_none_open);
async fn ten_thousand_streams_one_after_the_other_leave_none_open(http: Http) {
    let server = TestServer::start().await;
    let session = server.session(http, "/plain").await;
    for n in 0..10_000_u32 {
        session.expect_echo(&n.to_be_bytes()).await;
    }
    // The other way: the server opens one for each of the client's.
    for n in 0..1_000_u32 {
        let mut send = session.open_uni().await.unwrap();
        send.write_all(&n.to_be_bytes()).await.unwrap();
        send.finish().unwrap();
        let mut answer = within("the answer", session.accept_uni()).await.unwrap();
        assert_eq!(answer.read_to_end(9).await.unwrap(), n.to_be_bytes());
    }
}

over_both!(a_thousand_streams_at_once_are_all_answered);
async fn a_thousand_streams_at_once_are_all_answered(http: Http) {
    let server = TestServer::with(|config| config.transport.session.streams_per_kind = 1000).await;
    let session = server.session(http, "/plain").await;
    let mut streams = Vec::new();
    for n in 0..1_000_u32 {
        let (mut send, recv) = session.open_bi().await.unwrap();
        send.write_all(&n.to_be_bytes()).await.unwrap();
        streams.push((n, send, recv));
    }
    // All are open when the first is answered to its end.
    for (n, send, recv) in streams.iter_mut().rev() {
        let mut echo = [0; 4];
        within("the echo", recv.read_exact(&mut echo))
            .await
            .unwrap();
        assert_eq!(echo, n.to_be_bytes());
        send.finish().unwrap();
        let rest = within("FIN", recv.read_to_end(9)).await.unwrap();
        assert_eq!(rest, b"");
    }
}

over_both!(sessions_on_one_connection_keep_their_streams_and_datagrams_apart);
async fn sessions_on_one_connection_keep_their_streams_and_datagrams_apart(http: Http) {
    const SESSIONS: usize = 8;
    let server = TestServer::start().await;
    let peer = Peer::connect(http, &server).await;
    let mut sessions = Vec::new();
    let paths: Vec<_> = (0..SESSIONS).map(|_| path("report")).collect();
    for path in &paths {
        sessions.push(peer.session(path).await);
    }
    // Interleaved, and each of a size of its own.
    let size = |session: usize, round: usize| 1 + session + round * SESSIONS;
    for round in 0..4 {
        for (n, session) in sessions.iter().enumerate() {
            let mut uni = session.open_uni().await.unwrap();
            uni.write_all(&vec![7; size(n, round)]).await.unwrap();
            session.send_datagram(&vec![7; size(n, round)]).unwrap();
            uni.finish().unwrap();
        }
    }
    for (n, path) in paths.iter().enumerate() {
        for round in 0..4 {
            Log::line(path, &format!("datagram {}", size(n, round))).await;
        }
        let closed = |line: &&String| line.starts_with("stream-closed");
        eventually("streams to end", || {
            Log::of(path).iter().filter(closed).count() == 4
        })
        .await;
        let bytes = Log::of(path)
            .iter()
            .filter_map(|line| line.strip_prefix("data "))
            .map(|line| line.split(' ').nth(1).unwrap().parse::<usize>().unwrap())
            .sum::<usize>();
        assert_eq!(bytes, (0..4).map(|round| size(n, round)).sum::<usize>());
    }
    // One after the other ends with a code of its own; the others live on.
    for (n, session) in sessions.iter().enumerate() {
        let code = u32::try_from(n).unwrap();
        assert!(session.close(code, "").await);
        assert_eq!(session.closed().await, End::Fin);
        let line = Log::line(&paths[n], "closed").await;
        assert_eq!(line, format!("closed {code} peer clean \"\""));
        for later in &paths[n + 1..] {
            assert!(!Log::of(later).iter().any(|line| line.starts_with("closed")));
        }
    }
    server.no_instances().await;
}

over_both!(ids_of_streams_are_those_of_the_wire_and_never_the_same);
async fn ids_of_streams_are_those_of_the_wire_and_never_the_same(http: Http) {
    let server = TestServer::start().await;
    let path = path("report");
    let session = server.session(http, &path).await;
    let mut ids = HashSet::new();
    for n in 0..3 {
        let (bidi, _) = session.open_bi().await.unwrap();
        let uni = session.open_uni().await.unwrap();
        assert_eq!(bidi.id(), http.client_stream(Dir::Bi, n));
        assert_eq!(uni.id(), http.client_stream(Dir::Uni, n));
        for (id, kind) in [(bidi.id(), "bidi"), (uni.id(), "uni")] {
            Log::line(&path, &format!("opened {id} {kind}")).await;
            assert!(ids.insert(id));
        }
    }
}

over_both!(a_handler_that_is_slower_than_its_peer_gets_all_and_other_sessions_go_on);
async fn a_handler_that_is_slower_than_its_peer_gets_all_and_other_sessions_go_on(http: Http) {
    const TOTAL: usize = 512 << 10;
    let server = TestServer::with(|config| {
        config.transport.session.session_receive_credit = 64 << 10;
        config.transport.stream_receive_credit = 64 << 10;
        config.runtime.log_rate = u32::MAX;
    })
    .await;
    let peer = Peer::connect(http, &server).await;
    let other = peer.session("/plain").await;
    let path = format!("{}?ms=4", path("slow"));
    let session = peer.session(&path).await;
    let (mut send, _recv) = session.open_bi().await.unwrap();
    let mut sending = tokio::spawn(async move {
        send.write_all(&vec![7; TOTAL]).await.unwrap();
        send.finish().unwrap();
    });
    let watched = async {
        loop {
            tokio::select! {
                done = &mut sending => return done.unwrap(),
                () = other.expect_echo(b"other sessions go on") => {}
            }
        }
    };
    within("all of it to be taken", watched).await;
    eventually("the last of it", || consumed(&path) == TOTAL as u64).await;
}

/// Stream data that the handler at that path was told of, in bytes.
fn consumed(path: &str) -> u64 {
    let lines = Log::of(path);
    let sizes = lines.iter().filter_map(|line| line.strip_prefix("data "));
    sizes
        .map(|line| line.split(' ').nth(1).unwrap().parse::<u64>().unwrap())
        .sum()
}

/// A peer that is faster than the handler waits: what is on its way is no more than the credit.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_handler_holds_a_fast_peer_by_flow_control() {
    const CREDIT: u64 = 64 << 10;
    const TOTAL: usize = 512 << 10;
    let server = TestServer::with(|config| {
        config.transport.session.session_receive_credit = u32::try_from(CREDIT).unwrap();
        config.transport.stream_receive_credit = u32::try_from(CREDIT).unwrap();
        config.runtime.log_rate = u32::MAX;
    })
    .await;
    // A client that has no session flow control, so that QUIC's alone holds it.
    let raw = Raw::connect_to(server.address, BROWSER).await;
    let (_, other) = raw.ask("/plain", "webtransport").await;
    let path = format!("{}?ms=4", path("slow"));
    let (_, session) = raw.ask(&path, "webtransport").await;
    let (mut send, _recv) = raw.open_bi(session.id).await;
    let mut sending = tokio::spawn(async move {
        send.write_all(&vec![7; TOTAL]).await.unwrap();
        send.finish().unwrap();
        send.stopped().await
    });
    let consumed = || consumed(&path);
    let mut again = tokio::time::interval(Duration::from_millis(20));
    let watched = async {
        loop {
            tokio::select! {
                done = &mut sending => return done.unwrap().unwrap(),
                _ = again.tick() => {
                    // Bytes on the wire before those consumed are counted, so that the bound cannot be missed.
                    let sent = raw.conn.stats().udp_tx.bytes;
                    let bound = (consumed() + 2 * CREDIT) * 5 / 4 + (64 << 10);
                    assert!(sent < bound, "{sent} bytes sent, {} consumed", consumed());
                    raw.expect_echo(other.id, b"other sessions go on").await;
                }
            }
        }
    };
    within("all of it to be taken", watched).await;
    eventually("the last of it", || consumed() == TOTAL as u64).await;
}
