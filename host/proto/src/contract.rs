//! What an application is told of its session, and why a command of its did nothing: the same for both flavours.

use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;

use crate::id::StreamId;

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
    /// The application's code, or one of the host's.
    pub code: u32,
    /// The reason, at most 1024 bytes.
    pub reason: String,
    /// Who ended it.
    pub by: Closer,
    /// Whether both ends know.
    pub clean: bool,
}

/// Who ended a session.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Closer {
    /// The handler.
    Local,
    /// The peer, or the loss of the connection to it.
    Peer,
    /// The host.
    Host,
}

/// Why a command did nothing.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CommandError {
    /// No such stream, or not any more.
    #[error("unknown stream")]
    UnknownStream,
    /// The stream has no such direction.
    #[error("the stream has no such direction")]
    WrongDirection,
    /// The direction ended with FIN.
    #[error("the direction is finished")]
    Finished,
    /// The direction was reset or stopped.
    #[error("the direction was reset")]
    Reset,
    /// The send buffer has no room; [`Event::Writable`] follows.
    #[error("the send buffer is full")]
    WouldBlock,
    /// Neither peer nor host allows another stream now.
    #[error("no further stream is allowed")]
    StreamLimit,
    /// The session is draining by its own wish.
    #[error("the session is draining")]
    Draining,
    /// The session is over.
    #[error("the session is over")]
    Closed,
    /// The datagram is larger than the path carries.
    #[error("the datagram is too large")]
    TooLarge,
    /// The transport cannot do this.
    #[error("the transport cannot do this")]
    Unsupported,
}

/// A direction of a stream, and how it ended.
#[derive(Debug)]
pub enum Half<T> {
    /// The stream has no such direction.
    Absent,
    /// It goes on.
    Open(T),
    /// It ended with FIN.
    Finished,
    /// One of both ends gave it up.
    Reset,
}

impl<T> Half<T> {
    /// Whether nothing more can happen in it.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        !matches!(self, Self::Open(_))
    }

    /// What goes on.
    ///
    /// # Errors
    ///
    /// How the direction is over, where it is.
    pub const fn open(&mut self) -> Result<&mut T, CommandError> {
        match self {
            Self::Open(open) => Ok(open),
            Self::Absent => Err(CommandError::WrongDirection),
            Self::Finished => Err(CommandError::Finished),
            Self::Reset => Err(CommandError::Reset),
        }
    }
}

/// A snapshot of a session. Credits are `None` where there is no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
