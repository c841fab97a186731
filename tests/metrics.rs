//! The numbers that a scrape gets, beside what the client of a session did.

use std::{collections::BTreeSet, time::Duration};

use tokio::{io::AsyncWriteExt as _, net::TcpStream};
use web_transport_quinn::ClientBuilder;

use crate::{
    harness::{TestServer, path, within},
    peer::{Http, Peer, over_both},
    scrape::observed,
};

/// The labels of sessions that `faults` serves.
const FAULTS: &str = r#"tenant="default",route="faults.wasm""#;

over_both!(an_echo_is_counted_exactly);
async fn an_echo_is_counted_exactly(http: Http) {
    let server = TestServer::observed().await;
    let session = server.session(http, &path("echo")).await;
    session.expect_echo(&[7; 10_000]).await;
    session.expect_echo(b"again").await;
    session.send_datagram(b"ping").unwrap();
    within("the datagram", session.read_datagram())
        .await
        .unwrap();
    let of = |name: &str, labels: &str| format!("{name}{{{FAULTS},{labels}}}");
    let counted = [
        (of("streams_opened_total", r#"kind="bidi",by="peer""#), 2.0),
        (of("streams_opened_total", r#"kind="uni",by="peer""#), 0.0),
        (
            of("streams_opened_total", r#"kind="bidi",by="handler""#),
            0.0,
        ),
        (of("stream_bytes_total", r#"direction="in""#), 10_005.0),
        (of("stream_bytes_total", r#"direction="out""#), 10_005.0),
        (of("datagrams_total", r#"direction="in""#), 1.0),
        (of("datagrams_total", r#"direction="out""#), 1.0),
        (of("datagrams_dropped_total", r#"direction="in""#), 0.0),
    ];
    let live = of("sessions", &format!("http={:?}", http.name()));
    for (name, value) in &counted {
        server.measures(name, *value).await;
    }
    server.measures(&live, 1.0).await;
    let memory = server.metric(&of("memory_bytes", r#"of="instance""#)).await;
    assert!(memory >= 65_536.0, "{memory}");
    let callbacks = server
        .metric(&format!("call_seconds_count{{{FAULTS}}}"))
        .await;
    assert!(
        callbacks >= 5.0,
        "two streams, their ends, a datagram: {callbacks}"
    );
    assert!(session.close(0, "").await);
    session.closed().await;
    server.measures(&live, 0.0).await;
    for (name, value) in &counted {
        assert_eq!(
            server.metric(name).await.to_bits(),
            value.to_bits(),
            "{name}"
        );
    }
    server
        .measures(&of("sessions_ended_total", r#"cause="peer""#), 1.0)
        .await;
    server
        .measures(&of("memory_bytes", r#"of="instance""#), 0.0)
        .await;
}

over_both!(streams_of_the_handler_are_told_from_the_peers);
async fn streams_of_the_handler_are_told_from_the_peers(http: Http) {
    let server = TestServer::observed().await;
    let session = server.session(http, &path("push")).await;
    let (_held, mut word) = within("the stream", session.accept_bi()).await.unwrap();
    within("the word", word.read_to_end(99)).await.unwrap();
    for (kind, by, count) in [
        ("bidi", "handler", 1.0),
        ("uni", "handler", 1.0),
        ("bidi", "peer", 0.0),
    ] {
        let name = format!("streams_opened_total{{{FAULTS},kind={kind:?},by={by:?}}}");
        server.measures(&name, count).await;
    }
    server
        .measures(&format!("streams{{{FAULTS},kind=\"bidi\"}}"), 1.0)
        .await;
}

over_both!(what_a_handler_dies_of_is_counted);
async fn what_a_handler_dies_of_is_counted(http: Http) {
    let server = TestServer::with(|config| {
        observed(config);
        config.runtime.memory = 8 << 20; // reached long before the deadline, on a busy machine too
        config.transport.close_timeout = Duration::from_millis(100); // this peer says nothing after the close
    })
    .await;
    for (sin, cause) in [
        ("trap", "trapped"),
        ("spin", "deadline"),
        ("grow", "memory"),
    ] {
        let session = server.session(http, &path(sin)).await;
        let (mut send, _recv) = session.open_bi().await.unwrap();
        send.write_all(b"go").await.unwrap();
        session.closed().await;
        for counter in ["traps_total", "sessions_ended_total"] {
            let name = format!("{counter}{{{FAULTS},cause={cause:?}}}");
            server.measures(&name, 1.0).await;
        }
    }
    server.session(http, &path("close")).await.closed().await;
    let ended = format!("sessions_ended_total{{{FAULTS},cause=\"handler\"}}");
    server.measures(&ended, 1.0).await;
}

over_both!(a_session_that_its_peer_leaves_is_counted_as_lost);
async fn a_session_that_its_peer_leaves_is_counted_as_lost(http: Http) {
    let server = TestServer::observed().await;
    let peer = Peer::connect(http, &server).await;
    let session = peer.session(&path("echo")).await;
    session.expect_echo(b"here").await;
    peer.close();
    let ended = format!("sessions_ended_total{{{FAULTS},cause=\"lost\"}}");
    server.measures(&ended, 1.0).await;
}

over_both!(refusals_are_counted_by_reason);
async fn refusals_are_counted_by_reason(http: Http) {
    let server = TestServer::with(|config| {
        observed(config);
        config.sessions = 1;
        config.tenants[0].routes.remove(0); // `/`, which takes every path
    })
    .await;
    let peer = Peer::connect(http, &server).await;
    let held = peer.session("/plain").await;
    for (path, origin, status, reason) in [
        ("/nowhere", None, 404, "no-route"),
        ("/plain", Some("https://other.example"), 403, "origin"),
        ("/plain", None, 503, "host-full"),
    ] {
        let fields: Vec<_> = origin
            .map(|origin| ("origin", origin))
            .into_iter()
            .collect();
        assert_eq!(peer.ask(path, &fields).await.0, status, "{path}");
        server.measures(&refused(reason), 1.0).await;
    }
    assert!(held.close(0, "").await);
    server.no_instances().await;
    assert_eq!(peer.ask("/refuse/418", &[]).await.0, 418);
    server.measures(&refused("handler"), 1.0).await;
    let accepted = format!(
        "sessions_accepted_total{{tenant=\"default\",route=\"echo.wasm\",http={:?}}}",
        http.name()
    );
    server.measures(&accepted, 1.0).await;
}

fn refused(reason: &str) -> String {
    format!("refusals_total{{tenant=\"default\",reason={reason:?}}}")
}

over_both!(connections_are_counted_while_they_are_open);
async fn connections_are_counted_while_they_are_open(http: Http) {
    let server = TestServer::observed().await;
    let open = format!("connections{{http={:?}}}", http.name());
    let accepted = format!("connections_accepted_total{{http={:?}}}", http.name());
    for nth in 1..3 {
        let peer = Peer::connect(http, &server).await;
        server.measures(&open, 1.0).await;
        peer.close();
        server.measures(&open, 0.0).await;
        server.measures(&accepted, f64::from(nth)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_fails_is_counted_by_kind_over_http2() {
    let server = TestServer::observed().await;
    let mut tcp = TcpStream::connect(server.address).await.unwrap();
    tcp.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    server
        .measures(r#"handshake_failures_total{http="http2",kind="tls"}"#, 1.0)
        .await;
    drop(TcpStream::connect(server.address).await.unwrap());
    server
        .measures(
            r#"handshake_failures_total{http="http2",kind="closed"}"#,
            1.0,
        )
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_fails_is_counted_by_kind_over_http3() {
    let server = TestServer::observed().await;
    let stranger = ClientBuilder::new().with_server_certificate_hashes(vec![vec![0; 32]]);
    let url = url::Url::parse(&format!("https://{}/plain", server.address)).unwrap();
    let refused = within("the refusal", stranger.unwrap().connect(url)).await;
    assert!(refused.is_err());
    server
        .measures(r#"handshake_failures_total{http="http3",kind="tls"}"#, 1.0)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_path_and_no_peer_makes_a_series_of_its_own() {
    let server = TestServer::observed().await;
    let series = || async {
        let body = server.admin("GET /metrics").await.body;
        body.lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.rsplit_once(' ').unwrap().0.to_owned())
            .collect::<BTreeSet<_>>()
    };
    let first = server.session(Http::Http3, &path("echo")).await;
    first.expect_echo(b"one").await;
    let before = series().await;
    for _ in 0..5 {
        let session = server.session(Http::Http3, &path("echo")).await;
        session.expect_echo(b"more").await;
        let live = server.told_sessions("").await;
        assert_eq!(live.len(), 2, "{live:?}");
        assert!(session.close(0, "").await);
        server
            .measures(&format!("sessions{{{FAULTS},http=\"http3\"}}"), 1.0)
            .await;
    }
    let after: Vec<_> = series().await.difference(&before).cloned().collect();
    let ended = format!("wharf_sessions_ended_total{{{FAULTS},cause=\"peer\"}}");
    assert_eq!(after, [ended]);
}
