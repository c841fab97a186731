//! Capsules to and from bytes, incrementally; unknown types are skipped.
//!
//! A capsule is a type, a length and a payload (RFC 9297, "The Capsule Protocol"). Capsules are a stream of bytes: where
//! HTTP frames or reads cut them means nothing. The capsules that carry streams (WT-H2, "WT_STREAM Capsule" and its
//! neighbours) are known in the capsule flavour only, and there the payload of a WT_STREAM is given out as it comes.

use std::{mem, ops::RangeInclusive};

use bytes::{Buf, Bytes, BytesMut};

use crate::{
    code::{HttpCode, Violation},
    id::{Dir, StreamId},
    varint::VarInt,
};

/// The longest reason of a [`Capsule::Close`], in bytes (WT-H3, "Session Termination").
pub const REASON_BYTES_MAX: usize = 1024;

/// A header is two integers.
const HEADER_MAX: usize = 2 * VarInt::MAX_SIZE;

const DATAGRAM: u64 = 0x00;
const CLOSE: u64 = 0x2843;
const DRAIN: u64 = 0x78ae;
const RESET_STREAM: u64 = 0x190b_4d39;
const STOP_SENDING: u64 = 0x190b_4d3a;
const STREAM_3B: u64 = 0x190b_4d3b;
const STREAM_3C: u64 = 0x190b_4d3c;
const MAX_DATA: u64 = 0x190b_4d3d;
const MAX_STREAM_DATA: u64 = 0x190b_4d3e;
const MAX_STREAMS_BIDI: u64 = 0x190b_4d3f;
const MAX_STREAMS_UNI: u64 = 0x190b_4d40;
const DATA_BLOCKED: u64 = 0x190b_4d41;
const STREAM_DATA_BLOCKED: u64 = 0x190b_4d42;
const STREAMS_BLOCKED_BIDI: u64 = 0x190b_4d43;
const STREAMS_BLOCKED_UNI: u64 = 0x190b_4d44;

/// The most streams of one kind that a session can ever have: each has an id below 2^62.
pub(crate) const STREAMS_MAX: u64 = 1 << 60;

/// Which of the two types of WT_STREAM ends the stream. Drafts and peers differ, and nothing on the wire tells which.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum FinOrder {
    /// 0x190B4D3C ends it, as in drafts up to 14 of WT-H2 and in all that is deployed.
    #[default]
    Deployed,
    /// 0x190B4D3B ends it, as in draft 15 of WT-H2, "WT_STREAM Capsule".
    Draft15,
}

impl FinOrder {
    const fn kind(self, fin: bool) -> u64 {
        match (self, fin) {
            (Self::Deployed, false) | (Self::Draft15, true) => STREAM_3B,
            (Self::Deployed, true) | (Self::Draft15, false) => STREAM_3C,
        }
    }
}

/// A capsule of a known type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Capsule {
    /// DATAGRAM (RFC 9297, "The DATAGRAM Capsule"): a datagram that travels in order and is not lost.
    Datagram(Bytes),
    /// WT_CLOSE_SESSION: the session is over.
    Close {
        /// The application's code.
        code: u32,
        /// The application's reason. What is beyond [`REASON_BYTES_MAX`] is not sent.
        reason: String,
    },
    /// WT_DRAIN_SESSION: the sender asks for the session to be ended soon.
    Drain,
    /// WT_MAX_DATA: how many bytes the receiver may send on all streams of the session, in all.
    MaxData(VarInt),
    /// WT_MAX_STREAMS: how many streams of the kind the receiver may open, in all.
    MaxStreams(Dir, VarInt),
    /// WT_DATA_BLOCKED: the sender is held up by this limit on bytes.
    DataBlocked(VarInt),
    /// WT_STREAMS_BLOCKED: the sender is held up by this limit on streams of the kind.
    StreamsBlocked(Dir, VarInt),
    /// WT_MAX_STREAM_DATA: how many bytes the receiver may send on one stream. Not lawful over HTTP/3.
    MaxStreamData {
        /// The stream.
        stream: StreamId,
        /// The limit on it.
        limit: VarInt,
    },
    /// WT_STREAM_DATA_BLOCKED: the sender is held up by a stream's limit. Not lawful over HTTP/3.
    StreamDataBlocked {
        /// The stream.
        stream: StreamId,
        /// The limit on it.
        limit: VarInt,
    },
    /// WT_STREAM, or a part of one: bytes of a stream. Of the capsule flavour only, like those below.
    Stream {
        /// The stream.
        stream: StreamId,
        /// The bytes; may be empty.
        data: Bytes,
        /// Whether these are the last.
        fin: bool,
    },
    /// WT_RESET_STREAM: the sender gives up sending.
    ResetStream {
        /// The stream.
        stream: StreamId,
        /// The application's code.
        code: u32,
        /// How many bytes the sender has sent. Some peers leave it out.
        reliable_size: Option<VarInt>,
    },
    /// WT_STOP_SENDING: the sender gives up reading.
    StopSending {
        /// The stream.
        stream: StreamId,
        /// The application's code.
        code: u32,
    },
}

