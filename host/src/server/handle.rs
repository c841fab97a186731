//! What may be asked of a server while it runs: new tenants, another certificate, its end.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::Context as _;

use super::Host;
use crate::{
    admin::{Access, Control, Needed, Phase},
    config::{Admin, Config, Seen, Tenant, Tls},
    metrics::Metrics,
    transport::{
        self,
        tls::{Certificate, Certificates, Choice},
    },
};

/// Reloads, drains and stops a server. Cloning it is cheap; it does not keep the server running.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

struct Shared {
    host: Host,
    certificates: Certificates,
    control: Control,
    /// Who may use the admin listener, where there is one.
    access: Option<Access>,
    /// What it was started with.
    started: Config,
    /// What its peers are told of before they ask for a route.
    told: transport::Limits,
    /// What is served now.
    served: Mutex<Served>,
    /// Held while that is being loaded anew.
    reloading: tokio::sync::Mutex<()>,
}

struct Served {
    config: Config,
    /// The tenants' certificates, in their order.
    certificates: Vec<Certificate>,
    /// The files that all of that is from, as they were before they were read.
    seen: Seen,
}

impl Handle {
    /// Loads what a configuration names, whose sessions are settled with that told to peers.
    pub(super) async fn load(
        config: Config,
        told: transport::Limits,
        metrics: Metrics,
        control: Control,
        access: Option<Access>,
    ) -> anyhow::Result<Self> {
        let seen = Seen::of(&config);
        let certificates = certificates(&config.tenants, None)?;
        let choice = choice(&config.tenants, &certificates)?;
        Ok(Self {
            shared: Arc::new(Shared {
                host: Host::of(&config, metrics).await?,
                certificates: Certificates::new(choice),
                control,
                access,
                started: config.clone(),
                told,
                served: Mutex::new(Served {
                    config,
                    certificates,
                    seen,
                }),
                reloading: tokio::sync::Mutex::new(()),
            }),
        })
    }

    /// Serves these tenants from now on: new sessions are theirs, and new connections are shown their certificates. What
    /// lives goes on as it began. Components whose files and settings are the same stay as they are, and so does what is
    /// counted of a tenant; one that was taken away and comes back is counted from nothing.
    ///
    /// Everything is loaded before anything changes. Settings that a running server cannot change keep their values; a
    /// warning in the log names them.
    ///
    /// # Errors
    ///
    /// One that names the file or the tenant, and what to do. Nothing has changed then.
    pub async fn reload(&self, mut config: Config) -> anyhow::Result<()> {
        anyhow::ensure!(!config.tenants.is_empty(), "no tenant to serve");
        let told = config.settle_sessions();
        let _alone = self.shared.reloading.lock().await;
        let mut fixed = fixed(&self.shared.started, &config);
        fixed.extend(taken_back(&self.shared.told.session, &told.session));
        let seen = Seen::of(&config);
        let needed = self.needed_by_admin(&config)?;
        let certificates = certificates(&config.tenants, Some(&self.served()))?;
        let choice = choice(&config.tenants, &certificates)?;
        let host = &self.shared.host;
        let router = host.load_again(&config.runtime, &config.tenants).await?;
        host.serve_by(router, config.sessions_per_ip);
        self.shared.certificates.replace(choice);
        if let (Some(access), Some(needed)) = (&self.shared.access, needed) {
            access.demand(needed);
        }
        *self.served() = Served {
            config,
            certificates,
            seen,
        };
        if !fixed.is_empty() {
            tracing::warn!(
                settings = fixed.join(", "),
                "settings have changed that take effect with the next start only"
            );
        }
        Ok(())
    }

    /// Has the server take no new sessions and stop when those that live have ended, as [`Server::run`](super::Server::run)
    /// tells.
    pub fn drain(&self) {
        self.shared.control.advance(Phase::Draining);
    }

    /// Has the server stop without waiting for its sessions.
    pub fn stop(&self) {
        self.shared.control.advance(Phase::Stopping);
    }

    /// Whether the server takes no new sessions any more.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.shared.control.phase() >= Phase::Draining
    }

    /// What serves the sessions.
    #[must_use]
    pub fn host(&self) -> Host {
        self.shared.host.clone()
    }

    /// What requests to the admin listener must have by a configuration. The listener is where it was at the start.
    fn needed_by_admin(&self, config: &Config) -> anyhow::Result<Option<Needed>> {
        let (Some(started), Some(admin)) = (&self.shared.started.admin, &config.admin) else {
            return Ok(None);
        };
        let admin = Admin {
            listen: started.listen,
            ..admin.clone()
        };
        Ok(Some(Needed::by(admin.token()?)))
    }

    /// The files that it serves by, as they were before they were read.
    pub(super) fn seen(&self) -> Seen {
        self.served().seen.clone()
    }

    pub(super) fn certificate_hash(&self) -> [u8; 32] {
        let first = self.served().certificates.first().map(Certificate::hash);
        first.unwrap_or_default()
    }

    pub(super) fn look_at_config<T>(&self, look: impl FnOnce(&Config) -> T) -> T {
        look(&self.served().config)
    }

    pub(super) fn certificates(&self) -> &Certificates {
        &self.shared.certificates
    }

    fn served(&self) -> MutexGuard<'_, Served> {
        let served = self.shared.served.lock();
        served.unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("host", &self.shared.host)
            .field("phase", &self.shared.control.phase())
            .finish_non_exhaustive()
    }
}

