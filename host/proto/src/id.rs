//! Stream and session ids; only valid ids can be built.

use std::fmt;

use thiserror::Error;

use crate::{
    code::{HttpCode, Violation},
    varint::{VarInt, VarIntOutOfRange},
};

/// An end of the connection.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The end that opened the connection.
    Client,
    /// The end that accepted it.
    Server,
}

impl Side {
    /// The other end.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// The directions in which a stream carries data.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Dir {
    /// Both.
    Bi,
    /// From its initiator only.
    Uni,
}

/// One for each kind of stream.
#[derive(Debug, Default)]
pub(crate) struct ByDir<T> {
    pub(crate) bi: T,
    pub(crate) uni: T,
}

impl<T> ByDir<T> {
    pub(crate) const fn get(&self, dir: Dir) -> &T {
        match dir {
            Dir::Bi => &self.bi,
            Dir::Uni => &self.uni,
        }
    }

    pub(crate) const fn get_mut(&mut self, dir: Dir) -> &mut T {
        match dir {
            Dir::Bi => &mut self.bi,
            Dir::Uni => &mut self.uni,
        }
    }
}

/// A stream's id, as in RFC 9000, "Stream Types and Identifiers".
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(VarInt);

impl StreamId {
    /// The id of the stream with that many before it; `None` if there cannot be so many.
    #[must_use]
    pub fn new(initiator: Side, dir: Dir, index: u64) -> Option<Self> {
        let initiator = u64::from(initiator == Side::Server);
        let dir = u64::from(dir == Dir::Uni) << 1;
        let id = index.checked_mul(4)? | dir | initiator;
        Self::try_from(id).ok()
    }

    /// The same stream, were it the other side's.
    #[must_use]
    pub const fn swapped(self) -> Self {
        Self(VarInt::saturating(self.0.into_inner() ^ 0b01))
    }

    /// The side that opened the stream.
    #[must_use]
    pub const fn initiator(self) -> Side {
        if self.0.into_inner() & 0b01 == 0 {
            Side::Client
        } else {
            Side::Server
        }
    }

    /// The stream's directions.
    #[must_use]
    pub const fn dir(self) -> Dir {
        if self.0.into_inner() & 0b10 == 0 {
            Dir::Bi
        } else {
            Dir::Uni
        }
    }

    /// How many streams of the same initiator and directions have lower ids.
    #[must_use]
    pub const fn index(self) -> u64 {
        self.0.into_inner() >> 2
    }
}

impl From<VarInt> for StreamId {
    fn from(id: VarInt) -> Self {
        Self(id)
    }
}

impl TryFrom<u64> for StreamId {
    type Error = VarIntOutOfRange;

    fn try_from(id: u64) -> Result<Self, Self::Error> {
        VarInt::try_from(id).map(Self)
    }
}

impl From<StreamId> for VarInt {
    fn from(id: StreamId) -> Self {
        id.0
    }
}

