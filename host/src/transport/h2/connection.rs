//! One HTTP/2 connection: its requests, its end, and what its sessions share.

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use h2::{Reason, RecvStream, server::SendResponse};
use http::Method;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::{Notify, mpsc, watch},
    task::JoinSet,
};
use tokio_rustls::server::TlsStream;
use wharf_proto::{
    connect::{Init, Refusal, Token},
    mux::Chunks,
};

use super::{
    alive::{self, Rtt},
    request::{Asked, Exchange, Incoming},
    settings,
    tap::{Peer, Tap},
};
use crate::transport::{
    HttpVersion, Limits, Request, Requested, Response, Role, SessionLimits, head,
    phase::{Phase, Shared},
};

/// Room for what is not a stream's data: capsules of control, datagrams.
const WINDOW_SLACK: u64 = 64 << 10;
/// The largest window of HTTP/2 (RFC 9113, "The Flow-Control Window").
const WINDOW_MAX: u32 = (1 << 31) - 1;
/// Bytes that `h2` takes of one stream before TLS has taken them.
pub(super) const SEND_BUFFER: usize = 256 << 10;

type Http2<T> = h2::server::Connection<Tap<T>, Chunks>;

/// What derives keying material: the TLS of a connection.
pub(super) trait Exporter: Send + Sync {
    /// Says whether it did.
    fn export(&self, label: &[u8], context: &[u8], out: &mut [u8]) -> bool;
}

impl Exporter for Mutex<TlsStream<TcpStream>> {
    fn export(&self, label: &[u8], context: &[u8], out: &mut [u8]) -> bool {
        let tls = self.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, tls) = tls.get_ref();
        tls.export_keying_material(out, label, Some(context))
            .is_ok()
    }
}

impl Exporter for Mutex<tokio_rustls::client::TlsStream<TcpStream>> {
    fn export(&self, label: &[u8], context: &[u8], out: &mut [u8]) -> bool {
        let tls = self.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, tls) = tls.get_ref();
        tls.export_keying_material(out, label, Some(context))
            .is_ok()
    }
}

/// What a connection and its sessions share.
pub(super) struct Common {
    pub(super) limits: Arc<Limits>,
    /// What the host, or the peer by GOAWAY, wants of the sessions.
    pub(super) phase: watch::Sender<Phase>,
    pub(super) rtt: Rtt,
    /// Weak: who holds the TLS holds the connection open.
    pub(super) exporter: Weak<dyn Exporter>,
    /// Requests that live, sessions among them.
    requests: AtomicU32,
    sessions: AtomicU32,
    /// What the sessions' peer may send ahead, all together.
    ahead: AtomicU64,
    changed: Notify,
    life: watch::Sender<Life>,
}

/// Of a client's connection.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
enum Life {
    #[default]
    On,
    /// To be closed.
    Unwanted,
    Over,
}

impl Common {
    pub(super) fn new(limits: Arc<Limits>, exporter: Weak<dyn Exporter>) -> Self {
        Self {
            limits,
            phase: watch::Sender::default(),
            rtt: Rtt::default(),
            exporter,
            requests: AtomicU32::new(0),
            sessions: AtomicU32::new(0),
            ahead: AtomicU64::new(0),
            changed: Notify::new(),
            life: watch::Sender::default(),
        }
    }

    /// Has the connection closed.
    pub(super) fn close(&self) {
        self.life.send_if_modified(|life| {
            let on = *life == Life::On;
            if on {
                *life = Life::Unwanted;
            }
            on
        });
    }

    pub(super) async fn close_wanted(&self) {
        self.reached(|life| life != Life::On).await;
    }

    pub(super) fn ended(&self) {
        self.life.send_replace(Life::Over);
    }

    pub(super) async fn closed(&self) {
        self.reached(|life| life == Life::Over).await;
    }

    async fn reached(&self, wanted: impl Fn(Life) -> bool) {
        // The sender is here, so it is not gone.
        _ = self.life.subscribe().wait_for(|life| wanted(*life)).await;
    }

    fn is_idle(&self) -> bool {
        self.requests.load(Ordering::Relaxed) == 0
    }
}

/// A request's, or a session's, place among those of its connection.
pub(super) struct Place {
    pub(super) common: Arc<Common>,
    /// Of a session, what its peer may send ahead.
    ahead: Option<u64>,
}

impl Place {
    pub(super) fn new(common: &Arc<Common>) -> Self {
        common.requests.fetch_add(1, Ordering::Relaxed);
        Self {
            common: common.clone(),
            ahead: None,
        }
    }

