//! Small streams and datagrams over HTTP/2, many in flight; where there is no session, a request stands for each.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{bail, ensure};
use bytes::Bytes;
use h2::client::SendRequest;
use tokio::task::JoinSet;
use wharf::transport::{Closer, Dir, Event, Session};

use super::super::{
    Bounds, Cost, Figure, Plan, Target, WARM_UP, metered, patiently, warm_and_metered,
};
use crate::{process::Server, servers::Kind};

const IN_FLIGHT: u64 = 64;
const MESSAGE: &[u8] = &[7; 32];
const DATAGRAM: &[u8] = &[7; 1000];

pub(in super::super) async fn measure(
    server: &mut Server,
    target: &Target,
    plan: &Plan,
) -> anyhow::Result<Vec<Figure>> {
    let (streams, datagrams) = if target.kind == Kind::NativeH2 {
        let requests = super::requests(target).await?;
        let streams = of_requests(server, &requests, MESSAGE.len(), plan).await?;
        let datagrams = of_requests(server, &requests, DATAGRAM.len(), plan).await?;
        (streams, datagrams)
    } else {
        let mut session = super::session(target).await?;
        let streams = of_session(server, &mut session, Load::Streams, plan).await?;
        let datagrams = of_session(server, &mut session, Load::Datagrams, plan).await?;
        session.close(0, "", Closer::Local);
        session.finish_closing().await;
        (streams, datagrams)
    };
    let named = |name: &str, (done, cost): (u64, Cost)| {
        [
            Figure::less(format!("{name}: server CPU"), "µs", cost.cpu_us_per(done)),
            Figure::more(name, "/s", cost.per_second(done)),
        ]
    };
    let mut figures = Vec::from(named("stream open+echo+FIN, 32 B, over HTTP/2", streams));
    figures.extend(named("datagram echo, 1000 B, over HTTP/2", datagrams));
    Ok(figures)
}

async fn of_requests(
    server: &mut Server,
    requests: &SendRequest<Bytes>,
    bytes: usize,
    plan: &Plan,
) -> anyhow::Result<(u64, Cost)> {
    let load = |bounds| many(requests, bytes, bounds);
    warm_and_metered(server, plan.seconds, load).await
}

async fn many(requests: &SendRequest<Bytes>, bytes: usize, bounds: Bounds) -> anyhow::Result<u64> {
    let done = std::sync::Arc::new(AtomicU64::new(0));
    let mut workers = JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let (requests, done) = (requests.clone(), done.clone());
        workers.spawn(async move {
            while bounds.allow(done.load(Ordering::Relaxed)) {
                super::echo(&requests, bytes).await?;
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

#[derive(Clone, Copy, Debug)]
enum Load {
    Streams,
    Datagrams,
}

async fn of_session(
    server: &mut Server,
    session: &mut Session,
    load: Load,
    plan: &Plan,
) -> anyhow::Result<(u64, Cost)> {
    let warm_up = echoes(session, load, Bounds::of(WARM_UP));
    patiently(WARM_UP, warm_up).await?;
    let echoes = echoes(session, load, Bounds::of(plan.seconds));
    metered(server, patiently(plan.seconds, echoes)).await
}

/// Keeps many in flight until it has been long enough, and waits for the last.
async fn echoes(session: &mut Session, load: Load, bounds: Bounds) -> anyhow::Result<u64> {
    for _ in 0..IN_FLIGHT {
        begin(session, load)?;
    }
    let (mut begun, mut done) = (IN_FLIGHT, 0);
    while done < begun {
        match session.next_event().await {
            Some(Event::Datagram(datagram)) => {
                ensure!(datagram == DATAGRAM, "a datagram's echo differs");
            }
            // The last event of a stream; one more may be opened then.
            Some(Event::StreamClosed(_)) => {}
            Some(Event::Data { data, fin, .. }) => {
                ensure!(fin && data == MESSAGE, "a stream's echo differs");
                continue;
            }
            Some(Event::Closed(closed)) => bail!("the session is over: {closed:?}"),
            None => bail!("the session is over"),
            Some(_) => continue,
        }
        done += 1;
        if bounds.allow(done) {
            begin(session, load)?;
            begun += 1;
        }
    }
    Ok(done)
}

fn begin(session: &mut Session, load: Load) -> anyhow::Result<()> {
    match load {
        Load::Streams => {
            let stream = session.open(Dir::Bi)?;
            session.send(stream, Bytes::from_static(MESSAGE), true)?;
        }
        Load::Datagrams => session.send_datagram(DATAGRAM)?,
    }
    Ok(())
}
