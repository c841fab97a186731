//! Calls session functions wrongly and tells what they answer, as `error <call> <error>`, where
//! the error is `none` for a call that succeeds.

use crate::bindings::wharf::webtransport::transport::Session;
use crate::bindings::wharf::webtransport::types::{Error, StreamId, StreamKind};
use crate::report;
use crate::scene::Scene;

/// Sends on a stream that was never opened. This is told without the call, being the only one.
pub(crate) fn send_unknown(scene: &Scene) {
    let result = scene.session.send(9999, b"lost", false);
    let name = result.err().map(|error| report::error_name(&error));
    report::line(&format!("error {}", report::or_none(name)));
}

/// Walks through the errors, in this order; closes the session on the way.
///
/// The stream that this begins on shows the misuse of a peer's uni stream, if it is one. The rest
/// happens on own streams: one uni, three bidi.
pub(crate) fn errors(scene: &Scene, id: StreamId) {
    let session = &scene.session;
    if is_uni(id) {
        tell("send-on-peer-uni", session.send(id, b"back", false));
    }
    let walk = after_fin(session)
        .and_then(|()| after_close_stream(session))
        .and_then(|()| after_reset(session))
        .and_then(|()| after_stop(session));
    report::outcome("open-stream", walk);
    beyond_limits(session);
    scene.drain();
    tell("open-after-drain", session.open_stream(StreamKind::Uni));
    scene.close();
    after_close(session, id);
}

fn after_fin(session: &Session) -> Result<(), Error> {
    let uni = session.open_stream(StreamKind::Uni)?;
    tell("stop-own-uni", session.stop_sending(uni, 1));
    session.send(uni, b"last", true)?;
    tell("send-after-fin", session.send(uni, b"more", false));
    tell("capacity-after-fin", session.send_capacity(uni));
    Ok(())
}

fn after_close_stream(session: &Session) -> Result<(), Error> {
    let bidi = session.open_stream(StreamKind::Bidi)?;
    session.close_stream(bidi)?;
    tell("close-stream-twice", session.close_stream(bidi));
    Ok(())
}

fn after_reset(session: &Session) -> Result<(), Error> {
    // Bidirectional, so that it is still a stream after its sending direction is over.
    let bidi = session.open_stream(StreamKind::Bidi)?;
    session.reset_stream(bidi, 1)?;
    tell("reset-twice", session.reset_stream(bidi, 1));
    tell("send-after-reset", session.send(bidi, b"more", false));
    Ok(())
}

fn after_stop(session: &Session) -> Result<(), Error> {
    let bidi = session.open_stream(StreamKind::Bidi)?;
    session.stop_sending(bidi, 1)?;
    tell("stop-twice", session.stop_sending(bidi, 1));
    Ok(())
}

fn beyond_limits(session: &Session) {
    let mut datagram = vec![0];
    datagram.extend((0..session.info().max_datagram_size).map(|_| 0));
    tell("datagram-too-large", session.send_datagram(&datagram));
    let long = "x".repeat(256);
    tell(
        "export-long-label",
        session.export_keying_material(&long, b"", 32),
    );
}

fn after_close(session: &Session, id: StreamId) {
    tell("open-stream", session.open_stream(StreamKind::Bidi));
    tell("send", session.send(id, b"late", false));
    tell("send-capacity", session.send_capacity(id));
    tell("close-stream", session.close_stream(id));
    tell("reset-stream", session.reset_stream(id, 1));
    tell("stop-sending", session.stop_sending(id, 1));
    tell("set-priority", session.set_priority(id, 1));
    tell("send-datagram", session.send_datagram(b"late"));
    tell("set-timer", session.set_timer(1));
    let material = session.export_keying_material("wharf test", b"", 32);
    tell("export-keying-material", material);
}

fn tell<T>(call: &str, result: Result<T, Error>) {
    let name = result.err().map(|error| report::error_name(&error));
    report::line(&format!("error {call} {}", report::or_none(name)));
}

/// RFC 9000, "Stream Types and Identifiers".
fn is_uni(id: StreamId) -> bool {
    id & 0b10 != 0
}
