//! Reads the command line, runs what it asks for, chooses the exit code.

use std::{io::Write as _, process::ExitCode};

use clap::Parser as _;
use wharf::cli::{Cli, Usage};

#[tokio::main]
async fn main() -> ExitCode {
    // A usage error ends here, with exit code 2.
    let cli = Cli::parse();
    match cli.execute().await {
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
