//! One session type over both HTTP versions, and what is asked for before there is one.

use std::{
    fmt,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use wharf_proto::id::{Dir, StreamId};

use super::{
    Closer, CommandError, Event, HttpVersion, Info, Request, Response, SessionLimits, h2, h3,
};

/// A session, accepted.
///
/// Driven by [`next_event`](Self::next_event) until it has no more; or by [`poll_event`](Self::poll_event) until
/// [`Event::Closed`], then by [`finish_closing`](Self::finish_closing). It does nothing while nobody drives it. What may
/// be asked of it in between acts at once or says why not.
///
/// # Drop
///
/// Dropping it earlier aborts the session: the peer sees its CONNECT stream reset, and its streams.
#[derive(Debug)]
pub struct Session(Carried);

#[derive(Debug)]
enum Carried {
    Http3(Box<h3::Session>),
    Http2(Box<h2::Session>),
}

macro_rules! carried {
    ($this:expr, $session:ident => $call:expr) => {
        match $this {
            Carried::Http3($session) => $call,
            Carried::Http2($session) => $call,
        }
    };
}

impl Session {
    /// The HTTP version that carries the session.
    #[must_use]
    pub const fn http(&self) -> HttpVersion {
        match &self.0 {
            Carried::Http3(_) => HttpVersion::Http3,
            Carried::Http2(_) => HttpVersion::Http2,
        }
    }

    /// The id of its CONNECT stream.
    #[must_use]
    pub fn id(&self) -> u64 {
        carried!(&self.0, session => session.id())
    }

    /// The next event. The credit of the bytes in the last [`Event::Data`] goes back to the peer with this call.
    ///
    /// After [`Event::Closed`] it tells the peer what is left to tell, waits for that as
    /// [`finish_closing`](Self::finish_closing) does, and returns `None`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no event.
    pub async fn next_event(&mut self) -> Option<Event> {
        carried!(&mut self.0, session => session.next_event().await)
    }

    /// [`next_event`](Self::next_event) for who polls by hand. After [`Event::Closed`] there is none, for ever.
    pub fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        carried!(&mut self.0, session => session.poll_event(cx))
    }

    /// Tells the peer what is left to tell, and waits until it has ended the CONNECT stream too, at most
    /// [`Limits::close_timeout`](super::Limits::close_timeout).
    pub async fn finish_closing(self) {
        carried!(self.0, session => session.finish_closing().await);
    }

    /// Gives what ends the session, as by [`Closer::Host`], while another drives it. The last one given counts.
    pub fn stopper(&mut self) -> Stopper {
        match &mut self.0 {
            Carried::Http3(session) => Box::new(session.stopper()),
            Carried::Http2(session) => Box::new(session.stopper()),
        }
    }

    /// Gives what a task drives the session by, so that what one of its polls sends goes out together.
    pub(crate) fn turns(&self) -> Turns {
        Turns(match &self.0 {
            Carried::Http3(session) => Some(session.hold()),
            Carried::Http2(_) => None, // its connection's task sends, and contends with nobody
        })
    }

    /// Opens a stream. The peer learns of it before any data.
    ///
    /// # Errors
    ///
    /// `StreamLimit`, where the session, the connection or the host allows no other; `Draining`; `Closed`.
    pub fn open(&mut self, dir: Dir) -> Result<StreamId, CommandError> {
        carried!(&mut self.0, session => session.open(dir))
    }

    /// Sends bytes, and FIN after them where `fin` is set: all or nothing.
    ///
    /// # Errors
    ///
    /// `WouldBlock`, where the buffer of the stream or of the session has no room; [`Event::Writable`] follows. `TooLarge`,
    /// where it is more than the whole [room](Self::set_room). `UnknownStream`, `WrongDirection`, `Finished`, `Reset`, `Closed`.
    pub fn send(&mut self, stream: StreamId, data: Bytes, fin: bool) -> Result<(), CommandError> {
        carried!(&mut self.0, session => session.send(stream, data, fin))
    }

    /// How many bytes [`send`](Self::send) would take now, within the limits. An empty buffer takes more.
    ///
    /// # Errors
    ///
    /// `UnknownStream`, `WrongDirection`, `Finished`, `Reset`, `Closed`.
    pub fn send_capacity(&mut self, stream: StreamId) -> Result<u64, CommandError> {
        carried!(&mut self.0, session => session.send_capacity(stream))
    }

    /// Sets how many bytes the send buffers may come to by what is sent from now on, beside
    /// [`SessionLimits::session_send_buffer`]: the lower counts. Unlike that, it counts for the largest [`send`](Self::send)
    /// too. What waits already stays. Without limit at first.
    ///
    /// Where the room becomes too small for what was refused, [`Event::Writable`] follows as well, and the next attempt says
    /// `TooLarge`.
    pub fn set_room(&mut self, bytes: usize) {
        carried!(&mut self.0, session => session.set_room(bytes));
    }

    /// Bytes that are held for the session now: send buffers, what was read and not given out, what was given out last, and
    /// datagrams in both directions. What QUIC, TLS and TCP hold is their connection's, within its windows.
    #[must_use]
    pub fn held(&self) -> usize {
        carried!(&self.0, session => session.held())
    }

    /// Ends the sending direction with FIN, after what was sent before.
    ///
    /// # Errors
    ///
    /// `UnknownStream`, `WrongDirection`, `Finished`, `Reset`, `Closed`.
    pub fn finish(&mut self, stream: StreamId) -> Result<(), CommandError> {
        carried!(&mut self.0, session => session.finish(stream))
    }

    /// Gives up the sending direction.
    ///
    /// # Errors
    ///
    /// `UnknownStream`, `WrongDirection`, `Finished` when all was handed to the transport, `Reset` when done before,
    /// `Closed`.
    pub fn reset(&mut self, stream: StreamId, code: u32) -> Result<(), CommandError> {
        carried!(&mut self.0, session => session.reset(stream, code))
    }

    /// Gives up the receiving direction.
    ///
    /// # Errors
    ///
    /// `UnknownStream`, `WrongDirection`, `Finished`, `Reset` when done before, `Closed`.
    pub fn stop(&mut self, stream: StreamId, code: u32) -> Result<(), CommandError> {
        carried!(&mut self.0, session => session.stop(stream, code))
    }

    /// Sets a stream's priority: among those of the connection over HTTP/3, of the session over HTTP/2. Higher goes
    /// first, 0 is the default.
    ///
    /// # Errors
    ///
    /// `UnknownStream`, `WrongDirection`, `Finished`, `Reset`, `Closed`.
    pub fn set_priority(&mut self, stream: StreamId, priority: i32) -> Result<(), CommandError> {
        carried!(&mut self.0, session => session.set_priority(stream, priority))
    }

    /// Sends a datagram. Where the queue is full the oldest in it is dropped and counted.
    ///
    /// # Errors
    ///
    /// `TooLarge`, `Unsupported` where the peer takes none, `Closed`.
    pub fn send_datagram(&mut self, payload: &[u8]) -> Result<(), CommandError> {
        self.send_datagram_in(payload, &mut BytesMut::new())
    }

    /// The same, in memory that is taken from there, if it suffices. What is left there is of use for the next datagrams
    /// that are sent with this one, which live as long.
    pub(crate) fn send_datagram_in(
        &mut self,
        payload: &[u8],
        memory: &mut BytesMut,
    ) -> Result<(), CommandError> {
        match &mut self.0 {
            Carried::Http3(session) => session.send_datagram(payload, memory),
            Carried::Http2(session) => session.send_datagram(payload),
        }
    }

    /// Takes datagrams that come next, without an event for each, for as long as `take` takes them. There may be more
    /// after that, as events.
    pub(crate) fn take_datagrams(&mut self, take: impl FnMut(&Bytes) -> bool) {
        match &mut self.0 {
            Carried::Http3(session) => session.take_datagrams(take),
            Carried::Http2(_) => {}
        }
    }

    /// Asks the peer to bring the session to its end, and opens no further streams. It closes with code 0 when its last
    /// stream ends.
    pub fn drain(&mut self) {
        carried!(&mut self.0, session => session.drain());
    }

    /// Ends the session. A second call does nothing. [`Event::Closed`] follows.
    pub fn close(&mut self, code: u32, reason: &str, by: Closer) {
        carried!(&mut self.0, session => session.close(code, reason, by));
    }

    /// Whether the session is over, told or not.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        carried!(&self.0, session => session.is_closed())
    }

    /// Whether the last event was given out.
    #[must_use]
    pub fn is_told(&self) -> bool {
        carried!(&self.0, session => session.is_told())
    }

    /// A snapshot without what the connection must be asked for, round-trip time and datagram size: a few loads.
    #[must_use]
    pub(crate) fn counts(&self) -> Info {
        carried!(&self.0, session => session.counts())
    }

    /// A snapshot.
    #[must_use]
    pub fn info(&self) -> Info {
        carried!(&self.0, session => session.info())
    }

    /// Derives keying material that only the two ends of the session know.
    ///
    /// # Errors
    ///
    /// `TooLarge` where `label` or `context` is longer than 255 bytes, or `out` longer than TLS derives;
    /// `Closed` where the connection is lost.
    pub fn export_keying_material(
        &self,
        label: &[u8],
        context: &[u8],
        out: &mut [u8],
    ) -> Result<(), CommandError> {
        carried!(&self.0, session => session.export_keying_material(label, context, out))
    }
}

