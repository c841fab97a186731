//! Sockets, and the connections that come in on them.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::task::JoinSet;
use wharf_proto::code::HttpCode;

use super::{Acceptor, Connection, drivers::Drivers, hold::Hold, quic_code};
use crate::transport::{
    Begin, Gate, HttpVersion, Limits,
    gate::{Full, Pass},
};

/// What its connections are counted as.
const HTTP: &str = HttpVersion::Http3.name();
/// Bytes of connections that nobody has looked at yet, all together.
const WAITING_BYTES: u64 = 1 << 20;

/// UDP sockets that accept HTTP/3 connections. Cloning it is cheap and binds nothing.
#[derive(Clone, Debug)]
pub(crate) struct Listener {
    endpoints: Vec<quinn::Endpoint>,
    addresses: Arc<[SocketAddr]>,
    acceptor: Acceptor,
    gate: Gate,
    drivers: Drivers,
}

impl Listener {
    /// Serves what comes in on these sockets.
    ///
    /// # Errors
    ///
    /// When `tls` lacks a cipher suite that QUIC needs, or a socket fails.
    pub(crate) fn new(
        sockets: Vec<std::net::UdpSocket>,
        tls: rustls::ServerConfig,
        limits: Limits,
        gate: Gate,
    ) -> anyhow::Result<Self> {
        let handshakes = limits.handshakes;
        let acceptor = Acceptor::new(limits);
        let mut config = acceptor.server_config(tls)?;
        // They are looked at as they come, so few ever wait.
        config
            .max_incoming(handshakes)
            .incoming_buffer_size_total(WAITING_BYTES);
        let addresses = sockets
            .iter()
            .map(std::net::UdpSocket::local_addr)
            .collect::<Result<_, _>>()?;
        let drivers = Drivers::default();
        let serve = |socket| {
            quinn::Endpoint::new(
                quinn::EndpointConfig::default(),
                Some(config.clone()),
                socket,
                Arc::new(drivers.clone()),
            )
        };
        Ok(Self {
            endpoints: sockets.into_iter().map(serve).collect::<Result<_, _>>()?,
            addresses,
            acceptor,
            gate,
            drivers,
        })
    }

