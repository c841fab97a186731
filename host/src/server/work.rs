//! What a running server is at: a task for each session, and one for each answer.

use std::{
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http::{Method, StatusCode};
use tokio::task::JoinSet;

use super::Host;
use crate::transport::{Exchange, Requested};

/// How long a peer may take for the answer to a request that asks for no session.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Tasks that end with this.
pub(super) struct Work(Arc<Inner>);

struct Inner {
    host: Host,
    tasks: Mutex<Tasks>,
    /// Who waits for tasks to end, and does not hear of those that are spawned while there is none.
    reaper: AtomicWaker,
}

#[derive(Default)]
struct Tasks {
    taking: Taking,
    sessions: JoinSet<()>,
    answers: JoinSet<()>,
}

/// What is taken of what is asked for. Dropping a request rejects it.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Taking {
    #[default]
    All,
    NoSessions,
    Nothing,
}

impl Work {
    pub(super) fn new(host: Host) -> Self {
        Self(Arc::new(Inner {
            host,
            tasks: Mutex::default(),
            reaper: AtomicWaker::new(),
        }))
    }

    /// Gives what begins what is asked for, and rejects it where it is not taken.
    pub(super) fn begin(&self) -> impl Fn(Requested) + Send + Sync + 'static {
        let inner = self.0.clone();
        move |requested| inner.begin(requested)
    }

    /// Sessions that live, or are being decided.
    pub(super) fn sessions(&self) -> usize {
        self.0.tasks().sessions.len()
    }

    /// Looks after the tasks for as long as it is polled.
    pub(super) async fn go_on(&self) {
        poll_fn(|cx| {
            self.0.reap(cx);
            Poll::<()>::Pending
        })
        .await;
    }

    /// Takes no new sessions, and waits until none lives.
    pub(super) async fn drain(&self) {
        self.0.tasks().taking = Taking::NoSessions;
        poll_fn(|cx| {
            self.0.reap(cx);
            if self.sessions() == 0 {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let last = Tasks {
            taking: Taking::Nothing,
            ..Tasks::default()
        };
        let ended = std::mem::replace(&mut *self.0.tasks(), last);
        drop(ended); // not under the lock
    }
}

impl Inner {
    fn begin(&self, requested: Requested) {
        let mut tasks = self.tasks();
        let idle = tasks.sessions.is_empty() && tasks.answers.is_empty();
        match (requested, tasks.taking) {
            (Requested::Session(incoming), Taking::All) => {
                let host = self.host.clone();
                tasks
                    .sessions
                    .spawn(async move { host.serve(incoming).await });
            }
            (Requested::Http(exchange), Taking::All | Taking::NoSessions) => {
                tasks.answers.spawn(answer(exchange));
            }
            (rejected, _) => {
                drop(tasks);
                return drop(rejected);
            }
        }
        drop(tasks);
        if idle {
            self.reaper.wake();
        }
    }

    /// Frees what tasks that have ended leave.
    fn reap(&self, cx: &mut Context<'_>) {
        self.reaper.register(cx.waker());
        let mut tasks = self.tasks();
        while let Poll::Ready(Some(ended)) = tasks.sessions.poll_join_next(cx) {
            // A panic costs one session, and is our fault.
            if let Err(error) = ended {
                tracing::error!(%error, "a session's task panicked");
            }
        }
        while let Poll::Ready(Some(_)) = tasks.answers.poll_join_next(cx) {}
    }

    fn tasks(&self) -> MutexGuard<'_, Tasks> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn answer(exchange: Exchange) {
    let response = response(exchange.request());
    // A peer that does not take the answer in time goes without.
    _ = tokio::time::timeout(ANSWER_TIMEOUT, exchange.respond(response)).await;
}

/// The answer to a request that asks for no session: a word for probes, or 404.
fn response(request: &http::Request<()>) -> http::Response<Bytes> {
    let known = matches!(request.uri().path(), "/" | "/live");
    let (status, body): (_, &'static [u8]) = match (request.method(), known) {
        (&Method::GET, true) => (
            StatusCode::OK,
            b"wharf is up; sessions begin with CONNECT\n",
        ),
        (&Method::HEAD, true) => (StatusCode::OK, b""),
        (&Method::GET | &Method::HEAD, false) => (StatusCode::NOT_FOUND, b""),
        _ => (StatusCode::METHOD_NOT_ALLOWED, b""),
    };
    let mut response = http::Response::new(Bytes::from_static(body));
    *response.status_mut() = status;
    response
}
