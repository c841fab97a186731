//! The command line: what was typed, turned into what the server uses.

use std::{fmt, io::Write as _, path::PathBuf};

use clap::{Parser, Subcommand};

mod connect;
mod run;

/// Runs WebTransport sessions with handlers that are WebAssembly components.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,

    /// What is logged, such as `info`, `wharf=debug` or `wharf::guest=off`.
    #[arg(
        long,
        global = true,
        env = "WHARF_LOG",
        default_value = "info",
        value_name = "FILTER"
    )]
    log: String,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Args),
    Connect(Box<connect::Args>),
}

impl Cli {
    /// The log filter.
    #[must_use]
    pub fn log(&self) -> &str {
        &self.log
    }

    /// Does what was asked for.
    ///
    /// # Errors
    ///
    /// One that names the file or the flag, and the remedy; a [`Usage`] where the command line itself is wrong.
    pub async fn execute(self) -> anyhow::Result<()> {
        match self.command {
            Command::Run(args) => run::run(args).await,
            Command::Connect(args) => connect::run(*args).await,
        }
    }
}

/// Where compiled components are kept between runs, where the machine has a place for that.
fn cache_dir() -> Option<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| Some(std::env::home_dir()?.join(".cache")))?;
    Some(base.join("wharf"))
}

/// What is wrong with a command line, beyond what its parser knows.
#[derive(Debug)]
pub struct Usage(String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

fn say(line: &str) {
    // Nobody to tell is no reason to stop.
    _ = writeln!(std::io::stderr(), "wharf: {line}");
}

/// Ends with Ctrl-C or, where there is one, a termination signal: the first from this call on, which takes the signals from
/// the system.
fn interrupt() -> impl Future<Output = ()> {
    #[cfg(unix)]
    let taken = {
        use tokio::signal::unix::{SignalKind, signal};
        (
            signal(SignalKind::interrupt()),
            signal(SignalKind::terminate()),
        )
    };
    async move {
        #[cfg(unix)]
        if let (Ok(mut interrupted), Ok(mut terminated)) = taken {
            tokio::select! {
                _ = interrupted.recv() => {}
                _ = terminated.recv() => {}
            }
            return;
        }
        _ = tokio::signal::ctrl_c().await;
    }
}
