//! The client of the library, against this host and against other people's servers.

use std::sync::Arc;

use bytes::Bytes;
use wharf::transport::{
    Closed, Closer, Dir, Event, HttpVersion, Limits, Role, Session, StreamId,
    client::{Ask, ConnectError, Connected, Http, Trust, connect},
    tls::Certificate,
};

use crate::{
    harness::{Log, TestServer, path, within},
    peer::{self, over_both},
    raw::{frame, put},
};

const H3_STREAM_CREATION_ERROR: u64 = 0x103;
const H3_ID_ERROR: u64 = 0x108;
const WT_REQUIREMENTS_NOT_MET: u64 = 0x212c_0d48;
/// SETTINGS of a server of draft 15.
const NEWEST_SERVER: &[(u64, u64)] = &[(0x08, 1), (0x33, 1), (0x2c7c_f000, 1)];

/// Asks a server on this machine, whose certificate has that hash.
pub(super) async fn ask_with(
    port: u16,
    hash: [u8; 32],
    path: &str,
    change: impl FnOnce(&mut Ask),
) -> Result<Connected, ConnectError> {
    let mut ask = Ask::new(&format!("https://127.0.0.1:{port}{path}")).unwrap();
    change(&mut ask);
    let trust = Trust::Hashes(vec![hash]);
    let limits = Limits::default();
    let asked = connect(&ask, &trust, Http::Http3, &limits);
    within("the response", asked).await
}

/// A session with a server of ours, over that version.
async fn session(http: peer::Http, server: &TestServer, path: &str) -> Driven {
    let ask = Ask::new(&format!("https://{}{path}", server.address)).unwrap();
    let (trust, limits) = (Trust::Hashes(vec![server.hash]), Limits::default());
    let asked = connect(&ask, &trust, only(http), &limits);
    let connected = within("the response", asked).await.unwrap();
    assert_eq!(connected.request.http.to_string(), http.name());
    Driven::new(connected.session)
}

/// The choice that has that version tried only.
const fn only(http: peer::Http) -> Http {
    match http {
        peer::Http::Http3 => Http::Http3,
        peer::Http::Http2 => Http::Http2,
    }
}

/// A session, and the events that nobody has asked for yet.
pub(super) struct Driven {
    session: Session,
    held: Vec<Event>,
}

impl std::ops::Deref for Driven {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

impl std::ops::DerefMut for Driven {
    fn deref_mut(&mut self) -> &mut Session {
        &mut self.session
    }
}

impl Driven {
    pub(super) fn new(session: Session) -> Self {
        let held = Vec::new();
        Self { session, held }
    }

    /// The next event that `want` makes something of; the others are held.
    pub(super) async fn event<T>(&mut self, want: impl Fn(&Event) -> Option<T>) -> T {
        let held = self.held.iter().enumerate();
        if let Some((at, found)) = held
            .into_iter()
            .find_map(|(at, event)| Some((at, want(event)?)))
        {
            self.held.remove(at);
            return found;
        }
        let found = async {
            loop {
                let event = self
                    .session
                    .next_event()
                    .await
                    .expect("the session goes on");
                if let Some(found) = want(&event) {
                    return found;
                }
                assert!(!matches!(event, Event::Closed(_)), "{event:?}");
                self.held.push(event);
            }
        };
        within("an event", found).await
    }

    /// The next stream of the peer's.
    pub(super) async fn opened(&mut self, dir: Dir) -> StreamId {
        self.event(|event| match event {
            Event::Opened(id) if id.dir() == dir => Some(*id),
            _ => None,
        })
        .await
    }

    pub(super) async fn datagram(&mut self) -> Bytes {
        self.event(|event| match event {
            Event::Datagram(data) => Some(data.clone()),
            _ => None,
        })
        .await
    }

