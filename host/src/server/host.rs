//! Serves sessions with the components of its routes, whoever accepted them.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::Semaphore;

use crate::{
    config::{self, DEFAULT_TENANT},
    router::{Route, Router},
    runtime::{Account, AccountLimits, Exit, Label, Options, Runtime, Terms, Unseated},
    transport::{Incoming, Response},
};

/// Components, loaded, and what serves sessions with them. Cloning it is cheap; all clones are one host.
///
/// A [`Server`](super::Server) has one. A program that accepts connections by itself makes its own and gives it the
/// sessions that it wants served.
#[derive(Clone)]
pub struct Host {
    inner: Arc<Inner>,
}

struct Inner {
    router: Router,
    runtime: Runtime,
    account: Account,
    permits: Arc<Semaphore>,
    sessions: u32,
    next_session: AtomicU64,
}

impl Host {
    /// Loads the components of all routes, and reserves memory for [`Options::sessions`] instances, or fewer where the
    /// machine holds fewer. Compiling a component may take seconds.
    ///
    /// # Errors
    ///
    /// One line that names the file, what is wrong with it and the remedy.
    pub async fn load(routes: Vec<config::Route>, options: Options) -> anyhow::Result<Self> {
        let limits = options.limits.clone();
        let account = Account::new(AccountLimits::default());
        let runtime = Runtime::new(options)?;
        let mut loaded = Vec::new();
        for config::Route {
            name,
            path,
            component: file,
            origins,
            quirks,
            scope,
            environment,
            runtime: own_limits,
        } in routes
        {
            let limits = own_limits.unwrap_or_else(|| limits.clone());
            let mut terms = Terms::new(limits, account.clone());
            (terms.scope, terms.environment) = (scope, environment);
            let runtime = runtime.clone();
            // Compiling takes a while; what else the program does goes on.
            let component =
                tokio::task::spawn_blocking(move || runtime.load(&file, terms)).await??;
            loaded.push(Route {
                name: name.into(),
                path,
                component,
                origins,
                quirks,
            });
        }
        let sessions = runtime.sessions();
        Ok(Self {
            inner: Arc::new(Inner {
                router: Router::new(loaded),
                runtime,
                account,
                permits: Arc::new(Semaphore::new(sessions as usize)),
                sessions,
                next_session: AtomicU64::new(1),
            }),
        })
    }

    /// Sessions that live, or are being decided.
    #[must_use]
    pub fn sessions(&self) -> usize {
        (self.inner.sessions as usize).saturating_sub(self.inner.permits.available_permits())
    }

    /// What a tenant's sessions use, if there is such a tenant.
    #[must_use]
    pub fn account(&self, tenant: &str) -> Option<Account> {
        (tenant == DEFAULT_TENANT).then(|| self.inner.account.clone())
    }

    /// Instances of components that live.
    #[must_use]
    pub fn instances(&self) -> usize {
        self.inner.runtime.instances()
    }

    /// Decides on a request, and serves the session that comes of it to its end: finds the route for the request's
    /// whole path, checks the origin, asks the component where it decides itself, and runs it in an instance of its own.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future rejects the request, or aborts the session: the peer sees its CONNECT stream reset.
    pub async fn serve(&self, mut incoming: Incoming) {
        let inner = &*self.inner;
        let request = incoming.request().clone();
        let route = match inner.router.find(&request) {
            Ok(route) => route,
            Err(refused) => {
                let (path, origin) = (&request.connect.path, &request.connect.origin);
                tracing::debug!(peer = %request.peer, path, ?origin, ?refused, "session refused");
                return incoming.refuse(&Response::new(refused.status())).await;
            }
        };
        let Ok(_permit) = inner.permits.clone().try_acquire_owned() else {
            tracing::debug!(peer = %request.peer, limit = inner.sessions, "session refused: the host is full");
            return incoming.refuse(&Response::new(503)).await;
        };
        let session = inner.next_session.fetch_add(1, Ordering::Relaxed);
        let label = Label {
            session,
            tenant: DEFAULT_TENANT.into(),
            route: route.name.clone(),
            path: request.connect.path.clone(),
        };
        let mut seat = match route.component.seat(label).await {
            Ok(seat) => seat,
            Err(Unseated::Failed(_)) => return incoming.refuse(&Response::new(500)).await,
            Err(Unseated::Resting(remaining)) => {
                tracing::debug!(peer = %request.peer, ?remaining, "session refused: its instance trapped repeatedly");
                return incoming.refuse(&Response::new(503)).await;
            }
        };
        let mut response = Response::new(200);
        if route.component.admits() {
            response = match seat.admit(&request).await {
                Ok(Ok(acceptance)) => acceptance,
                Ok(Err(rejection)) => return incoming.refuse(&rejection).await,
                Err(_) => return incoming.refuse(&Response::new(500)).await,
            };
        }
        tracing::debug!(
            session,
            peer = %request.peer,
            path = request.connect.path,
            draft = request.draft,
            "session accepted"
        );
        incoming.bear_with(route.quirks);
        match incoming.accept(&response).await {
            Ok(begun) => match seat.run(begun, &request).await {
                Exit::Returned => {}
                exit @ (Exit::Trapped | Exit::OutOfTime | Exit::OutOfMemory | Exit::Failed) => {
                    tracing::debug!(?exit, "session ended by its handler");
                }
            },
            Err(error) => {
                tracing::debug!(peer = %request.peer, %error, "no session began");
            }
        }
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host")
            .field("sessions", &self.sessions())
            .finish_non_exhaustive()
    }
}
