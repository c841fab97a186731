//! `wharf config`: what an operator's file may say.

use std::io::Write as _;

/// Says what the operator's file may have in it.
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, Debug, clap::Subcommand)]
enum Command {
    /// Prints the JSON schema of the operator's file, by which editors complete and check it.
    Schema,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    match args.command {
        Command::Schema => {
            let schema = serde_json::to_string_pretty(&crate::config::schema())?;
            writeln!(std::io::stdout(), "{schema}")?;
            Ok(())
        }
    }
}
