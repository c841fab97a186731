//! The library inside another program: the example, over real sockets, and what the example does not show.

use std::time::Duration;

use bytes::Bytes;
use wharf::transport::{
    Closed, Closer, Event, Limits, Requested, Response, Session,
    h3::{Acceptor, Connection},
    tls::Certificate,
};

use crate::{
    harness::{eventually, guest, within},
    peer::{End, Http, Peer, Terms},
    raw::{NEWEST, Raw, connect_fields, read_response, read_status},
};

#[path = "../host/examples/embed.rs"]
#[expect(dead_code, reason = "its main is not called here")]
mod example;

/// A free port of this machine.
const ANYWHERE: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

fn get(path: &str) -> [(&str, &str); 4] {
    [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "localhost"),
        (":path", path),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_serves_a_component_a_native_handler_and_its_own_answers_on_one_connection() {
    let program = example::Program::bind(ANYWHERE.into(), guest("echo"));
    let program = program.await.unwrap();
    let address = program.endpoint.local_addr().unwrap();
    let endpoint = program.endpoint.clone();
    let running = tokio::spawn(program.run());
    let raw = Raw::connect_to(address, NEWEST).await;
    let component = raw.session("/wharf/any").await;
    let native = raw.session("/native").await;
    for session in [component.id, native.id] {
        raw.expect_echo(session, &[7; 100_000]).await;
    }
    raw.datagram(native.id, b"datagram");
    let datagram = within("the datagram", raw.conn.read_datagram()).await;
    assert_eq!(datagram.unwrap()[1..], *b"datagram");
    let (mut send, mut recv) = raw.request(&get("/any?thing")).await;
    send.finish().unwrap();
    let (status, body) = within("the answer", read_response(&mut recv)).await;
    assert_eq!(status, 200);
    assert_eq!(body, "GET https://localhost/any?thing (0 bytes)\n");
    let (status, _) = raw.ask("/elsewhere", "webtransport-h3").await;
    assert_eq!(status, 404);
    // A session of each kind lives on beside all that.
    for session in [component.id, native.id] {
        raw.expect_echo(session, b"still there").await;
    }
    endpoint.close(0u32.into(), b"");
    within("the program to end", running).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_program_serves_all_of_it_over_http2_and_brings_it_to_an_end() {
    let program = example::Program::bind(ANYWHERE.into(), guest("echo"));
    let program = program.await.unwrap();
    let address = program.listener.local_addr().unwrap();
    let (endpoint, acceptor) = (program.endpoint.clone(), program.http2.clone());
    let running = tokio::spawn(program.run());
    let peer = Peer::connect_to(Http::Http2, address, Terms::default()).await;
    let sessions = [
        peer.session("/wharf/any").await,
        peer.session("/native").await,
    ];
    for session in &sessions {
        session.expect_echo(&[7; 100_000]).await;
        session.send_datagram(b"datagram").unwrap();
        let datagram = within("the datagram", session.read_datagram()).await;
        assert_eq!(datagram.unwrap(), "datagram");
    }
    let (status, _) = peer.ask("/elsewhere", &[]).await;
    assert_eq!(status, 404);
    // An ordinary request, on a connection of its own.
    let answer = plain_get(address, "/any?thing").await;
    assert_eq!(
        answer,
        (200, "GET https://localhost/any?thing (0 bytes)\n".into())
    );
    acceptor.drain();
    for session in &sessions {
        session.draining().await;
        session.expect_echo(b"still there").await;
    }
    acceptor.close_sessions(9, "time is up");
    for session in &sessions {
        assert_eq!(
            session.closed().await,
            End::Close(9, "time is up".to_owned())
        );
    }
    peer.closed().await;
    endpoint.close(0u32.into(), b"");
    within("the program to end", running).await.unwrap();
}

/// The status and the body of the answer to a GET, by the library `h2`.
async fn plain_get(address: std::net::SocketAddr, path: &str) -> (u16, String) {
    let mut tls = crate::raw::tls_config();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(tls));
    let tcp = tokio::net::TcpStream::connect(address).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let tls = within("TLS", connector.connect(name, tcp)).await.unwrap();
    let (requests, connection) = h2::client::handshake(tls).await.unwrap();
    let driving = tokio::spawn(connection);
    let mut requests = within("HTTP/2", requests.ready()).await.unwrap();
    let request = http::Request::get(format!("https://localhost{path}"));
    let (response, _) = requests
        .send_request(request.body(()).unwrap(), true)
        .unwrap();
    let (head, mut body) = within("the answer", response).await.unwrap().into_parts();
    let mut text = Vec::new();
    while let Some(data) = within("the body", body.data()).await {
        text.extend_from_slice(&data.unwrap());
    }
    driving.abort();
    (head.status.as_u16(), String::from_utf8(text).unwrap())
}

/// A program that accepts one connection of one client over HTTP/3.
struct Embedder {
    acceptor: Acceptor,
    connection: Connection,
    conn: quinn::Connection,
    raw: Raw,
    _endpoint: quinn::Endpoint,
}

impl Embedder {
    async fn new() -> Self {
        let acceptor = Acceptor::new(Limits::default());
        let tls = Certificate::development().unwrap().server_config().unwrap();
        let config = acceptor.server_config(tls).unwrap();
        let endpoint = quinn::Endpoint::server(config, ANYWHERE.into()).unwrap();
        let address = endpoint.local_addr().unwrap();
        let accepted = async { endpoint.accept().await.unwrap().await.unwrap() };
        let (conn, raw) = tokio::join!(accepted, Raw::connect_to(address, NEWEST));
        Self {
            connection: acceptor.accept(conn.clone()),
            conn,
            acceptor,
            raw,
            _endpoint: endpoint,
        }
    }

    async fn next_request(&mut self) -> Requested {
        let next = self.connection.next_request();
        within("a request", next).await.unwrap()
    }

    /// Accepts a session that the client asks for.
    async fn session(&mut self) -> (Session, quinn::SendStream, quinn::RecvStream) {
        let fields = connect_fields("/any", "webtransport-h3");
        let (send, mut recv) = self.raw.request(&fields).await;
        let Requested::Session(incoming) = self.next_request().await else {
            panic!("no session was asked for");
        };
        let session = incoming.accept(&Response::new(200)).await.unwrap();
        assert_eq!(within("the status", read_status(&mut recv)).await, 200);
        (session, send, recv)
    }
}

async fn next(session: &mut Session) -> Option<Event> {
    within("an event", session.next_event()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_body_of_a_request_is_read_up_to_a_limit() {
    let mut embedder = Embedder::new().await;
    for (limit, fits) in [(5, true), (4, false)] {
        let (mut send, mut recv) = embedder.raw.request(&get("/")).await;
        send.write_all(&crate::raw::frame(0, b"hello"))
            .await
            .unwrap();
        send.finish().unwrap();
        let Requested::Http(mut exchange) = embedder.next_request().await else {
            panic!("it asks for no session");
        };
        let body = within("the body", exchange.body(limit)).await;
        assert_eq!(body.ok(), fits.then(|| Bytes::from_static(b"hello")));
        let mut response = http::Response::new(Bytes::from_static(b"told"));
        *response.status_mut() = http::StatusCode::FORBIDDEN;
        within("the answer", exchange.respond(response)).await;
        let (status, body) = within("the answer", read_response(&mut recv)).await;
        assert_eq!((status, body.as_str()), (403, "told"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn packets_are_as_large_as_ethernet_carries_after_one_probe() {
    let embedder = Embedder::new().await;
    let path = || embedder.conn.stats().path;
    eventually("a larger MTU", || path().current_mtu > 1200).await;
    assert_eq!((path().current_mtu, path().sent_plpmtud_probes), (1452, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_dropped_is_rejected() {
    let mut embedder = Embedder::new().await;
    for fields in [get("/").to_vec(), connect_fields("/", "webtransport-h3")] {
        let (_send, mut recv) = embedder.raw.request(&fields).await;
        drop(embedder.next_request().await);
        match within("the reset", recv.read_chunk(1, true)).await {
            Err(quinn::ReadError::Reset(code)) => assert_eq!(code, 0x10bu32.into()),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_that_begins_no_session_is_not_sent() {
    let mut embedder = Embedder::new().await;
    let mut unoffered = Response::new(200);
    unoffered.protocol = Some("chat".to_owned());
    for response in [Response::new(199), Response::new(300), unoffered] {
        let fields = connect_fields("/any", "webtransport-h3");
        let (_send, mut recv) = embedder.raw.request(&fields).await;
        let Requested::Session(incoming) = embedder.next_request().await else {
            panic!("no session was asked for");
        };
        incoming.accept(&response).await.unwrap_err();
        let read = within("the reset", recv.read_chunk(1, true)).await;
        assert!(matches!(read, Err(quinn::ReadError::Reset(_))), "{read:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_native_handler_closes_and_has_no_more_events_when_the_peer_knows() {
    let mut embedder = Embedder::new().await;
    let (mut session, mut send, mut recv) = embedder.session().await;
    session.close(7, "enough", Closer::Local);
    let Some(Event::Closed(closed)) = next(&mut session).await else {
        panic!("it was closed");
    };
    let Closed {
        code,
        reason,
        by,
        clean,
        ..
    } = closed;
    assert_eq!(
        (code, reason.as_str(), by, clean),
        (7, "enough", Closer::Local, true)
    );
    let peer = async {
        let capsules = recv.read_to_end(999).await.unwrap();
        assert!(capsules.ends_with(b"\0\0\0\x07enough"), "{capsules:?}");
        send.finish().unwrap();
    };
    let (last, ()) = tokio::join!(next(&mut session), within("the close", peer));
    assert_eq!(last, None);
    assert_eq!(next(&mut session).await, None, "and so it stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_an_event_in_vain_loses_none() {
    let mut embedder = Embedder::new().await;
    let (mut session, _send, _recv) = embedder.session().await;
    let id = 0; // the first stream of the client
    for n in 0..20u8 {
        embedder.raw.datagram(id, &[n]);
        let mut waited = tokio::time::timeout(Duration::ZERO, session.next_event()).await;
        while waited.is_err() {
            let a_while = Duration::from_micros(50);
            waited = tokio::time::timeout(a_while, session.next_event()).await;
        }
        assert_eq!(
            waited.unwrap(),
            Some(Event::Datagram(Bytes::copy_from_slice(&[n])))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_asks_native_handlers_and_rejects_new_sessions() {
    let mut embedder = Embedder::new().await;
    let (mut session, _send, _recv) = embedder.session().await;
    embedder.acceptor.drain();
    assert_eq!(next(&mut session).await, Some(Event::Draining));
    let fields = connect_fields("/any", "webtransport-h3");
    let (_send, mut recv) = embedder.raw.request(&fields).await;
    match within("the reset", recv.read_chunk(1, true)).await {
        Err(quinn::ReadError::Reset(code)) => assert_eq!(code, 0x10bu32.into()),
        other => panic!("{other:?}"),
    }
    embedder.acceptor.close_sessions(9, "time is up");
    let Some(Event::Closed(closed)) = next(&mut session).await else {
        panic!("it was closed");
    };
    assert_eq!((closed.code, closed.by), (9, Closer::Host));
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_the_connection_ends_it_for_both_ends() {
    let mut embedder = Embedder::new().await;
    let (mut session, _send, _recv) = embedder.session().await;
    drop(embedder.connection);
    assert_eq!(embedder.raw.closed_with().await, 0x100, "H3_NO_ERROR");
    let Some(Event::Closed(closed)) = next(&mut session).await else {
        panic!("it was lost");
    };
    assert!(!closed.clean);
    assert_eq!(next(&mut session).await, None);
}
