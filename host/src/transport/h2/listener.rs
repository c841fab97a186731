//! TCP sockets, and the HTTP/2 connections that come in on them.

use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use super::{ALPN, Acceptor};
use crate::transport::{Begin, Gate, HttpVersion, Limits, gate::Pass};

/// Connections that the kernel has accepted and we have not.
const BACKLOG: i32 = 1024;
/// How long to wait where the machine has no file for another connection.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// What its connections are counted as.
const HTTP: &str = HttpVersion::Http2.name();

/// TCP sockets that accept HTTP/2 connections. Cloning it is cheap and binds nothing.
#[derive(Clone)]
pub(crate) struct Listener {
    sockets: Arc<[TcpListener]>,
    acceptor: Acceptor,
    tls: TlsAcceptor,
    limits: Limits,
    gate: Gate,
    /// Whether the listener is closed.
    closed: watch::Sender<bool>,
}

impl Listener {
    /// Serves what comes in on these sockets.
    pub(crate) fn new(
        sockets: Vec<TcpListener>,
        tls: rustls::ServerConfig,
        limits: Limits,
        gate: Gate,
    ) -> Self {
        let acceptor = Acceptor::new(limits.clone());
        Self {
            sockets: sockets.into(),
            tls: TlsAcceptor::from(Arc::new(acceptor.tls_config(tls))),
            acceptor,
            gate,
            limits,
            closed: watch::Sender::new(false),
        }
    }

    /// Accepts connections until it is closed, and passes their requests on. Every connection ends with this future.
    pub(crate) async fn run(self, begin: Begin) {
        let mut connections = JoinSet::new();
        let mut closed = self.closed.subscribe();
        let mut next = 0;
        loop {
            tokio::select! {
                (tcp, peer) = self.accept(&mut next) => match self.gate.enter(peer.ip(), true, Instant::now()) {
                    Ok(pass) => {
                        let (this, begin) = (self.clone(), begin.clone());
                        connections.spawn(async move { this.serve(tcp, peer, pass, begin).await });
                    }
                    // Dropped before TLS, which would cost something.
                    Err(full) => {
                        self.gate.metrics().handshake_failed(HTTP, full.name());
                        tracing::debug!(%peer, ?full, "connection turned away");
                    }
                },
                Some(_) = connections.join_next() => {}
                _ = closed.wait_for(|closed| *closed) => break,
            }
        }
        // Draining connections end by themselves once their sessions have.
        while connections.join_next().await.is_some() {}
    }

    /// A connection on any of the sockets. `next` is whose turn it is to be looked at first.
    async fn accept(&self, next: &mut usize) -> (TcpStream, SocketAddr) {
        loop {
            let accepted = poll_fn(|cx| {
                let count = self.sockets.len();
                for n in 0..count {
                    let at = (*next + n) % count;
                    if let Poll::Ready(accepted) = self.sockets[at].poll_accept(cx) {
                        *next = at + 1;
                        return Poll::Ready(accepted);
                    }
                }
                Poll::Pending
            });
            match accepted.await {
                Ok(accepted) => return accepted,
                Err(error) => {
                    // The connection was lost already, or the machine has no file for it.
                    tracing::debug!(%error, "no connection accepted");
                    tokio::time::sleep(EXHAUSTED).await;
                }
            }
        }
    }

    async fn serve(&self, tcp: TcpStream, peer: SocketAddr, mut pass: Pass, begin: Begin) {
        let failed = |kind| self.gate.metrics().handshake_failed(HTTP, kind);
        _ = tcp.set_nodelay(true);
        let handshake = tokio::time::timeout(self.limits.setup_timeout, self.tls.accept(tcp));
        let tls = match handshake.await {
            Ok(Ok(tls)) => tls,
            // A failed handshake is the peer's affair.
            Ok(Err(error)) => {
                let tls = error.kind() == io::ErrorKind::InvalidData;
                failed(if tls { "tls" } else { "closed" });
                return tracing::debug!(%peer, %error, "TLS handshake failed");
            }
            Err(_) => {
                failed("timeout");
                return tracing::debug!(%peer, "no TLS handshake in time");
            }
        };
        pass.agreed();
        if tls.get_ref().1.alpn_protocol() != Some(ALPN) {
            failed("alpn");
            return tracing::debug!(%peer, "the client did not ask for h2 (ALPN)");
        }
        let _open = self.gate.metrics().connected(HTTP);
        let mut connection = self.acceptor.accept(tls, peer);
        while let Some(requested) = connection.next_request().await {
            begin(requested);
        }
    }

    /// Takes no new sessions, and asks those that live to end.
    pub(crate) fn drain(&self) {
        self.acceptor.drain();
    }

    /// Ends the sessions that live.
    pub(crate) fn close_sessions(&self, code: u32, reason: &str) {
        self.acceptor.close_sessions(code, reason);
    }

    /// Accepts no more connections, and has [`run`](Self::run) end when those that there are have.
    pub(crate) fn close(&self) {
        self.closed.send_replace(true);
    }
}

/// Binds a TCP socket. One of IPv6 takes IPv4 as well where its address does, unless `only_v6`.
pub(crate) fn bind(address: SocketAddr, only_v6: bool) -> io::Result<TcpListener> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    // A server that is started anew need not wait for its former connections.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}
