//! Binds, accepts, admits, runs one task per session, drains.
//!
//! This is the only place where a transport meets a runtime. Every task belongs to the future of [`Server::run`] and ends
//! with it.

use std::{
    fmt,
    future::Future,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::Context as _;
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
};

use crate::{
    close,
    config::{Config, Tls},
    router::{Route, Router, TENANT},
    runtime::{self, Exit, Label, Runtime},
    transport::{Incoming, Listener, Phase, Response, tls::Certificate},
};

/// Requests that wait to be decided, over all connections.
const INCOMING: usize = 64;

/// A server, bound and not yet running.
pub struct Server {
    listener: Listener,
    incoming: mpsc::Receiver<Incoming>,
    phase: watch::Sender<Phase>,
    inner: Arc<Inner>,
    config: Config,
    address: SocketAddr,
    hash: [u8; 32],
}

struct Inner {
    router: Router,
    runtime: Runtime,
    permits: Arc<Semaphore>,
    sessions: u32,
    next_session: AtomicU64,
}

/// A look at a running server.
#[derive(Clone)]
pub struct Handle {
    inner: Arc<Inner>,
}

impl Handle {
    /// Sessions that live, or are being decided.
    #[must_use]
    pub fn sessions(&self) -> usize {
        (self.inner.sessions as usize).saturating_sub(self.inner.permits.available_permits())
    }

    /// Instances of components that live.
    #[must_use]
    pub fn instances(&self) -> usize {
        self.inner.runtime.instances()
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("sessions", &self.sessions())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// Loads the components and the certificate, and binds. Nothing is served until [`run`](Self::run).
    ///
    /// # Errors
    ///
    /// One that names the file, or the address, and what to do. Nothing is left half-started.
    pub async fn bind(config: Config) -> anyhow::Result<Self> {
        let certificate = match &config.tls {
            Tls::Development => Certificate::development()?,
            Tls::Files { certificate, key } => Certificate::from_files(certificate, key)?,
        };
        let runtime = Runtime::new(runtime::Options {
            limits: config.runtime.clone(),
            sessions: config.sessions,
            cache_dir: config.cache_dir.clone(),
        })?;
        let mut routes = Vec::new();
        for route in &config.routes {
            let (runtime, file) = (runtime.clone(), route.component.clone());
            // Compiling takes a while; what else the program does goes on.
            let component = tokio::task::spawn_blocking(move || runtime.load(&file)).await??;
            routes.push(Route {
                name: route.name.as_str().into(),
                path: route.path.clone(),
                component,
                origins: route.origins.clone(),
            });
        }
        let (sender, incoming) = mpsc::channel(INCOMING);
        let (phase, phases) = watch::channel(Phase::Open);
        let shutdown = close::SHUTTING_DOWN;
        let tls = certificate.server_config()?;
        let listener = Listener::bind(config.listen, tls, config.transport.clone(), sender, phases, shutdown)
            .with_context(|| {
                format!("cannot listen on UDP {} (another program may hold the port; --listen takes another, port 0 a free one)", config.listen)
            })?;
        let sessions = runtime.sessions();
        Ok(Self {
            address: listener.local_addr()?,
            listener,
            incoming,
            phase,
            inner: Arc::new(Inner {
                router: Router::new(routes),
                runtime,
                permits: Arc::new(Semaphore::new(sessions as usize)),
                sessions,
                next_session: AtomicU64::new(1),
            }),
            config,
            hash: certificate.hash(),
        })
    }

    /// The address bound.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The SHA-256 of the certificate, for `serverCertificateHashes`.
    #[must_use]
    pub fn certificate_hash(&self) -> [u8; 32] {
        self.hash
    }

    /// A look at the server while it runs.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle {
            inner: self.inner.clone(),
        }
    }

    /// Serves until `shutdown` ends; then asks all sessions to end, gives them [`Config::drain`], and closes what is left.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends everything at once, and the peers are told nothing but the end of their connections.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) {
        let closer = self.listener.closer();
        let mut listener = JoinSet::new();
        listener.spawn(self.listener.run());
        let mut sessions = JoinSet::new();
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                Some(incoming) = self.incoming.recv() => {
                    sessions.spawn(self.inner.clone().serve(incoming));
                }
                Some(ended) = sessions.join_next() => report(ended),
            }
        }
        tracing::info!(sessions = sessions.len(), drain = ?self.config.drain, "draining");
        self.phase.send_replace(Phase::Draining);
        if tokio::time::timeout(self.config.drain, all_ended(&mut sessions))
            .await
            .is_err()
        {
            tracing::info!(
                sessions = sessions.len(),
                "closing the sessions that are left"
            );
            self.phase.send_replace(Phase::Closing);
            // Closing sessions are bounded by their own timeout; this bounds a callback that does not return.
            let last = self.config.transport.close_timeout + self.config.runtime.callback_deadline;
            _ = tokio::time::timeout(last, all_ended(&mut sessions)).await;
        }
        drop(sessions);
        closer.close().await;
    }
}

async fn all_ended(sessions: &mut JoinSet<()>) {
    while let Some(ended) = sessions.join_next().await {
        report(ended);
    }
}

/// A panic costs one session, and is our fault.
fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a session's task panicked");
    }
}

impl Inner {
    /// Decides on a request, and runs the session that comes of it.
    async fn serve(self: Arc<Self>, incoming: Incoming) {
        let request = incoming.request().clone();
        let refuse = |status| Response {
            status,
            ..Response::default()
        };
        let route = match self.router.find(&request) {
            Ok(route) => route,
            Err(refused) => {
                let (path, origin) = (&request.connect.path, &request.connect.origin);
                tracing::debug!(peer = %request.peer, path, ?origin, ?refused, "session refused");
                return incoming.refuse(&refuse(refused.status())).await;
            }
        };
        let Ok(_permit) = self.permits.clone().try_acquire_owned() else {
            tracing::debug!(peer = %request.peer, limit = self.sessions, "session refused: the host is full");
            return incoming.refuse(&refuse(503)).await;
        };
        let session = self.next_session.fetch_add(1, Ordering::Relaxed);
        let label = Label {
            session,
            tenant: TENANT.into(),
            route: route.name.clone(),
            path: request.connect.path.clone(),
        };
        let Ok(mut guest) = route.component.instantiate(label).await else {
            return incoming.refuse(&refuse(500)).await;
        };
        let mut response = refuse(200);
        if route.component.admits() {
            response = match guest.admit(&request).await {
                Ok(Ok(acceptance)) => acceptance,
                Ok(Err(rejection)) => return incoming.refuse(&rejection).await,
                Err(_) => return incoming.refuse(&refuse(500)).await,
            };
        }
        if request
            .connect
            .fields
            .iter()
            .any(|(name, _)| name == "sec-webtransport-http3-draft02")
        {
            let field = ("sec-webtransport-http3-draft".to_owned(), "draft02".into());
            response.fields.push(field);
        }
        tracing::debug!(
            session,
            peer = %request.peer,
            path = request.connect.path,
            draft = request.draft,
            "session accepted"
        );
        match incoming.accept(&response).await {
            Ok(begun) => match guest.run(begun, &request).await {
                Exit::Returned => {}
                exit @ (Exit::Trapped | Exit::OutOfTime | Exit::OutOfMemory | Exit::Failed) => {
                    tracing::debug!(?exit, "session ended by its handler");
                }
            },
            Err(error) => {
                tracing::debug!(peer = %request.peer, %error, "the peer left before its session began");
            }
        }
    }
}
