//! Resets that race with the header of their stream, and what they cost in credit.
//!
//! WebTransport over HTTP/3, "Resetting Data Streams": RESET_STREAM_AT would deliver the header. quinn does not have it.

use std::time::Duration;

use wharf_proto::{capsule::Capsule, code::AppCode, id::Dir};

use crate::{
    harness::{Log, TestServer, eventually, path, within},
    raw::{BROWSER, NEWEST, Raw},
};

fn wire(code: u32) -> quinn::VarInt {
    quinn::VarInt::from_u64(AppCode(code).to_http3().into_inner()).unwrap()
}

fn count(path: &str, start: &str) -> usize {
    let lines = Log::of(path);
    lines.iter().filter(|line| line.starts_with(start)).count()
}

/// How many of so many uni streams of a session, each opened and reset at once, its handler is told of.
async fn told_of(server: &TestServer, tries: usize, sessions: usize, flush: bool) -> usize {
    let raw = Raw::connect(server).await;
    let paths: Vec<_> = (0..sessions).map(|_| path("report")).collect();
    let mut held = Vec::new();
    for path in &paths {
        held.push(raw.session(path).await);
    }
    for n in 0..tries {
        let mut uni = raw.open_uni(held[0].id).await;
        if flush {
            tokio::task::yield_now().await; // lets quinn send the header in a packet before that of the reset
        }
        uni.reset(wire(u32::try_from(n).unwrap())).unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await; // within what may be open
    }
    // Streams that come after them all say that they were seen.
    for _ in 0..2 {
        let mut last = raw.open_uni(held[0].id).await;
        last.write_all(b"the last").await.unwrap();
        last.finish().unwrap();
        let id = u64::from(last.id());
        Log::line(&paths[0], &format!("stream-closed {id}")).await;
    }
    for path in &paths[1..] {
        assert_eq!(count(path, "opened"), 0, "told to a session of others");
    }
    count(&paths[0], "reset")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_uni_stream_reset_before_its_header_came_is_told_to_the_only_session() {
    let server = TestServer::with(|config| config.runtime.log_rate = u32::MAX).await;
    let raw = Raw::connect(&server).await;
    let path = path("report");
    let session = raw.session(&path).await;
    for n in 0..1000 {
        let mut uni = raw.open_uni(session.id).await;
        uni.reset(wire(n)).unwrap();
        if n % 100 == 99 {
            // Within what the session may have open.
            let told = n as usize + 1;
            eventually("the resets", || count(&path, "reset") == told).await;
        }
    }
    for n in 0..1000 {
        let code = format!(" {n}");
        assert!(
            Log::of(&path)
                .iter()
                .any(|line| line.starts_with("reset") && line.ends_with(&code))
        );
    }
    assert_eq!(count(&path, "opened"), 1000);
    eventually("1000 ends", || count(&path, "stream-closed") == 1000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bidi_stream_reset_before_its_header_came_costs_the_peer_no_credit() {
    let server = TestServer::with(|config| config.transport.session.streams_per_kind = 4).await;
    let raw = Raw::connect(&server).await;
    let path = path("echo");
    let (id, _connect, mut said) = raw.session(&path).await.split();
    for _ in 0..4 {
        let (mut send, _recv) = raw.open_bi(id).await;
        send.reset(wire(7)).unwrap();
    }
    // The peer has used up its limit of 4, and is granted more.
    loop {
        if let Capsule::MaxStreams(Dir::Bi, limit) = said.capsule().await {
            assert!(limit.into_inner() > 4);
            break;
        }
    }
    raw.expect_echo(id, b"one more").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_lost_with_a_reset_are_given_back() {
    const WINDOW: u32 = 10_000;
    let server = TestServer::with(|config| {
        config.transport.session.session_receive_credit = WINDOW;
        config.transport.stream_receive_credit = WINDOW;
    })
    .await;
    let raw = Raw::connect(&server).await;
    let (id, _connect, mut said) = raw.session(&path("report")).await.split();
    let mut uni = raw.open_uni(id).await;
    uni.write_all(&[7; 100]).await.unwrap();
    uni.reset(wire(7)).unwrap();
    // All of the window may have been on its way.
    let Capsule::MaxData(limit) = said.capsule().await else {
        panic!("no credit came");
    };
    assert!(limit.into_inner() >= u64::from(2 * WINDOW) - 100, "{limit}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handlers_reset_of_a_new_stream_leaves_its_header_time_to_arrive() {
    let server = TestServer::start().await;
    let mut seen = 0;
    for _ in 0..20 {
        let session = server
            .connect(&format!("{}?code=9", path("open-and-reset")))
            .await;
        // A client that is too busy to look at the header in time misses the stream.
        let uni = tokio::time::timeout(Duration::from_secs(2), session.accept_uni());
        if let Ok(uni) = uni.await {
            let mut uni = uni.unwrap();
            let code = within("its reset", uni.received_reset()).await.unwrap();
            assert_eq!(code, Some(9));
            seen += 1;
        }
    }
    assert!(seen >= 15, "{seen} of 20 were seen");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_of_draft_02_is_given_codes_of_8_bits() {
    let server = TestServer::start().await;
    for (settings, token, told) in [
        (BROWSER, "webtransport", 255),
        (NEWEST, "webtransport-h3", u32::MAX),
    ] {
        for name in ["reset", "stop"] {
            let raw = Raw::connect_to(server.address, settings).await;
            let path = format!("{}?code={}", path(name), u32::MAX);
            let (_, session) = raw.ask(&path, token).await;
            let (mut send, mut recv) = raw.open_bi(session.id).await;
            send.write_all(b"x").await.unwrap();
            let code = match name {
                "reset" => within("the reset", recv.received_reset()).await.unwrap(),
                _ => within("the stop", send.stopped()).await.unwrap(),
            };
            assert_eq!(code, Some(wire(told)), "{name} towards {token}");
        }
    }
}

/// Prints how many streams that are opened and reset at once are told to the right session. Asserts only that none is
/// told to a wrong one, because the rest is up to packets.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement: cargo test --release -- --ignored --nocapture resets_measured"]
async fn resets_measured_over_1000_tries() {
    let server = TestServer::with(|config| config.runtime.log_rate = u32::MAX).await;
    for sessions in [1, 2] {
        for flush in [false, true] {
            let told = told_of(&server, 1000, sessions, flush).await;
            eprintln!("{sessions} session(s), header flushed first: {flush}: {told} of 1000 told");
        }
    }
}
