//! Passes the frames of one HTTP/3 stream on to `h3`, and keeps from it what `h3` 0.0.8 cannot bear.
//!
//! `h3` gathers every frame but DATA before it looks at it, however long, and frames it does not know as well. So
//! lengths are capped here, unknown frames are dropped as they come, and frames are refused where they may not be. DATA
//! flows through, whatever its length. What `h3` is shown, it understands: an unknown `:protocol` is replaced, and kept
//! for [`Filter::take_token`]. The filter itself holds one frame header, or one capped payload, and no more.
//!
//! The output comes in pieces, of which `h3` is to be given one at each read: it reads once for each frame and for each
//! part of a payload, even where it holds what it needs. So a piece is one frame header or one part of one payload;
//! larger ones would pile up in `h3` without limit. None is empty, which `h3` does not allow.
//!
//! Empty frames are not counted: one costs less here than a DATA frame of one byte, which is lawful, costs above.

use std::{collections::VecDeque, mem};

use bytes::{Buf, Bytes, BytesMut};
use wharf_proto::{
    code::{HttpCode, Violation},
    varint::VarInt,
};

use super::{qpack, settings::PeerSettings};

const DATA: u64 = 0x00;
const HEADERS: u64 = 0x01;
const CANCEL_PUSH: u64 = 0x03;
const SETTINGS: u64 = 0x04;
const GOAWAY: u64 = 0x07;
const MAX_PUSH_ID: u64 = 0x0d;
/// The signal that begins a WebTransport stream.
const WEBTRANSPORT_STREAM: u64 = 0x41;

/// A frame's type and length.
const HEADER_BYTES_MAX: usize = 2 * VarInt::MAX_SIZE;
/// A field section counts 32 bytes for each line (RFC 9114, "Header Size Constraints"), so its encoding is
/// smaller. This much is let through beyond, so that a request that is a little too large can be answered with 431.
pub(super) const FIELD_SECTION_SLACK: u64 = 4 << 10;
/// Browsers send less than 100 bytes; the rest is room for what is to come, and for GREASE.
const SETTINGS_BYTES_MAX: u64 = 4 << 10;
/// GOAWAY, `MAX_PUSH_ID` and `CANCEL_PUSH` carry one varint.
const ID_BYTES_MAX: u64 = VarInt::MAX_SIZE as u64;
/// An unknown frame is dropped as it comes and costs no memory, but flow control grants the peer its bytes again. No
/// registered frame and no GREASE is near this long; who wants more bytes dropped is not a client.
const SKIPPED_BYTES_MAX: u64 = 1 << 20;

/// The filter of one stream. After a violation it is of no more use: the connection is to be closed.
#[derive(Debug)]
pub(super) struct Filter {
    expected: Expected,
    headers_bytes_max: u64,
    /// The payload that comes next; `None` where a frame begins.
    payload: Option<Payload>,
    /// The part of a header or of a payload that came so far.
    held: BytesMut,
    token: Option<String>,
    settings: Option<PeerSettings>,
    goaway: bool,
}

/// What a stream may carry next, besides unknown frames.
#[derive(Clone, Copy, Debug)]
enum Expected {
    /// The first frame of a control stream.
    Settings,
    /// What follows on a control stream.
    Control,
    /// The header section of a request.
    Header,
    /// The header sections of a response, of which there may be several, and its content. `h3` knows their order.
    Response,
    /// The content of a request, or its trailer section.
    Content,
    /// The end of a request.
    End,
}

#[derive(Debug)]
struct Payload {
    fate: Fate,
    left: u64,
}

#[derive(Clone, Copy, Debug)]
enum Fate {
    Pass,
    Skip,
    /// To be complete before it goes on: `h3`'s time for a frame grows with the square of its pieces. Of this type.
    Gather(u64),
}

impl Filter {
    /// A filter for a request stream.
    pub(super) fn request(field_section_max: u32) -> Self {
        let headers_bytes_max = u64::from(field_section_max) + FIELD_SECTION_SLACK;
        Self::new(Expected::Header, headers_bytes_max)
    }

