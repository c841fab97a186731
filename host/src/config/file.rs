//! The operator's file as it is written. The documentation of its keys is that of the JSON schema.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use schemars::{JsonSchema, generate::SchemaSettings};
use serde::Deserialize;
use toml::Spanned;

use super::{
    limits::{self, Written},
    value::{Given, Name, Origin, RoutePath, Text},
};

/// The operator's file of wharf: what is served, for whom, and within which limits.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "kebab-case")]
#[schemars(deny_unknown_fields, extend("required" = ["listen", "tenant"]))]
pub(super) struct File {
    /// Where sessions are served (UDP and TCP), such as `["[::]:443"]`. Port 0 takes a free port.
    #[schemars(length(min = 1))]
    pub(super) listen: Vec<Given<Text<SocketAddr>>>,
    /// The folder in which compiled components are kept. Default: the user's cache folder.
    pub(super) cache: Given<PathBuf>,
    /// What is logged.
    pub(super) log: Log,
    /// The listener for operators, probes and scrapes. Without it there is none.
    #[schemars(with = "Admin")]
    pub(super) admin: Option<Admin>,
    /// What the host may hold, and each session where its tenant and route say nothing less.
    #[schemars(schema_with = "limits::host_schema")]
    pub(super) limits: Written,
    /// Whose handlers are served, at least one.
    #[schemars(with = "Vec<Tenant>", length(min = 1))]
    pub(super) tenant: Vec<Spanned<Tenant>>,
}

/// What is logged.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub(super) struct Log {
    /// Which lines, such as `info`, `wharf=debug` or `wharf::guest=off`.
    #[schemars(extend("default" = "info"))]
    pub(super) filter: Given<String>,
    /// Lines for people, or one JSON object a line.
    #[schemars(extend("default" = "text"))]
    pub(super) format: Given<LogFormat>,
}

/// How a line of the log looks.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum LogFormat {
    Text,
    Json,
}

/// The listener for operators, probes and scrapes.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub(super) struct Admin {
    /// Where it is served, by HTTP without TLS. Port 0 takes a free port.
    #[schemars(extend("default" = "127.0.0.1:9464"))]
    pub(super) listen: Given<Text<SocketAddr>>,
    /// The file of the token that every request must have, as `Authorization: Bearer`. Required beyond loopback.
    pub(super) token_file: Given<PathBuf>,
}

/// One party among those that share the host.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "kebab-case")]
#[schemars(deny_unknown_fields, extend("required" = ["name", "certificate", "route"]))]
pub(super) struct Tenant {
    /// The name in the log and in metrics. Unique.
    pub(super) name: Given<Text<Name>>,
    /// The hosts whose requests are the tenant's, such as `app.example`, or `*.app.example` for those one label below.
    /// Left out, the tenant has all that are no other's.
    pub(super) authorities: Vec<Given<String>>,
    /// The file of the certificate chain in PEM, the tenant's own first, or "development" for one made at start. Reloaded
    /// when it changes.
    pub(super) certificate: Given<PathBuf>,
    /// The file of the certificate's private key in PEM.
    pub(super) key: Given<PathBuf>,
    /// The share of the processor beside the other tenants' when the machine is full.
    #[schemars(extend("default" = 100))]
    pub(super) weight: Given<i64>,
    /// What the tenant's sessions may use. Each is at most the host's.
    #[schemars(schema_with = "limits::tenant_schema")]
    pub(super) limits: Written,
    /// What is served, by path; at least one.
    #[schemars(with = "Vec<Route>", length(min = 1))]
    pub(super) route: Vec<Spanned<Route>>,
}

/// What serves the sessions below a path.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "kebab-case")]
#[schemars(deny_unknown_fields, extend("required" = ["path", "component"]))]
pub(super) struct Route {
    /// The path, with all below it: `/chat` serves `/chat/a` too. The longest path that fits serves.
    pub(super) path: Given<Text<RoutePath>>,
    /// The file of the component. Reloaded when it changes.
    pub(super) component: Given<PathBuf>,
    /// How many sessions one instance serves: "session" is one, "shared" all of the route.
    #[schemars(extend("default" = "session"))]
    pub(super) scope: Given<Scope>,
    /// The web pages that may open sessions besides those of `https` from the same host and port, such as
    /// `["https://app.example"]`, or "*" for all. Default none.
    pub(super) origins: Given<Origins>,
    /// Deviations of clients from the drafts that are borne with. Default none.
    pub(super) quirks: Vec<Given<Quirk>>,
    /// Environment variables that the component sees.
    #[schemars(with = "BTreeMap<String, String>")]
    pub(super) environment: BTreeMap<Spanned<String>, Given<String>>,
    /// Environment variables that the component sees, whose values are secret and stand elsewhere.
    #[schemars(with = "BTreeMap<String, Secret>")]
    pub(super) secrets: BTreeMap<Spanned<String>, Spanned<Secret>>,
    /// What each session may use. Each is at most the tenant's.
    #[schemars(schema_with = "limits::route_schema")]
    pub(super) limits: Written,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Scope {
    Session,
    Shared,
}

#[derive(Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "is not a list of origins (write [\"https://app.example\"], or \"*\" for all)"
)]
pub(super) enum Origins {
    All(All),
    Listed(Vec<Text<Origin>>),
}

/// All there are.
#[derive(Deserialize, JsonSchema)]
pub(super) enum All {
    #[serde(rename = "*")]
    Any,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Quirk {
    /// The client numbers its streams as if it were the server.
    SwappedStreamIds,
    /// Capsule 0x190B4D3B ends a stream and 0x190B4D3C does not, as in draft 15.
    Draft15Fin,
}

/// Where a secret stands: one of the two.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub(super) struct Secret {
    /// A file; a line break at its end is no part of the secret.
    pub(super) file: Given<PathBuf>,
    /// An environment variable of wharf's own process.
    pub(super) variable: Given<String>,
}

/// The JSON schema of the operator's file.
#[must_use]
pub fn schema() -> serde_json::Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.inline_subschemas = true;
    settings
        .into_generator()
        .into_root_schema_for::<File>()
        .into()
}
