//! WebTransport inside a program of its own: its QUIC endpoint and its TLS listener, its HTTP answers, and sessions below
//! two paths.
//!
//! Sessions below `/wharf` have a component as their handler, those at `/native` have plain Rust; every other request is
//! answered by the program itself. All of them may share a connection.
//!
//! ```sh
//! cargo run --example embed -- target/wasm32-wasip2/release/wharf_echo.wasm
//! ```

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use anyhow::Context as _;
use bytes::Bytes;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use wharf::{
    config::Route,
    runtime::Options,
    server::Host,
    transport::{
        Event, Exchange, Incoming, Limits, Requested, Response, Session, h2, h3, tls::Certificate,
    },
};

#[tokio::main]
#[expect(clippy::print_stdout, reason = "its user has to learn the address")]
async fn main() -> anyhow::Result<()> {
    let component = std::env::args_os().nth(1);
    let component = component.context("say which component: embed FILE.wasm")?;
    let program = Program::bind(([127, 0, 0, 1], 4433).into(), component.into()).await?;
    println!("https://{}/", program.endpoint.local_addr()?);
    program.run().await;
    Ok(())
}

/// The program.
pub(crate) struct Program {
    pub(crate) endpoint: quinn::Endpoint,
    pub(crate) listener: TcpListener,
    pub(crate) http3: h3::Acceptor,
    pub(crate) http2: h2::Acceptor,
    tls: TlsAcceptor,
    host: Host,
}

impl Program {
    pub(crate) async fn bind(address: SocketAddr, component: PathBuf) -> anyhow::Result<Self> {
        let mut options = Options::default();
        options.sessions = 100; // the next is refused with 503
        let host = Host::load(vec![Route::new("/wharf", component)], options).await?;
        let http3 = h3::Acceptor::new(Limits::default());
        let http2 = h2::Acceptor::new(Limits::default());
        let tls = Certificate::development()?.server_config()?;
        Ok(Self {
            endpoint: quinn::Endpoint::server(http3.server_config(tls.clone())?, address)?,
            listener: TcpListener::bind(address).await?,
            tls: TlsAcceptor::from(Arc::new(http2.tls_config(tls))),
            http3,
            http2,
            host,
        })
    }

    /// Accepts connections until the endpoint is closed. All tasks belong to this future and end with it.
    pub(crate) async fn run(self) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                incoming = self.endpoint.accept() => {
                    let Some(incoming) = incoming else { break };
                    connections.spawn(over_http3(incoming, self.http3.clone(), self.host.clone()));
                }
                Ok((tcp, peer)) = self.listener.accept() => {
                    let (tls, acceptor) = (self.tls.clone(), self.http2.clone());
                    connections.spawn(over_http2(tcp, peer, tls, acceptor, self.host.clone()));
                }
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

/// Serves all requests of a QUIC connection, side by side.
async fn over_http3(
    incoming: quinn::Incoming,
    acceptor: h3::Acceptor,
    host: Host,
) -> anyhow::Result<()> {
    let mut connection = acceptor.accept(incoming.await?);
    let mut requests = JoinSet::new();
    while let Some(requested) = connection.next_request().await {
        requests.spawn(serve(requested, host.clone()));
        while requests.try_join_next().is_some() {}
    }
    // Sessions learn by themselves that their connection is over.
    while requests.join_next().await.is_some() {}
    Ok(())
}

/// The same for a TCP connection, once TLS has agreed on HTTP/2.
async fn over_http2(
    tcp: TcpStream,
    peer: SocketAddr,
    tls: TlsAcceptor,
    acceptor: h2::Acceptor,
    host: Host,
) -> anyhow::Result<()> {
    let mut connection = acceptor.accept(tls.accept(tcp).await?, peer);
    let mut requests = JoinSet::new();
    while let Some(requested) = connection.next_request().await {
        requests.spawn(serve(requested, host.clone()));
        while requests.try_join_next().is_some() {}
    }
    while requests.join_next().await.is_some() {}
    Ok(())
}

/// Serves a request, whichever version brought it.
async fn serve(requested: Requested, host: Host) -> anyhow::Result<()> {
    match requested {
        Requested::Session(incoming) => route(incoming, host).await,
        Requested::Http(exchange) => answer(exchange).await,
        _ => Ok(()), // what is not known is rejected
    }
}

/// Decides which sessions are the component's, and which are ours.
async fn route(incoming: Incoming, host: Host) -> anyhow::Result<()> {
    let path = incoming.request().connect.path.as_str();
    if path == "/native" {
        echo(incoming.accept(&Response::new(200)).await?).await;
    } else if path.starts_with("/wharf") {
        host.serve(incoming).await;
    } else {
        incoming.refuse(&Response::new(404)).await;
    }
    Ok(())
}

/// A handler in plain Rust: sends back what comes in, as long as the peer takes it.
async fn echo(mut session: Session) {
    while let Some(event) = session.next_event().await {
        if let Event::Data { stream, data, fin } = event {
            // Data comes only while there is room for as much, so this never blocks.
            _ = session.send(stream, data, fin);
        } else if let Event::Datagram(data) = event {
            _ = session.send_datagram(&data);
        }
    }
}

/// The program's own answer to a request that asks for no session.
async fn answer(mut exchange: Exchange) -> anyhow::Result<()> {
    let body = exchange.body(1 << 10).await?;
    let method = exchange.request().method();
    let text = format!(
        "{method} {} ({} bytes)\n",
        exchange.request().uri(),
        body.len()
    );
    exchange
        .respond(http::Response::new(Bytes::from(text)))
        .await;
    Ok(())
}
