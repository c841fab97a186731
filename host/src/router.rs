//! Finds the tenant and the route for a request.

use std::sync::Arc;

use crate::{
    authority::{self, Hosts},
    config::{self, Origins, TenantLimits},
    runtime::{Account, AccountLimits, Component},
    transport::Request,
};

mod census;

pub(crate) use census::{Census, Most, Place};

/// A tenant whose components are loaded.
#[derive(Debug)]
pub(crate) struct Tenant {
    pub(crate) name: Arc<str>,
    pub(crate) limits: TenantLimits,
    weight: u32,
    /// What its sessions have spent and take, those begun before it was loaded anew among them.
    pub(crate) account: Account,
    /// Of its sessions, those begun before it was loaded anew among them.
    pub(crate) census: Arc<Census>,
    /// The longest path first.
    routes: Vec<Arc<Route>>,
}

/// A route with its component loaded.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) name: Arc<str>,
    pub(crate) config: config::Route,
    pub(crate) component: Component,
    /// The SHA-256 of the component's file.
    pub(crate) digest: [u8; 32],
    /// Of its sessions, those begun before it was loaded anew among them.
    pub(crate) census: Arc<Census>,
}

/// Why a request for a session is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refused {
    /// The authority is no tenant's.
    UnknownAuthority,
    /// The connection was made for a name of another tenant.
    Misdirected,
    /// Nothing is served at the path.
    NoRoute,
    /// Pages of its origin may not open sessions there.
    Origin,
    /// The host serves as many sessions as it may.
    HostFull,
    /// The peer's network has as many sessions as it may, on the host, of the tenant or of the route.
    PeerFull,
    /// The tenant has as many sessions as it may.
    TenantFull,
    /// The route has as many sessions as it may.
    RouteFull,
    /// The instance that sessions share traps again and again, and none is made for a while.
    Resting,
    /// The component's `admit` has said so.
    Handler,
    /// The component failed before it could decide.
    Failed,
}

impl Refused {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::UnknownAuthority,
        Self::Misdirected,
        Self::NoRoute,
        Self::Origin,
        Self::HostFull,
        Self::PeerFull,
        Self::TenantFull,
        Self::RouteFull,
        Self::Resting,
        Self::Handler,
        Self::Failed,
    ];

    /// A word for it, in the log and in metrics.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::UnknownAuthority => "unknown-authority",
            Self::Misdirected => "misdirected",
            Self::NoRoute => "no-route",
            Self::Origin => "origin",
            Self::HostFull => "host-full",
            Self::PeerFull => "peer-full",
            Self::TenantFull => "tenant-full",
            Self::RouteFull => "route-full",
            Self::Resting => "resting",
            Self::Handler => "handler",
            Self::Failed => "failed",
        }
    }

    /// The status that answers it. A [`Handler`](Self::Handler) chooses its own: this one is the usual.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::UnknownAuthority | Self::Misdirected => 421,
            Self::NoRoute => 404,
            Self::Origin | Self::Handler => 403,
            Self::HostFull | Self::Resting => 503,
            Self::PeerFull | Self::TenantFull | Self::RouteFull => 429,
            Self::Failed => 500,
        }
    }
}

impl Tenant {
    /// A tenant with those routes. It goes on with the account and the counts of `before`, if it was loaded before.
    pub(crate) fn new(
        config: &config::Tenant,
        account: Account,
        before: Option<&Self>,
        mut routes: Vec<Arc<Route>>,
    ) -> Self {
        routes.sort_by_key(|route| std::cmp::Reverse(route.config.path.len()));
        Self {
            name: config.name.as_str().into(),
            limits: config.limits.clone(),
            weight: config.weight,
            account,
            census: before.map_or_else(Arc::default, |before| before.census.clone()),
            routes,
        }
    }

    /// Has its account keep to its own limits from now on.
    fn limit_account(&self) {
        let mut limits = AccountLimits::default();
        limits.weight = self.weight;
        limits.memory = self.limits.memory;
        limits.cpu_per_second = self.limits.cpu_per_second;
        self.account.set_limits(limits);
    }

    /// The route of that very path.
    pub(crate) fn route(&self, path: &str) -> Option<&Arc<Route>> {
        self.routes.iter().find(|route| route.config.path == path)
    }

    fn find(&self, path: &str) -> Option<&Arc<Route>> {
        self.routes
            .iter()
            .find(|route| is_below(path, &route.config.path))
    }
}

