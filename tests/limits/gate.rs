//! How many connections, and how many handshakes, one address and all together may have; and peers that begin what they
//! do not go on with.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
};

use crate::{
    harness::{TestServer, eventually, within},
    http2,
    peer::{Http, Peer, over_both},
    raw::{Raw, client_config, tls_config},
    relay::either::AnyRelay,
};

/// Waits until the server has closed a TCP connection.
async fn is_closed(mut tcp: TcpStream) {
    // With FIN, or with a reset where it had not read something.
    let read = within("the server to close it", tcp.read(&mut [0])).await;
    assert!(!matches!(read, Ok(1..)), "{read:?}");
}

async fn tcp(server: &TestServer) -> TcpStream {
    TcpStream::connect(server.address).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_over_udp_beyond_the_rate_are_put_off() {
    let server = TestServer::with(|config| config.transport.handshakes_per_ip = 2).await;
    let began = Instant::now();
    let mut all = Vec::new();
    for _ in 0..4 {
        all.push(Raw::connect(&server).await);
    }
    assert!(
        began.elapsed() >= Duration::from_secs(1),
        "two at once, two a second"
    );
    assert_eq!(server.gate.connections(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_over_tcp_beyond_the_rate_are_closed_before_tls() {
    let server = TestServer::with(|config| config.transport.handshakes_per_ip = 2).await;
    let held = [tcp(&server).await, tcp(&server).await];
    is_closed(tcp(&server).await).await;
    assert_eq!(server.gate.connections(), held.len());
    // The rate is that of both versions.
    let began = Instant::now();
    Raw::connect(&server).await;
    assert!(began.elapsed() >= Duration::from_millis(200));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_has_as_many_connections_as_it_may_over_both_versions() {
    let server = TestServer::with(|config| config.transport.connections_per_ip = 2).await;
    beyond_two_connections_are_refused(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_addresses_have_as_many_connections_as_there_may_be() {
    let server = TestServer::with(|config| config.transport.connections = 2).await;
    beyond_two_connections_are_refused(&server).await;
}

async fn beyond_two_connections_are_refused(server: &TestServer) {
    let peers = [
        Peer::connect(Http::Http3, server).await,
        Peer::connect(Http::Http2, server).await,
    ];
    is_closed(tcp(server).await).await;
    assert!(server.try_connect("/plain").await.is_err());
    for peer in &peers {
        peer.session("/plain").await.expect_echo(b"goes on").await;
    }
    let [http3, _http2] = peers;
    http3.close();
    eventually("the place to be free", || server.gate.connections() == 1).await;
    let session = server.session(Http::Http2, "/plain").await;
    session.expect_echo(b"in its place").await;
}

/// A client's first packet, which an honest client would go on from.
async fn initial() -> Vec<u8> {
    let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let taker = UdpSocket::bind(here).await.unwrap();
    let endpoint = quinn::Endpoint::client(here).unwrap();
    let to = taker.local_addr().unwrap();
    let connecting = endpoint.connect_with(client_config(), to, "localhost");
    let mut packet = vec![0; 2048];
    let (size, _) = taker.recv_from(&mut packet).await.unwrap();
    drop(connecting);
    packet.truncate(size);
    packet
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_that_are_abandoned_over_udp_are_bounded_and_honest_clients_get_through() {
    const MOST: usize = 8;
    /// RFC 9000, "Retry Packet".
    const RETRY: u8 = 0xf0;
    let server = TestServer::with(|config| {
        config.transport.handshakes = MOST;
        config.transport.setup_timeout = Duration::from_secs(2);
    })
    .await;
    let (mut begun, mut asked) = (0, 0);
    for _ in 0..3 * MOST {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        socket
            .send_to(&initial().await, server.address)
            .await
            .unwrap();
        let mut answer = [0; 2048];
        within("an answer", socket.recv_from(&mut answer))
            .await
            .unwrap();
        if answer[0] & 0xf0 == RETRY {
            asked += 1;
        } else {
            begun += 1;
        }
        assert!(server.gate.handshakes() <= MOST);
    }
    assert!(
        begun <= MOST / 2 + 1,
        "{begun} begun, {asked} asked to prove their address"
    );
    assert!(asked > 0);
    let raw = Raw::connect(&server).await;
    let session = raw.session("/plain").await;
    raw.expect_echo(session.id, b"of an address that is proven")
        .await;
    eventually("the others to be given up", || {
        (server.gate.handshakes(), server.gate.connections()) == (0, 1)
    })
    .await;
}

/// The first bytes of TLS that a client sends.
fn client_hello() -> Vec<u8> {
    let config = std::sync::Arc::new(tls_config());
    let name = "localhost".try_into().unwrap();
    let mut client = rustls::ClientConnection::new(config, name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_that_are_abandoned_over_tcp_are_bounded_and_given_up_in_time() {
    const MOST: usize = 8;
    let server = TestServer::with(|config| {
        config.transport.handshakes = MOST;
        config.transport.setup_timeout = Duration::from_secs(2);
    })
    .await;
    let mut held = Vec::new();
    for n in 0..MOST {
        let mut tcp = tcp(&server).await;
        if n % 2 == 0 {
            tcp.write_all(&client_hello()).await.unwrap();
        }
        held.push(tcp);
    }
    eventually("all of them to be counted", || {
        server.gate.handshakes() == MOST
    })
    .await;
    is_closed(tcp(&server).await).await;
    eventually("them to be given up", || server.gate.connections() == 0).await;
    let mut raw = http2::raw::Raw::connect(server.address, http2::raw::GENEROUS).await;
    raw.session("/plain").await;
}

/// Sessions that vanish with their peers leave nothing; how long an echo takes then.
async fn vanish(http: Http, sessions: usize, at_once: usize) -> Duration {
    let server = TestServer::with(|config| {
        config.transport.idle_timeout = Duration::from_secs(2);
        config.transport.keep_alive = Duration::from_millis(500);
    })
    .await;
    for _ in 0..sessions.div_ceil(at_once) {
        let relay = AnyRelay::to(http, server.address).await;
        let mut peers = Vec::new();
        for _ in 0..at_once {
            let peer = Peer::connect_to(http, relay.address(), crate::peer::Terms::default()).await;
            let session = peer.session("/plain").await;
            peers.push((peer, session));
        }
        relay.cut();
        eventually("the sessions to be lost", || server.handle.sessions() == 0).await;
    }
    server.no_instances().await;
    eventually("the connections to be lost", || {
        server.gate.connections() == 0
    })
    .await;
    let began = Instant::now();
    let session = server.session(http, "/plain").await;
    session.expect_echo(b"a fresh one").await;
    began.elapsed()
}

over_both!(sessions_that_vanish_with_their_peers_leave_nothing_behind);
async fn sessions_that_vanish_with_their_peers_leave_nothing_behind(http: Http) {
    vanish(http, 40, 20).await;
}

over_both!(
    #[ignore = "takes minutes"]
    ten_thousand_sessions_that_vanish_leave_nothing_behind
);
async fn ten_thousand_sessions_that_vanish_leave_nothing_behind(http: Http) {
    let echo = vanish(http, 10_000, 200).await;
    assert!(echo < Duration::from_millis(100), "{echo:?}");
}
