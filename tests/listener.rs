//! The listener: where it is, which certificate it has, and what connections that come and vanish leave of it.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt as _;
use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;
use wharf::{
    config::{Config, Route, Tls},
    server::Server,
};

use crate::{
    harness::{Log, TestServer, eventually, guest, path, within},
    peer::{Http, Peer, Terms, over_both},
    raw::{NEWEST, Raw},
    relay::either::AnyRelay,
};

over_both!(port_0_takes_a_free_port_and_says_which);
async fn port_0_takes_a_free_port_and_says_which(http: Http) {
    let servers = [TestServer::start().await, TestServer::start().await];
    assert_ne!(servers[0].address.port(), servers[1].address.port());
    for server in &servers {
        assert_ne!(server.address.port(), 0);
        assert_eq!(server.address.ip(), Ipv4Addr::LOCALHOST);
        let peer = Peer::connect(http, server).await;
        peer.session("/plain").await.expect_echo(b"there").await;
    }
}

over_both!(a_session_over_ipv6_echoes_and_knows_its_peer);
async fn a_session_over_ipv6_echoes_and_knows_its_peer(http: Http) {
    let server =
        TestServer::with(|config| config.listen = vec![(Ipv6Addr::LOCALHOST, 0).into()]).await;
    let session = server.session(http, "/plain").await;
    session.expect_echo(b"version 6").await;
    session.send_datagram(b"datagram").unwrap();
    let datagram = within("the datagram", session.read_datagram()).await;
    assert_eq!(datagram.unwrap(), "datagram");
    let session = server.session(http, &path("request")).await;
    let (mut send, mut recv) = session.open_bi().await.unwrap();
    send.write_all(b"?").await.unwrap();
    let told = within("the request", recv.read_to_end(9999)).await.unwrap();
    let told = String::from_utf8(told).unwrap();
    assert!(told.contains("peer=[::1]:"), "{told}");
}

/// By somebody else's client, to a URL that has the address in brackets.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_over_ipv6_echo_streams_and_datagrams() {
    let server =
        TestServer::with(|config| config.listen = vec![(Ipv6Addr::LOCALHOST, 0).into()]).await;
    assert_eq!(server.address.ip(), Ipv6Addr::LOCALHOST);
    assert_ne!(server.address.port(), 0);
    let session = server.connect("/plain").await;
    let (mut send, mut recv) = session.open_bi().await.unwrap();
    send.write_all(b"version 6").await.unwrap();
    send.finish().unwrap();
    let echo = within("the echo", recv.read_to_end(99)).await.unwrap();
    assert_eq!(echo, b"version 6");
    session
        .send_datagram(b"datagram".as_slice().into())
        .unwrap();
    let datagram = within("the datagram", session.read_datagram()).await;
    assert_eq!(datagram.unwrap()[..], *b"datagram");
    let peer = server.connect(&path("request")).await;
    let (mut send, mut recv) = peer.open_bi().await.unwrap();
    send.write_all(b"?").await.unwrap();
    let told = within("the request", recv.read_to_end(9999)).await.unwrap();
    let told = String::from_utf8(told).unwrap();
    assert!(told.contains("peer=[::1]:"), "{told}");
    assert!(told.contains("authority=[::1]:"), "{told}");
}

over_both!(a_wildcard_of_ipv6_is_bound);
async fn a_wildcard_of_ipv6_is_bound(http: Http) {
    let server =
        TestServer::with(|config| config.listen = vec![(Ipv6Addr::UNSPECIFIED, 0).into()]).await;
    let address = SocketAddr::from((Ipv6Addr::LOCALHOST, server.address.port()));
    let peer = Peer::connect_to(http, address, Terms::default()).await;
    peer.session("/plain").await.expect_echo(b"there").await;
}

over_both!(several_addresses_are_served_each_on_a_port_of_its_own);
async fn several_addresses_are_served_each_on_a_port_of_its_own(http: Http) {
    let server = TestServer::with(|config| {
        config.listen = vec![
            (Ipv4Addr::LOCALHOST, 0).into(),
            (Ipv6Addr::LOCALHOST, 0).into(),
            (Ipv4Addr::LOCALHOST, 0).into(),
        ];
        config.drain = Duration::from_millis(100);
    })
    .await;
    assert_eq!(server.addresses.len(), 3);
    assert_eq!(server.addresses[0], server.address);
    assert_eq!(server.addresses[1].ip(), Ipv6Addr::LOCALHOST);
    assert_ne!(server.addresses[0].port(), server.addresses[2].port());
    let mut clients = Vec::new();
    for address in &server.addresses {
        let peer = Peer::connect_to(http, *address, Terms::default()).await;
        let session = peer.session("/plain").await;
        session.expect_echo(b"there").await;
        clients.push((peer, session));
    }
    within("the server to stop", server.stop()).await;
    for (peer, _) in clients {
        peer.closed().await;
    }
}

