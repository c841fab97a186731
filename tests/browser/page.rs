//! The developer page in a real browser: what a person can do on it reaches the server and comes back.
//!
//! Everything goes through the page's own buttons and inputs; what to hold on to is listed at the top of
//! `host/src/page/index.html`. The steps are separate, so that a test can look at the other end between them: a
//! browser does not tell the ids of streams, so steps return the page's names for them.

use super::driver::{Browser, Page};
use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use std::path::Path;

/// Where the page is, and what the server does on which path.
pub(crate) struct Site<'a> {
    /// The address of the page: `http://127.0.0.1:PORT/`.
    pub(crate) page_url: &'a str,
    /// Answers like the guest `echo`, mirroring the codes of reset and stop as well.
    pub(crate) echo: &'a str,
    /// Opens streams by itself, and sends what `pushed` says on them: kind (`bidi` or `uni`) and text.
    pub(crate) push: &'a str,
    pub(crate) pushed: &'a [(&'a str, &'a str)],
    /// Gives up sending, or reading, on the first stream that brings data, with the code given here.
    pub(crate) reset: &'a str,
    pub(crate) stop: &'a str,
    pub(crate) given_up_with: u32,
    /// Closes the session at once, with what `closed_with` says.
    pub(crate) close: &'a str,
    pub(crate) closed_with: (u32, &'a str),
    /// Where to save a picture of the page after some traffic, if anywhere.
    pub(crate) picture: Option<&'a Path>,
}

/// Does with the page what it is for: every step, over three sessions.
pub(crate) async fn the_page_drives_a_session_in_chromium(
    browser: &Browser,
    site: &Site<'_>,
) -> Result<()> {
    let developer = Developer::arrives(browser, site.page_url).await?;
    developer.connects(site.echo).await?;
    developer.echoes_on_a_bidi_stream("Hello, wharf").await?;
    developer
        .is_answered_on_a_uni_stream("one way: größe")
        .await?;
    developer.echoes_a_datagram("ping").await?;

    let stream = developer.resets_a_stream(7).await?;
    developer
        .sees_half(&stream, "receive", "reset", Some(7))
        .await?;
    developer.stops_a_stream(255).await?;
    if let Some(path) = site.picture {
        developer.echoes_on_a_bidi_stream("Still here").await?; // a stream with its controls on top
        developer.page.screenshot(path).await?;
    }
    developer.closes(4_000_000_000, "enough for today").await?;

    developer.connects(site.push).await?;
    developer.sees_pushed(site.pushed).await?;

    for (path, half, state) in [
        (site.reset, "receive", "reset"),
        (site.stop, "send", "stopped"),
    ] {
        developer.connects(path).await?;
        let stream = developer.opens("bidi").await?;
        developer.sends(&stream, "give up", "send").await?;
        developer
            .sees_half(&stream, half, state, Some(site.given_up_with))
            .await?;
    }

    developer.goes_to(site.close).await?;
    developer
        .sees_close("server", site.closed_with.0, site.closed_with.1)
        .await?;

    let complaints = developer.page.complaints().await?;
    ensure!(complaints.is_empty(), "the page complains: {complaints:#?}");
    Ok(())
}

/// Somebody at the page.
pub(crate) struct Developer {
    /// The page, for what the steps do not cover.
    pub(crate) page: Page,
}

impl Developer {
    /// Opens the page, at the size of a small laptop's window.
    pub(crate) async fn arrives(browser: &Browser, page_url: &str) -> Result<Self> {
        let page = browser.open(page_url).await?;
        page.set_viewport(1280, 860, false).await?;
        page.wait_for(
            "document.querySelector('#component').textContent",
            "the component's name",
        )
        .await?;
        Ok(Self { page })
    }

    /// Asks for a session on a path, whatever comes of it. A session that is open is closed by that.
    pub(crate) async fn goes_to(&self, path: &str) -> Result<()> {
        self.page.fill("#path", path).await?;
        self.page.click("#connect").await
    }

    /// Opens a session on a path.
    pub(crate) async fn connects(&self, path: &str) -> Result<()> {
        self.goes_to(path).await?;
        self.sees(
            "document.querySelector('#status').dataset.state === 'open'",
            "an open session",
        )
        .await
    }

    /// Sends text on a new bidi stream, sees it come back, and stays for more: both halves are open. The stream.
    pub(crate) async fn echoes_on_a_bidi_stream(&self, text: &str) -> Result<String> {
        let stream = self.opens("bidi").await?;
        self.sends(&stream, text, "send").await?;
        self.sees_received(&stream, text).await?;
        self.sees_half(&stream, "send", "open", None).await?;
        self.sees_half(&stream, "receive", "open", None).await?;
        Ok(stream)
    }

    /// Sends text with FIN on a new uni stream and sees it come back, with FIN, on one of the server's. Both streams.
    pub(crate) async fn is_answered_on_a_uni_stream(&self, text: &str) -> Result<(String, String)> {
        let stream = self.opens("uni").await?;
        self.sends(&stream, text, "fin").await?;
        self.sees_half(&stream, "send", "fin", None).await?;
        let answer = self.sees_stream_of_server("uni", text).await?;
        Ok((stream, answer))
    }

    /// Sends a datagram until one comes back: the network may lose any of them.
    pub(crate) async fn echoes_a_datagram(&self, text: &str) -> Result<()> {
        self.page.fill("#datagram-text", text).await?;
        let send = "document.querySelector('#datagram-send').click()";
        let again = self
            .page
            .evaluate(&format!("{send}, setInterval(() => {send}, 200)"))
            .await?;
        let came = entry(&[("dir", "in"), ("kind", "datagram")], text);
        let seen = self.sees(&came, "the datagram's echo").await;
        self.page
            .evaluate(&format!("clearInterval({again})"))
            .await?;
        seen
    }

