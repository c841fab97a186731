//! The client of the library, against this host and against other people's servers.

use bytes::Bytes;
use wharf::transport::{
    Closed, Closer, Dir, Event, HttpVersion, Limits, Role, Session, StreamId,
    client::{Ask, ConnectError, Connected, Http, Trust, connect},
};

use crate::harness::{Log, TestServer, path, within};

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

async fn session(server: &TestServer, path: &str) -> Session {
    let asked = ask_with(server.address.port(), server.hash, path, |_| {}).await;
    asked.unwrap().session
}

/// The next event that `want` makes something of.
pub(super) async fn event<T>(session: &mut Session, want: impl Fn(&Event) -> Option<T>) -> T {
    let found = async {
        loop {
            let event = session.next_event().await.expect("the session goes on");
            if let Some(found) = want(&event) {
                return found;
            }
            assert!(!matches!(event, Event::Closed(_)), "{event:?}");
        }
    };
    within("an event", found).await
}

/// All bytes of a stream, to its FIN.
pub(super) async fn read(session: &mut Session, id: StreamId) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let (data, fin) = event(session, |event| match event {
            Event::Data { stream, data, fin } if *stream == id => Some((data.clone(), *fin)),
            _ => None,
        })
        .await;
        all.extend_from_slice(&data);
        if fin {
            return all;
        }
    }
}

/// Waits for the end of a session, and for the peer to know of it.
pub(super) async fn closed(session: &mut Session) -> Closed {
    let closed = event(session, |event| match event {
        Event::Closed(closed) => Some(closed.clone()),
        _ => None,
    })
    .await;
    assert_eq!(within("the end", session.next_event()).await, None);
    closed
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_and_a_server_of_ours_speak_the_newest_draft() {
    let server = TestServer::start().await;
    let path = path("request");
    let connected = ask_with(server.address.port(), server.hash, &path, |ask| {
        ask.origin = Some(format!("https://{}", ask.authority));
        ask.fields = vec![("x-test".to_owned(), Bytes::from_static(b"1"))];
    });
    let mut connected = connected.await.unwrap();
    assert_eq!(connected.response.status, 200);
    assert_eq!(connected.request.draft, "draft-15");
    assert_eq!(connected.request.http, HttpVersion::Http3);
    assert_eq!(connected.request.role, Role::Client);
    let session = &mut connected.session;
    let stream = session.open(Dir::Bi).unwrap();
    session
        .send(stream, Bytes::from_static(b"?"), true)
        .unwrap();
    let told = String::from_utf8(read(session, stream).await).unwrap();
    for line in ["token=webtransport-h3", "role=server"] {
        assert!(told.lines().any(|told| told == line), "{line} in {told}");
    }
    assert!(told.contains("x-test"), "{told}");
    session.close(5, "done", Closer::Local);
    let end = closed(session).await;
    assert_eq!((end.code, end.by, end.clean), (5, Closer::Local, true));
    let line = Log::line(&path, "closed").await;
    assert_eq!(line, "closed 5 peer clean \"done\"");
    server.no_instances().await;
}
