//! Streams: every byte arrives, in order, in both directions, whoever opened them.

use sha2::{Digest as _, Sha256};

use crate::{
    harness::{Log, TestServer, path, within},
    peer::{Gone, Http, Peer, PeerRecv, PeerSend, PeerSession, over_both},
};

/// Bytes that look random and can be made again.
fn pattern(seed: u64) -> impl Iterator<Item = u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    })
    .flat_map(u64::to_le_bytes)
}

async fn send_all(mut send: PeerSend, size: usize, seed: u64) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut bytes = pattern(seed).take(size);
    loop {
        let piece: Vec<u8> = bytes.by_ref().take(64 << 10).collect();
        if piece.is_empty() {
            break;
        }
        hash.update(&piece);
        send.write_all(&piece).await.unwrap();
    }
    send.finish().unwrap();
    hash.finalize().into()
}

async fn receive_all(mut recv: PeerRecv) -> (usize, [u8; 32]) {
    let mut hash = Sha256::new();
    let mut size = 0;
    while let Some(chunk) = recv.read_chunk().await.unwrap() {
        size += chunk.len();
        hash.update(&chunk);
    }
    (size, hash.finalize().into())
}

async fn echo(session: &PeerSession, size: usize, seed: u64) {
    let (send, recv) = session.open_bi().await.unwrap();
    let sending = tokio::spawn(send_all(send, size, seed));
    let (received, hash) = within("the echo", receive_all(recv)).await;
    assert_eq!(received, size);
    assert_eq!(
        hash,
        sending.await.unwrap(),
        "the echo of {size} bytes differs"
    );
}

over_both!(a_bidi_stream_echoes_every_byte_from_1_to_64_mib);
async fn a_bidi_stream_echoes_every_byte_from_1_to_64_mib(http: Http) {
    let server = TestServer::start().await;
    let session = server.session(http, "/plain").await;
    for size in [0, 1, 64 << 10, 16 << 20, 64 << 20] {
        echo(&session, size, size as u64).await;
    }
}

over_both!(a_thousand_streams_one_after_the_other_leave_none_open);
async fn a_thousand_streams_one_after_the_other_leave_none_open(http: Http) {
    let server = TestServer::start().await;
    let path = path("info");
    let echoing = server.session(http, "/plain").await;
    for n in 0..1000 {
        echo(&echoing, 32, n).await;
    }
    let session = server.session(http, &path).await;
    for _ in 0..10 {
        let (mut send, mut recv) = session.open_bi().await.unwrap();
        send.write_all(b"?").await.unwrap();
        send.finish().unwrap();
        let info = String::from_utf8(recv.read_to_end(9999).await.unwrap()).unwrap();
        assert!(info.contains("streams-bidi=1"), "{info}");
    }
}

over_both!(a_hundred_streams_at_once_keep_their_bytes_apart);
async fn a_hundred_streams_at_once_keep_their_bytes_apart(http: Http) {
    let server = TestServer::start().await;
    let session = server.session(http, "/plain").await;
    let echoes = (0..100_u8).map(|n| {
        let session = session.clone();
        tokio::spawn(async move { echo(&session, 100_000 + usize::from(n), n.into()).await })
    });
    for done in echoes.collect::<Vec<_>>() {
        done.await.unwrap();
    }
}

over_both!(a_uni_stream_is_answered_on_a_new_uni_stream);
async fn a_uni_stream_is_answered_on_a_new_uni_stream(http: Http) {
    let server = TestServer::start().await;
    let session = server.session(http, "/plain").await;
    for size in [1, 1 << 20] {
        let send = session.open_uni().await.unwrap();
        let sent = send_all(send, size, 7).await;
        let answer = within("the answer", session.accept_uni()).await.unwrap();
        assert_eq!(receive_all(answer).await, (size, sent));
    }
}

over_both!(the_server_opens_streams_before_the_client_has_sent_anything);
async fn the_server_opens_streams_before_the_client_has_sent_anything(http: Http) {
    let server = TestServer::start().await;
    let session = server.session(http, &path("push")).await;
    let (_, mut bidi) = within("the bidi stream", session.accept_bi())
        .await
        .unwrap();
    assert_eq!(bidi.read_to_end(99).await.unwrap(), b"pushed-bidi");
    let mut uni = within("the uni stream", session.accept_uni())
        .await
        .unwrap();
    assert_eq!(uni.read_to_end(99).await.unwrap(), b"pushed-uni");
}

over_both!(a_stream_is_visible_as_soon_as_it_is_opened);
async fn a_stream_is_visible_as_soon_as_it_is_opened(http: Http) {
    let server = TestServer::start().await;
    let session = server.session(http, &path("open-only")).await;
    within("a stream without data", session.accept_bi())
        .await
        .unwrap();
}

over_both!(a_peers_reset_reaches_the_handler_and_the_other_direction_goes_on);
async fn a_peers_reset_reaches_the_handler_and_the_other_direction_goes_on(http: Http) {
    let server = TestServer::start().await;
    let path = path("flood");
    let session = server.session(http, &format!("{path}?bytes=1000000")).await;
    let path = format!("{path}?bytes=1000000");
    let (mut send, recv) = session.open_bi().await.unwrap();
    send.write_all(b"go").await.unwrap();
    let id = send.id();
    Log::line(&path, &format!("data {id}")).await;
    send.reset(4_294_967_295);
    Log::line(&path, &format!("reset {id} 4294967295")).await;
    assert_eq!(within("the flood", receive_all(recv)).await.0, 1_000_000);
    Log::line(&path, &format!("stream-closed {id}")).await;
}

over_both!(a_peers_stop_reaches_the_handler_and_the_other_direction_goes_on);
async fn a_peers_stop_reaches_the_handler_and_the_other_direction_goes_on(http: Http) {
    let server = TestServer::start().await;
    let path = path("report");
    let session = server.session(http, &path).await;
    let (mut send, mut recv) = session.open_bi().await.unwrap();
    send.write_all(b"first").await.unwrap();
    let id = send.id();
    Log::line(&path, &format!("data {id}")).await;
    recv.stop(30);
    Log::line(&path, &format!("stop {id} 30")).await;
    send.write_all(b"second!").await.unwrap();
    send.finish().unwrap();
    Log::line(&path, &format!("data {id} 7")).await;
    Log::line(&path, &format!("stream-closed {id}")).await;
}

over_both!(the_handlers_reset_and_stop_reach_the_peer_with_their_codes);
async fn the_handlers_reset_and_stop_reach_the_peer_with_their_codes(http: Http) {
    let server = TestServer::start().await;
    let peer = Peer::connect(http, &server).await;
    for code in [0, 30, 255, u32::MAX] {
        let session = peer
            .session(&format!("{}?code={code}", path("reset")))
            .await;
        let (mut send, mut recv) = session.open_bi().await.unwrap();
        send.write_all(b"x").await.unwrap();
        assert_eq!(recv.given_up().await, Gone::Code(code));
        let session = peer.session(&format!("{}?code={code}", path("stop"))).await;
        let (mut send, _recv) = session.open_bi().await.unwrap();
        send.write_all(b"x").await.unwrap();
        assert_eq!(send.stopped().await, Gone::Code(code));
    }
}
