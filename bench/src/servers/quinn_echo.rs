//! The echo server on `quinn`: a task per connection and one per stream, without HTTP, nothing copied that need not be.

use quinn::{Connection, RecvStream, SendStream};
use wharf::transport::tls::Certificate;

use crate::socket;

pub(super) async fn serve() -> anyhow::Result<()> {
    let certificate = Certificate::development()?;
    let config = super::quic_config(&certificate)?;
    let endpoint = socket::endpoint(Some(config))?;
    super::announce(endpoint.local_addr()?, certificate.hash())?;
    while let Some(incoming) = endpoint.accept().await {
        tokio::spawn(async move {
            // A peer that left costs its own connection only.
            if let Ok(connection) = incoming.await {
                _ = streams(&connection).await;
            }
        });
    }
    Ok(())
}

async fn streams(connection: &Connection) -> anyhow::Result<()> {
    loop {
        let (send, recv) = connection.accept_bi().await?;
        tokio::spawn(echo(send, recv));
    }
}

async fn echo(mut send: SendStream, mut recv: RecvStream) -> anyhow::Result<()> {
    while let Some(chunk) = recv.read_chunk(usize::MAX, true).await? {
        send.write_chunk(chunk.bytes).await?;
    }
    Ok(send.finish()?)
}
