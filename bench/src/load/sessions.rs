//! Sessions opened a few at a time, each on a connection of its own, and the memory they hold while idle.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::{sync::Semaphore, task::JoinSet};

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
    let connect = || {
        let target = target.clone();
        async move { target.connect().await }
    };
    let (figures, sessions) = grow(server, plan, "", connect).await?;
    for session in &sessions {
        anyhow::ensure!(
            session.close_reason().is_none(),
            "a session ended by itself"
        );
    }
    Ok(figures)
}

/// Opens sessions up to each number that is asked for, and gives them out. `over` ends the figures' names.
pub(super) async fn grow<T, F>(
    server: &mut Server,
    plan: &Plan,
    over: &str,
    connect: impl Fn() -> F,
) -> anyhow::Result<(Vec<Figure>, Vec<T>)>
where
    T: Send + 'static,
    F: Future<Output = anyhow::Result<T>> + Send + 'static,
{
    // The first stay, and count neither before nor after.
    let mut sessions = open(&connect, FIRST).await?;
    tokio::time::sleep(SETTLE).await;
    let before = server.usage().await?.resident_kib;
    let mut figures = Vec::new();
    let mut there = 0;
    for &wished in &plan.sessions {
        let more = wished - there;
        let opening = patiently(TIME_MAX, open(&connect, more));
        let (opened, cost) = metered(server, opening).await?;
        sessions.extend(opened);
        there = wished;
        tokio::time::sleep(SETTLE).await;
        let resident = server.usage().await?.resident_kib.saturating_sub(before);
        let more = u64::from(more);
        figures.extend([
            Figure::less(
                format!("session opened, up to {wished}{over}: server CPU"),
                "µs",
                cost.cpu_us_per(more),
            )
            .at(format!("server CPU per session opened{over}"), wished),
            Figure::more(
                format!("sessions opened, up to {wished}{over}"),
                "/s",
                cost.per_second(more),
            ),
            Figure::less(
                format!("idle session, of {wished}{over}"),
                "KiB",
                resident as f64 / f64::from(wished),
            )
            .at(format!("memory per idle session{over}"), wished),
        ]);
    }
    Ok((figures, sessions))
}

async fn open<T, F>(connect: impl Fn() -> F, count: u32) -> anyhow::Result<Vec<T>>
where
    T: Send + 'static,
    F: Future<Output = anyhow::Result<T>> + Send + 'static,
{
    let permits = Arc::new(Semaphore::new(IN_FLIGHT));
    let mut opening = JoinSet::new();
    for _ in 0..count {
        let (connecting, permits) = (connect(), permits.clone());
        opening.spawn(async move {
            let _permit = permits.acquire().await?;
            connecting.await
        });
    }
    let mut sessions = Vec::new();
    while let Some(opened) = opening.join_next().await {
        sessions.push(opened??);
    }
    Ok(sessions)
}
