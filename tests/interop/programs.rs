//! Client programs in other languages: the order on their standard input, an answer on each line that they print.

use std::{process::Stdio, time::Duration};

use tokio::{io::AsyncWriteExt as _, process::Command};

use super::{Answers, answer};
use crate::harness::root;

/// What a program may take for all that it is asked.
const PATIENCE: Duration = Duration::from_secs(60);

/// A program in Python; none where what it needs is not installed.
pub(crate) fn python(program: &str) -> Option<Command> {
    let environment = root().join("target/interop/venv");
    let installed = environment.join("installed.txt").exists();
    installed.then(|| command(environment.join("bin/python"), program))
}

/// A program in JavaScript; none where what it needs is not installed.
pub(crate) fn node(program: &str) -> Option<Command> {
    let installed = root().join("target/interop/node/installed.json").exists();
    installed.then(|| command("node", program))
}

fn command(interpreter: impl AsRef<std::ffi::OsStr>, program: &str) -> Command {
    let mut command = Command::new(interpreter);
    command
        .arg(root().join("tests/interop").join(program))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// What a program answers to an order.
pub(crate) async fn answers(command: &mut Command, order: String) -> Answers {
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(order.as_bytes()).await.unwrap();
    drop(stdin);
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output());
    let output = output.await.unwrap().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.map(answer).collect()
}