over_both!(the_wildcards_of_both_families_share_a_port);
async fn the_wildcards_of_both_families_share_a_port(http: Http) {
    let free = free_port();
    let server = TestServer::with(|config| {
        config.listen = vec![
            (Ipv6Addr::UNSPECIFIED, free).into(),
            (Ipv4Addr::UNSPECIFIED, free).into(),
        ];
    })
    .await;
    for ip in [
        std::net::IpAddr::from(Ipv4Addr::LOCALHOST),
        Ipv6Addr::LOCALHOST.into(),
    ] {
        let peer =
            Peer::connect_to(http, (ip, server.address.port()).into(), Terms::default()).await;
        peer.session("/plain").await.expect_echo(b"there").await;
    }
}

/// A port that is free, and stays it: no system gives those below 32768 to who asks for any, as all other tests do.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(20_000);
    let free = |port| {
        let any = (Ipv6Addr::UNSPECIFIED, port);
        std::net::UdpSocket::bind(any).is_ok() && std::net::TcpListener::bind(any).is_ok()
    };
    let mut ports = std::iter::repeat_with(|| NEXT.fetch_add(1, Ordering::Relaxed));
    ports.find(|port| free(*port)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_cannot_be_bound_is_named_and_the_others_are_left() {
    let holder = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let taken = holder.local_addr().unwrap();
    let free = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let routes = || vec![Route::new("/", guest("echo"))];
    let config = Config::new(vec![free, taken], Tls::Development, routes());
    let error = format!("{:#}", Server::bind(config).await.unwrap_err());
    assert!(error.contains(&taken.to_string()), "{error}");
    assert!(!error.contains(&free.to_string()), "{error}");
    std::net::UdpSocket::bind(free).unwrap();
    let config = Config::new(Vec::new(), Tls::Development, routes());
    let error = format!("{:#}", Server::bind(config).await.unwrap_err());
    assert!(error.contains("no address to listen on"), "{error}");
}

/// A folder with a certificate and its key, the key of another, and a file that is neither.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["own", "other"] {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            let certificate = params.self_signed(&key).unwrap();
            let file = |suffix: &str| folder.path().join(format!("{name}.{suffix}"));
            std::fs::write(file("cert"), certificate.pem()).unwrap();
            std::fs::write(file("key"), key.serialize_pem()).unwrap();
        }
        std::fs::write(folder.path().join("garbage"), "-----BEGIN GARBAGE").unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

