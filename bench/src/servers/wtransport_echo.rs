//! The echo server on `wtransport`: a task per session and one per stream, nothing copied that need not be.

use wharf::transport::tls::Certificate;
use wtransport::{Connection, Endpoint, RecvStream, SendStream, ServerConfig};

use crate::socket;

pub(super) async fn serve() -> anyhow::Result<()> {
    let certificate = Certificate::development()?;
    let config = ServerConfig::builder()
        .with_bind_socket(socket::udp()?)
        .build_with_quic_config(super::quic_config(&certificate)?);
    let endpoint = Endpoint::server(config)?;
    super::announce(endpoint.local_addr()?, certificate.hash())?;
    loop {
        let incoming = endpoint.accept().await;
        tokio::spawn(async move {
            let request = incoming.await?;
            let session = request.accept().await?;
            // A peer that left costs its own session only.
            _ = tokio::join!(streams(&session), datagrams(&session));
            anyhow::Ok(())
        });
    }
}

async fn streams(session: &Connection) -> anyhow::Result<()> {
    loop {
        let (send, recv) = session.accept_bi().await?;
        tokio::spawn(echo(send, recv));
    }
}

async fn echo(mut send: SendStream, mut recv: RecvStream) -> anyhow::Result<()> {
    // Its own calls copy; QUIC's need not.
    let (send, recv) = (send.quic_stream_mut(), recv.quic_stream_mut());
    while let Some(chunk) = recv.read_chunk(usize::MAX, true).await? {
        send.write_chunk(chunk.bytes).await?;
    }
    Ok(send.finish()?)
}

async fn datagrams(session: &Connection) -> anyhow::Result<()> {
    loop {
        let datagram = session.receive_datagram().await?;
        session.send_datagram(datagram.payload())?;
    }
}
