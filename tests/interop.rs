//! Other people's clients: each does the common list against a server of ours.
//!
//! `tests/interop/install` brings what the machine lacks. A client that is not there is not tried, except under CI.

use std::collections::HashMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tokio::process::Command;
use wharf::{config::Origins, transport::Quirks};

use crate::harness::{Log, TestServer, root};

mod browsers;
mod items;
mod programs;
mod rust_clients;
mod table;
mod web_transport_quinn;
mod wire;
mod wtransport;

use items::Item;
use table::{Client, Instead};

/// What a client answered to each item that it was asked.
type Answers = HashMap<String, Result<Value, String>>;

/// A server whose limits the list exceeds, so that nobody passes without new credit.
async fn server(quirks: Quirks) -> TestServer {
    TestServer::with(|config| {
        config.transport.session.session_receive_credit = 1 << 20;
        config.transport.session.streams_per_kind = 64;
        for route in &mut config.tenants[0].routes {
            route.origins = Origins::Any;
            route.quirks = quirks;
        }
    })
    .await
}

/// What a client is asked.
fn asked(client: &Client) -> Vec<Item> {
    let mut items = items::list(client);
    items.retain(|item| {
        let short = client.short(&item.name);
        !short.is_some_and(|short| matches!(short.instead, Instead::NotAsked))
    });
    items
}

/// What a client program is told: where the server is, and the list.
fn order(server: &TestServer, items: &[Item]) -> String {
    order_of(server, &items.iter().map(Item::order).collect::<Vec<_>>())
}

/// The same for items that are not of the list.
fn order_of(server: &TestServer, items: &[Value]) -> String {
    let order = json!({
        "url": format!("https://{}", server.address),
        "hash": STANDARD.encode(server.hash),
        "items": items,
    });
    order.to_string()
}

/// Compares what a client saw, and what its handlers were told, with the table.
async fn check(client: &Client, items: &[Item], answers: &Answers) {
    let mut faults = Vec::new();
    for item in items {
        let short = client.short(&item.name).map(|short| &short.instead);
        let answer = answers.get(&item.name);
        if !saw(item, short, answer) {
            let lines = Log::of(&item.path);
            faults.push(format!("{}: it saw {answer:?}, {lines:?}", item.name));
        } else if let Some((start, end)) = &item.told {
            Log::line(&item.path, "closed ").await; // a session's last line
            let lines = Log::of(&item.path);
            let told: Vec<_> = lines
                .iter()
                .filter(|line| line.starts_with(start))
                .collect();
            let as_expected = match (short, &told[..]) {
                (Some(Instead::TellsNot), lines) => !lines.iter().any(|line| line.ends_with(end)),
                (Some(Instead::Tells(end)), [line]) => line.ends_with(end),
                (None, [line]) => line.ends_with(end),
                _ => false,
            };
            if !as_expected {
                faults.push(format!("{}: its handler was told {lines:?}", item.name));
            }
        }
    }
    assert!(faults.is_empty(), "{}: {faults:#?}", client.name);
}

/// Whether a client saw in an item what it should.
fn saw(item: &Item, short: Option<&Instead>, answer: Option<&Result<Value, String>>) -> bool {
    match (short, answer) {
        (_, None) => false,
        (Some(Instead::Varies), _) => true,
        (Some(Instead::Fails), Some(answer)) => answer.is_err(),
        (Some(Instead::Sees(text)), Some(Ok(value))) => {
            serde_json::from_str(text).is_ok_and(|sees: Value| sees == *value)
        }
        (_, Some(answer)) => answer.as_ref() == Ok(&item.sees),
    }
}

/// Runs a Python client, and checks its answers.
async fn python(program: &str, arguments: &[&str], client: &Client) {
    let Some(mut command) = programs::python(program) else {
        return absent(client);
    };
    run(command.args(arguments), client).await;
}

/// Has a client program do the list, and checks its answers.
async fn run(command: &mut Command, client: &Client) {
    let server = server(client.quirks).await;
    let items = asked(client);
    let answers = programs::answers(command, order(&server, &items)).await;
    check(client, &items, &answers).await;
}

/// An answer as the client programs write it.
fn answer(mut written: Value) -> (String, Result<Value, String>) {
    let answer = match written["error"].as_str() {
        Some(error) => Err(error.to_owned()),
        None => Ok(written["saw"].take()),
    };
    (written["item"].as_str().unwrap().to_owned(), answer)
}

/// Tells that a client is not here, which CI does not forgive.
#[expect(clippy::print_stderr, reason = "for the person who runs the tests")]
fn absent(client: &Client) {
    assert!(std::env::var_os("CI").is_none(), "CI needs {}", client.name);
    eprintln!(
        "{} is not here (see tests/interop/install): it was not tried",
        client.name
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn pywebtransport_passes_the_common_list() {
    python("pywebtransport_client.py", &[], &table::PYWEBTRANSPORT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn aioquic_passes_the_common_list_in_draft_02() {
    python("aioquic_client.py", &["d02"], &table::AIOQUIC_D02).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn aioquic_passes_the_common_list_in_draft_07() {
    python("aioquic_client.py", &["d07"], &table::AIOQUIC_D07).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn aioquic_passes_the_common_list_in_draft_15() {
    python("aioquic_client.py", &["d15"], &table::AIOQUIC_D15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_h2_package_passes_the_common_list() {
    python("h2_client.py", &[], &table::H2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fails_components_passes_the_common_list() {
    match programs::node("fails_client.mjs") {
        Some(mut command) => run(&mut command, &table::FAILS_COMPONENTS).await,
        None => absent(&table::FAILS_COMPONENTS),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn web_transport_quinn_passes_the_common_list() {
    rust_clients::run(&table::WEB_TRANSPORT_QUINN, web_transport_quinn::does).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wtransport_passes_the_common_list() {
    rust_clients::run(&table::WTRANSPORT, wtransport::does).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chromium_passes_the_common_list() {
    browsers::chromium().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn firefox_passes_the_common_list() {
    browsers::firefox().await;
}

#[test]
fn the_table_of_clients_in_the_readme_is_the_one_that_is_tested() {
    let path = root().join("tests/README.md");
    let readme = std::fs::read_to_string(&path).unwrap();
    let start = readme.find(table::HEADLINE).unwrap();
    let rest = &readme[start..];
    let end = rest[1..].find("\n## ").map_or(rest.len(), |end| end + 2);
    let section = table::section();
    if std::env::var_os("WHARF_WRITE_TABLE").is_some() {
        let gap = if end < rest.len() { "\n" } else { "" };
        let (before, after) = (&readme[..start], &rest[end..]);
        return std::fs::write(path, format!("{before}{section}{gap}{after}")).unwrap();
    }
    assert!(
        rest[..end].trim_end() == section.trim_end(),
        "tests/README.md is not as tested (write it with WHARF_WRITE_TABLE=1):\n{section}"
    );
}
