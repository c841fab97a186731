//! The client's side of HTTP/2: wharf's own sessions in the client's role, one task to drive each.
//!
//! Events of a session come in one sequence, and asking for the next one gives credit for the last back. So the task
//! asks for no more while [`UNREAD_WINDOWS`] windows of a stream lie here unread: what comes then stays with the server,
//! and what this end sends in the session waits too, until something is read.

use std::{
    collections::{BTreeMap, VecDeque},
    future::poll_fn,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use tokio::sync::Notify;
use wharf::transport::{self, Closer, CommandError, Event, StreamId};

use super::{Dir, End, Gone};

mod client;
mod streams;

pub(crate) use client::Connection;
pub(crate) use streams::{Recv, Send};

/// What of a session may lie here unread, in streams and datagrams together, as a multiple of what of one stream may be
/// ahead of its reader.
const UNREAD_WINDOWS: usize = 16;

/// A session. It keeps its connection.
#[derive(Clone)]
pub(crate) struct Session {
    shared: Arc<Shared>,
    _connection: Connection,
    _last: Arc<Last>,
}

/// Ends the session with its last handle.
struct Last(Arc<Shared>);

impl Drop for Last {
    fn drop(&mut self) {
        self.0.close(0, "");
    }
}

/// What the handles of a session share with the task that drives it.
struct Shared {
    state: Mutex<State>,
    /// The session was driven on, and may allow now what it did not before.
    driven: Notify,
}

struct State {
    /// None when it is over.
    session: Option<transport::Session>,
    streams: BTreeMap<StreamId, Stream>,
    /// Streams of the server that were not accepted yet: bidirectional, unidirectional.
    waiting: [VecDeque<StreamId>; 2],
    datagrams: VecDeque<Bytes>,
    unread: usize,
    unread_max: usize,
    draining: bool,
    end: Option<End>,
    driver: Option<Waker>,
}

/// What is known of a stream. It is kept while a handle of it is, or may be taken.
struct Stream {
    handles: u8,
    /// Whether anybody reads it, or will.
    read: bool,
    chunks: VecDeque<Bytes>,
    fin: bool,
    given_up: Option<Gone>,
    stopped: Option<Gone>,
    changed: Arc<Notify>,
}

impl Session {
    /// Takes a session that began, and has it driven from now on.
    fn begin(connection: Connection, session: transport::Session) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                session: Some(session),
                streams: BTreeMap::new(),
                waiting: [VecDeque::new(), VecDeque::new()],
                datagrams: VecDeque::new(),
                unread: 0,
                unread_max: UNREAD_WINDOWS * connection.window(),
                draining: false,
                end: None,
                driver: None,
            }),
            driven: Notify::new(),
        });
        tokio::spawn(shared.clone().drive());
        Self {
            _connection: connection,
            _last: Arc::new(Last(shared.clone())),
            shared,
        }
    }

    pub(crate) async fn open_bi(&self) -> Result<(Send, Recv), Gone> {
        let id = self.open(Dir::Bi).await?;
        Ok((self.sending(id), self.receiving(id)))
    }

    pub(crate) async fn open_uni(&self) -> Result<Send, Gone> {
        let id = self.open(Dir::Uni).await?;
        Ok(self.sending(id))
    }

    async fn open(&self, dir: Dir) -> Result<StreamId, Gone> {
        let opened = |state: &mut State| match state.session.as_mut()?.open(dir) {
            Ok(id) => {
                state.streams.insert(id, Stream::new(dir));
                Some(id)
            }
            Err(CommandError::StreamLimit | CommandError::Closed) => None,
            Err(other) => panic!("no stream can be opened: {other}"),
        };
        self.wait(opened).await
    }

    pub(crate) async fn accept_bi(&self) -> Result<(Send, Recv), Gone> {
        let id = self.wait(|state| state.waiting[0].pop_front()).await?;
        Ok((self.sending(id), self.receiving(id)))
    }

    pub(crate) async fn accept_uni(&self) -> Result<Recv, Gone> {
        let id = self.wait(|state| state.waiting[1].pop_front()).await?;
        Ok(self.receiving(id))
    }

    pub(crate) async fn read_datagram(&self) -> Result<Bytes, Gone> {
        let next = |state: &mut State| {
            let datagram = state.datagrams.pop_front()?;
            state.unread -= datagram.len();
            Some(datagram)
        };
        self.wait(next).await
    }

    /// Waits for something of the session, which came before its end.
    async fn wait<T>(&self, mut taken: impl FnMut(&mut State) -> Option<T>) -> Result<T, Gone> {
        let taken = |state: &mut State| match taken(state) {
            Some(taken) => Some(Ok(taken)),
            None => state.session.is_none().then_some(Err(Gone::Session)),
        };
        self.shared.wait(&self.shared.driven, taken).await
    }

    fn sending(&self, id: StreamId) -> Send {
        Send::new(self.shared.clone(), id)
    }

    fn receiving(&self, id: StreamId) -> Recv {
        Recv::new(self.shared.clone(), id)
    }

    pub(crate) fn send_datagram(&self, payload: &[u8]) -> Result<(), Gone> {
        self.command(|session| match session.send_datagram(payload) {
            Ok(()) => Ok(()),
            Err(CommandError::Closed) => Err(Gone::Session),
            Err(other) => panic!("a datagram cannot be sent: {other}"),
        })
    }

    pub(crate) fn max_datagram_size(&self) -> usize {
        let info = self.command(|session| Ok(session.info())).unwrap();
        info.max_datagram_size as usize
    }

    pub(crate) fn export_keying_material(&self, label: &[u8], context: &[u8], out: &mut [u8]) {
        let exported = self.command(|session| {
            let exported = session.export_keying_material(label, context, out);
            exported.map_err(|_| Gone::Session)
        });
        exported.unwrap();
    }

    fn command<T>(
        &self,
        does: impl FnOnce(&mut transport::Session) -> Result<T, Gone>,
    ) -> Result<T, Gone> {
        self.shared.act(|state| match &mut state.session {
            Some(session) => does(session),
            None => Err(Gone::Session),
        })
    }

    pub(crate) fn drain(&self) {
        self.command(|session| {
            session.drain();
            Ok(())
        })
        .unwrap();
    }

    pub(crate) async fn draining(&self) {
        let told = self.wait(|state| state.draining.then_some(())).await;
        assert_eq!(told, Ok(()), "the session ended before");
    }

    pub(crate) fn close(&self, code: u32, reason: &str) -> bool {
        self.shared.close(code, reason)
    }

    pub(crate) fn abort(&self) {
        self.shared.act(|state| {
            state.session = None;
            state.end = Some(End::Lost);
        });
        self.shared.tell_all();
    }

    pub(crate) async fn closed(&self) -> End {
        let ended = |state: &mut State| state.end.clone();
        self.shared.wait(&self.shared.driven, ended).await
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Does something between two events, and has the session driven on.
    fn act<T>(&self, does: impl FnOnce(&mut State) -> T) -> T {
        let (done, driver) = {
            let state = &mut *self.state();
            (does(state), state.driver.take())
        };
        if let Some(driver) = driver {
            driver.wake();
        }
        done
    }

    /// Waits until something can be done, looking again whenever told of a change.
    async fn wait<T>(&self, changed: &Notify, mut done: impl FnMut(&mut State) -> Option<T>) -> T {
        let mut first = true;
        loop {
            let mut notified = pin!(changed.notified());
            notified.as_mut().enable();
            let now = done(&mut self.state());
            // To try may be to ask for something; once is enough.
            if now.is_some() || std::mem::take(&mut first) {
                self.act(|_| ());
            }
            if let Some(now) = now {
                return now;
            }
            notified.await;
        }
    }

    /// Ends the session, and says whether it was not over before.
    fn close(&self, code: u32, reason: &str) -> bool {
        self.act(|state| match &mut state.session {
            Some(session) if !session.is_closed() => {
                session.close(code, reason, Closer::Local);
                true
            }
            _ => false,
        })
    }

    /// Drives the session until both ends know of its end.
    async fn drive(self: Arc<Self>) {
        let closed = poll_fn(|cx| {
            let polled = self.state().poll(cx);
            self.driven.notify_waiters();
            polled
        });
        let Some((session, end)) = closed.await else {
            return; // given up
        };
        self.tell_all();
        session.finish_closing().await;
        self.state().end = Some(end);
        self.tell_all();
    }

    fn tell_all(&self) {
        for stream in self.state().streams.values() {
            stream.changed.notify_waiters();
        }
        self.driven.notify_waiters();
    }
}

