//! `wharf check`: everything that is wrong with an operator's file.

use std::io::Write as _;

use super::serve::File;
use crate::config;

/// Says everything that is wrong with the operator's file, its components and its certificates.
///
/// Each is a line, `FILE:LINE: KEY: what is wrong (the remedy)`, and the exit code is 1 then. Nothing is served.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    file: File,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let path = args.file.path().to_owned();
    // Compiling takes a while.
    let checked = tokio::task::spawn_blocking(move || config::check(&path, super::cache_dir()));
    let config = checked.await??;
    let routes: usize = config
        .tenants
        .iter()
        .map(|tenant| tenant.routes.len())
        .sum();
    let counted =
        |count: usize, what| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    writeln!(
        std::io::stdout(),
        "{}: nothing is wrong with {} and {}",
        args.file.path().display(),
        counted(config.tenants.len(), "tenant"),
        counted(routes, "route"),
    )?;
    Ok(())
}
