//! The QUIC connection as `h3` sees it: without WebTransport streams, with our SETTINGS, behind the frame filter.
//!
//! `h3` asks for its streams through traits; implementing them over raw QUIC streams lets it do HTTP (requests,
//! responses, GOAWAY) while everything it cannot carry stays below it. What the filter keeps from `h3`, the peer's
//! SETTINGS and the true `:protocol`, is left in [`Notes`].

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h3::quic::{self, ConnectionErrorIncoming, StreamErrorIncoming, WriteBuf};
use tokio::sync::watch;
use wharf_proto::{
    code::{HttpCode, Violation},
    connect::Token,
};

use super::{filter::Filter, handover::Taker, quic_code, settings::PeerSettings};

mod send;

pub(super) use send::SendSide;
use send::{Answer, Edit, Out};

/// What is learnt below `h3` and used above it.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// The peer's SETTINGS, once they came.
    pub(super) settings: watch::Sender<Option<PeerSettings>>,
    /// Whether the peer has said GOAWAY.
    pub(super) goaway: watch::Sender<bool>,
    requests: Mutex<HashMap<u64, RequestNote>>,
}

/// What is known of one request stream besides what `h3` tells.
#[derive(Default)]
pub(super) struct RequestNote {
    /// The true `:protocol`, where `h3` was shown another.
    pub(super) token: Option<String>,
    /// Ends when the peer stops reading the stream, or the stream is over.
    pub(super) stopped: Option<Stopped>,
    /// What a response that is dropped unfinished is reset with.
    pub(super) abandon: AbandonCode,
}

/// See [`RequestNote::abandon`]. QUIC would finish such a stream, and an incomplete response would look whole.
#[derive(Clone)]
pub(super) struct AbandonCode(Arc<AtomicU64>);

impl AbandonCode {
    pub(super) fn set(&self, code: HttpCode) {
        self.0.store(code.into_inner(), Ordering::Relaxed);
    }
}

impl Default for AbandonCode {
    fn default() -> Self {
        let code = HttpCode::H3_REQUEST_CANCELLED.into_inner();
        Self(Arc::new(AtomicU64::new(code)))
    }
}

/// See [`RequestNote::stopped`].
pub(super) type Stopped = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;

impl fmt::Debug for RequestNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestNote")
            .field("token", &self.token)
            .finish_non_exhaustive()
    }
}

impl Notes {
    /// Takes what is known of the request on that stream. Each request is taken once, whatever becomes of it.
    pub(super) fn take_request(&self, stream: u64) -> RequestNote {
        self.requests().remove(&stream).unwrap_or_default()
    }

    fn requests(&self) -> MutexGuard<'_, HashMap<u64, RequestNote>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A receiving stream of `h3`'s.
pub(super) struct RecvSide {
    stream: quinn::RecvStream,
    conn: quinn::Connection,
    /// Ready for `h3`.
    out: VecDeque<Bytes>,
    /// `None` on the QPACK streams, which carry no frames.
    filter: Option<Filter>,
    notes: Arc<Notes>,
}

impl RecvSide {
    /// `head` is what was read to classify the stream; its first `raw` bytes, the stream type, are no frames.
    pub(super) fn new(
        stream: quinn::RecvStream,
        conn: quinn::Connection,
        mut head: Bytes,
        raw: usize,
        filter: Option<Filter>,
        notes: Arc<Notes>,
    ) -> Result<Self, Violation> {
        let mut recv = Self {
            stream,
            conn,
            out: VecDeque::new(),
            filter,
            notes,
        };
        let kind = head.split_to(raw.min(head.len()));
        recv.pass(kind);
        recv.admit(head)?;
        Ok(recv)
    }

    fn pass(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.out.push_back(bytes);
        }
    }

    fn admit(&mut self, bytes: Bytes) -> Result<(), Violation> {
        let Some(filter) = &mut self.filter else {
            self.pass(bytes);
            return Ok(());
        };
        filter.push(bytes, &mut self.out)?;
        if let Some(settings) = filter.take_settings() {
            self.notes.settings.send_replace(Some(settings));
        }
        if filter.take_goaway() {
            self.notes.goaway.send_replace(true);
        }
        if let Some(token) = filter.take_token() {
            let stream = self.stream.id().into();
            self.notes.requests().entry(stream).or_default().token = Some(token);
        }
        Ok(())
    }

    fn violated(&self, violation: Violation) -> StreamErrorIncoming {
        self.conn
            .close(quic_code(violation.code), violation.reason.as_bytes());
        StreamErrorIncoming::ConnectionErrorIncoming {
            connection_error: ConnectionErrorIncoming::Undefined(Arc::new(violation)),
        }
    }
}

impl quic::RecvStream for RecvSide {
    type Buf = Bytes;

    fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        loop {
            if let Some(bytes) = self.out.pop_front() {
                return Poll::Ready(Ok(Some(bytes)));
            }
            // The future holds no state of its own, so a new one for each poll is the same one.
            let chunk = ready!(pin!(self.stream.read_chunk(usize::MAX, true)).poll(cx))
                .map_err(read_error)?;
            let admitted = match chunk {
                Some(chunk) => self.admit(chunk.bytes),
                None => match self.filter.as_ref().map_or(Ok(()), Filter::finish) {
                    Ok(()) => return Poll::Ready(Ok(None)),
                    Err(violation) => Err(violation),
                },
            };
            admitted.map_err(|violation| self.violated(violation))?;
        }
    }

    fn stop_sending(&mut self, code: u64) {
        _ = self
            .stream
            .stop(quinn::VarInt::from_u64(code).unwrap_or(quinn::VarInt::MAX));
    }

    fn recv_id(&self) -> quic::StreamId {
        stream_id(self.stream.id())
    }
}

impl Drop for RecvSide {
    fn drop(&mut self) {
        // A request that nobody resolved leaves its note behind.
        self.notes.take_request(self.stream.id().into());
    }
}

/// A request stream, of either end.
pub(super) struct Bidi {
    send: SendSide,
    recv: RecvSide,
}

impl Bidi {
    /// A stream of a peer's, that is to be answered.
    pub(super) fn new(send: quinn::SendStream, recv: RecvSide) -> Self {
        Self::with_edit(send, recv, None)
    }

    /// A stream of our own, for a request with that `:protocol`.
    pub(super) fn asking(send: quinn::SendStream, recv: RecvSide, token: Token) -> Self {
        Self::with_edit(send, recv, Some(Edit::Protocol(token.as_str())))
    }

    fn with_edit(send: quinn::SendStream, recv: RecvSide, edit: Option<Edit>) -> Self {
        let stopped = send.stopped();
        let abandon = {
            let mut requests = recv.notes.requests();
            let note = requests.entry(send.id().into()).or_default();
            note.stopped = Some(Box::pin(async move {
                if stopped.await.is_err() {
                    std::future::pending::<()>().await; // lost, not stopped: what has come is still to be read
                }
            }));
            note.abandon.clone()
        };
        let answer = Answer::new(send, abandon);
        Self {
            send: SendSide::new(Out::Request(answer), edit),
            recv,
        }
    }

    /// The stream's id.
    pub(super) fn id(&self) -> u64 {
        self.recv.stream.id().into()
    }

    /// Gives the request back unprocessed.
    pub(super) fn reject(mut self) {
        let code = HttpCode::H3_REQUEST_REJECTED.into_inner();
        quic::SendStream::<Bytes>::reset(&mut self, code);
    }
}

impl quic::SendStream<Bytes> for Bidi {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.send.poll_ready(cx)
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        self.send.send_data(data)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.send.poll_finish(cx)
    }

    fn reset(&mut self, code: u64) {
        self.send.reset(code);
    }

    fn send_id(&self) -> quic::StreamId {
        self.send.send_id()
    }
}

impl quic::RecvStream for Bidi {
    type Buf = Bytes;

    fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        self.recv.poll_data(cx)
    }

    fn stop_sending(&mut self, code: u64) {
        self.recv.stop_sending(code);
    }

    fn recv_id(&self) -> quic::StreamId {
        self.recv.recv_id()
    }
}

impl quic::BidiStream<Bytes> for Bidi {
    type SendStream = SendSide;
    type RecvStream = RecvSide;

    fn split(self) -> (SendSide, RecvSide) {
        (self.send, self.recv)
    }
}

/// The connection.
pub(super) struct Tap {
    quic: quinn::Connection,
    /// Opens the control stream, and has no other use: it goes then, with what it holds to take the peer's streams.
    conn: Option<Box<h3_quinn::Connection>>,
    /// Goes out on the first stream that `h3` opens, which is the only one.
    settings: Option<Edit>,
    streams: Taker<RecvSide, Bidi>,
    opener: Opener,
}

impl Tap {
    pub(super) fn new(
        conn: quinn::Connection,
        settings: Bytes,
        streams: Taker<RecvSide, Bidi>,
    ) -> Self {
        Self {
            quic: conn.clone(),
            conn: Some(h3_quinn::Connection::new(conn).into()),
            settings: Some(Edit::Settings(settings)),
            streams,
            opener: Opener::default(),
        }
    }
}

impl quic::OpenStreams<Bytes> for Tap {
    type BidiStream = Bidi;
    type SendStream = SendSide;

    fn poll_open_bidi(&mut self, _: &mut Context<'_>) -> Poll<Result<Bidi, StreamErrorIncoming>> {
        Poll::Ready(Err(no_requests()))
    }

