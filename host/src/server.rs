//! Binds, accepts, admits, runs one task per session, drains.
//!
//! This is the only place where a transport meets a runtime: [`Host`] serves sessions with components; [`Server`] is a
//! host with sockets of its own. Every task belongs to the future of [`Server::run`] and ends with it.

use std::{fmt, future::Future, net::SocketAddr, time::Duration};

use anyhow::Context as _;
use bytes::Bytes;
use http::{Method, StatusCode};
use tokio::{sync::mpsc, task::JoinSet};

use crate::{
    close,
    config::{Config, Tls},
    runtime,
    transport::{Exchange, Listener, Requested, tls::Certificate},
};

mod handler;
mod host;

pub use handler::Handler;
pub use host::Host;

/// Requests that wait to be looked at, over all connections.
const REQUESTED: usize = 64;
/// How long a peer may take for the answer to a request that asks for no session.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// A server, bound and not yet running.
pub struct Server {
    listener: Listener,
    host: Host,
    drain: Duration,
    /// How long sessions may take to end that have been closed.
    last: Duration,
    hash: [u8; 32],
}

impl Server {
    /// Loads the components and the certificate, and binds. Nothing is served until [`run`](Self::run).
    ///
    /// # Errors
    ///
    /// One that names the file, or the address, and what to do. Nothing is left half-started.
    pub async fn bind(config: Config) -> anyhow::Result<Self> {
        let tenant = config.tenants.into_iter().next();
        let tenant = tenant.context("no tenant to serve")?;
        let certificate = match &tenant.tls {
            Tls::Development => Certificate::development()?,
            Tls::Files { certificate, key } => Certificate::from_files(certificate, key)?,
        };
        let tls = certificate.server_config()?;
        // Closing sessions are bounded by their own timeout; the rest is for a callback that does not return.
        let last = config.transport.close_timeout + config.runtime.callback_deadline;
        let options = runtime::Options {
            limits: config.runtime,
            sessions: config.sessions,
            tick: config.tick,
            cache_dir: config.cache_dir,
        };
        let host = Host::load(tenant.routes, options).await?;
        Ok(Self {
            listener: Listener::bind(&config.listen, tls, config.transport)?,
            host,
            drain: config.drain,
            last,
            hash: certificate.hash(),
        })
    }

    /// The first of the addresses bound.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addrs()[0]
    }

    /// The addresses bound, in the order of [`Config::listen`]; there is one at least.
    #[must_use]
    pub fn local_addrs(&self) -> &[SocketAddr] {
        self.listener.local_addrs()
    }

    /// The SHA-256 of the certificate, for `serverCertificateHashes`.
    #[must_use]
    pub fn certificate_hash(&self) -> [u8; 32] {
        self.hash
    }

    /// What serves the sessions, for a look at it while the server runs.
    #[must_use]
    pub fn host(&self) -> Host {
        self.host.clone()
    }

    /// Serves until `shutdown` ends; then asks all sessions to end, gives them [`Config::drain`], and closes what is left.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends everything at once, and the peers are told nothing but the end of their connections.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let (sender, requests) = mpsc::channel(REQUESTED);
        let mut listening = JoinSet::new();
        listening.spawn(self.listener.clone().run(sender));
        let mut work = Work {
            host: self.host,
            requests,
            sessions: JoinSet::new(),
            answers: JoinSet::new(),
        };
        tokio::select! {
            () = shutdown => {}
            () = work.serve() => {}
        }
        tracing::info!(sessions = work.sessions.len(), drain = ?self.drain, "draining");
        self.listener.drain();
        let drained = tokio::time::timeout(self.drain, work.drain()).await;
        if drained.is_err() {
            tracing::info!(
                sessions = work.sessions.len(),
                "closing the sessions that are left"
            );
            let (code, reason) = close::SHUTTING_DOWN;
            self.listener.close_sessions(code, reason);
            _ = tokio::time::timeout(self.last, work.drain()).await;
        }
        drop(work);
        self.listener.close().await;
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("addresses", &self.local_addrs())
            .finish_non_exhaustive()
    }
}

/// What a running server is at.
struct Work {
    host: Host,
    requests: mpsc::Receiver<Requested>,
    sessions: JoinSet<()>,
    answers: JoinSet<()>,
}

impl Work {
    /// Begins what is asked for, until the sockets fail.
    async fn serve(&mut self) {
        loop {
            tokio::select! {
                requested = self.requests.recv() => match requested {
                    Some(Requested::Session(incoming)) => {
                        let host = self.host.clone();
                        self.sessions.spawn(async move { host.serve(incoming).await });
                    }
                    Some(Requested::Http(exchange)) => self.answer(exchange),
                    None => return,
                },
                Some(ended) = self.sessions.join_next() => report(ended),
                Some(_) = self.answers.join_next() => {}
            }
        }
    }

    /// Waits until no session lives. New ones are rejected, other requests answered.
    async fn drain(&mut self) {
        while !self.sessions.is_empty() {
            tokio::select! {
                Some(ended) = self.sessions.join_next() => report(ended),
                Some(requested) = self.requests.recv() => {
                    if let Requested::Http(exchange) = requested {
                        self.answer(exchange);
                    }
                }
                Some(_) = self.answers.join_next() => {}
            }
        }
    }

    fn answer(&mut self, exchange: Exchange) {
        let response = answer(exchange.request());
        self.answers.spawn(async move {
            // A peer that does not take the answer in time goes without.
            _ = tokio::time::timeout(ANSWER_TIMEOUT, exchange.respond(response)).await;
        });
    }
}

/// A panic costs one session, and is our fault.
fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a session's task panicked");
    }
}

/// The answer to a request that asks for no session: a word for probes, or 404.
fn answer(request: &http::Request<()>) -> http::Response<Bytes> {
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
