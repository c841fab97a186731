//! One HTTP/3 connection: its tasks, and the requests that come of it.
//!
//! Every task belongs to a [`Connection`] and ends with it.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use http::Method;
use tokio::{sync::mpsc, task::JoinSet};
use wharf_proto::{code::HttpCode, id::SessionId};

use super::{
    allowance::Grant,
    classify::Sorter,
    filter::FIELD_SECTION_SLACK,
    handover::handover,
    hold::Hold,
    inbox::Notice,
    quic_code,
    request::{Asked, Exchange, Incoming},
    ride::Running,
    settings::{Ours, PeerSettings},
    table::{Share, Table},
    tap::{Notes, RequestNote, Tap},
    window::Window,
};
use crate::transport::{
    HttpVersion, Limits, Request, Requested, Response, Role, head,
    phase::{Phase, Shared},
};

type Http3 = h3::server::Connection<Tap, Bytes>;

/// The transport parameters that keep a peer within the limits.
pub(super) fn transport_config(limits: &Limits) -> quinn::TransportConfig {
    let mut config = quinn::TransportConfig::default();
    let idle = quinn::IdleTimeout::try_from(limits.idle_timeout).ok();
    config
        .max_idle_timeout(idle)
        .keep_alive_interval(Some(limits.keep_alive))
        .receive_window(Window::first(Share::of(&limits.session)).granted())
        .stream_receive_window(limits.stream_receive_credit.into())
        .send_window(limits.connection_send_window)
        .datagram_receive_buffer_size(Some(1 << 20))
        .datagram_send_buffer_size(1 << 20)
        .mtu_discovery_config(Some(mtu_discovery()));
    Grant::first(limits).configure(&mut config);
    config
}

/// Has what Ethernet carries probed first, and half of what is then left where a path carries less: one probe for nearly
/// all paths, and one round trip, instead of four.
fn mtu_discovery() -> quinn::MtuDiscoveryConfig {
    const SMALLEST: u16 = 1200; // RFC 9000, "Datagram Size"
    const ETHERNET: u16 = 1500 - 40 - 8; // the headers of IPv6 and UDP
    let mut discovery = quinn::MtuDiscoveryConfig::default();
    // A first step to half-way would be too small.
    let too_small = (ETHERNET - SMALLEST) / 2 + 1;
    discovery.upper_bound(ETHERNET).minimum_change(too_small);
    discovery
}

/// A QUIC connection that is served: its requests come out of it, and its sessions live by it.
///
/// Made by [`Acceptor::accept`](super::Acceptor::accept). WebTransport streams and datagrams go to their sessions by
/// themselves, whether or not anybody asks for the next request.
///
/// # Drop
///
/// Dropping it closes the QUIC connection with H3_NO_ERROR and ends its tasks. Sessions that live then have lost their
/// peer: [`Event::Closed`](crate::transport::Event::Closed) is their last event, not clean.
pub struct Connection {
    requests: mpsc::Receiver<Box<Requested>>,
    conn: quinn::Connection,
    table: Arc<Table>,
    _serving: Running,
}

impl Connection {
    pub(super) fn new(conn: quinn::Connection, shared: Arc<Shared>, hold: Hold) -> Self {
        let limits = &shared.limits;
        let table = Arc::new(Table::new(limits));
        let (sender, requests) = mpsc::channel(limits.requests.max(1));
        let ride = hold.ride().clone();
        let serve = serve(conn.clone(), shared, table.clone(), hold, sender);
        Self {
            requests,
            conn,
            table,
            _serving: ride.run(Box::pin(serve)),
        }
    }

    /// The next request, as soon as its head is there; `None` once the connection is lost or closed. Requests are read
    /// side by side: one that is slow to come holds up no other.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no request.
    pub async fn next_request(&mut self) -> Option<Requested> {
        self.requests.recv().await.map(|requested| *requested)
    }

    /// Why the connection is lost or closed, if it is.
    pub(super) fn close_reason(&self) -> Option<quinn::ConnectionError> {
        self.conn.close_reason()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let notice = match self.conn.close_reason() {
            // Nobody else may have told the sessions yet.
            Some(error) => lost_notice(&error),
            None => Notice::Lost(0, "the host gave up the connection".to_owned()),
        };
        self.conn.close(quic_code(HttpCode::H3_NO_ERROR), b"");
        self.table.notify(&notice);
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("peer", &self.conn.remote_address())
            .finish_non_exhaustive()
    }
}

