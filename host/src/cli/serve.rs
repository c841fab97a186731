//! `wharf serve`: what an operator's file says, until it is told to stop.

use std::{
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use crate::{
    config::{self, Config, Problems},
    server::Server,
};

/// Serves what the operator's file says: tenants by authority, their components by path.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
`wharf check` says what is wrong with the file, `wharf config schema` what may be in it. Flags count before environment
variables, and these before the file. The file, and what it names, is loaded anew when it changes, and at SIGHUP; what is
wrong then leaves all as it was. SIGTERM, or Ctrl-C, lets sessions end, for `drain` at most, and stops; a second one stops
at once.")]
pub(super) struct Args {
    #[command(flatten)]
    file: File,

    /// Where sessions are served (UDP and TCP), instead of the file's `listen`. Several addresses are separated by commas.
    #[arg(
        long,
        env = "WHARF_LISTEN",
        value_delimiter = ',',
        value_name = "ADDRESS"
    )]
    listen: Vec<SocketAddr>,

    /// Where compiled components are kept, instead of the file's `cache`.
    #[arg(long, env = "WHARF_CACHE", value_name = "FOLDER")]
    cache: Option<PathBuf>,
}

/// Which operator's file.
#[derive(Debug, clap::Args)]
pub(super) struct File {
    /// The operator's file.
    #[arg(
        short,
        long,
        env = "WHARF_CONFIG",
        default_value = "wharf.toml",
        value_name = "FILE"
    )]
    config: PathBuf,
}

impl File {
    pub(super) fn path(&self) -> &Path {
        &self.config
    }
}

impl Args {
    /// Reads the file; what the command line says besides counts before it.
    pub(super) fn load(&self) -> Result<Config, Problems> {
        let mut config = config::load(self.file.path())?;
        if !self.listen.is_empty() {
            config.listen.clone_from(&self.listen);
        }
        let by_file = config.cache_dir.take();
        config.cache_dir = self.cache.clone().or(by_file).or_else(super::cache_dir);
        Ok(config)
    }
}

pub(super) async fn run(args: Args, config: Config) -> anyhow::Result<()> {
    super::raise_file_limit();
    let mut signals = super::Signals::take(); // before anybody can know that it serves
    let Some(server) = signals.unless_interrupted(Server::bind(config)).await else {
        return Ok(());
    };
    let server = server?;
    announce(server.local_addrs(), server.admin_addr());
    super::serve(server, signals, move || Ok(args.load()?)).await;
    Ok(())
}

/// Says where sessions are served, a line for each address, and where the admin listener is.
fn announce(addresses: &[SocketAddr], admin: Option<SocketAddr>) {
    let line = |address: &SocketAddr| format!("listening on {address} (UDP and TCP)\n");
    let mut text: String = addresses.iter().map(line).collect();
    if let Some(admin) = admin {
        text += &format!("admin at http://{admin}/\n");
    }
    let mut out = std::io::stdout().lock();
    // Nobody to tell is no reason to stop.
    _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
