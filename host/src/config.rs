//! What the server uses, with a default, a unit and a reason for every limit, and the operator's file that says it.
//!
//! [`load`] reads the file: what fits its [`schema`] and is right becomes a [`Config`]; what is wrong becomes [`Problems`],
//! all at once. [`check`] looks into components and certificates as well.

use std::{fmt, net::SocketAddr, path::PathBuf, time::Duration};

use crate::{
    runtime::{self, Scope},
    transport,
};

mod admin;
mod amount;
mod certificate;
mod file;
mod limits;
mod load;
mod problem;
mod resolve;
mod seen;
mod shape;
mod value;

pub use admin::Admin;
pub use file::schema;
pub use load::{check, load};
pub use problem::Problems;
pub use seen::Seen;

/// A server's configuration.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Where WebTransport is served, at least one address. Port 0 takes a free one, for each address its own. `[::]`
    /// takes IPv4 as well, unless an address of IPv4 with the same port is listed beside it.
    pub listen: Vec<SocketAddr>,
    /// Whose handlers are served, by the authority of the request; at least one.
    pub tenants: Vec<Tenant>,
    /// Live sessions on the host; the next is refused with 503. Default 10 000, lowered at start where the machine
    /// cannot hold as many.
    pub sessions: u32,
    /// The unit of fairness among handlers: see [`Options::tick`](runtime::Options::tick). Default 1 ms.
    pub tick: Duration,
    /// Live sessions of one address of a peer, or of one /64 of IPv6; the next is refused with 429. Default 256.
    pub sessions_per_ip: u32,
    /// How long sessions may take to end by themselves when the server stops. Default 30 s.
    pub drain: Duration,
    /// Where compiled components are kept; `None` compiles at each start.
    pub cache_dir: Option<PathBuf>,
    /// What peers, and handlers towards them, may make a session hold.
    pub transport: transport::Limits,
    /// What a handler may use.
    pub runtime: runtime::Limits,
    /// The files that all of this was read from, watched besides those that it names. Default none.
    pub sources: Seen,
    /// Where the server can be looked at and drained. Default nowhere.
    pub admin: Option<Admin>,
    /// How the program logs. A library leaves that to the program it is in.
    pub log: Log,
}

impl Config {
    /// A configuration with the defaults, for those addresses, and one tenant of those routes.
    #[must_use]
    pub fn new(listen: Vec<SocketAddr>, tls: Tls, routes: Vec<Route>) -> Self {
        let runtime::Options {
            limits: runtime,
            sessions,
            tick,
            cache_dir,
            ..
        } = runtime::Options::default();
        Self {
            listen,
            tenants: vec![Tenant::new(DEFAULT_TENANT, tls, routes)],
            sessions,
            tick,
            sessions_per_ip: 256,
            drain: Duration::from_secs(30),
            cache_dir,
            transport: transport::Limits::default(),
            runtime,
            sources: Seen::default(),
            admin: None,
            log: Log::default(),
        }
    }

    /// Gives each route the limits of its sessions, none of them above the host's. Returns what peers may be told of before
    /// they ask for a route: the host's limits, with the credit that all routes allow.
    pub(crate) fn settle_sessions(&mut self) -> transport::Limits {
        let host = self.transport.session.clone();
        let mut told = self.transport.clone();
        let routes = self
            .tenants
            .iter_mut()
            .flat_map(|tenant| &mut tenant.routes);
        for route in routes {
            let limits = match &route.session {
                Some(limits) => limits.lowered_to(&host),
                None => host.clone(),
            };
            let told = &mut told.session;
            told.streams_per_kind = told.streams_per_kind.min(limits.streams_per_kind);
            told.session_receive_credit = told
                .session_receive_credit
                .min(limits.session_receive_credit);
            route.session = Some(limits);
        }
        told
    }
}

/// What is logged, to standard error.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Log {
    /// Levels by target, such as `info`, `wharf=debug` or `wharf::guest=off`. Default `info`.
    pub filter: String,
    /// How a line looks. Default text.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            filter: "info".to_owned(),
            format: LogFormat::default(),
        }
    }
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
#[non_exhaustive]
pub enum LogFormat {
    /// A line for people.
    #[default]
    Text,
    /// One JSON object, with `timestamp`, `level`, `target`, `message`, and what else there is to tell.
    Json,
}

/// The name of the one tenant of a configuration that names none.
pub const DEFAULT_TENANT: &str = "default";

/// Whose handlers serve the sessions of an authority: one party among those that share a host and do not trust each
/// other.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Tenant {
    /// The name in the log and in metrics; unique.
    pub name: String,
    /// The hosts, without port, whose requests are the tenant's: `app.example`, or `*.app.example` for all hosts one label
    /// below. Empty takes those that are no other tenant's; one tenant at most may have it so.
    pub authorities: Vec<String>,
    /// The certificate for these authorities.
    pub tls: Tls,
    /// The share of the processor beside the others' when the machine is full. Default 100.
    pub weight: u32,
    /// What the tenant's sessions may use all together.
    pub limits: TenantLimits,
    /// What is served, by path.
    pub routes: Vec<Route>,
}

