//! What a session says to who holds it.

use bytes::Bytes;
use thiserror::Error;

use crate::{
    code::HttpCode,
    contract::{self, Closer},
    id::Dir,
};

/// An end of the session, as we see it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// We.
    Local,
    /// The peer, or the network.
    Peer,
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// The code that was given; 0 if none was.
    pub code: u32,
    /// The reason that was given, at most [`REASON_BYTES_MAX`](crate::capsule::REASON_BYTES_MAX) bytes.
    pub reason: String,
    /// Who ended it.
    pub by: By,
    /// Whether it was closed in an orderly way, and not aborted or lost.
    pub clean: bool,
}

impl Closed {
    /// What the application is told. An end of our own was the host's wish where `by_host`, and where it was not clean: then
    /// the peer broke a rule.
    #[must_use]
    pub fn told(self, by_host: bool) -> contract::Closed {
        let by = match self.by {
            By::Peer => Closer::Peer,
            By::Local if by_host || !self.clean => Closer::Host,
            By::Local => Closer::Local,
        };
        contract::Closed {
            code: self.code,
            reason: self.reason,
            by,
            clean: self.clean,
        }
    }
}

/// What has happened to a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The peer asks for the session to be ended soon. Told once; everything goes on.
    Draining,
    /// A datagram came in a capsule.
    Datagram(Bytes),
    /// Bytes may be sent again: the peer raised its limit, of which nothing was left.
    DataCredit,
    /// Streams of the kind may be opened again: the peer raised its limit, of which nothing was left.
    StreamCredit(Dir),
    /// The session is over. The last event, and always told, exactly once.
    Closed(Closed),
}

/// What to do to the CONNECT stream, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transmit {
    /// Send these bytes.
    Capsules(Bytes),
    /// Finish the sending direction.
    Fin,
    /// Reset the sending direction and stop the receiving one, with this code. May follow a [`Fin`](Self::Fin).
    Abort(HttpCode),
}

/// Why no stream can be opened.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Error)]
pub enum OpenError {
    /// The peer's limit is reached; [`Event::StreamCredit`] will tell when it is raised.
    #[error("the peer's limit on streams is reached")]
    Limit,
    /// We are draining.
    #[error("the session is draining")]
    Draining,
    /// The session is over.
    #[error("the session is closed")]
    Closed,
}