    /// The addresses bound, in the order in which they were asked for.
    pub(crate) fn local_addrs(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Accepts connections until the sockets are closed, and passes their requests on. Every connection ends with this
    /// future.
    pub(crate) async fn run(self, begin: Begin) {
        let mut accepting = JoinSet::new();
        for endpoint in self.endpoints {
            let accept = Accept {
                acceptor: self.acceptor.clone(),
                gate: self.gate.clone(),
                begin: begin.clone(),
            };
            accepting.spawn(accept.run(endpoint));
        }
        while accepting.join_next().await.is_some() {}
    }

    /// Takes no new sessions, and asks those that live to end.
    pub(crate) fn drain(&self) {
        self.acceptor.drain();
    }

    /// Ends the sessions that live.
    pub(crate) fn close_sessions(&self, code: u32, reason: &str) {
        self.acceptor.close_sessions(code, reason);
    }

    /// Closes what is left, and waits until the peers had time to notice and the sockets are free for others.
    pub(crate) async fn close(self) {
        const TIMEOUT: Duration = Duration::from_secs(1);
        for endpoint in &self.endpoints {
            endpoint.close(quic_code(HttpCode::H3_NO_ERROR), b"shutting down");
        }
        for endpoint in &self.endpoints {
            endpoint.wait_idle().await;
        }
        drop(self.endpoints);
        // Who holds on to a connection still has its socket held as well.
        _ = tokio::time::timeout(TIMEOUT, self.drivers.ended()).await;
    }
}

/// Binds a UDP socket. One of IPv6 takes IPv4 as well where its address does, unless `only_v6`. The system is asked for a
/// receive buffer of that many bytes, and serves with what it gives.
pub(crate) fn bind(
    address: SocketAddr,
    only_v6: bool,
    receive_buffer: usize,
) -> std::io::Result<std::net::UdpSocket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    if let Err(error) = socket.set_recv_buffer_size(receive_buffer) {
        tracing::debug!(%error, "no such receive buffer is to be had");
    }
    tracing::debug!(%address, bytes = socket.recv_buffer_size().ok(), "receive buffer of UDP");
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Takes connections in.
struct Accept {
    acceptor: Acceptor,
    gate: Gate,
    begin: Begin,
}

impl Accept {
    async fn run(self, endpoint: quinn::Endpoint) {
        let this = Arc::new(self);
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                incoming = endpoint.accept() => {
                    let Some(incoming) = incoming else { break };
                    if let Some((incoming, pass)) = this.admit(incoming) {
                        connections.spawn(this.clone().pass_on(incoming, pass));
                    }
                }
                Some(_) = connections.join_next() => {}
            }
        }
    }

    /// Counts a connection in, or turns it away. What that costs does not depend on how many are turned away, and an address
    /// is answered with no more than it has sent: it may not be the sender's own until that has been proven.
    fn admit(&self, incoming: quinn::Incoming) -> Option<(quinn::Incoming, Pass)> {
        let peer = incoming.remote_address();
        let proven = incoming.remote_address_validated();
        let entered = if !proven && self.gate.is_busy() {
            Err(Full::Handshakes)
        } else {
            self.gate.enter(peer.ip(), proven, Instant::now())
        };
        let full = match entered {
            Ok(pass) => return Some((incoming, pass)),
            Err(full) => full,
        };
        tracing::debug!(%peer, ?full, proven, "connection turned away");
        if proven || !full.passes() {
            self.gate.metrics().handshake_failed(HTTP, full.name());
        }
        match (full.passes(), proven) {
            // Who meant its address to be another's does not get the answer; who has proven its own takes its turn.
            (true, false) => _ = incoming.retry(), // it has not been asked before
            (true, true) => incoming.ignore(),     // it tries again by itself
            (false, _) => incoming.refuse(),
        }
        None
    }

    async fn pass_on(self: Arc<Self>, incoming: quinn::Incoming, mut pass: Pass) {
        let failed = |kind| self.gate.metrics().handshake_failed(HTTP, kind);
        let timeout = self.acceptor.shared.limits.setup_timeout;
        let (hold, connecting) = Hold::on_driver_of(|| incoming.accept());
        let begun = connecting.map(|connecting| {
            let begun = connecting.into_0rtt();
            begun.expect("a server may send as soon as it has accepted")
        });
        let (conn, agreed) = match begun {
            Ok(begun) => begun,
            Err(error) => {
                failed(failure(&error));
                return tracing::debug!(%error, "handshake failed");
            }
        };
        // Our SETTINGS go out with our part of the handshake, so the client asks for its session with the end of its own.
        // Nothing of the client's is read before that.
        let mut connection = Connection::new(conn, self.acceptor.shared.clone(), hold);
        if tokio::time::timeout(timeout, agreed).await.is_err() {
            failed("timeout");
            return tracing::debug!("no handshake in time");
        }
        match connection.close_reason() {
            // An application's close is read after the handshake only.
            None | Some(quinn::ConnectionError::ApplicationClosed(_)) => pass.agreed(),
            // A failed handshake is the peer's affair.
            Some(error) => {
                failed(failure(&error));
                return tracing::debug!(%error, "handshake failed");
            }
        }
        let _open = self.gate.metrics().connected(HTTP);
        while let Some(requested) = connection.next_request().await {
            (self.begin)(requested);
        }
    }
}

/// The kind of a failed handshake, for metrics.
fn failure(error: &quinn::ConnectionError) -> &'static str {
    let tls = |code: u64| (0x100..0x200).contains(&code); // RFC 9001, "TLS Errors"
    match error {
        quinn::ConnectionError::TimedOut => "timeout",
        quinn::ConnectionError::VersionMismatch => "version",
        quinn::ConnectionError::TransportError(error) if tls(error.code.into()) => "tls",
        quinn::ConnectionError::ConnectionClosed(close) if tls(close.error_code.into()) => "tls",
        quinn::ConnectionError::TransportError(_)
        | quinn::ConnectionError::ConnectionClosed(_)
        | quinn::ConnectionError::ApplicationClosed(_)
        | quinn::ConnectionError::Reset
        | quinn::ConnectionError::LocallyClosed
        | quinn::ConnectionError::CidsExhausted => "closed",
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use socket2::SockRef;

    use super::*;

    #[test]
    fn a_socket_has_the_receive_buffer_that_was_asked_for() {
        const ASKED: usize = 64 << 10; // less than systems give by themselves
        let socket = bind((Ipv4Addr::LOCALHOST, 0).into(), false, ASKED).unwrap();
        let given = SockRef::from(&socket).recv_buffer_size().unwrap();
        assert!((ASKED..=2 * ASKED).contains(&given), "{given}"); // Linux doubles it, for its own records
    }
}
