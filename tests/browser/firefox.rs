//! Firefox, headless, over WebDriver BiDi, as far as a test needs it that evaluates one expression in one page.

use super::devtools::Connection;
use super::process::{Process, find};
use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

/// A running Firefox with a profile of its own, and its one tab. Dropping it ends it.
pub(crate) struct Firefox {
    connection: Connection,
    tab: Value,
    _process: Process,
}

impl Firefox {
    /// The Firefox of this machine: what `FIREFOX` names, or the first of the usual names on the `PATH`.
    pub(crate) fn find() -> Option<PathBuf> {
        find("FIREFOX", &["firefox-esr", "firefox"])
    }

    pub(crate) async fn launch(path: impl AsRef<OsStr>) -> Result<Self> {
        let profile = TempDir::new()?;
        let mut command = Command::new(path.as_ref());
        command
            .args(["--headless", "--remote-debugging-port=0", "--profile"])
            .arg(profile.path());
        let process = Process::start(command, profile, "WebDriver BiDi listening on ").await?;
        let mut connection = Connection::open(&format!("{}/session", process.url)).await?;
        let capabilities = json!({ "capabilities": {} });
        connection
            .command(None, "session.new", capabilities)
            .await?;
        let mut tabs = connection
            .command(None, "browsingContext.getTree", json!({}))
            .await?;
        Ok(Self {
            connection,
            tab: tabs["contexts"][0]["context"].take(),
            _process: process,
        })
    }

    /// Opens a page and waits until it is loaded.
    pub(crate) async fn open(&mut self, url: &str) -> Result<()> {
        let page = json!({ "context": self.tab, "url": url, "wait": "complete" });
        let navigated = self
            .connection
            .command(None, "browsingContext.navigate", page);
        navigated.await.map(drop)
    }

    /// The text that an expression's promise resolves with.
    pub(crate) async fn evaluate(&mut self, js: &str) -> Result<String> {
        let params = json!({
            "expression": js,
            "target": { "context": self.tab },
            "awaitPromise": true,
        });
        let answer = self
            .connection
            .command(None, "script.evaluate", params)
            .await?;
        if answer["type"] != "success" {
            bail!("{}", answer["exceptionDetails"]["text"]);
        }
        let text = answer["result"]["value"].as_str();
        Ok(text.context("the value is no text")?.to_owned())
    }
}