impl From<h3::Session> for Session {
    fn from(session: h3::Session) -> Self {
        Self(Carried::Http3(Box::new(session)))
    }
}

impl From<h2::Session> for Session {
    fn from(session: h2::Session) -> Self {
        Self(Carried::Http2(Box::new(session)))
    }
}

/// How a task drives a session in turns: what it does between two times that it waits.
pub(crate) struct Turns(Option<h3::Hold>);

impl Turns {
    /// Runs the future that drives the session, whose polls are to be short: its connection sends when one is over.
    pub(crate) async fn run<T>(self, task: Pin<&mut impl Future<Output = T>>) -> T {
        match self.0 {
            Some(hold) => hold.turns(task).await,
            None => task.await,
        }
    }
}

/// Ends a session from elsewhere, with a code and a reason.
pub type Stopper = Box<dyn FnOnce(u32, &str) + Send>;

/// A session that is asked for, and waits for a decision: [`accept`](Self::accept) or [`refuse`](Self::refuse).
///
/// # Drop
///
/// Dropping it rejects the request: H3_REQUEST_REJECTED, REFUSED_STREAM.
#[derive(Debug)]
pub struct Incoming(Asking);

#[derive(Debug)]
enum Asking {
    Http3(Box<h3::Incoming>),
    Http2(Box<h2::Incoming>),
}

