//! Measures wharf beside native WebTransport servers, alternately, each server in a process of its own.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use clap::{Parser, Subcommand};

mod body;
mod figure;
mod instances;
mod instructions;
mod load;
mod paths;
mod plot;
mod process;
mod report;
mod servers;
mod socket;

use figure::Figure;
use load::{Measure, Plan};
use paths::HotPath;
use process::Server;
use report::Run;
use servers::Kind;

/// Measures wharf beside native WebTransport servers on loopback, and prints a table.
#[derive(Debug, Parser)]
#[command(name = "wharf-bench", args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,

    /// How often every server is measured.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,

    /// How long one measurement runs, in seconds.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,

    /// At how many idle sessions the memory is looked at.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "1000",
        value_parser = clap::value_parser!(u32).range(1..=10_000)
    )]
    sessions: Vec<u32>,

    /// The servers to measure.
    #[arg(long, value_delimiter = ',', default_values_t = Kind::ALL)]
    servers: Vec<Kind>,

    /// What to measure; everything where it is left out.
    #[arg(long, value_delimiter = ',', value_name = "MEASURE")]
    only: Vec<Measure>,

    /// The echo component, instead of building guests/echo.
    #[arg(long, value_name = "FILE.wasm")]
    component: Option<PathBuf>,

    /// Writes all figures of all rounds there.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Draws cost against number of sessions there, where `--sessions` were measured.
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Counts the instructions of hot paths by valgrind, and fails where one has more than on record.
    Instructions {
        /// Puts the counts on record instead.
        #[arg(long)]
        bless: bool,
        /// The echo component, instead of building guests/echo.
        #[arg(long, value_name = "FILE.wasm")]
        component: Option<PathBuf>,
    },
    /// Serves in this process until the standard input ends.
    #[command(hide = true)]
    Serve { kind: Kind, component: PathBuf },
    /// Measures instances in this process.
    #[command(hide = true)]
    Instances { component: PathBuf },
    /// Runs a hot path in this process.
    #[command(hide = true)]
    Path {
        path: HotPath,
        turns: u32,
        component: PathBuf,
    },
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
    };
    match cli.command {
        Some(Command::Serve { kind, component }) => {
            runtime()?.block_on(servers::serve(kind, &component))
        }
        Some(Command::Instances { component }) => runtime()?.block_on(instances::run(component)),
        Some(Command::Path {
            path,
            turns,
            component,
        }) => paths::run(path, turns, &component),
        Some(Command::Instructions { bless, component }) => {
            let component = component.map_or_else(build, Ok)?;
            instructions::run(&component, bless)
        }
        None => {
            process::raise_file_limit()?;
            runtime()?.block_on(measure(cli))
        }
    }
}

async fn measure(cli: Cli) -> anyhow::Result<()> {
    let component = match cli.component {
        Some(component) => component,
        None => tokio::task::spawn_blocking(build).await??,
    };
    let mut sessions = cli.sessions;
    sessions.sort_unstable();
    sessions.dedup();
    let plan = Plan {
        seconds: Duration::from_secs(cli.seconds),
        sessions,
        measures: if cli.only.is_empty() {
            Measure::ALL.to_vec()
        } else {
            cli.only
        },
    };
    let mut runs = Vec::new();
    for round in 1..=cli.rounds {
        for measure in &plan.measures {
            // By turns within a measurement, so that what else the machine does falls on all alike.
            for kind in cli.servers.iter().filter(|kind| measure.takes(**kind)) {
                say(&format!("round {round}: {measure:?} of {kind}"));
                let figures = one(*kind, &component, *measure, &plan)
                    .await
                    .with_context(|| format!("{kind}, {measure:?}"))?;
                runs.push(Run {
                    round,
                    server: *kind,
                    figures,
                });
            }
        }
    }
    let measured = |kind: &&Kind| plan.measures.iter().any(|measure| measure.takes(**kind));
    let servers: Vec<_> = cli.servers.iter().filter(measured).copied().collect();
    let rows = report::rows(&runs, &servers);
    let table = report::table(&rows, &servers);
    std::io::stdout().lock().write_all(table.as_bytes())?;
    if let Some(file) = cli.json {
        write(&file, &report::json(&runs, &rows, &servers)?)?;
    }
    if let Some(file) = cli.plot {
        write(&file, plot::svg(&rows, &servers).as_bytes())?;
    }
    Ok(())
}

fn write(file: &Path, what: &[u8]) -> anyhow::Result<()> {
    fs::write(file, what).with_context(|| format!("{}: cannot be written", file.display()))
}

/// Takes one measurement of a server that has done nothing else before.
async fn one(
    kind: Kind,
    component: &Path,
    measure: Measure,
    plan: &Plan,
) -> anyhow::Result<Vec<Figure>> {
    if let Measure::Instances = measure {
        return instances::measure(component).await;
    }
    let mut server = Server::start(kind, component).await?;
    let figures = load::run(&mut server, measure, plan).await?;
    server.stop().await?;
    Ok(figures)
}

fn build() -> anyhow::Result<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guests/echo");
    wharf::guest::build(&folder, say)
}

fn say(line: &str) {
    // Nobody to tell is no reason to stop.
    _ = writeln!(std::io::stderr(), "wharf-bench: {line}");
}
