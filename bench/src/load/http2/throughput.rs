//! Bytes echoed over HTTP/2 as fast as the client may write them, on some streams of a session, or by some requests.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use anyhow::bail;
use bytes::Bytes;
use h2::{RecvStream, SendStream};
use tokio::task::JoinSet;
use wharf::transport::{CommandError, Dir, Event, Session, StreamId};

use super::super::{
    Figure, Plan, Target,
    throughput::{PIECE, STREAMS, measured, name},
};
use crate::{body, process::Server, servers::Kind};

pub(in super::super) async fn measure(
    server: &mut Server,
    target: &Target,
    plan: &Plan,
) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for streams in STREAMS {
        let echoed = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        if target.kind == Kind::NativeH2 {
            let requests = super::requests(target).await?;
            for _ in 0..streams {
                let (response, send) = super::post(&requests).await?;
                tasks.spawn(fill(send));
                tasks.spawn(drain(response.await?.into_body(), echoed.clone()));
            }
        } else {
            let session = super::session(target).await?;
            tasks.spawn(over_session(session, streams, echoed.clone()));
        }
        let name = format!("{} over HTTP/2", name(streams));
        figures.extend(measured(server, plan, &name, &mut tasks, &echoed).await?);
        tasks.shutdown().await;
    }
    Ok(figures)
}

async fn fill(mut send: SendStream<Bytes>) -> anyhow::Result<()> {
    let piece = Bytes::from(vec![7; PIECE]);
    loop {
        body::write(&mut send, piece.clone(), false).await?;
    }
}

async fn drain(mut body: RecvStream, echoed: Arc<AtomicU64>) -> anyhow::Result<()> {
    while let Some(data) = body.data().await {
        let len = data?.len();
        body.flow_control().release_capacity(len)?;
        echoed.fetch_add(len as u64, Ordering::Relaxed);
    }
    bail!("a response ended")
}

async fn over_session(
    mut session: Session,
    streams: usize,
    echoed: Arc<AtomicU64>,
) -> anyhow::Result<()> {
    let piece = Bytes::from(vec![7; PIECE]);
    for _ in 0..streams {
        let stream = session.open(Dir::Bi)?;
        fill_up(&mut session, stream, &piece)?;
    }
    loop {
        match session.next_event().await {
            Some(Event::Data { data, .. }) => {
                echoed.fetch_add(data.len() as u64, Ordering::Relaxed);
            }
            Some(Event::Writable(stream)) => fill_up(&mut session, stream, &piece)?,
            Some(Event::Closed(closed)) => bail!("the session is over: {closed:?}"),
            None => bail!("the session is over"),
            Some(_) => {}
        }
        tokio::task::coop::consume_budget().await;
    }
}

/// Writes until the stream takes no more; it says when it does again.
fn fill_up(session: &mut Session, stream: StreamId, piece: &Bytes) -> anyhow::Result<()> {
    loop {
        match session.send(stream, piece.clone(), false) {
            Ok(()) => {}
            Err(CommandError::WouldBlock) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}
