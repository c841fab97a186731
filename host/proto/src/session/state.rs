//! Where a session is in its life.

/// The states, of which the first four are its life, and how one leads to another.
///
/// Each cell is the next state and, after the colon, what is transmitted. A dash means that nothing changes, and `same`
/// is what stands to the left.
///
/// | event \ state       | Open                 | LocalDraining      | PeerDraining        | BothDraining       | PeerClosed    | Closed |
/// |---------------------|----------------------|--------------------|---------------------|--------------------|---------------|--------|
/// | `drain`             | LocalDraining: DRAIN | -                  | BothDraining: DRAIN | -                  | -             | -      |
/// | `end` of the last   | -                    | Closed: CLOSE, FIN | -                   | Closed: CLOSE, FIN | -             | -      |
/// | `close`             | Closed: CLOSE, FIN   | same               | same                | same               | -             | -      |
/// | `fail`              | Closed: abort        | same               | same                | same               | -             | -      |
/// | DRAIN               | PeerDraining         | BothDraining       | -                   | -                  | Closed: abort | -      |
/// | CLOSE               | PeerClosed: FIN      | same               | same                | same               | Closed: abort | -      |
/// | another capsule     | -                    | -                  | -                   | -                  | Closed: abort | -      |
/// | a malformed capsule | Closed: abort        | same               | same                | same               | Closed: abort | -      |
/// | `receive_fin`       | Closed: FIN          | same               | same                | same               | Closed        | -      |
/// | `receive_abort`     | Closed: abort        | same               | same                | same               | Closed        | -      |
/// | `connection_lost`   | Closed               | same               | same                | same               | Closed        | -      |
///
/// `drain` without streams is followed by `end` of the last at once, and its DRAIN is not sent.
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
