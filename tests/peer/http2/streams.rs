//! The two directions of a stream over HTTP/2.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Notify;
use wharf::transport::{CommandError, StreamId};

use super::{Shared, State};
use crate::peer::Gone;

/// The sending direction.
pub(crate) struct Send {
    shared: Arc<Shared>,
    id: StreamId,
    changed: Arc<Notify>,
}

/// The receiving direction.
pub(crate) struct Recv {
    shared: Arc<Shared>,
    id: StreamId,
    changed: Arc<Notify>,
}

impl Send {
    pub(super) fn new(shared: Arc<Shared>, id: StreamId) -> Self {
        let changed = shared.state().streams[&id].changed.clone();
        Self {
            shared,
            id,
            changed,
        }
    }

    pub(crate) fn id(&self) -> u64 {
        self.id.into()
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<usize, Gone> {
        let id = self.id;
        let written = |state: &mut State| match state.send(id, bytes) {
            Ok(taken) => Some(Ok(taken)),
            Err(CommandError::WouldBlock) => None,
            Err(error) => Some(Err(state.gone(id, error))),
        };
        self.shared.wait(&self.changed, written).await
    }

    pub(crate) fn finish(&mut self) -> Result<(), Gone> {
        let id = self.id;
        self.shared.act(|state| {
            let session = state.session.as_mut().ok_or(Gone::Session)?;
            let finished = session.finish(id);
            finished.map_err(|error| state.gone(id, error))
        })
    }

    pub(crate) fn reset(&mut self, code: u32) {
        let id = self.id;
        self.shared.act(|state| {
            if let Some(session) = &mut state.session {
                _ = session.reset(id, code); // or it is over, and that is no less
            }
        });
    }

    pub(crate) async fn stopped(&mut self) -> Gone {
        let id = self.id;
        let stopped = |state: &mut State| match state.streams[&id].stopped {
            None => state.session.is_none().then_some(Gone::Session),
            stopped => stopped,
        };
        self.shared.wait(&self.changed, stopped).await
    }
}

impl Recv {
    pub(super) fn new(shared: Arc<Shared>, id: StreamId) -> Self {
        let changed = shared.state().streams[&id].changed.clone();
        Self {
            shared,
            id,
            changed,
        }
    }

    pub(crate) fn id(&self) -> u64 {
        self.id.into()
    }

    pub(crate) async fn read_some(&mut self, most: usize) -> Result<Option<Bytes>, Gone> {
        let id = self.id;
        let read = |state: &mut State| {
            let over = state.session.is_none();
            let stream = state.streams.get_mut(&id).unwrap();
            while let Some(mut chunk) = stream.chunks.pop_front() {
                if chunk.is_empty() {
                    continue;
                }
                let now = chunk.split_to(most.min(chunk.len()));
                if !chunk.is_empty() {
                    stream.chunks.push_front(chunk);
                }
                state.unread -= now.len();
                return Some(Ok(Some(now)));
            }
            match (stream.fin, stream.given_up) {
                (true, _) => Some(Ok(None)),
                (false, Some(gone)) => Some(Err(gone)),
                (false, None) => over.then_some(Err(Gone::Session)),
            }
        };
        self.shared.wait(&self.changed, read).await
    }

    pub(crate) fn stop(&mut self, code: u32) {
        let id = self.id;
        self.shared.act(|state| state.stop(id, code));
    }
}

impl Drop for Send {
    fn drop(&mut self) {
        let id = self.id;
        self.shared.act(|state| {
            if let Some(session) = &mut state.session {
                _ = session.finish(id); // where it has not ended otherwise
            }
            state.let_go(id);
        });
    }
}

impl Drop for Recv {
    fn drop(&mut self) {
        let id = self.id;
        self.shared.act(|state| {
            state.stop(id, 0);
            state.let_go(id);
        });
    }
}

impl State {
    /// Hands over as much as there is room for, at least one byte.
    fn send(&mut self, id: StreamId, bytes: &[u8]) -> Result<usize, CommandError> {
        let session = self.session.as_mut().ok_or(CommandError::Closed)?;
        let room = usize::try_from(session.send_capacity(id)?).unwrap();
        // Where there is none, this is refused, and so the stream is told of when there is.
        let size = if room == 0 {
            bytes.len()
        } else {
            bytes.len().min(room)
        };
        session.send(id, Bytes::copy_from_slice(&bytes[..size]), false)?;
        Ok(size)
    }

    /// Reads no more of a stream, nor what is here of it.
    fn stop(&mut self, id: StreamId, code: u32) {
        if let Some(session) = &mut self.session {
            _ = session.stop(id, code); // or it is over, and that is no less
        }
        let stream = self.streams.get_mut(&id).unwrap();
        stream.read = false;
        let unread: usize = stream.chunks.drain(..).map(|chunk| chunk.len()).sum();
        self.unread -= unread;
    }

    /// Why a stream refuses a command.
    fn gone(&self, id: StreamId, error: CommandError) -> Gone {
        match error {
            CommandError::Reset | CommandError::UnknownStream => {
                let stopped = self.streams[&id].stopped;
                stopped.unwrap_or(Gone::NoCode)
            }
            CommandError::Closed => Gone::Session,
            other => panic!("the stream refuses: {other}"),
        }
    }

    /// Forgets a stream with its last handle.
    fn let_go(&mut self, id: StreamId) {
        let stream = self.streams.get_mut(&id).unwrap();
        stream.handles -= 1;
        if stream.handles == 0 {
            self.streams.remove(&id);
        }
    }
}
