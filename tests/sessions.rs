//! Several sessions on one connection, what arrives before them, and how they are asked for.

use bytes::Bytes;
use wharf_proto::capsule::Capsule;

use crate::{
    binary::Wharf,
    harness::{Log, TestServer, eventually, path, root, within},
    peer::{End, Http, Peer, over_both},
    raw::{BROWSER, NEWEST, Raw, connect_fields, frame, read_status},
};

const WT_SESSION_GONE: u64 = 0x170d_7b68;
const WT_BUFFERED_STREAM_REJECTED: u64 = 0x3994_bd84;
const H3_REQUEST_REJECTED: u64 = 0x10b;
const H3_MESSAGE_ERROR: u64 = 0x10e;

fn close(code: u32, reason: &str) -> Capsule {
    Capsule::Close {
        code,
        reason: reason.to_owned(),
    }
}

over_both!(of_two_sessions_on_a_connection_one_ends_and_the_other_goes_on);
async fn of_two_sessions_on_a_connection_one_ends_and_the_other_goes_on(http: Http) {
    let server = TestServer::start().await;
    let peer = Peer::connect(http, &server).await;
    let first = peer.session("/plain").await;
    let second = peer.session("/plain").await;
    first.expect_echo(b"first").await;
    second.expect_echo(b"second").await;
    assert!(first.close(9, "bye").await);
    assert_eq!(first.closed().await, End::Fin, "no close answers a close");
    second.expect_echo(b"still here").await;
    peer.session("/plain").await.expect_echo(b"a third").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_sessions_on_a_connection_one_ends_and_the_other_works() {
    let server = TestServer::start().await;
    let raw = Raw::connect(&server).await;
    let mut first = raw.session("/plain").await;
    let second = raw.session("/plain").await;
    raw.expect_echo(first.id, b"first").await;
    raw.expect_echo(second.id, b"second").await;
    first.send_capsule(&close(9, "bye")).await;
    first.send.finish().unwrap();
    assert_eq!(
        first.received().await,
        Bytes::new(),
        "the answer to CLOSE is FIN alone"
    );
    raw.expect_echo(second.id, b"still here").await;
    let (mut send, _recv) = raw.open_bi(first.id).await;
    let stopped = within("the stop", send.stopped()).await.unwrap().unwrap();
    assert_eq!(stopped.into_inner(), WT_SESSION_GONE);
    _ = send.write(b"x").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bare_fin_closes_with_code_0_and_no_reason_exactly_once() {
    let server = TestServer::start().await;
    let raw = Raw::connect(&server).await;
    let path = path("report");
    let mut session = raw.session(&path).await;
    session.send.finish().unwrap();
    assert_eq!(session.received().await, Bytes::new());
    server.no_instances().await;
    let closed: Vec<_> = Log::of(&path)
        .into_iter()
        .filter(|line| line.starts_with("closed"))
        .collect();
    assert_eq!(closed, ["closed 0 peer clean \"\""]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_handlers_close_is_a_capsule_and_then_fin() {
    let server = TestServer::start().await;
    let raw = Raw::connect(&server).await;
    let mut session = raw
        .session(&format!("{}?code=42&reason=bye", path("close")))
        .await;
    let payload = session.received().await;
    assert_eq!(payload[..], *b"\x68\x43\x07\0\0\0\x2abye");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_peer_sends_before_it_knows_of_a_close_is_passed_over() {
    let server = TestServer::start().await;
    let raw = Raw::connect(&server).await;
    let mut session = raw.session(&format!("{}?code=42", path("close"))).await;
    session.received().await;
    // As browsers do: a greased capsule on every session.
    let greased = frame(0, b"\x40\x40\x03abc");
    session.send.write_all(&greased).await.unwrap();
    session.send.finish().unwrap();
    let stopped = within("the end", session.send.stopped()).await.unwrap();
    assert_eq!(stopped, None, "all of it was taken");
}

/// WebTransport over HTTP/3, "Session Termination".
#[tokio::test(flavor = "multi_thread")]
async fn data_after_the_peers_close_is_a_malformed_message() {
    let server = TestServer::start().await;
    let raw = Raw::connect(&server).await;
    let path = path("report");
    let mut session = raw.session(&path).await;
    session.send_capsule(&close(9, "bye")).await;
    session.received().await;
    session.send_capsule(&Capsule::Drain).await;
    let stopped = within("the stop", session.send.stopped()).await.unwrap();
    assert_eq!(stopped.unwrap().into_inner(), H3_MESSAGE_ERROR);
    server.no_instances().await;
    assert!(Log::of(&path).contains(&"closed 9 peer clean \"bye\"".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn both_tokens_begin_a_session_and_the_handler_sees_which() {
    let server = TestServer::start().await;
    for token in ["webtransport", "webtransport-h3"] {
        let raw = Raw::connect(&server).await;
        let (status, session) = raw.ask(&path("request"), token).await;
        assert_eq!(status, 200);
        let (mut send, mut recv) = raw.open_bi(session.id).await;
        send.write_all(b"?").await.unwrap();
        send.finish().unwrap();
        let told = String::from_utf8(within("the request", recv.read_to_end(9999)).await.unwrap())
            .unwrap();
        assert!(
            told.lines().any(|line| line == format!("token={token}")),
            "{told}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_and_datagrams_sent_before_the_request_reach_their_own_session() {
    let server = TestServer::start().await;
    let raw = Raw::connect(&server).await;
    // The ids of the request streams to come: 0 and 4.
    let paths = [path("report"), path("report")];
    for (session, size) in [(0, 3), (4, 5)] {
        let mut uni = raw.open_uni(session).await;
        uni.write_all(&vec![b'x'; size]).await.unwrap();
        uni.finish().unwrap();
        raw.datagram(session, &vec![b'x'; size * 10]);
    }
    for (path, (id, size)) in paths.iter().zip([(0, 3), (4, 5)]) {
        let session = raw.session(path).await;
        assert_eq!(session.id, id);
        let line = Log::line(path, "data").await;
        assert!(
            line.ends_with(&format!(" {size} fin")) || line.ends_with(&format!(" {size} more")),
            "{line}"
        );
        Log::line(path, &format!("datagram {}", size * 10)).await;
        // Held until the end of the test, so that the second request is not the first session's end.
        std::mem::forget(session);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_early_streams_than_may_be_held_are_rejected() {
    let server = TestServer::with(|config| config.transport.early_streams = 2).await;
    let raw = Raw::connect(&server).await;
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(raw.open_uni(0).await);
    }
    let stopped = within("the stop", streams[2].stopped())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(stopped.into_inner(), WT_BUFFERED_STREAM_REJECTED);
    let path = path("report");
    let _session = raw.session(&path).await;
    for stream in &mut streams[..2] {
        stream.write_all(b"held").await.unwrap();
        stream.finish().unwrap();
    }
    Log::line(&path, "stream-closed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_more_early_datagrams_than_may_be_held_the_newest_are() {
    let server = TestServer::with(|config| config.transport.early_datagrams = 2).await;
    let raw = Raw::connect(&server).await;
    for size in 1..=3 {
        raw.datagram(0, &vec![b'x'; size]);
    }
    let path = path("report");
    let session = raw.session(&path).await;
    // A datagram on the session itself comes after those that were held.
    raw.datagram(session.id, b"last");
    Log::line(&path, "datagram 4").await;
    let told: Vec<_> = Log::of(&path)
        .into_iter()
        .filter(|line| line.starts_with("datagram"))
        .collect();
    assert_eq!(told, ["datagram 2", "datagram 3", "datagram 4"]);
}

/// WebTransport over HTTP/3, "Limiting the Number of Simultaneous Sessions", and RFC 9297, "The Capsule Protocol".
#[tokio::test(flavor = "multi_thread")]
async fn capsules_that_come_with_the_request_count_once_it_is_accepted_and_never_when_refused() {
    let server = TestServer::start().await;
    let raw = Raw::connect(&server).await;
    let path = path("report");
    for (path, status) in [(path.as_str(), 200), ("/refuse/429", 429)] {
        let fields = connect_fields(path, "webtransport-h3");
        let mut flight = frame(1, &crate::raw::field_section(&fields));
        flight.extend(crate::capsules::framed(&close(9, "early")));
        let (mut send, mut recv) = raw.conn.open_bi().await.unwrap();
        send.write_all(&flight).await.unwrap();
        send.finish().unwrap();
        assert_eq!(within("the response", read_status(&mut recv)).await, status);
    }
    let line = Log::line(&path, "closed").await;
    assert_eq!(line, "closed 9 peer clean \"early\"");
    server.no_instances().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_early_stream_whose_session_never_comes_is_let_go() {
    let server = TestServer::with(|config| {
        config.transport.setup_timeout = std::time::Duration::from_millis(100);
    })
    .await;
    let raw = Raw::connect(&server).await;
    let stream = raw.open_uni(400).await;
    let stopped = within("the stop", stream.stopped()).await.unwrap().unwrap();
    assert_eq!(stopped.into_inner(), WT_BUFFERED_STREAM_REJECTED);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_beyond_the_connections_limit_are_rejected() {
    let server = TestServer::with(|config| config.transport.sessions_per_connection = 2).await;
    for (settings, most) in [(BROWSER, 2), (NEWEST, 2)] {
        let raw = Raw::connect_to(server.address, settings).await;
        let mut sessions = Vec::new();
        for _ in 0..most {
            let (status, session) = raw.ask("/plain", "webtransport").await;
            assert_eq!(status, 200);
            sessions.push(session);
        }
        let (_send, mut recv) = raw.request(&connect_fields("/plain", "webtransport")).await;
        let reset = within("the reset", recv.received_reset())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(reset.into_inner(), H3_REQUEST_REJECTED);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_begin_no_session_have_an_answer() {
    let server = TestServer::start().await;
    let raw = Raw::connect(&server).await;
    let get = |path| {
        vec![
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "localhost"),
            (":path", path),
        ]
    };
    let unknown = connect_fields("/plain", "connect-tcp-too");
    let http = vec![
        (":method", "CONNECT"),
        (":scheme", "http"),
        (":authority", "localhost"),
        (":path", "/plain"),
        (":protocol", "webtransport"),
    ];
    let foreign = [
        connect_fields("/plain", "webtransport"),
        vec![("origin", "https://evil.example")],
    ]
    .concat();
    let listed = [
        connect_fields("/plain", "webtransport"),
        vec![("origin", "https://listed.example")],
    ]
    .concat();
    for (fields, expected) in [
        (get("/"), 200),
        (get("/nothing"), 404),
        (unknown, 501),
        (http, 400),
        (foreign, 403),
        (listed, 200),
    ] {
        let (mut send, mut recv) = raw.request(&fields).await;
        if fields.len() == 4 {
            send.finish().unwrap();
        }
        assert_eq!(
            within("the response", read_status(&mut recv)).await,
            expected,
            "{fields:?}"
        );
    }
    raw.expect_echo(raw.session("/plain").await.id, b"and sessions beside them")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_offers_every_draft_at_once() {
    let server = TestServer::start().await;
    let settings = Raw::connect(&server).await.server_settings().await;
    for expected in [
        (0x08, 1),
        (0x33, 1),
        (0x2b60_3742, 1),
        (0xc671_706a, 64),
        (0x14e9_cd29, 64),
        (0x2c7c_f000, 1),
        (0x2b61, 16 << 20),
        (0x2b64, 256),
        (0x2b65, 256),
    ] {
        assert!(
            settings.contains(&expected),
            "{expected:x?} is not in {settings:x?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_session_begins_before_the_clients_settings() {
    let server = TestServer::with(|config| {
        config.transport.setup_timeout = std::time::Duration::from_millis(200);
    })
    .await;
    let raw = Raw::silent(server.address).await;
    let (_send, mut recv) = raw.request(&connect_fields("/plain", "webtransport")).await;
    within("the reset", recv.received_reset())
        .await
        .unwrap()
        .unwrap();
}

/// WebTransport over HTTP/3, "Establishing a WebTransport-Capable HTTP/3 Connection".
#[tokio::test(flavor = "multi_thread")]
async fn the_newest_draft_begins_no_session_without_the_settings_it_requires() {
    let server = TestServer::start().await;
    for settings in [&[(0x33, 1)][..], &[(0x2c7c_f000, 1)]] {
        let raw = Raw::connect_to(server.address, settings).await;
        let fields = connect_fields("/plain", "webtransport-h3");
        let (_send, mut recv) = raw.request(&fields).await;
        let reset = within("the reset", recv.received_reset()).await.unwrap();
        assert_eq!(reset.unwrap().into_inner(), H3_MESSAGE_ERROR);
    }
}

/// WebTransport over HTTP/3, "Negotiating the Use of Flow Control".
#[tokio::test(flavor = "multi_thread")]
async fn without_flow_control_a_newer_draft_has_one_session_at_a_time() {
    let server = TestServer::start().await;
    for (settings, token) in [
        (&[(0x33, 1), (0x2c7c_f000, 1)][..], "webtransport-h3"),
        (&[(0x33, 1), (0x14e9_cd29, 1)], "webtransport"),
    ] {
        let raw = Raw::connect_to(server.address, settings).await;
        let path = path("report");
        let (status, mut first) = raw.ask(&path, token).await;
        assert_eq!(status, 200);
        let (_send, mut recv) = raw.request(&connect_fields("/plain", token)).await;
        let reset = within("the reset", recv.received_reset()).await.unwrap();
        assert_eq!(reset.unwrap().into_inner(), H3_REQUEST_REJECTED);
        first.send.finish().unwrap();
        first.received().await;
        eventually("the place", || server.handle.sessions() == 0).await;
        assert_eq!(raw.ask("/plain", token).await.0, 200, "the first is over");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_tells_the_draft_of_each_session_and_why_one_is_refused() {
    let echo = root().join("guests/echo");
    let wharf = Wharf::run_with(&echo, &["--log", "wharf=debug"]).await;
    let raw = Raw::connect_to(wharf.address(), NEWEST).await;
    let _newest = raw.session("/newest").await;
    wharf.logs("path=\"/newest\" draft=\"draft-15\"").await;
    let raw = Raw::connect_to(wharf.address(), BROWSER).await;
    let (status, _session) = raw.ask("/browser", "webtransport").await;
    assert_eq!(status, 200);
    wharf.logs("path=\"/browser\" draft=\"draft-02\"").await;
    let foreign = [
        connect_fields("/foreign", "webtransport"),
        vec![("origin", "https://evil.example")],
    ]
    .concat();
    let (_send, mut recv) = raw.request(&foreign).await;
    assert_eq!(within("the response", read_status(&mut recv)).await, 403);
    wharf.logs("session refused").await;
}

over_both!(the_handler_decides_on_the_response);
async fn the_handler_decides_on_the_response(http: Http) {
    let server = TestServer::start().await;
    let peer = Peer::connect(http, &server).await;
    for (path, expected) in [
        ("/refuse/302", 302),
        ("/refuse/404", 404),
        ("/refuse/429", 429),
        ("/accept/204", 204),
    ] {
        assert_eq!(peer.ask(path, &[]).await.0, expected, "{path}");
    }
}

over_both!(a_full_host_refuses_the_next_session_with_503);
async fn a_full_host_refuses_the_next_session_with_503(http: Http) {
    let server = TestServer::with(|config| config.sessions = 1).await;
    let peer = Peer::connect(http, &server).await;
    let first = peer.session("/plain").await;
    assert_eq!(peer.ask("/plain", &[]).await.0, 503);
    assert!(first.close(0, "").await);
    server.no_instances().await;
    peer.session("/plain")
        .await
        .expect_echo(b"room again")
        .await;
}

over_both!(a_path_without_a_route_is_404_and_the_connection_goes_on);
async fn a_path_without_a_route_is_404_and_the_connection_goes_on(http: Http) {
    let server =
        TestServer::with(|config| config.tenants[0].routes.retain(|route| route.path != "/")).await;
    let peer = Peer::connect(http, &server).await;
    assert_eq!(peer.ask("/nothing", &[]).await.0, 404);
    peer.session("/plain").await.expect_echo(b"there").await;
}