    /// Opens a bidi stream, sends on it, and gives up sending with a code. The stream.
    pub(crate) async fn resets_a_stream(&self, code: u32) -> Result<String> {
        let stream = self.echoes_on_a_bidi_stream("never mind").await?;
        self.gives_up(&stream, "reset", code).await?;
        self.sees_half(&stream, "send", "reset", Some(code)).await?;
        Ok(stream)
    }

    /// Opens a bidi stream, sends on it, and gives up reading with a code. The stream.
    pub(crate) async fn stops_a_stream(&self, code: u32) -> Result<String> {
        let stream = self.echoes_on_a_bidi_stream("say no more").await?;
        self.gives_up(&stream, "stop", code).await?;
        self.sees_half(&stream, "receive", "stopped", Some(code))
            .await?;
        Ok(stream)
    }

    /// Closes the session from the page.
    pub(crate) async fn closes(&self, code: u32, reason: &str) -> Result<()> {
        self.page.fill("#close-code", &code.to_string()).await?;
        self.page.fill("#close-reason", reason).await?;
        self.page.click("#close").await?;
        self.sees_close("page", code, reason).await
    }

    /// Sees who (`page` or `server`) closed the session, and with what.
    pub(crate) async fn sees_close(&self, by: &str, code: u32, reason: &str) -> Result<()> {
        let js = format!(
            "(({{ state, by, code, reason }}) => state === 'closed' && by === {} && code === '{code}' && reason === {})
                 (document.querySelector('#status').dataset)",
            json!(by),
            json!(reason)
        );
        self.sees(&js, &format!("a close by the {by} with {code} {reason:?}"))
            .await
    }

    /// Sees the streams that the server opened, each with its text and at its end.
    pub(crate) async fn sees_pushed(&self, pushed: &[(&str, &str)]) -> Result<()> {
        for (kind, text) in pushed {
            self.sees_stream_of_server(kind, text).await?;
        }
        Ok(())
    }

    /// Sees a stream of the server bring a text and end. The stream.
    pub(crate) async fn sees_stream_of_server(&self, kind: &str, text: &str) -> Result<String> {
        let js = format!(
            "[...document.querySelectorAll('#streams > [data-by=server][data-kind={kind}][data-receive=fin]')]
                 .find((card) => card.querySelector('.received').textContent === {})?.dataset.stream",
            json!(text)
        );
        let what = format!("a {kind} stream of the server with {text:?}");
        let stream = self.page.wait_for(&js, &what).await?;
        Ok(stream.as_str().context(what)?.to_owned())
    }

    /// Sees a half (`send` or `receive`) of a stream come to a state, with the code that goes with it.
    pub(crate) async fn sees_half(
        &self,
        stream: &str,
        half: &str,
        state: &str,
        code: Option<u32>,
    ) -> Result<()> {
        let code = code.map_or(String::new(), |code| format!("[data-{half}-code='{code}']"));
        let js = format!(
            "document.querySelector(\"[data-stream={stream}][data-{half}={state}]{code}\") !== null"
        );
        self.sees(&js, &format!("{half} {state} {code} of {stream}"))
            .await
    }

    async fn sees_received(&self, stream: &str, text: &str) -> Result<()> {
        let js = format!(
            "document.querySelector('[data-stream={stream}] .received').textContent === {}",
            json!(text)
        );
        self.sees(&js, &format!("{text:?} on {stream}")).await?;
        let log = entry(&[("dir", "in"), ("kind", "data"), ("stream", stream)], text);
        self.sees(&log, &format!("{text:?} of {stream} in the log"))
            .await
    }

    async fn opens(&self, kind: &str) -> Result<String> {
        let newest = format!(
            "document.querySelector('#streams > [data-by=page][data-kind={kind}]')?.dataset.stream"
        );
        let before = self.page.evaluate(&newest).await?;
        self.page.click(&format!("#open-{kind}")).await?;
        let what = format!("a new {kind} stream");
        let stream = self
            .page
            .wait_for(&format!("({newest}) !== {before} && {newest}"), &what)
            .await?;
        Ok(stream.as_str().context(what)?.to_owned())
    }

    /// How: `send`, or `fin` to end the stream with it.
    async fn sends(&self, stream: &str, text: &str, how: &str) -> Result<()> {
        self.page
            .fill(&format!("[data-stream={stream}] [name=text]"), text)
            .await?;
        self.page
            .click(&format!("[data-stream={stream}] [value={how}]"))
            .await
    }

    /// How: `reset` or `stop`.
    async fn gives_up(&self, stream: &str, how: &str, code: u32) -> Result<()> {
        self.page
            .fill(
                &format!("[data-stream={stream}] [name=code]"),
                &code.to_string(),
            )
            .await?;
        self.page
            .click(&format!("[data-stream={stream}] [value={how}]"))
            .await
    }

    async fn sees(&self, js: &str, what: &str) -> Result<()> {
        self.page.wait_for(js, what).await.map(drop)
    }
}

/// An expression: whether the log has an entry with these data attributes and this text.
fn entry(data: &[(&str, &str)], text: &str) -> String {
    let attributes: String = data
        .iter()
        .map(|(name, value)| format!("[data-{name}={value}]"))
        .collect();
    format!(
        "[...document.querySelectorAll('#log > {attributes}')].some((entry) => entry.querySelector('.text').textContent === {})",
        json!(text)
    )
}