/// The tenants' certificates: files are read, and one for development is kept where it is for the same hosts.
fn certificates(tenants: &[Tenant], served: Option<&Served>) -> anyhow::Result<Vec<Certificate>> {
    let before = |tenant: &Tenant| {
        let served = served?;
        let mut before = served.config.tenants.iter().zip(&served.certificates);
        before.find(|(before, _)| {
            let same = |tenant: &Tenant| (tenant.name.clone(), tenant.authorities.clone());
            before.tls == Tls::Development && same(before) == same(tenant)
        })
    };
    let load = |tenant: &Tenant| match &tenant.tls {
        Tls::Files { certificate, key } => Certificate::from_files(certificate, key),
        Tls::Development => match before(tenant) {
            Some((_, certificate)) => Ok(certificate.clone()),
            None => Certificate::development_for(&tenant.authorities),
        },
    };
    tenants.iter().map(load).collect()
}

fn choice(tenants: &[Tenant], certificates: &[Certificate]) -> anyhow::Result<Choice> {
    let mut choice = Choice::default();
    for (tenant, certificate) in tenants.iter().zip(certificates) {
        choice
            .add(&tenant.authorities, certificate.clone())
            .with_context(|| format!("tenant `{}`", tenant.name))?;
    }
    Ok(choice)
}

/// The settings that differ and cannot change while the server runs.
fn fixed(old: &Config, new: &Config) -> Vec<&'static str> {
    let memory = |config: &Config| config.runtime.memory;
    let admin = |config: &Config| config.admin.as_ref().map(|admin| admin.listen);
    let same = [
        ("the addresses to listen on", old.listen == new.listen),
        ("the number of sessions", old.sessions == new.sessions),
        ("the tick", old.tick == new.tick),
        ("the folder of the cache", old.cache_dir == new.cache_dir),
        ("limits of the transport", old.transport == new.transport),
        ("the memory of an instance", memory(old) >= memory(new)),
        ("`listen` of [admin]", admin(old) == admin(new)),
        ("[log]", old.log == new.log),
    ];
    let differs = |&(name, same): &(&'static str, bool)| (!same).then_some(name);
    same.iter().filter_map(differs).collect()
}

/// What routes have less of than peers have been told since the start, and get nevertheless.
fn taken_back(
    told: &transport::SessionLimits,
    new: &transport::SessionLimits,
) -> impl Iterator<Item = &'static str> + use<> {
    let streams = new.streams_per_kind < told.streams_per_kind;
    let credit = new.session_receive_credit < told.session_receive_credit;
    [
        streams.then_some("a lower `streams-per-kind`"),
        credit.then_some("a lower `session-receive-credit`"),
    ]
    .into_iter()
    .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Route;

    #[test]
    fn what_a_reload_cannot_change_is_named_and_nothing_else() {
        let config = Config::new(
            Vec::new(),
            Tls::Development,
            vec![Route::new("/", "a.wasm")],
        );
        let named = |change: fn(&mut Config)| {
            let (mut old, mut new) = (config.clone(), config.clone());
            change(&mut new);
            let (told, new_told) = (old.settle_sessions(), new.settle_sessions());
            let mut named = fixed(&old, &new);
            named.extend(taken_back(&told.session, &new_told.session));
            named
        };
        assert!(named(|_| {}).is_empty());
        assert_eq!(named(|config| config.log.filter.clear()), ["[log]"]);
        let admin = |config: &mut Config| config.admin = Some(Admin::default());
        assert_eq!(named(admin), ["`listen` of [admin]"]);
        let idle = |config: &mut Config| config.transport.idle_timeout *= 2;
        assert_eq!(named(idle), ["limits of the transport"]);
        let lower = |config: &mut Config| {
            let mut limits = config.transport.session.clone();
            (limits.streams_per_kind, limits.datagrams_in) = (1, 1);
            config.tenants[0].routes[0].session = Some(limits);
        };
        assert_eq!(named(lower), ["a lower `streams-per-kind`"]);
        let lower = |config: &mut Config| {
            let mut limits = config.transport.session.clone();
            limits.session_receive_credit = 1;
            config.tenants[0].routes[0].session = Some(limits);
        };
        assert_eq!(named(lower), ["a lower `session-receive-credit`"]);
    }
}