    /// A filter for the response on a stream of our own.
    pub(super) fn response(field_section_max: u32) -> Self {
        let headers_bytes_max = u64::from(field_section_max) + FIELD_SECTION_SLACK;
        Self::new(Expected::Response, headers_bytes_max)
    }

    /// A filter for the peer's control stream, after the stream type.
    pub(super) fn control() -> Self {
        Self::new(Expected::Settings, 0)
    }

    fn new(expected: Expected, headers_bytes_max: u64) -> Self {
        Self {
            expected,
            headers_bytes_max,
            payload: None,
            held: BytesMut::new(),
            token: None,
            settings: None,
            goaway: false,
        }
    }

    /// Takes what came in, split anyhow, and adds the pieces that are for `h3`.
    pub(super) fn push(
        &mut self,
        mut input: Bytes,
        out: &mut VecDeque<Bytes>,
    ) -> Result<(), Violation> {
        loop {
            let Some(payload) = &mut self.payload else {
                let Some((frame, length)) = self.take_header(&mut input) else {
                    return Ok(());
                };
                let fate = self.admit(frame, length)?;
                if matches!(fate, Fate::Pass) && length > 0 {
                    out.push_back(header(frame, length)); // h3 takes an empty DATA frame for the end of the content
                }
                self.payload = Some(Payload { fate, left: length });
                continue;
            };
            let left = usize::try_from(payload.left).unwrap_or(usize::MAX);
            let piece = input.split_to(left.min(input.len()));
            payload.left -= piece.len() as u64;
            let ended = payload.left == 0;
            match payload.fate {
                Fate::Pass => pass(piece, out),
                Fate::Skip => {}
                Fate::Gather(frame) if ended => {
                    let payload = self.join(piece);
                    self.complete(frame, payload, out)?;
                }
                Fate::Gather(_) => self.held.extend_from_slice(&piece),
            }
            if !ended {
                return Ok(()); // the input is used up
            }
            self.payload = None;
        }
    }

    /// The bytes held back, waiting for more.
    #[cfg(test)]
    pub(super) fn buffered(&self) -> usize {
        self.held.len()
    }

    /// The true `:protocol` of a request for which `h3` was shown another.
    pub(super) fn take_token(&mut self) -> Option<String> {
        self.token.take()
    }

    /// The peer's SETTINGS, once they came on its control stream.
    pub(super) fn take_settings(&mut self) -> Option<PeerSettings> {
        self.settings.take()
    }

    /// Whether the peer has said GOAWAY on its control stream; says so once.
    pub(super) fn take_goaway(&mut self) -> bool {
        mem::take(&mut self.goaway)
    }

    /// Says whether the stream may end here: not in the middle of a frame (RFC 9114, "Frame Layout").
    pub(super) fn finish(&self) -> Result<(), Violation> {
        if self.payload.is_some() || !self.held.is_empty() {
            let reason = "the stream ends in the middle of a frame";
            return violation(HttpCode::H3_FRAME_ERROR, reason);
        }
        Ok(())
    }

    /// A frame's type and length, once both are complete.
    fn take_header(&mut self, input: &mut Bytes) -> Option<(u64, u64)> {
        let held = self.held.len();
        let size = input.len().min(HEADER_BYTES_MAX - held);
        self.held.extend_from_slice(&input[..size]);
        let Some((frame, length, used)) = decode_header(&self.held) else {
            input.advance(size);
            return None;
        };
        input.advance(used - held); // what was held was no header yet
        self.held.clear();
        Some((frame, length))
    }

