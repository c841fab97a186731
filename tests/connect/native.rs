//! A server of either HTTP version whose sessions a test handles itself: the library's acceptors on sockets of its own.

use std::{net::SocketAddr, sync::Arc};

use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use wharf::transport::{Incoming, Limits, Requested, Response, h2, h3, tls::Certificate};

use super::{
    library::Driven,
    program::{hexadecimal, only},
};
use crate::{harness::within, peer::Http};

/// The server. Dropping it closes the connections it has accepted.
pub(super) struct Native {
    http: Http,
    hash: [u8; 32],
    address: SocketAddr,
    socket: Socket,
    connections: Vec<Connection>,
}

enum Socket {
    Quic(quinn::Endpoint, h3::Acceptor),
    Tls(TcpListener, TlsAcceptor, h2::Acceptor),
}

enum Connection {
    Http3(h3::Connection),
    Http2(h2::Connection),
}

impl Connection {
    async fn next_request(&mut self) -> Option<Requested> {
        match self {
            Self::Http3(connection) => connection.next_request().await,
            Self::Http2(connection) => connection.next_request().await,
        }
    }
}

impl Native {
    pub(super) async fn bind(http: Http) -> Self {
        let anywhere: SocketAddr = ([127, 0, 0, 1], 0).into();
        let certificate = Certificate::development().unwrap();
        let tls = certificate.server_config().unwrap();
        let mut limits = Limits::default();
        limits.stream_receive_credit = 1 << 20;
        let (socket, address) = match http {
            Http::Http3 => {
                let acceptor = h3::Acceptor::new(limits);
                let config = acceptor.server_config(tls).unwrap();
                let endpoint = quinn::Endpoint::server(config, anywhere).unwrap();
                let address = endpoint.local_addr().unwrap();
                (Socket::Quic(endpoint, acceptor), address)
            }
            Http::Http2 => {
                let acceptor = h2::Acceptor::new(limits);
                let tls = TlsAcceptor::from(Arc::new(acceptor.tls_config(tls)));
                let listener = TcpListener::bind(anywhere).await.unwrap();
                let address = listener.local_addr().unwrap();
                (Socket::Tls(listener, tls, acceptor), address)
            }
        };
        Self {
            http,
            hash: certificate.hash(),
            address,
            socket,
            connections: Vec::new(),
        }
    }

    /// For `wharf connect`.
    pub(super) fn arguments(&self, path: &str) -> [String; 4] {
        [
            format!("https://{}{path}", self.address),
            "--cert-hash".to_owned(),
            format!("sha256:{}", hexadecimal(&self.hash)),
            only(self.http).to_owned(),
        ]
    }

    /// Accepts the session that the next connection asks for.
    pub(super) async fn session(&mut self) -> Driven {
        let incoming = self.incoming().await;
        Driven::new(incoming.accept(&Response::new(200)).await.unwrap())
    }

    /// The session that the next connection asks for.
    pub(super) async fn incoming(&mut self) -> Incoming {
        let mut connection = within("a connection", self.connection()).await;
        let requested = within("a request", connection.next_request()).await;
        self.connections.push(connection);
        let Some(Requested::Session(incoming)) = requested else {
            panic!("no session was asked for: {requested:?}");
        };
        incoming
    }

    async fn connection(&self) -> Connection {
        match &self.socket {
            Socket::Quic(endpoint, acceptor) => {
                let conn = endpoint.accept().await.unwrap().await.unwrap();
                Connection::Http3(acceptor.accept(conn))
            }
            Socket::Tls(listener, tls, acceptor) => {
                let (tcp, peer) = listener.accept().await.unwrap();
                let tls = tls.accept(tcp).await.unwrap();
                Connection::Http2(acceptor.accept(tls, peer))
            }
        }
    }

    /// Ends the connections without a word in their sessions.
    pub(super) fn cut_off(&mut self) {
        self.connections.clear();
    }
}
