//! Owns the engine; compiles a component once; runs each session in a fresh instance of its own.
//!
//! [`Runtime::load`] turns a file into a [`Component`] that is compiled, checked and linked; [`Component::instantiate`]
//! makes a [`Guest`] of it in a store of its own; [`Guest::run`] serves one session with it and says how that ended. A
//! guest's imports never suspend, so a callback ends by itself, by its deadline or by a trap. No wasmtime type leaves
//! this module.

use std::{path::PathBuf, time::Duration};

mod bindings;
mod cache;
mod call;
mod component;
mod engine;
mod host;
mod limits;
mod load;
mod output;
mod session;
mod timers;

pub use component::{Component, Runtime};
pub use session::{Exit, Guest, Label};

/// What a handler may use.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of all memories and tables of one instance together. Default 64 MiB.
    pub memory: usize,
    /// CPU time of one callback; the constructor, `admit` and `on-closed` count as one each. Default 100 ms.
    pub callback_deadline: Duration,
    /// Timers that one session may have set. Default 64.
    pub timers: usize,
    /// Handles and resources that one instance may hold. Default 4096.
    pub handles: u32,
    /// Bytes of one log line of a guest; the rest of the line is dropped. Default 1024.
    pub log_line: usize,
    /// Log lines of one session per second; the rest is dropped and counted. Default 100.
    pub log_rate: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: 64 << 20,
            callback_deadline: Duration::from_millis(100),
            timers: 64,
            handles: 4096,
            log_line: 1024,
            log_rate: 100,
        }
    }
}

/// How to make a [`Runtime`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// What each handler may use.
    pub limits: Limits,
    /// Instances that may live at once. Lowered where the machine cannot hold as many. Default 10 000.
    pub sessions: u32,
    /// Where compiled code is kept between runs; `None`, the default, compiles each time.
    pub cache_dir: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            sessions: 10_000,
            cache_dir: None,
        }
    }
}