    /// Decides by a frame's header what becomes of it. Which frame may be where: RFC 9114, "Frame Definitions".
    fn admit(&mut self, frame: u64, length: u64) -> Result<Fate, Violation> {
        let (fate, length_max) = match (self.expected, frame) {
            (Expected::Settings, SETTINGS) => {
                self.expected = Expected::Control;
                (Fate::Gather(frame), SETTINGS_BYTES_MAX)
            }
            (Expected::Settings, _) => {
                let reason = "the control stream does not begin with SETTINGS";
                return violation(HttpCode::H3_MISSING_SETTINGS, reason);
            }
            (Expected::Control, GOAWAY | MAX_PUSH_ID | CANCEL_PUSH) => {
                if length > ID_BYTES_MAX {
                    return violation(HttpCode::H3_FRAME_ERROR, "a frame holds more than an id");
                }
                (Fate::Gather(frame), ID_BYTES_MAX)
            }
            (Expected::Header, HEADERS) => {
                self.expected = Expected::Content;
                (Fate::Gather(frame), self.headers_bytes_max)
            }
            (Expected::Content, HEADERS) => {
                self.expected = Expected::End;
                (Fate::Gather(frame), self.headers_bytes_max)
            }
            (Expected::Response, HEADERS) => (Fate::Gather(frame), self.headers_bytes_max),
            (Expected::Content | Expected::Response, DATA) => (Fate::Pass, u64::MAX),
            // WT-H3, "Bidirectional Streams".
            (_, WEBTRANSPORT_STREAM) => {
                let reason = "a WebTransport stream begins inside another stream";
                return violation(HttpCode::H3_FRAME_ERROR, reason);
            }
            // The frames of RFC 9114, and those of HTTP/2 that it reserves.
            (_, 0x00..=0x09 | MAX_PUSH_ID) => {
                return violation(HttpCode::H3_FRAME_UNEXPECTED, "a frame where it may not be");
            }
            (_, _) => (Fate::Skip, SKIPPED_BYTES_MAX),
        };
        if length > length_max {
            return violation(HttpCode::H3_EXCESSIVE_LOAD, "a frame is too long");
        }
        Ok(fate)
    }

    /// The whole payload, of which `piece` is the last.
    fn join(&mut self, piece: Bytes) -> Bytes {
        if self.held.is_empty() {
            return piece;
        }
        self.held.extend_from_slice(&piece);
        mem::take(&mut self.held).freeze()
    }

    /// Looks at a frame that is complete, and passes it on.
    fn complete(
        &mut self,
        frame: u64,
        mut payload: Bytes,
        out: &mut VecDeque<Bytes>,
    ) -> Result<(), Violation> {
        match (frame, self.expected) {
            (SETTINGS, _) => self.settings = Some(PeerSettings::parse(&payload)?),
            // The header section; after a trailer section nothing is expected.
            (HEADERS, Expected::Content) => {
                if let Some(rewrite) = qpack::rewrite_protocol(&payload) {
                    self.token = Some(rewrite.token);
                    payload = rewrite.block;
                }
            }
            (HEADERS, _) => {}
            // h3 waits without end for the rest of an id that is cut off, and takes what follows an id for a frame.
            _ if VarInt::decode(&payload).is_none_or(|(_, size)| size != payload.len()) => {
                return violation(
                    HttpCode::H3_FRAME_ERROR,
                    "a frame holds no id, or more than one",
                );
            }
            (GOAWAY, _) => self.goaway = true,
            _ => {}
        }
        out.push_back(header(frame, payload.len() as u64));
        pass(payload, out);
        Ok(())
    }
}

fn decode_header(bytes: &[u8]) -> Option<(u64, u64, usize)> {
    let (frame, frame_size) = VarInt::decode(bytes)?;
    let (length, length_size) = VarInt::decode(bytes.get(frame_size..)?)?;
    let used = frame_size + length_size;
    Some((frame.into_inner(), length.into_inner(), used))
}

fn header(frame: u64, length: u64) -> Bytes {
    let mut header = BytesMut::with_capacity(HEADER_BYTES_MAX);
    for value in [frame, length] {
        VarInt::saturating(value).encode(&mut header);
    }
    header.freeze()
}

fn pass(piece: Bytes, out: &mut VecDeque<Bytes>) {
    if !piece.is_empty() {
        out.push_back(piece);
    }
}

fn violation<T>(code: HttpCode, reason: &'static str) -> Result<T, Violation> {
    Err(Violation { code, reason })
}

#[cfg(test)]
mod tests;
