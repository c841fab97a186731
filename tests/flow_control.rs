//! Session flow control over HTTP/3: limits are advertised, kept, refilled as the handler consumes, and enforced.
//!
//! WebTransport over HTTP/3, "Flow Control".

use wharf_proto::{
    capsule::Capsule,
    id::{Dir, StreamId},
    varint::VarInt,
};

use crate::{
    capsules::{
        Capsules, PROTOCOL_VIOLATION, WT_FLOW_CONTROL_ERROR, framed, max_data, max_streams,
    },
    harness::{Log, TestServer, path, within},
    raw::{BROWSER, Raw},
};

const BIDI: u64 = 0x2b65;
const UNI: u64 = 0x2b64;
const DATA: u64 = 0x2b61;

/// The SETTINGS of a client of the newest draft with those limits.
fn granting(data: u64, uni: u64, bidi: u64) -> Vec<(u64, u64)> {
    vec![
        (0x33, 1),
        (0x2c7c_f000, 1),
        (DATA, data),
        (UNI, uni),
        (BIDI, bidi),
    ]
}

fn int(value: u64) -> VarInt {
    VarInt::try_from(value).unwrap()
}

/// Expects that the server gives up the session, on the wire and to its handler.
async fn refused(mut said: Capsules, path: &str, reason: &str) {
    assert_eq!(said.reset().await, WT_FLOW_CONTROL_ERROR, "{reason}");
    let line = Log::line(path, "closed").await;
    assert_eq!(
        line,
        format!("closed {PROTOCOL_VIOLATION} host unclean {reason:?}")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_the_configuration_are_those_advertised() {
    let server = TestServer::with(|config| {
        config.transport.session.session_receive_credit = 12_345;
        config.transport.session.streams_per_kind = 7;
    })
    .await;
    let settings = Raw::connect(&server).await.server_settings().await;
    for expected in [(DATA, 12_345), (UNI, 7), (BIDI, 7)] {
        assert!(settings.contains(&expected), "{settings:x?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn credit_for_data_comes_back_as_the_handler_consumes() {
    const WINDOW: u64 = 50_000;
    let server = TestServer::with(|config| {
        config.transport.session.session_receive_credit = u32::try_from(WINDOW).unwrap();
    })
    .await;
    let raw = Raw::connect(&server).await;
    let (id, _connect, mut said) = raw.session(&path("quiet/report")).await.split();
    let (mut sent, mut limit) = (0, WINDOW);
    while sent < 10 * WINDOW {
        while sent == limit {
            let Capsule::MaxData(raised) = said.capsule().await else {
                panic!("no credit came");
            };
            assert!(raised.into_inner() > limit, "{raised} after {limit}");
            assert!(raised.into_inner() <= sent + WINDOW);
            limit = raised.into_inner();
        }
        // A stream for each piece: the limit is that of all streams together.
        let piece = usize::try_from((limit - sent).min(20_000)).unwrap();
        let mut uni = raw.open_uni(id).await;
        uni.write_all(&vec![7; piece]).await.unwrap();
        uni.finish().unwrap();
        sent += piece as u64;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn data_beyond_the_limit_ends_the_session() {
    let server =
        TestServer::with(|config| config.transport.session.session_receive_credit = 100).await;
    let raw = Raw::connect(&server).await;
    let path = path("report");
    let (id, _connect, said) = raw.session(&path).await.split();
    let mut uni = raw.open_uni(id).await;
    uni.write_all(&[7; 1000]).await.unwrap();
    refused(said, &path, "more data than was granted").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credit_for_streams_comes_back_as_streams_end() {
    const WINDOW: u64 = 4;
    let server = TestServer::with(|config| config.transport.session.streams_per_kind = 4).await;
    for dir in [Dir::Bi, Dir::Uni] {
        let raw = Raw::connect(&server).await;
        let path = path("report");
        let (id, _connect, mut said) = raw.session(&path).await.split();
        let mut limit = WINDOW;
        for opened in 0..6 * WINDOW {
            while opened == limit {
                let Capsule::MaxStreams(raised_dir, raised) = said.capsule().await else {
                    panic!("no credit came");
                };
                assert_eq!(raised_dir, dir, "of the other kind none was used");
                assert!(raised.into_inner() > limit, "{raised} after {limit}");
                assert!(raised.into_inner() <= opened + WINDOW);
                limit = raised.into_inner();
            }
            let mut send = match dir {
                Dir::Uni => raw.open_uni(id).await,
                Dir::Bi => {
                    let (send, mut recv) = raw.open_bi(id).await;
                    recv.stop(0_u32.into()).unwrap();
                    send
                }
            };
            send.finish().unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_beyond_the_limit_end_the_session() {
    for most in [0, 2] {
        let server =
            TestServer::with(|config| config.transport.session.streams_per_kind = most).await;
        for dir in [Dir::Bi, Dir::Uni] {
            let raw = Raw::connect(&server).await;
            let path = path("report");
            let (id, _connect, said) = raw.session(&path).await.split();
            let mut held = Vec::new();
            for _ in 0..=most {
                held.push(match dir {
                    Dir::Bi => raw.open_bi(id).await.0,
                    Dir::Uni => raw.open_uni(id).await,
                });
            }
            refused(said, &path, "more streams than were granted").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_does_not_increase_ends_the_session() {
    let server = TestServer::start().await;
    let raw = Raw::connect_to(server.address, &granting(1000, 10, 20)).await;
    let data = "data limit that does not increase";
    let streams = "stream limit that does not increase";
    for (capsules, reason) in [
        (vec![max_data(1000)], data),
        (vec![max_data(0)], data),
        (vec![max_data(1001), max_data(1001)], data),
        (vec![max_streams(Dir::Uni, 10)], streams),
        (vec![max_streams(Dir::Bi, 20)], streams),
        (vec![max_streams(Dir::Bi, 19)], streams),
    ] {
        let path = path("report");
        let (_, mut connect, said) = raw.session(&path).await.split();
        for capsule in &capsules {
            connect.write_all(&framed(capsule)).await.unwrap();
        }
        refused(said, &path, reason).await;
    }
}

/// WebTransport over HTTP/3, "Flow Control": QUIC limits each stream, so these are prohibited.
#[tokio::test(flavor = "multi_thread")]
async fn capsules_for_the_limit_of_one_stream_end_the_session() {
    let server = TestServer::start().await;
    let stream = StreamId::from(int(4));
    let limit = int(1 << 20);
    for capsule in [
        Capsule::MaxStreamData { stream, limit },
        Capsule::StreamDataBlocked { stream, limit },
    ] {
        let raw = Raw::connect(&server).await;
        let path = path("report");
        let (_, mut connect, said) = raw.session(&path).await.split();
        connect.write_all(&framed(&capsule)).await.unwrap();
        refused(said, &path, "capsule for the limit of a stream").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_opens_as_many_streams_as_the_peer_grants_and_the_peer_is_told() {
    let server = TestServer::start().await;
    let raw = Raw::connect_to(server.address, &granting(1 << 20, 3, 0)).await;
    let path = path("exhaust-streams");
    let (_, _connect, mut said) = raw.session(&path).await.split();
    Log::line(&path, "opened-count 3 stream-limit").await;
    assert_eq!(
        said.capsule().await,
        Capsule::StreamsBlocked(Dir::Uni, int(3))
    );
    for _ in 0..3 {
        within("a stream that was opened", raw.webtransport_uni()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_opens_streams_again_when_the_peer_raises_its_limit() {
    let server = TestServer::start().await;
    let raw = Raw::connect_to(server.address, &granting(1 << 20, 1, 10)).await;
    let path = path("echo");
    let (id, mut connect, mut said) = raw.session(&path).await.split();
    // Each of these asks the handler to open one.
    let ask = async || {
        let mut uni = raw.open_uni(id).await;
        uni.write_all(b"word").await.unwrap();
        uni.finish().unwrap();
    };
    ask().await;
    within("the first answer", raw.webtransport_uni()).await;
    ask().await;
    Log::line(&path, "error open-stream stream-limit").await;
    assert_eq!(
        said.capsule().await,
        Capsule::StreamsBlocked(Dir::Uni, int(1))
    );
    connect
        .write_all(&framed(&max_streams(Dir::Uni, 2)))
        .await
        .unwrap();
    // The capsule and a stream travel apart, so that one may be asked for too early.
    let answer = async {
        let mut again = tokio::time::interval(std::time::Duration::from_millis(50));
        let mut answer = std::pin::pin!(raw.webtransport_uni());
        loop {
            tokio::select! {
                _ = again.tick() => ask().await,
                answer = &mut answer => return answer,
            }
        }
    };
    let mut answer = within("the second answer", answer).await;
    assert_eq!(answer.read_to_end(99).await.unwrap(), b"word");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_sends_as_many_bytes_as_the_peer_grants_and_no_more() {
    let server = TestServer::start().await;
    let raw = Raw::connect_to(server.address, &granting(1000, 10, 10)).await;
    let path = format!("{}?bytes=5000", path("flood"));
    let (id, mut connect, mut said) = raw.session(&path).await.split();
    let (mut send, mut recv) = raw.open_bi(id).await;
    send.write_all(b"go").await.unwrap();
    let mut all = vec![0; 5000];
    for (from, limit) in [(0, 1000), (1000, 3000)] {
        recv.read_exact(&mut all[from..limit]).await.unwrap();
        assert_eq!(
            said.capsule().await,
            Capsule::DataBlocked(int(limit as u64))
        );
        let wait = std::time::Duration::from_millis(50);
        let more = tokio::time::timeout(wait, recv.read(&mut [0])).await;
        assert!(more.is_err(), "beyond {limit} bytes: {more:?}");
        let raised = if limit == 1000 { 3000 } else { 1 << 20 };
        connect.write_all(&framed(&max_data(raised))).await.unwrap();
    }
    recv.read_exact(&mut all[3000..]).await.unwrap();
    let fin = within("FIN", recv.read(&mut [0])).await.unwrap();
    assert_eq!(fin, None);
    let expected: Vec<u8> = (0..=255).cycle().take(5000).collect();
    assert_eq!(all, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_zero_is_zero() {
    let server = TestServer::start().await;
    // No stream: the handler opens none.
    let raw = Raw::connect_to(server.address, &granting(1 << 20, 0, 0)).await;
    let path = path("push");
    let (_, _connect, mut said) = raw.session(&path).await.split();
    Log::line(&path, "error open-stream stream-limit").await;
    let mut blocked = [said.capsule().await, said.capsule().await];
    blocked.sort_by_key(|capsule| format!("{capsule:?}"));
    assert_eq!(
        blocked,
        [
            Capsule::StreamsBlocked(Dir::Bi, int(0)),
            Capsule::StreamsBlocked(Dir::Uni, int(0))
        ]
    );
    // No byte: the echo waits until one is granted; FIN needs no credit.
    let raw = Raw::connect_to(server.address, &granting(0, 1, 1)).await;
    let (id, mut connect, mut said) = raw.session("/plain").await.split();
    let (mut send, mut recv) = raw.open_bi(id).await;
    send.write_all(b"x").await.unwrap();
    send.finish().unwrap();
    assert_eq!(said.capsule().await, Capsule::DataBlocked(int(0)));
    connect.write_all(&framed(&max_data(1))).await.unwrap();
    let echo = within("the echo", recv.read_to_end(9)).await.unwrap();
    assert_eq!(echo, b"x");
}

/// WebTransport over HTTP/3, "Negotiating the Use of Flow Control".
#[tokio::test(flavor = "multi_thread")]
async fn without_flow_control_limits_are_ignored() {
    let server =
        TestServer::with(|config| config.transport.session.session_receive_credit = 100).await;
    let raw = Raw::connect_to(server.address, BROWSER).await;
    let (status, session) = raw.ask("/plain", "webtransport").await;
    assert_eq!(status, 200);
    let (id, mut connect, _said) = session.split();
    for capsule in [
        max_data(0),
        max_streams(Dir::Bi, 0),
        Capsule::DataBlocked(int(0)),
        Capsule::StreamsBlocked(Dir::Uni, int(0)),
    ] {
        connect.write_all(&framed(&capsule)).await.unwrap();
    }
    raw.expect_echo(id, &[7; 50_000]).await;
}
