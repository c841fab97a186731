//! Reads the command line, runs what it asks for, chooses the exit code.

use std::{
    io::{IsTerminal as _, Write as _},
    process::ExitCode,
};

use clap::Parser as _;
use tracing_subscriber::EnvFilter;
use wharf::cli::{Cli, Usage};

#[tokio::main]
async fn main() -> ExitCode {
    // A usage error ends here, with exit code 2.
    let command = match Cli::parse().prepare() {
        Ok(command) => command,
        Err(error) => return fail(&format!("{error:#}"), 1),
    };
    let filter = match EnvFilter::try_new(command.log()) {
        Ok(filter) => filter,
        Err(error) => return fail(&format!("--log {}: {error}", command.log()), 2),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    match command.execute().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(
            &format!("{error:#}"),
            if error.is::<Usage>() { 2 } else { 1 },
        ),
    }
}

fn fail(message: &str, code: u8) -> ExitCode {
    // Without a standard error the code has to do.
    _ = writeln!(std::io::stderr(), "wharf: {message}");
    ExitCode::from(code)
}