/// Serves a connection until it is lost or closed.
async fn serve(
    conn: quinn::Connection,
    shared: Arc<Shared>,
    table: Arc<Table>,
    hold: Hold,
    requested: mpsc::Sender<Box<Requested>>,
) {
    let limits = &shared.limits;
    let notes = Arc::new(Notes::default());
    let (giver, streams) = handover();
    let ours = Ours {
        sessions: limits.sessions_per_connection,
        field_section: limits.field_section,
        data: limits.session.session_receive_credit.into(),
        streams_uni: limits.session.streams_per_kind.into(),
        streams_bidi: limits.session.streams_per_kind.into(),
    };
    let tap = Tap::new(conn.clone(), ours.encode(), streams);
    let sorter = Sorter {
        role: Role::Server,
        conn: conn.clone(),
        table: table.clone(),
        notes: notes.clone(),
        http: giver,
        limits: limits.clone(),
    };
    let requests = Requests {
        conn: conn.clone(),
        shared: shared.clone(),
        table: table.clone(),
        notes,
        hold,
        requested,
    };
    let mut http = requests.start(tap).await;
    let lost = tokio::select! {
        lost = sorter.run() => lost,
        Some(_) = http.join_next() => conn.closed().await,
    };
    table.notify(&lost_notice(&lost));
}

fn server_name(conn: &quinn::Connection) -> Option<Arc<str>> {
    let data = conn.handshake_data()?;
    let data = data
        .downcast::<quinn::crypto::rustls::HandshakeData>()
        .ok()?;
    data.server_name.map(Into::into)
}

pub(super) fn lost_notice(error: &quinn::ConnectionError) -> Notice {
    let (code, reason) = match error {
        quinn::ConnectionError::ApplicationClosed(close) => {
            let code = wharf_proto::varint::VarInt::try_from(close.error_code.into_inner())
                .ok()
                .and_then(|code| wharf_proto::code::AppCode::from_http3(code.into()));
            (
                code.map_or(0, |code| code.0),
                String::from_utf8_lossy(&close.reason).into_owned(),
            )
        }
        other @ (quinn::ConnectionError::VersionMismatch
        | quinn::ConnectionError::TransportError(_)
        | quinn::ConnectionError::ConnectionClosed(_)
        | quinn::ConnectionError::Reset
        | quinn::ConnectionError::TimedOut
        | quinn::ConnectionError::LocallyClosed
        | quinn::ConnectionError::CidsExhausted) => (0, format!("connection lost: {other}")),
    };
    Notice::Lost(code, reason)
}

/// The requests of one connection.
struct Requests {
    conn: quinn::Connection,
    shared: Arc<Shared>,
    table: Arc<Table>,
    notes: Arc<Notes>,
    hold: Hold,
    requested: mpsc::Sender<Box<Requested>>,
}

impl Requests {
    /// Sends our SETTINGS, and reads requests in a task of its own, which sleeps while streams and datagrams come. It ends
    /// with what this gives, which is empty where the peer has no room for a control stream.
    async fn start(self, tap: Tap) -> JoinSet<()> {
        let limits = &self.shared.limits;
        // `h3` takes its own refusal of what is larger back by dropping the stream, so it has to take a little more.
        let section = FIELD_SECTION_SLACK + u64::from(limits.field_section);
        let mut builder = h3::server::builder();
        builder
            .enable_extended_connect(true)
            .enable_datagram(true)
            .max_field_section_size(section)
            .send_grease(false);
        // In a box, because it is large, and this task keeps room for all that it ever waits for.
        let built = Box::pin(builder.build(tap));
        // The handshake may be going on, which has a time of its own.
        let timeout = 2 * limits.setup_timeout;
        let mut task = JoinSet::new();
        match tokio::time::timeout(timeout, built).await {
            Ok(Ok(http)) => _ = task.spawn(self.run(Box::new(http))),
            Ok(Err(_)) | Err(_) => self.close(
                HttpCode::H3_GENERAL_PROTOCOL_ERROR,
                b"no room for a control stream",
            ),
        }
        task
    }

    /// Reads requests until `h3` has no more.
    async fn run(self, mut http: Box<Http3>) {
        let this = Arc::new(self);
        // Dropping the set ends the requests that are being read.
        let mut reading = JoinSet::new();
        let mut phase = this.shared.phase.subscribe();
        phase.mark_changed(); // a connection that comes late is told as well
        let mut goaway = this.notes.goaway.subscribe();
        loop {
            tokio::select! {
                request = http.accept() => match request {
                    Ok(Some(request)) => {
                        reading.spawn(this.clone().read(request));
                    }
                    Ok(None) | Err(_) => break,
                },
                Some(_) = reading.join_next() => {}
                Ok(()) = phase.changed() => {
                    let now = phase.borrow_and_update().clone();
                    this.enter(now, &mut http).await;
                }
                // A peer's GOAWAY asks each session to end (WebTransport over HTTP/3, "Session Termination").
                Ok(()) = goaway.changed() => this.table.notify(&Notice::PeerDrains),
                () = this.idle() => {
                    return this.close(HttpCode::H3_NO_ERROR, b"idle");
                }
            }
        }
        while reading.join_next().await.is_some() {}
        _ = this.conn.closed().await;
    }

    fn close(&self, code: HttpCode, reason: &[u8]) {
        self.conn.close(quic_code(code), reason);
    }

