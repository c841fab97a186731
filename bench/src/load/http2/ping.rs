//! 32 bytes there and back over HTTP/2, one at a time.

use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::{
    super::{
        Bounds, Figure, Plan, Target,
        ping::{MESSAGE, figures},
        warm_and_metered,
    },
    line::Line,
};
use crate::process::Server;

pub(in super::super) async fn measure(
    server: &mut Server,
    target: &Target,
    plan: &Plan,
) -> anyhow::Result<Vec<Figure>> {
    let line = Mutex::new(Line::open(target).await?);
    let load = async |bounds| load(&mut *line.lock().await, bounds).await;
    let (times, cost) = warm_and_metered(server, plan.seconds, load).await?;
    figures("ping-pong, 32 B, over HTTP/2", times, cost)
}

async fn load(line: &mut Line, bounds: Bounds) -> anyhow::Result<Vec<Duration>> {
    let mut times = Vec::new();
    while bounds.allow(times.len() as u64) {
        let begun = Instant::now();
        line.ping(&MESSAGE).await?;
        times.push(begun.elapsed());
    }
    Ok(times)
}
