//! Reads the command line, runs what it asks for, chooses the exit code.

use std::{io::Write as _, process::ExitCode};

use clap::Parser as _;
use wharf::cli::{Cli, Usage};

fn main() -> ExitCode {
    // A usage error ends here, with exit code 2.
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("no threads: {error}"), 1),
    };
    let done = runtime.block_on(cli.execute());
    // What is being compiled is not waited for.
    runtime.shutdown_background();
    match done {
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
