//! The log of the program, as a collector of logs reads it.

use serde_json::Value;
use tokio::process::Command;

use crate::{
    binary::{Wharf, program},
    harness::guest,
};

async fn json_lines(mut command: Command) -> Vec<Value> {
    command.arg("run").arg(guest("faults"));
    let wharf = Wharf::start(command).await;
    let session = wharf.connect("/stdio").await;
    wharf.logs("a line on stdout").await;
    session.close(0, b"");
    wharf.logs("no newline at the end").await;
    let lines = wharf.lines();
    lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

fn check(lines: &[Value]) {
    for line in lines {
        for key in ["timestamp", "level", "target", "message"] {
            assert!(line[key].is_string(), "no {key} in {line}");
        }
    }
    let line = lines
        .iter()
        .find(|line| line["message"] == "a line on stdout")
        .unwrap();
    for (key, value) in [
        ("target", "wharf::guest"),
        ("level", "INFO"),
        ("tenant", "default"),
        ("route", "faults.wasm"),
        ("path", "/stdio"),
        ("stream", "stdout"),
    ] {
        assert_eq!(line[key], value, "{key} in {line}");
    }
    assert_eq!(line["session"], 1, "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_line_is_a_json_object_where_that_is_asked_for() {
    let mut command = Command::new(program());
    command.args(["--log-format", "json"]);
    check(&json_lines(command).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environment_may_ask_for_it_too() {
    let mut command = Command::new(program());
    command.env("WHARF_LOG_FORMAT", "json");
    check(&json_lines(command).await);
}