impl Tenant {
    /// A tenant for every authority, with the defaults.
    #[must_use]
    pub fn new(name: impl Into<String>, tls: Tls, routes: Vec<Route>) -> Self {
        Self {
            name: name.into(),
            authorities: Vec::new(),
            tls,
            weight: 100,
            limits: TenantLimits::default(),
            routes,
        }
    }
}

/// What all sessions of a tenant may use together.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TenantLimits {
    /// Live sessions; the next is refused with 429. Default unlimited, below the host's own.
    pub sessions: u32,
    /// Live sessions of one address of a peer, or of one /64 of IPv6; the next is refused with 429. Default unlimited,
    /// below the host's own.
    pub sessions_per_ip: u32,
    /// Bytes of all instances, with what the host holds for them. Default unlimited.
    pub memory: usize,
    /// CPU time per second that handlers may spend, on all cores. Default unlimited, `None`.
    pub cpu_per_second: Option<Duration>,
}

impl Default for TenantLimits {
    fn default() -> Self {
        Self {
            sessions: u32::MAX,
            sessions_per_ip: u32::MAX,
            memory: usize::MAX,
            cpu_per_second: None,
        }
    }
}

/// Which certificate a server has.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Tls {
    /// One made at start, for this machine's names and those of the tenant. It is good for 13 days and not renewed; nobody
    /// knows it but by its hash.
    Development,
    /// One read from PEM files.
    Files {
        /// The chain, the server's own certificate first.
        certificate: PathBuf,
        /// The private key, unencrypted.
        key: PathBuf,
    },
}

/// What serves the sessions below a path.
#[derive(Clone)]
#[non_exhaustive]
pub struct Route {
    /// The name in the log.
    pub name: String,
    /// The path and all below it: `/chat` serves `/chat`, `/chat/a` and `/chat?x`, and not `/chats`. `/` serves all.
    pub path: String,
    /// The component.
    pub component: PathBuf,
    /// Which web pages may open sessions.
    pub origins: Origins,
    /// Deviations of the clients' from the drafts that are borne with. Default none.
    pub quirks: transport::Quirks,
    /// How many sessions one instance serves. Default one.
    pub scope: Scope,
    /// Environment variables that the component sees, secrets among them. Default none.
    pub environment: Vec<(String, String)>,
    /// What a handler may use; `None`, the default, is what the host allows.
    pub runtime: Option<runtime::Limits>,
    /// What a session may hold; `None`, the default, is what the host allows, and nothing beyond that has effect.
    pub session: Option<transport::SessionLimits>,
    /// Live sessions; the next is refused with 429. Default unlimited, below the tenant's.
    pub sessions: u32,
    /// Live sessions of one address of a peer, or of one /64 of IPv6; the next is refused with 429. Default unlimited,
    /// below the tenant's.
    pub sessions_per_ip: u32,
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The environment may hold secrets.
        f.debug_struct("Route")
            .field("name", &self.name)
            .field("path", &self.path)
            .field("component", &self.component)
            .finish_non_exhaustive()
    }
}

impl Route {
    /// A route for pages of the same origin only, named like the component's file.
    #[must_use]
    pub fn new(path: impl Into<String>, component: impl Into<PathBuf>) -> Self {
        let component = component.into();
        let name = component.file_name().unwrap_or(component.as_os_str());
        Self {
            name: name.to_string_lossy().into_owned(),
            path: path.into(),
            component,
            origins: Origins::Listed(Vec::new()),
            quirks: transport::Quirks::default(),
            scope: Scope::default(),
            environment: Vec::new(),
            runtime: None,
            sessions: u32::MAX,
            sessions_per_ip: u32::MAX,
            session: None,
        }
    }
}

/// Which web pages may open sessions. Requests without an origin, which no browser sends, pass always.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    /// Every page.
    Any,
    /// Pages of `https` from the same host and port, and those of the origins listed, such as `https://app.example`.
    Listed(Vec<String>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_lowers_what_its_sessions_hold_and_raises_nothing() {
        let limits = |streams, credit| {
            let mut limits = transport::SessionLimits::default();
            (limits.streams_per_kind, limits.session_receive_credit) = (streams, credit);
            limits
        };
        let routes = [None, Some(limits(2, 5_000)), Some(limits(1_000, 3_000))];
        let routes = routes.map(|session| Route {
            session,
            ..Route::new("/", "a.wasm")
        });
        let mut config = Config::new(Vec::new(), Tls::Development, routes.into());
        config.transport.session = limits(100, 4_000);
        let told = config.settle_sessions().session;
        let settled = config.tenants[0].routes.iter().map(|route| {
            let session = route.session.as_ref().unwrap();
            (session.streams_per_kind, session.session_receive_credit)
        });
        assert!(settled.eq([(100, 4_000), (2, 4_000), (100, 3_000)]));
        assert_eq!(
            (told.streams_per_kind, told.session_receive_credit),
            (2, 3_000)
        );
    }
}
