//! Counts what happens on a host, and tells Prometheus and the traces of it.
//!
//! Each [`Session`] has [`Stats`], which the session's task alone writes and everybody may read: what happens often costs
//! a plain store. When the session is over its numbers are added to those of its tenant's route, so that a sum over a
//! route never falls. Labels are the names of tenants and routes, which the operator chooses, and words of this program;
//! never what a peer or a handler says.

use std::{fmt, sync::Arc};

use prometheus_client::{
    encoding::{EncodeLabelSet, prometheus_text, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, info::Info},
    registry::Registry,
};

mod numbers;
mod session;
mod stats;
mod table;

pub use numbers::{Counted, Held};
pub use session::{About, Session, View};
pub use stats::{Cause, Closing, Opener, Stats};
use table::Table;

/// Where the numbers of one host come together. Cloning it is cheap; all clones are one.
#[derive(Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Registry,
    table: Arc<Table>,
    sessions: Family<OfSession, Gauge>,
    sessions_accepted: Family<OfSession, Counter>,
    sessions_ended: Family<Ended, Counter>,
    traps: Family<Ended, Counter>,
    refusals: Family<Refusal, Counter>,
    connections: Family<OfHttp, Gauge>,
    connections_accepted: Family<OfHttp, Counter>,
    handshake_failures: Family<HandshakeFailure, Counter>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfSession {
    tenant: Arc<str>,
    route: Arc<str>,
    http: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Ended {
    tenant: Arc<str>,
    route: Arc<str>,
    cause: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Refusal {
    tenant: Arc<str>,
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfHttp {
    http: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct HandshakeFailure {
    http: &'static str,
    kind: &'static str,
}

/// The format of what a scrape gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The text format of Prometheus, version 0.0.4.
    Prometheus,
    /// OpenMetrics, version 1.0.0.
    OpenMetrics,
}

impl Format {
    /// Its media type.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

impl Metrics {
    /// All numbers at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("wharf");
        let version = vec![("version", env!("CARGO_PKG_VERSION"))];
        registry.register("build", "What runs here", Info::new(version));
        macro_rules! registered {
            ($name:literal, $help:literal) => {{
                let family = Family::default();
                registry.register($name, $help, family.clone());
                family
            }};
        }
        let sessions = registered!("sessions", "Live sessions");
        let sessions_accepted = registered!("sessions_accepted", "Sessions that began");
        let sessions_ended = registered!("sessions_ended", "Sessions that ended, by cause");
        let traps = registered!("traps", "Instances of components that failed, by cause");
        let refusals = registered!("refusals", "Sessions refused, by reason");
        let connections = registered!("connections", "Open connections");
        let connections_accepted = registered!(
            "connections_accepted",
            "Connections whose handshake succeeded"
        );
        let handshake_failures =
            registered!("handshake_failures", "Handshakes that failed, by kind");
        let table = Arc::new(Table::default());
        registry.register_collector(Box::new(table.clone()));
        Self {
            inner: Arc::new(Inner {
                registry,
                table,
                sessions,
                sessions_accepted,
                sessions_ended,
                traps,
                refusals,
                connections,
                connections_accepted,
                handshake_failures,
            }),
        }
    }

    /// All numbers, as a scrape gets them.
    #[must_use]
    pub fn text(&self, format: Format) -> String {
        let mut text = String::new();
        let registry = &self.inner.registry;
        let written = match format {
            Format::Prometheus => prometheus_text::encode(&mut text, registry),
            Format::OpenMetrics => text::encode(&mut text, registry),
        };
        // Writing to a string never fails.
        debug_assert_eq!(written, Ok(()), "a metric could not be written");
        text
    }

    /// Live sessions in the order of their numbers, at most `limit`: those of `tenant` where one is named, and with a
    /// number above `after`.
    #[must_use]
    pub fn sessions(&self, tenant: Option<&str>, after: u64, limit: usize) -> Vec<View> {
        self.inner.table.views(tenant, after, limit)
    }

    /// Counts a session that was refused: one of `tenant`, or empty where none was found.
    pub fn refused(&self, tenant: &Arc<str>, reason: &'static str) {
        let tenant = tenant.clone();
        let refusal = Refusal { tenant, reason };
        self.inner.refusals.get_or_create(&refusal).inc();
    }

    /// Counts an instance that failed: once, whatever the number of its sessions.
    pub fn trapped(&self, tenant: &Arc<str>, route: &Arc<str>, cause: Cause) {
        let trap = Ended {
            tenant: tenant.clone(),
            route: route.clone(),
            cause: cause.name(),
        };
        self.inner.traps.get_or_create(&trap).inc();
    }

    /// Counts a connection: as accepted, and as open until what is returned is dropped.
    #[must_use = "a connection counts as open until this is dropped"]
    pub fn connected(&self, http: &'static str) -> Connection {
        let http = OfHttp { http };
        self.inner.connections_accepted.get_or_create(&http).inc();
        let open = self.inner.connections.get_or_create_owned(&http);
        open.inc();
        Connection(open)
    }

    /// Counts a handshake that came to nothing.
    pub fn handshake_failed(&self, http: &'static str, kind: &'static str) {
        let failure = HandshakeFailure { http, kind };
        self.inner.handshake_failures.get_or_create(&failure).inc();
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// An open connection, counted until it is dropped.
#[derive(Debug)]
pub struct Connection(Gauge);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests;
