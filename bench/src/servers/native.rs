//! The echo server on `web-transport-quinn`: a task per session and one per stream, nothing copied that need not be.

use web_transport_quinn::{RecvStream, SendStream, Server, Session};
use wharf::transport::tls::Certificate;

use crate::socket;

pub(super) async fn serve() -> anyhow::Result<()> {
    let certificate = Certificate::development()?;
    let config = super::quic_config(&certificate)?;
    let endpoint = socket::endpoint(Some(config))?;
    super::announce(endpoint.local_addr()?, certificate.hash())?;
    let mut server = Server::new(endpoint);
    while let Some(request) = server.accept().await {
        tokio::spawn(async move {
            // A peer that left costs its own session only.
            if let Ok(session) = request.ok().await {
                _ = tokio::join!(streams(&session), datagrams(&session));
            }
        });
    }
    Ok(())
}

async fn streams(session: &Session) -> anyhow::Result<()> {
    loop {
        let (send, recv) = session.accept_bi().await?;
        tokio::spawn(echo(send, recv));
    }
}

async fn echo(mut send: SendStream, mut recv: RecvStream) -> anyhow::Result<()> {
    while let Some(chunk) = recv.read_chunk(usize::MAX, true).await? {
        send.write_chunk(chunk.bytes).await?;
    }
    Ok(send.finish()?)
}

async fn datagrams(session: &Session) -> anyhow::Result<()> {
    loop {
        let datagram = session.read_datagram().await?;
        session.send_datagram(datagram)?;
    }
}
