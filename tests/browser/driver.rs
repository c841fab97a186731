//! A browser that tests can drive: Chromium, headless, over the DevTools protocol.
//!
//! Nothing here sleeps or polls: what a test waits for, it waits for inside the page. Every wait ends, and so does the
//! browser when it is dropped, with its processes and its profile. One command is under way at a time, so a wait in one
//! page holds up the others of the same browser.

use super::devtools::{Connection, from_base64, thrown};
use super::process::{Process, find};
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::Mutex;

/// How long a page may take to show what a test waits for.
const WAIT: Duration = Duration::from_secs(20);

/// Never `--disable-quic`: it takes WebTransport away. Without a sandbox, because that does not start as root in a
/// container; the pages are our own.
const FLAGS: &str = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking \
    --disable-component-update --disable-sync --remote-debugging-port=0 about:blank";

/// Runs in the page: resolves with the first truthy value that `look` returns, asked again at every change of the
/// document; rejects with what the page shows when the time is over.
const WAIT_FOR: &str = "(look, what, ms) => new Promise((resolve, reject) => {
    const observer = new MutationObserver(check);
    const shown = () => document.body.innerText.slice(-3000);
    const late = () => end(reject, new Error(`waited ${ms} ms for ${what}; the page shows:\n${shown()}`));
    const timer = setTimeout(late, ms);
    function end(settle, value) { observer.disconnect(); clearTimeout(timer); settle(value); }
    function check() { const value = look(); if (value) end(resolve, value); }
    observer.observe(document, { subtree: true, childList: true, attributes: true, characterData: true });
    check();
})";

/// A running Chromium with a profile of its own. Dropping it ends it.
pub(crate) struct Browser {
    connection: Arc<Mutex<Connection>>,
    _process: Process,
}

impl Browser {
    /// The Chromium of this machine: what `CHROMIUM` names, or the first of the usual names on the `PATH`.
    pub(crate) fn find() -> Option<PathBuf> {
        find(
            "CHROMIUM",
            &["chromium", "chromium-browser", "google-chrome"],
        )
    }

    /// Starts Chromium. The profile is fresh: Chromium remembers sessions that failed and slows down the next ones.
    pub(crate) async fn launch(path: impl AsRef<OsStr>) -> Result<Self> {
        let profile = TempDir::new()?;
        let mut user_data_dir = OsString::from("--user-data-dir=");
        user_data_dir.push(profile.path());
        let mut command = Command::new(path.as_ref());
        command.arg(user_data_dir).args(FLAGS.split_whitespace());
        let process = Process::start(command, profile, "DevTools listening on ").await?;
        Ok(Self {
            connection: Arc::new(Mutex::new(Connection::open(&process.url).await?)),
            _process: process,
        })
    }

    /// Opens a page and waits until it is loaded.
    pub(crate) async fn open(&self, url: &str) -> Result<Page> {
        let mut browser = self.connection.lock().await;
        let blank = json!({ "url": "about:blank" });
        let target = browser.command(None, "Target.createTarget", blank).await?;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let mut attached = browser
            .command(None, "Target.attachToTarget", attach)
            .await?;
        drop(browser);
        let page = Page {
            connection: Arc::clone(&self.connection),
            session: attached["sessionId"].take(),
        };
        for method in ["Page.enable", "Runtime.enable", "Log.enable"] {
            page.command(method, json!({})).await?;
        }
        let failed = &page.command("Page.navigate", json!({ "url": url })).await?["errorText"];
        ensure!(failed.is_null(), "{url}: {failed}");
        let loaded = "document.readyState === 'complete' || new Promise((done) => addEventListener('load', () => done()))";
        page.evaluate(loaded).await?;
        Ok(page)
    }
}

/// A page in its tab.
pub(crate) struct Page {
    connection: Arc<Mutex<Connection>>,
    session: Value,
}

impl Page {
    /// The value of an expression, awaited if it is a promise. An exception becomes an error with its text.
    pub(crate) async fn evaluate(&self, js: &str) -> Result<Value> {
        let params = json!({ "expression": js, "awaitPromise": true, "returnByValue": true });
        let mut answer = self.command("Runtime.evaluate", params).await?;
        if let Some(details) = answer.get("exceptionDetails") {
            bail!(thrown(details));
        }
        Ok(answer["result"]["value"].take())
    }

    /// Waits until an expression is truthy and returns its value; `what` completes "waited for" in the error.
    ///
    /// It is evaluated at each change of the document, so it must depend on nothing else, such as an input's value.
    pub(crate) async fn wait_for(&self, js_predicate: &str, what: &str) -> Result<Value> {
        let (what, ms) = (json!(what), WAIT.as_millis());
        let call = format!("({WAIT_FOR})(() => ({js_predicate}), {what}, {ms})");
        self.evaluate(&call).await
    }

    /// Clicks the element that a selector finds, if a person could.
    pub(crate) async fn click(&self, selector: &str) -> Result<()> {
        self.on(selector, "element.click()").await
    }

    /// Puts text into the input that a selector finds, if a person could.
    pub(crate) async fn fill(&self, selector: &str, text: &str) -> Result<()> {
        self.on(selector, &format!("element.value = {}", json!(text)))
            .await
    }

    async fn on(&self, selector: &str, act: &str) -> Result<()> {
        let find = format!("document.querySelector({})", json!(selector));
        let usable = "element?.checkVisibility() && !element.disabled";
        let refuse = "throw new Error('missing, hidden or disabled')";
        let js =
            format!("{{ const element = {find}; if (!({usable})) {refuse}; {act}; undefined }}");
        self.evaluate(&js)
            .await
            .with_context(|| selector.to_owned())?;
        Ok(())
    }

    /// What went wrong in the page so far: uncaught exceptions, and errors that Chromium reports about it, such as
    /// resources that are missing or that the content security policy refused.
    pub(crate) async fn complaints(&self) -> Result<Vec<String>> {
        self.evaluate("undefined").await?; // what was reported until now is read with the answer
        Ok(self.connection.lock().await.complaints(&self.session))
    }

    /// Sets the size of the viewport in CSS pixels, and the colour scheme that the user prefers.
    pub(crate) async fn set_viewport(&self, width: u32, height: u32, dark: bool) -> Result<()> {
        let size =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.command("Emulation.setDeviceMetricsOverride", size)
            .await?;
        let scheme = if dark { "dark" } else { "light" };
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.command("Emulation.setEmulatedMedia", media).await?;
        Ok(())
    }

    /// Saves what the viewport shows as a PNG.
    pub(crate) async fn screenshot(&self, path: impl AsRef<Path>) -> Result<()> {
        let shot = self.command("Page.captureScreenshot", json!({})).await?;
        let png = shot["data"]
            .as_str()
            .and_then(from_base64)
            .context("no picture")?;
        std::fs::write(&path, png).with_context(|| path.as_ref().display().to_string())
    }

    async fn command(&self, method: &str, params: Value) -> Result<Value> {
        let mut connection = self.connection.lock().await;
        connection
            .command(Some(&self.session), method, params)
            .await
    }
}
