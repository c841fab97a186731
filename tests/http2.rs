//! What is about HTTP/2 alone: its bytes, its settings, and who abuses it. What it has in common with HTTP/3 is tested by
//! parameter elsewhere.

mod abuse;
pub(crate) mod raw;
mod wire;