async fn bind(listen: SocketAddr, certificate: &Path, key: &Path) -> anyhow::Result<Server> {
    let tls = Tls::Files {
        certificate: certificate.to_owned(),
        key: key.to_owned(),
    };
    let routes = vec![Route::new("/", guest("echo"))];
    Server::bind(Config::new(vec![listen], tls, routes)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_cannot_be_used_is_named_and_nothing_is_left_bound() {
    let files = Files::new();
    let listen = TestServer::start().await.address;
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, listen.port()));
    for (certificate, key, says) in [
        ("missing", "own.key", "missing"),
        ("own.cert", "missing", "missing"),
        ("garbage", "own.key", "garbage"),
        ("own.cert", "garbage", "garbage"),
        ("own.key", "own.key", "holds no certificate"),
        ("own.cert", "other.key", "does not belong"),
    ] {
        let error = bind(listen, &files.path(certificate), &files.path(key))
            .await
            .unwrap_err();
        let error = format!("{error:#}");
        assert!(error.contains(says), "{says:?} is not in {error:?}");
    }
    // What failed left the port free for the one that has its files.
    let bound = async {
        loop {
            match bind(listen, &files.path("own.cert"), &files.path("own.key")).await {
                Ok(server) => return server,
                // The socket of the server before goes when its tasks are dropped.
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    let server = within("the port", bound).await;
    let address = server.local_addr();
    let running = tokio::spawn(server.run(std::future::pending()));
    let raw = Raw::connect_to(address, NEWEST).await;
    raw.expect_echo(raw.session("/any").await.id, b"served from files")
        .await;
    running.abort();
}

over_both!(a_server_that_stopped_has_freed_its_port_and_its_peers_know);
async fn a_server_that_stopped_has_freed_its_port_and_its_peers_know(http: Http) {
    let server = TestServer::start().await;
    let address = server.address;
    let peer = Peer::connect(http, &server).await;
    // The handshake is over at both ends: before that QUIC tells no code of HTTP/3.
    peer.session("/plain").await.expect_echo(b"there").await;
    server.no_instances().await;
    within("the server to stop", server.stop()).await;
    peer.closed().await;
    // QUIC's own task drops the socket when it next runs.
    eventually("the port to be free", || match http {
        Http::Http3 => std::net::UdpSocket::bind(address).is_ok(),
        Http::Http2 => std::net::TcpListener::bind(address).is_ok(),
    })
    .await;
}

over_both!(connections_that_ask_for_no_session_leave_nothing);
async fn connections_that_ask_for_no_session_leave_nothing(http: Http) {
    let server = TestServer::start().await;
    for _ in 0..20 {
        drop(Peer::connect(http, &server).await);
    }
    server.no_instances().await;
    server
        .session(http, "/plain")
        .await
        .expect_echo(b"there")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_say_nothing_leave_nothing() {
    let server = TestServer::start().await;
    for _ in 0..20 {
        let raw = Raw::silent(server.address).await;
        drop(raw);
    }
    server.no_instances().await;
    let raw = Raw::connect(&server).await;
    raw.expect_echo(raw.session("/plain").await.id, b"there")
        .await;
}

/// WebTransport over HTTP/3, "Use of 0-RTT": a request for a session is none of its uses, so none is offered.
#[tokio::test(flavor = "multi_thread")]
async fn no_early_data_is_taken_though_the_session_of_tls_is_resumed() {
    let server = TestServer::start().await;
    let config = crate::raw::client_config();
    let endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let raw = Raw::connect_from(&endpoint, config.clone(), server.address, NEWEST).await;
    // The ticket comes with the end of the handshake, before any answer.
    raw.session("/plain").await;
    let again = endpoint.connect_with(config, server.address, "localhost");
    assert!(
        again.unwrap().into_0rtt().is_err(),
        "the ticket of the server allows early data"
    );
}

/// RFC 9114, "Initial HTTP/3 SETTINGS": the client then asks for its session with the end of its handshake.
#[tokio::test(flavor = "multi_thread")]
async fn our_settings_come_with_our_part_of_the_handshake() {
    let server = TestServer::start().await;
    let raw = Raw::silent(server.address).await;
    let control = raw.conn.accept_uni().now_or_never();
    let mut control = control.expect("it is there already").unwrap();
    let mut begin = [0; 2];
    within("SETTINGS", control.read_exact(&mut begin))
        .await
        .unwrap();
    assert_eq!(
        begin,
        [0x00, 0x04],
        "a control stream that begins with SETTINGS"
    );
}

/// The tokens that a client is given.
#[derive(Default)]
struct Tokens(Mutex<Vec<Bytes>>);

impl quinn::TokenStore for Tokens {
    fn insert(&self, _server_name: &str, token: Bytes) {
        self.0.lock().unwrap().push(token);
    }

    fn take(&self, _server_name: &str) -> Option<Bytes> {
        None
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_gets_one_token_for_its_next_connection() {
    let server = TestServer::start().await;
    let endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let tokens = Arc::new(Tokens::default());
    let mut config = crate::raw::client_config();
    config.token_store(tokens.clone());
    let raw = Raw::connect_from(&endpoint, config, server.address, NEWEST).await;
    // It comes with the end of the handshake, before any answer.
    let session = raw.session("/plain").await;
    raw.expect_echo(session.id, b"there").await;
    assert_eq!(tokens.0.lock().unwrap().len(), 1);
}

/// Connections that end without a word, half of them cut off, half closed, each with a stream in mid-sentence.
async fn abrupt_connections(http: Http, count: usize) {
    const AT_ONCE: usize = 100;
    let server = TestServer::with(|config| {
        config.transport.idle_timeout = Duration::from_secs(4);
        config.transport.keep_alive = Duration::from_secs(1);
        config.sessions = 1000;
    })
    .await;
    let paths = (0..AT_ONCE).map(|_| path("report")).collect::<Vec<_>>();
    for _ in 0..count / AT_ONCE {
        let connections = paths.iter().enumerate().map(|(n, path)| {
            let (address, path) = (server.address, path.clone());
            tokio::spawn(async move {
                let relay = AnyRelay::to(http, address).await;
                let peer = Peer::connect_to(http, relay.address(), Terms::default()).await;
                let session = peer.session(&path).await;
                let mut uni = session.open_uni().await.unwrap();
                uni.write_all(b"in mid-sen").await.unwrap();
                session.send_datagram(b"x").unwrap();
                if n % 2 == 0 {
                    relay.cut();
                } else {
                    peer.close();
                }
                // What holds the sockets: a connection that is cut off is not told of its end.
                relay
            })
        });
        let mut relays = Vec::new();
        for connection in connections.collect::<Vec<_>>() {
            relays.push(within("a connection", connection).await.unwrap());
        }
        server.no_instances().await;
    }
    let closed = |path: &String| {
        let lines = Log::of(path);
        lines
            .iter()
            .filter(|line| line.starts_with("closed"))
            .count()
    };
    let closed: usize = paths.iter().map(closed).sum();
    assert_eq!(closed, count, "each handler was told once");
    let session = server.session(http, "/plain").await;
    session.expect_echo(b"and the next one").await;
}

over_both!(a_hundred_abrupt_connections_leave_nothing);
async fn a_hundred_abrupt_connections_leave_nothing(http: Http) {
    abrupt_connections(http, 100).await;
}

over_both!(
    #[ignore = "takes minutes: the same with ten thousand"]
    ten_thousand_abrupt_connections_leave_nothing
);
async fn ten_thousand_abrupt_connections_leave_nothing(http: Http) {
    abrupt_connections(http, 10_000).await;
}
