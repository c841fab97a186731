//! The echo server on `h2`: a task per connection and one per request, whose body is the answer's, nothing copied that need
//! not be.

use std::sync::Arc;

use bytes::Bytes;
use h2::{RecvStream, server::SendResponse};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use wharf::transport::tls::Certificate;

use crate::body;

/// Requests at once on one connection.
const REQUESTS: u32 = 288;

pub(super) async fn serve() -> anyhow::Result<()> {
    let certificate = Certificate::development()?;
    let mut tls = certificate.server_config()?;
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let tls = TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind(super::loopback()).await?;
    super::announce(listener.local_addr()?, certificate.hash())?;
    loop {
        let (tcp, _) = listener.accept().await?;
        // A peer that left costs its own connection only.
        tokio::spawn(connection(tcp, tls.clone()));
    }
}

async fn connection(tcp: TcpStream, tls: TlsAcceptor) -> anyhow::Result<()> {
    tcp.set_nodelay(true)?;
    let tls = tls.accept(tcp).await?;
    let mut http = h2::server::Builder::new()
        .max_concurrent_streams(REQUESTS)
        .initial_window_size(body::window())
        .initial_connection_window_size(body::window())
        .max_send_buffer_size(body::SEND_BUFFER)
        .handshake(tls)
        .await?;
    while let Some(accepted) = http.accept().await {
        let (request, respond) = accepted?;
        tokio::spawn(echo(request.into_body(), respond));
    }
    Ok(())
}

async fn echo(mut body: RecvStream, mut respond: SendResponse<Bytes>) -> anyhow::Result<()> {
    let mut send = respond.send_response(http::Response::new(()), false)?;
    while let Some(data) = body.data().await {
        let data = data?;
        let (len, last) = (data.len(), body.is_end_stream());
        body::write(&mut send, data, last).await?;
        body.flow_control().release_capacity(len)?;
        if last {
            return Ok(());
        }
    }
    Ok(send.send_data(Bytes::new(), true)?)
}
