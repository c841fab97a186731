//! 256 MiB echoed over one stream, from its beginning to its end.

use std::future::Future;

use anyhow::{bail, ensure};
use bytes::Bytes;
use wharf::transport::{self, Closer, CommandError, Dir, Event};

use super::{Cost, Figure, PATIENCE, Target, http2, metered, patiently, quic};
use crate::{process::Server, servers::Kind, socket};

const BYTES: usize = 256 << 20;
/// What goes over a stream before.
const WARM_UP: usize = 16 << 20;
const PIECE: usize = 64 << 10;
const MIB: usize = 1 << 20;

pub(super) async fn measure(server: &mut Server, target: &Target) -> anyhow::Result<Vec<Figure>> {
    Ok(match target.kind {
        Kind::NativeH2 => over_requests(server, target).await?,
        Kind::NativeQuinn => {
            let session = raw(target).await?;
            over_quic(server, session).await?
        }
        Kind::Native | Kind::NativeWtransport | Kind::WharfNull | Kind::Wharf => {
            let mut figures = over_session(server, target).await?;
            figures.extend(over_quic(server, target.connect().await?).await?);
            figures
        }
    })
}

async fn over_requests(server: &mut Server, target: &Target) -> anyhow::Result<Vec<Figure>> {
    let requests = http2::requests(target).await?;
    in_time(http2::echo(&requests, WARM_UP)).await?;
    let ((), cost) = metered(server, in_time(http2::echo(&requests, BYTES))).await?;
    Ok(figures("HTTP/2", cost))
}

async fn over_session(server: &mut Server, target: &Target) -> anyhow::Result<Vec<Figure>> {
    let mut session = http2::session(target).await?;
    in_time(echo(&mut session, WARM_UP)).await?;
    let ((), cost) = metered(server, in_time(echo(&mut session, BYTES))).await?;
    session.close(0, "", Closer::Local);
    session.finish_closing().await;
    Ok(figures("HTTP/2", cost))
}

async fn echo(session: &mut transport::Session, bytes: usize) -> anyhow::Result<()> {
    let piece = Bytes::from(vec![7; PIECE]);
    let stream = session.open(Dir::Bi)?;
    let (mut sent, mut came) = (0, 0);
    loop {
        while sent < bytes {
            match session.send(stream, piece.clone(), sent + PIECE >= bytes) {
                Ok(()) => sent += PIECE,
                Err(CommandError::WouldBlock) => break,
                Err(error) => return Err(error.into()),
            }
        }
        match session.next_event().await {
            Some(Event::Data { data, fin, .. }) => {
                came += data.len();
                if fin {
                    ensure!(came == bytes, "the echo has {came} bytes");
                    return Ok(());
                }
            }
            Some(Event::Closed(closed)) => bail!("the session is over: {closed:?}"),
            None => bail!("the session is over"),
            Some(_) => {}
        }
    }
}

/// A connection of QUIC, without HTTP.
async fn raw(target: &Target) -> anyhow::Result<web_transport_quinn::Session> {
    let endpoint = socket::endpoint(None)?;
    let connecting = endpoint.connect_with(quic(&target.trust)?, target.address, "localhost")?;
    Ok(web_transport_quinn::Session::raw(connecting.await?))
}

async fn over_quic(
    server: &mut Server,
    session: web_transport_quinn::Session,
) -> anyhow::Result<Vec<Figure>> {
    in_time(echo_over_quic(&session, WARM_UP)).await?;
    let ((), cost) = metered(server, in_time(echo_over_quic(&session, BYTES))).await?;
    session.close(0, b"");
    Ok(figures("QUIC", cost))
}

async fn echo_over_quic(
    session: &web_transport_quinn::Session,
    bytes: usize,
) -> anyhow::Result<()> {
    let (mut send, mut recv) = session.open_bi().await?;
    let filled = async {
        let piece = Bytes::from(vec![7; PIECE]);
        for _ in 0..bytes / PIECE {
            send.write_chunk(piece.clone()).await?;
        }
        Ok(send.finish()?)
    };
    let drained = async {
        let mut came = 0;
        while let Some(chunk) = recv.read_chunk(usize::MAX, true).await? {
            came += chunk.bytes.len();
        }
        ensure!(came == bytes, "the echo has {came} bytes");
        Ok(())
    };
    tokio::try_join!(filled, drained)?;
    Ok(())
}

async fn in_time(echo: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    patiently(PATIENCE, echo).await
}

fn figures(over: &str, cost: Cost) -> Vec<Figure> {
    let mib = (BYTES / MIB) as u64;
    let name = format!("echo of 256 MiB, 1 stream over {over}");
    vec![
        Figure::more(&name, "MiB/s", cost.per_second(mib)),
        Figure::less(
            format!("{name}: server CPU"),
            "µs/MiB",
            cost.cpu_us_per(mib),
        ),
    ]
}
