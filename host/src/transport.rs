//! The only session type that the rest of the host sees, and what it can say and do.
//!
//! A [`Session`] is driven by one task, which asks it for the next [`Event`] and may call its commands at any time
//! between two events. Commands never wait: each acts at once or says why it did not. Nothing here names an HTTP
//! version's machinery, and outside this module nobody knows which HTTP version a session uses.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use wharf_proto::{buffer::SendLimits, mux, session as proto};

pub mod client;
mod exporter;
mod gate;
pub mod h2;
pub mod h3;
mod head;
mod listener;
mod phase;
mod session;
pub mod tls;

pub use gate::Gate;
pub(crate) use gate::Network;
pub(crate) use listener::{Begin, Listener};
pub use session::{Exchange, Incoming, Session, Stopper};
pub use wharf_proto::{
    capsule::FinOrder,
    contract::{Closed, Closer, CommandError, Event, Info},
    id::{Dir, StreamId},
};

/// What a peer, or a handler, may make the host hold.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// In each session, unless [`Incoming::limit`] gives it others. A peer is told of the credit among them before it asks
    /// for a session, so that is the least that each has.
    pub session: SessionLimits,
    /// Sessions on one connection. Default 64.
    pub sessions_per_connection: u32,
    /// Bytes that a peer may send ahead of the handler on one stream. Default 16 MiB, so that one stream suffices.
    pub stream_receive_credit: u32,
    /// Bytes that QUIC holds until the peer has acknowledged them, per connection. Default 16 MiB, as above. Over HTTP/2
    /// that is the kernel's to hold.
    pub connection_send_window: u64,
    /// What the system is asked to hold of each UDP socket until it is read, in bytes; packets are lost beyond. It may give
    /// less, on Linux no more than `net.core.rmem_max`. Default 2 MiB.
    pub udp_receive_buffer: usize,
    /// What small DATA frames of HTTP/2 may cost in memory until their sessions have taken them, in bytes, per connection; a
    /// peer that goes beyond loses its connection. Default 16 MiB: some 60 000 frames at once.
    pub data_frame_budget: usize,
    /// Connections of a server at once, of both HTTP versions; the next is refused. Default 10 000. This and the four below
    /// are kept where a [`Server`](crate::server::Server) listens, not for connections that a program accepts by itself.
    pub connections: usize,
    /// Connections of one address of peers, or of one /64 of IPv6; the next is refused. Default 256.
    pub connections_per_ip: usize,
    /// Handshakes per second that one address, or one /64 of IPv6, may begin, and as many at once; those beyond are not
    /// answered over UDP, so that clients try again by themselves, and closed over TCP. Default 50.
    pub handshakes_per_ip: u32,
    /// Handshakes under way at once; those beyond go unanswered, as above. From half of that on, a peer over UDP must first
    /// prove that its address is its own. Default 1024.
    pub handshakes: usize,
    /// Addresses without connections that are remembered for the rate of their handshakes, for a second at most; others may
    /// not connect meanwhile. Default 16 384.
    pub addresses: usize,
    /// Streams of a connection besides those of sessions that a peer may hold open, of each kind: control and QPACK streams,
    /// ordinary requests. Default 32.
    pub http_streams: u32,
    /// Requests of a connection that wait to be looked at, at least one; those beyond wait on their streams. Default 16.
    pub requests: usize,
    /// Streams of a connection whose header has not come; the next is refused. Over HTTP/3 only. Default 512: those that a
    /// session may have, which show all at once when what comes first is the last one's.
    pub pending_streams: usize,
    /// Streams that arrived before their session, per connection; the next is refused. Default 16.
    pub early_streams: usize,
    /// Datagrams that arrived before their session, per connection; the oldest is dropped beyond. Default 16.
    pub early_datagrams: usize,
    /// The largest request field section, in bytes as RFC 9114 counts them ("Header Size Constraints"). Default 16 KiB.
    pub field_section: u32,
    /// How long a peer may take for its SETTINGS, and for the header of a stream it opened. Default 5 s.
    pub setup_timeout: Duration,
    /// How long a connection may be silent before it counts as lost. Default 30 s.
    pub idle_timeout: Duration,
    /// How often a silent connection is probed. Default 10 s.
    pub keep_alive: Duration,
    /// How long a closed session may take to tell its peer. Default 5 s.
    pub close_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            session: SessionLimits::default(),
            sessions_per_connection: 64,
            stream_receive_credit: 16 << 20,
            connection_send_window: 16 << 20,
            udp_receive_buffer: 2 << 20,
            data_frame_budget: 16 << 20,
            connections: 10_000,
            connections_per_ip: 256,
            handshakes_per_ip: 50,
            handshakes: 1024,
            addresses: 16_384,
            http_streams: 32,
            requests: 16,
            pending_streams: 512,
            early_streams: 16,
            early_datagrams: 16,
            field_section: 16 << 10,
            setup_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(30),
            keep_alive: Duration::from_secs(10),
            close_timeout: Duration::from_secs(5),
        }
    }
}

