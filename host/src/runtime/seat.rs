//! A place for one session in an instance: in one of its own, or in one that it shares.

use std::time::Duration;

use super::{Component, Exit, Guest, Label, shared};
use crate::transport::{Request, Response, Session};

/// A place for one session. Dropping it gives it up.
#[derive(Debug)]
pub struct Seat(Place);

#[derive(Debug)]
enum Place {
    Own(Box<Guest>),
    Shared(shared::Seat),
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unseated {
    /// No instance could be made; the log says why.
    Failed(Exit),
    /// The instances that sessions share trap one after the other, and none is made for so long.
    Resting(Duration),
}

impl Component {
    /// A place for a session in an instance: by [`Terms::scope`](super::Terms::scope) one of its own, or the one that all
    /// share, which is made anew after a trap.
    ///
    /// # Errors
    ///
    /// When an instance cannot be made, or is not to be made yet.
    pub async fn seat(&self, label: Label) -> Result<Seat, Unseated> {
        match &self.shared {
            Some(shared) => {
                let seat = shared.seat(label).map_err(Unseated::Resting)?;
                Ok(Seat(Place::Shared(seat)))
            }
            None => {
                let guest = self.instantiate(label).await.map_err(Unseated::Failed)?;
                Ok(Seat(Place::Own(Box::new(guest))))
            }
        }
    }
}

impl Seat {
    /// Asks the component whether the session begins: `Ok` with the response that begins it, or `Err` with the one that
    /// refuses it.
    ///
    /// # Errors
    ///
    /// When it exports no `admit`, traps, takes too long, or answers what cannot be sent.
    pub async fn admit(&mut self, request: &Request) -> Result<Result<Response, Response>, Exit> {
        match &mut self.0 {
            Place::Own(guest) => guest.admit(request).await,
            Place::Shared(seat) => seat.admit(request).await,
        }
    }

    /// Serves the session to its end, and tells the peer of that.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future aborts the session: the peer sees its CONNECT stream reset. A guest of its own sees nothing, a
    /// shared one that the session is closed.
    pub async fn run(self, session: Session, request: &Request) -> Exit {
        match self.0 {
            Place::Own(guest) => guest.run(session, request).await,
            Place::Shared(seat) => seat.run(session, request).await,
        }
    }
}
