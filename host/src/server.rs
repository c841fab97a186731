//! Binds, accepts, admits, runs one task per session, reloads, drains.
//!
//! This is the only place where a transport meets a runtime: [`Host`] serves sessions with components; [`Server`] is a
//! host with sockets of its own. Every task belongs to the future of [`Server::run`] and ends with it.

use std::{fmt, future::Future, net::SocketAddr, sync::Arc, time::Duration};

use tokio::task::JoinSet;

use crate::{
    admin::{Access, Admin, Control, Phase},
    close,
    config::Config,
    metrics::Metrics,
    transport::{Gate, Listener},
};

mod handle;
mod handler;
mod host;
mod load;
mod reload;
mod work;

pub use crate::router::Refused;
pub use handle::Handle;
pub use handler::Handler;
pub use host::Host;
pub use reload::Watch;
use work::Work;

/// How long peers have to notice that a server has stopped at once.
const AT_ONCE: Duration = Duration::from_millis(500);

/// A server, bound and not yet running.
pub struct Server {
    listener: Listener,
    handle: Handle,
    /// How long sessions may take to end that have been closed.
    last: Duration,
    control: Control,
    admin: Option<Answering>,
}

impl Server {
    /// Loads the components and the certificates, and binds. Nothing is served until [`run`](Self::run) but the admin
    /// listener, which says that the server is not ready.
    ///
    /// # Errors
    ///
    /// One that names the file, the tenant or the address, and what to do. Nothing is left half-started.
    pub async fn bind(mut config: Config) -> anyhow::Result<Self> {
        anyhow::ensure!(!config.tenants.is_empty(), "no tenant to serve");
        let told = config.settle_sessions();
        let metrics = Metrics::new();
        let control = Control::new(metrics.clone());
        let admin = match &config.admin {
            Some(admin) => Some(Answering::start(Admin::bind(admin).await?, &control)),
            None => None,
        };
        // Closing sessions are bounded by their own timeout; the rest is for a callback that does not return.
        let last = config.transport.close_timeout + config.runtime.callback_deadline;
        let listen = config.listen.clone();
        let access = admin.as_ref().map(|admin| admin.access.clone());
        let loading = Handle::load(
            config,
            told.clone(),
            metrics.clone(),
            control.clone(),
            access,
        );
        let handle = loading.await?;
        let tls = handle.certificates().server_config()?;
        Ok(Self {
            listener: Listener::bind(&listen, tls, told, metrics)?,
            handle,
            last,
            control,
            admin,
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

    /// Where the admin listener is, where there is one.
    #[must_use]
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(|admin| admin.address)
    }

    /// The SHA-256 of the first tenant's certificate, for `serverCertificateHashes`.
    #[must_use]
    pub fn certificate_hash(&self) -> [u8; 32] {
        self.handle.certificate_hash()
    }

    /// What serves the sessions, for a look at it while the server runs.
    #[must_use]
    pub fn host(&self) -> Host {
        self.handle.host()
    }

    /// What reloads, drains and stops the server while it runs.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// What counts the connections, for a look at them while the server runs.
    #[must_use]
    pub fn gate(&self) -> Gate {
        self.listener.gate()
    }

    /// Serves until `shutdown` ends, [`Handle::drain`] is called or the admin listener is asked to drain; then asks all
    /// sessions to end, gives them [`Config::drain`], and closes what is left. [`Handle::stop`] cuts that short.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends everything at once, and the peers are told nothing but the end of their connections.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let work = Work::new(self.handle.host());
        let mut listening = JoinSet::new();
        listening.spawn(self.listener.clone().run(Arc::new(work.begin())));
        self.control.advance(Phase::Serving);
        tokio::select! {
            () = shutdown => {}
            () = self.control.reached(Phase::Draining) => {}
            () = work.go_on() => {}
            _ = listening.join_next() => {} // the sockets failed
        }
        self.control.advance(Phase::Draining);
        let drain = self.handle.look_at_config(|config| config.drain);
        tracing::info!(sessions = work.sessions(), ?drain, "draining");
        self.listener.drain();
        let stopped = tokio::select! {
            () = self.end_sessions(&work, drain) => false,
            () = self.control.reached(Phase::Stopping) => true,
        };
        if stopped {
            tracing::info!(sessions = work.sessions(), "stopping at once");
            drop(work);
            _ = tokio::time::timeout(AT_ONCE, self.listener.close()).await;
        } else {
            drop(work);
            self.listener.close().await;
        }
    }

    /// Waits for the sessions, at most so long, and closes those that are left.
    async fn end_sessions(&self, work: &Work, drain: Duration) {
        if tokio::time::timeout(drain, work.drain()).await.is_err() {
            tracing::info!(
                sessions = work.sessions(),
                "closing the sessions that are left"
            );
            let (code, reason) = close::SHUTTING_DOWN;
            self.listener.close_sessions(code, reason);
            _ = tokio::time::timeout(self.last, work.drain()).await;
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("addresses", &self.local_addrs())
            .finish_non_exhaustive()
    }
}

/// The admin listener, which answers until this is dropped.
struct Answering {
    address: SocketAddr,
    access: Access,
    _task: JoinSet<()>,
}

impl Answering {
    fn start(admin: Admin, control: &Control) -> Self {
        let (address, access) = (admin.local_addr(), admin.access());
        let mut task = JoinSet::new();
        task.spawn(admin.run(control.clone()));
        Self {
            address,
            access,
            _task: task,
        }
    }
}
