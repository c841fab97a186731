//! One HTTP/3 connection: its tasks, its requests, and the sessions that come of them.
//!
//! Every task belongs to the future of [`serve`] and ends with it.

use std::{fmt, sync::Arc, time::Duration};

use anyhow::Context as _;
use bytes::Bytes;
use h3::server::RequestStream;
use http::{Method, StatusCode};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use wharf_proto::{
    code::{AppCodes, HttpCode},
    connect::{Head, ProtocolForm, Refusal, encode_protocol},
    id::SessionId,
    session as proto,
};

use super::{
    classify::Sorter,
    connect::ConnectStream,
    inbox::Notice,
    quic_code,
    session::Session,
    settings::{Ours, PeerSettings},
    table::Table,
    tap::{Bidi, Notes, RequestNote, Tap},
};
use crate::transport::{HttpVersion, Limits, Request, Response};

/// Streams on their way from the classifier to `h3`.
const H3_QUEUE: usize = 16;
/// Streams besides WebTransport's that a peer may hold open, each kind: control and QPACK streams, plain requests.
const HTTP_STREAMS: u32 = 32;

type Http3 = h3::server::Connection<Tap, Bytes>;
type Exchange = RequestStream<Bidi, Bytes>;

/// What the host tells all of its connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// New sessions are welcome.
    #[default]
    Open,
    /// No new sessions; those that live are asked to end.
    Draining,
    /// Those that live are closed.
    Closing,
}

/// What every connection of a listener shares.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) limits: Arc<Limits>,
    /// Where sessions that are asked for go, to be accepted or refused.
    pub(super) incoming: mpsc::Sender<Incoming>,
    pub(super) phase: watch::Receiver<Phase>,
    /// The close code and reason of [`Phase::Closing`].
    pub(super) shutdown: (u32, &'static str),
}

/// The transport parameters that keep a peer within the limits.
pub(super) fn transport_config(limits: &Limits) -> quinn::TransportConfig {
    let mut config = quinn::TransportConfig::default();
    let idle = quinn::IdleTimeout::try_from(limits.idle_timeout).ok();
    config
        .max_idle_timeout(idle)
        .keep_alive_interval(Some(limits.keep_alive))
        .stream_receive_window(limits.stream_receive_credit.into())
        .send_window(limits.connection_send_window)
        .datagram_receive_buffer_size(Some(1 << 20))
        .datagram_send_buffer_size(1 << 20);
    let one = Allowance::new(limits, 1);
    config
        .receive_window(one.receive_window)
        .max_concurrent_bidi_streams(one.streams)
        .max_concurrent_uni_streams(one.streams);
    config
}

/// What QUIC allows the peer over all of a connection's sessions.
struct Allowance {
    receive_window: quinn::VarInt,
    streams: quinn::VarInt,
}

impl Allowance {
    fn new(limits: &Limits, sessions: u32) -> Self {
        let bytes = u64::from(limits.session_receive_credit).saturating_mul(sessions.into());
        // A header and an idle control stream must always find room.
        let bytes = bytes.saturating_add(64 << 10);
        let streams = limits
            .streams_per_kind
            .saturating_add(1)
            .saturating_mul(sessions);
        Self {
            receive_window: quinn::VarInt::from_u64(bytes).unwrap_or(quinn::VarInt::MAX),
            streams: streams.saturating_add(HTTP_STREAMS).into(),
        }
    }

    /// Lets the peer use as much as that many sessions may. QUIC takes nothing back that was granted before.
    fn apply(&self, conn: &quinn::Connection) {
        conn.set_receive_window(self.receive_window);
        conn.set_max_concurrent_bi_streams(self.streams);
        conn.set_max_concurrent_uni_streams(self.streams);
    }
}

