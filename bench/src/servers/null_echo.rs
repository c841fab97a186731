//! wharf's transport with a handler in plain Rust: what is left of wharf's cost without its sandbox.

use std::{io::ErrorKind, sync::Arc};

use quinn::Endpoint;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use wharf::transport::{Event, Limits, Requested, Response, Session, h2, h3, tls::Certificate};

use crate::socket;

pub(super) async fn serve() -> anyhow::Result<()> {
    let certificate = Certificate::development()?;
    let tls = certificate.server_config()?;
    let http3 = h3::Acceptor::new(Limits::default());
    let http2 = h2::Acceptor::new(Limits::default());
    let (endpoint, listener) = bind(&http3.server_config(tls.clone())?).await?;
    let tls = TlsAcceptor::from(Arc::new(http2.tls_config(tls)));
    super::announce(endpoint.local_addr()?, certificate.hash())?;
    loop {
        // A peer that left costs its own connection only.
        tokio::select! {
            Some(incoming) = endpoint.accept() => {
                tokio::spawn(over_http3(incoming, http3.clone()));
            }
            Ok((tcp, _)) = listener.accept() => {
                tokio::spawn(over_http2(tcp, tls.clone(), http2.clone()));
            }
            else => return Ok(()),
        }
    }
}

/// A UDP and a TCP socket of one port. Clients may have the port of the first at the second.
async fn bind(config: &quinn::ServerConfig) -> anyhow::Result<(Endpoint, TcpListener)> {
    loop {
        let endpoint = socket::endpoint(Some(config.clone()))?;
        match TcpListener::bind(endpoint.local_addr()?).await {
            Ok(listener) => return Ok((endpoint, listener)),
            Err(error) if error.kind() == ErrorKind::AddrInUse => {}
            Err(error) => return Err(error.into()),
        }
    }
}

async fn over_http3(incoming: quinn::Incoming, acceptor: h3::Acceptor) -> anyhow::Result<()> {
    let Ok((conn, _)) = incoming.accept()?.into_0rtt() else {
        return Ok(()); // a server always may
    };
    let mut connection = acceptor.accept(conn);
    let mut sessions = JoinSet::new();
    while let Some(requested) = connection.next_request().await {
        sessions.spawn(answer(requested));
    }
    Ok(())
}

async fn over_http2(
    tcp: TcpStream,
    tls: TlsAcceptor,
    acceptor: h2::Acceptor,
) -> anyhow::Result<()> {
    tcp.set_nodelay(true)?;
    let peer = tcp.peer_addr()?;
    let mut connection = acceptor.accept(tls.accept(tcp).await?, peer);
    let mut sessions = JoinSet::new();
    while let Some(requested) = connection.next_request().await {
        sessions.spawn(answer(requested));
    }
    Ok(())
}

async fn answer(requested: Requested) -> anyhow::Result<()> {
    if let Requested::Session(incoming) = requested {
        echo(incoming.accept(&Response::new(200)).await?).await;
    }
    Ok(())
}

/// Sends back what comes, until the session is over.
pub(crate) async fn echo(mut session: Session) {
    while let Some(event) = session.next_event().await {
        if let Event::Data { stream, data, fin } = event {
            // Data comes only while there is room for as much.
            _ = session.send(stream, data, fin);
        } else if let Event::Datagram(data) = event {
            _ = session.send_datagram(&data);
        }
        // Other tasks take their turns, as between the callbacks of a component.
        tokio::task::coop::consume_budget().await;
    }
}
