//! The DevTools protocol, as far as the driver needs it: commands, one at a time, over one WebSocket. WebDriver BiDi,
//! which Firefox speaks, has the same frame.
//!
//! Of what the browser says unasked only the complaints about pages are kept.

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// How long a browser may take for anything at all.
pub(super) const COMMAND: Duration = Duration::from_secs(45);

/// The connection to a browser. Within it a session is a page.
pub(super) struct Connection {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    commands: u64,
    complaints: Vec<(Value, String)>,
}

impl Connection {
    pub(super) async fn open(url: &str) -> Result<Self> {
        let (socket, _) = connect_async(url).await.with_context(|| url.to_owned())?;
        let complaints = Vec::new();
        Ok(Self {
            socket,
            commands: 0,
            complaints,
        })
    }

    /// Gives a command, to a session or to the browser itself, and returns its result.
    pub(super) async fn command(
        &mut self,
        session: Option<&Value>,
        method: &str,
        params: Value,
    ) -> Result<Value> {
        self.commands += 1;
        let mut command = json!({ "id": self.commands, "method": method, "params": params });
        if let Some(session) = session {
            command["sessionId"] = session.clone();
        }
        self.socket.send(Message::text(command.to_string())).await?;
        let answer = tokio::time::timeout(COMMAND, self.answer(method)).await;
        answer.with_context(|| format!("{method}: no answer"))?
    }

    /// What went wrong in a session, as far as Chromium has told.
    pub(super) fn complaints(&self, session: &Value) -> Vec<String> {
        let of_session = self.complaints.iter().filter(|(of, _)| of == session);
        of_session.map(|(_, text)| text.clone()).collect()
    }

    async fn answer(&mut self, method: &str) -> Result<Value> {
        while let Some(message) = self.socket.next().await {
            let Message::Text(text) = message? else {
                continue;
            };
            let mut message: Value = serde_json::from_str(&text)?;
            if message["id"] == self.commands {
                let error = &message["error"];
                ensure!(error.is_null(), "{method}: {error}");
                return Ok(message["result"].take());
            }
            self.note(&message);
        }
        bail!("{method}: the browser is gone")
    }

    fn note(&mut self, event: &Value) {
        let entry = &event["params"]["entry"];
        let text = match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => thrown(&event["params"]["exceptionDetails"]),
            Some("Log.entryAdded") if entry["level"] == "error" => entry["text"].to_string(),
            _ => return,
        };
        self.complaints.push((event["sessionId"].clone(), text));
    }
}

/// The text of an exception.
pub(super) fn thrown(details: &Value) -> String {
    let description = details["exception"]["description"].as_str();
    let text = description.or(details["text"].as_str());
    text.unwrap_or("an exception").to_owned()
}

/// Decodes base64 with padding, which is how the protocol carries pictures.
pub(super) fn from_base64(text: &str) -> Option<Vec<u8>> {
    const DIGITS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for group in text.trim_end_matches('=').as_bytes().chunks(4) {
        let mut bits = 0;
        for (i, letter) in group.iter().enumerate() {
            let digit = DIGITS.bytes().position(|digit| digit == *letter)?;
            bits |= u32::try_from(digit).ok()? << (18 - 6 * i);
        }
        // The first of the four bytes is empty; two letters carry one byte, three carry two.
        bytes.extend_from_slice(&bits.to_be_bytes()[1..group.len()]);
    }
    Some(bytes)
}