    async fn enter(&self, phase: Phase, http: &mut Http3) {
        match phase {
            Phase::Open | Phase::PeerDraining => {} // the peer's own word comes as a note
            Phase::Draining => {
                // A lost connection is found by `accept`.
                _ = http.shutdown(0).await;
                self.table.notify(&Notice::Drain);
            }
            Phase::Closing(code, reason) => self.table.notify(&Notice::Close(code, reason)),
        }
    }

    /// Ends when the connection has carried neither session nor request for a whole idle timeout: QUIC's own timer does
    /// not see that, because keep-alives go on.
    async fn idle(&self) {
        let mut quiet = false;
        loop {
            tokio::time::sleep(self.shared.limits.idle_timeout).await;
            let empty = self.table.is_empty();
            if empty && quiet {
                return;
            }
            quiet = empty;
        }
    }

    /// Reads a request's head and passes the request on for a decision, unless the protocol has decided.
    async fn read(self: Arc<Self>, request: h3::server::RequestResolver<Tap, Bytes>) {
        let Ok(id) = SessionId::try_from(request.frame_stream.id().into_inner()) else {
            return;
        };
        let mut asked = Asked::new(self.table.clone(), id);
        let timeout = self.shared.limits.setup_timeout;
        let Ok(Ok((head, stream))) = tokio::time::timeout(timeout, request.resolve_request()).await
        else {
            return;
        };
        asked.read(stream);
        let note = self.notes.take_request(id.into());
        let section_max = self.shared.limits.field_section.into();
        if head::section_size(&head, protocol(&head, &note)) > section_max {
            return asked.refuse(&Response::new(431)).await;
        }
        let requested = if *head.method() == Method::CONNECT {
            match self.connect(head, note, asked).await {
                Some(incoming) => Requested::Session(incoming.into()),
                None => return,
            }
        } else {
            Requested::Http(Exchange::new(head, self.conn.remote_address(), asked).into())
        };
        // Nobody takes requests any more when the host stops; dropping one rejects it.
        _ = self.requested.send(Box::new(requested)).await;
    }

    /// A request for a session, checked as far as the protocol goes.
    async fn connect(
        &self,
        head: http::Request<()>,
        note: RequestNote,
        mut asked: Asked,
    ) -> Option<Incoming> {
        let peer = self.conn.remote_address();
        let connect = match head::check(&head, protocol(&head, &note)) {
            Ok(connect) => connect,
            Err(refusal) => {
                tracing::debug!(%peer, %refusal, "CONNECT refused");
                asked.refuse(&Response::new(refusal.status())).await;
                return None;
            }
        };
        let Some(settings) = self.peer_settings().await else {
            asked.abort(HttpCode::H3_MISSING_SETTINGS);
            return None;
        };
        let version = settings.version(&connect);
        let draft = version.as_str();
        let path = &connect.path;
        if !settings.suffice(version) || self.conn.max_datagram_size().is_none() {
            tracing::debug!(%peer, path, draft, "CONNECT refused: the client's SETTINGS lack what its draft requires");
            asked.abort(HttpCode::H3_MESSAGE_ERROR);
            return None;
        }
        let limit = self.shared.limits.sessions_per_connection;
        let pooling = settings.pooling(version);
        let most = if pooling { limit } else { limit.min(1) };
        if !self.shared.is_open() {
            tracing::debug!(%peer, path, draft, "CONNECT refused: the server is draining");
            asked.abort(HttpCode::H3_REQUEST_REJECTED);
            return None;
        }
        if !self.table.decide(asked.id(), most) {
            tracing::debug!(%peer, path, draft, most, pooling, "CONNECT refused: too many sessions on the connection");
            asked.abort(HttpCode::H3_REQUEST_REJECTED);
            return None;
        }
        let request = Request {
            connect,
            peer,
            server_name: server_name(&self.conn),
            http: HttpVersion::Http3,
            role: Role::Server,
            draft,
        };
        Some(Incoming {
            request,
            note,
            flow_control: settings.flow_control(),
            codes: version.codes(),
            conn: self.conn.clone(),
            hold: self.hold.clone(),
            shared: self.shared.clone(),
            limits: self.shared.limits.session.clone(),
            asked,
        })
    }

    /// The peer's SETTINGS, waited for: no request for a session is processed before them (WebTransport over HTTP/3,
    /// "Negotiating the Draft Version").
    async fn peer_settings(&self) -> Option<PeerSettings> {
        let mut settings = self.notes.settings.subscribe();
        let timeout = self.shared.limits.setup_timeout;
        let wait = tokio::time::timeout(timeout, settings.wait_for(Option::is_some));
        wait.await.ok()?.ok()?.clone()
    }
}

/// A request's `:protocol`: what the tap has kept from `h3`, or what `h3` shows.
fn protocol<'a>(head: &'a http::Request<()>, note: &'a RequestNote) -> Option<&'a str> {
    let shown = head.extensions().get::<h3::ext::Protocol>();
    let token = note.token.as_deref();
    token.or(shown.map(h3::ext::Protocol::as_str))
}