impl State {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<(transport::Session, End)>> {
        loop {
            self.driver = Some(cx.waker().clone());
            let Some(session) = &mut self.session else {
                return Poll::Ready(None);
            };
            if self.unread >= self.unread_max {
                return Poll::Pending;
            }
            match session.poll_event(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Event::Closed(closed)) => {
                    let end = match (closed.clean, closed.by) {
                        (false, _) => End::Lost,
                        (true, Closer::Peer) if (closed.code, &*closed.reason) != (0, "") => {
                            End::Close(closed.code, closed.reason)
                        }
                        (true, _) => End::Fin,
                    };
                    return Poll::Ready(self.session.take().map(|session| (session, end)));
                }
                Poll::Ready(event) => self.take(event),
            }
        }
    }

    fn take(&mut self, event: Event) {
        let gone = |code: Option<u32>| code.map_or(Gone::NoCode, Gone::Code);
        match event {
            Event::Opened(id) => {
                self.streams.insert(id, Stream::new(id.dir()));
                let kind = match id.dir() {
                    Dir::Bi => 0,
                    Dir::Uni => 1,
                };
                self.waiting[kind].push_back(id);
            }
            Event::Data { stream, data, fin } => {
                // What nobody reads was stopped, and is passed over.
                if let Some(stream) = self.changing(stream)
                    && stream.read
                {
                    stream.fin |= fin;
                    let size = data.len();
                    stream.chunks.push_back(data);
                    self.unread += size;
                }
            }
            Event::Reset(id, code) => {
                if let Some(stream) = self.changing(id) {
                    stream.given_up = Some(gone(code));
                }
            }
            Event::Stopped(id, code) => {
                if let Some(stream) = self.changing(id) {
                    stream.stopped = Some(gone(code));
                }
            }
            Event::Writable(id) => _ = self.changing(id),
            Event::Datagram(datagram) => {
                self.unread += datagram.len();
                self.datagrams.push_back(datagram);
            }
            Event::Draining => self.draining = true,
            Event::StreamClosed(_) => {}
            other => panic!("an event that is not known here: {other:?}"),
        }
    }

    /// A stream of which something is to be told, where somebody has it.
    fn changing(&mut self, id: StreamId) -> Option<&mut Stream> {
        let stream = self.streams.get_mut(&id)?;
        stream.changed.notify_waiters();
        Some(stream)
    }
}

impl Stream {
    fn new(dir: Dir) -> Self {
        Self {
            handles: match dir {
                Dir::Bi => 2,
                Dir::Uni => 1,
            },
            read: true,
            chunks: VecDeque::new(),
            fin: false,
            given_up: None,
            stopped: None,
            changed: Arc::default(),
        }
    }
}