impl Capsule {
    /// Appends the capsule to `out`. A [`Capsule::Stream`] is written in the order that is deployed.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Datagram(payload) => put_bytes(out, DATAGRAM, &[payload]),
            Self::Close { code, reason } => {
                let reason = cut_reason(reason);
                put_bytes(out, CLOSE, &[&code.to_be_bytes(), reason.as_bytes()]);
            }
            Self::Drain => put_bytes(out, DRAIN, &[]),
            Self::MaxData(n) => put_ints(out, MAX_DATA, &[*n]),
            Self::MaxStreams(Dir::Bi, n) => put_ints(out, MAX_STREAMS_BIDI, &[*n]),
            Self::MaxStreams(Dir::Uni, n) => put_ints(out, MAX_STREAMS_UNI, &[*n]),
            Self::DataBlocked(n) => put_ints(out, DATA_BLOCKED, &[*n]),
            Self::StreamsBlocked(Dir::Bi, n) => put_ints(out, STREAMS_BLOCKED_BIDI, &[*n]),
            Self::StreamsBlocked(Dir::Uni, n) => put_ints(out, STREAMS_BLOCKED_UNI, &[*n]),
            Self::MaxStreamData { stream, limit } => {
                put_ints(out, MAX_STREAM_DATA, &[(*stream).into(), *limit]);
            }
            Self::StreamDataBlocked { stream, limit } => {
                put_ints(out, STREAM_DATA_BLOCKED, &[(*stream).into(), *limit]);
            }
            Self::Stream { stream, data, fin } => {
                encode_stream_header(FinOrder::default(), *stream, *fin, data.len(), out);
                out.extend_from_slice(data);
            }
            Self::ResetStream {
                stream,
                code,
                reliable_size,
            } => {
                let ints = [(*stream).into(), VarInt::from_u32(*code)];
                match reliable_size {
                    Some(size) => put_ints(out, RESET_STREAM, &[ints[0], ints[1], *size]),
                    None => put_ints(out, RESET_STREAM, &ints),
                }
            }
            Self::StopSending { stream, code } => {
                put_ints(
                    out,
                    STOP_SENDING,
                    &[(*stream).into(), VarInt::from_u32(*code)],
                );
            }
        }
    }
}

/// Appends the beginning of a WT_STREAM capsule that `length` bytes of payload follow.
pub fn encode_stream_header(
    order: FinOrder,
    stream: StreamId,
    fin: bool,
    length: usize,
    out: &mut BytesMut,
) {
    let stream = VarInt::from(stream);
    put_header(out, order.kind(fin), stream.size().saturating_add(length));
    stream.encode(out);
}

/// As much of `reason` as a [`Capsule::Close`] carries: whole characters, at most [`REASON_BYTES_MAX`].
#[must_use]
pub fn cut_reason(reason: &str) -> &str {
    let (kept, _) = reason.split_at(reason.floor_char_boundary(REASON_BYTES_MAX));
    kept
}

/// Reads capsules from bytes that come in pieces of any size.
///
/// [`push`](Self::push) a piece, [`poll`](Self::poll) until it says `None`, and so on; [`finish`](Self::finish) at the
/// end. However the bytes are cut, the capsules and the violations are the same.
///
/// Between pieces the decoder holds at most one incomplete capsule of a known type; of an unknown type, and of a
/// WT_STREAM, it holds nothing but the length still to come. The payload of a datagram that lies within one piece is not
/// copied, and that of a WT_STREAM never is: each piece is a capsule of its own.
#[derive(Debug)]
pub struct Decoder {
    datagram_bytes_max: u64,
    /// `None` in the native flavour, where the capsules of streams are unknown.
    streams: Option<FinOrder>,
    state: State,
    /// What has come and was not looked at.
    input: Bytes,
    /// The beginning of a header or payload whose rest has not come.
    held: BytesMut,
}

