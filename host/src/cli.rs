//! The command line: what was typed, turned into what the server uses.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

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
    /// One that names the file or the flag, and the remedy.
    pub async fn execute(self) -> anyhow::Result<()> {
        match self.command {
            Command::Run(args) => run::run(args).await,
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
