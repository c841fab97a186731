//! The common list: what every client does, each item in a session of its own.
//!
//! The clients are told what to do and answer what they saw. What they should have seen, and what the handler should
//! have been told, stands here only.

use serde_json::{Value, json};

use super::table::Client;

/// Zero, the first code behind a gap of the mapping to HTTP/3, the last of 8 bits, the last of all.
const CODES: [u32; 4] = [0, 30, 255, u32::MAX];

/// One item.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    /// Its row in the table.
    pub(crate) name: String,
    /// What the client does: the name of a function in each of the client programs.
    pub(crate) act: &'static str,
    pub(crate) path: String,
    /// Bytes to send.
    pub(crate) size: usize,
    /// How often.
    pub(crate) count: usize,
    pub(crate) code: u32,
    pub(crate) reason: &'static str,
    pub(crate) protocols: &'static [&'static str],
    /// What the client should see.
    pub(crate) sees: Value,
    /// The line of the handler's report that the item should lead to: how it begins, how it ends.
    pub(crate) told: Option<(&'static str, String)>,
}

impl Item {
    /// An item that sees its bytes again.
    fn new(name: impl Into<String>, act: &'static str, path: &str) -> Self {
        Self {
            name: name.into(),
            act,
            path: crate::harness::path(path),
            size: 5,
            count: 1,
            code: 0,
            reason: "",
            protocols: &[],
            sees: json!("same"),
            told: None,
        }
    }

    /// The item as the client programs read it.
    pub(crate) fn order(&self) -> Value {
        json!({
            "item": self.name,
            "do": self.act,
            "path": self.path,
            "size": self.size,
            "count": self.count,
            "code": self.code,
            "reason": self.reason,
            "protocols": self.protocols,
        })
    }
}

/// The list for a client.
pub(crate) fn list(client: &Client) -> Vec<Item> {
    let mut items = vec![
        Item::new("bidi stream", "bidi", "echo"),
        Item::new("uni stream", "uni", "echo"),
        Item::new("datagram", "datagram", "echo"),
        Item {
            sees: json!(["pushed-bidi", "pushed-uni"]),
            ..Item::new("streams opened by the server", "pushed", "push")
        },
        Item {
            size: 2 << 20,
            ..Item::new("2 MiB there and back", "bidi", "quiet/echo")
        },
        Item {
            size: 16 << 10,
            count: 150,
            ..Item::new("150 streams in one session", "many", "quiet/echo")
        },
        Item::new("two sessions on one connection", "sessions", "echo"),
    ];
    for code in CODES {
        items.extend(codes(code, client));
    }
    items.sort_by_key(|item| {
        ["reset", "stop", "read_reset", "read_stop"]
            .iter()
            .position(|act| *act == item.act)
    });
    items.extend([
        Item {
            code: 77,
            reason: "done",
            sees: json!("closed"),
            told: Some(("closed ", "77 peer clean \"done\"".to_owned())),
            ..Item::new("close with code and reason", "close", "echo")
        },
        Item {
            sees: json!([42, "bye"]),
            path: crate::harness::path("close-on-data") + "?code=42&reason=bye",
            ..Item::new("closed with code and reason", "read_close", "")
        },
        Item {
            path: "/accept/200".to_owned(),
            protocols: &["one", "two"],
            sees: json!("one"),
            ..Item::new("protocol negotiated", "protocol", "")
        },
    ]);
    // Last, because Chromium makes a page wait after handshakes that failed.
    items.extend([403, 404, 429, 503].map(|status| Item {
        path: format!("/refuse/{status}"),
        sees: json!(status),
        ..Item::new(format!("refused with {status}"), "refused", "")
    }));
    items
}

/// A code in both directions, on both halves of a stream.
fn codes(code: u32, client: &Client) -> [Item; 4] {
    let sent = |act, told| Item {
        code,
        told: Some((told, format!(" {code}"))),
        ..Item::new(format!("{told}with {code}"), act, "echo")
    };
    let received = |act, how, guest: &str| Item {
        path: format!("{}?code={code}", crate::harness::path(guest)),
        sees: json!(code.min(client.largest_code)),
        ..Item::new(format!("{how} with {code}"), act, guest)
    };
    [
        sent("reset", "reset "),
        sent("stop", "stop "),
        received("read_reset", "reset by the server", "reset"),
        received("read_stop", "stopped by the server", "stop"),
    ]
}
