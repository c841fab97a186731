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
mod capsules;
mod cli;
mod close;
mod commands;
mod connect_stream;
mod datagrams;
mod drain;
mod ends;
mod fairness;
mod flow_control;
mod halves;
mod info;
mod inventory;
mod listener;
mod many;
mod negotiation;
mod pouring;
mod random;
mod raw;
mod readme;
mod relay;
mod resets;
mod sessions;
mod shutdown;
mod soak;
mod streams;
mod tidy;
mod vectors;
mod wat;
