//! What may be asked of a server while it runs: new tenants, another certificate, its end.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::Context as _;
use tokio::sync::watch;

use super::Host;
use crate::{
    config::{Config, Tenant, Tls},
    metrics::Metrics,
    transport::tls::{Certificate, Certificates, Choice},
};

/// How a server is to go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wish {
    #[default]
    Serve,
    Drain,
    Stop,
}

/// Reloads, drains and stops a server. Cloning it is cheap; it does not keep the server running.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

struct Shared {
    host: Host,
    certificates: Certificates,
    wish: watch::Sender<Wish>,
    /// What it was started with.
    started: Config,
    /// What is served now.
    served: Mutex<Served>,
    /// Held while that is being loaded anew.
    reloading: tokio::sync::Mutex<()>,
}

struct Served {
    config: Config,
    /// The tenants' certificates, in their order.
    certificates: Vec<Certificate>,
}

impl Handle {
    pub(super) async fn load(config: Config, metrics: Metrics) -> anyhow::Result<Self> {
        let certificates = certificates(&config.tenants, None)?;
        let choice = choice(&config.tenants, &certificates)?;
        Ok(Self {
            shared: Arc::new(Shared {
                host: Host::of(&config, metrics).await?,
                certificates: Certificates::new(choice),
                wish: watch::Sender::default(),
                started: config.clone(),
                served: Mutex::new(Served {
                    config,
                    certificates,
                }),
                reloading: tokio::sync::Mutex::new(()),
            }),
        })
    }

    /// Serves these tenants from now on: new sessions are theirs, and new connections are shown their certificates. What
    /// lives goes on as it began. Components whose files and settings are the same stay as they are.
    ///
    /// Everything is loaded before anything changes. Settings that a running server cannot change keep their values; a
    /// warning in the log names them.
    ///
    /// # Errors
    ///
    /// One that names the file or the tenant, and what to do. Nothing has changed then.
    pub async fn reload(&self, mut config: Config) -> anyhow::Result<()> {
        anyhow::ensure!(!config.tenants.is_empty(), "no tenant to serve");
        config.settle_sessions();
        let _alone = self.shared.reloading.lock().await;
        let fixed = fixed(&self.shared.started, &config);
        let certificates = certificates(&config.tenants, Some(&self.served()))?;
        let choice = choice(&config.tenants, &certificates)?;
        let host = &self.shared.host;
        let router = host.load_again(&config.runtime, &config.tenants).await?;
        host.serve_by(router, config.sessions_per_ip);
        self.shared.certificates.replace(choice);
        *self.served() = Served {
            config,
            certificates,
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
        self.wish(Wish::Drain);
    }

    /// Has the server stop without waiting for its sessions.
    pub fn stop(&self) {
        self.wish(Wish::Stop);
    }

    /// Whether the server takes no new sessions any more.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        *self.shared.wish.borrow() != Wish::Serve
    }

    /// What serves the sessions.
    #[must_use]
    pub fn host(&self) -> Host {
        self.shared.host.clone()
    }

    fn wish(&self, wish: Wish) {
        self.shared.wish.send_if_modified(|wished| {
            let more = *wished < wish;
            if more {
                *wished = wish;
            }
            more
        });
    }

    pub(super) fn wishes(&self) -> watch::Receiver<Wish> {
        self.shared.wish.subscribe()
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
            .field("wish", &*self.shared.wish.borrow())
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
    let same = [
        ("the addresses to listen on", old.listen == new.listen),
        ("the number of sessions", old.sessions == new.sessions),
        ("the tick", old.tick == new.tick),
        ("the folder of the cache", old.cache_dir == new.cache_dir),
        ("limits of the transport", old.transport == new.transport),
        ("the memory of an instance", memory(old) >= memory(new)),
    ];
    let differs = |&(name, same): &(&'static str, bool)| (!same).then_some(name);
    same.iter().filter_map(differs).collect()
}
