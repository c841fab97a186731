//! WebTransport over HTTP/2: TLS over TCP in, sessions of the capsule flavour out.
//!
//! `h2` speaks HTTP; `tap`, between it and TLS, adds the settings of WebTransport to its first SETTINGS frame and reads the
//! peer's, which `h2` does not show. A session is `wharf_proto`'s `Mux` over the body of its CONNECT stream. The connections
//! are anybody's: [`Acceptor`] serves those of a program's own listener, `listener` those of ours, by the same way.

use std::{net::SocketAddr, sync::Arc};

use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::{Limits, phase::Shared};

mod alive;
mod client;
mod connection;
mod listener;
mod request;
mod session;
mod settings;
mod tap;

pub use client::Client;
pub(super) use client::dial;
pub use connection::Connection;
pub(crate) use listener::{Listener, bind};
pub use request::{Exchange, Incoming};
pub use session::Session;

/// The protocol's name in TLS.
const ALPN: &[u8] = b"h2";

/// Serves TLS connections that another has accepted. Cloning it is cheap; all clones are one acceptor.
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

    /// The TLS settings that a listener needs, from settings of one's own: `h2` is added to the protocols (ALPN) where it
    /// is not among them, and early data, which could be replayed, is taken off. It must offer TLS 1.3 only (WT-H2,
    /// "Requirements on TLS Usage", asks for that or for an extension of TLS 1.2).
    #[must_use]
    pub fn tls_config(&self, mut tls: rustls::ServerConfig) -> rustls::ServerConfig {
        if !tls.alpn_protocols.iter().any(|protocol| protocol == ALPN) {
            tls.alpn_protocols.push(ALPN.to_vec());
        }
        tls.max_early_data_size = 0;
        tls
    }

    /// Serves a connection that has agreed on `h2`, of that peer.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn accept(&self, tls: TlsStream<TcpStream>, peer: SocketAddr) -> Connection {
        Connection::new(tls, peer, self.shared.clone())
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