impl From<StreamId> for u64 {
    fn from(id: StreamId) -> Self {
        id.0.into_inner()
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A session's id: that of its CONNECT stream, which the client opened and which is bidirectional.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(StreamId);

impl SessionId {
    /// The quarter of the id, which begins each datagram of the session (RFC 9297, "HTTP/3 Datagrams").
    #[must_use]
    pub const fn quarter(self) -> VarInt {
        VarInt::saturating(self.0.index())
    }

    /// The session that a datagram's first integer names.
    ///
    /// # Errors
    ///
    /// If four times `quarter` is no stream id, which is so beyond 2^60-1.
    pub fn from_quarter(quarter: VarInt) -> Result<Self, InvalidSessionId> {
        quarter
            .into_inner()
            .checked_mul(4)
            .and_then(|id| StreamId::try_from(id).ok())
            .map(Self)
            .ok_or(InvalidSessionId::Quarter(quarter.into_inner()))
    }
}

impl TryFrom<StreamId> for SessionId {
    type Error = InvalidSessionId;

    fn try_from(id: StreamId) -> Result<Self, Self::Error> {
        match (id.initiator(), id.dir()) {
            (Side::Client, Dir::Bi) => Ok(Self(id)),
            _ => Err(InvalidSessionId::Stream(id.into())),
        }
    }
}

impl TryFrom<VarInt> for SessionId {
    type Error = InvalidSessionId;

    fn try_from(id: VarInt) -> Result<Self, Self::Error> {
        StreamId::from(id).try_into()
    }
}

impl TryFrom<u64> for SessionId {
    type Error = InvalidSessionId;

    fn try_from(id: u64) -> Result<Self, Self::Error> {
        StreamId::try_from(id)
            .map_err(|VarIntOutOfRange(id)| InvalidSessionId::Stream(id))?
            .try_into()
    }
}

impl From<SessionId> for StreamId {
    fn from(id: SessionId) -> Self {
        id.0
    }
}

impl From<SessionId> for VarInt {
    fn from(id: SessionId) -> Self {
        id.0.into()
    }
}

impl From<SessionId> for u64 {
    fn from(id: SessionId) -> Self {
        id.0.into()
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number names no session. From the wire, it is an error of the connection: see [`Violation`].
#[derive(Copy, Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidSessionId {
    /// The id of no client-initiated bidirectional stream.
    #[error("{0} is not the id of a client-initiated bidirectional stream")]
    Stream(u64),
    /// The quarter of no stream id.
    #[error("{0} is not a quarter of a stream id")]
    Quarter(u64),
}

impl From<InvalidSessionId> for Violation {
    fn from(id: InvalidSessionId) -> Self {
        match id {
            // WT-H3, "WebTransport Features".
            InvalidSessionId::Stream(_) => Self {
                code: HttpCode::H3_ID_ERROR,
                reason: "session id of no client-initiated bidirectional stream",
            },
            // RFC 9297, "HTTP/3 Datagrams".
            InvalidSessionId::Quarter(_) => Self {
                code: HttpCode::H3_DATAGRAM_ERROR,
                reason: "quarter stream id beyond 2^60-1",
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUARTER_MAX: u64 = (1 << 60) - 1;

    #[test]
    fn the_low_bits_of_a_stream_id_say_who_opened_it_and_its_directions() {
        let rows = [
            (0, Side::Client, Dir::Bi, 0),
            (1, Side::Server, Dir::Bi, 0),
            (2, Side::Client, Dir::Uni, 0),
            (3, Side::Server, Dir::Uni, 0),
            (4, Side::Client, Dir::Bi, 1),
            (
                VarInt::MAX.into_inner(),
                Side::Server,
                Dir::Uni,
                QUARTER_MAX,
            ),
        ];
        for (id, side, dir, index) in rows {
            let id = StreamId::try_from(id).unwrap();
            assert_eq!(
                (id.initiator(), id.dir(), id.index()),
                (side, dir, index),
                "{id}"
            );
        }
    }

    /// RFC 9000, "Stream Types and Identifiers".
    #[test]
    fn every_id_has_one_initiator_and_one_kind() {
        let ids = (0..10_000).chain((0..62).map(|shift| VarInt::MAX.into_inner() >> shift));
        for id in ids {
            let stream = StreamId::try_from(id).unwrap();
            assert_eq!(stream.initiator() == Side::Client, id & 0b01 == 0, "{id}");
            assert_eq!(stream.dir() == Dir::Bi, id & 0b10 == 0, "{id}");
            assert_eq!(u64::from(stream), id);
            assert_eq!(stream.index(), id / 4);
        }
    }

    #[test]
    fn only_a_client_initiated_bidirectional_stream_names_a_session() {
        for id in 0..64 {
            let session = SessionId::try_from(id);
            if id % 4 == 0 {
                assert_eq!(u64::from(session.unwrap()), id);
            } else {
                assert_eq!(session, Err(InvalidSessionId::Stream(id)));
            }
        }
        assert!(SessionId::try_from(1u64 << 62).is_err());
    }

    #[test]
    fn a_quarter_names_the_session_it_came_from() {
        for quarter in [0, 1, 63, 64, QUARTER_MAX] {
            let quarter = VarInt::try_from(quarter).unwrap();
            assert_eq!(SessionId::from_quarter(quarter).unwrap().quarter(), quarter);
        }
    }

    #[test]
    fn a_quarter_beyond_the_last_stream_is_a_datagram_error() {
        for quarter in [1 << 60, VarInt::MAX.into_inner()] {
            let invalid = SessionId::from_quarter(VarInt::try_from(quarter).unwrap()).unwrap_err();
            assert_eq!(Violation::from(invalid).code, HttpCode::H3_DATAGRAM_ERROR);
        }
    }
}
