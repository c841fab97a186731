//! Sockets, and the connections that come in on them.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{sync::mpsc, task::JoinSet};
use wharf_proto::code::HttpCode;

use super::{Acceptor, drivers::Drivers, quic_code};
use crate::transport::{Limits, Requested};

/// UDP sockets that accept HTTP/3 connections. Cloning it is cheap and binds nothing.
#[derive(Clone, Debug)]
pub(crate) struct Listener {
    endpoints: Vec<quinn::Endpoint>,
    addresses: Arc<[SocketAddr]>,
    acceptor: Acceptor,
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
    ) -> anyhow::Result<Self> {
        let acceptor = Acceptor::new(limits);
        let config = acceptor.server_config(tls)?;
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
            drivers,
        })
    }

    /// The addresses bound, in the order in which they were asked for.
    pub(crate) fn local_addrs(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Accepts connections until the sockets are closed, and passes their requests on. Every connection ends with this
    /// future.
    pub(crate) async fn run(self, requests: mpsc::Sender<Requested>) {
        let mut accepting = JoinSet::new();
        for endpoint in self.endpoints {
            accepting.spawn(accept(endpoint, self.acceptor.clone(), requests.clone()));
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

/// Binds a UDP socket. One of IPv6 takes IPv4 as well where its address does, unless `only_v6`.
pub(crate) fn bind(address: SocketAddr, only_v6: bool) -> std::io::Result<std::net::UdpSocket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

async fn accept(endpoint: quinn::Endpoint, acceptor: Acceptor, requests: mpsc::Sender<Requested>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            incoming = endpoint.accept() => {
                let Some(incoming) = incoming else { break };
                connections.spawn(pass_on(incoming, acceptor.clone(), requests.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn pass_on(incoming: quinn::Incoming, acceptor: Acceptor, requests: mpsc::Sender<Requested>) {
    let conn = match incoming.await {
        Ok(conn) => conn,
        // A failed handshake is the peer's affair.
        Err(error) => return tracing::debug!(%error, "handshake failed"),
    };
    let mut connection = acceptor.accept(conn);
    while let Some(requested) = connection.next_request().await {
        // The receiver is gone when the host stops; dropping the request rejects it.
        _ = requests.send(requested).await;
    }
}