#[derive(Debug)]
enum State {
    Header,
    Payload {
        length: usize,
        parse: Parse,
    },
    Skip {
        left: u64,
    },
    /// A WT_STREAM of so many bytes, the stream's id among them.
    StreamId {
        length: u64,
        fin: bool,
    },
    /// So many bytes of a stream are still to come.
    Stream {
        stream: StreamId,
        left: u64,
        fin: bool,
    },
    Failed(Violation),
}

type Parse = fn(Bytes) -> Result<Capsule, Violation>;

impl Decoder {
    /// Skips each datagram that is longer than `datagram_bytes_max`.
    #[must_use]
    pub fn new(datagram_bytes_max: usize) -> Self {
        Self {
            datagram_bytes_max: datagram_bytes_max as u64,
            streams: None,
            state: State::Header,
            input: Bytes::new(),
            held: BytesMut::new(),
        }
    }

    /// Knows the capsules of streams too.
    #[must_use]
    pub fn with_streams(datagram_bytes_max: usize, order: FinOrder) -> Self {
        Self {
            streams: Some(order),
            ..Self::new(datagram_bytes_max)
        }
    }

    /// Takes the next piece. If the one before was not polled to its end, both are joined by a copy.
    pub fn push(&mut self, bytes: Bytes) {
        let mut joined = mem::take(&mut self.input).chain(bytes);
        self.input = joined.copy_to_bytes(joined.remaining());
    }

    /// The next capsule, or `None` when another piece is needed.
    ///
    /// # Errors
    ///
    /// If a capsule of a known type is malformed; from then on always the same.
    pub fn poll(&mut self) -> Result<Option<Capsule>, Violation> {
        let result = self.advance();
        if let Err(violation) = result {
            self.state = State::Failed(violation);
            self.input.clear();
            self.held.clear();
        }
        result
    }

    /// Says whether the stream may end here. All pieces have been polled to their end.
    ///
    /// # Errors
    ///
    /// If it may not, because a capsule is incomplete or was malformed.
    pub fn finish(&mut self) -> Result<(), Violation> {
        match self.state {
            State::Failed(violation) => Err(violation),
            State::Header if self.buffered() == 0 => Ok(()),
            State::Header
            | State::Payload { .. }
            | State::Skip { .. }
            | State::StreamId { .. }
            | State::Stream { .. } => Err(malformed("the stream ended inside a capsule")),
        }
    }

