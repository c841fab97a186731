//! Serves sessions with the components of its tenants' routes, whoever accepted them.

use std::{
    fmt,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use super::load;
use crate::{
    config::{self, Config, DEFAULT_TENANT},
    metrics::{About, Metrics},
    router::{Census, Most, Place, Refused, Route, Router, Tenant},
    runtime::{self, Account, Label, Options, Runtime, Seat, Unseated},
    transport::{Incoming, Request, Response},
};

/// Bytes of a path that are shown.
const PATH_SHOWN: usize = 256;

/// Components, loaded, and what serves sessions with them. Cloning it is cheap; all clones are one host.
///
/// A [`Server`](super::Server) has one. A program that accepts connections by itself makes its own and gives it the
/// sessions that it wants served.
#[derive(Clone)]
pub struct Host {
    inner: Arc<Inner>,
}

struct Inner {
    router: RwLock<Arc<Router>>,
    runtime: Runtime,
    sessions_per_ip: AtomicU32,
    census: Arc<Census>,
    next_session: AtomicU64,
    metrics: Metrics,
}

impl Host {
    /// Loads the components of all routes, and reserves memory for [`Options::sessions`] instances, or fewer where the
    /// machine holds fewer. Compiling a component may take seconds. The routes serve every authority.
    ///
    /// # Errors
    ///
    /// One line that names the file, what is wrong with it and the remedy.
    pub async fn load(routes: Vec<config::Route>, options: Options) -> anyhow::Result<Self> {
        // Whose program it is shows its own certificate.
        let tenant = config::Tenant::new(DEFAULT_TENANT, config::Tls::Development, routes);
        Self::with(&[tenant], u32::MAX, options).await
    }

    /// The same for the tenants of a configuration.
    pub(super) async fn of(config: &Config, metrics: Metrics) -> anyhow::Result<Self> {
        let options = Options {
            limits: config.runtime.clone(),
            sessions: config.sessions,
            tick: config.tick,
            cache_dir: config.cache_dir.clone(),
            metrics,
            ..Options::default()
        };
        Self::with(&config.tenants, config.sessions_per_ip, options).await
    }

    async fn with(
        tenants: &[config::Tenant],
        sessions_per_ip: u32,
        options: Options,
    ) -> anyhow::Result<Self> {
        let (limits, metrics) = (options.limits.clone(), options.metrics.clone());
        let runtime = Runtime::new(options)?;
        let router = load::router(&runtime, &limits, tenants, &Router::default()).await?;
        router.limit_accounts();
        Ok(Self {
            inner: Arc::new(Inner {
                router: RwLock::new(Arc::new(router)),
                runtime,
                sessions_per_ip: AtomicU32::new(sessions_per_ip),
                census: Arc::default(),
                next_session: AtomicU64::new(1),
                metrics,
            }),
        })
    }

    /// Loads these tenants beside those that are served. Components whose files and settings are as before are the same.
    pub(super) async fn load_again(
        &self,
        limits: &runtime::Limits,
        tenants: &[config::Tenant],
    ) -> anyhow::Result<Router> {
        let inner = &*self.inner;
        load::router(&inner.runtime, limits, tenants, &inner.router()).await
    }

    /// Has requests find their handlers by that router from now on.
    pub(super) fn serve_by(&self, router: Router, sessions_per_ip: u32) {
        let inner = &*self.inner;
        router.limit_accounts();
        inner
            .sessions_per_ip
            .store(sessions_per_ip, Ordering::Relaxed);
        *inner.router.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(router);
    }

    /// Sessions that live, or are being decided.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.inner.census.all() as usize
    }

    /// What a tenant's sessions use, if there is such a tenant.
    #[must_use]
    pub fn account(&self, tenant: &str) -> Option<Account> {
        let router = self.inner.router();
        Some(router.tenant(tenant)?.account.clone())
    }

    /// Instances of components that live.
    #[must_use]
    pub fn instances(&self) -> usize {
        self.inner.runtime.instances()
    }

    /// The numbers of what happens here, and of the live sessions.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    /// Decides on a request, and serves the session that comes of it to its end: finds the tenant by the request's
    /// authority and the route by its whole path, checks the origin, asks the component where it decides itself, and runs
    /// it in an instance of its own.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future rejects the request, or aborts the session: the peer sees its CONNECT stream reset.
    pub async fn serve(&self, mut incoming: Incoming) {
        let inner = &*self.inner;
        let request = incoming.request().clone();
        let Admitted {
            tenant,
            route,
            _places,
        } = match inner.admit(&request) {
            Ok(admitted) => admitted,
            Err(refused) => return self.refuse(incoming, refused, None).await,
        };
        let session = inner.next_session.fetch_add(1, Ordering::Relaxed);
        let about = About {
            session,
            tenant: tenant.name.clone(),
            route: route.name.clone(),
            path: shown(&request.connect.path).to_owned(),
            peer: request.peer,
            http: request.http.name(),
        };
        let label = label(&about);
        let stats = label.stats.clone();
        let in_vain = || inner.metrics.begun_in_vain(&about, &stats);
        // What is over before the session begins is in boxes: it is large, and this task keeps room for all that it awaits.
        let (seat, response) = match Box::pin(decide(&route, label, &request)).await {
            Ok(decided) => decided,
            Err((refused, rejection)) => {
                in_vain();
                return self.refuse(incoming, refused, rejection).await;
            }
        };
        tracing::debug!(
            session,
            tenant = &*tenant.name,
            peer = %request.peer,
            path = about.path,
            draft = request.draft,
            "session accepted"
        );
        incoming.bear_with(route.config.quirks);
        if let Some(limits) = &route.config.session {
            incoming.limit(limits.clone());
        }
        match Box::pin(incoming.accept(&response)).await {
            Ok(begun) => {
                let _counted = inner.metrics.begin(about, stats);
                let exit = seat.run(begun, &request).await;
                tracing::debug!(session, ?exit, "session ended");
            }
            Err(error) => {
                in_vain();
                tracing::debug!(peer = %request.peer, %error, "no session began");
            }
        }
    }

    /// Every refusal passes here.
    async fn refuse(&self, incoming: Incoming, refused: Refused, response: Option<Response>) {
        let request = incoming.request();
        let owner = self.inner.router().owner(request);
        let tenant = owner.map(|tenant| tenant.name.clone()).unwrap_or_default();
        self.inner.metrics.refused(&tenant, refused.reason());
        tracing::debug!(
            peer = %request.peer,
            authority = request.connect.authority,
            path = shown(&request.connect.path),
            origin = request.connect.origin,
            reason = refused.reason(),
            "session refused"
        );
        let response = response.unwrap_or_else(|| Response::new(refused.status()));
        Box::pin(incoming.refuse(&response)).await;
    }
}

