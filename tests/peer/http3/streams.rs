//! The two directions of a stream over HTTP/3, behind its header.

use std::sync::Arc;

use bytes::Bytes;
use web_transport_quinn::proto::error_from_http3;

use super::session::{Credit, wire};
use crate::{capsules::WT_SESSION_GONE, peer::Gone};

/// The sending direction.
pub(crate) struct Send {
    stream: quinn::SendStream,
    credit: Arc<Credit>,
}

/// The receiving direction.
pub(crate) struct Recv(pub(super) quinn::RecvStream);

impl Send {
    pub(super) fn new(stream: quinn::SendStream, credit: Arc<Credit>) -> Self {
        Self { stream, credit }
    }

    pub(crate) fn id(&self) -> u64 {
        self.stream.id().into()
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<usize, Gone> {
        let mut credit = self.credit.bytes(bytes.len()).await?;
        let taken = self.stream.write(&bytes[..credit.num_permits()]).await?;
        credit.split(taken).unwrap().forget();
        Ok(taken)
    }

    pub(crate) fn finish(&mut self) -> Result<(), Gone> {
        // A stream that the server stopped ends without FIN.
        self.stream.finish().map_err(|_| Gone::NoCode)
    }

    pub(crate) fn reset(&mut self, code: u32) {
        self.stream.reset(wire(code)).unwrap();
    }

    pub(crate) async fn stopped(&mut self) -> Gone {
        match self.stream.stopped().await {
            Ok(Some(code)) => code.into(),
            Ok(None) => panic!("all of it was taken"),
            Err(_) => Gone::Session,
        }
    }
}

impl Recv {
    pub(crate) fn id(&self) -> u64 {
        self.0.id().into()
    }

    pub(crate) async fn read_some(&mut self, most: usize) -> Result<Option<Bytes>, Gone> {
        match self.0.read_chunk(most, true).await {
            Ok(chunk) => Ok(chunk.map(|chunk| chunk.bytes)),
            Err(quinn::ReadError::Reset(code)) => Err(code.into()),
            Err(quinn::ReadError::ConnectionLost(_)) => Err(Gone::Session),
            Err(other) => panic!("it cannot be read: {other}"),
        }
    }

    pub(crate) fn stop(&mut self, code: u32) {
        self.0.stop(wire(code)).unwrap();
    }
}

impl From<quinn::VarInt> for Gone {
    fn from(code: quinn::VarInt) -> Self {
        match (code.into_inner(), error_from_http3(code.into_inner())) {
            (WT_SESSION_GONE, _) => Self::Session,
            (_, Some(code)) => Self::Code(code),
            (_, None) => Self::NoCode,
        }
    }
}

impl From<quinn::WriteError> for Gone {
    fn from(error: quinn::WriteError) -> Self {
        match error {
            quinn::WriteError::Stopped(code) => code.into(),
            quinn::WriteError::ConnectionLost(_) => Self::Session,
            other => panic!("it cannot be written: {other}"),
        }
    }
}
