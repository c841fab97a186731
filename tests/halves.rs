//! The two directions of a stream: each ends by itself, and what ends one is told once, with its code.

use crate::{
    capsules::{Said, WT_SESSION_GONE, close},
    harness::{Log, TestServer, path, within},
    peer::{Dir, Gone, Http, Peer, over_both},
    raw::Raw,
};

/// What application code 0 is on the wire (WebTransport over HTTP/3, "Resetting Data Streams").
const FIRST: u64 = 0x52e4_a40f_a8db;

over_both!(a_stop_that_comes_with_the_last_data_reaches_the_handler);
async fn a_stop_that_comes_with_the_last_data_reaches_the_handler(http: Http) {
    let server = TestServer::start().await;
    let path = path("report");
    let session = server.session(http, &path).await;
    for _ in 0..10 {
        let (mut send, mut recv) = session.open_bi().await.unwrap();
        let id = send.id();
        send.write_all(b"first").await.unwrap();
        Log::line(&path, &format!("data {id}")).await;
        send.finish().unwrap();
        recv.stop(7);
        Log::line(&path, &format!("stop {id} 7")).await;
        Log::line(&path, &format!("stream-closed {id}")).await;
    }
}

over_both!(codes_of_every_size_reach_the_other_end_in_both_directions);
async fn codes_of_every_size_reach_the_other_end_in_both_directions(http: Http) {
    let server = TestServer::start().await;
    let peer = Peer::connect(http, &server).await;
    for code in [0, 29, 30, 255, 256, u32::MAX] {
        let path_reset = format!("{}?code={code}", path("reset"));
        let session = peer.session(&path_reset).await;
        let (mut send, mut recv) = session.open_bi().await.unwrap();
        send.write_all(b"x").await.unwrap();
        assert_eq!(recv.given_up().await, Gone::Code(code));

        let path_stop = format!("{}?code={code}", path("stop"));
        let session = peer.session(&path_stop).await;
        let (mut send, _recv) = session.open_bi().await.unwrap();
        send.write_all(b"x").await.unwrap();
        assert_eq!(send.stopped().await, Gone::Code(code));

        let path = path("report");
        let session = peer.session(&path).await;
        let (mut send, mut recv) = session.open_bi().await.unwrap();
        let id = send.id();
        send.write_all(b"x").await.unwrap();
        Log::line(&path, &format!("data {id}")).await;
        send.reset(code);
        recv.stop(code);
        Log::line(&path, &format!("reset {id} {code}")).await;
        Log::line(&path, &format!("stop {id} {code}")).await;
        Log::line(&path, &format!("stream-closed {id}")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn codes_on_the_wire_are_those_of_the_draft_in_both_directions() {
    let server = TestServer::start().await;
    let raw = Raw::connect(&server).await;
    for (code, wire) in [
        (0, FIRST),
        (29, FIRST + 29),
        (30, FIRST + 31),
        (u32::MAX, 0x52e5_ac98_3162),
    ] {
        let wire = quinn::VarInt::from_u64(wire).unwrap();
        let session = raw.session(&format!("{}?code={code}", path("reset"))).await;
        let (mut send, mut recv) = raw.open_bi(session.id).await;
        send.write_all(b"x").await.unwrap();
        let reset = within("the reset", recv.received_reset()).await.unwrap();
        assert_eq!(reset, Some(wire), "{code}");

        let session = raw.session(&format!("{}?code={code}", path("stop"))).await;
        let (mut send, _recv) = raw.open_bi(session.id).await;
        send.write_all(b"x").await.unwrap();
        let stopped = within("the stop", send.stopped()).await.unwrap();
        assert_eq!(stopped, Some(wire), "{code}");

        let path = path("report");
        let session = raw.session(&path).await;
        let (mut send, mut recv) = raw.open_bi(session.id).await;
        let id: u64 = send.id().into();
        send.write_all(b"x").await.unwrap();
        Log::line(&path, &format!("data {id}")).await;
        send.reset(wire).unwrap();
        recv.stop(wire).unwrap();
        Log::line(&path, &format!("reset {id} {code}")).await;
        Log::line(&path, &format!("stop {id} {code}")).await;
        Log::line(&path, &format!("stream-closed {id}")).await;
    }
}

/// WebTransport over HTTP/3, "Resetting Data Streams": such a stream was reset with no application code.
#[tokio::test(flavor = "multi_thread")]
async fn a_code_that_is_no_applications_is_told_as_none() {
    let server = TestServer::start().await;
    let raw = Raw::connect(&server).await;
    let path = path("report");
    let session = raw.session(&path).await;
    // The last is reserved: the draft skips it.
    for wire in [0, 0x10c, FIRST - 1, FIRST + 30] {
        let wire = quinn::VarInt::from_u64(wire).unwrap();
        let (mut send, mut recv) = raw.open_bi(session.id).await;
        let id: u64 = send.id().into();
        send.write_all(b"x").await.unwrap();
        Log::line(&path, &format!("data {id}")).await;
        send.reset(wire).unwrap();
        Log::line(&path, &format!("reset {id} none")).await;
        recv.stop(wire).unwrap();
        Log::line(&path, &format!("stop {id} none")).await;
    }
}

over_both!(a_stop_of_a_stream_that_the_server_opened_reaches_the_handler);
async fn a_stop_of_a_stream_that_the_server_opened_reaches_the_handler(http: Http) {
    let server = TestServer::start().await;
    // More than is on its way at once, so that the server cannot be done with it.
    let path = format!("{}?bytes=20000000", path("quiet/priority"));
    let session = server.session(http, &path).await;
    let (mut send, _recv) = session.open_bi().await.unwrap();
    send.write_all(b"x").await.unwrap();
    let mut uni = within("a stream of the server", session.accept_uni())
        .await
        .unwrap();
    let id = uni.id();
    uni.stop(9);
    Log::line(&path, &format!("stop {id} 9")).await;
    Log::line(&path, &format!("stream-closed {id}")).await;
}

over_both!(each_end_may_finish_its_direction_first);
async fn each_end_may_finish_its_direction_first(http: Http) {
    let server = TestServer::start().await;
    let peer = Peer::connect(http, &server).await;
    // The handler ends first: it answers the first data with FIN, and hears what comes after.
    let path = path("info");
    let session = peer.session(&path).await;
    let (mut send, mut recv) = session.open_bi().await.unwrap();
    assert_eq!(send.id(), http.client_stream(Dir::Bi, 0));
    send.write_all(b"?").await.unwrap();
    let answer = within("the answer", recv.read_to_end(9999)).await.unwrap();
    assert!(!answer.is_empty());
    send.write_all(b"after").await.unwrap();
    send.finish().unwrap();
    let id = send.id();
    Log::line(&path, &format!("data {id} 5")).await;
    Log::line(&path, &format!("stream-closed {id}")).await;
    // The peer ends first: the echo goes on until it is whole.
    let session = peer.session("/plain").await;
    session.expect_echo(&vec![7; 1 << 20]).await;
}

over_both!(streams_of_a_session_that_ends_are_over_for_the_peer);
async fn streams_of_a_session_that_ends_are_over_for_the_peer(http: Http) {
    let server = TestServer::start().await;
    let path = format!("{}?code=4", path("errors"));
    let session = server.session(http, &path).await;
    let (mut bidi, mut bidi_recv) = session.open_bi().await.unwrap();
    Log::line(&path, "opened").await;
    let mut uni = session.open_uni().await.unwrap();
    uni.write_all(b"x").await.unwrap();
    assert_eq!(session.closed().await, http.closed(4, ""));
    assert_eq!(bidi_recv.given_up().await, Gone::Session);
    assert_eq!(bidi.stopped().await, Gone::Session);
    assert_eq!(uni.stopped().await, Gone::Session);
}

/// WebTransport over HTTP/3, "Session Termination".
#[tokio::test(flavor = "multi_thread")]
async fn streams_of_a_session_that_ends_are_given_up_with_session_gone() {
    let server = TestServer::start().await;
    let raw = Raw::connect(&server).await;
    let path = format!("{}?code=4", path("errors"));
    let (id, _connect, mut said) = raw.session(&path).await.split();
    let (mut bidi, mut bidi_recv) = raw.open_bi(id).await;
    Log::line(&path, "opened").await;
    let mut uni = raw.open_uni(id).await;
    uni.write_all(b"x").await.unwrap();
    assert_eq!(said.capsule().await, close(4, ""));
    assert_eq!(said.next().await, Said::Fin);
    let gone = quinn::VarInt::from_u64(WT_SESSION_GONE).unwrap();
    let reset = within("the reset", bidi_recv.received_reset()).await;
    assert_eq!(reset.unwrap(), Some(gone));
    for stream in [&mut bidi, &mut uni] {
        let stopped = within("the stop", stream.stopped()).await;
        assert_eq!(stopped.unwrap(), Some(gone));
    }
    let late = raw.open_uni(id).await;
    let stopped = within("the stop", late.stopped()).await;
    assert_eq!(stopped.unwrap(), Some(gone));
}
