//! WebTransport over HTTP/3: QUIC in, native sessions out.
//!
//! `tap` shows `h3` the part of a connection that is HTTP; `classify` sorts everything else to the session `table`;
//! `session` is what the rest of the host holds. Nothing here opens a session by itself: each request comes out of its
//! [`Connection`] as [`Requested`](super::Requested) and waits for a decision. The connections are anybody's: [`Acceptor`] serves those
//! of a program's own endpoint, `listener` those of ours, by the same way.

use std::sync::Arc;

use anyhow::Context as _;
use quinn::crypto::rustls::QuicServerConfig;
use wharf_proto::code::HttpCode;

use super::{Limits, phase::Shared};

mod allowance;
mod body;
mod classify;
mod client;
mod commands;
mod connect;
mod connection;
mod drivers;
mod filter;
mod handover;
mod hold;
mod inbox;
mod listener;
mod qpack;
mod request;
mod resets;
mod ride;
mod session;
mod settings;
mod stream;
mod streams;
mod table;
mod tap;
mod window;

pub(super) use client::connect;
pub use connection::Connection;
pub(super) use hold::Hold;
pub(crate) use listener::{Listener, bind};
pub use request::{Exchange, Incoming};
pub use session::Session;

const ALPN: &[u8] = b"h3";

/// Serves QUIC connections that another has accepted. Cloning it is cheap; all clones are one acceptor.
///
/// It starts no endpoint and accepts no connection by itself: see [`server_config`](Self::server_config) for what an
/// endpoint of `quinn` needs, and [`accept`](Self::accept) for what to do with its connections.
#[derive(Clone, Debug)]
pub struct Acceptor {
    shared: Arc<Shared>,
}

impl Acceptor {
    /// An acceptor whose connections keep these limits.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            shared: Arc::new(Shared::new(limits)),
        }
    }

    /// The QUIC settings that keep the limits towards peers, for TLS settings of one's own; clients get one address token
    /// with each connection. `h3` is added to the protocols (ALPN) of `tls` where it is not among them, and early data,
    /// which could be replayed, is taken off.
    ///
    /// # Errors
    ///
    /// When `tls` lacks a cipher suite that QUIC needs.
    pub fn server_config(
        &self,
        mut tls: rustls::ServerConfig,
    ) -> anyhow::Result<quinn::ServerConfig> {
        if !tls.alpn_protocols.iter().any(|protocol| protocol == ALPN) {
            tls.alpn_protocols.push(ALPN.to_vec());
        }
        tls.max_early_data_size = 0;
        let crypto = QuicServerConfig::try_from(tls).context("TLS 1.3 is needed for QUIC")?;
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        // A client uses one up for each connection, and gets another with that.
        let mut tokens = quinn::ValidationTokenConfig::default();
        tokens.sent(1);
        config.validation_token_config(tokens);
        config.transport_config(Arc::new(connection::transport_config(&self.shared.limits)));
        Ok(config)
    }

    /// Serves a connection that has agreed on `h3`. All of it belongs to the [`Connection`] returned, from its first
    /// stream on: the caller must neither open nor accept streams, nor read datagrams.
    ///
    /// The handshake may still be going on ([`quinn::Connecting::into_0rtt`]). Our SETTINGS then go out with our part of it,
    /// and a client asks for its session a round trip sooner. Nothing of the client's is read before its end.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn accept(&self, conn: quinn::Connection) -> Connection {
        Connection::new(conn, self.shared.clone(), Hold::default())
    }

    /// Sends GOAWAY on all connections, takes no new session on any of them, and asks the sessions that live to end,
    /// each once: their handlers by [`Event::Draining`](super::Event::Draining), their peers by WT_DRAIN_SESSION. Connections
    /// that come later are told as well.
    pub fn drain(&self) {
        self.shared.drain();
    }

    /// Closes the sessions that live, on all connections, by [`Closer::Host`](super::Closer::Host), and takes no new
    /// one. The connections stay.
    pub fn close_sessions(&self, code: u32, reason: &str) {
        self.shared.close_sessions(code, reason);
    }
}

/// A code as QUIC writes it.
fn quic_code(code: HttpCode) -> quinn::VarInt {
    quinn::VarInt::from_u64(code.into_inner()).unwrap_or(quinn::VarInt::MAX)
}
