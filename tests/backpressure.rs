//! Peers that read slowly, or not at all: what waits for them is bounded, and nothing is lost.

use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::{
    binary::Wharf,
    harness::{Log, TestServer, path, root, within},
    peer::{Http, Peer, Terms, over_both},
};

const PIECE: usize = 64 << 10;

over_both!(an_echo_of_256_mib_that_is_not_read_costs_bounded_memory_and_loses_no_byte);
async fn an_echo_of_256_mib_that_is_not_read_costs_bounded_memory_and_loses_no_byte(http: Http) {
    const TOTAL: usize = 256 << 20;
    // 16 MiB on the way in, as many on the way out, and what the allocator keeps of them.
    const MOST_KIB: usize = 40 << 10;
    let wharf = Wharf::run(&root().join("guests/echo")).await;
    let peer = Peer::connect_to(http, wharf.address(), Terms::default()).await;
    let session = peer.session("/").await;
    let (mut send, mut recv) = session.open_bi().await.unwrap();
    let before = wharf.resident_kib();
    let mut sent = Sha256::new();
    let mut size = 0;
    // Writes until nothing is taken for a while: everybody's buffers are full then. A write that does not return has
    // taken nothing.
    let piece = |at: usize| -> Vec<u8> {
        (at..TOTAL.min(at + PIECE))
            .map(|n| (n / 251) as u8)
            .collect()
    };
    loop {
        let next = piece(size);
        let Ok(taken) = tokio::time::timeout(Duration::from_secs(2), send.write(&next)).await
        else {
            break;
        };
        let taken = taken.unwrap();
        sent.update(&next[..taken]);
        size += taken;
        assert!(size < TOTAL, "256 MiB were taken and none of it was read");
    }
    let grown = wharf.resident_kib().saturating_sub(before);
    assert!(grown < MOST_KIB, "{grown} KiB more after {size} bytes");
    let sending = tokio::spawn(async move {
        while size < TOTAL {
            let next = piece(size);
            let taken = send.write(&next).await.unwrap();
            sent.update(&next[..taken]);
            size += taken;
        }
        send.finish().unwrap();
        sent.finalize()
    });
    let mut received = Sha256::new();
    while let Some(chunk) = within("more of the echo", recv.read_chunk()).await.unwrap() {
        received.update(&chunk);
    }
    assert_eq!(received.finalize(), sending.await.unwrap());
    let grown = wharf.resident_kib().saturating_sub(before);
    assert!(grown < MOST_KIB, "{grown} KiB more after all of it");
}

over_both!(a_slow_reader_gets_every_byte_and_other_streams_go_on);
async fn a_slow_reader_gets_every_byte_and_other_streams_go_on(http: Http) {
    // Room for other streams when this one has taken all that a stream may.
    let server = TestServer::with(|config| {
        config.transport.session.session_receive_credit =
            2 * config.transport.stream_receive_credit;
    })
    .await;
    let session = server.session(http, "/plain").await;
    let (mut send, mut recv) = session.open_bi().await.unwrap();
    let sending = tokio::spawn(async move {
        let mut hash = Sha256::new();
        for n in 0..256_u32 {
            let piece = vec![n as u8; PIECE];
            hash.update(&piece);
            send.write_all(&piece).await.unwrap();
        }
        send.finish().unwrap();
        hash.finalize()
    });
    let mut hash = Sha256::new();
    let mut size = 0;
    while let Some(chunk) = within("more of the echo", recv.read_chunk()).await.unwrap() {
        size += chunk.len();
        hash.update(&chunk);
        if size % (1 << 20) < chunk.len() {
            session.expect_echo(b"meanwhile").await;
        }
    }
    assert_eq!(size, 16 << 20);
    assert_eq!(hash.finalize(), sending.await.unwrap());
}

over_both!(a_handler_that_floods_is_told_when_there_is_room_and_loses_nothing);
async fn a_handler_that_floods_is_told_when_there_is_room_and_loses_nothing(http: Http) {
    let server = TestServer::with(|config| {
        // A flood that the peer reads at once is one long callback.
        config.runtime.callback_deadline = Duration::from_secs(20);
    })
    .await;
    // Not so much that the log takes no more lines.
    let path = format!("{}?bytes=8000000", path("flood"));
    let session = server.session(http, &path).await;
    let (mut send, mut recv) = session.open_bi().await.unwrap();
    send.write_all(b"go").await.unwrap();
    send.finish().unwrap();
    Log::line(&path, "would-block").await;
    let received = within("the flood", recv.read_to_end(8_000_000))
        .await
        .unwrap();
    assert_eq!(received.len(), 8_000_000);
    Log::line(&path, "writable").await;
    let count = |start: &str| {
        Log::of(&path)
            .iter()
            .filter(|line| line.starts_with(start))
            .count()
    };
    assert_eq!(
        count("writable"),
        count("would-block"),
        "each refusal is followed by one word of room"
    );
}

over_both!(a_send_larger_than_the_buffer_is_taken_when_the_buffer_is_empty);
async fn a_send_larger_than_the_buffer_is_taken_when_the_buffer_is_empty(http: Http) {
    let server = TestServer::start().await;
    let path = format!("{}?bytes=3000000", path("big"));
    let session = server.session(http, &path).await;
    let (mut send, mut recv) = session.open_bi().await.unwrap();
    send.write_all(b"go").await.unwrap();
    send.finish().unwrap();
    assert_eq!(
        within("the answer", recv.read_to_end(4_000_000))
            .await
            .unwrap()
            .len(),
        3_000_000
    );
}

over_both!(a_stream_that_is_given_up_gives_its_room_back);
async fn a_stream_that_is_given_up_gives_its_room_back(http: Http) {
    let server = TestServer::with(|config| {
        config.transport.session.stream_send_buffer = PIECE;
        config.transport.session.session_send_buffer = PIECE;
        config.transport.stream_receive_credit = 256 << 10;
    })
    .await;
    let terms = Terms {
        window: 1000,
        ..Terms::default()
    };
    let peer = Peer::connect_to(http, server.address, terms).await;
    let session = peer.session("/plain").await;
    for round in 0..3 {
        // Nobody reads the echo, so it fills the buffer of the whole session.
        let (mut send, mut recv) = session.open_bi().await.unwrap();
        let all = vec![7; 4 * PIECE];
        let flood = tokio::time::timeout(Duration::from_millis(200), send.write_all(&all)).await;
        assert!(flood.is_err() || flood.unwrap().is_ok());
        recv.stop(round);
        send.reset(round);
        session.expect_echo(b"room again").await;
    }
}
