//! A session of either HTTP version, and its streams.

use bytes::Bytes;

use super::{End, Gone, either, http2, http3};
use crate::harness::within;

/// A session. Dropping the last clone ends it cleanly, with code 0 and no reason. It keeps its connection.
#[derive(Clone)]
pub(crate) enum PeerSession {
    Http3(http3::Session),
    Http2(http2::Session),
}

/// The sending direction of a stream. Dropping it ends it with FIN.
pub(crate) enum PeerSend {
    Http3(http3::Send),
    Http2(http2::Send),
}

/// The receiving direction of a stream. Dropping it gives it up.
pub(crate) enum PeerRecv {
    Http3(http3::Recv),
    Http2(http2::Recv),
}

impl PeerSession {
    /// Opens a bidirectional stream as soon as the server grants one.
    pub(crate) async fn open_bi(&self) -> Result<(PeerSend, PeerRecv), Gone> {
        either!(self, session => {
            let (send, recv) = session.open_bi().await?;
            Ok((send.into(), recv.into()))
        })
    }

    /// Opens a unidirectional stream as soon as the server grants one.
    pub(crate) async fn open_uni(&self) -> Result<PeerSend, Gone> {
        either!(self, session => session.open_uni().await.map(PeerSend::from))
    }

    /// The next bidirectional stream that the server opens.
    pub(crate) async fn accept_bi(&self) -> Result<(PeerSend, PeerRecv), Gone> {
        either!(self, session => {
            let (send, recv) = session.accept_bi().await?;
            Ok((send.into(), recv.into()))
        })
    }

    /// The next unidirectional stream that the server opens.
    pub(crate) async fn accept_uni(&self) -> Result<PeerRecv, Gone> {
        either!(self, session => session.accept_uni().await.map(PeerRecv::from))
    }

    /// Opens a stream, sends some bytes on it, and expects them back up to FIN.
    pub(crate) async fn expect_echo(&self, bytes: &[u8]) {
        let (mut send, mut recv) = within("a stream", self.open_bi()).await.unwrap();
        let sending = async {
            send.write_all(bytes).await.unwrap();
            send.finish().unwrap();
        };
        let both = async { tokio::join!(sending, recv.read_to_end(bytes.len())).1 };
        assert_eq!(within("the echo", both).await.unwrap(), bytes);
    }

    /// Sends a datagram.
    pub(crate) fn send_datagram(&self, payload: &[u8]) -> Result<(), Gone> {
        either!(self, session => session.send_datagram(payload))
    }

    /// The next datagram.
    pub(crate) async fn read_datagram(&self) -> Result<Bytes, Gone> {
        either!(self, session => session.read_datagram().await)
    }

    /// The largest datagram that can be sent.
    pub(crate) fn max_datagram_size(&self) -> usize {
        either!(self, session => session.max_datagram_size())
    }

    /// Keying material that only the two ends of the session know.
    pub(crate) fn export_keying_material(&self, label: &[u8], context: &[u8], out: &mut [u8]) {
        either!(self, session => session.export_keying_material(label, context, out));
    }

    /// Asks the server to bring the session to its end.
    pub(crate) async fn drain(&self) {
        match self {
            Self::Http3(session) => session.drain().await,
            Self::Http2(session) => session.drain(),
        }
    }

    /// Waits until the server asks for that.
    pub(crate) async fn draining(&self) {
        let told = async { either!(self, session => session.draining().await) };
        within("the server's drain", told).await;
    }

    /// Ends the session with a code and a reason. Says whether that came before its end by the server.
    pub(crate) async fn close(&self, code: u32, reason: &str) -> bool {
        match self {
            Self::Http3(session) => session.close(code, reason).await,
            Self::Http2(session) => session.close(code, reason),
        }
    }

    /// Gives up the session: its CONNECT stream is reset.
    pub(crate) async fn abort(&self) {
        match self {
            Self::Http3(session) => session.abort().await,
            Self::Http2(session) => session.abort(),
        }
    }

    /// Waits until the server has ended the session, and says how.
    pub(crate) async fn closed(&self) -> End {
        let closed = async { either!(self, session => session.closed().await) };
        within("the end of the session", closed).await
    }
}

impl PeerSend {
    pub(crate) fn id(&self) -> u64 {
        either!(self, send => send.id())
    }

    /// Sends some of the bytes as soon as any may be sent, and says how many. Dropping the future sends none.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<usize, Gone> {
        either!(self, send => send.write(bytes).await)
    }

    pub(crate) async fn write_all(&mut self, mut bytes: &[u8]) -> Result<(), Gone> {
        while !bytes.is_empty() {
            let taken = self.write(bytes).await?;
            bytes = &bytes[taken..];
        }
        Ok(())
    }

    /// Ends the stream with FIN.
    pub(crate) fn finish(&mut self) -> Result<(), Gone> {
        either!(self, send => send.finish())
    }

    /// Gives up sending, with an application's code.
    pub(crate) fn reset(&mut self, code: u32) {
        either!(self, send => send.reset(code));
    }

    /// Waits until the server gives up reading, and says how.
    pub(crate) async fn stopped(&mut self) -> Gone {
        let stopped = async { either!(self, send => send.stopped().await) };
        within("a stop", stopped).await
    }
}

impl PeerRecv {
    pub(crate) fn id(&self) -> u64 {
        either!(self, recv => recv.id())
    }

    /// The next bytes, however many; none after FIN.
    pub(crate) async fn read_chunk(&mut self) -> Result<Option<Bytes>, Gone> {
        self.read_some(usize::MAX).await
    }

    async fn read_some(&mut self, most: usize) -> Result<Option<Bytes>, Gone> {
        either!(self, recv => recv.read_some(most).await)
    }

    /// Fills the buffer. FIN before that is a failure of the test.
    pub(crate) async fn read_exact(&mut self, buffer: &mut [u8]) -> Result<(), Gone> {
        let mut filled = 0;
        while filled < buffer.len() {
            let chunk = self.read_some(buffer.len() - filled).await?;
            let chunk = chunk.expect("as many bytes as are asked for come before FIN");
            buffer[filled..filled + chunk.len()].copy_from_slice(&chunk);
            filled += chunk.len();
        }
        Ok(())
    }

    /// What comes up to FIN. More than so many bytes are a failure of the test.
    pub(crate) async fn read_to_end(&mut self, most: usize) -> Result<Vec<u8>, Gone> {
        let mut all = Vec::new();
        while let Some(chunk) = self.read_chunk().await? {
            all.extend_from_slice(&chunk);
            assert!(all.len() <= most, "more than {most} bytes came");
        }
        Ok(all)
    }

    /// Gives up reading, with an application's code.
    pub(crate) fn stop(&mut self, code: u32) {
        either!(self, recv => recv.stop(code));
    }

    /// Waits until the server gives up sending, and says how. What comes before that is passed over.
    pub(crate) async fn given_up(&mut self) -> Gone {
        let given_up = async {
            loop {
                match self.read_chunk().await {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("it ended with FIN"),
                    Err(gone) => return gone,
                }
            }
        };
        within("a reset", given_up).await
    }
}

impl From<http3::Send> for PeerSend {
    fn from(send: http3::Send) -> Self {
        Self::Http3(send)
    }
}

impl From<http2::Send> for PeerSend {
    fn from(send: http2::Send) -> Self {
        Self::Http2(send)
    }
}

impl From<http3::Recv> for PeerRecv {
    fn from(recv: http3::Recv) -> Self {
        Self::Http3(recv)
    }
}

impl From<http2::Recv> for PeerRecv {
    fn from(recv: http2::Recv) -> Self {
        Self::Http2(recv)
    }
}
