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
    /// Who waits for tasks to end.
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
        match (requested, tasks.taking) {
            (Requested::Session(incoming), Taking::All) => {
                let host = self.host.clone();
                let session = async move { host.serve(incoming).await };
                self.spawn(&mut tasks.sessions, session);
            }
            (Requested::Http(exchange), Taking::All | Taking::NoSessions) => {
                self.spawn(&mut tasks.answers, answer(exchange));
            }
            (rejected, _) => {
                drop(tasks);
                drop(rejected);
            }
        }
    }

    fn spawn(&self, set: &mut JoinSet<()>, task: impl Future<Output = ()> + Send + 'static) {
        // An empty set did not note who was to hear of its next end.
        if set.is_empty() {
            self.reaper.wake();
        }
        set.spawn(task);
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

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;
    use crate::runtime::Options;

    /// Work that is looked after, by a task.
    async fn work() -> Arc<Inner> {
        let options = Options {
            sessions: 1,
            ..Options::default()
        };
        let work = Work::new(Host::load(Vec::new(), options).await.unwrap());
        let inner = work.0.clone();
        tokio::spawn(async move { work.go_on().await });
        others_run().await;
        inner
    }

    async fn others_run() {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn an_answer_that_was_given_leaves_nothing_while_a_session_lives() {
        let work = work().await;
        work.spawn(&mut work.tasks().sessions, pending());
        others_run().await;
        for _ in 0..3 {
            work.spawn(&mut work.tasks().answers, ready(()));
            others_run().await;
            assert!(work.tasks().answers.is_empty());
        }
    }

    #[tokio::test]
    async fn a_session_that_ended_leaves_nothing_while_an_answer_is_given() {
        let work = work().await;
        work.spawn(&mut work.tasks().answers, pending());
        others_run().await;
        for _ in 0..3 {
            work.spawn(&mut work.tasks().sessions, ready(()));
            others_run().await;
            assert!(work.tasks().sessions.is_empty());
        }
    }
}
