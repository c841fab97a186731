//! What is told on the standard output: events, one on a line.

use std::fmt::Write as _;

use anyhow::Context as _;
use tokio::io::{AsyncWriteExt as _, Stdout};

use crate::transport::{Closer, Dir, Event, Info, client::Connected};

/// The standard output, line by line.
pub(super) struct Output(Stdout);

impl Output {
    pub(super) fn new() -> Self {
        Self(tokio::io::stdout())
    }

    /// Writes a line, and waits until it is out.
    pub(super) async fn say(&mut self, line: &str) -> anyhow::Result<()> {
        let written = async {
            self.0.write_all(format!("{line}\n").as_bytes()).await?;
            self.0.flush().await
        };
        written
            .await
            .context("the standard output takes no more lines")
    }
}

/// The line that begins a session.
pub(super) fn connected(connected: &Connected) -> String {
    let Connected {
        request, response, ..
    } = connected;
    let (http, draft) = (request.http, request.draft);
    let mut line = format!("connected {http} {draft} status {}", response.status);
    if let Some(protocol) = &response.protocol {
        _ = write!(line, " protocol {}", escaped(protocol.as_bytes()));
    }
    line
}

/// The line that tells an event.
pub(super) fn event(event: &Event) -> String {
    match event {
        Event::Opened(id) => format!("opened {id} {}", kind(id.dir())),
        Event::Data { stream, data, fin } => {
            let fin = if *fin { " fin" } else { "" };
            format!("data {stream} {} \"{}\"{fin}", data.len(), escaped(data))
        }
        Event::Reset(id, code) => format!("reset {id} {}", or_none(*code)),
        Event::Stopped(id, code) => format!("stopped {id} {}", or_none(*code)),
        Event::Writable(id) => format!("writable {id}"),
        Event::StreamClosed(id) => format!("stream-closed {id}"),
        Event::Datagram(data) => format!("datagram {} \"{}\"", data.len(), escaped(data)),
        Event::Draining => "draining".to_owned(),
        Event::Closed(closed) => {
            let by = match closed.by {
                Closer::Local => "local",
                Closer::Peer => "peer",
                Closer::Host => "host",
            };
            let clean = if closed.clean { "clean" } else { "unclean" };
            let reason = escaped(closed.reason.as_bytes());
            format!("closed {} \"{reason}\" by {by} {clean}", closed.code)
        }
        other => format!("{other:?}"),
    }
}

/// The answer to `info`.
pub(super) fn info(info: &Info) -> String {
    let credit = |credit: Option<u64>| credit.map_or("none".to_owned(), |n| n.to_string());
    let rtt = info
        .rtt
        .map_or("none".to_owned(), |rtt| rtt.as_micros().to_string());
    let values = [
        ("streams-bidi", info.streams_bidi.to_string()),
        ("streams-uni", info.streams_uni.to_string()),
        ("open-credit-bidi", credit(info.open_credit_bidi)),
        ("open-credit-uni", credit(info.open_credit_uni)),
        ("send-credit", credit(info.send_credit)),
        ("receive-credit", credit(info.receive_credit)),
        ("send-buffered", info.send_buffered.to_string()),
        ("bytes-sent", info.bytes_sent.to_string()),
        ("bytes-received", info.bytes_received.to_string()),
        ("datagrams-sent", info.datagrams_sent.to_string()),
        ("datagrams-received", info.datagrams_received.to_string()),
        (
            "datagrams-dropped-out",
            info.datagrams_dropped_out.to_string(),
        ),
        (
            "datagrams-dropped-in",
            info.datagrams_dropped_in.to_string(),
        ),
        ("rtt-us", rtt),
        ("max-datagram-size", info.max_datagram_size.to_string()),
        ("datagrams-reliable", info.datagrams_reliable.to_string()),
    ];
    let mut line = "info".to_owned();
    for (name, value) in values {
        _ = write!(line, " {name} {value}");
    }
    line
}

pub(super) fn kind(dir: Dir) -> &'static str {
    match dir {
        Dir::Bi => "bidi",
        Dir::Uni => "uni",
    }
}

fn or_none(code: Option<u32>) -> String {
    code.map_or("none".to_owned(), |code| code.to_string())
}

/// Bytes on one line: text as it is, the rest escaped as in Rust.
fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter {
                '\'' => text.push(letter),
                _ => text.extend(letter.escape_debug()),
            }
        }
        text.extend(chunk.invalid().escape_ascii().map(char::from));
    }
    text
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use wharf_proto::session::{By, Closed};

    use super::*;
    use crate::transport::StreamId;

    #[test]
    fn text_is_told_as_it_is_and_the_rest_escaped_on_one_line() {
        for (bytes, told) in [
            (&b"it's"[..], "it's"),
            ("\u{e4}\u{1f6a2}".as_bytes(), "\u{e4}\u{1f6a2}"),
            (b"a\"b\\c", r#"a\"b\\c"#),
            (b"a\nb\r\t\0\x1b", r"a\nb\r\t\0\u{1b}"),
            (b"\xff\xc3x", r"\xff\xc3x"),
            ("\u{2028}\u{85}".as_bytes(), r"\u{2028}\u{85}"),
        ] {
            assert_eq!(escaped(bytes), told);
        }
    }

    #[test]
    fn each_event_has_a_line_of_its_own_kind() {
        let id = StreamId::try_from(4).unwrap();
        let data = |fin| Event::Data {
            stream: id,
            data: Bytes::from_static(b"hello"),
            fin,
        };
        let closed = Closed {
            code: 0,
            reason: "bye".to_owned(),
            by: By::Peer,
            clean: true,
        };
        let closed = Event::Closed(closed.told(false));
        for (told, line) in [
            (
                Event::Opened(StreamId::try_from(3).unwrap()),
                "opened 3 uni",
            ),
            (data(false), r#"data 4 5 "hello""#),
            (data(true), r#"data 4 5 "hello" fin"#),
            (Event::Reset(id, Some(7)), "reset 4 7"),
            (Event::Stopped(id, None), "stopped 4 none"),
            (Event::Writable(id), "writable 4"),
            (Event::StreamClosed(id), "stream-closed 4"),
            (
                Event::Datagram(Bytes::from_static(b"abc")),
                r#"datagram 3 "abc""#,
            ),
            (Event::Draining, "draining"),
            (closed, r#"closed 0 "bye" by peer clean"#),
        ] {
            assert_eq!(event(&told), line);
        }
    }
}
