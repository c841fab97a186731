//! Bytes that go there and back over HTTP/2: on a stream of a session, or by a request where there are no sessions.

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use h2::{RecvStream, SendStream, client::SendRequest};
use wharf::transport::{Dir, Event, Session, StreamId};

use super::super::Target;
use crate::{body, servers::Kind};

/// What stands for a session, on a connection of its own.
pub(super) enum Line {
    Session {
        session: Session,
        /// Opened with the first message.
        stream: Option<StreamId>,
    },
    Request {
        send: SendStream<Bytes>,
        body: RecvStream,
        /// Keeps the connection.
        _requests: SendRequest<Bytes>,
    },
}

impl Line {
    /// Opens a session, or a request, and waits for the answer.
    pub(super) async fn open(target: &Target) -> anyhow::Result<Self> {
        if target.kind == Kind::NativeH2 {
            let requests = super::requests(target).await?;
            let (response, send) = super::post(&requests).await?;
            return Ok(Self::Request {
                send,
                body: response.await?.into_body(),
                _requests: requests,
            });
        }
        let session = super::session(target).await?;
        Ok(Self::Session {
            session,
            stream: None,
        })
    }

    /// Sends a message and waits until all of it is back.
    pub(super) async fn ping(&mut self, message: &'static [u8]) -> anyhow::Result<()> {
        let message = Bytes::from_static(message);
        match self {
            Self::Session { session, stream } => {
                let stream = match *stream {
                    Some(stream) => stream,
                    None => *stream.insert(session.open(Dir::Bi)?),
                };
                let mut left = message.len();
                session.send(stream, message, false)?;
                while left > 0 {
                    match session.next_event().await {
                        Some(Event::Data { data, .. }) => left = less(left, data.len())?,
                        Some(Event::Closed(closed)) => bail!("the session is over: {closed:?}"),
                        None => bail!("the session is over"),
                        Some(_) => {}
                    }
                }
            }
            Self::Request { send, body, .. } => {
                let mut left = message.len();
                body::write(send, message, false).await?;
                while left > 0 {
                    let data = body.data().await.context("the response is over")??;
                    left = less(left, data.len())?;
                    body.flow_control().release_capacity(data.len())?;
                }
            }
        }
        Ok(())
    }
}

fn less(left: usize, came: usize) -> anyhow::Result<usize> {
    ensure!(came <= left, "the echo is longer than what was sent");
    Ok(left - came)
}
