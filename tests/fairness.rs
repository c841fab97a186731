//! Sessions that share a connection.