    /// Counts as a session from now on, unless there are too many.
    fn begin(&mut self) -> bool {
        let limit = self.common.limits.sessions_per_connection;
        let sessions = &self.common.sessions;
        let begun = sessions
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| {
                (n < limit).then_some(n + 1)
            })
            .is_ok();
        if begun {
            let limits = self.common.limits.clone();
            self.limit(&limits.session);
        }
        begun
    }

    /// Lets the peer send as much ahead as the session may hold.
    pub(super) fn limit(&mut self, limits: &SessionLimits) {
        let ahead = share(limits);
        self.common.ahead.fetch_add(ahead, Ordering::Relaxed);
        let before = self.ahead.replace(ahead).unwrap_or(0);
        self.common.ahead.fetch_sub(before, Ordering::Relaxed);
        self.common.changed.notify_one();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.common.requests.fetch_sub(1, Ordering::Relaxed);
        if let Some(ahead) = self.ahead {
            self.common.sessions.fetch_sub(1, Ordering::Relaxed);
            self.common.ahead.fetch_sub(ahead, Ordering::Relaxed);
            self.common.changed.notify_one();
        }
    }
}

/// An HTTP/2 connection that is served: its requests come out of it, and its sessions live by it.
///
/// Made by [`Acceptor::accept`](super::Acceptor::accept).
///
/// # Drop
///
/// Dropping it closes the connection and ends its tasks. Sessions that live then have lost their peer:
/// [`Event::Closed`](crate::transport::Event::Closed) is their last event, not clean.
pub struct Connection {
    requests: mpsc::Receiver<Box<Requested>>,
    peer: SocketAddr,
    _serving: JoinSet<()>,
}

impl Connection {
    pub(super) fn new(tls: TlsStream<TcpStream>, peer: SocketAddr, shared: Arc<Shared>) -> Self {
        let (sender, requests) = mpsc::channel(shared.limits.requests.max(1));
        let server_name = tls.get_ref().1.server_name().map(Into::into);
        let tls = Arc::new(Mutex::new(tls));
        let (settings, _) = watch::channel(Peer::default());
        let extra = settings::encode(&shared.limits);
        let exporter: Arc<dyn Exporter> = tls.clone();
        let exporter = Arc::downgrade(&exporter);
        let tap = Tap::new(tls, Role::Server, extra, settings.clone());
        let serving = Serving {
            common: Arc::new(Common::new(shared.limits.clone(), exporter)),
            shared,
            settings,
            peer,
            server_name,
            requested: sender,
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::new(serving).run(tap));
        Self {
            requests,
            peer,
            _serving: tasks,
        }
    }

    /// The next request, as soon as its head is there; `None` once the connection is lost or closed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no request.
    pub async fn next_request(&mut self) -> Option<Requested> {
        self.requests.recv().await.map(|requested| *requested)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

struct Serving {
    common: Arc<Common>,
    shared: Arc<Shared>,
    settings: watch::Sender<Peer>,
    peer: SocketAddr,
    /// What the peer's TLS has asked for.
    server_name: Option<Arc<str>>,
    requested: mpsc::Sender<Box<Requested>>,
}

impl Serving {
    /// Serves the connection until it is lost or closed.
    async fn run<T>(self: Arc<Self>, tap: Tap<T>)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let limits = &self.shared.limits;
        let handshake = builder(limits).handshake(tap);
        let Ok(Ok(mut http)) = tokio::time::timeout(limits.setup_timeout, handshake).await else {
            return tracing::debug!(peer = %self.peer, "no HTTP/2 preface in time");
        };
        let Some(pings) = http.ping_pong() else {
            return;
        };
        let alive = alive::watch(
            pings,
            limits.keep_alive,
            limits.idle_timeout,
            &self.common.rtt,
        );
        tokio::select! {
            () = self.clone().requests(&mut http) => {}
            () = alive => tracing::debug!(peer = %self.peer, "connection lost: no answer to PING"),
        }
    }

    async fn requests<T>(self: Arc<Self>, http: &mut Http2<T>)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let mut phase = self.shared.phase.subscribe();
        phase.mark_changed(); // a connection that comes late is told as well
        let mut settings = self.settings.subscribe();
        // Dropping the set ends the requests that are being passed on.
        let mut passing = JoinSet::new();
        let most = streams(&self.shared.limits) as usize;
        let idle = self.idle();
        tokio::pin!(idle);
        loop {
            tokio::select! {
                accepted = http.accept() => match accepted {
                    // A peer that resets what it asked for may ask again, while the former request waits to be taken.
                    Some(Ok((_, mut respond))) if passing.len() >= most => {
                        respond.send_reset(Reason::REFUSED_STREAM);
                    }
                    Some(Ok((request, respond))) => {
                        passing.spawn(self.clone().pass_on(request, respond));
                    }
                    Some(Err(error)) => {
                        return tracing::debug!(peer = %self.peer, %error, "connection lost");
                    }
                    None => return,
                },
                Some(_) = passing.join_next() => {}
                Ok(()) = phase.changed() => {
                    let now = phase.borrow_and_update().clone();
                    if now != Phase::Open {
                        http.graceful_shutdown();
                        self.common.phase.send_replace(now);
                    }
                }
                Ok(()) = settings.changed() => {
                    if settings.borrow_and_update().goaway {
                        self.common.phase.send_if_modified(|phase| {
                            let open = *phase == Phase::Open;
                            if open {
                                *phase = Phase::PeerDraining;
                            }
                            open
                        });
                    }
                }
                () = self.common.changed.notified() => {
                    http.set_target_window_size(self.window());
                }
                () = &mut idle => {
                    http.abrupt_shutdown(Reason::NO_ERROR);
                    let closed = std::future::poll_fn(|cx| http.poll_closed(cx));
                    _ = tokio::time::timeout(self.shared.limits.close_timeout, closed).await;
                    return;
                }
            }
        }
    }

