//! One instance for all sessions of a route, so that its handlers see each other.
//!
//! [`Shared`] holds the instance that there is, and makes a new one for the next session after a trap. The instance lives in
//! a task of its own ([`crew`]); a session is sent there, and comes back when it is over or the instance has ended.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};

use super::{Component, Exit, Label, session::conclude};
use crate::transport::{Request, Response, Session};

mod crew;

use crew::Order;

/// Orders that wait for the instance; who sends one more waits.
const ORDERS: usize = 64;
/// How long no new instance is made after the second trap in a row; twice as long after each further one.
const REST: Duration = Duration::from_millis(100);
const REST_MAX: Duration = Duration::from_secs(30);
/// An instance that has lived so long has not trapped in a row.
const SOUND: Duration = Duration::from_secs(60);

/// The one instance of a component, for any number of sessions. Cloning it is cheap; all clones are one instance, which
/// ends with the last of them and of its [`Seat`]s.
#[derive(Clone)]
pub(super) struct Shared {
    inner: Arc<Inner>,
}

struct Inner {
    component: Component,
    life: Mutex<Life>,
}

#[derive(Default)]
struct Life {
    running: Option<Running>,
    /// Instances in a row that ended by a trap.
    traps: u32,
    rest_until: Option<Instant>,
}

struct Running {
    orders: mpsc::Sender<Order>,
    _task: JoinSet<()>,
}

impl Shared {
    pub(super) fn new(component: Component) -> Self {
        Self {
            inner: Arc::new(Inner {
                component,
                life: Mutex::default(),
            }),
        }
    }

    /// A place in the instance for one session, or how long there is none because the instances trap in a row.
    pub(super) fn seat(&self, label: Label) -> Result<Seat, Duration> {
        let label = Arc::new(label);
        let mut life = self.lock();
        let running = life.running.as_ref();
        let orders = match running.filter(|running| !running.orders.is_closed()) {
            Some(running) => running.orders.clone(),
            None => self.begin(&mut life, &label)?,
        };
        drop(life);
        Ok(Seat {
            orders,
            label,
            shared: self.clone(),
        })
    }

    fn begin(&self, life: &mut Life, label: &Arc<Label>) -> Result<mpsc::Sender<Order>, Duration> {
        let now = Instant::now();
        if let Some(until) = life.rest_until
            && until > now
        {
            return Err(until - now);
        }
        let (sender, orders) = mpsc::channel(ORDERS);
        let component = self.inner.component.clone();
        let (label, inner) = (label.clone(), Arc::downgrade(&self.inner));
        let mut task = JoinSet::new();
        task.spawn(async move {
            let exit = crew::run(&component, &label, orders).await;
            if let Some(inner) = inner.upgrade() {
                let shared = Self { inner };
                shared.lock().ended(exit, now.elapsed());
            }
        });
        life.running = Some(Running {
            orders: sender.clone(),
            _task: task,
        });
        Ok(sender)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Life> {
        self.inner
            .life
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Life {
    /// The instance ended after it has lived so long.
    fn ended(&mut self, exit: Exit, lived: Duration) {
        if exit == Exit::Returned {
            return;
        }
        if lived >= SOUND {
            self.traps = 0;
        }
        self.traps += 1;
        let rest = match self.traps {
            1 => Duration::ZERO,
            traps => REST.saturating_mul(1 << (traps - 2).min(16)).min(REST_MAX),
        };
        self.rest_until = Instant::now().checked_add(rest);
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// A place in a shared instance, for one session.
#[derive(Debug)]
pub(super) struct Seat {
    orders: mpsc::Sender<Order>,
    label: Arc<Label>,
    /// Keeps the instance.
    shared: Shared,
}

impl Seat {
    pub(super) async fn admit(
        &mut self,
        request: &Request,
    ) -> Result<Result<Response, Response>, Exit> {
        let (reply, answer) = oneshot::channel();
        let order = Order::Admit {
            label: self.label.clone(),
            request: Box::new(request.clone()),
            reply,
        };
        if self.orders.send(order).await.is_err() {
            return Err(Exit::Trapped);
        }
        answer.await.unwrap_or(Err(Exit::Trapped))
    }

    pub(super) async fn run(self, session: Session, request: &Request) -> Exit {
        let (reply, over) = oneshot::channel();
        let order = Order::Begin {
            label: self.label.clone(),
            session: Box::new(session),
            request: Box::new(request.clone()),
            reply,
        };
        let (session, served) = match self.orders.send(order).await {
            Ok(()) => match over.await {
                Ok((session, served)) => (session, served),
                Err(_) => return Exit::Trapped, // the task is gone with all it had
            },
            // It ended since the seat was taken.
            Err(mpsc::error::SendError(Order::Begin { session, .. })) => {
                (session, Err(Exit::Trapped))
            }
            Err(mpsc::error::SendError(Order::Admit { .. })) => return Exit::Failed,
        };
        let exit = conclude(*session, &self.label.stats, served).await;
        drop(self.shared);
        exit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traps_in_a_row_are_followed_by_longer_and_longer_rests() {
        let mut life = Life::default();
        let mut rest = |exit, lived| {
            let before = Instant::now();
            life.ended(exit, lived);
            life.rest_until
                .map(|until| until.saturating_duration_since(before).as_millis())
        };
        let short = Duration::from_secs(1);
        assert_eq!(rest(Exit::Returned, short), None);
        assert_eq!(
            rest(Exit::Trapped, short),
            Some(0),
            "the first is made up for at once"
        );
        for expected in [100, 200, 400, 800] {
            assert_eq!(rest(Exit::OutOfTime, short), Some(expected));
        }
        for _ in 0..40 {
            rest(Exit::Trapped, short);
        }
        assert_eq!(rest(Exit::Trapped, short), Some(30_000));
        assert_eq!(rest(Exit::Trapped, SOUND), Some(0));
    }
}
