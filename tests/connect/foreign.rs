//! The client of the library against servers that are not ours.

use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use rcgen::CertifiedKey;
use sha2::{Digest as _, Sha256};
use web_transport_quinn::ServerBuilder;
use wharf::transport::{Closer, Dir, client::ConnectError};
use wtransport::{Endpoint, Identity, ServerConfig, endpoint::endpoint_side, tls};

use super::{
    library::{Driven, ask_with, bare, closed_with},
    program::hexadecimal,
};
use crate::harness::within;

const H3_NO_ERROR: u64 = 0x100;
const WT_ALPN_ERROR: u64 = 0x0817_b3dd;

/// A certificate for this machine, its key, and its hash.
fn certificate() -> (Vec<u8>, Vec<u8>, [u8; 32]) {
    let names = vec!["localhost".to_owned()];
    let CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(names).unwrap();
    let der = cert.der().to_vec();
    let hash = Sha256::digest(&der).into();
    (der, signing_key.serialize_der(), hash)
}

/// A server of web-transport-quinn.
pub(super) struct Quinn {
    server: web_transport_quinn::Server,
    pub(super) port: u16,
    pub(super) hash: [u8; 32],
}

/// A session that it accepted, with its connection.
pub(super) struct Accepted {
    session: web_transport_quinn::Session,
    conn: quinn::Connection,
}

/// A server of wtransport, its port, and the hash of its certificate.
fn wtransport_server() -> (Endpoint<endpoint_side::Server>, u16, [u8; 32]) {
    let (certificate, key, hash) = certificate();
    let chain = tls::CertificateChain::single(tls::Certificate::from_der(certificate).unwrap());
    let identity = Identity::new(chain, tls::PrivateKey::from_der_pkcs8(key));
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let config = ServerConfig::builder()
        .with_bind_address(address)
        .with_identity(identity)
        .build();
    let endpoint = Endpoint::server(config).unwrap();
    let port = endpoint.local_addr().unwrap().port();
    (endpoint, port, hash)
}

/// A server of `h3` as it is: it knows draft 02 only, and one token.
async fn stock_h3(conn: quinn::Connection) -> h3::server::Connection<h3_quinn::Connection, Bytes> {
    h3::server::builder()
        .enable_webtransport(true)
        .enable_extended_connect(true)
        .enable_datagram(true)
        .build(h3_quinn::Connection::new(conn))
        .await
        .unwrap()
}

impl std::ops::Deref for Accepted {
    type Target = web_transport_quinn::Session;

    fn deref(&self) -> &Self::Target {
        &self.session
    }
}

impl Accepted {
    /// Closes the connection without a word on the session.
    pub(super) fn close_connection(&self, code: u32, reason: &str) {
        self.conn.close(code.into(), reason.as_bytes());
    }
}