    /// What the peer may send ahead over all of its sessions.
    fn window(&self) -> u32 {
        let ahead = self.common.ahead.load(Ordering::Relaxed);
        window(ahead.max(share(&self.shared.limits.session)))
    }

    /// Ends when the connection has carried no request for a whole idle timeout.
    async fn idle(&self) {
        let mut quiet = false;
        loop {
            tokio::time::sleep(self.shared.limits.idle_timeout).await;
            let empty = self.common.is_idle();
            if empty && quiet {
                return;
            }
            quiet = empty;
        }
    }

    /// Passes a request on for a decision, unless the protocol has decided.
    async fn pass_on(
        self: Arc<Self>,
        request: http::Request<RecvStream>,
        respond: SendResponse<Chunks>,
    ) {
        let (parts, body) = request.into_parts();
        let head = http::Request::from_parts(parts, ());
        let asked = Asked::new(respond, body, Place::new(&self.common));
        let requested = if *head.method() == Method::CONNECT {
            match self.connect(&head, asked) {
                Some(incoming) => Requested::Session(incoming.into()),
                None => return,
            }
        } else {
            Requested::Http(Exchange::new(head, self.peer, asked).into())
        };
        // Nobody takes requests any more when the host stops; dropping one rejects it.
        _ = self.requested.send(Box::new(requested)).await;
    }

    /// A request for a session, checked as far as the protocol goes.
    fn connect(&self, head: &http::Request<()>, mut asked: Asked) -> Option<Incoming> {
        let peer = self.peer;
        let protocol = head.extensions().get::<h2::ext::Protocol>();
        let protocol = protocol.map(h2::ext::Protocol::as_str);
        let checked = head::check(head, protocol).and_then(|connect| {
            if connect.token != Token::WebTransport {
                return Err(Refusal::UnknownProtocol);
            }
            let init = Init::of(&connect.fields)?;
            Ok((connect, init))
        });
        let (connect, init) = match checked {
            Ok(checked) => checked,
            Err(refusal) => {
                tracing::debug!(%peer, %refusal, "CONNECT refused");
                asked.refuse(&Response::new(refusal.status()));
                return None;
            }
        };
        let path = &connect.path;
        if !self.shared.is_open() {
            tracing::debug!(%peer, path, "CONNECT refused: the server is draining");
            return None;
        }
        if !asked.place.begin() {
            let most = self.shared.limits.sessions_per_connection;
            tracing::debug!(%peer, path, most, "CONNECT refused: too many sessions on the connection");
            return None;
        }
        let grants = self.settings.borrow().settings.grants(init);
        let request = Request {
            connect,
            peer,
            server_name: self.server_name.clone(),
            http: HttpVersion::Http2,
            role: Role::Server,
            draft: "http2",
        };
        Some(Incoming::new(request, grants, self.shared.clone(), asked))
    }
}

/// The windows, and what else keeps a peer within the limits.
fn builder(limits: &Limits) -> h2::server::Builder {
    let mut builder = h2::server::Builder::new();
    builder
        .enable_connect_protocol()
        .max_concurrent_streams(streams(limits))
        .initial_window_size(stream_window(limits))
        .initial_connection_window_size(window(share(&limits.session)))
        .max_header_list_size(limits.field_section)
        .max_send_buffer_size(SEND_BUFFER)
        .data_frame_budget(limits.data_frame_budget);
    builder
}

/// How many streams a peer may hold open.
fn streams(limits: &Limits) -> u32 {
    limits
        .sessions_per_connection
        .saturating_add(limits.http_streams)
}

/// What a peer may send ahead in a session, in bytes.
pub(super) fn share(limits: &SessionLimits) -> u64 {
    u64::from(limits.session_receive_credit).saturating_add(WINDOW_SLACK)
}

/// The window of a connection whose sessions have so much together.
pub(super) fn window(share: u64) -> u32 {
    u32::try_from(share).map_or(WINDOW_MAX, |share| share.min(WINDOW_MAX))
}

/// The window of a stream, which is told before the limits of its session are known. Those hold none the less: what a
/// session takes in counts against its credit, and what waits for it against the connection's window.
pub(super) fn stream_window(limits: &Limits) -> u32 {
    let ahead = u64::from(limits.stream_receive_credit).saturating_add(WINDOW_SLACK);
    window(ahead.max(share(&limits.session)))
}
