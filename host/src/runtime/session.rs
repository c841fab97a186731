//! Serves one session with one fresh instance.

use std::{fmt, future::poll_fn, pin::pin, sync::Arc, time::Duration};

use super::{
    Exit, Label,
    component::Component,
    cpu::Meter,
    instance::{Instance, Next},
};
use crate::{
    metrics::{Closing, Stats},
    transport::{Closer, Event, Request, Response, Session},
};

/// What the calls of one turn may spend, about. What they send goes out with its end.
const TURN_MAX: Duration = Duration::from_micros(200);

/// An instance for one session. Dropping it frees everything it had.
pub struct Guest {
    instance: Instance,
    meter: Meter,
    label: Arc<Label>,
}

impl Component {
    /// Makes an instance.
    ///
    /// # Errors
    ///
    /// When the component's own start traps or takes too long, or the pool has no room. The log says why.
    pub async fn instantiate(&self, label: Label) -> Result<Guest, Exit> {
        let label = Arc::new(label);
        let (instance, meter) = Instance::start(self, &label).await?;
        Ok(Guest {
            instance,
            meter,
            label,
        })
    }
}

impl Guest {
    /// Asks the component whether the session begins: `Ok` with the response that begins it, or `Err` with the one that
    /// refuses it.
    ///
    /// # Errors
    ///
    /// When it exports no `admit`, traps, takes too long, or answers what cannot be sent.
    pub async fn admit(&mut self, request: &Request) -> Result<Result<Response, Response>, Exit> {
        self.instance
            .admit(&mut self.meter, &self.label, request)
            .await
    }

    /// Serves the session to its end, and tells the peer of that.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future aborts the session: the peer sees its CONNECT stream reset, the guest sees nothing.
    pub async fn run(mut self, session: Session, request: &Request) -> Exit {
        let turns = session.turns();
        let number = self.instance.join(session, self.label.clone());
        let served = turns.run(pin!(self.serve(number, request))).await;
        let session = self.instance.leave(number);
        let label = self.label.clone();
        drop(self);
        match session {
            Some(session) => conclude(session, &label.stats, served).await,
            None => Exit::Failed, // it is where it was put
        }
    }

    async fn serve(&mut self, number: u32, request: &Request) -> Result<(), Exit> {
        let Self {
            instance, meter, ..
        } = self;
        instance.construct(meter, number, request).await?;
        let mut before = meter.spent();
        loop {
            let next = poll_fn(|cx| {
                let next = instance.poll_next(number, cx);
                if next.is_pending() {
                    meter.idle();
                    before = meter.spent();
                }
                next
            })
            .await;
            let over = matches!(next, Next::Event(Event::Closed(_)));
            instance.call(meter, number, next).await?;
            if over {
                return Ok(());
            }
            if meter.spent() - before < TURN_MAX {
                tokio::task::coop::consume_budget().await;
            } else {
                before = meter.spent();
                tokio::task::yield_now().await;
            }
        }
    }
}

impl fmt::Debug for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guest")
            .field("label", &self.label)
            .finish_non_exhaustive()
    }
}

/// Tells the peer how its session ended.
pub(super) async fn conclude(
    mut session: Session,
    stats: &Stats,
    served: Result<(), Exit>,
) -> Exit {
    if let Err(exit) = served {
        let (code, reason) = exit.close();
        if let Some(cause) = exit.cause() {
            stats.closed(Closing { cause, code });
        }
        session.close(code, reason, Closer::Host);
        // It trapped in its last callback where there is nothing more to tell.
        while !session.is_told() {
            poll_fn(|cx| session.poll_event(cx)).await;
        }
    }
    session.finish_closing().await;
    served.err().unwrap_or(Exit::Returned)
}