/// Serves a connection until it is lost or closed.
pub(super) async fn serve(conn: quinn::Connection, shared: Arc<Shared>) {
    let limits = &shared.limits;
    let table = Arc::new(Table::new(
        limits.early_streams,
        limits.early_datagrams,
        limits.setup_timeout,
    ));
    let notes = Arc::new(Notes::default());
    let (uni, uni_streams) = mpsc::channel(H3_QUEUE);
    let (bidi, bidi_streams) = mpsc::channel(H3_QUEUE);
    let ours = Ours {
        sessions: limits.sessions_per_connection,
        field_section: limits.field_section,
        data: limits.session_receive_credit.into(),
        streams_uni: limits.streams_per_kind.into(),
        streams_bidi: limits.streams_per_kind.into(),
    };
    let tap = Tap::new(conn.clone(), ours.encode(), uni_streams, bidi_streams);
    let sorter = Sorter {
        conn: conn.clone(),
        table: table.clone(),
        notes: notes.clone(),
        uni,
        bidi,
        field_section: limits.field_section,
        setup_timeout: limits.setup_timeout,
    };
    let requests = Requests {
        conn: conn.clone(),
        shared: shared.clone(),
        table: table.clone(),
        notes,
    };
    let lost = tokio::select! {
        biased; // `h3` closes a connection that was lost, and then nobody can say why
        lost = sorter.run() => lost,
        () = requests.run(tap) => conn.closed().await,
    };
    table.notify(&lost_notice(&lost));
}

fn lost_notice(error: &quinn::ConnectionError) -> Notice {
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
}

impl Requests {
    /// Answers requests until `h3` has no more.
    async fn run(self, tap: Tap) {
        let this = Arc::new(self);
        let limits = &this.shared.limits;
        let mut builder = h3::server::builder();
        builder
            .enable_extended_connect(true)
            .enable_datagram(true)
            .max_field_section_size(limits.field_section.into())
            .send_grease(false);
        let Ok(Ok(mut http)) = tokio::time::timeout(limits.setup_timeout, builder.build(tap)).await
        else {
            return this.close(
                HttpCode::H3_GENERAL_PROTOCOL_ERROR,
                b"no room for a control stream",
            );
        };
        // Dropping the set ends the requests that are being answered.
        let mut answering = JoinSet::new();
        let mut phase = this.shared.phase.clone();
        let mut goaway = this.notes.goaway.subscribe();
        loop {
            tokio::select! {
                request = http.accept() => match request {
                    Ok(Some(request)) => {
                        let this = this.clone();
                        answering.spawn(async move { this.answer(request).await });
                    }
                    Ok(None) | Err(_) => break,
                },
                Some(_) = answering.join_next() => {}
                Ok(()) = phase.changed() => {
                    let now = *phase.borrow_and_update();
                    this.enter(now, &mut http).await;
                }
                // A peer's GOAWAY asks each session to end (WebTransport over HTTP/3, "Session Termination").
                Ok(()) = goaway.changed() => this.table.notify(&Notice::Drain),
                () = this.idle() => {
                    return this.close(HttpCode::H3_NO_ERROR, b"idle");
                }
            }
        }
        while answering.join_next().await.is_some() {}
        _ = this.conn.closed().await;
    }

    fn close(&self, code: HttpCode, reason: &[u8]) {
        self.conn.close(quic_code(code), reason);
    }

