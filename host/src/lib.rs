//! Holds WebTransport sessions and calls handlers that are WebAssembly components.
//!
//! [`server`] is the whole: it binds, accepts, admits, runs one task per session, reloads and drains. It is the only place
//! where a [`transport`] (QUIC and HTTP/3 in, sessions out) meets a [`runtime`] (components in, one instance per session
//! out). `router` finds the tenant and the route for a request; [`config`] holds every limit; the `wharf` binary is [`cli`]
//! over that.
//! [`transport::client`] is the other end: it asks servers for sessions.
//!
//! The README says which module uses which, under "Code map".
//!
//! # Embedding
//!
//! [`Server`](server::Server) is the program `wharf` as a value: it has sockets of its own and a component for every
//! route. Another program may keep its sockets, its paths and its HTTP answers to itself and take three parts of it,
//! each without the others: [`h3::Acceptor`](transport::h3::Acceptor) serves QUIC connections that somebody has accepted,
//! and [`h2::Acceptor`](transport::h2::Acceptor) those of TLS over TCP; both give out their requests, which are then the
//! same. [`Host`](server::Host) serves the sessions it is given with components; and a
//! [`Session`](transport::Session) that is accepted by hand has plain Rust for a handler.
//!
//! ```no_run
//! use wharf::{
//!     config::Route,
//!     runtime::Options,
//!     server::Host,
//!     transport::{Event, Limits, Requested, Response, h3::Acceptor, tls::Certificate},
//! };
//!
//! # async fn embed() -> anyhow::Result<()> {
//! let host = Host::load(vec![Route::new("/wharf", "echo.wasm")], Options::default()).await?;
//! let acceptor = Acceptor::new(Limits::default());
//! let tls = Certificate::development()?.server_config()?;
//! let endpoint = quinn::Endpoint::server(acceptor.server_config(tls)?, "[::1]:0".parse()?)?;
//! println!("https://{}/", endpoint.local_addr()?);
//!
//! // Each connection, and each request of it, belongs in a task of its own: `examples/embed.rs` shows them.
//! while let Some(incoming) = endpoint.accept().await {
//!     let mut connection = acceptor.accept(incoming.await?);
//!     while let Some(requested) = connection.next_request().await {
//!         match requested {
//!             Requested::Session(incoming) if incoming.request().connect.path == "/native" => {
//!                 let mut session = incoming.accept(&Response::new(200)).await?;
//!                 while let Some(event) = session.next_event().await {
//!                     if let Event::Data { stream, data, fin } = event {
//!                         session.send(stream, data, fin)?;
//!                     }
//!                 }
//!             }
//!             Requested::Session(incoming) => host.serve(incoming).await,
//!             Requested::Http(exchange) => exchange.respond(http::Response::new("hello".into())).await,
//!             _ => {} // dropped, which rejects it
//!         }
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! HTTP/2 differs in how a connection is accepted, and in nothing after that:
//! `h2_acceptor.accept(tls_acceptor.accept(tcp).await?, peer)`, where the settings of `tls_acceptor` have been through
//! [`h2::Acceptor::tls_config`](transport::h2::Acceptor::tls_config). `examples/embed.rs` serves both versions.
//!
//! [`drain`](transport::h3::Acceptor::drain) and [`close_sessions`](transport::h3::Acceptor::close_sessions) of each
//! acceptor bring all of it to an end. Types of `quinn` 0.11, `tokio-rustls` 0.26, `rustls` 0.23 and `http` 1 are part of
//! the interface.

mod admin;
mod authority;
pub mod cli;
mod close;
pub mod config;
pub mod guest;
pub mod metrics;
mod page;
mod ready;
mod router;
pub mod runtime;
pub mod server;
pub mod transport;
