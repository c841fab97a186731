//! What the request and the response of a CONNECT stream carry, by `h3`, at whichever end we are.

use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use h3::{client, error::Code, error::StreamError, quic, server};
use wharf_proto::code::HttpCode;

/// A CONNECT stream, or half of one, whose response is there.
pub(super) enum Body<S> {
    Client(client::RequestStream<S, Bytes>),
    Server(server::RequestStream<S, Bytes>),
}

impl<S: quic::BidiStream<Bytes>> Body<S> {
    pub(super) fn split(self) -> (Body<S::SendStream>, Body<S::RecvStream>) {
        match self {
            Self::Client(stream) => {
                let (send, recv) = stream.split();
                (Body::Client(send), Body::Client(recv))
            }
            Self::Server(stream) => {
                let (send, recv) = stream.split();
                (Body::Server(send), Body::Server(recv))
            }
        }
    }
}

impl<S: quic::RecvStream> Body<S> {
    /// The next piece; `None` at the end.
    pub(super) fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, StreamError>> {
        match self {
            Self::Client(stream) => stream.poll_recv_data(cx).map_ok(|data| data.map(whole)),
            Self::Server(stream) => stream.poll_recv_data(cx).map_ok(|data| data.map(whole)),
        }
    }

    pub(super) fn stop(&mut self, code: HttpCode) {
        let code = Code::from(code.into_inner());
        match self {
            Self::Client(stream) => stream.stop_sending(code),
            Self::Server(stream) => stream.stop_sending(code),
        }
    }
}

impl<S: quic::SendStream<Bytes>> Body<S> {
    pub(super) async fn send(&mut self, data: Bytes) -> Result<(), StreamError> {
        match self {
            Self::Client(stream) => stream.send_data(data).await,
            Self::Server(stream) => stream.send_data(data).await,
        }
    }

    pub(super) async fn finish(&mut self) -> Result<(), StreamError> {
        match self {
            Self::Client(stream) => stream.finish().await,
            Self::Server(stream) => stream.finish().await,
        }
    }
}

fn whole(mut data: impl Buf) -> Bytes {
    data.copy_to_bytes(data.remaining())
}
