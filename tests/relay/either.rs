//! A path of the network for either HTTP version, which can be cut without a word to either end.

use std::net::SocketAddr;

use super::{Relay, tcp::TcpRelay};
use crate::peer::Http;

/// A relay of what carries that version. Dropping it may tell the ends of a TCP connection that it is over.
pub(crate) enum AnyRelay {
    Udp(Relay),
    Tcp(TcpRelay),
}

impl AnyRelay {
    /// A relay that forwards all, in order.
    pub(crate) async fn to(http: Http, server: SocketAddr) -> Self {
        match http {
            Http::Http3 => Self::Udp(Relay::to(server).await),
            Http::Http2 => Self::Tcp(TcpRelay::to(server)),
        }
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        match self {
            Self::Udp(relay) => relay.address,
            Self::Tcp(relay) => relay.address,
        }
    }

    /// Cuts all clients off.
    pub(crate) fn cut(&self) {
        match self {
            Self::Udp(relay) => relay.cut(),
            Self::Tcp(relay) => relay.cut(),
        }
    }
}