/// A seat for the session that is asked for, and the response that begins it; or why there is none, with the response
/// where the handler has chosen it.
async fn decide(
    route: &Route,
    label: Label,
    request: &Request,
) -> Result<(Seat, Response), (Refused, Option<Response>)> {
    let seat = route.component.seat(label).await;
    let mut seat = seat.map_err(|unseated| match unseated {
        Unseated::Failed(_) => (Refused::Failed, None),
        Unseated::Resting(_) => (Refused::Resting, None),
    })?;
    if !route.component.admits() {
        return Ok((seat, Response::new(200)));
    }
    match seat.admit(request).await {
        Ok(Ok(acceptance)) => Ok((seat, acceptance)),
        Ok(Err(rejection)) => Err((Refused::Handler, Some(rejection))),
        Err(_) => Err((Refused::Failed, None)),
    }
}

/// Who serves a request, and the places of its session for as long as it lives.
struct Admitted {
    tenant: Arc<Tenant>,
    route: Arc<Route>,
    _places: [Place; 3],
}

/// What is shown of a path, wherever it is: no query, which may be a secret, and not more than a line holds.
pub(super) fn shown(path: &str) -> &str {
    let path = path.split('?').next().unwrap_or_default();
    &path[..path.floor_char_boundary(PATH_SHOWN)]
}

fn label(about: &About) -> Label {
    Label {
        session: about.session,
        tenant: about.tenant.clone(),
        route: about.route.clone(),
        path: about.path.clone(),
        stats: Arc::default(),
    }
}

impl Inner {
    fn router(&self) -> Arc<Router> {
        let router = self.router.read().unwrap_or_else(PoisonError::into_inner);
        router.clone()
    }

    /// Finds who serves a request, and a place for it on the host, of the tenant and of the route. It holds no more of the
    /// router than that, which may be replaced while the session lives.
    fn admit(&self, request: &Request) -> Result<Admitted, Refused> {
        let (tenant, route) = self.router().find(request)?;
        let peer = request.peer.ip();
        let most = Most {
            all: self.runtime.sessions(),
            per_network: self.sessions_per_ip.load(Ordering::Relaxed),
        };
        let on_host = self.census.enter(peer, most);
        let on_host = on_host.map_err(|full| full.or(Refused::HostFull))?;
        let most = Most {
            all: tenant.limits.sessions,
            per_network: tenant.limits.sessions_per_ip,
        };
        let of_tenant = tenant.census.enter(peer, most);
        let of_tenant = of_tenant.map_err(|full| full.or(Refused::TenantFull))?;
        let most = Most {
            all: route.config.sessions,
            per_network: route.config.sessions_per_ip,
        };
        let of_route = route.census.enter(peer, most);
        let of_route = of_route.map_err(|full| full.or(Refused::RouteFull))?;
        Ok(Admitted {
            tenant,
            route,
            _places: [on_host, of_tenant, of_route],
        })
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host")
            .field("sessions", &self.sessions())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_path_neither_the_query_nor_the_rest_of_a_long_one_is_shown() {
        let long = format!("/{}", "é".repeat(200));
        for (path, told) in [
            ("/", "/"),
            ("/chat/a", "/chat/a"),
            ("/chat?token=hidden", "/chat"),
            ("/chat?a?b", "/chat"),
            (&long, &long[..255]),
        ] {
            assert_eq!(shown(path), told, "{path}");
        }
    }
}