impl Quinn {
    pub(super) fn bind() -> Self {
        let (certificate, key, hash) = certificate();
        let server = ServerBuilder::new()
            .with_addr(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
            .with_certificate(
                vec![certificate.into()],
                rustls::pki_types::PrivatePkcs8KeyDer::from(key).into(),
            )
            .unwrap();
        let port = server.local_addr().unwrap().port();
        Self { server, port, hash }
    }

    pub(super) async fn accept(&mut self) -> Accepted {
        let request = within("a request", self.server.accept()).await.unwrap();
        let conn = request.conn().clone();
        let session = request.ok().await.unwrap();
        Accepted { session, conn }
    }

    /// For `wharf connect`.
    pub(super) fn arguments(&self, path: &str) -> [String; 3] {
        [
            format!("https://127.0.0.1:{}{path}", self.port),
            "--cert-hash".to_owned(),
            format!("sha256:{}", hexadecimal(&self.hash)),
        ]
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn web_transport_quinn_has_its_streams_and_datagrams_echoed_and_its_close_told() {
    let mut server = Quinn::bind();
    let (port, hash) = (server.port, server.hash);
    let serving = tokio::spawn(async move {
        let session = server.accept().await;
        let (mut send, mut recv) = session.accept_bi().await.unwrap();
        let bytes = recv.read_to_end(1 << 20).await.unwrap();
        send.write_all(&bytes).await.unwrap();
        send.finish().unwrap();
        let bytes = session
            .accept_uni()
            .await
            .unwrap()
            .read_to_end(99)
            .await
            .unwrap();
        let mut send = session.open_uni().await.unwrap();
        send.write_all(&bytes).await.unwrap();
        send.finish().unwrap();
        let datagram = session.read_datagram().await.unwrap();
        session.send_datagram(datagram).unwrap();
        let (mut send, mut recv) = session.open_bi().await.unwrap();
        send.write_all(b"asked").await.unwrap();
        send.finish().unwrap();
        assert_eq!(recv.read_to_end(99).await.unwrap(), b"answered");
        session.close(42, b"enough");
        session.closed().await
    });
    let connected = ask_with(port, hash, "/", |_| {}).await.unwrap();
    assert_eq!(connected.request.draft, "draft-07");
    let mut session = Driven::new(connected.session);
    let bidi = session.open(Dir::Bi).unwrap();
    let bytes = Bytes::from(vec![b'x'; 200_000]);
    session.send(bidi, bytes.clone(), true).unwrap();
    assert_eq!(session.read(bidi).await, bytes);
    let uni = session.open(Dir::Uni).unwrap();
    session.send(uni, "uni".into(), true).unwrap();
    let answer = session.opened(Dir::Uni).await;
    assert_eq!(session.read(answer).await, b"uni");
    session.send_datagram(b"datagram").unwrap();
    assert_eq!(session.datagram().await, "datagram");
    let theirs = session.opened(Dir::Bi).await;
    assert_eq!(session.read(theirs).await, b"asked");
    session.send(theirs, "answered".into(), true).unwrap();
    let end = session.closed().await;
    assert_eq!((end.code, end.reason.as_str()), (42, "enough"));
    assert_eq!((end.by, end.clean), (Closer::Peer, true));
    within("the server's end", serving).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn web_transport_quinn_is_told_our_close() {
    let mut server = Quinn::bind();
    let (port, hash) = (server.port, server.hash);
    let serving = tokio::spawn(async move { server.accept().await.closed().await });
    let connected = ask_with(port, hash, "/", |_| {}).await.unwrap();
    let mut session = Driven::new(connected.session);
    session.close(7, "bye", Closer::Local);
    assert!(session.closed().await.clean);
    let told = within("the close", serving).await.unwrap();
    let web_transport_quinn::SessionError::WebTransportError(
        web_transport_quinn::WebTransportError::Closed(code, reason),
    ) = told
    else {
        panic!("{told:?}");
    };
    assert_eq!((code, reason.as_str()), (7, "bye"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_protocol_that_was_not_offered_is_not_taken() {
    for (chosen, taken) in [("chat", true), ("mail", false)] {
        let (endpoint, port, hash) = bare();
        let serving = tokio::spawn(async move {
            let conn = endpoint.accept().await.unwrap().await.unwrap();
            let mut http = stock_h3(conn.clone()).await;
            let request = http.accept().await.unwrap().unwrap();
            let (_, mut stream) = request.resolve_request().await.unwrap();
            let protocol = format!("\"{chosen}\"");
            let response = http::Response::builder().header("wt-protocol", protocol);
            stream
                .send_response(response.body(()).unwrap())
                .await
                .unwrap();
            closed_with(&conn).await
        });
        let connected = ask_with(port, hash, "/", |ask| {
            ask.protocols = vec!["chat".to_owned(), "news".to_owned()];
        });
        match connected.await {
            Ok(connected) if taken => {
                assert_eq!(connected.response.protocol.as_deref(), Some(chosen));
            }
            Err(ConnectError::ForeignProtocol(name)) if !taken => assert_eq!(name, chosen),
            other => panic!("{chosen}: {other:?}"),
        }
        let code = if taken { H3_NO_ERROR } else { WT_ALPN_ERROR };
        assert_eq!(within("the end", serving).await.unwrap(), code);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wtransport_has_its_streams_and_datagrams_echoed_and_ends_with_a_code() {
    let (endpoint, port, hash) = wtransport_server();
    let serving = tokio::spawn(async move {
        let request = endpoint.accept().await.await.unwrap();
        assert_eq!(request.path(), "/wt");
        let session = request.accept().await.unwrap();
        let (mut send, mut recv) = session.accept_bi().await.unwrap();
        let mut bytes = [0; 5];
        recv.read_exact(&mut bytes).await.unwrap();
        send.write_all(&bytes).await.unwrap();
        send.finish().await.unwrap();
        let mut recv = session.accept_uni().await.unwrap();
        let mut bytes = [0; 3];
        recv.read_exact(&mut bytes).await.unwrap();
        let mut send = session.open_uni().await.unwrap().await.unwrap();
        send.write_all(&bytes).await.unwrap();
        send.finish().await.unwrap();
        let datagram = session.receive_datagram().await.unwrap();
        session.send_datagram(datagram.payload()).unwrap();
        // What the client says of the end is seen here.
        session.closed().await
    });
    let connected = ask_with(port, hash, "/wt", |_| {}).await.unwrap();
    assert_eq!(connected.request.draft, "draft-07");
    let mut session = Driven::new(connected.session);
    let bidi = session.open(Dir::Bi).unwrap();
    session.send(bidi, "hello".into(), true).unwrap();
    assert_eq!(session.read(bidi).await, b"hello");
    let uni = session.open(Dir::Uni).unwrap();
    session.send(uni, "uni".into(), true).unwrap();
    let answer = session.opened(Dir::Uni).await;
    assert_eq!(session.read(answer).await, b"uni");
    session.send_datagram(b"datagram").unwrap();
    assert_eq!(session.datagram().await, "datagram");
    session.close(7, "bye", Closer::Local);
    let end = session.closed().await;
    assert_eq!((end.code, end.by), (7, Closer::Local));
    // It knows nothing of capsules, and takes the end of the CONNECT stream for that of the connection.
    within("the server's end", serving).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_code_of_a_server_that_closes_its_connection_is_told() {
    let mut server = Quinn::bind();
    let (port, hash) = (server.port, server.hash);
    let serving = tokio::spawn(async move {
        let session = server.accept().await;
        session.read_datagram().await.unwrap(); // the response has arrived
        let code = wharf_proto::code::AppCode(9).to_http3().into_inner();
        let code = quinn::VarInt::from_u64(code).unwrap();
        session.conn.close(code, b"off");
        server
    });
    let connected = ask_with(port, hash, "/", |_| {}).await.unwrap();
    let mut session = Driven::new(connected.session);
    session.send_datagram(b"here").unwrap();
    let end = session.closed().await;
    assert_eq!((end.code, end.reason.as_str()), (9, "off"));
    assert_eq!((end.by, end.clean), (Closer::Peer, false));
    drop(serving.await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_draft_02_is_asked_as_that_draft_asks_and_may_answer_in_steps() {
    let (endpoint, port, hash) = bare();
    let serving = tokio::spawn(async move {
        let conn = endpoint.accept().await.unwrap().await.unwrap();
        let mut http = stock_h3(conn).await;
        let request = http.accept().await.unwrap().unwrap();
        let (head, mut stream) = request.resolve_request().await.unwrap();
        for status in [103, 200] {
            let response = http::Response::builder().status(status).body(()).unwrap();
            stream.send_response(response).await.unwrap();
        }
        stream.finish().await.unwrap();
        _ = http.accept().await; // until the client has gone
        head
    });
    let connected = ask_with(port, hash, "/a?b", |_| {}).await.unwrap();
    assert_eq!(connected.request.draft, "draft-02");
    assert_eq!(connected.response.status, 200);
    let end = Driven::new(connected.session).closed().await;
    assert_eq!((end.code, end.by, end.clean), (0, Closer::Peer, true));
    let head = within("the server's end", serving).await.unwrap();
    assert_eq!(head.uri().path_and_query().unwrap(), "/a?b");
    assert_eq!(head.headers()["sec-webtransport-http3-draft02"], "1");
    let protocol = head.extensions().get::<h3::ext::Protocol>();
    assert_eq!(protocol, Some(&h3::ext::Protocol::WEB_TRANSPORT));
}
