//! What the guest tells on stderr, and the words for it.

use crate::bindings::wharf::webtransport::types::{CloseInfo, Closer, Error};
use std::fmt::Display;
use std::io::Write;

/// Writes one line, in one call of the host: `eprintln!` makes one of each piece that it formats.
pub(crate) fn line(text: &str) {
    // A guest whose stderr is gone has nobody to tell.
    let _ = std::io::stderr().write_all(format!("{text}\n").as_bytes());
}

/// Tells of a session function that failed.
pub(crate) fn outcome<T>(function: &str, result: Result<T, Error>) {
    if let Err(error) = result {
        line(&format!("error {function} {}", error_name(&error)));
    }
}

/// Tells of a stream that has no room.
pub(crate) fn would_block(id: u64) {
    line(&format!("would-block {id}"));
}

/// Tells how the session ended.
pub(crate) fn closed(info: &CloseInfo) {
    let by = match info.by {
        Closer::Local => "local",
        Closer::Peer => "peer",
        Closer::Host => "host",
    };
    let clean = if info.clean { "clean" } else { "unclean" };
    line(&format!(
        "closed {} {by} {clean} {:?}",
        info.code, info.reason
    ));
}

/// The WIT's name of an error.
pub(crate) fn error_name(error: &Error) -> &'static str {
    match error {
        Error::UnknownStream => "unknown-stream",
        Error::WrongDirection => "wrong-direction",
        Error::Finished => "finished",
        Error::Reset => "reset",
        Error::WouldBlock => "would-block",
        Error::StreamLimit => "stream-limit",
        Error::Draining => "draining",
        Error::Closed => "closed",
        Error::TooLarge => "too-large",
        Error::Unsupported => "unsupported",
        Error::Invalid(_) => "invalid",
    }
}

/// The value, or `none`.
pub(crate) fn or_none(value: Option<impl Display>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| value.to_string())
}
