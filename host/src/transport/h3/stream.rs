//! One WebTransport stream over QUIC: what waits to be sent, and what may be read.
//!
//! A half never waits. The sending half takes bytes into a buffer of its own and hands them to QUIC when it can; the
//! receiving half reads only what its session has room for, so that QUIC's flow control holds the rest at the peer.

use std::{
    cell::Cell,
    fmt,
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Instant,
};

use bytes::{Buf as _, Bytes, BytesMut};
use wharf_proto::{
    buffer::SendBuffer,
    code::{AppCode, HttpCode},
    contract::Half,
    id::StreamId,
};

use super::quic_code;
use crate::ready::Token;

/// The most that one read gives out.
const READ_MAX: usize = 64 << 10;

/// A stream of the peer's whose header has been read.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) id: StreamId,
    /// `None` for a unidirectional stream.
    pub(super) send: Option<quinn::SendStream>,
    pub(super) recv: quinn::RecvStream,
    /// What was read beyond the header.
    pub(super) prefix: Bytes,
    /// The peer's reset, and its code, where that came before the stream's session was known.
    pub(super) reset: Option<Option<u32>>,
}

impl Arrival {
    /// Turns the stream away, in both directions.
    pub(super) fn refuse(mut self, code: HttpCode) {
        // An error says that the direction is over already.
        _ = self.recv.stop(quic_code(code));
        if let Some(mut send) = self.send {
            _ = send.reset(quic_code(code));
        }
    }
}

/// A stream in its session.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) id: StreamId,
    pub(super) by_peer: bool,
    /// When it was opened, where this end did.
    pub(super) opened: Option<Instant>,
    /// Since when nothing is read for want of room, where that is watched.
    pub(super) waits: Option<Instant>,
    pub(super) send: Half<SendHalf>,
    pub(super) recv: Half<RecvHalf>,
    pub(super) token: Arc<Token>,
    pub(super) waker: Waker,
}

impl Stream {
    pub(super) fn new(id: StreamId, by_peer: bool, token: Arc<Token>) -> Self {
        Self {
            id,
            by_peer,
            opened: (!by_peer).then(Instant::now),
            waits: None,
            send: Half::Absent,
            recv: Half::Absent,
            waker: token.clone().into(),
            token,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.send.is_over() && self.recv.is_over()
    }

    /// Gives up both directions because the session is over.
    pub(super) fn abandon(self, code: HttpCode) {
        if let Half::Open(send) = self.send {
            send.reset(code);
        }
        if let Half::Open(mut recv) = self.recv {
            recv.stop(code);
        }
    }
}

type StoppedFuture =
    Pin<Box<dyn Future<Output = Result<Option<quinn::VarInt>, quinn::StoppedError>> + Send + Sync>>;

/// The sending direction.
pub(super) struct SendHalf {
    stream: quinn::SendStream,
    /// The stream header, where this end opened the stream and QUIC has not taken it yet. It counts towards no limit.
    header: Bytes,
    pub(super) buffer: SendBuffer,
    /// Made when the half first idles: many streams are over before that.
    stopped: Option<StoppedFuture>,
}

/// How a sending direction ended by the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SendEnd {
    /// The peer stopped reading.
    Stopped(Option<u32>),
    /// The connection is lost; its session will be told.
    Lost,
}

impl SendHalf {
    pub(super) fn new(stream: quinn::SendStream, header: Bytes) -> Self {
        Self {
            stream,
            header,
            buffer: SendBuffer::default(),
            stopped: None,
        }
    }

    /// Whether QUIC has everything, the header included.
    pub(super) fn is_flushed(&self) -> bool {
        self.buffer.is_empty() && self.header.is_empty()
    }

