//! Bidirectional streams of 32 bytes: opened, echoed and finished, many in flight.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use anyhow::ensure;
use tokio::task::JoinSet;
use web_transport_quinn::Session;

use super::{Bounds, Figure, Plan, Target, warm_and_metered};
use crate::process::Server;

const IN_FLIGHT: usize = 64;
const MESSAGE: [u8; 32] = [7; 32];

pub(super) async fn measure(
    server: &mut Server,
    target: &Target,
    plan: &Plan,
) -> anyhow::Result<Vec<Figure>> {
    let session = target.connect().await?;
    let (done, cost) =
        warm_and_metered(server, plan.seconds, |bounds| load(&session, bounds)).await?;
    session.close(0, b"");
    Ok(vec![
        Figure::less(
            "stream open+echo+FIN, 32 B: server CPU",
            "µs",
            cost.cpu_us_per(done),
        ),
        Figure::more("stream open+echo+FIN, 32 B", "/s", cost.per_second(done)),
    ])
}

async fn load(session: &Session, bounds: Bounds) -> anyhow::Result<u64> {
    let done = Arc::new(AtomicU64::new(0));
    let mut workers = JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let (session, done) = (session.clone(), done.clone());
        workers.spawn(async move {
            while bounds.allow(done.load(Ordering::Relaxed)) {
                echo(&session).await?;
                done.fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = workers.join_next().await {
        ended??;
    }
    Ok(done.load(Ordering::Relaxed))
}

async fn echo(session: &Session) -> anyhow::Result<()> {
    let (mut send, mut recv) = session.open_bi().await?;
    send.write_all(&MESSAGE).await?;
    send.finish()?;
    let echo = recv.read_to_end(MESSAGE.len()).await?;
    ensure!(echo == MESSAGE, "a stream's echo differs");
    Ok(())
}
