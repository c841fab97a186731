//! The admin listener: what an operator, a probe and a scrape may ask of a running server.
//!
//! | request | answer |
//! |---|---|
//! | `GET /live` | 200 while the process runs |
//! | `GET /ready` | 200 while sessions are taken; 503 before that, and while the server drains |
//! | `GET /metrics` | the numbers, for Prometheus, or as OpenMetrics where `Accept` names it |
//! | `GET /sessions` | live sessions as a JSON array, by number; `?limit=` (1000, at most 10 000), `?after=` a number, `?tenant=` |
//! | `POST /drain` | 202, and the server drains as it does for a termination signal |
//!
//! It speaks HTTP/1.1 without TLS: one request per connection, in limited time, over a limited number of connections.
//! Beyond loopback every request needs a token. On loopback without one, requests that a web page may have caused are
//! refused: those with an `Origin`, and those whose `Host` is a name.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use axum::{
    Router,
    extract::{Query, Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use serde::Deserialize;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
};

use crate::{
    config,
    metrics::{Format, Metrics},
};

mod access;

pub(crate) use access::{Access, Needed};

/// How many sessions one answer holds where the request does not say.
const SESSIONS: usize = 1000;
/// The most that a request may ask for.
const SESSIONS_MAX: usize = 10_000;
/// How long to wait where the machine has no file for another connection.
const EXHAUSTED: Duration = Duration::from_millis(100);
/// How long a peer may take for the head of its request: until then it keeps others away and has shown no token.
const HEAD_TIMEOUT: Duration = Duration::from_secs(1);

/// What the admin listener shows of a server, and asks of it. Cloning it is cheap; all clones are one.
#[derive(Clone, Debug)]
pub(crate) struct Control {
    metrics: Metrics,
    phase: watch::Sender<Phase>,
}

/// How far a server is, or is asked to go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    #[default]
    Starting,
    Serving,
    /// It takes no sessions any more.
    Draining,
    /// It waits for no session any more.
    Stopping,
}

impl Control {
    /// A server that starts.
    pub(crate) fn new(metrics: Metrics) -> Self {
        Self {
            metrics,
            phase: watch::Sender::default(),
        }
    }

    /// How far the server is.
    pub(crate) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Has the server be so far, where it is not yet.
    pub(crate) fn advance(&self, to: Phase) {
        self.phase.send_if_modified(|phase| {
            let further = *phase < to;
            *phase = to.max(*phase);
            further
        });
    }

    /// Waits until the server is that far, or further.
    pub(crate) async fn reached(&self, phase: Phase) {
        // The sender is here, so that this ends with that only.
        _ = self.phase.subscribe().wait_for(|now| *now >= phase).await;
    }
}

/// An admin listener, bound and not yet running.
#[derive(Debug)]
pub(crate) struct Admin {
    listener: TcpListener,
    address: SocketAddr,
    access: Access,
    connections: usize,
    timeout: Duration,
}

impl Admin {
    /// Reads the token and binds. Port 0 takes a free one.
    ///
    /// # Errors
    ///
    /// When the address cannot be bound, or is not loopback's and there is no token, or the token cannot be read.
    pub(crate) async fn bind(config: &config::Admin) -> anyhow::Result<Self> {
        let access = Access::new(Needed::by(config.token()?));
        let address = config.listen;
        let listener = TcpListener::bind(address).await.with_context(|| {
            format!("cannot listen on TCP {address} for admin (another program may hold the port; port 0 takes a free one)")
        })?;
        Ok(Self {
            address: listener.local_addr()?,
            listener,
            access,
            connections: config.connections,
            timeout: config.timeout,
        })
    }

    /// The address bound.
    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Who may use it, for a change of that.
    pub(crate) fn access(&self) -> Access {
        self.access.clone()
    }

    /// Answers requests until dropped; every connection ends with this future.
    pub(crate) async fn run(self, control: Control) {
        let router = router(control, self.access);
        let permits = Arc::new(Semaphore::new(self.connections));
        let mut connections = JoinSet::new();
        loop {
            let accepted = async {
                let permit = permits.clone().acquire_owned().await;
                (permit, self.listener.accept().await)
            };
            tokio::select! {
                (permit, accepted) = accepted => match accepted {
                    Ok((tcp, _)) => {
                        let served = tokio::time::timeout(self.timeout, serve(tcp, router.clone()));
                        connections.spawn(async move {
                            if served.await.is_err() {
                                tracing::debug!("an admin connection took too long");
                            }
                            drop(permit);
                        });
                    }
                    Err(error) => exhausted(&error).await,
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

/// The connection was lost already, or the machine has no file for it.
async fn exhausted(error: &io::Error) {
    tracing::debug!(%error, "no admin connection accepted");
    tokio::time::sleep(EXHAUSTED).await;
}

/// Answers one request.
async fn serve(tcp: TcpStream, router: Router) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .keep_alive(false)
        .serve_connection(TokioIo::new(tcp), TowerToHyperService::new(router));
    if let Err(error) = connection.await {
        tracing::debug!(%error, "an admin connection failed");
    }
}

fn router(control: Control, access: Access) -> Router {
    Router::new()
        .route("/live", get(|| async { "live\n" }))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/sessions", get(sessions))
        .route("/drain", post(drain))
        .layer(middleware::from_fn(move |request: Request, next: Next| {
            let access = access.clone();
            async move {
                match access.check(request.headers()) {
                    Ok(()) => next.run(request).await,
                    Err(denied) => denied.into_response(),
                }
            }
        }))
        .with_state(control)
}

async fn ready(State(control): State<Control>) -> Response {
    match control.phase() {
        Phase::Serving => "ready\n".into_response(),
        Phase::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting\n").into_response(),
        Phase::Draining | Phase::Stopping => {
            (StatusCode::SERVICE_UNAVAILABLE, "draining\n").into_response()
        }
    }
}

async fn metrics(State(control): State<Control>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT);
    let accept = accept.and_then(|accept| accept.to_str().ok());
    let format = match accept {
        Some(accept) if accept.contains("application/openmetrics-text") => Format::OpenMetrics,
        Some(_) | None => Format::Prometheus,
    };
    let kind = [(header::CONTENT_TYPE, format.media_type())];
    (kind, control.metrics.text(format)).into_response()
}

/// Which sessions are asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Filter {
    tenant: Option<String>,
    #[serde(default)]
    after: u64,
    limit: Option<usize>,
}

async fn sessions(State(control): State<Control>, Query(filter): Query<Filter>) -> Response {
    let limit = filter.limit.unwrap_or(SESSIONS);
    if limit > SESSIONS_MAX {
        let told = format!(
            "limit={limit} is more than {SESSIONS_MAX}: ask for the rest by after=, the last number of this answer\n"
        );
        return (StatusCode::BAD_REQUEST, told).into_response();
    }
    let tenant = filter.tenant.as_deref();
    let sessions = control.metrics.sessions(tenant, filter.after, limit);
    let headers = [(header::CACHE_CONTROL, "no-store")];
    (headers, axum::Json(sessions)).into_response()
}

async fn drain(State(control): State<Control>) -> Response {
    tracing::info!("the admin listener was asked to drain the server");
    control.advance(Phase::Draining);
    (StatusCode::ACCEPTED, "draining\n").into_response()
}
