//! The Rust clients, which need no process of their own.

use anyhow::Result;
use serde_json::Value;

use super::{Answers, asked, check, items::Item, server, table::Client};
use crate::harness::{PATIENCE, TestServer};

/// Asks a client for each item in turn.
pub(crate) async fn run(client: &Client, does: impl AsyncFn(&TestServer, &Item) -> Result<Value>) {
    let server = server(client.quirks).await;
    let items = asked(client);
    let mut answers = Answers::new();
    for item in &items {
        let answer = match tokio::time::timeout(PATIENCE, does(&server, item)).await {
            Ok(answer) => answer.map_err(|error| format!("{error:#}")),
            Err(late) => Err(late.to_string()),
        };
        answers.insert(item.name.clone(), answer);
    }
    check(client, &items, &answers).await;
}

/// Bytes that show what was lost or repeated.
pub(crate) fn pattern(size: usize) -> Vec<u8> {
    (0..251).cycle().take(size).collect()
}
