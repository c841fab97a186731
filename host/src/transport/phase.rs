//! What the host tells all connections of one acceptor: go on, drain, close.

use std::sync::Arc;

use tokio::sync::watch;

use super::Limits;

/// What the host tells all of its connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Phase {
    /// New sessions are welcome.
    #[default]
    Open,
    /// The peer of one connection is about to leave: its GOAWAY asks the sessions to end.
    PeerDraining,
    /// No new sessions; those that live are asked to end, and their peers with them.
    Draining,
    /// Those that live are closed, with this code and reason.
    Closing(u32, String),
}

/// What all connections of an acceptor share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) limits: Arc<Limits>,
    pub(super) phase: watch::Sender<Phase>,
}

impl Shared {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits: Arc::new(limits),
            phase: watch::Sender::default(),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        *self.phase.borrow() == Phase::Open
    }

    pub(super) fn drain(&self) {
        self.phase.send_replace(Phase::Draining);
    }

    pub(super) fn close_sessions(&self, code: u32, reason: &str) {
        self.phase
            .send_replace(Phase::Closing(code, reason.to_owned()));
    }
}
