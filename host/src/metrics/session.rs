//! A session that is counted.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::Serialize;
use tracing::{Span, field::Empty};

use super::{Closing, Counted, Ended, Held, Metrics, OfSession, Stats};

/// What is known of a session when it begins.
#[derive(Clone, Debug)]
pub struct About {
    /// Its number, unique on the host.
    pub session: u64,
    /// Whose handler it has.
    pub tenant: Arc<str>,
    /// The route that chose the handler.
    pub route: Arc<str>,
    /// What is shown of the request's path.
    pub path: String,
    /// The peer's address.
    pub peer: SocketAddr,
    /// The word for the HTTP version.
    pub http: &'static str,
}

impl About {
    fn labels(&self) -> OfSession {
        OfSession {
            tenant: self.tenant.clone(),
            route: self.route.clone(),
            http: self.http,
        }
    }
}

/// A live session. Dropping it counts the session as ended, as its [`Stats`] say.
#[derive(Debug)]
pub struct Session {
    metrics: Metrics,
    live: Arc<Live>,
    span: Span,
}

/// A session in the table.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) about: About,
    pub(super) stats: Arc<Stats>,
    started: SystemTime,
}

/// A live session, as it was when looked at.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct View {
    /// Its number, unique on the host.
    pub session: u64,
    /// Whose handler it has.
    pub tenant: String,
    /// The route that chose the handler.
    pub route: String,
    /// What is shown of the request's path.
    pub path: String,
    /// The peer's address.
    pub peer: SocketAddr,
    /// The HTTP version: `http3` or `http2`.
    pub http: &'static str,
    /// When it began, in milliseconds since 1970.
    pub started_ms: u64,
    /// What happened so far.
    #[serde(flatten)]
    pub counted: Counted,
    /// What it has now.
    #[serde(flatten)]
    pub held: Held,
}

impl Live {
    pub(super) fn view(&self) -> View {
        let about = &self.about;
        let started = self.started.duration_since(UNIX_EPOCH).unwrap_or_default();
        View {
            session: about.session,
            tenant: about.tenant.to_string(),
            route: about.route.to_string(),
            path: about.path.clone(),
            peer: about.peer,
            http: about.http,
            started_ms: u64::try_from(started.as_millis()).unwrap_or(u64::MAX),
            counted: self.stats.counted.read(),
            held: self.stats.held.read(),
        }
    }
}

impl Metrics {
    /// Counts a session that began, by what its task tells `stats`, until what is returned is dropped. Whoever calls this
    /// limits how many live.
    #[must_use = "a session counts as live until this is dropped"]
    pub fn begin(&self, about: About, stats: Arc<Stats>) -> Session {
        let labels = about.labels();
        self.inner.sessions_accepted.get_or_create(&labels).inc();
        self.inner.sessions.get_or_create(&labels).inc();
        let span = span(&about);
        let live = Arc::new(Live {
            about,
            stats,
            started: SystemTime::now(),
        });
        self.inner.table.insert(live.clone());
        Session {
            metrics: self.clone(),
            live,
            span,
        }
    }

    /// Counts what was spent on a session that did not begin.
    pub fn begun_in_vain(&self, about: &About, stats: &Stats) {
        self.inner.table.add(about, stats);
    }
}

/// The session's span, for traces: never entered, so that it costs nothing while the session lives.
fn span(about: &About) -> Span {
    tracing::info_span!(
        target: "wharf::session",
        parent: None,
        "session",
        otel.kind = "server",
        otel.status_code = Empty,
        session = about.session,
        tenant = &*about.tenant,
        route = &*about.route,
        path = about.path,
        peer = %about.peer,
        http = about.http,
        cause = Empty,
        close_code = Empty,
        bytes_in = Empty,
        bytes_out = Empty,
        datagrams_in = Empty,
        datagrams_out = Empty,
        calls = Empty,
        cpu_ns = Empty,
    )
}

impl Drop for Session {
    fn drop(&mut self) {
        let Live { about, stats, .. } = &*self.live;
        let inner = &self.metrics.inner;
        let counted = inner.table.remove(&self.live);
        let Closing { cause, code } = stats.closing();
        inner.sessions.get_or_create(&about.labels()).dec();
        let ended = Ended {
            tenant: about.tenant.clone(),
            route: about.route.clone(),
            cause: cause.name(),
        };
        inner.sessions_ended.get_or_create(&ended).inc();
        if cause.is_failure() {
            self.span.record("otel.status_code", "ERROR");
        }
        self.span
            .record("cause", cause.name())
            .record("close_code", code)
            .record("bytes_in", counted.bytes_in)
            .record("bytes_out", counted.bytes_out)
            .record("datagrams_in", counted.datagrams_in)
            .record("datagrams_out", counted.datagrams_out)
            .record("calls", counted.calls)
            .record("cpu_ns", counted.cpu_ns);
    }
}
