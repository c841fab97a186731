//! Where a session is in its life, and what is left to say of it.

use crate::code::HttpCode;

/// The states of the table in the documentation of [`super`]; the first four are a session's life.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    Open,
    LocalDraining,
    PeerDraining,
    BothDraining,
    /// WT_CLOSE_SESSION was received: only the stream's end may follow it.
    PeerClosed,
    /// What still comes is of no interest.
    Closed,
}

impl State {
    pub(super) const fn is_over(self) -> bool {
        matches!(self, Self::PeerClosed | Self::Closed)
    }

    pub(super) const fn is_draining_locally(self) -> bool {
        matches!(self, Self::LocalDraining | Self::BothDraining)
    }

    /// The state after we begin to drain, if that is a change.
    pub(super) const fn drain(self) -> Option<Self> {
        match self {
            Self::Open => Some(Self::LocalDraining),
            Self::PeerDraining => Some(Self::BothDraining),
            Self::LocalDraining | Self::BothDraining | Self::PeerClosed | Self::Closed => None,
        }
    }

    /// The state after the peer begins to drain, if that is a change.
    pub(super) const fn peer_drains(self) -> Option<Self> {
        match self {
            Self::Open => Some(Self::PeerDraining),
            Self::LocalDraining => Some(Self::BothDraining),
            Self::PeerDraining | Self::BothDraining | Self::PeerClosed | Self::Closed => None,
        }
    }
}

/// How far the peer was asked, by WT_DRAIN_SESSION, to end the session.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Drain {
    #[default]
    Unasked,
    Due,
    Sent,
}

/// What remains to be said about the session's end.
#[derive(Debug, Default)]
pub(super) enum Ending {
    #[default]
    Nothing,
    Close {
        code: u32,
        reason: String,
    },
    Fin,
    Abort(HttpCode),
}
