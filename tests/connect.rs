//! The client's end: the library's client, and `wharf connect`.

mod console;
mod failures;
mod foreign;
mod handler;
mod library;
mod program;
mod trust;