    /// All bytes of a stream, to its FIN.
    pub(super) async fn read(&mut self, id: StreamId) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let (data, fin) = self
                .event(|event| match event {
                    Event::Data { stream, data, fin } if *stream == id => {
                        Some((data.clone(), *fin))
                    }
                    _ => None,
                })
                .await;
            all.extend_from_slice(&data);
            if fin {
                return all;
            }
        }
    }

    /// Waits for the end of the session, and for the peer to know of it.
    pub(super) async fn closed(&mut self) -> Closed {
        let closed = self
            .event(|event| match event {
                Event::Closed(closed) => Some(closed.clone()),
                _ => None,
            })
            .await;
        assert_eq!(within("the end", self.session.next_event()).await, None);
        closed
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_and_a_server_of_ours_speak_the_newest_draft() {
    let server = TestServer::start().await;
    let path = path("request");
    let connected = ask_with(server.address.port(), server.hash, &path, |ask| {
        ask.origin = Some(format!("https://{}", ask.authority));
        ask.fields = vec![("x-test".to_owned(), Bytes::from_static(b"1"))];
    });
    let connected = connected.await.unwrap();
    assert_eq!(connected.response.status, 200);
    assert_eq!(connected.request.draft, "draft-15");
    assert_eq!(connected.request.http, HttpVersion::Http3);
    assert_eq!(connected.request.role, Role::Client);
    let mut session = Driven::new(connected.session);
    let stream = session.open(Dir::Bi).unwrap();
    session
        .send(stream, Bytes::from_static(b"?"), true)
        .unwrap();
    let told = String::from_utf8(session.read(stream).await).unwrap();
    for line in ["token=webtransport-h3", "role=server"] {
        assert!(told.lines().any(|told| told == line), "{line} in {told}");
    }
    assert!(told.contains("x-test"), "{told}");
    session.close(5, "done", Closer::Local);
    let end = session.closed().await;
    assert_eq!((end.code, end.by, end.clean), (5, Closer::Local, true));
    let line = Log::line(&path, "closed").await;
    assert_eq!(line, "closed 5 peer clean \"done\"");
    server.no_instances().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_reached_at_whichever_of_its_addresses_answers() {
    let server = TestServer::start().await;
    let mut ask = Ask::new(&format!(
        "https://localhost:{}/plain",
        server.address.port()
    ))
    .unwrap();
    ask.fields = vec![("host".to_owned(), ask.authority.clone().into())];
    let limits = Limits::default();
    let trust = Trust::Hashes(vec![server.hash]);
    let connected = connect(&ask, &trust, Http::Auto, &limits);
    let connected = within("the response", connected).await.unwrap();
    assert_eq!(connected.request.peer, server.address);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_no_reason_to_try_another_http_version() {
    let server = TestServer::start().await;
    let path = "/refuse/503";
    let ask = Ask::new(&format!("https://{}{path}", server.address)).unwrap();
    let limits = Limits::default();
    let trust = Trust::Hashes(vec![server.hash]);
    let refused = connect(&ask, &trust, Http::Auto, &limits);
    let Err(ConnectError::Refused(response)) = within("the response", refused).await else {
        panic!("there is a session");
    };
    assert_eq!(response.status, 503);
    let reason = (
        "x-reason".to_owned(),
        Bytes::from_static(b"refused by the handler"),
    );
    assert!(response.fields.contains(&reason), "{response:?}");
}

over_both!(a_server_that_drains_is_told_and_its_session_may_go_on);
async fn a_server_that_drains_is_told_and_its_session_may_go_on(http: peer::Http) {
    let server = TestServer::start().await;
    let mut session = session(http, &server, "/plain").await;
    let stopping = tokio::spawn(server.stop());
    session
        .event(|event| (*event == Event::Draining).then_some(()))
        .await;
    let stream = session.open(Dir::Bi).unwrap();
    session.send(stream, "still".into(), true).unwrap();
    assert_eq!(session.read(stream).await, b"still");
    session.close(0, "", Closer::Local);
    session.closed().await;
    within("the server's end", stopping).await.unwrap();
}

over_both!(a_client_that_lets_go_of_its_session_ends_the_connection);
async fn a_client_that_lets_go_of_its_session_ends_the_connection(http: peer::Http) {
    let server = TestServer::start().await;
    let path = path("report");
    let session = session(http, &server, &path).await;
    Log::line(&path, "constructed").await;
    drop(session);
    let line = Log::line(&path, "closed").await;
    assert!(line.starts_with("closed 0 peer unclean"), "{line}");
    server.no_instances().await;
}

/// A bare QUIC server of `h3`, its port, and the hash of its certificate.
pub(super) fn bare() -> (quinn::Endpoint, u16, [u8; 32]) {
    let certificate = Certificate::development().unwrap();
    let mut tls = certificate.server_config().unwrap();
    tls.alpn_protocols = vec![b"h3".to_vec()];
    let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(tls).unwrap();
    let config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    let endpoint = quinn::Endpoint::server(config, "127.0.0.1:0".parse().unwrap()).unwrap();
    let port = endpoint.local_addr().unwrap().port();
    (endpoint, port, certificate.hash())
}

/// Accepts a connection, says those settings, and nothing more.
async fn begin(endpoint: &quinn::Endpoint, settings: &[(u64, u64)]) -> quinn::Connection {
    let conn = endpoint.accept().await.unwrap().await.unwrap();
    let mut payload = Vec::new();
    for (id, value) in settings {
        put(&mut payload, *id);
        put(&mut payload, *value);
    }
    let mut control = conn.open_uni().await.unwrap();
    let said = [&[0][..], &frame(4, &payload)].concat();
    control.write_all(&said).await.unwrap();
    std::mem::forget(control); // which would end it
    conn
}

/// The code that a client closed its connection with.
pub(super) async fn closed_with(conn: &quinn::Connection) -> u64 {
    let closed = within("the end", conn.closed()).await;
    let quinn::ConnectionError::ApplicationClosed(close) = closed else {
        panic!("{closed:?}");
    };
    close.error_code.into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_webtransport_cannot_be_reached() {
    for settings in [&[][..], &[(0x33, 1)], &[(0x08, 1), (0x2c7c_f000, 1)]] {
        let (endpoint, port, hash) = bare();
        let serving =
            tokio::spawn(async move { closed_with(&begin(&endpoint, settings).await).await });
        let error = ask_with(port, hash, "/", |_| {}).await.unwrap_err();
        assert!(matches!(error, ConnectError::Unreachable(_)), "{error}");
        let said = error.to_string();
        assert!(said.contains("does not offer WebTransport"), "{said}");
        assert_eq!(serving.await.unwrap(), WT_REQUIREMENTS_NOT_MET);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_opens_streams_of_http_is_left_with_a_code() {
    for (bidi, first, code) in [
        (true, &frame(1, b"")[..], H3_STREAM_CREATION_ERROR),
        (false, &[1], H3_ID_ERROR),
        (false, &[0x40, 0x54, 3], H3_ID_ERROR),
    ] {
        let (endpoint, port, hash) = bare();
        let first = first.to_vec();
        let serving = tokio::spawn(async move {
            let conn = begin(&endpoint, NEWEST_SERVER).await;
            let mut send = if bidi {
                conn.open_bi().await.unwrap().0
            } else {
                conn.open_uni().await.unwrap()
            };
            send.write_all(&first).await.unwrap();
            closed_with(&conn).await
        });
        ask_with(port, hash, "/", |_| {}).await.unwrap_err();
        assert_eq!(within("the end", serving).await.unwrap(), code);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_reset_is_no_reason_to_ask_again() {
    let (endpoint, port, hash) = bare();
    let serving = tokio::spawn(async move {
        let conn = begin(&endpoint, NEWEST_SERVER).await;
        let (mut send, mut recv) = conn.accept_bi().await.unwrap();
        let refused = quinn::VarInt::from_u32(0x10b);
        send.reset(refused).unwrap();
        recv.stop(refused).unwrap();
        conn.closed().await;
    });
    let ask = Ask::new(&format!("https://127.0.0.1:{port}/")).unwrap();
    let (trust, limits) = (Trust::Hashes(vec![hash]), Limits::default());
    let asked = connect(&ask, &trust, Http::Auto, &limits);
    let error = within("the response", asked).await.unwrap_err();
    assert!(matches!(error, ConnectError::Aborted(_)), "{error:?}");
    within("the end", serving).await.unwrap();
}
