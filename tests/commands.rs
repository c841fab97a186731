//! What a handler may ask of its session: each misuse has an answer of its own, timers fire, the session stays usable.

use crate::{
    harness::{Log, TestServer, path, within},
    raw::Raw,
};

/// What the guest tells of its errors, in order.
fn errors(path: &str) -> Vec<String> {
    let lines = Log::of(path);
    let errors = lines.iter().filter_map(|line| line.strip_prefix("error "));
    errors.map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_misuse_of_a_session_has_an_error_of_its_own() {
    let server = TestServer::start().await;
    let raw = Raw::connect(&server).await;
    let path = format!("{}?code=3", path("errors"));
    let session = raw.session(&path).await;
    let mut uni = raw.open_uni(session.id).await;
    uni.write_all(b"x").await.unwrap();
    Log::line(&path, "closed").await;
    assert_eq!(
        errors(&path),
        [
            "send-on-peer-uni wrong-direction",
            "stop-own-uni wrong-direction",
            "send-after-fin finished",
            "capacity-after-fin finished",
            "close-stream-twice finished",
            "reset-twice reset",
            "send-after-reset reset",
            "stop-twice reset",
            "datagram-too-large too-large",
            "export-long-label invalid",
            "open-after-drain draining",
            "open-stream closed",
            "send closed",
            "send-capacity closed",
            "close-stream closed",
            "reset-stream closed",
            "stop-sending closed",
            "set-priority closed",
            "send-datagram closed",
            "set-timer closed",
            "export-keying-material closed",
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_call_leaves_the_session_as_it_was() {
    let server = TestServer::start().await;
    let raw = Raw::connect(&server).await;
    let path = path("send-unknown");
    let session = raw.session(&path).await;
    Log::line(&path, "error unknown-stream").await;
    let mut uni = raw.open_uni(session.id).await;
    uni.write_all(b"still there").await.unwrap();
    let id: u64 = uni.id().into();
    Log::line(&path, &format!("data {id} 11")).await;
    assert_eq!(errors(&path), ["unknown-stream"], "told once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timer_fires_once_and_a_cancelled_one_never() {
    let server = TestServer::start().await;
    let raw = Raw::connect(&server).await;
    let path = format!("{}?ms=20", path("timer"));
    let session = raw.session(&path).await;
    // The guest answers each timer with a datagram, and has cancelled one of two that are due together.
    let tick = within("the tick", raw.conn.read_datagram()).await.unwrap();
    assert_eq!(tick[..], *b"\0tick");
    let mut uni = raw.open_uni(session.id).await;
    uni.write_all(b"afterwards").await.unwrap();
    Log::line(&path, "data").await;
    let fired = |line: &&String| line.starts_with("timer");
    assert_eq!(Log::of(&path).iter().filter(fired).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_has_so_many_timers_and_no_more() {
    let server = TestServer::start().await;
    let raw = Raw::connect(&server).await;
    let path = path("timers");
    let _session = raw.session(&path).await;
    Log::line(&path, "timers 64 invalid").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reason_is_cut_between_characters_at_1024_bytes() {
    let server = TestServer::with(|config| config.runtime.log_line = 2048).await;
    let raw = Raw::connect(&server).await;
    for (reason, kept) in [
        ("x".repeat(1024), "x".repeat(1024)),
        ("x".repeat(1025), "x".repeat(1024)),
        // An umlaut takes two bytes.
        (format!("{}%C3%A4", "x".repeat(1023)), "x".repeat(1023)),
        (
            format!("{}%C3%A4x", "x".repeat(1022)),
            format!("{}\u{e4}", "x".repeat(1022)),
        ),
    ] {
        let path = format!("{}?code=9&reason={reason}", path("close"));
        let mut session = raw.session(&path).await;
        let payload = session.received().await;
        // Type, then a length in two bytes and the code.
        assert_eq!(payload[..2], *b"\x68\x43");
        assert_eq!(payload[4..8], [0, 0, 0, 9]);
        assert_eq!(payload[8..], *kept.as_bytes());
        assert_eq!(
            Log::line(&path, "closed").await,
            format!("closed 9 local clean {kept:?}")
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_streams_that_wait_the_more_urgent_one_is_delivered_first() {
    let server = TestServer::start().await;
    let mut first = Vec::new();
    // A client that is too busy sees both end at once, and then their order is chance: never so three times.
    for _ in 0..3 {
        first.push(first_to_end(&server).await);
    }
    assert!(first.contains(&b'h'), "the one sent last is more urgent");
}

/// What the stream consists of that ends first: `l` of low priority, which was sent first, or `h` of high priority.
async fn first_to_end(server: &TestServer) -> u8 {
    let raw = Raw::connect(server).await;
    let path = format!("{}?bytes=400000", path("quiet/priority"));
    let session = raw.session(&path).await;
    let (mut send, _recv) = raw.open_bi(session.id).await;
    send.write_all(b"x").await.unwrap();
    let mut reading = Vec::new();
    for _ in 0..2 {
        let mut uni = within("a stream of the server", raw.webtransport_uni()).await;
        reading.push(tokio::spawn(async move {
            let all = within("all of it", uni.read_to_end(1 << 20)).await.unwrap();
            assert_eq!(all.len(), 400_000);
            (std::time::Instant::now(), all[0])
        }));
    }
    let mut ended = Vec::new();
    for stream in reading {
        ended.push(stream.await.unwrap());
    }
    ended.into_iter().min().unwrap().1
}