/// What a peer, or a handler, may make one session hold.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionLimits {
    /// Streams of each kind that a peer may hold open. Default 256.
    pub streams_per_kind: u32,
    /// Bytes that a peer may send ahead of the handler, over all streams. Default 16 MiB: what is on its way at 1 Gbit/s and
    /// 100 ms. Over HTTP/3 a connection begins with 1 MiB of it, and has more as its path, or a handler that is behind, needs it.
    pub session_receive_credit: u32,
    /// Bytes taken from the handler that the transport has not accepted yet, per stream. Default 256 KiB.
    pub stream_send_buffer: usize,
    /// Bytes taken from the handler that the transport has not accepted yet, over all streams. Default 4 MiB.
    pub session_send_buffer: usize,
    /// Whether bytes of a stream are given out only while its send buffer, and the session's, have room for as many: a
    /// handler that echoes then never finds them full. One that sends much by itself, to a peer that echoes, must not have
    /// it so, or each end waits for the other. Default true.
    pub reads_wait_for_room: bool,
    /// Datagrams that wait for the handler; the oldest is dropped beyond. Default 256.
    pub datagrams_in: usize,
    /// Datagrams that wait for the transport; the oldest is dropped beyond. Default 256.
    pub datagrams_out: usize,
    /// Streams that the handler has reset so soon that their header may not have arrived, and whose reset waits for that; the
    /// next is reset at once. Over HTTP/3 only. Default 256.
    pub delayed_resets: usize,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            streams_per_kind: 256,
            session_receive_credit: 16 << 20,
            stream_send_buffer: 256 << 10,
            session_send_buffer: 4 << 20,
            reads_wait_for_room: true,
            datagrams_in: 256,
            datagrams_out: 256,
            delayed_resets: 256,
        }
    }
}

impl SessionLimits {
    /// The lower of each, and whether reads wait as here.
    #[must_use]
    pub(crate) fn lowered_to(&self, other: &Self) -> Self {
        Self {
            streams_per_kind: self.streams_per_kind.min(other.streams_per_kind),
            session_receive_credit: self
                .session_receive_credit
                .min(other.session_receive_credit),
            stream_send_buffer: self.stream_send_buffer.min(other.stream_send_buffer),
            session_send_buffer: self.session_send_buffer.min(other.session_send_buffer),
            reads_wait_for_room: self.reads_wait_for_room,
            datagrams_in: self.datagrams_in.min(other.datagrams_in),
            datagrams_out: self.datagrams_out.min(other.datagrams_out),
            delayed_resets: self.delayed_resets.min(other.delayed_resets),
        }
    }

    /// These limits for a peer that was told of others' credit: of that nothing is taken back.
    #[must_use]
    pub(crate) fn beside(mut self, told: &Self) -> Self {
        self.streams_per_kind = self.streams_per_kind.max(told.streams_per_kind);
        self.session_receive_credit = self.session_receive_credit.max(told.session_receive_credit);
        self
    }

    /// What a session grants its peer.
    pub(crate) fn grants(&self) -> proto::Limits {
        proto::Limits {
            data: self.session_receive_credit.into(),
            streams_bidi: self.streams_per_kind.into(),
            streams_uni: self.streams_per_kind.into(),
        }
    }

    pub(crate) const fn send_limits(&self) -> SendLimits {
        SendLimits {
            stream: self.stream_send_buffer,
            session: self.session_send_buffer,
            room: usize::MAX,
        }
    }

    /// For a session of the capsule flavour.
    pub(crate) const fn mux(&self) -> mux::Limits {
        mux::Limits {
            send: self.send_limits(),
            reads_wait_for_room: self.reads_wait_for_room,
            streams_per_kind: self.streams_per_kind,
            datagrams_in: self.datagrams_in,
            datagrams_out: self.datagrams_out,
            datagram_bytes: DATAGRAM_MAX,
        }
    }
}

/// The longest datagram over HTTP/2, where no path limits it.
const DATAGRAM_MAX: usize = u16::MAX as usize;

/// Deviations from the drafts that are borne with, where a peer is known for them. Over HTTP/2 only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quirks {
    /// The client numbers its streams as if it were the server, and may grant credit for streams on which it receives
    /// nothing: `@fails-components/webtransport` does both.
    pub swapped_stream_ids: bool,
    /// Which type of WT_STREAM ends a stream.
    pub fin_order: FinOrder,
}

/// The HTTP version that carries a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HttpVersion {
    /// HTTP/3, over QUIC.
    Http3,
    /// HTTP/2, over TLS and TCP.
    Http2,
}

impl HttpVersion {
    /// The word for it: `http3` or `http2`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http3 => "http3",
            Self::Http2 => "http2",
        }
    }
}

impl fmt::Display for HttpVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which end of a session this program is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It was asked for the session.
    Server,
    /// It asked for the session.
    Client,
}

/// An extended CONNECT request, as it came, or as it was sent.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Request {
    /// What is asked for.
    pub connect: wharf_proto::connect::Request,
    /// The peer's address.
    pub peer: SocketAddr,
    /// The name that the peer has asked for in TLS (RFC 6066, "Server Name Indication"): `None` where it connects to an
    /// address, and at a client.
    pub server_name: Option<Arc<str>>,
    /// The HTTP version of its connection.
    pub http: HttpVersion,
    /// Which end we are.
    pub role: Role,
    /// The draft that the session follows, for the log.
    pub draft: &'static str,
}

/// The response that begins, or refuses, a session.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Response {
    /// The status: 200 to 299 begins the session.
    pub status: u16,
    /// Fields to add.
    pub fields: Vec<(String, Bytes)>,
    /// The application protocol chosen.
    pub protocol: Option<String>,
}

impl Response {
    /// A response with that status and nothing more.
    #[must_use]
    pub fn new(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }
}

/// A request whose head is there. Dropping it rejects it.
#[derive(Debug)]
#[non_exhaustive]
pub enum Requested {
    /// An extended CONNECT that asks for a session.
    Session(Incoming),
    /// Any other request.
    Http(Exchange),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_default_one_stream_fills_a_path_of_1_gbit_and_100_ms() {
        let in_flight = 1_000_000_000 / 8 / 10;
        let limits = Limits::default();
        assert!(u64::from(limits.stream_receive_credit) >= in_flight);
        assert!(u64::from(limits.session.session_receive_credit) >= in_flight);
        assert!(limits.connection_send_window >= in_flight);
    }
}
