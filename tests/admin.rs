//! The admin listener: probes, live sessions, the drain, and whom it answers.

use std::{net::Ipv4Addr, time::Duration};

use tokio::{io::AsyncReadExt as _, net::TcpStream};
use wharf::{
    config::{Admin, Config, Route, Tls},
    server::Server,
};

use crate::{
    binary::Wharf,
    harness::{Log, TestServer, guest, path, within},
    peer::{End, Http, Peer, over_both},
    scrape::{ask, ask_with, observed},
};

#[tokio::test(flavor = "multi_thread")]
async fn probes_tell_a_server_that_starts_from_one_that_serves() {
    let mut config = Config::new(
        vec![(Ipv4Addr::LOCALHOST, 0).into()],
        Tls::Development,
        vec![Route::new("/", guest("echo"))],
    );
    config.sessions = 4;
    observed(&mut config);
    let server = Server::bind(config).await.unwrap();
    let admin = server.admin_addr().unwrap();
    assert_eq!(ask(admin, "GET /live").await.status, 200);
    let ready = ask(admin, "GET /ready").await;
    assert_eq!((ready.status, &*ready.body), (503, "starting\n"));
    let running = tokio::spawn(server.run(std::future::pending()));
    within("the server to be ready", async {
        while ask(admin, "GET /ready").await.status != 200 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    running.abort();
}

over_both!(a_drain_by_the_admin_listener_is_one_by_signal);
async fn a_drain_by_the_admin_listener_is_one_by_signal(http: Http) {
    let server = TestServer::observed().await;
    let peer = Peer::connect(http, &server).await;
    let path = path("echo");
    let session = peer.session(&path).await;
    assert_eq!(server.admin("GET /drain").await.status, 405);
    assert_eq!(server.admin("GET /ready").await.status, 200);
    assert_eq!(server.admin("POST /drain").await.status, 202);
    Log::line(&path, "drain").await;
    let ready = server.admin("GET /ready").await;
    assert_eq!((ready.status, &*ready.body), (503, "draining\n"));
    assert_eq!(server.admin("GET /live").await.status, 200);
    session.expect_echo(b"not yet").await;
    assert!(session.close(0, "").await);
    assert_eq!(session.closed().await, End::Fin);
    peer.closed().await;
    let admin = server.admin.unwrap();
    server.ended().await;
    let refused = TcpStream::connect(admin).await;
    assert!(refused.is_err(), "the listener ends with its server");
}

over_both!(a_live_session_is_told_with_its_numbers_until_it_ends);
async fn a_live_session_is_told_with_its_numbers_until_it_ends(http: Http) {
    let server = TestServer::observed().await;
    let path = path("echo");
    // The query may be a secret.
    let session = server.session(http, &format!("{path}?token=hidden")).await;
    session.expect_echo(b"hello").await;
    session.send_datagram(b"ping").unwrap();
    within("the datagram", session.read_datagram())
        .await
        .unwrap();
    let told = within("the numbers", async {
        loop {
            let mut told = server.told_sessions("").await;
            assert_eq!(told.len(), 1, "{told:?}");
            if told[0]["datagrams_out"] == 1 {
                return told.remove(0);
            }
        }
    })
    .await;
    for (key, value) in [
        ("tenant", "default".into()),
        ("route", "faults.wasm".into()),
        ("path", path.into()),
        ("http", http.name().into()),
        ("bytes_in", 5.into()),
        ("bytes_out", 5.into()),
        ("streams_bidi_by_peer", 1.into()),
        ("datagrams_in", 1.into()),
        ("datagrams_dropped_in", 0.into()),
        ("send_buffer_bytes", 0.into()),
    ] as [(&str, serde_json::Value); 10]
    {
        assert_eq!(told[key], value, "{key} of {told}");
    }
    let peer = told["peer"].as_str().unwrap();
    assert!(peer.starts_with("127.0.0.1:"), "{peer}");
    assert!(told["started_ms"].as_u64().unwrap() > 1_700_000_000_000);
    assert!(told["memory_bytes"].as_u64().unwrap() >= 65_536);
    assert!(session.close(0, "").await);
    session.closed().await;
    within("the session to vanish", async {
        while !server.told_sessions("").await.is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_told_page_by_page() {
    let server = TestServer::observed().await;
    let peer = Peer::connect(Http::Http3, &server).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(peer.session("/plain").await);
    }
    let numbers = async |query: &str| {
        let told = server.told_sessions(query).await;
        let numbers = told.iter().map(|told| told["session"].as_u64().unwrap());
        numbers.collect::<Vec<_>>()
    };
    assert_eq!(numbers("").await, [1, 2, 3]);
    assert_eq!(numbers("?limit=2").await, [1, 2]);
    assert_eq!(numbers("?limit=2&after=2").await, [3]);
    assert_eq!(numbers("?tenant=default").await, [1, 2, 3]);
    assert!(numbers("?tenant=other").await.is_empty());
    for (query, says) in [
        ("limit=10001", "10000"),
        ("limit=many", "limit"),
        ("tenants=default", "tenants"),
    ] {
        let answer = server.admin(&format!("GET /sessions?{query}")).await;
        assert_eq!(answer.status, 400, "{query}");
        assert!(answer.body.contains(says), "{says} is not in {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scrape_gets_the_format_that_it_asks_for() {
    let server = TestServer::observed().await;
    let admin = server.admin.unwrap();
    let host = ("host", &*admin.to_string());
    let accept = (
        "accept",
        "application/openmetrics-text;version=1.0.0,text/plain;q=0.5",
    );
    let open = ask_with(admin, "GET /metrics", &[host, accept]).await;
    assert!(
        open.head
            .contains("content-type: application/openmetrics-text; version=1.0.0")
    );
    assert!(open.body.ends_with("# EOF\n"), "{}", open.body);
    let plain = ask_with(admin, "GET /metrics", &[host]).await;
    assert!(
        plain
            .head
            .contains("content-type: text/plain; version=0.0.4")
    );
    assert!(!plain.body.contains("# EOF"), "{}", plain.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_loopback_a_web_page_is_not_answered() {
    let server = TestServer::observed().await;
    let admin = server.admin.unwrap();
    let own = ("host", &*admin.to_string());
    let rebound = ("host", "rebound.example:9464");
    // HTTP/1.1 demands a `Host`; who sends none is no page of ours either.
    for (fields, status) in [
        (&[] as &[_], 403),
        (&[rebound], 403),
        (&[own, ("origin", "https://page.example")], 403),
        (&[own], 202),
    ] {
        let answer = ask_with(admin, "POST /drain", fields).await;
        assert_eq!(answer.status, status, "{fields:?}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_there_is_a_token_every_request_needs_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "correct-horse-battery\n").unwrap();
    let server = TestServer::with(|config| {
        let mut admin = Admin::default();
        admin.listen = (Ipv4Addr::UNSPECIFIED, 0).into();
        admin.token_file = Some(file);
        config.admin = Some(admin);
    })
    .await;
    let mut admin = server.admin.unwrap();
    admin.set_ip(Ipv4Addr::LOCALHOST.into());
    for path in ["/live", "/ready", "/metrics", "/sessions", "/nowhere"] {
        let request = format!("GET {path}");
        let answer = ask_with(admin, &request, &[("host", "wharf.example")]).await;
        assert_eq!(answer.status, 401, "{path}");
        assert!(
            answer.head.contains("www-authenticate: bearer"),
            "{answer:?}"
        );
        for (token, answered) in [
            ("correct-horse-battery", true),
            ("correct-horse-batterz", false),
        ] {
            let token = format!("Bearer {token}");
            let fields = [("host", "wharf.example"), ("authorization", &token)];
            let answer = ask_with(admin, &request, &fields).await;
            assert_eq!(answer.status != 401, answered, "{path}: {answer:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_nothing_keeps_nobody_away_for_long() {
    // The time for a request and its answer may be as long as it likes.
    for timeout in [Duration::from_millis(200), Duration::from_secs(3600)] {
        asks_nothing(timeout).await;
    }
}

async fn asks_nothing(timeout: Duration) {
    let server = TestServer::with(|config| {
        observed(config);
        let admin = config.admin.as_mut().unwrap();
        admin.connections = 2;
        admin.timeout = timeout;
    })
    .await;
    let mut idle = Vec::new();
    for _ in 0..4 {
        idle.push(TcpStream::connect(server.admin.unwrap()).await.unwrap());
    }
    assert_eq!(server.admin("GET /live").await.status, 200);
    for mut idle in idle {
        let read = within("the end", idle.read(&mut [0])).await;
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_has_an_admin_listener_where_it_is_asked_for() {
    let wharf = Wharf::run_with(&guest("echo"), &["--admin", "127.0.0.1:0"]).await;
    let admin = wharf.admin.as_deref().unwrap();
    let admin = admin.strip_prefix("http://").unwrap().trim_end_matches('/');
    let admin = admin.parse().unwrap();
    within("the program to be ready", async {
        while ask(admin, "GET /ready").await.status != 200 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
