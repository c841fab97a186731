//! The sockets of a server: UDP for HTTP/3 and TCP for HTTP/2, on the same addresses and ports.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::{sync::watch, task::JoinSet};

use super::{Gate, Limits, Requested, h2, h3};
use crate::metrics::Metrics;

/// How often a free UDP port is taken whose TCP port is not free.
const ATTEMPTS: usize = 16;
/// How long peers have to notice that it is over.
const CLOSING: Duration = Duration::from_secs(1);

/// Begins what is asked for, or drops it, which rejects it. It is called as soon as a request is there, and does not wait.
pub(crate) type Begin = Arc<dyn Fn(Requested) + Send + Sync>;

/// Sockets that accept connections of both HTTP versions. Cloning it is cheap and binds nothing.
#[derive(Clone)]
pub(crate) struct Listener {
    http3: h3::Listener,
    http2: h2::Listener,
    gate: Gate,
    /// Whether the connections of HTTP/2 have ended.
    ended: watch::Sender<bool>,
}

impl Listener {
    /// Binds two sockets for each address. Port 0 takes a free one, for each address its own.
    ///
    /// # Errors
    ///
    /// When there is no address, one cannot be bound, or `tls` lacks a cipher suite that QUIC needs. No socket is left
    /// bound then.
    pub(crate) fn bind(
        addresses: &[SocketAddr],
        tls: rustls::ServerConfig,
        limits: Limits,
        metrics: Metrics,
    ) -> anyhow::Result<Self> {
        anyhow::ensure!(!addresses.is_empty(), "no address to listen on");
        // All are bound before any is served.
        let pairs = addresses
            .iter()
            .map(|&address| bind(address, addresses, limits.udp_receive_buffer))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let (udp, tcp) = pairs.into_iter().unzip();
        let gate = Gate::new(limits.clone(), metrics);
        Ok(Self {
            http3: h3::Listener::new(udp, tls.clone(), limits.clone(), gate.clone())?,
            http2: h2::Listener::new(tcp, tls, limits, gate.clone()),
            gate,
            ended: watch::Sender::new(false),
        })
    }

    /// The addresses bound, in the order in which they were asked for.
    pub(crate) fn local_addrs(&self) -> &[SocketAddr] {
        self.http3.local_addrs()
    }

    /// What counts the connections.
    pub(crate) fn gate(&self) -> Gate {
        self.gate.clone()
    }

    /// Accepts connections until the sockets are closed, and passes their requests on. Every connection ends with this
    /// future.
    pub(crate) async fn run(self, begin: Begin) {
        let mut both = JoinSet::new();
        both.spawn(self.http3.run(begin.clone()));
        let (http2, ended) = (self.http2, self.ended);
        both.spawn(async move {
            http2.run(begin).await;
            ended.send_replace(true);
        });
        while both.join_next().await.is_some() {}
    }

    /// Takes no new sessions, and asks those that live to end.
    pub(crate) fn drain(&self) {
        self.http3.drain();
        self.http2.drain();
    }

    /// Ends the sessions that live.
    pub(crate) fn close_sessions(&self, code: u32, reason: &str) {
        self.http3.close_sessions(code, reason);
        self.http2.close_sessions(code, reason);
    }

    /// Closes what is left, and waits until the peers had time to notice and the sockets are free for others.
    pub(crate) async fn close(self) {
        self.http2.close();
        let mut ended = self.ended.subscribe();
        let http2 = async {
            _ = tokio::time::timeout(CLOSING, ended.wait_for(|ended| *ended)).await;
        };
        tokio::join!(self.http3.close(), http2);
    }
}

/// A UDP socket and a TCP socket of the same port.
fn bind(
    address: SocketAddr,
    all: &[SocketAddr],
    receive_buffer: usize,
) -> anyhow::Result<(std::net::UdpSocket, tokio::net::TcpListener)> {
    let other = |other: &SocketAddr| other.is_ipv4() && other.port() == address.port();
    // A socket of IPv6 takes IPv4 as well, unless one of the others is there for that.
    let only_v6 = all.iter().any(other);
    let taken = |protocol| {
        format!(
            "cannot listen on {protocol} {address} (another program may hold the port; --listen takes another, port 0 a free one)"
        )
    };
    let mut attempts = 0;
    loop {
        attempts += 1;
        let udp = h3::bind(address, only_v6, receive_buffer).with_context(|| taken("UDP"))?;
        match h2::bind(udp.local_addr()?, only_v6) {
            Ok(tcp) => return Ok((udp, tcp)),
            Err(error)
                if address.port() == 0
                    && error.kind() == io::ErrorKind::AddrInUse
                    && attempts < ATTEMPTS => {}
            Err(error) => return Err(error).with_context(|| taken("TCP")),
        }
    }
}
