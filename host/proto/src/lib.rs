//! WebTransport sessions as bytes and events.
//!
//! Protocol state here is a value that is fed bytes and asked questions. Nothing in this crate does I/O, starts a task
//! or reads a clock; nothing grows without a limit, and no input makes it panic.
//!
//! | module | responsibility |
//! |---|---|
//! | [`varint`] | An integer below 2^62 and its wire form. |
//! | [`id`] | Stream and session ids; only valid ids can be built. |
//! | [`code`] | Application error codes, HTTP error codes, and the mapping between them. |
//! | [`connect`] | Turns the fields of an extended CONNECT request into a request, or a status to refuse with. |
//! | [`capsule`] | Capsules to and from bytes, incrementally; unknown types are skipped. |
//! | [`credit`] | The only arithmetic on limits: what was granted, what was used, when to grant more. |
//! | [`buffer`] | Bytes of one stream that wait: to be sent, or to be given out. |
//! | [`contract`] | What an application is told of its session, and why a command of its did nothing. |
//! | [`session`] | The life of a session: open, draining, closed; session-level limits; events. |
//! | [`mux`] | A session of the capsule flavour: streams, credit and datagrams in capsules on one byte stream. |
//!
//! Rules are cited by section title where they are kept. The texts are:
//!
//! - WT-H3: draft-ietf-webtrans-http3-16, "WebTransport over HTTP/3";
//! - WT-H2: draft-ietf-webtrans-http2-15, "WebTransport over HTTP/2";
//! - RFC 9000 (QUIC), RFC 9114 (HTTP/3), RFC 9297 (capsules), RFC 9651 (structured fields).

#![deny(missing_docs)]
#![warn(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]
#![expect(
    clippy::module_name_repetitions,
    reason = "ids, codes and credits keep the names they have in the drafts and in quinn"
)]

pub mod buffer;
pub mod capsule;
pub mod code;
pub mod connect;
pub mod contract;
pub mod credit;
pub mod id;
pub mod mux;
#[cfg(test)]
mod seeded;
pub mod session;
pub mod varint;
