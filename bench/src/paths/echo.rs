//! Echoes over HTTP/2 with both ends in one thread: what a callback costs is what they take with the component and without.
//!
//! A batch fits in one frame of HTTP/2 and in one record of TLS, so that it always comes as it was sent.

use std::{net::Ipv4Addr, path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use wharf::{
    runtime::{Guest, Options},
    transport::{
        Dir, Event, Incoming, Limits, Requested, Response, Session, StreamId,
        client::{Ask, Http, Trust, connect},
        h2::Acceptor,
        tls::Certificate,
    },
};

use crate::{instances, servers};

/// Pieces, or datagrams, that go at once.
pub(super) const BATCH: u32 = 16;
const PAYLOAD: &[u8] = &[7; 1000];
/// Nothing that is due by time is due.
const NEVER: Duration = Duration::from_secs(1 << 20);

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Load {
    /// A piece on each of as many streams.
    Streams,
    Datagrams,
}

/// What sends it back.
enum Handler {
    Native,
    Guest(Box<Guest>),
}

/// Runs so many turns, by the component where there is one.
pub(super) fn run(load: Load, component: Option<&Path>, turns: u32) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let handler = match component {
            Some(component) => Handler::Guest(Box::new(instance(component).await?)),
            None => Handler::Native,
        };
        let mut session = served(handler).await?;
        let streams = match load {
            Load::Streams => (0..BATCH)
                .map(|_| session.open(Dir::Bi))
                .collect::<Result<_, _>>()?,
            Load::Datagrams => Vec::new(),
        };
        for _ in 0..turns {
            batch(&mut session, &streams).await?;
        }
        Ok(())
    })
}

/// Sends a batch, and waits until all of it is back.
async fn batch(session: &mut Session, streams: &[StreamId]) -> anyhow::Result<()> {
    for stream in streams {
        session.send(*stream, Bytes::from_static(PAYLOAD), false)?;
    }
    if streams.is_empty() {
        for _ in 0..BATCH {
            session.send_datagram(PAYLOAD)?;
        }
    }
    let mut left = BATCH as usize * PAYLOAD.len();
    while left > 0 {
        match session.next_event().await {
            Some(Event::Data { data, .. } | Event::Datagram(data)) => {
                left = left
                    .checked_sub(data.len())
                    .context("more came back than was sent")?;
            }
            Some(Event::Closed(closed)) => bail!("the session is over: {closed:?}"),
            None => bail!("the session is over"),
            Some(_) => {}
        }
    }
    Ok(())
}

/// A session that is served in this process.
async fn served(handler: Handler) -> anyhow::Result<Session> {
    let mut limits = Limits::default();
    (limits.keep_alive, limits.idle_timeout) = (NEVER, NEVER);
    let certificate = Certificate::development()?;
    let acceptor = Acceptor::new(limits.clone());
    let tls = TlsAcceptor::from(Arc::new(acceptor.tls_config(certificate.server_config()?)));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let ask = Ask::new(&format!("https://{}/", listener.local_addr()?))?;
    tokio::spawn(async move {
        let (tcp, peer) = listener.accept().await?;
        tcp.set_nodelay(true)?;
        let mut connection = acceptor.accept(tls.accept(tcp).await?, peer);
        if let Some(Requested::Session(incoming)) = connection.next_request().await {
            serve(incoming, handler).await?;
        }
        anyhow::Ok(())
    });
    let trust = Trust::Hashes(vec![certificate.hash()]);
    Ok(connect(&ask, &trust, Http::Http2, &limits).await?.session)
}

async fn serve(incoming: Incoming, handler: Handler) -> anyhow::Result<()> {
    let request = incoming.request().clone();
    let session = incoming.accept(&Response::new(200)).await?;
    match handler {
        Handler::Native => servers::null_echo(session).await,
        Handler::Guest(guest) => _ = guest.run(session, &request).await,
    }
    Ok(())
}

async fn instance(component: &Path) -> anyhow::Result<Guest> {
    let mut options = Options::default();
    // Valgrind has little address space.
    (options.sessions, options.spare) = (1, 0);
    options.tick = NEVER;
    options.limits.callback_deadline = NEVER;
    options.limits.cpu_per_second = None;
    options.cache_dir = Some(servers::cache_dir());
    let component = instances::load(options, component)?;
    instances::instance(&component, 0).await
}
