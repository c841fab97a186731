//! The host from end to end: real sockets on free ports, real components, clients that are not ours.
#![expect(
    clippy::cast_possible_truncation,
    clippy::wildcard_enum_match_arm,
    reason = "sizes are small, and whatever is not expected fails the test"
)]
#![expect(clippy::print_stderr, reason = "what was not tried is said")]
#![cfg(test)]

mod harness;

mod abuse;
mod admin;
mod backpressure;
mod binary;
mod browser;
mod capsules;
mod chat;
mod cli;
mod close;
mod commands;
mod config;
mod connect;
mod connect_stream;
mod credit;
mod datagrams;
mod drain;
mod embed;
mod ends;
mod fairness;
mod flow_control;
mod halves;
mod http2;
mod info;
mod interop;
mod inventory;
mod limits;
mod listener;
mod logs;
mod many;
mod measured;
mod metrics;
mod negotiation;
mod peer;
mod pouring;
mod random;
mod raw;
mod readme;
mod relay;
mod reload;
mod resets;
mod sandbox;
mod scrape;
mod sessions;
mod shutdown;
mod soak;
mod streams;
mod tenants;
mod tidy;
mod traces;
mod vectors;
mod wat;
