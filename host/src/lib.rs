//! Holds WebTransport sessions and calls handlers that are WebAssembly components.
//!
//! [`server`] is the whole: it binds, accepts, admits, runs one task per session and drains. It is the only place where a
//! [`transport`] (QUIC and HTTP/3 in, sessions out) meets a [`runtime`] (components in, one instance per session out).
//! `router` finds the route for a request; [`config`] holds every limit; the `wharf` binary is [`cli`] over that.
//!
//! ```text
//! main → cli → config, server, page, guest
//! server → config, router, runtime, transport
//! runtime, router → transport (handles only) → wharf_proto
//! ```

pub mod cli;
mod close;
pub mod config;
pub mod guest;
pub mod page;
mod router;
pub mod runtime;
pub mod server;
pub mod transport;
