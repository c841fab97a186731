//! Which HTTP version reaches a server that not all of them reach.

use std::{net::Ipv6Addr, time::Instant};

use tokio::net::{TcpListener, UdpSocket};

use super::program::{Client, connected, hexadecimal};
use crate::{
    harness::{Log, TestServer, path, within},
    peer::Http,
    random::Random,
    relay::{Relay, Weather, tcp::TcpRelay},
};

/// How long each version is given, in seconds.
const TIMEOUT: &str = "1";

/// `wharf connect` to that port, trusting the certificate of a server that is behind it.
fn client(server: &TestServer, port: u16, path: &str, more: &[&str]) -> Client {
    let url = format!("https://127.0.0.1:{port}{path}");
    let hash = format!("sha256:{}", hexadecimal(&server.hash));
    let arguments = [url.as_str(), "--cert-hash", &hash, "--timeout", TIMEOUT];
    Client::run(&[&arguments[..], more].concat())
}

/// A way to that server by TCP only, and the UDP socket of the same port, of which nobody says anything.
async fn by_tcp_only(server: &TestServer) -> (TcpRelay, UdpSocket) {
    loop {
        let relay = TcpRelay::to(server.address);
        if let Ok(udp) = UdpSocket::bind(relay.address).await {
            return (relay, udp);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_only_tcp_reaches_has_its_session_over_http2() {
    let server = TestServer::start().await;
    let (relay, udp) = by_tcp_only(&server).await;
    let port = relay.address.port();
    let mut udp = Some(udp);
    // Somebody has the UDP port who says nothing; then nobody has it.
    for silent in [true, false] {
        udp = udp.filter(|_| silent);
        let path = path("report");
        let began = Instant::now();
        let mut client = client(&server, port, &path, &[]);
        client.expect(&connected(Http::Http2, 200)).await;
        let took = began.elapsed();
        assert!(took.as_secs() < 10, "{took:?}");
        Log::line(&path, "constructed").await;
        client.end().await.well("closed 0 \"\" by local clean");
        assert_eq!(Log::line(&path, "closed").await, "closed 0 peer clean \"\"");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_only_tcp_reaches_is_not_reached_by_http3_alone() {
    let server = TestServer::start().await;
    let (relay, _udp) = by_tcp_only(&server).await;
    let ended = client(&server, relay.address.port(), "/plain", &["--http3"])
        .end()
        .await;
    ended.badly(1, &["cannot connect", "no answer within 1s"]);
    assert!(!ended.errors.contains("HTTP/2"), "{ended:?}");
    assert_eq!(ended.errors.lines().count(), 1, "{ended:?}");
    assert!(ended.lines.is_empty(), "{ended:?}");
    assert_eq!(relay.connections(), 0, "it was tried over TCP");
}

/// HTTP/3 answers at that port, and so does TCP.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_refuses_over_http3_is_not_asked_over_http2() {
    let server = TestServer::start().await;
    let (relay, udp) = by_tcp_only(&server).await;
    let port = relay.address.port();
    let _udp = Relay::on(udp, Weather::default(), server.address, Random::told());
    let ended = client(&server, port, "/refuse/503", &[]).end().await;
    ended.badly(1, &["refused with status 503"]);
    assert_eq!(ended.lines, ["refused 503"]);
    assert_eq!(relay.connections(), 0, "it was tried over TCP");
    // So does a session that HTTP/3 gives.
    let mut client = client(&server, port, "/plain", &[]);
    client.expect(&connected(Http::Http3, 200)).await;
    client.end().await.well("closed 0 \"\" by local clean");
    assert_eq!(relay.connections(), 0, "it was tried over TCP");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_only_tcp_reaches_may_refuse() {
    let server = TestServer::start().await;
    let (relay, _udp) = by_tcp_only(&server).await;
    let ended = client(&server, relay.address.port(), "/refuse/429", &[]);
    let ended = ended.end().await;
    ended.badly(1, &["refused with status 429"]);
    assert_eq!(ended.lines, ["refused 429"]);
}

/// What accepts connections by TCP and says nothing has as long as what is not there.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_says_nothing_over_tcp_is_given_up_in_time() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", silent.local_addr().unwrap());
    let began = Instant::now();
    let arguments = [url.as_str(), "--insecure", "--http2", "--timeout", "0.3"];
    let client = Client::run(&arguments);
    let (_tcp, _) = within("a connection", silent.accept()).await.unwrap();
    let ended = client.end().await;
    ended.badly(1, &["cannot connect", "no answer within 300ms"]);
    assert!(began.elapsed().as_secs() < 10);
}

/// What a name means first may not answer: the next address is tried beside it.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_reached_over_http2_at_whichever_of_its_addresses_answers() {
    let server = TestServer::start().await;
    let (relay, _silent) = loop {
        let relay = TcpRelay::to(server.address);
        let other = (Ipv6Addr::LOCALHOST, relay.address.port());
        if let Ok(silent) = TcpListener::bind(other).await {
            break (relay, silent);
        }
    };
    let url = format!("https://localhost:{}/plain", relay.address.port());
    let arguments = [url.as_str(), "--insecure", "--http2", "--timeout", "5"];
    let mut client = Client::run(&arguments);
    client.expect(&connected(Http::Http2, 200)).await;
    client.end().await.well("closed 0 \"\" by local clean");
}
