//! 32 bytes there and back on one stream, one at a time.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tokio::sync::Mutex;
use web_transport_quinn::{RecvStream, SendStream};

use super::{Bounds, Cost, Figure, Plan, Target, warm_and_metered};
use crate::process::Server;

pub(super) const MESSAGE: [u8; 32] = [7; 32];

pub(super) async fn measure(
    server: &mut Server,
    target: &Target,
    plan: &Plan,
) -> anyhow::Result<Vec<Figure>> {
    let session = target.connect().await?;
    let stream = Mutex::new(session.open_bi().await?);
    let load = async |bounds| load(&mut *stream.lock().await, bounds).await;
    let (times, cost) = warm_and_metered(server, plan.seconds, load).await?;
    session.close(0, b"");
    figures("ping-pong, 32 B", times, cost)
}

pub(super) fn figures(
    name: &str,
    mut times: Vec<Duration>,
    cost: Cost,
) -> anyhow::Result<Vec<Figure>> {
    times.sort_unstable();
    let mut figures = vec![Figure::less(
        format!("{name}: server CPU"),
        "µs",
        cost.cpu_us_per(times.len() as u64),
    )];
    for (part, per_mille) in [("p50", 500), ("p99", 990), ("p999", 999)] {
        let at = times.len().saturating_sub(1) * per_mille / 1000;
        let time = times.get(at).context("no message came back")?;
        let name = format!("{name}: {part}");
        figures.push(Figure::less(name, "µs", time.as_secs_f64() * 1e6));
    }
    Ok(figures)
}

async fn load(
    (send, recv): &mut (SendStream, RecvStream),
    bounds: Bounds,
) -> anyhow::Result<Vec<Duration>> {
    let mut times = Vec::new();
    while bounds.allow(times.len() as u64) {
        let begun = Instant::now();
        send.write_all(&MESSAGE).await?;
        let mut echo = [0; MESSAGE.len()];
        recv.read_exact(&mut echo).await?;
        times.push(begun.elapsed());
        ensure!(echo == MESSAGE, "the echo differs");
    }
    Ok(times)
}
