//! Owns the engine; compiles a component once; runs each session in a fresh instance of its own, or in one that its route
//! shares.
//!
//! [`Runtime::load`] turns a file into a [`Component`] that is compiled, checked and linked; [`Component::instantiate`]
//! makes a [`Guest`] of it in a store of its own; [`Guest::run`] serves one session with it and says how that ended. The
//! session's imports never suspend; WASI's may, for a limited time. So a callback ends by itself, by its deadline or by a
//! trap. No wasmtime type leaves this module.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

mod bindings;
mod cache;
mod clocks;
mod component;
mod cpu;
mod engine;
mod host;
mod instance;
mod load;
mod members;
mod memory;
mod output;
mod seat;
mod session;
mod shared;
mod timers;
mod wasi;
mod wit;

pub use component::{Component, Runtime};
pub use cpu::{Account, AccountLimits};
pub use seat::{Seat, Unseated};
pub use session::Guest;

use crate::{
    close::{self, Close},
    metrics::{Cause, Metrics, Stats},
};

/// What a handler may use.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of all memories and tables of one instance together, with what the host holds for its sessions. Default
    /// 64 MiB, at most 4 GiB.
    pub memory: usize,
    /// CPU time of one callback; the constructor, `admit` and `on-closed` count as one each. Default 100 ms.
    pub callback_deadline: Duration,
    /// How long one callback may wait in calls of WASI, such as a sleep. Default 10 s.
    pub callback_wait: Duration,
    /// CPU time of one session per second, of which it may save up one second's. A session that has spent more waits.
    /// `None` is without limit. Default 200 ms.
    pub cpu_per_second: Option<Duration>,
    /// Timers that one session may have set. Default 64.
    pub timers: usize,
    /// Handles and resources that one instance may hold. Default 4096.
    pub handles: u32,
    /// Bytes of one log line of a guest; the rest of the line is dropped. Default 1024.
    pub log_line: usize,
    /// Log lines of one session per second; the rest is dropped and counted. Default 100.
    pub log_rate: u32,
    /// The steps in which a handler sees its clocks go on. Default 1 ms: finer clocks tell of what else runs here.
    pub clock_resolution: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: 64 << 20,
            callback_deadline: Duration::from_millis(100),
            callback_wait: Duration::from_secs(10),
            cpu_per_second: Some(Duration::from_millis(200)),
            timers: 64,
            handles: 4096,
            log_line: 1024,
            log_rate: 100,
            clock_resolution: Duration::from_millis(1),
        }
    }
}

/// How to make a [`Runtime`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// What each handler may use where its [`Terms`] say nothing else; they may not say more of memory.
    pub limits: Limits,
    /// Sessions that may live at once, each in an instance of its own. Lowered where the kernel's limit of memory maps
    /// (`vm.max_map_count`) allows fewer. Default 10 000.
    pub sessions: u32,
    /// Instances besides those of sessions: those that many sessions share, and those that one is replaced by. Default 64.
    pub spare: u32,
    /// How long a handler runs before it yields to others, twice that at most; 8 ms at most, if that is more, where no call was
    /// long for a second, which is one that yields twice. Default 1 ms.
    pub tick: Duration,
    /// Where compiled code is kept between runs; `None`, the default, compiles each time.
    pub cache_dir: Option<PathBuf>,
    /// Where sessions are counted. Default numbers of its own.
    pub metrics: Metrics,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            sessions: 10_000,
            spare: 64,
            tick: Duration::from_millis(1),
            cache_dir: None,
            metrics: Metrics::default(),
        }
    }
}

/// On which terms a component is run.
#[derive(Clone)]
#[non_exhaustive]
pub struct Terms {
    /// What each of its handlers may use.
    pub limits: Limits,
    /// The tenant's account.
    pub account: Account,
    /// Environment variables that its instances see, secrets among them. Default none.
    pub environment: Vec<(String, String)>,
    /// How many sessions one instance serves. Default one.
    pub scope: Scope,
}

impl Terms {
    /// These limits, on that account.
    #[must_use]
    pub fn new(limits: Limits, account: Account) -> Self {
        Self {
            limits,
            account,
            environment: Vec::new(),
            scope: Scope::default(),
        }
    }
}

impl fmt::Debug for Terms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The environment may hold secrets.
        f.debug_struct("Terms")
            .field("limits", &self.limits)
            .field("account", &self.account)
            .finish_non_exhaustive()
    }
}

/// How many sessions one instance of a component serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scope {
    /// One: each session has a fresh instance of its own.
    #[default]
    Session,
    /// All of the route's: one instance, so that its handlers see each other.
    Shared,
}

/// Names a session in the log.
#[derive(Clone, Debug)]
pub struct Label {
    /// Its number, unique while the host runs.
    pub session: u64,
    /// Whose handler it has.
    pub tenant: Arc<str>,
    /// The route that chose the handler.
    pub route: Arc<str>,
    /// The request's path.
    pub path: String,
    /// Its numbers.
    pub stats: Arc<Stats>,
}

/// How a handler ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Its session is over.
    Returned,
    /// It trapped.
    Trapped,
    /// A callback spent more CPU, or waited longer, than it may.
    OutOfTime,
    /// It trapped after it was denied memory.
    OutOfMemory,
    /// It answered something that makes no sense; the log says what.
    Failed,
}

impl Exit {
    /// What it means for a session; `None` where its session ended in another way.
    fn cause(self) -> Option<Cause> {
        match self {
            Self::Returned => None,
            Self::Trapped => Some(Cause::Trapped),
            Self::OutOfTime => Some(Cause::Deadline),
            Self::OutOfMemory => Some(Cause::Memory),
            Self::Failed => Some(Cause::Failed),
        }
    }

    /// What the peer is told.
    fn close(self) -> Close {
        match self {
            Self::Returned | Self::Trapped | Self::Failed => close::TRAPPED,
            Self::OutOfTime => close::OUT_OF_TIME,
            Self::OutOfMemory => close::OUT_OF_MEMORY,
        }
    }
}
