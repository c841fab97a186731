//! The sending half of a stream of `h3`'s: what it says goes out, but for the SETTINGS and the `:protocol` that it does
//! not know.

use std::{
    pin::Pin,
    sync::atomic::Ordering,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h3::quic::{self, ConnectionErrorIncoming, SendStreamUnframed, StreamErrorIncoming, WriteBuf};
use wharf_proto::varint::VarInt;

use super::{AbandonCode, connection_error, stream_id};
use crate::transport::h3::qpack;

/// A sending stream of `h3`'s.
pub(in super::super) struct SendSide {
    out: Out,
    pending: Option<WriteBuf<Bytes>>,
    /// Written before `pending`.
    raw: Bytes,
    /// What is put in the first frame, until `h3` has sent that.
    edit: Option<Edit>,
}

/// What `h3` would not say by itself.
pub(super) enum Edit {
    /// These SETTINGS, on the control stream.
    Settings(Bytes),
    /// This `:protocol`, in a request.
    Protocol(&'static str),
}

impl Edit {
    fn apply(&self, theirs: &[u8]) -> Option<Bytes> {
        match self {
            Self::Settings(settings) => replace_settings(theirs, settings),
            Self::Protocol(token) => replace_protocol(theirs, token),
        }
    }
}

pub(super) enum Out {
    /// The sending half of a request stream, whoever opened it.
    Request(Answer),
    /// A stream that `h3` opened by itself.
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
    pub(super) fn new(out: Out, edit: Option<Edit>) -> Self {
        Self {
            out,
            pending: None,
            raw: Bytes::new(),
            edit,
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
                Out::Request(answer) => ready!(Pin::new(&mut answer.stream).poll_write(cx, chunk))
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
        if let Some(edit) = self.edit.take() {
            let theirs = data.copy_to_bytes(data.remaining());
            self.raw = edit.apply(&theirs).ok_or_else(|| {
                StreamErrorIncoming::ConnectionErrorIncoming {
                    connection_error: ConnectionErrorIncoming::InternalError(
                        "h3 began a stream with another frame than it should".to_owned(),
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
            Out::Request(answer) => {
                answer.over = true;
                Poll::Ready(answer.stream.finish().or(Ok(())))
            }
            Out::Own(stream) => stream.poll_finish(cx),
        }
    }

    fn reset(&mut self, code: u64) {
        match &mut self.out {
            Out::Request(answer) => answer.reset(code),
            Out::Own(stream) => stream.reset(code),
        }
    }

    fn send_id(&self) -> quic::StreamId {
        match &self.out {
            Out::Request(answer) => stream_id(answer.stream.id()),
            Out::Own(stream) => stream.send_id(),
        }
    }
}

/// The control stream's first bytes as `h3` wrote them, with our SETTINGS in place of its own.
fn replace_settings(theirs: &[u8], settings: &[u8]) -> Option<Bytes> {
    const CONTROL: u8 = 0x00;
    const SETTINGS: u8 = 0x04;
    let (_, rest) = take_frame(theirs.strip_prefix(&[CONTROL])?, SETTINGS)?;
    let mut ours = BytesMut::with_capacity(2 + VarInt::MAX_SIZE + settings.len() + rest.len());
    ours.put_u8(CONTROL);
    put_frame(&mut ours, SETTINGS, settings)?;
    ours.put_slice(rest);
    Some(ours.freeze())
}

/// A request's first bytes as `h3` wrote them, with that `:protocol` in place of the one it knows.
fn replace_protocol(theirs: &[u8], token: &str) -> Option<Bytes> {
    const HEADERS: u8 = 0x01;
    let (section, rest) = take_frame(theirs, HEADERS)?;
    let section = qpack::with_protocol(section, token)?;
    let mut ours = BytesMut::with_capacity(1 + VarInt::MAX_SIZE + section.len() + rest.len());
    put_frame(&mut ours, HEADERS, &section)?;
    ours.put_slice(rest);
    Some(ours.freeze())
}

/// The payload of a frame of that type, and what follows the frame.
fn take_frame(bytes: &[u8], kind: u8) -> Option<(&[u8], &[u8])> {
    let frame = bytes.strip_prefix(&[kind])?;
    let (length, used) = VarInt::decode(frame)?;
    let length = usize::try_from(length.into_inner()).ok()?;
    frame.get(used..)?.split_at_checked(length)
}

fn put_frame(out: &mut BytesMut, kind: u8, payload: &[u8]) -> Option<()> {
    out.put_u8(kind);
    VarInt::try_from(payload.len() as u64).ok()?.encode(out);
    out.put_slice(payload);
    Some(())
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
