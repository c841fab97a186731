//! The only session type that the rest of the host sees, and what it can say and do.
//!
//! A [`Session`] is driven by one task, which asks it for the next [`Event`] and may call its commands at any time
//! between two events. Commands never wait: each acts at once or says why it did not. Nothing here names an HTTP
//! version's machinery, and outside this module nobody knows which HTTP version a session uses.

use std::{fmt, net::SocketAddr, time::Duration};

use bytes::Bytes;

pub mod client;
pub mod h3;
pub mod tls;

pub(crate) use h3::Listener;
pub use h3::{Exchange, Incoming, Requested, Session};
pub use wharf_proto::id::{Dir, StreamId};

/// What a peer, or a handler, may make a session hold.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Sessions on one connection. Default 64.
    pub sessions_per_connection: u32,
    /// Streams of each kind that a peer may hold open in one session. Default 256.
    pub streams_per_kind: u32,
    /// Bytes that a peer may send ahead of the handler, over all streams of a session. Default 16 MiB: what is on its way
    /// at 1 Gbit/s and 100 ms.
    pub session_receive_credit: u32,
    /// Bytes that a peer may send ahead of the handler on one stream. Default 16 MiB, so that one stream suffices.
    pub stream_receive_credit: u32,
    /// Bytes that QUIC holds until the peer has acknowledged them, per connection. Default 16 MiB, as above.
    pub connection_send_window: u64,
    /// Bytes taken from the handler that the transport has not accepted yet, per stream. Default 256 KiB.
    pub stream_send_buffer: usize,
    /// Bytes taken from the handler that the transport has not accepted yet, per session. Default 4 MiB.
    pub session_send_buffer: usize,
    /// Whether bytes of a stream are given out only while its send buffer, and the session's, have room for as many: a
    /// handler that echoes then never finds them full. One that sends much by itself, to a peer that echoes, must not have
    /// it so, or each end waits for the other. Default true.
    pub reads_wait_for_room: bool,
    /// Datagrams that wait for the handler, per session; the oldest is dropped beyond. Default 256.
    pub datagrams_in: usize,
    /// Datagrams that wait for the transport, per session; the oldest is dropped beyond. Default 256.
    pub datagrams_out: usize,
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
            sessions_per_connection: 64,
            streams_per_kind: 256,
            session_receive_credit: 16 << 20,
            stream_receive_credit: 16 << 20,
            connection_send_window: 16 << 20,
            stream_send_buffer: 256 << 10,
            session_send_buffer: 4 << 20,
            reads_wait_for_room: true,
            datagrams_in: 256,
            datagrams_out: 256,
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

/// The HTTP version that carries a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HttpVersion {
    /// HTTP/3, over QUIC.
    Http3,
}

impl fmt::Display for HttpVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http3 => "http3",
        })
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

/// What happened to a session.
///
/// The events of one stream come in the order of the wire, [`Opened`](Self::Opened) first for a peer's stream and
/// [`StreamClosed`](Self::StreamClosed) last; [`Closed`](Self::Closed) is the session's last, exactly once.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The peer opened a stream.
    Opened(StreamId),
    /// Bytes came in on a stream. Asking for the next event gives their credit back to the peer.
    Data {
        /// The stream.
        stream: StreamId,
        /// The bytes; empty only where `fin` is set.
        data: Bytes,
        /// Whether these are the last.
        fin: bool,
    },
    /// The peer gave up sending, with a code where it is an application's.
    Reset(StreamId, Option<u32>),
    /// The peer gave up reading, with a code where it is an application's; the sending direction has been reset.
    Stopped(StreamId, Option<u32>),
    /// A stream that refused bytes has room again.
    Writable(StreamId),
    /// Both directions of a stream are over.
    StreamClosed(StreamId),
    /// A datagram came in.
    Datagram(Bytes),
    /// The peer, or the host, asks that the session be brought to its end.
    Draining,
    /// The session is over.
    Closed(Closed),
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Closed {
    /// The application's code, or one of the host's (`close`).
    pub code: u32,
    /// The reason, at most 1024 bytes.
    pub reason: String,
    /// Who ended it.
    pub by: Closer,
    /// Whether both ends know.
    pub clean: bool,
}

/// Who ended a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closer {
    /// The handler.
    Local,
    /// The peer, or the loss of the connection to it.
    Peer,
    /// The host.
    Host,
}

/// Why a command did nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CommandError {
    /// No such stream, or not any more.
    UnknownStream,
    /// The stream has no such direction.
    WrongDirection,
    /// The direction ended with FIN.
    Finished,
    /// The direction was reset or stopped.
    Reset,
    /// The send buffer has no room; [`Event::Writable`] follows.
    WouldBlock,
    /// Neither peer nor host allows another stream now.
    StreamLimit,
    /// The session is draining by its own wish.
    Draining,
    /// The session is over.
    Closed,
    /// The datagram is larger than the path carries.
    TooLarge,
    /// The transport cannot do this.
    Unsupported,
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownStream => "unknown stream",
            Self::WrongDirection => "the stream has no such direction",
            Self::Finished => "the direction is finished",
            Self::Reset => "the direction was reset",
            Self::WouldBlock => "the send buffer is full",
            Self::StreamLimit => "no further stream is allowed",
            Self::Draining => "the session is draining",
            Self::Closed => "the session is over",
            Self::TooLarge => "the datagram is too large",
            Self::Unsupported => "the transport cannot do this",
        })
    }
}

impl std::error::Error for CommandError {}

/// A snapshot of a session. Credits are `None` where there is no limit.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Info {
    /// Open bidirectional streams.
    pub streams_bidi: u32,
    /// Open unidirectional streams.
    pub streams_uni: u32,
    /// Bidirectional streams that may still be opened from here.
    pub open_credit_bidi: Option<u64>,
    /// Unidirectional streams that may still be opened from here.
    pub open_credit_uni: Option<u64>,
    /// Bytes that may still be sent.
    pub send_credit: Option<u64>,
    /// Bytes that the peer may still send.
    pub receive_credit: Option<u64>,
    /// Bytes taken and not yet accepted by the transport.
    pub send_buffered: u64,
    /// Stream bytes handed to the transport.
    pub bytes_sent: u64,
    /// Stream bytes given out as events.
    pub bytes_received: u64,
    /// Datagrams handed to the transport.
    pub datagrams_sent: u64,
    /// Datagrams given out as events.
    pub datagrams_received: u64,
    /// Datagrams dropped on the way out.
    pub datagrams_dropped_out: u64,
    /// Datagrams dropped on the way in.
    pub datagrams_dropped_in: u64,
    /// The round-trip time.
    pub rtt: Option<Duration>,
    /// The largest datagram, in bytes of payload.
    pub max_datagram_size: u32,
    /// Whether datagrams always arrive.
    pub datagrams_reliable: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_default_one_stream_fills_a_path_of_1_gbit_and_100_ms() {
        let in_flight = 1_000_000_000 / 8 / 10;
        let limits = Limits::default();
        assert!(u64::from(limits.stream_receive_credit) >= in_flight);
        assert!(u64::from(limits.session_receive_credit) >= in_flight);
        assert!(limits.connection_send_window >= in_flight);
    }
}