    async fn enter(&self, phase: Phase, http: &mut Http3) {
        match phase {
            Phase::Open => {}
            Phase::Draining => {
                // A lost connection is found by `accept`.
                _ = http.shutdown(0).await;
                self.table.notify(&Notice::Drain);
            }
            Phase::Closing => {
                let (code, reason) = self.shared.shutdown;
                self.table.notify(&Notice::Close(code, reason.to_owned()));
            }
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

    async fn answer(self: Arc<Self>, request: h3::server::RequestResolver<Tap, Bytes>) {
        let timeout = self.shared.limits.setup_timeout;
        let Ok(id) = SessionId::try_from(request.frame_stream.id().into_inner()) else {
            return;
        };
        let mut asked = Asked {
            table: self.table.clone(),
            id,
            exchange: None,
            begun: false,
        };
        let Ok(Ok((head, exchange))) =
            tokio::time::timeout(timeout, request.resolve_request()).await
        else {
            return;
        };
        let mut note = self.notes.take_request(id.into());
        let head = Parts {
            token: note.token.take().or_else(|| {
                let protocol = head.extensions().get::<h3::ext::Protocol>();
                protocol.map(|protocol| protocol.as_str().to_owned())
            }),
            head,
        };
        if *head.head.method() == Method::CONNECT {
            asked.exchange = Some(exchange);
            self.connect(head, note, asked).await;
        } else {
            plain(&head.head, exchange).await;
        }
    }

    /// A request for a session: checked as far as the protocol goes, then passed on for a decision.
    async fn connect(&self, head: Parts, note: RequestNote, mut asked: Asked) {
        let peer = self.conn.remote_address();
        let connect = match head.check() {
            Ok(connect) => connect,
            Err(refusal) => {
                tracing::debug!(%peer, %refusal, "CONNECT refused");
                let status = refusal.status();
                return asked
                    .refuse(&Response {
                        status,
                        ..Response::default()
                    })
                    .await;
            }
        };
        let Some(settings) = self.peer_settings().await else {
            return asked.abort(HttpCode::H3_MISSING_SETTINGS);
        };
        let version = settings.version(&connect);
        let draft = version.as_str();
        let path = &connect.path;
        if !settings.suffice(version) || self.conn.max_datagram_size().is_none() {
            tracing::debug!(%peer, path, draft, "CONNECT refused: the client's SETTINGS lack what its draft requires");
            return asked.abort(HttpCode::H3_MESSAGE_ERROR);
        }
        let limit = self.shared.limits.sessions_per_connection;
        let pooling = settings.pooling(version);
        let most = if pooling { limit } else { limit.min(1) };
        if *self.shared.phase.borrow() != Phase::Open {
            tracing::debug!(%peer, path, draft, "CONNECT refused: the server is draining");
            return asked.abort(HttpCode::H3_REQUEST_REJECTED);
        }
        if !self.table.decide(asked.id, most) {
            tracing::debug!(%peer, path, draft, most, pooling, "CONNECT refused: too many sessions on the connection");
            return asked.abort(HttpCode::H3_REQUEST_REJECTED);
        }
        let incoming = Incoming {
            request: Request {
                connect,
                peer,
                http: HttpVersion::Http3,
                draft,
            },
            note,
            flow_control: settings.flow_control(),
            codes: version.codes(),
            conn: self.conn.clone(),
            limits: self.shared.limits.clone(),
            asked,
        };
        // The receiver is gone when the host stops; dropping what was asked refuses it.
        _ = self.shared.incoming.send(incoming).await;
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

/// A request for a session and its place in the session table. Dropping it undecided rejects the request.
struct Asked {
    table: Arc<Table>,
    id: SessionId,
    /// `None` before the request is read, and after it was decided.
    exchange: Option<Exchange>,
    /// Whether a session came of it, which keeps its place.
    begun: bool,
}

impl Asked {
    async fn refuse(&mut self, response: &Response) {
        let Some(mut exchange) = self.exchange.take() else {
            return;
        };
        let Ok(head) = http_response(response, ProtocolForm::default()) else {
            return abort(exchange, HttpCode::H3_INTERNAL_ERROR);
        };
        // A peer that is gone needs no answer.
        if exchange.send_response(head).await.is_ok() {
            _ = exchange.finish().await;
        }
        exchange.stop_sending(h3::error::Code::H3_NO_ERROR);
    }

    fn abort(&mut self, code: HttpCode) {
        if let Some(exchange) = self.exchange.take() {
            abort(exchange, code);
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if !self.begun {
            self.abort(HttpCode::H3_REQUEST_REJECTED);
            self.table.end(self.id);
        }
    }
}

fn abort(mut exchange: Exchange, code: HttpCode) {
    let code = h3::error::Code::from(code.into_inner());
    exchange.stop_stream(code);
    exchange.stop_sending(code);
}

/// A request's head with its true `:protocol`.
struct Parts {
    head: http::Request<()>,
    token: Option<String>,
}

impl Parts {
    fn check(&self) -> Result<wharf_proto::connect::Request, Refusal> {
        let uri = self.head.uri();
        let fields = self.head.headers().iter();
        Head {
            method: self.head.method().as_str(),
            scheme: uri.scheme_str(),
            authority: uri.authority().map(http::uri::Authority::as_str),
            path: uri.path_and_query().map(http::uri::PathAndQuery::as_str),
            protocol: self.token.as_deref(),
            fields: fields
                .map(|(name, value)| (name.as_str(), value.as_bytes()))
                .collect(),
        }
        .check()
    }
}

/// A session that is asked for. Dropping it rejects it.
pub struct Incoming {
    request: Request,
    note: RequestNote,
    flow_control: Option<proto::Limits>,
    codes: AppCodes,
    conn: quinn::Connection,
    limits: Arc<Limits>,
    asked: Asked,
}

impl Incoming {
    /// What is asked for.
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// Begins the session with a 2xx response.
    ///
    /// # Errors
    ///
    /// When the peer is gone, or a field of the response cannot be sent.
    pub async fn accept(mut self, response: &Response) -> anyhow::Result<Session> {
        let head = http_response(response, self.request.connect.protocol_form)?;
        let mut exchange = self
            .asked
            .exchange
            .take()
            .context("the request was decided before")?;
        exchange.send_response(head).await?;
        self.asked.begun = true;
        let limits = &self.limits;
        let core = proto::Session::new(proto::Config {
            local: proto::Limits {
                data: limits.session_receive_credit.into(),
                streams_bidi: limits.streams_per_kind.into(),
                streams_uni: limits.streams_per_kind.into(),
            },
            peer: self.flow_control,
            datagram_bytes_max: usize::from(u16::MAX),
        });
        Allowance::new(limits, self.asked.table.count()).apply(&self.conn);
        Ok(Session::new(
            self.asked.id,
            self.conn,
            self.limits,
            self.codes,
            core,
            ConnectStream::new(exchange, self.note),
            self.asked.table.clone(),
        ))
    }

    /// Refuses the session with a status from 300 on.
    pub async fn refuse(mut self, response: &Response) {
        self.asked.refuse(response).await;
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("request", &self.request)
            .finish_non_exhaustive()
    }
}

fn http_response(response: &Response, form: ProtocolForm) -> anyhow::Result<http::Response<()>> {
    let mut head = http::Response::builder().status(response.status);
    for (name, value) in &response.fields {
        head = head.header(name, &value[..]);
    }
    if let Some(protocol) = &response.protocol {
        let value = encode_protocol(protocol, form).context("the protocol cannot be written")?;
        head = head.header("wt-protocol", value);
    }
    Ok(head.body(())?)
}

/// Answers a request that asks for no session: a word for probes, or 404.
async fn plain(head: &http::Request<()>, mut exchange: Exchange) {
    const TIMEOUT: Duration = Duration::from_secs(5);
    let known = matches!(head.uri().path(), "/" | "/live");
    let (status, body): (_, &'static [u8]) = match (head.method(), known) {
        (&Method::GET, true) => (
            StatusCode::OK,
            b"wharf is up; sessions begin with CONNECT\n",
        ),
        (&Method::HEAD, true) => (StatusCode::OK, b""),
        (&Method::GET | &Method::HEAD, false) => (StatusCode::NOT_FOUND, b""),
        _ => (StatusCode::METHOD_NOT_ALLOWED, b""),
    };
    let answer = async {
        let mut response = http::Response::new(());
        *response.status_mut() = status;
        exchange.send_response(response).await?;
        if !body.is_empty() {
            exchange.send_data(Bytes::from_static(body)).await?;
        }
        exchange.stop_sending(h3::error::Code::H3_NO_ERROR);
        exchange.finish().await
    };
    // A peer that does not take the answer in time goes without.
    _ = tokio::time::timeout(TIMEOUT, answer).await;
}
