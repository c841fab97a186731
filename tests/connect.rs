//! The client's end: the library's client, and `wharf connect`.

mod library;
