//! WebTransport inside a program of its own: its QUIC endpoint, its HTTP answers, and sessions below two paths.
//!
//! Sessions below `/wharf` have a component as their handler, those at `/native` have plain Rust; every other request is
//! answered by the program itself. All of them may share a connection.
//!
//! ```sh
//! cargo run --example embed -- target/wasm32-wasip2/release/wharf_echo.wasm
//! ```

use std::{net::SocketAddr, path::PathBuf};

use anyhow::Context as _;
use bytes::Bytes;
use tokio::task::JoinSet;
use wharf::{
    config::Route,
    runtime::Options,
    server::Host,
    transport::{
        Event, Exchange, Incoming, Limits, Requested, Response, Session,
        h3::{Acceptor, Connection},
        tls::Certificate,
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
    acceptor: Acceptor,
    host: Host,
}

impl Program {
    pub(crate) async fn bind(address: SocketAddr, component: PathBuf) -> anyhow::Result<Self> {
        let mut options = Options::default();
        options.sessions = 100; // the next is refused with 503
        let host = Host::load(vec![Route::new("/wharf", component)], options).await?;
        let acceptor = Acceptor::new(Limits::default());
        let tls = Certificate::development()?.server_config()?;
        let endpoint = quinn::Endpoint::server(acceptor.server_config(tls)?, address)?;
        Ok(Self {
            endpoint,
            acceptor,
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
                    let (acceptor, host) = (self.acceptor.clone(), self.host.clone());
                    connections.spawn(async move {
                        let connection = acceptor.accept(incoming.await?);
                        serve(connection, host).await;
                        anyhow::Ok(())
                    });
                }
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

/// Serves all requests of a connection, side by side.
async fn serve(mut connection: Connection, host: Host) {
    let mut requests = JoinSet::new();
    loop {
        tokio::select! {
            requested = connection.next_request() => match requested {
                Some(Requested::Session(incoming)) => {
                    requests.spawn(route(incoming, host.clone()));
                }
                Some(Requested::Http(exchange)) => {
                    requests.spawn(answer(exchange));
                }
                Some(_) => {} // what is not known is rejected
                None => break,
            },
            Some(_) = requests.join_next() => {}
        }
    }
    // Sessions learn by themselves that their connection is over.
    while requests.join_next().await.is_some() {}
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
