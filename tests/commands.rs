//! What a handler may ask of its session: each misuse has an answer of its own, timers fire, the session stays usable.

use crate::{
    harness::{Log, TestServer, path, within},
    peer::{Http, Peer, PeerRecv, PeerSession, over_both},
    raw::Raw,
};

/// What the guest tells of its errors, in order.
fn errors(path: &str) -> Vec<String> {
    let lines = Log::of(path);
    let errors = lines.iter().filter_map(|line| line.strip_prefix("error "));
    errors.map(str::to_owned).collect()
}

over_both!(each_misuse_of_a_session_has_an_error_of_its_own);
async fn each_misuse_of_a_session_has_an_error_of_its_own(http: Http) {
    let server = TestServer::start().await;
    let path = format!("{}?code=3", path("errors"));
    let session = server.session(http, &path).await;
    let mut uni = session.open_uni().await.unwrap();
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

over_both!(a_failed_call_leaves_the_session_as_it_was);
async fn a_failed_call_leaves_the_session_as_it_was(http: Http) {
    let server = TestServer::start().await;
    let path = path("send-unknown");
    let session = server.session(http, &path).await;
    Log::line(&path, "error unknown-stream").await;
    let mut uni = session.open_uni().await.unwrap();
    uni.write_all(b"still there").await.unwrap();
    Log::line(&path, &format!("data {} 11", uni.id())).await;
    assert_eq!(errors(&path), ["unknown-stream"], "told once");
}

over_both!(a_timer_fires_once_and_a_cancelled_one_never);
async fn a_timer_fires_once_and_a_cancelled_one_never(http: Http) {
    let server = TestServer::start().await;
    let path = format!("{}?ms=20", path("timer"));
    let session = server.session(http, &path).await;
    // The guest answers each timer with a datagram, and has cancelled one of two that are due together.
    let tick = within("the tick", session.read_datagram()).await.unwrap();
    assert_eq!(tick, "tick");
    let mut uni = session.open_uni().await.unwrap();
    uni.write_all(b"afterwards").await.unwrap();
    Log::line(&path, "data").await;
    let fired = |line: &&String| line.starts_with("timer");
    assert_eq!(Log::of(&path).iter().filter(fired).count(), 1);
}

over_both!(a_session_has_so_many_timers_and_no_more);
async fn a_session_has_so_many_timers_and_no_more(http: Http) {
    let server = TestServer::start().await;
    let path = path("timers");
    let _session = server.session(http, &path).await;
    Log::line(&path, "timers 64 invalid").await;
}

/// Reasons as a handler is asked to close with them, escaped, and what is sent of each.
fn reasons() -> [(String, String); 4] {
    let x = |count| "x".repeat(count);
    [
        (x(1024), x(1024)),
        (x(1025), x(1024)),
        // An umlaut takes two bytes.
        (format!("{}%C3%A4", x(1023)), x(1023)),
        (format!("{}%C3%A4x", x(1022)), format!("{}\u{e4}", x(1022))),
    ]
}

over_both!(a_reason_is_cut_between_characters_at_1024_bytes);
async fn a_reason_is_cut_between_characters_at_1024_bytes(http: Http) {
    let server = TestServer::with(|config| config.runtime.log_line = 2048).await;
    let peer = Peer::connect(http, &server).await;
    for (reason, kept) in reasons() {
        let path = format!("{}?code=9&reason={reason}", path("close"));
        let session = peer.session(&path).await;
        assert_eq!(session.closed().await, http.closed(9, &kept));
        assert_eq!(
            Log::line(&path, "closed").await,
            format!("closed 9 local clean {kept:?}")
        );
    }
}

/// The capsule of a close, byte by byte.
#[tokio::test(flavor = "multi_thread")]
async fn a_reason_that_was_cut_is_the_rest_of_its_capsule() {
    let server = TestServer::start().await;
    let raw = Raw::connect(&server).await;
    for (reason, kept) in reasons() {
        let path = format!("{}?code=9&reason={reason}", path("close"));
        let payload = raw.session(&path).await.received().await;
        // Type, then a length in two bytes and the code.
        assert_eq!(payload[..2], *b"\x68\x43");
        assert_eq!(payload[4..8], [0, 0, 0, 9]);
        assert_eq!(payload[8..], *kept.as_bytes());
    }
}

const URGENT: usize = 1_000_000;

/// Two streams of as many bytes, the less urgent one sent first: what came of it before the other began, and after that
/// until the other was whole.
async fn less_urgent_bytes(session: &PeerSession) -> (usize, usize) {
    let (mut send, _recv) = session.open_bi().await.unwrap();
    send.write_all(b"x").await.unwrap();
    let less = within("the less urgent one", session.accept_uni()).await;
    let mut less = less.unwrap();
    let (mut before, mut after, mut urgent) = (0, 0, 0);
    let mut begins = std::pin::pin!(session.accept_uni());
    let mut more = loop {
        tokio::select! {
            biased; // what has come by then, and was not read, came after
            more = &mut begins => break more.unwrap(),
            size = next(&mut less), if before < URGENT => before += size,
        }
    };
    while urgent < URGENT {
        tokio::select! {
            biased;
            size = next(&mut more) => urgent += size,
            size = next(&mut less), if before + after < URGENT => after += size,
        }
    }
    (before, after)
}

/// How many bytes come next.
async fn next(recv: &mut PeerRecv) -> usize {
    recv.read_chunk().await.unwrap().unwrap().len()
}

over_both!(of_two_streams_that_wait_the_more_urgent_one_is_delivered_first);
async fn of_two_streams_that_wait_the_more_urgent_one_is_delivered_first(http: Http) {
    let server = TestServer::start().await;
    let mut seen = Vec::new();
    // A server that is interrupted between the two has little choice left, so it has some tries. Without priorities
    // nearly all of the first stream comes first, in every one of them.
    for _ in 0..8 {
        let path = format!("{}?bytes={URGENT}", path("quiet/priority"));
        let session = server.session(http, &path).await;
        let (before, after) = within("both streams", less_urgent_bytes(&session)).await;
        if before + after <= URGENT / 2 {
            return;
        }
        seen.push((before, after));
    }
    panic!(
        "of {URGENT} bytes of the less urgent stream, before and after the other began: {seen:?}"
    );
}
