//! Answers data with what the session knows, as text, and ends the stream.

use crate::bindings::wharf::webtransport::types::{HttpVersion, Role, StreamId};
use crate::report::{error_name, or_none};
use crate::scene::Scene;
use std::sync::atomic::{AtomicU32, Ordering};

/// The fields of `session-info`, and the session's id, as `key=value` with spaces between.
pub(crate) fn info(scene: &Scene, id: StreamId) {
    let info = scene.session.info();
    let pairs = [
        ("id", scene.session.id().to_string()),
        ("http", http_name(info.http).to_owned()),
        ("datagrams-reliable", info.datagrams_reliable.to_string()),
        ("streams-bidi", info.streams_bidi.to_string()),
        ("streams-uni", info.streams_uni.to_string()),
        ("open-credit-bidi", or_none(info.open_credit_bidi)),
        ("open-credit-uni", or_none(info.open_credit_uni)),
        ("send-credit", or_none(info.send_credit)),
        ("receive-credit", or_none(info.receive_credit)),
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
        ("rtt-us", or_none(info.rtt_us)),
        ("max-datagram-size", info.max_datagram_size.to_string()),
    ];
    let words = pairs.map(|(key, value)| format!("{key}={value}"));
    reply(scene, id, &words.join(" "));
}

/// 32 bytes of keying material for the label `wharf test` and the context `ctx`, in hexadecimal;
/// or `error`, and which.
pub(crate) fn export(scene: &Scene, id: StreamId) {
    let material = scene
        .session
        .export_keying_material("wharf test", b"ctx", 32);
    let text = match material {
        Ok(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        Err(error) => format!("error {}", error_name(&error)),
    };
    reply(scene, id, &text);
}

/// The request as lines of `key=value`; a header field's key is `field.<name>`.
pub(crate) fn request(scene: &Scene, id: StreamId) {
    let request = &scene.request;
    let mut lines = vec![
        format!("scheme={}", request.scheme),
        format!("authority={}", request.authority),
        format!("path={}", request.path),
        format!("token={}", request.token),
        format!("origin={}", or_none(request.origin.as_ref())),
        format!("offered-protocols={}", request.offered_protocols.join(",")),
        format!("peer={}", request.peer),
        format!("http={}", http_name(request.http)),
        format!("role={}", role_name(request.role)),
    ];
    for (name, value) in &request.fields {
        lines.push(format!("field.{name}={}", value.escape_ascii()));
    }
    reply(scene, id, &lines.join("\n"));
}

/// How often this was asked in the instance.
pub(crate) fn count(scene: &Scene, id: StreamId) {
    static ASKED: AtomicU32 = AtomicU32::new(0);
    let asked = ASKED.fetch_add(1, Ordering::Relaxed) + 1;
    reply(scene, id, &asked.to_string());
}

pub(crate) fn reply(scene: &Scene, id: StreamId, text: &str) {
    // The question may come in several pieces. Only the first is answered: then FIN is sent.
    let _ = scene.session.send(id, text.as_bytes(), true);
}

fn http_name(http: HttpVersion) -> &'static str {
    match http {
        HttpVersion::Http3 => "http3",
        HttpVersion::Http2 => "http2",
    }
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Server => "server",
        Role::Client => "client",
    }
}