    /// Bytes that are held. When [`poll`](Self::poll) has said `None`, fewer than the longest capsule of a known type
    /// has.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.held.len().saturating_add(self.input.len())
    }

    fn advance(&mut self) -> Result<Option<Capsule>, Violation> {
        loop {
            match &mut self.state {
                State::Header => {
                    let Some((kind, length)) = self.poll_header() else {
                        return Ok(None);
                    };
                    self.state = self.begin(kind, length)?;
                }
                State::Payload { length, parse } => {
                    let (length, parse) = (*length, *parse);
                    let Some(payload) = self.poll_payload(length) else {
                        return Ok(None);
                    };
                    self.state = State::Header;
                    return parse(payload).map(Some);
                }
                State::Skip { left } => {
                    let here = self.input.len();
                    let n = usize::try_from(*left).map_or(here, |left| left.min(here));
                    self.input.advance(n);
                    *left = left.saturating_sub(n as u64);
                    if *left > 0 {
                        return Ok(None);
                    }
                    self.state = State::Header;
                }
                State::StreamId { length, fin } => {
                    let (length, fin) = (*length, *fin);
                    let Some((stream, size)) = self.poll_int() else {
                        return Ok(None);
                    };
                    let left = length.checked_sub(size as u64).ok_or(WRONG_LENGTH)?;
                    let stream = stream.into();
                    self.state = State::Stream { stream, left, fin };
                    // Said even where no byte has come: it opens the stream.
                    return Ok(Some(self.take_stream(stream, left, fin)));
                }
                State::Stream { stream, left, fin } => {
                    if self.input.is_empty() {
                        return Ok(None);
                    }
                    let (stream, left, fin) = (*stream, *left, *fin);
                    return Ok(Some(self.take_stream(stream, left, fin)));
                }
                State::Failed(violation) => return Err(*violation),
            }
        }
    }

    fn poll_header(&mut self) -> Option<(u64, u64)> {
        let ((kind, length), _) = self.poll_front(HEADER_MAX, decode_header)?;
        Some((kind, length))
    }

    fn poll_int(&mut self) -> Option<(VarInt, usize)> {
        self.poll_front(VarInt::MAX_SIZE, VarInt::decode)
    }

    /// What the next bytes begin with, at most `max` of them, and how many it took. Holds them where they do not suffice.
    fn poll_front<T>(
        &mut self,
        max: usize,
        decode: impl Fn(&[u8]) -> Option<(T, usize)>,
    ) -> Option<(T, usize)> {
        if self.held.is_empty()
            && let Some((value, size)) = decode(&self.input)
        {
            self.input.advance(size);
            return Some((value, size));
        }
        let before = self.held.len();
        let missing = max.saturating_sub(before).min(self.input.len());
        self.held.extend_from_slice(&self.input.slice(..missing));
        let Some((value, size)) = decode(&self.held) else {
            self.input.clear();
            return None;
        };
        self.input.advance(size.saturating_sub(before));
        self.held.clear();
        Some((value, size))
    }

    /// What has come of a stream's bytes.
    fn take_stream(&mut self, stream: StreamId, left: u64, fin: bool) -> Capsule {
        let here = self.input.len();
        let n = usize::try_from(left).map_or(here, |left| left.min(here));
        let data = self.input.split_to(n);
        let left = left.saturating_sub(n as u64);
        self.state = match left {
            0 => State::Header,
            left => State::Stream { stream, left, fin },
        };
        let fin = fin && left == 0;
        Capsule::Stream { stream, data, fin }
    }

    fn poll_payload(&mut self, length: usize) -> Option<Bytes> {
        if self.held.is_empty() && self.input.len() >= length {
            return Some(self.input.split_to(length));
        }
        let missing = length.saturating_sub(self.held.len()).min(self.input.len());
        self.held.extend_from_slice(&self.input.split_to(missing));
        (self.held.len() == length).then(|| self.held.split().freeze())
    }

    /// What to do with a capsule, now that its header is known.
    fn begin(&self, kind: u64, length: u64) -> Result<State, Violation> {
        if let Some(order) = self.streams
            && matches!(kind, STREAM_3B | STREAM_3C)
        {
            let fin = kind == order.kind(true);
            return Ok(State::StreamId { length, fin });
        }
        let known = known(kind).or_else(|| self.streams.and_then(|_| known_of_streams(kind)));
        let Some((lengths, parse)) = known else {
            return Ok(State::Skip { left: length });
        };
        if kind == DATAGRAM && length > self.datagram_bytes_max {
            return Ok(State::Skip { left: length });
        }
        match usize::try_from(length) {
            Ok(length) if lengths.contains(&length) => Ok(State::Payload { length, parse }),
            _ => Err(WRONG_LENGTH),
        }
    }
}

const WRONG_LENGTH: Violation = malformed("capsule of a wrong length");

/// The lengths that the payload of a known type may have, and its parser.
fn known(kind: u64) -> Option<(RangeInclusive<usize>, Parse)> {
    const INT: RangeInclusive<usize> = 1..=VarInt::MAX_SIZE;
    const INTS: RangeInclusive<usize> = 2..=2 * VarInt::MAX_SIZE;
    Some(match kind {
        DATAGRAM => (0..=usize::MAX, |p| Ok(Capsule::Datagram(p))),
        CLOSE => (4..=4 + REASON_BYTES_MAX, take_close),
        DRAIN => (0..=0, |_| Ok(Capsule::Drain)),
        MAX_DATA => (INT, |p| Ok(Capsule::MaxData(take_int(&p)?))),
        MAX_STREAMS_BIDI => (INT, |p| Ok(Capsule::MaxStreams(Dir::Bi, take_streams(&p)?))),
        MAX_STREAMS_UNI => (INT, |p| {
            Ok(Capsule::MaxStreams(Dir::Uni, take_streams(&p)?))
        }),
        DATA_BLOCKED => (INT, |p| Ok(Capsule::DataBlocked(take_int(&p)?))),
        STREAMS_BLOCKED_BIDI => (INT, |p| {
            Ok(Capsule::StreamsBlocked(Dir::Bi, take_streams(&p)?))
        }),
        STREAMS_BLOCKED_UNI => (INT, |p| {
            Ok(Capsule::StreamsBlocked(Dir::Uni, take_streams(&p)?))
        }),
        MAX_STREAM_DATA => (INTS, |p| {
            let (stream, limit) = take_stream_limit(&p)?;
            Ok(Capsule::MaxStreamData { stream, limit })
        }),
        STREAM_DATA_BLOCKED => (INTS, |p| {
            let (stream, limit) = take_stream_limit(&p)?;
            Ok(Capsule::StreamDataBlocked { stream, limit })
        }),
        _ => return None,
    })
}

