//! The host from end to end: real sockets on free ports, real components, clients that are not ours.
#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a test that cannot go on fails where it stands"
)]
#![cfg(test)]

mod harness;

mod abuse;
mod backpressure;
mod binary;
mod browser;
mod cli;
mod close;
mod datagrams;
mod fairness;
mod pouring;
mod random;
mod raw;
mod readme;
mod relay;
mod sessions;
mod shutdown;
mod soak;
mod streams;
mod tidy;
mod wat;
