//! What an instance of the echo component costs by itself, without a connection: the sandbox alone.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use tokio::process::Command;
use wharf::runtime::{Account, AccountLimits, Component, Guest, Label, Options, Runtime, Terms};

use crate::{figure::Figure, servers};

/// How many live at once.
const LIVE: u32 = 1000;
/// How many are made and dropped, one after the other.
const TURNS: usize = 2000;
const TIMEOUT: Duration = Duration::from_secs(60);

/// What was measured in a process of its own.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
struct Cost {
    instantiate: Duration,
    resident_kib: u64,
}

/// Measures in a child process, so that nothing else is in its memory.
pub(crate) async fn measure(component: &Path) -> anyhow::Result<Vec<Figure>> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let output = Command::new(program)
        .arg("instances")
        .arg(component)
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(TIMEOUT, output)
        .await
        .context("instances take too long")??;
    ensure!(output.status.success(), "it says why above");
    let cost: Cost = serde_json::from_slice(&output.stdout)?;
    let each = cost.resident_kib as f64 / f64::from(LIVE);
    Ok(vec![
        Figure::less(
            "instance made and dropped",
            "µs",
            cost.instantiate.as_secs_f64() * 1e6,
        ),
        Figure::less(
            format!("idle instance without a session, of {LIVE}"),
            "KiB",
            each,
        ),
    ])
}

/// Measures in this process, and tells on the standard output.
pub(crate) async fn run(component: PathBuf) -> anyhow::Result<()> {
    let mut options = Options::default();
    options.sessions = LIVE + 1;
    options.cache_dir = Some(servers::cache_dir());
    let component = load(options, &component)?;
    let mut times = Vec::with_capacity(TURNS);
    for number in 0..TURNS {
        let begun = Instant::now();
        drop(instance(&component, number as u64).await?);
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    let before = servers::usage()?.resident_kib;
    let mut live = Vec::with_capacity(LIVE as usize);
    for number in 0..LIVE {
        live.push(instance(&component, number.into()).await?);
    }
    let after = servers::usage()?.resident_kib;
    drop(live);
    servers::tell(&Cost {
        instantiate: *times.get(TURNS / 2).context("nothing was measured")?,
        resident_kib: after.saturating_sub(before),
    })
}

pub(crate) fn load(options: Options, component: &Path) -> anyhow::Result<Component> {
    let account = Account::new(AccountLimits::default());
    let terms = Terms::new(options.limits.clone(), account);
    Runtime::new(options)?.load(component, terms)
}

pub(crate) async fn instance(component: &Component, session: u64) -> anyhow::Result<Guest> {
    let label = Label {
        session,
        tenant: "default".into(),
        route: "echo".into(),
        path: "/".to_owned(),
        stats: Arc::default(),
    };
    let guest = component.instantiate(label).await;
    guest.map_err(|exit| anyhow::anyhow!("the component does not start: {exit:?}"))
}
