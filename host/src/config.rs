//! What the server uses, with a default, a unit and a reason for every limit.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use crate::{runtime, transport};

/// A server's configuration.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Where WebTransport is served, at least one address. Port 0 takes a free one, for each address its own. `[::]`
    /// takes IPv4 as well, unless an address of IPv4 with the same port is listed beside it.
    pub listen: Vec<SocketAddr>,
    /// The certificate to serve with.
    pub tls: Tls,
    /// What is served, by path.
    pub routes: Vec<Route>,
    /// Live sessions on the host; the next is refused with 503. Default 10 000, lowered at start where the machine
    /// cannot hold as many.
    pub sessions: u32,
    /// How long sessions may take to end by themselves when the server stops. Default 30 s.
    pub drain: Duration,
    /// Where compiled components are kept; `None` compiles at each start.
    pub cache_dir: Option<PathBuf>,
    /// What peers, and handlers towards them, may make a session hold.
    pub transport: transport::Limits,
    /// What a handler may use.
    pub runtime: runtime::Limits,
}

impl Config {
    /// A configuration with the defaults, for those addresses and routes.
    #[must_use]
    pub fn new(listen: Vec<SocketAddr>, tls: Tls, routes: Vec<Route>) -> Self {
        let runtime::Options {
            limits: runtime,
            sessions,
            cache_dir,
        } = runtime::Options::default();
        Self {
            listen,
            tls,
            routes,
            sessions,
            drain: Duration::from_secs(30),
            cache_dir,
            transport: transport::Limits::default(),
            runtime,
        }
    }
}

/// Which certificate a server has.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Tls {
    /// One made at start, for loopback only.
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
#[derive(Clone, Debug)]
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
        }
    }
}

/// Which web pages may open sessions. Requests without an origin, which no browser sends, pass always.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    /// Every page.
    Any,
    /// Pages of the same host and port, and those of the origins listed, such as `https://app.example`.
    Listed(Vec<String>),
}
