//! Sessions over HTTP/2, by our own client: what is common to both HTTP versions is tested by parameter elsewhere.

use std::sync::Arc;

use bytes::Bytes;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use wharf::transport::{Closer, Dir, Event, Limits, Quirks, Session, h2::Client};

use crate::harness::{Log, TestServer, path, within};

/// A connection that takes any certificate.
pub(crate) async fn connect(server: &TestServer) -> Client {
    let mut tls = crate::raw::tls_config();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let tls = tokio_rustls::TlsConnector::from(Arc::new(tls));
    let tcp = TcpStream::connect(server.address).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let tls = within("TLS", tls.connect(name, tcp)).await.unwrap();
    within("HTTP/2", Client::new(tls, Limits::default()))
        .await
        .unwrap()
}

/// A session to that path.
pub(crate) async fn session(client: &Client, path: &str) -> Session {
    let head = http::Request::connect(format!("https://localhost{path}"))
        .body(())
        .unwrap();
    let asked = client.connect(head, Quirks::default());
    let (parts, session) = within("a response", asked).await.unwrap();
    assert_eq!(parts.status, 200);
    session.unwrap()
}

#[tokio::test]
async fn smoke() {
    let server = TestServer::start().await;
    let client = connect(&server).await;
    let path = path("plain");
    let mut session = session(&client, &path).await;
    let id = session.open(Dir::Bi).unwrap();
    session
        .send(id, Bytes::from_static(b"hello"), true)
        .unwrap();
    let mut got = Vec::new();
    loop {
        match within("an event", session.next_event()).await.unwrap() {
            Event::Data { data, fin, .. } => {
                got.extend_from_slice(&data);
                if fin {
                    break;
                }
            }
            event => panic!("{event:?}"),
        }
    }
    assert_eq!(got, b"hello");
    session.close(7, "bye", Closer::Local);
    while let Some(event) = within("the end", session.next_event()).await {
        println!("{event:?}");
    }
    println!("{}", Log::line(&path, "").await);
    server.no_instances().await;
}
