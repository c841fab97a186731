//! Sessions opened a few at a time, each on a connection of its own, and the memory they hold while idle.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Semaphore, task::JoinSet};
use web_transport_quinn::Session;

use super::{Figure, Plan, Target, metered, patiently};
use crate::process::Server;

const IN_FLIGHT: usize = 16;
/// What is opened before anything is looked at, so that what a server makes once is not counted.
const FIRST: u32 = 32;
/// After the last session, before memory is looked at.
const SETTLE: Duration = Duration::from_secs(1);
/// Opening one session takes a few milliseconds.
const TIME_MAX: Duration = Duration::from_secs(120);

pub(super) async fn measure(
    server: &mut Server,
    target: &Target,
    plan: &Plan,
) -> anyhow::Result<Vec<Figure>> {
    // They stay, and count neither before nor after.
    let first = open(target, FIRST).await?;
    tokio::time::sleep(SETTLE).await;
    let before = server.usage().await?.resident_kib;
    let mut sessions = Vec::new();
    let mut figures = Vec::new();
    let mut there = 0;
    for wished in &plan.sessions {
        let more = wished - there;
        let opening = patiently(TIME_MAX, open(target, more));
        let (opened, cost) = metered(server, opening).await?;
        sessions.extend(opened);
        there = *wished;
        tokio::time::sleep(SETTLE).await;
        let resident = server.usage().await?.resident_kib.saturating_sub(before);
        let more = u64::from(more);
        figures.extend([
            Figure::less(
                format!("session opened, up to {wished}: server CPU"),
                "µs",
                cost.cpu_us_per(more),
            ),
            Figure::more(
                format!("sessions opened, up to {wished}"),
                "/s",
                cost.per_second(more),
            ),
            Figure::less(
                format!("idle session, of {wished}"),
                "KiB",
                resident as f64 / f64::from(*wished),
            ),
        ]);
    }
    for session in first.iter().chain(&sessions) {
        anyhow::ensure!(
            session.close_reason().is_none(),
            "a session ended by itself"
        );
    }
    Ok(figures)
}

async fn open(target: &Target, count: u32) -> anyhow::Result<Vec<Session>> {
    let permits = Arc::new(Semaphore::new(IN_FLIGHT));
    let mut opening = JoinSet::new();
    for _ in 0..count {
        let (target, permits) = (target.clone(), permits.clone());
        opening.spawn(async move {
            let _permit = permits.acquire().await?;
            target.connect().await
        });
    }
    let mut sessions = Vec::new();
    while let Some(opened) = opening.join_next().await {
        sessions.push(opened??);
    }
    Ok(sessions)
}
