//! Clients over HTTP/2: of sessions, by wharf's own, and of ordinary requests, by `h2`.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use h2::{
    SendStream,
    client::{ResponseFuture, SendRequest},
};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use wharf::transport::{
    Limits, Session,
    client::{Ask, Http, connect},
};

use super::{Target, tls};
use crate::body;

mod line;
pub(super) mod ping;
pub(super) mod sessions;
pub(super) mod small;
pub(super) mod throughput;

/// How much is sent at once.
const PIECE: usize = 64 << 10;

/// A session on a connection of its own.
pub(super) async fn session(target: &Target) -> anyhow::Result<Session> {
    let ask = Ask::new(&format!("https://{}/", target.address))?;
    let mut limits = Limits::default();
    limits.session.reads_wait_for_room = false; // it sends much by itself, and the server echoes
    Ok(connect(&ask, &target.trust, Http::Http2, &limits)
        .await?
        .session)
}

/// A connection for requests. It ends with its last handle.
pub(super) async fn requests(target: &Target) -> anyhow::Result<SendRequest<Bytes>> {
    let address = target.address;
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    let tls = TlsConnector::from(Arc::new(tls(&target.trust, "h2")?));
    let tls = tls.connect(ServerName::from(address.ip()), tcp).await?;
    let (requests, connection) = h2::client::Builder::new()
        .enable_push(false)
        .initial_window_size(body::window())
        .initial_connection_window_size(body::window())
        .max_send_buffer_size(body::SEND_BUFFER)
        .handshake(tls)
        .await?;
    tokio::spawn(connection);
    Ok(requests)
}

/// Begins a request whose body is to be written.
async fn post(
    requests: &SendRequest<Bytes>,
) -> anyhow::Result<(ResponseFuture, SendStream<Bytes>)> {
    let mut ready = requests.clone().ready().await?;
    let head = http::Request::post("https://localhost/").body(())?;
    Ok(ready.send_request(head, false)?)
}

/// Has so many bytes echoed by one request.
pub(super) async fn echo(requests: &SendRequest<Bytes>, bytes: usize) -> anyhow::Result<()> {
    let (response, send) = post(requests).await?;
    let drained = async {
        let mut body = response.await?.into_body();
        let mut came = 0;
        while let Some(data) = body.data().await {
            let len = data?.len();
            came += len;
            body.flow_control().release_capacity(len)?;
        }
        ensure!(came == bytes, "the echo has {came} bytes");
        Ok(())
    };
    tokio::try_join!(fill(send, bytes), drained)?;
    Ok(())
}

async fn fill(mut send: SendStream<Bytes>, bytes: usize) -> anyhow::Result<()> {
    let piece = Bytes::from(vec![7; PIECE.min(bytes)]);
    let mut left = bytes;
    while left > 0 {
        let part = piece.slice(..left.min(PIECE));
        left = left.checked_sub(part.len()).context("too much was sent")?;
        body::write(&mut send, part, left == 0).await?;
    }
    Ok(())
}
