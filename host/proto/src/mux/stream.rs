//! One stream of a capsule session: its two directions, and which capsules are due for it.

use super::Turn;
use crate::{
    buffer::{ReceiveBuffer, SendBuffer},
    contract::Half,
    credit::{ReceiveCredit, SendCredit},
};

/// A stream that is not over.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own: on which lists the stream is, and what came"
)]
pub(super) struct Stream {
    pub(super) by_peer: bool,
    pub(super) send: Half<Sending>,
    pub(super) recv: Half<Receiving>,
    pub(super) receive_credit: ReceiveCredit,
    /// The peer's FIN or reset came, whether or not it was told.
    pub(super) peer_ended: bool,
    /// The peer's WT_STOP_SENDING came.
    pub(super) peer_stopped: bool,
    /// Bytes sent in all: the reliable size of a reset.
    pub(super) sent: u64,
    pub(super) priority: i32,
    /// The peer does not know of the stream yet.
    pub(super) announce: bool,
    /// A WT_RESET_STREAM with this code is due.
    pub(super) reset: Option<u32>,
    /// A WT_STOP_SENDING with this code is due.
    pub(super) stop: Option<u32>,
    /// That it is over is being told.
    pub(super) released: bool,
    pub(super) listed_readable: bool,
    pub(super) listed_writable: bool,
    pub(super) listed_starved: bool,
    pub(super) listed_news: bool,
    /// Its turn to send data.
    pub(super) turn: Option<Turn>,
}

/// A sending direction that goes on.
#[derive(Debug)]
pub(super) struct Sending {
    pub(super) buffer: SendBuffer,
    pub(super) credit: SendCredit,
}

/// A receiving direction that goes on.
#[derive(Debug, Default)]
pub(super) struct Receiving {
    pub(super) buffer: ReceiveBuffer,
    /// How it ends after what is in the buffer.
    pub(super) end: Option<End>,
}

/// How the peer ended a direction.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    Fin,
    Reset(u32),
}

impl Sending {
    pub(super) fn new(credit: SendCredit) -> Self {
        Self {
            buffer: SendBuffer::default(),
            credit,
        }
    }

    /// Whether FIN is to go without data before it.
    pub(super) fn fin_is_due(&self) -> bool {
        self.buffer.has_fin() && self.buffer.is_empty()
    }
}

impl Stream {
    /// Whether both directions are over at both ends, and the peer was told all there is to tell.
    pub(super) fn is_over(&self) -> bool {
        let received = matches!(self.recv, Half::Absent) || self.peer_ended && self.recv.is_over();
        received && self.send.is_over() && self.reset.is_none() && self.stop.is_none()
    }

    /// Whether capsules without data are due.
    pub(super) fn has_news(&self) -> bool {
        let sending = match &self.send {
            Half::Open(sending) => sending.fin_is_due() || sending.credit.has_blocked(),
            Half::Absent | Half::Finished | Half::Reset => false,
        };
        let given_up = self.reset.is_some() || self.stop.is_some();
        self.announce || given_up || sending || self.grants()
    }

    /// Whether a higher limit is to be told.
    pub(super) fn grants(&self) -> bool {
        !self.peer_ended && !self.recv.is_over() && self.receive_credit.has_update()
    }
}

impl Default for Stream {
    fn default() -> Self {
        Self {
            by_peer: false,
            send: Half::Absent,
            recv: Half::Absent,
            receive_credit: ReceiveCredit::new(0, 0),
            peer_ended: false,
            peer_stopped: false,
            sent: 0,
            priority: 0,
            announce: false,
            reset: None,
            stop: None,
            released: false,
            listed_readable: false,
            listed_writable: false,
            listed_starved: false,
            listed_news: false,
            turn: None,
        }
    }
}
