//! A session's CONNECT stream: capsules over the request and response bodies that `h3` carries.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use wharf_proto::{code::HttpCode, session::Transmit};

use super::{
    body::Body,
    tap::{AbandonCode, Bidi, RecvSide, RequestNote, SendSide, Stopped},
};

type SendHalf = Body<SendSide>;
type Written = Pin<Box<dyn Future<Output = Option<Box<SendHalf>>> + Send>>;

/// What came in on the CONNECT stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    Bytes(Bytes),
    Fin,
    /// The peer reset the stream, or stopped reading it, or the connection is lost.
    Aborted,
}

/// Both directions of a CONNECT stream.
pub(super) struct ConnectStream {
    recv: Option<Body<RecvSide>>,
    send: Sending,
    stopped: Option<Stopped>,
    abandon: AbandonCode,
}

enum Sending {
    Idle(Box<SendHalf>),
    Busy(Written),
    Over,
}

impl ConnectStream {
    /// A stream whose response has been sent, or received.
    pub(super) fn new(stream: Body<Bidi>, note: RequestNote) -> Self {
        let (send, recv) = stream.split();
        Self {
            recv: Some(recv),
            send: Sending::Idle(Box::new(send)),
            stopped: note.stopped,
            abandon: note.abandon,
        }
    }

    /// The next thing from the peer. [`Received::Fin`] and [`Received::Aborted`] are said once.
    pub(super) fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Received> {
        if let Some(stopped) = &mut self.stopped
            && stopped.as_mut().poll(cx).is_ready()
        {
            self.stopped = None;
            if !matches!(self.send, Sending::Over) {
                return Poll::Ready(self.aborted());
            }
        }
        let Some(recv) = &mut self.recv else {
            return Poll::Pending;
        };
        let received = match recv.poll_data(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(Some(data))) => return Poll::Ready(Received::Bytes(data)),
            Poll::Ready(Ok(None)) => Received::Fin,
            Poll::Ready(Err(_)) => return Poll::Ready(self.aborted()),
        };
        self.recv = None;
        Poll::Ready(received)
    }

    fn aborted(&mut self) -> Received {
        self.abort(HttpCode::H3_REQUEST_CANCELLED);
        Received::Aborted
    }

    /// Gives up both directions: with only one of them given up, a browser waits for the other.
    fn abort(&mut self, code: HttpCode) {
        // What is being written goes with its stream.
        self.abandon.set(code);
        self.send = Sending::Over;
        self.stopped = None; // QUIC does not tell when a reset has arrived
        if let Some(mut recv) = self.recv.take() {
            recv.stop(code);
        }
    }

    /// Whether the stream takes something to transmit; `Pending` says that it writes still, and has the waker.
    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Sending::Busy(written) = &mut self.send {
            match written.as_mut().poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(send)) => self.send = Sending::Idle(send),
                Poll::Ready(None) => self.send = Sending::Over,
            }
        }
        Poll::Ready(())
    }

    /// Begins to transmit. To be called when [`poll_ready`](Self::poll_ready) was ready, except for an abort; once the
    /// sending direction is over, only an abort does something.
    pub(super) fn transmit(&mut self, transmit: Transmit) {
        if let Transmit::Abort(code) = transmit {
            return self.abort(code);
        }
        let mut send = match std::mem::replace(&mut self.send, Sending::Over) {
            Sending::Idle(send) => send,
            busy @ (Sending::Busy(_) | Sending::Over) => {
                self.send = busy;
                return;
            }
        };
        let written: Written = match transmit {
            Transmit::Capsules(bytes) => {
                Box::pin(async move { send.send(bytes).await.ok().map(|()| send) })
            }
            Transmit::Fin => Box::pin(async move {
                _ = send.finish().await; // fails when nobody is left to be told
                None
            }),
            Transmit::Abort(_) => return,
        };
        self.send = Sending::Busy(written);
    }

    /// Whether both directions are over, and the peer has our FIN: the connection may be closed right after. To be asked
    /// after [`poll_receive`](Self::poll_receive).
    pub(super) fn is_over(&self) -> bool {
        self.recv.is_none() && self.stopped.is_none() && matches!(self.send, Sending::Over)
    }
}

impl fmt::Debug for ConnectStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectStream")
            .field("receiving", &self.recv.is_some())
            .field("sending", &!matches!(self.send, Sending::Over))
            .finish_non_exhaustive()
    }
}