    /// Hands QUIC some of what waits, at most `credit` bytes of payload (not zero); returns how many those were.
    /// `Pending` says that QUIC takes no more now, and has the waker.
    pub(super) fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        credit: u64,
    ) -> Poll<Result<usize, SendEnd>> {
        while !self.header.is_empty() {
            ready!(poll_write(
                &mut self.stream,
                cx,
                std::slice::from_mut(&mut self.header)
            ))?;
        }
        if self.buffer.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let credit = usize::try_from(credit).unwrap_or(usize::MAX);
        let within = self.buffer.len() <= credit;
        let pieces = self.buffer.pieces();
        let written = if within {
            ready!(poll_write(&mut self.stream, cx, pieces))?
        } else {
            // From the first piece only, not beyond the session's credit.
            let Some(first) = pieces.first_mut() else {
                return Poll::Ready(Ok(0));
            };
            let mut part = first.slice(..first.len().min(credit));
            let part = std::slice::from_mut(&mut part);
            let written = ready!(poll_write(&mut self.stream, cx, part))?;
            first.advance(written);
            written
        };
        self.buffer.advanced(written);
        Poll::Ready(Ok(written))
    }

    /// Tells QUIC that the data is complete.
    pub(super) fn finish(&mut self) {
        // An error says that the peer stopped the stream: nobody is left to be told.
        _ = self.stream.finish();
    }

    /// Whether a stop by the peer will wake the stream.
    pub(super) fn is_watched(&self) -> bool {
        self.stopped.is_some()
    }

    /// Whether the peer stopped reading. Leaves the waker with QUIC. An end is said once.
    pub(super) fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<SendEnd> {
        let stopped = self
            .stopped
            .get_or_insert_with(|| Box::pin(self.stream.stopped()));
        let end = ready!(stopped.as_mut().poll(cx));
        // It may not be polled again, and may be asked: a lost connection wakes every stream more than once.
        *stopped = Box::pin(std::future::pending());
        match end {
            Ok(Some(code)) => Poll::Ready(SendEnd::Stopped(app_code(code))),
            Ok(None) => Poll::Pending, // finished and acknowledged: over already
            Err(_) => Poll::Ready(SendEnd::Lost),
        }
    }

    /// The one place where a sending direction is given up.
    pub(super) fn reset(mut self, code: HttpCode) {
        _ = self.stream.reset(quic_code(code)); // an error says that it is over already
    }

    pub(super) fn set_priority(&mut self, priority: i32) {
        _ = self.stream.set_priority(priority); // likewise
    }
}

impl fmt::Debug for SendHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendHalf")
            .field("buffer", &self.buffer)
            .finish_non_exhaustive()
    }
}

/// The receiving direction.
#[derive(Debug)]
pub(super) struct RecvHalf {
    stream: quinn::RecvStream,
    /// Found and not given out yet.
    ahead: Ahead,
}

/// What a look ahead found.
#[derive(Debug)]
enum Ahead {
    Nothing,
    /// What came with the header, or was read to see whether FIN follows.
    Data(Bytes),
    /// QUIC tells a reset once only.
    End(Read),
}

thread_local! {
    /// Where pieces are gathered. Used again as soon as nobody has the bytes any more that were gathered before: a guest
    /// has its own copy, so that mostly is at once.
    static SPARE: Cell<BytesMut> = Cell::default();
}

/// Bytes that are read piece by piece. One piece is not copied.
#[derive(Debug, Default)]
struct Gathered {
    first: Bytes,
    all: BytesMut,
}

impl Gathered {
    fn len(&self) -> usize {
        self.first.len() + self.all.len()
    }

    fn push(&mut self, piece: Bytes) {
        if self.len() == 0 {
            self.first = piece;
        } else if !piece.is_empty() {
            if self.all.is_empty() {
                self.all = SPARE.take();
                self.all.reserve(READ_MAX);
                self.all.extend_from_slice(&std::mem::take(&mut self.first));
            }
            self.all.extend_from_slice(&piece);
        }
    }

    fn into_bytes(mut self) -> Bytes {
        if self.all.is_empty() {
            return self.first;
        }
        let bytes = self.all.split().freeze();
        SPARE.set(self.all);
        bytes
    }
}

/// What a read found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// Bytes, and whether they are the last.
    Data(Bytes, bool),
    /// The peer gave up sending.
    Reset(Option<u32>),
    /// The connection is lost; its session will be told.
    Lost,
}

impl RecvHalf {
    pub(super) fn new(stream: quinn::RecvStream, prefix: Bytes) -> Self {
        let ahead = if prefix.is_empty() {
            Ahead::Nothing
        } else {
            Ahead::Data(prefix)
        };
        Self { stream, ahead }
    }