    /// Opens the control stream. The others that `h3` would open are QPACK's, which have no use where neither end has a
    /// dynamic table, and need not be there then (RFC 9204, "Encoder and Decoder Streams").
    fn poll_open_send(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<SendSide, StreamErrorIncoming>> {
        let Some(conn) = &mut self.conn else {
            let error = "no table, no stream for it".into();
            return Poll::Ready(Err(StreamErrorIncoming::Unknown(error)));
        };
        let stream =
            ready!(<h3_quinn::Connection as quic::OpenStreams<Bytes>>::poll_open_send(conn, cx))?;
        self.conn = None;
        Poll::Ready(Ok(SendSide::new(
            Out::Own(Box::new(stream)),
            self.settings.take(),
        )))
    }

    fn close(&mut self, code: h3::error::Code, reason: &[u8]) {
        // h3 also closes what is lost; quinn would forget why, and the sessions are to be told.
        if self.quic.close_reason().is_none() {
            let code = quinn::VarInt::from_u64(code.value()).unwrap_or(quinn::VarInt::MAX);
            self.quic.close(code, reason);
        }
    }
}

impl quic::Connection<Bytes> for Tap {
    type RecvStream = RecvSide;
    type OpenStreams = Opener;

    fn poll_accept_recv(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<RecvSide, ConnectionErrorIncoming>> {
        let stream = self.streams.poll_uni(cx);
        stream.map(|stream| stream.ok_or_else(sorter_gone))
    }

    fn poll_accept_bidi(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Bidi, ConnectionErrorIncoming>> {
        let stream = self.streams.poll_bidi(cx);
        stream.map(|stream| stream.ok_or_else(sorter_gone))
    }

    fn opener(&self) -> Opener {
        self.opener.clone()
    }
}

/// Gives `h3` the stream that a client has opened for its request. A server has no use for it. All clones are one.
#[derive(Clone, Default)]
pub(super) struct Opener(Arc<Mutex<Option<Bidi>>>);

impl Opener {
    /// Leaves the stream on which the next request goes out.
    pub(super) fn put(&self, stream: Bidi) {
        *self.place() = Some(stream);
    }

    fn place(&self) -> MutexGuard<'_, Option<Bidi>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl quic::OpenStreams<Bytes> for Opener {
    type BidiStream = Bidi;
    type SendStream = SendSide;

    fn poll_open_bidi(&mut self, _: &mut Context<'_>) -> Poll<Result<Bidi, StreamErrorIncoming>> {
        Poll::Ready(self.place().take().ok_or_else(no_requests))
    }

    fn poll_open_send(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<Result<SendSide, StreamErrorIncoming>> {
        Poll::Ready(Err(no_requests()))
    }

    fn close(&mut self, _: h3::error::Code, _: &[u8]) {}
}

fn no_requests() -> StreamErrorIncoming {
    StreamErrorIncoming::Unknown("no stream was opened for a request".into())
}

/// The sorter ends when the connection is lost.
fn sorter_gone() -> ConnectionErrorIncoming {
    ConnectionErrorIncoming::Undefined(Arc::new(quinn::ConnectionError::LocallyClosed))
}

fn stream_id(id: quinn::StreamId) -> quic::StreamId {
    quic::StreamId::try_from(u64::from(id)).expect("QUIC's stream ids are those of HTTP/3")
}

fn connection_error(error: quinn::ConnectionError) -> ConnectionErrorIncoming {
    match error {
        quinn::ConnectionError::ApplicationClosed(close) => {
            ConnectionErrorIncoming::ApplicationClose {
                error_code: close.error_code.into_inner(),
            }
        }
        quinn::ConnectionError::TimedOut => ConnectionErrorIncoming::Timeout,
        other @ (quinn::ConnectionError::VersionMismatch
        | quinn::ConnectionError::TransportError(_)
        | quinn::ConnectionError::ConnectionClosed(_)
        | quinn::ConnectionError::Reset
        | quinn::ConnectionError::LocallyClosed
        | quinn::ConnectionError::CidsExhausted) => {
            ConnectionErrorIncoming::Undefined(Arc::new(other))
        }
    }
}

fn read_error(error: quinn::ReadError) -> StreamErrorIncoming {
    match error {
        quinn::ReadError::Reset(code) => StreamErrorIncoming::StreamTerminated {
            error_code: code.into_inner(),
        },
        quinn::ReadError::ConnectionLost(error) => StreamErrorIncoming::ConnectionErrorIncoming {
            connection_error: connection_error(error),
        },
        other @ (quinn::ReadError::ClosedStream
        | quinn::ReadError::IllegalOrderedRead
        | quinn::ReadError::ZeroRttRejected) => StreamErrorIncoming::Unknown(Box::new(other)),
    }
}
