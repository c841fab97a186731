//! The client's end: the library's client, and `wharf connect`.

mod console;
mod failures;
mod fallback;
mod foreign;
mod handler;
mod library;
mod native;
mod program;
mod trust;
