//! What a peer may say on a CONNECT stream, cut as it likes, and what ends the session.

use std::time::Duration;

use wharf_proto::capsule::Capsule;

use crate::{
    capsules::{
        Capsules, H3_MESSAGE_ERROR, PROTOCOL_VIOLATION, Said, WT_SESSION_GONE, any_capsule,
        bytes_of, close, framed,
    },
    harness::{Log, TestServer, path, within},
    peer::{End, Http, Peer, over_both},
    raw::{Raw, frame},
};

const CLOSE: u64 = 0x2843;
const PADDING: u64 = 0x190b_4d38;
const H3_REQUEST_CANCELLED: u64 = 0x10c;

/// Expects that the server gives up the session as malformed, on the wire and to its handler.
async fn malformed(mut said: Capsules, path: &str, reason: &str) {
    assert_eq!(said.reset().await, H3_MESSAGE_ERROR, "{reason}");
    let line = Log::line(path, "closed").await;
    assert_eq!(
        line,
        format!("closed {PROTOCOL_VIOLATION} host unclean {reason:?}")
    );
}

/// RFC 9297, "The DATAGRAM Capsule": intermediaries may carry datagrams so.
#[tokio::test(flavor = "multi_thread")]
async fn a_datagram_in_a_capsule_reaches_the_handler() {
    let server = TestServer::start().await;
    let raw = Raw::connect(&server).await;
    let path = path("report");
    let (_, mut connect, _said) = raw.session(&path).await.split();
    let datagram = Capsule::Datagram(vec![7; 5000].into());
    connect.write_all(&framed(&datagram)).await.unwrap();
    Log::line(&path, "datagram 5000").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn capsules_cut_at_every_byte_over_frames_are_the_same_capsules() {
    let server = TestServer::start().await;
    let raw = Raw::connect(&server).await;
    let script = [
        any_capsule(0x17, b"unknown"),
        bytes_of(&Capsule::Datagram("one".into())).to_vec(),
        any_capsule(PADDING, &[0; 9]),
        bytes_of(&Capsule::Drain).to_vec(),
        bytes_of(&Capsule::Datagram("three".into())).to_vec(),
    ]
    .concat();
    let goodbye = bytes_of(&close(7, "done"));
    for piece in 1..=script.len() {
        let path = path("report");
        let (_, mut connect, mut said) = raw.session(&path).await.split();
        for bytes in script.chunks(piece) {
            connect.write_all(&frame(0, bytes)).await.unwrap();
        }
        Log::line(&path, "datagram 5").await;
        for bytes in goodbye.chunks(piece) {
            connect.write_all(&frame(0, bytes)).await.unwrap();
        }
        connect.finish().unwrap();
        assert_eq!(said.next().await, Said::Fin);
        Log::line(&path, "closed").await;
        assert_eq!(
            Log::of(&path)[1..],
            [
                "datagram 3",
                "drain",
                "datagram 5",
                "closed 7 peer clean \"done\""
            ],
            "cut into {piece}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reason_of_1024_bytes_is_told_whole_and_a_longer_one_is_malformed() {
    // Lines of the log are as long as the reason.
    let server = TestServer::with(|config| config.runtime.log_line = 2048).await;
    let raw = Raw::connect(&server).await;
    let capsule = |length| any_capsule(CLOSE, &[&[0, 0, 0, 7][..], &vec![b'x'; length]].concat());
    let path_whole = path("report");
    let (_, mut connect, mut said) = raw.session(&path_whole).await.split();
    connect.write_all(&frame(0, &capsule(1024))).await.unwrap();
    assert_eq!(said.next().await, Said::Fin);
    assert_eq!(
        Log::line(&path_whole, "closed").await,
        format!("closed 7 peer clean {:?}", "x".repeat(1024))
    );
    for length in [1025, 2048, 100_000] {
        let path = path("report");
        let (_, mut connect, said) = raw.session(&path).await.split();
        // Refused by its length, before all of it came.
        connect
            .write_all(&frame(0, &capsule(length)[..100]))
            .await
            .unwrap();
        malformed(said, &path, "capsule of a wrong length").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_capsules_end_the_session() {
    let server = TestServer::start().await;
    let raw = Raw::connect(&server).await;
    let wrong = "capsule of a wrong length";
    for (kind, payload, reason) in [
        (CLOSE, &b"\0\0\0\x07\xff"[..], "close reason is not UTF-8"),
        (CLOSE, b"\0\0\0", wrong),
        (0x78ae, b"x", wrong),
        (0x190b_4d3d, b"", wrong),
        (0x190b_4d3d, b"\0\0", wrong),
    ] {
        let path = path("report");
        let (_, mut connect, said) = raw.session(&path).await.split();
        let capsule = any_capsule(kind, payload);
        connect.write_all(&frame(0, &capsule)).await.unwrap();
        malformed(said, &path, reason).await;
    }
    // RFC 9297, "The Capsule Protocol": the end inside a capsule.
    let path = path("report");
    let (_, mut connect, said) = raw.session(&path).await.split();
    connect.write_all(&frame(0, b"\x68\x43\x07")).await.unwrap();
    connect.finish().unwrap();
    malformed(said, &path, "the stream ended inside a capsule").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aborted_connect_stream_ends_its_session_and_no_other() {
    let server = TestServer::start().await;
    let raw = Raw::connect(&server).await;
    let other = raw.session("/plain").await;
    for by_reset in [true, false] {
        let path = path("report");
        let mut session = raw.session(&path).await;
        let (mut bidi, _recv) = raw.open_bi(session.id).await;
        bidi.write_all(b"x").await.unwrap();
        Log::line(&path, "data").await;
        let cancelled = quinn::VarInt::from_u64(H3_REQUEST_CANCELLED).unwrap();
        if by_reset {
            session.send.reset(cancelled).unwrap();
            let code = Capsules::of(session.recv).reset().await;
            assert_eq!(code, H3_REQUEST_CANCELLED);
        } else {
            session.recv.stop(cancelled).unwrap();
            let stopped = within("the stop", session.send.stopped()).await;
            assert_eq!(stopped.unwrap(), Some(cancelled));
        }
        let line = Log::line(&path, "closed").await;
        assert!(line.starts_with("closed 0 peer unclean"), "{line}");
        let stopped = within("the stop", bidi.stopped()).await.unwrap().unwrap();
        assert_eq!(stopped.into_inner(), WT_SESSION_GONE);
        raw.expect_echo(other.id, b"the other goes on").await;
    }
}

over_both!(a_connection_that_the_peer_closes_ends_all_of_its_sessions);
async fn a_connection_that_the_peer_closes_ends_all_of_its_sessions(http: Http) {
    let server = TestServer::start().await;
    let peer = Peer::connect(http, &server).await;
    let paths = [path("report"), path("report")];
    let mut sessions = Vec::new();
    for path in &paths {
        sessions.push(peer.session(path).await);
    }
    peer.close();
    for path in &paths {
        let line = Log::line(path, "closed").await;
        assert!(line.starts_with("closed 0 peer unclean"), "{line}");
    }
    server.no_instances().await;
}

over_both!(closes_of_both_ends_that_cross_are_told_once);
/// The words of each end about the session's end cross in flight: each end tells one end, once.
async fn closes_of_both_ends_that_cross_are_told_once(http: Http) {
    let server = TestServer::start().await;
    let peer = Peer::connect(http, &server).await;
    for round in 0..20 {
        let path = format!("{}?code=1&reason=handler", path("close-on-data"));
        let session = peer.session(&path).await;
        let mut uni = session.open_uni().await.unwrap();
        uni.write_all(b"x").await.unwrap();
        // From at once to well after, in turn.
        tokio::time::sleep(Duration::from_micros(100 * (round % 8))).await;
        let in_time = session.close(2, "peer").await;
        let end = session.closed().await;
        let by_handler = end == http.closed(1, "handler");
        assert!(by_handler || (end == End::Fin && in_time), "{end:?}");
        let told = Log::line(&path, "closed").await;
        if told == "closed 1 local clean \"handler\"" {
            assert!(by_handler || http.passes_over_a_close_after_its_own());
        } else {
            assert_eq!(told, "closed 2 peer clean \"peer\"");
            assert!(!by_handler);
        }
        let closed = |line: &&String| line.starts_with("closed");
        assert_eq!(Log::of(&path).iter().filter(closed).count(), 1);
    }
}