impl Incoming {
    /// What is asked for.
    #[must_use]
    pub fn request(&self) -> &Request {
        match &self.0 {
            Asking::Http3(incoming) => incoming.request(),
            Asking::Http2(incoming) => incoming.request(),
        }
    }

    /// Has the peer's deviations from the drafts borne with. Without effect over HTTP/3.
    pub fn bear_with(&mut self, quirks: super::Quirks) {
        if let Asking::Http2(incoming) = &mut self.0 {
            incoming.bear_with(quirks);
        }
    }

    /// Gives the session limits of its own, instead of [`Limits::session`](super::Limits::session). Credit that the peer
    /// was told of before it asked is not taken back, so less of that than there has no effect.
    pub fn limit(&mut self, limits: SessionLimits) {
        match &mut self.0 {
            Asking::Http3(incoming) => incoming.limit(limits),
            Asking::Http2(incoming) => incoming.limit(limits),
        }
    }

    /// Begins the session with a response of status 200 to 299.
    ///
    /// # Errors
    ///
    /// When the host drains, the peer is gone, or the response cannot be sent: its status is another, a field is
    /// malformed, or its protocol was not offered. The request is then rejected.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future rejects the request, or resets its stream where the response was on its way.
    pub async fn accept(self, response: &Response) -> anyhow::Result<Session> {
        match self.0 {
            Asking::Http3(incoming) => incoming.accept(response).await.map(Into::into),
            Asking::Http2(incoming) => incoming.accept(response).map(Into::into),
        }
    }

    /// Refuses the session with a status from 300 to 599, and waits until the transport has taken the response.
    pub async fn refuse(self, response: &Response) {
        match self.0 {
            Asking::Http3(incoming) => incoming.refuse(response).await,
            Asking::Http2(incoming) => incoming.refuse(response),
        }
    }
}

impl From<h3::Incoming> for Incoming {
    fn from(incoming: h3::Incoming) -> Self {
        Self(Asking::Http3(Box::new(incoming)))
    }
}

impl From<h2::Incoming> for Incoming {
    fn from(incoming: h2::Incoming) -> Self {
        Self(Asking::Http2(Box::new(incoming)))
    }
}

/// An ordinary request of HTTP, and the response that is due to it.
///
/// # Drop
///
/// Dropping it rejects the request: H3_REQUEST_REJECTED, REFUSED_STREAM.
pub struct Exchange(Asked);

enum Asked {
    Http3(Box<h3::Exchange>),
    Http2(Box<h2::Exchange>),
}

impl Exchange {
    /// The request's head.
    #[must_use]
    pub fn request(&self) -> &http::Request<()> {
        match &self.0 {
            Asked::Http3(exchange) => exchange.request(),
            Asked::Http2(exchange) => exchange.request(),
        }
    }

    /// The peer's address.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        match &self.0 {
            Asked::Http3(exchange) => exchange.peer(),
            Asked::Http2(exchange) => exchange.peer(),
        }
    }

    /// Reads what is left of the request's body, at most `bytes_max`. Who does not call it has the peer stopped from
    /// sending one by [`respond`](Self::respond).
    ///
    /// # Errors
    ///
    /// When the body is longer, or the peer gave up.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses what it has read of the body; the exchange can still be responded to.
    pub async fn body(&mut self, bytes_max: usize) -> anyhow::Result<Bytes> {
        match &mut self.0 {
            Asked::Http3(exchange) => exchange.body(bytes_max).await,
            Asked::Http2(exchange) => exchange.body(bytes_max).await,
        }
    }

    /// Sends the whole response, and waits until the transport has taken it; a peer that is gone goes without. The
    /// caller says how long that may take, by a timeout.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future resets the stream, so that a response cut short does not look whole.
    pub async fn respond(self, response: http::Response<Bytes>) {
        match self.0 {
            Asked::Http3(exchange) => exchange.respond(response).await,
            Asked::Http2(exchange) => exchange.respond(response).await,
        }
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange")
            .field("request", self.request())
            .field("peer", &self.peer())
            .finish_non_exhaustive()
    }
}

impl From<h3::Exchange> for Exchange {
    fn from(exchange: h3::Exchange) -> Self {
        Self(Asked::Http3(Box::new(exchange)))
    }
}

impl From<h2::Exchange> for Exchange {
    fn from(exchange: h2::Exchange) -> Self {
        Self(Asked::Http2(Box::new(exchange)))
    }
}
