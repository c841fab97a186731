//! WebTransport over HTTP/3: QUIC in, native sessions out.
//!
//! `tap` shows `h3` the part of a connection that is HTTP; `classify` sorts everything else to the session `table`;
//! `session` is what the rest of the host holds. Nothing here opens a session by itself: each request comes out as an
//! [`Incoming`] and waits for a decision.

use std::{net::SocketAddr, sync::Arc};

use anyhow::Context as _;
use quinn::crypto::rustls::QuicServerConfig;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use wharf_proto::code::HttpCode;

use super::Limits;

mod classify;
mod commands;
mod connect;
mod connection;
mod filter;
mod inbox;
mod qpack;
mod ready;
mod resets;
mod session;
mod settings;
mod stream;
mod streams;
mod table;
mod tap;

pub use connection::{Incoming, Phase};
pub use session::Session;

use connection::Shared;

const ALPN: &[u8] = b"h3";

/// A UDP socket that accepts HTTP/3 connections.
#[derive(Debug)]
pub struct Listener {
    endpoint: quinn::Endpoint,
    shared: Arc<Shared>,
}

impl Listener {
    /// Binds a socket. Port 0 takes a free one. Sessions that are asked for go to `incoming`; what the host tells its
    /// connections comes by `phase`, and `shutdown` is the close code and reason of [`Phase::Closing`].
    ///
    /// # Errors
    ///
    /// When the address cannot be bound, or `tls` lacks a cipher suite that QUIC needs.
    pub fn bind(
        address: SocketAddr,
        mut tls: rustls::ServerConfig,
        limits: Limits,
        incoming: mpsc::Sender<Incoming>,
        phase: watch::Receiver<Phase>,
        shutdown: (u32, &'static str),
    ) -> anyhow::Result<Self> {
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let crypto = QuicServerConfig::try_from(tls).context("TLS 1.3 is needed for QUIC")?;
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        config.transport_config(Arc::new(connection::transport_config(&limits)));
        let endpoint = quinn::Endpoint::server(config, address)?;
        let shared = Shared {
            limits: Arc::new(limits),
            incoming,
            phase,
            shutdown,
        };
        Ok(Self {
            endpoint,
            shared: Arc::new(shared),
        })
    }

    /// The address bound.
    ///
    /// # Errors
    ///
    /// When the operating system does not tell.
    pub fn local_addr(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.endpoint.local_addr()?)
    }

    /// Accepts connections until the socket is closed. Every connection's task ends with this future.
    pub async fn run(self) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                connecting = self.endpoint.accept() => {
                    let Some(connecting) = connecting else { break };
                    let shared = self.shared.clone();
                    connections.spawn(async move {
                        // A failed handshake is the peer's affair.
                        match connecting.await {
                            Ok(conn) => connection::serve(conn, shared).await,
                            Err(error) => tracing::debug!(%error, "handshake failed"),
                        }
                    });
                }
                Some(_) = connections.join_next() => {}
            }
        }
    }

    /// The socket, for [`Closer::close`] once the sessions have ended.
    #[must_use]
    pub fn closer(&self) -> Closer {
        Closer {
            endpoint: self.endpoint.clone(),
        }
    }
}

/// Closes a listener's connections.
#[derive(Debug)]
pub struct Closer {
    endpoint: quinn::Endpoint,
}

impl Closer {
    /// Closes what is left, and waits until the peers had time to notice.
    pub async fn close(self) {
        self.endpoint
            .close(quic_code(HttpCode::H3_NO_ERROR), b"shutting down");
        self.endpoint.wait_idle().await;
    }
}

/// A code as QUIC writes it.
fn quic_code(code: HttpCode) -> quinn::VarInt {
    quinn::VarInt::from_u64(code.into_inner()).unwrap_or(quinn::VarInt::MAX)
}
