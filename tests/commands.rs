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

const URGENT: usize = 1_000_000;

/// Two streams of as many bytes, the less urgent one sent first: what came of it before the other began, and after that
/// until the other was whole.
async fn less_urgent_bytes(raw: &Raw) -> (usize, usize) {
    let path = format!("{}?bytes={URGENT}", path("quiet/priority"));
    let session = raw.session(&path).await;
    let (mut send, _recv) = raw.open_bi(session.id).await;
    send.write_all(b"x").await.unwrap();
    let mut less = within("the less urgent one", raw.webtransport_uni()).await;
    let (mut before, mut after, mut urgent) = (0, 0, 0);
    let mut begins = std::pin::pin!(raw.webtransport_uni());
    let mut more = loop {
        tokio::select! {
            more = &mut begins => break more,
            chunk = less.read_chunk(1 << 16, true), if before < URGENT => {
                before += chunk.unwrap().unwrap().bytes.len();
            }
        }
    };
    while urgent < URGENT {
        tokio::select! {
            chunk = less.read_chunk(1 << 16, true), if before + after < URGENT => {
                after += chunk.unwrap().unwrap().bytes.len();
            }
            chunk = more.read_chunk(1 << 16, true) => {
                urgent += chunk.unwrap().unwrap().bytes.len();
            }
        }
    }
    (before, after)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_streams_that_wait_the_more_urgent_one_is_delivered_first() {
    let server = TestServer::start().await;
    let mut seen = Vec::new();
    // A server that is interrupted between the two has little choice left, so it has some tries. Without priorities
    // nearly all of the first stream comes first, in every one of them.
    for _ in 0..8 {
        let mut raw = Raw::silent(server.address).await;
        let granted = [
            (0x33, 1),
            (0x2c7c_f000, 1),
            (0x2b61, 1 << 30),
            (0x2b64, 9),
            (0x2b65, 9),
        ];
        raw.say_settings(&granted).await;
        let (before, after) = within("both streams", less_urgent_bytes(&raw)).await;
        if before + after <= URGENT / 2 {
            return;
        }
        seen.push((before, after));
    }
    panic!(
        "of {URGENT} bytes of the less urgent stream, before and after the other began: {seen:?}"
    );
}
