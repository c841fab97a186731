//! The command line: what was typed, turned into what the server uses.

use std::{fmt, io::Write as _, path::PathBuf};

use clap::{Parser, Subcommand};

use crate::{
    config::Config,
    server::{Server, Watch},
};

mod check;
mod config;
mod connect;
mod logging;
mod run;
mod serve;
mod traces;

/// Runs WebTransport sessions with handlers that are WebAssembly components.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,

    #[command(flatten)]
    logging: logging::Args,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Args),
    Serve(serve::Args),
    Check(check::Args),
    Config(config::Args),
    Connect(Box<connect::Args>),
}

impl Cli {
    /// Begins to log, and does what was asked for.
    ///
    /// # Errors
    ///
    /// One that names the file or the flag, and the remedy; a [`Usage`] where the command line itself is wrong.
    pub async fn execute(self) -> anyhow::Result<()> {
        // An operator's file says what is logged from then on.
        let loaded = match &self.command {
            Command::Serve(args) => Some(args.load()?),
            Command::Run(_) | Command::Check(_) | Command::Config(_) | Command::Connect(_) => None,
        };
        let log = loaded.as_ref().map(|config| config.log.clone());
        let logging = self.logging.start(log.unwrap_or_default())?;
        let done = match (self.command, loaded) {
            (Command::Serve(args), Some(config)) => serve::run(args, config).await,
            (Command::Serve(_), None) => Ok(()), // it was loaded above
            (Command::Run(args), _) => run::run(args).await,
            (Command::Check(args), _) => check::run(args).await,
            (Command::Config(args), _) => config::run(&args),
            (Command::Connect(args), _) => connect::run(*args).await,
        };
        logging.finish();
        done
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

/// Serves until a signal asks the server to drain; a second one stops it at once. Files that change are loaded anew
/// meanwhile, by way of `load`, and all of them at each SIGHUP.
async fn serve(server: Server, signals: Signals, load: impl FnMut() -> anyhow::Result<Config>) {
    let Signals {
        mut interrupts,
        mut hangups,
    } = signals;
    let handle = server.handle();
    let watch = Watch::new(handle.clone(), load);
    let end = async {
        interrupts.next().await;
        handle.drain();
        interrupts.next().await;
        handle.stop();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = server.run(std::future::pending()) => {}
        () = watch.run(async || hangups.next().await) => {}
        () = end => {}
    }
}

/// Ends with the first Ctrl-C or termination signal from this call on.
fn interrupt() -> impl Future<Output = ()> {
    let mut interrupts = Interrupts::take();
    async move { interrupts.next().await }
}

/// The signals that a server obeys, taken from the system.
struct Signals {
    interrupts: Interrupts,
    hangups: Hangups,
}

impl Signals {
    fn take() -> Self {
        Self {
            interrupts: Interrupts::take(),
            hangups: Hangups::take(),
        }
    }

    /// What comes of a future, unless Ctrl-C or a termination signal comes first.
    async fn unless_interrupted<T>(&mut self, future: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            done = future => Some(done),
            () = self.interrupts.next() => None,
        }
    }
}

/// Ctrl-C and, where there is one, the termination signal.
struct Interrupts {
    #[cfg(unix)]
    taken: Option<[tokio::signal::unix::Signal; 2]>,
}

impl Interrupts {
    fn take() -> Self {
        Self {
            #[cfg(unix)]
            taken: {
                use tokio::signal::unix::{SignalKind, signal};
                let interrupt = signal(SignalKind::interrupt()).ok();
                interrupt
                    .zip(signal(SignalKind::terminate()).ok())
                    .map(Into::into)
            },
        }
    }

    /// Waits for the next one.
    async fn next(&mut self) {
        #[cfg(unix)]
        if let Some([interrupt, terminate]) = &mut self.taken {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            return;
        }
        _ = tokio::signal::ctrl_c().await;
    }
}

/// SIGHUP, where there is one.
struct Hangups {
    #[cfg(unix)]
    taken: Option<tokio::signal::unix::Signal>,
}

impl Hangups {
    fn take() -> Self {
        Self {
            #[cfg(unix)]
            taken: {
                use tokio::signal::unix::{SignalKind, signal};
                signal(SignalKind::hangup()).ok()
            },
        }
    }

    /// Waits for the next one.
    async fn next(&mut self) {
        #[cfg(unix)]
        if let Some(hangup) = &mut self.taken {
            _ = hangup.recv().await;
            return;
        }
        std::future::pending::<()>().await;
    }
}

/// Lets the process open as many files as the machine lets it: each connection of HTTP/2 is one, and the usual 1024 are
/// soon used up.
fn raise_file_limit() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit, setrlimit};
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        _ = setrlimit(Resource::Nofile, limit); // where it cannot be raised, fewer connections are taken
    }
}
