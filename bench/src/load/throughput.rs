//! Bytes echoed over a few streams that never end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::task::JoinSet;
use web_transport_quinn::{RecvStream, SendStream, Session};

use super::{Figure, Plan, Target, WARM_UP, metered};
use crate::process::Server;

pub(super) const STREAMS: [usize; 3] = [1, 8, 64];
pub(super) const PIECE: usize = 64 << 10;
const MIB: f64 = 1_048_576.0;

pub(super) async fn measure(
    server: &mut Server,
    target: &Target,
    plan: &Plan,
) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for streams in STREAMS {
        let session = target.connect().await?;
        let echoed = Arc::new(AtomicU64::new(0));
        let mut tasks = load(&session, streams, &echoed).await?;
        let name = name(streams);
        figures.extend(measured(server, plan, &name, &mut tasks, &echoed).await?);
        tasks.shutdown().await;
        session.close(0, b"");
    }
    Ok(figures)
}

pub(super) fn name(streams: usize) -> String {
    match streams {
        1 => "throughput, 1 stream".to_owned(),
        _ => format!("throughput, {streams} streams"),
    }
}

/// The figures of tasks that have bytes echoed until they are stopped.
pub(super) async fn measured(
    server: &mut Server,
    plan: &Plan,
    name: &str,
    tasks: &mut JoinSet<anyhow::Result<()>>,
    echoed: &AtomicU64,
) -> anyhow::Result<[Figure; 2]> {
    counted(tasks, echoed, WARM_UP).await?;
    let (bytes, cost) = metered(server, counted(tasks, echoed, plan.seconds)).await?;
    Ok([
        Figure::more(name, "MiB/s", cost.per_second(bytes) / MIB),
        Figure::less(
            format!("{name}: server CPU"),
            "µs/MiB",
            cost.cpu_us_per(bytes) * MIB,
        ),
    ])
}

/// How many bytes come back meanwhile. Fails when a stream does.
async fn counted(
    tasks: &mut JoinSet<anyhow::Result<()>>,
    echoed: &AtomicU64,
    time: Duration,
) -> anyhow::Result<u64> {
    let before = echoed.load(Ordering::Relaxed);
    tokio::select! {
        () = tokio::time::sleep(time) => {}
        Some(ended) = tasks.join_next() => ended??,
    }
    Ok(echoed.load(Ordering::Relaxed) - before)
}

async fn load(
    session: &Session,
    streams: usize,
    echoed: &Arc<AtomicU64>,
) -> anyhow::Result<JoinSet<anyhow::Result<()>>> {
    let mut tasks = JoinSet::new();
    for _ in 0..streams {
        let (send, recv) = session.open_bi().await?;
        tasks.spawn(fill(send));
        tasks.spawn(drain(recv, echoed.clone()));
    }
    Ok(tasks)
}

async fn fill(mut send: SendStream) -> anyhow::Result<()> {
    let piece = Bytes::from(vec![7; PIECE]);
    loop {
        send.write_chunk(piece.clone()).await?;
    }
}

async fn drain(mut recv: RecvStream, echoed: Arc<AtomicU64>) -> anyhow::Result<()> {
    while let Some(chunk) = recv.read_chunk(usize::MAX, true).await? {
        echoed.fetch_add(chunk.bytes.len() as u64, Ordering::Relaxed);
    }
    anyhow::bail!("a stream ended")
}