    /// A direction that the peer has reset, which is to be told.
    pub(super) fn reset(stream: quinn::RecvStream, code: Option<u32>) -> Self {
        let ahead = Ahead::End(Read::Reset(code));
        Self { stream, ahead }
    }

    /// Reads at most `room` bytes (not zero): all that came in, because a call of the guest costs more than a copy of what
    /// a packet holds. FIN is told with the last bytes where QUIC knows of it already.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, room: usize) -> Poll<Read> {
        let room = room.min(READ_MAX);
        let mut gathered = Gathered::default();
        loop {
            let left = room - gathered.len();
            // With no room left this is a look ahead, for FIN, or to leave the waker.
            let next = match std::mem::replace(&mut self.ahead, Ahead::Nothing) {
                Ahead::Data(data) => Ok(Some(data)),
                Ahead::End(end) => Err(end),
                Ahead::Nothing => {
                    let max = if left == 0 { READ_MAX } else { left };
                    match poll_chunk(&mut self.stream, cx, max) {
                        Poll::Ready(next) => next,
                        Poll::Pending if gathered.len() == 0 => return Poll::Pending,
                        Poll::Pending => {
                            return Poll::Ready(Read::Data(gathered.into_bytes(), false));
                        }
                    }
                }
            };
            match next {
                Ok(Some(mut data)) => {
                    if data.len() > left {
                        self.ahead = Ahead::Data(data.split_off(left));
                    }
                    gathered.push(data);
                    if self.has_ahead() {
                        return Poll::Ready(Read::Data(gathered.into_bytes(), false));
                    }
                }
                Ok(None) => return Poll::Ready(Read::Data(gathered.into_bytes(), true)),
                Err(end) if gathered.len() == 0 => return Poll::Ready(end),
                Err(end) => {
                    self.ahead = Ahead::End(end);
                    return Poll::Ready(Read::Data(gathered.into_bytes(), false));
                }
            }
        }
    }

    /// Whether something was found ahead that no wake-up will announce.
    pub(super) fn has_ahead(&self) -> bool {
        !matches!(self.ahead, Ahead::Nothing)
    }

    /// Bytes that were found ahead.
    pub(super) fn ahead_len(&self) -> usize {
        match &self.ahead {
            Ahead::Data(data) | Ahead::End(Read::Data(data, _)) => data.len(),
            Ahead::Nothing | Ahead::End(Read::Reset(_) | Read::Lost) => 0,
        }
    }

    /// Gives up receiving.
    pub(super) fn stop(&mut self, code: HttpCode) {
        _ = self.stream.stop(quic_code(code)); // an error says that it is over already
    }
}

fn poll_write(
    stream: &mut quinn::SendStream,
    cx: &mut Context<'_>,
    chunks: &mut [Bytes],
) -> Poll<Result<usize, SendEnd>> {
    // The future holds no state of its own, so a new one for each poll is the same one.
    match ready!(pin!(stream.write_chunks(chunks)).poll(cx)) {
        Ok(written) => Poll::Ready(Ok(written.bytes)),
        Err(quinn::WriteError::Stopped(code)) => Poll::Ready(Err(SendEnd::Stopped(app_code(code)))),
        Err(_) => Poll::Ready(Err(SendEnd::Lost)),
    }
}

fn poll_chunk(
    stream: &mut quinn::RecvStream,
    cx: &mut Context<'_>,
    max: usize,
) -> Poll<Result<Option<Bytes>, Read>> {
    match ready!(pin!(stream.read_chunk(max, true)).poll(cx)) {
        Ok(chunk) => Poll::Ready(Ok(chunk.map(|chunk| chunk.bytes))),
        Err(quinn::ReadError::Reset(code)) => Poll::Ready(Err(Read::Reset(app_code(code)))),
        Err(_) => Poll::Ready(Err(Read::Lost)),
    }
}

/// The application's code, where the peer's code is one.
pub(super) fn app_code(code: quinn::VarInt) -> Option<u32> {
    let code = wharf_proto::varint::VarInt::try_from(code.into_inner()).ok()?;
    AppCode::from_http3(HttpCode::from(code)).map(|code| code.0)
}
