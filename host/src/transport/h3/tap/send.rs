//! The sending half of a stream of `h3`'s: what it says goes out, with our SETTINGS in place of its own.

use std::{
    pin::Pin,
    sync::atomic::Ordering,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h3::quic::{self, ConnectionErrorIncoming, SendStreamUnframed, StreamErrorIncoming, WriteBuf};
use wharf_proto::varint::VarInt;

use super::{AbandonCode, connection_error, stream_id};

/// A sending stream of `h3`'s.
pub(in super::super) struct SendSide {
    out: Out,
    pending: Option<WriteBuf<Bytes>>,
    /// Written before `pending`.
    raw: Bytes,
    /// Our SETTINGS, on the control stream until `h3` has sent its own.
    settings: Option<Bytes>,
}

pub(super) enum Out {
    /// The answering half of a peer's stream.
    Peer(Answer),
    /// A stream that `h3` opened.
    Own(Box<h3_quinn::SendStream<Bytes>>),
}

pub(super) struct Answer {
    stream: quinn::SendStream,
    /// Finished or reset.
    over: bool,
    abandon: AbandonCode,
}

impl Answer {
    pub(super) fn new(stream: quinn::SendStream, abandon: AbandonCode) -> Self {
        Self {
            stream,
            over: false,
            abandon,
        }
    }

    fn reset(&mut self, code: u64) {
        self.over = true;
        _ = self
            .stream
            .reset(quinn::VarInt::from_u64(code).unwrap_or(quinn::VarInt::MAX));
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if !self.over {
            self.reset(self.abandon.0.load(Ordering::Relaxed));
        }
    }
}

impl SendSide {
    pub(super) fn new(out: Out, settings: Option<Bytes>) -> Self {
        Self {
            out,
            pending: None,
            raw: Bytes::new(),
            settings,
        }
    }
}

impl quic::SendStream<Bytes> for SendSide {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        loop {
            let chunk = if !self.raw.is_empty() {
                &self.raw[..]
            } else if let Some(pending) = &self.pending {
                pending.chunk()
            } else {
                return Poll::Ready(Ok(()));
            };
            if chunk.is_empty() {
                self.pending = None;
                continue;
            }
            let written = match &mut self.out {
                Out::Peer(answer) => ready!(Pin::new(&mut answer.stream).poll_write(cx, chunk))
                    .map_err(write_error)?,
                Out::Own(stream) => ready!(stream.poll_send(cx, &mut &*chunk))?,
            };
            if !self.raw.is_empty() {
                self.raw.advance(written);
            } else if let Some(pending) = &mut self.pending {
                pending.advance(written);
            }
        }
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        let mut data: WriteBuf<Bytes> = data.into();
        if let Some(settings) = self.settings.take() {
            let theirs = data.copy_to_bytes(data.remaining());
            self.raw = replace_settings(&theirs, &settings).ok_or_else(|| {
                StreamErrorIncoming::ConnectionErrorIncoming {
                    connection_error: ConnectionErrorIncoming::InternalError(
                        "h3 began its control stream with something other than SETTINGS".to_owned(),
                    ),
                }
            })?;
        } else {
            self.pending = Some(data);
        }
        Ok(())
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        match &mut self.out {
            // An error says that the peer stopped the stream: nobody is left to be told.
            Out::Peer(answer) => {
                answer.over = true;
                Poll::Ready(answer.stream.finish().or(Ok(())))
            }
            Out::Own(stream) => stream.poll_finish(cx),
        }
    }

    fn reset(&mut self, code: u64) {
        match &mut self.out {
            Out::Peer(answer) => answer.reset(code),
            Out::Own(stream) => stream.reset(code),
        }
    }

    fn send_id(&self) -> quic::StreamId {
        match &self.out {
            Out::Peer(answer) => stream_id(answer.stream.id()),
            Out::Own(stream) => stream.send_id(),
        }
    }
}

/// The control stream's first bytes as `h3` wrote them, with our SETTINGS in place of its own.
fn replace_settings(theirs: &[u8], settings: &[u8]) -> Option<Bytes> {
    const CONTROL: u8 = 0x00;
    const SETTINGS: u8 = 0x04;
    let frame = theirs.strip_prefix(&[CONTROL, SETTINGS])?;
    let (length, used) = VarInt::decode(frame)?;
    let payload = frame.get(used..)?;
    let rest = payload.get(usize::try_from(length.into_inner()).ok()?..)?;
    let mut ours = BytesMut::with_capacity(2 + VarInt::MAX_SIZE + settings.len() + rest.len());
    ours.put_slice(&[CONTROL, SETTINGS]);
    VarInt::try_from(settings.len() as u64)
        .ok()?
        .encode(&mut ours);
    ours.put_slice(settings);
    ours.put_slice(rest);
    Some(ours.freeze())
}

fn write_error(error: quinn::WriteError) -> StreamErrorIncoming {
    match error {
        quinn::WriteError::Stopped(code) => StreamErrorIncoming::StreamTerminated {
            error_code: code.into_inner(),
        },
        quinn::WriteError::ConnectionLost(error) => StreamErrorIncoming::ConnectionErrorIncoming {
            connection_error: connection_error(error),
        },
        other @ (quinn::WriteError::ClosedStream | quinn::WriteError::ZeroRttRejected) => {
            StreamErrorIncoming::Unknown(Box::new(other))
        }
    }
}