/// [`known`] for what the capsule flavour adds, except WT_STREAM.
fn known_of_streams(kind: u64) -> Option<(RangeInclusive<usize>, Parse)> {
    Some(match kind {
        RESET_STREAM => (2..=3 * VarInt::MAX_SIZE, |p| take_reset(&p)),
        STOP_SENDING => (2..=2 * VarInt::MAX_SIZE, |p| {
            let (stream, code) = take_stream_limit(&p)?;
            let code = take_code(code)?;
            Ok(Capsule::StopSending { stream, code })
        }),
        _ => return None,
    })
}

/// WT-H2, "WT_RESET_STREAM Capsule"; the last field came with draft 15.
fn take_reset(payload: &[u8]) -> Result<Capsule, Violation> {
    let mut rest = payload;
    let mut next = || {
        let (int, size) = VarInt::decode(rest)?;
        rest = rest.get(size..).unwrap_or_default();
        Some(int)
    };
    let (stream, code) = next().zip(next()).ok_or(WRONG_LENGTH)?;
    let reliable_size = next();
    if !rest.is_empty() {
        return Err(WRONG_LENGTH);
    }
    Ok(Capsule::ResetStream {
        stream: stream.into(),
        code: take_code(code)?,
        reliable_size,
    })
}

/// WT-H2, "WT_RESET_STREAM Capsule": codes have 32 bits.
fn take_code(code: VarInt) -> Result<u32, Violation> {
    u32::try_from(code.into_inner()).map_err(|_| malformed("error code beyond 32 bits"))
}

fn take_close(mut payload: Bytes) -> Result<Capsule, Violation> {
    let code = payload.try_get_u32().map_err(|_| WRONG_LENGTH)?;
    let reason = str::from_utf8(&payload)
        .map_err(|_| malformed("close reason is not UTF-8"))?
        .to_owned();
    Ok(Capsule::Close { code, reason })
}

fn take_int(payload: &[u8]) -> Result<VarInt, Violation> {
    match VarInt::decode(payload) {
        Some((int, size)) if size == payload.len() => Ok(int),
        _ => Err(WRONG_LENGTH),
    }
}

/// WT-H3, "WT_MAX_STREAMS Capsule" and "WT_STREAMS_BLOCKED Capsule".
fn take_streams(payload: &[u8]) -> Result<VarInt, Violation> {
    let streams = take_int(payload)?;
    if streams.into_inner() > STREAMS_MAX {
        return Err(Violation {
            code: HttpCode::WT_FLOW_CONTROL_ERROR,
            reason: "stream limit beyond 2^60",
        });
    }
    Ok(streams)
}

fn take_stream_limit(payload: &[u8]) -> Result<(StreamId, VarInt), Violation> {
    let (stream, size) = VarInt::decode(payload).ok_or(WRONG_LENGTH)?;
    let rest = payload.get(size..).unwrap_or_default();
    Ok((stream.into(), take_int(rest)?))
}

fn decode_header(bytes: &[u8]) -> Option<((u64, u64), usize)> {
    let (kind, kind_size) = VarInt::decode(bytes)?;
    let (length, length_size) = VarInt::decode(bytes.get(kind_size..)?)?;
    let size = kind_size.saturating_add(length_size);
    Some(((kind.into_inner(), length.into_inner()), size))
}

fn put_ints(out: &mut BytesMut, kind: u64, ints: &[VarInt]) {
    put_header(out, kind, ints.iter().map(|int| int.size()).sum());
    for int in ints {
        int.encode(out);
    }
}

fn put_bytes(out: &mut BytesMut, kind: u64, parts: &[&[u8]]) {
    put_header(out, kind, parts.iter().map(|part| part.len()).sum());
    for part in parts {
        out.extend_from_slice(part);
    }
}

fn put_header(out: &mut BytesMut, kind: u64, length: usize) {
    VarInt::saturating(kind).encode(out);
    VarInt::saturating(length as u64).encode(out);
}

const fn malformed(reason: &'static str) -> Violation {
    Violation {
        code: HttpCode::H3_MESSAGE_ERROR,
        reason,
    }
}

#[cfg(test)]
mod tests;