/// All tenants, by their hosts.
#[derive(Debug, Default)]
pub(crate) struct Router {
    tenants: Vec<Arc<Tenant>>,
    /// Places in `tenants`.
    hosts: Hosts<usize>,
}

impl Router {
    /// Adds a tenant with its authorities.
    ///
    /// # Errors
    ///
    /// When its name or an authority is another tenant's, or an authority is malformed.
    pub(crate) fn add(&mut self, tenant: Tenant, authorities: &[String]) -> anyhow::Result<()> {
        let name = &tenant.name;
        anyhow::ensure!(
            self.tenant(name).is_none(),
            "tenant `{name}`: another has the same name (rename one)"
        );
        self.hosts
            .give(authorities, &self.tenants.len())
            .map_err(|error| error.context(format!("tenant `{name}`")))?;
        self.tenants.push(Arc::new(tenant));
        Ok(())
    }

    /// Has each tenant's account keep to the tenant's limits from now on.
    pub(crate) fn limit_accounts(&self) {
        for tenant in &self.tenants {
            tenant.limit_account();
        }
    }

    /// The tenant of that name.
    pub(crate) fn tenant(&self, name: &str) -> Option<&Arc<Tenant>> {
        self.tenants.iter().find(|tenant| &*tenant.name == name)
    }

    /// The tenant whose the host of a request's authority is.
    pub(crate) fn owner(&self, request: &Request) -> Option<Arc<Tenant>> {
        let host = authority::parse(&request.connect.authority)?;
        self.tenants.get(*self.hosts.of(&host)?).cloned()
    }

    /// The tenant and the route that serve a request, if its origin is welcome there.
    ///
    /// A request is of the tenant whose the host of its authority is; and its connection must have been made for a name
    /// of the same tenant, or its peer was shown another's certificate.
    pub(crate) fn find(&self, request: &Request) -> Result<(Arc<Tenant>, Arc<Route>), Refused> {
        let connect = &request.connect;
        let host = authority::parse(&connect.authority).ok_or(Refused::UnknownAuthority)?;
        let owner = self.hosts.of(&host).ok_or(Refused::UnknownAuthority)?;
        if self.hosts.of_connection(request.server_name.as_deref()) != Some(owner) {
            return Err(Refused::Misdirected);
        }
        let tenant = self.tenants.get(*owner).ok_or(Refused::UnknownAuthority)?;
        let path = connect.path.split('?').next().unwrap_or_default();
        let route = tenant.find(path).ok_or(Refused::NoRoute)?;
        match &connect.origin {
            Some(origin) if !is_welcome(&route.config.origins, origin, &connect.authority) => {
                Err(Refused::Origin)
            }
            Some(_) | None => Ok((tenant.clone(), route.clone())),
        }
    }
}

fn is_below(path: &str, prefix: &str) -> bool {
    match path.strip_prefix(prefix.trim_end_matches('/')) {
        Some(rest) => rest.is_empty() || rest.starts_with('/'),
        None => false,
    }
}

fn is_welcome(origins: &Origins, origin: &str, authority: &str) -> bool {
    match origins {
        Origins::Any => true,
        Origins::Listed(listed) => {
            origin.strip_prefix("https://") == Some(authority)
                || listed.iter().any(|known| known == origin)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_serves_itself_and_what_is_below_it() {
        for (path, prefix, below) in [
            ("/", "/", true),
            ("/chat", "/", true),
            ("/chat", "/chat", true),
            ("/chat/a", "/chat", true),
            ("/chat/a", "/chat/", true),
            ("/chats", "/chat", false),
            ("/", "/chat", false),
        ] {
            assert_eq!(is_below(path, prefix), below, "{path} below {prefix}");
        }
    }

    #[test]
    fn only_the_same_origin_and_listed_ones_are_welcome() {
        let listed = Origins::Listed(vec!["http://127.0.0.1:8080".to_owned()]);
        for (origin, welcome) in [
            ("https://a.example:4433", true),
            ("http://a.example:4433", false),
            ("http://127.0.0.1:8080", true),
            ("http://127.0.0.1:80801", false),
            ("null", false),
        ] {
            assert_eq!(
                is_welcome(&listed, origin, "a.example:4433"),
                welcome,
                "{origin}"
            );
        }
        assert!(is_welcome(&Origins::Any, "null", "a.example"));
    }
}
