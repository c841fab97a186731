//! Reads a CONNECT stream as it comes, capsule by capsule, and says how it ended.

use bytes::{Buf as _, BytesMut};
use wharf_proto::{
    capsule::{Capsule, Decoder},
    id::Dir,
    varint::VarInt,
};

use crate::{
    harness::within,
    raw::{RawSession, put},
};

pub(crate) const H3_MESSAGE_ERROR: u64 = 0x10e;
pub(crate) const WT_FLOW_CONTROL_ERROR: u64 = 0x045d_4487;
pub(crate) const WT_SESSION_GONE: u64 = 0x170d_7b68;
/// How the host closes the session of a peer that broke a rule.
pub(crate) const PROTOCOL_VIOLATION: u32 = 0xffff_ff07;

/// What a server says on a CONNECT stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Capsule(Capsule),
    Fin,
    /// The stream was reset, with this code.
    Reset(u64),
}

/// The receiving direction of a CONNECT stream, behind the response.
pub(crate) struct Capsules {
    recv: quinn::RecvStream,
    /// Bytes of frames that are not complete.
    frames: BytesMut,
    decoder: Decoder,
}

impl Capsules {
    pub(crate) fn of(recv: quinn::RecvStream) -> Self {
        Self {
            recv,
            frames: BytesMut::new(),
            decoder: Decoder::new(1 << 16),
        }
    }

    /// What the server says next.
    pub(crate) async fn next(&mut self) -> Said {
        match within("more of the CONNECT stream", self.heard()).await {
            Ok(said) => said,
            Err(lost) => panic!("the CONNECT stream ended otherwise: {lost}"),
        }
    }

    /// The same however long it takes, where the connection is not lost before.
    pub(crate) async fn heard(&mut self) -> Result<Said, quinn::ReadError> {
        loop {
            if let Some(capsule) = self.decoder.poll().unwrap() {
                return Ok(Said::Capsule(capsule));
            }
            while let Some(payload) = self.data_frame() {
                self.decoder.push(payload.freeze());
            }
            if self.decoder.buffered() > 0
                && let Some(capsule) = self.decoder.poll().unwrap()
            {
                return Ok(Said::Capsule(capsule));
            }
            match self.recv.read_chunk(1 << 16, true).await {
                Ok(Some(chunk)) => self.frames.extend_from_slice(&chunk.bytes),
                Ok(None) => return Ok(Said::Fin),
                Err(quinn::ReadError::Reset(code)) => return Ok(Said::Reset(code.into_inner())),
                Err(other) => return Err(other),
            }
        }
    }

    /// The next capsule, when there is one.
    pub(crate) async fn capsule(&mut self) -> Capsule {
        match self.next().await {
            Said::Capsule(capsule) => capsule,
            end @ (Said::Fin | Said::Reset(_)) => panic!("no capsule came, but {end:?}"),
        }
    }

    /// The code of the reset; limits that are told before it are passed over.
    pub(crate) async fn reset(&mut self) -> u64 {
        loop {
            match self.next().await {
                Said::Reset(code) => return code,
                Said::Capsule(Capsule::MaxData(_) | Capsule::MaxStreams(..)) => {}
                other @ (Said::Capsule(_) | Said::Fin) => panic!("no reset came, but {other:?}"),
            }
        }
    }

    fn data_frame(&mut self) -> Option<BytesMut> {
        loop {
            let (kind, kind_size) = VarInt::decode(&self.frames)?;
            let (length, length_size) = VarInt::decode(&self.frames[kind_size..])?;
            let length = usize::try_from(length.into_inner()).unwrap();
            if self.frames.len() < kind_size + length_size + length {
                return None;
            }
            self.frames.advance(kind_size + length_size);
            let payload = self.frames.split_to(length);
            if kind.into_inner() == 0 {
                return Some(payload);
            }
        }
    }
}

impl RawSession {
    /// The session's id, its sending direction, and what the server says.
    pub(crate) fn split(self) -> (u64, quinn::SendStream, Capsules) {
        (self.id, self.send, Capsules::of(self.recv))
    }
}

/// A capsule's bytes.
pub(crate) fn bytes_of(capsule: &Capsule) -> BytesMut {
    let mut bytes = BytesMut::new();
    capsule.encode(&mut bytes);
    bytes
}

/// A capsule in a DATA frame.
pub(crate) fn framed(capsule: &Capsule) -> Vec<u8> {
    crate::raw::frame(0, &bytes_of(capsule))
}

/// The bytes of a capsule of that type, which need not be one.
pub(crate) fn any_capsule(kind: u64, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    put(&mut bytes, kind);
    put(&mut bytes, payload.len() as u64);
    bytes.extend_from_slice(payload);
    bytes
}

pub(crate) fn max_data(limit: u64) -> Capsule {
    Capsule::MaxData(VarInt::try_from(limit).unwrap())
}

pub(crate) fn max_streams(dir: Dir, limit: u64) -> Capsule {
    Capsule::MaxStreams(dir, VarInt::try_from(limit).unwrap())
}

pub(crate) fn close(code: u32, reason: &str) -> Capsule {
    let reason = reason.to_owned();
    Capsule::Close { code, reason }
}
