//! The client's end: one QUIC connection for each session that is asked for.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use h3::{error::StreamError, quic};
use quinn::crypto::rustls::QuicClientConfig;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout_at},
};
use wharf_proto::{code::HttpCode, connect::Token, id::SessionId};

use super::{
    ALPN,
    body::Body,
    classify::Sorter,
    connect::ConnectStream,
    connection::{lost_notice, transport_config},
    filter::Filter,
    handover::handover,
    inbox::Notice,
    quic_code,
    request::DRAFT_02,
    session::{Session, Terms},
    settings::{Ours, PeerSettings, Version},
    table::Table,
    tap::{Bidi, Notes, Opener, RecvSide, Tap},
};
use crate::transport::{
    HttpVersion, Limits, Request, Response, Role,
    client::{Ask, ConnectError, Connected, first_answer, read_response},
};

/// How long the last packets of a connection are given.
const LAST_PACKETS: Duration = Duration::from_secs(1);

type SendRequest = h3::client::SendRequest<Opener, Bytes>;
type Http3 = h3::client::Connection<Tap, Bytes>;
type RequestStream = h3::client::RequestStream<Bidi, Bytes>;

/// Asks for a session at the first of the addresses that answers. All of it together may take
/// [`Limits::setup_timeout`].
///
/// # Errors
///
/// Why there is no session.
///
/// # Cancel safety
///
/// Dropping the future closes the connection.
pub(in crate::transport) async fn connect(
    addresses: &[SocketAddr],
    server_name: &str,
    tls: rustls::ClientConfig,
    ask: &Ask,
    limits: &Limits,
) -> Result<Connected, ConnectError> {
    let until = Instant::now() + limits.setup_timeout;
    let config = client_config(tls, limits)?;
    let limits = &Arc::new(limits.clone());
    let late = |what| format!("{what} within {:?}", limits.setup_timeout);
    let beginning = async {
        let dial = |address| dial(address, server_name, config.clone());
        let carrier = first_answer(addresses, dial).await?;
        Asking::begin(carrier, limits).await
    };
    let mut asking = match timeout_at(until, beginning).await {
        Ok(asking) => asking?,
        Err(_) => return Err(ConnectError::Unreachable(late("no answer"))),
    };
    let response = match timeout_at(until, asking.ask(ask)).await {
        Ok(response) => response,
        Err(_) => Err(ConnectError::Aborted(late("no response"))),
    };
    match response {
        Ok(begun) => Ok(asking.begun(begun, limits)),
        Err(error) => {
            let code = match error {
                ConnectError::ForeignProtocol(_) => HttpCode::WT_ALPN_ERROR,
                ConnectError::Refused(_)
                | ConnectError::Invalid(_)
                | ConnectError::Unreachable(_)
                | ConnectError::Aborted(_) => HttpCode::H3_NO_ERROR,
            };
            asking.carrier.close(code).await;
            Err(error)
        }
    }
}

fn client_config(
    mut tls: rustls::ClientConfig,
    limits: &Limits,
) -> Result<quinn::ClientConfig, ConnectError> {
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.enable_early_data = false;
    let crypto = QuicClientConfig::try_from(tls)
        .map_err(|_| ConnectError::Invalid("TLS 1.3 is needed for QUIC".to_owned()))?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport_config(limits)));
    Ok(config)
}

async fn dial(
    address: SocketAddr,
    server_name: &str,
    config: quinn::ClientConfig,
) -> Result<Carrier, String> {
    let local: SocketAddr = if address.is_ipv4() {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let connecting = async {
        let endpoint = quinn::Endpoint::client(local)?;
        let conn = endpoint.connect_with(config, address, server_name)?.await?;
        anyhow::Ok((endpoint, conn))
    };
    let (endpoint, conn) = connecting
        .await
        .map_err(|error| format!("UDP {address}: {error}"))?;
    Ok(Carrier {
        endpoint,
        conn,
        sender: None,
        driving: JoinSet::new(),
    })
}

/// A connection that was made for one session.
///
/// # Drop
///
/// Dropping it closes the QUIC connection with H3_NO_ERROR and ends its task.
pub(super) struct Carrier {
    endpoint: quinn::Endpoint,
    conn: quinn::Connection,
    /// `h3` closes the connection when this is dropped.
    sender: Option<SendRequest>,
    driving: JoinSet<()>,
}

impl Carrier {
    /// Closes the connection, and waits a little until its last packets are out.
    pub(super) async fn close(&self, code: HttpCode) {
        self.conn.close(quic_code(code), b"");
        _ = tokio::time::timeout(LAST_PACKETS, self.endpoint.wait_idle()).await;
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        // Does nothing to a connection that is over already.
        self.conn.close(quic_code(HttpCode::H3_NO_ERROR), b"");
    }
}

/// A connection whose server takes requests for sessions.
struct Asking {
    carrier: Carrier,
    opener: Opener,
    notes: Arc<Notes>,
    table: Arc<Table>,
    field_section: u32,
    settings: PeerSettings,
    version: Version,
}

impl Asking {
    /// Begins HTTP/3, and waits for the server's SETTINGS, before which no request for a session may be sent (WebTransport
    /// over HTTP/3, "Establishing a WebTransport-Capable HTTP/3 Connection").
    async fn begin(mut carrier: Carrier, limits: &Arc<Limits>) -> Result<Self, ConnectError> {
        let conn = carrier.conn.clone();
        let lost = |error: &dyn fmt::Display| ConnectError::Unreachable(format!("HTTP/3: {error}"));
        let notes = Arc::new(Notes::default());
        let table = Arc::new(Table::new(limits));
        let (giver, streams) = handover();
        let ours = Ours {
            sessions: 1,
            field_section: limits.field_section,
            data: limits.session.session_receive_credit.into(),
            streams_uni: limits.session.streams_per_kind.into(),
            streams_bidi: limits.session.streams_per_kind.into(),
        };
        let tap = Tap::new(conn.clone(), ours.encode_client(), streams);
        let opener = quic::Connection::opener(&tap);
        let mut builder = h3::client::builder();
        builder
            .max_field_section_size(limits.field_section.into())
            .send_grease(false);
        let (http, sender) = builder.build(tap).await.map_err(|error| lost(&error))?;
        carrier.sender = Some(sender);
        let sorter = Sorter {
            role: Role::Client,
            conn: conn.clone(),
            table: table.clone(),
            notes: notes.clone(),
            http: giver,
            limits: limits.clone(),
        };
        let goaway = notes.goaway.subscribe();
        let driven = drive(conn.clone(), http, sorter, table.clone(), goaway);
        carrier.driving.spawn(driven);
        let mut told = notes.settings.subscribe();
        let settings = tokio::select! {
            settings = told.wait_for(Option::is_some) => settings.ok().and_then(|settings| settings.clone()),
            error = conn.closed() => return Err(lost(&error)),
        };
        let settings = settings.unwrap_or_default();
        let Some(version) = settings
            .version_to_ask()
            .filter(|_| conn.max_datagram_size().is_some())
        else {
            carrier.close(HttpCode::WT_REQUIREMENTS_NOT_MET).await;
            return Err(lost(&"the server does not offer WebTransport"));
        };
        Ok(Self {
            carrier,
            opener,
            notes,
            table,
            field_section: limits.field_section,
            settings,
            version,
        })
    }

    /// Sends the request, and waits for a response that begins the session.
    async fn ask(&mut self, ask: &Ask) -> Result<Begun, ConnectError> {
        let fields: &[_] = match self.version {
            Version::Draft02 => &[(DRAFT_02, "1")],
            Version::Draft07 | Version::Draft13 | Version::Draft15 => &[],
        };
        let request = Request {
            connect: ask.request(self.version.token(), fields)?,
            peer: self.carrier.conn.remote_address(),
            server_name: None,
            http: HttpVersion::Http3,
            role: Role::Client,
            draft: self.version.as_str(),
        };
        let head = http_request(&request.connect)?;
        let id = self.open(request.connect.token).await?;
        let broken = |error: StreamError| ConnectError::Aborted(error.to_string());
        let Some(sender) = &mut self.carrier.sender else {
            return Err(ConnectError::Aborted("no request can be sent".to_owned()));
        };
        let mut stream = sender.send_request(head).await.map_err(broken)?;
        loop {
            let (head, ()) = stream.recv_response().await.map_err(broken)?.into_parts();
            if !head.status.is_informational() {
                let response = read_response(&head, &request.connect.offered_protocols)?;
                return Ok(Begun {
                    id,
                    stream,
                    request,
                    response,
                });
            }
        }
    }

    /// Opens the stream of the request, which names the session. What comes for that is held from here on.
    async fn open(&self, token: Token) -> Result<SessionId, ConnectError> {
        let conn = &self.carrier.conn;
        let broken = |error: &dyn fmt::Display| ConnectError::Aborted(error.to_string());
        let (send, recv) = conn.open_bi().await.map_err(|error| broken(&error))?;
        let id = SessionId::try_from(u64::from(send.id())).map_err(|error| broken(&error))?;
        self.table.decide(id, 1);
        let filter = Some(Filter::response(self.field_section));
        let recv = RecvSide::new(
            recv,
            conn.clone(),
            Bytes::new(),
            0,
            filter,
            self.notes.clone(),
        )
        .map_err(|violation| broken(&violation))?;
        self.opener.put(Bidi::asking(send, recv, token));
        Ok(id)
    }

    fn begun(self, begun: Begun, limits: &Arc<Limits>) -> Connected {
        let Begun {
            id,
            stream,
            request,
            response,
        } = begun;
        let note = self.notes.take_request(id.into());
        let terms = Terms {
            limits: limits.session.clone(),
            shared: limits.clone(),
            codes: self.version.codes(),
            peer: self.settings.flow_control(),
        };
        let mut session = Session::new(
            id,
            self.carrier.conn.clone(),
            terms,
            ConnectStream::new(Body::Client(stream), note),
            self.table,
        );
        session.carrier = Some(self.carrier);
        Connected {
            session: session.into(),
            request,
            response,
        }
    }
}

/// A request that was accepted.
struct Begun {
    id: SessionId,
    stream: RequestStream,
    request: Request,
    response: Response,
}

/// Serves the connection until it is lost or closed.
async fn drive(
    conn: quinn::Connection,
    mut http: Http3,
    sorter: Sorter,
    table: Arc<Table>,
    mut goaway: watch::Receiver<bool>,
) {
    let http = async {
        loop {
            tokio::select! {
                _ = http.wait_idle() => return,
                Ok(()) = goaway.changed() => table.notify(&Notice::PeerDrains),
            }
        }
    };
    let lost = tokio::select! {
        biased; // as for a server: `h3` closes a connection that was lost, and then nobody can say why
        lost = sorter.run() => lost,
        () = http => conn.closed().await,
    };
    table.notify(&lost_notice(&lost));
}

fn http_request(
    connect: &wharf_proto::connect::Request,
) -> Result<http::Request<()>, ConnectError> {
    let uri = http::Uri::builder()
        .scheme(connect.scheme.as_str())
        .authority(connect.authority.as_str())
        .path_and_query(connect.path.as_str())
        .build();
    let mut request = http::Request::connect(uri.map_err(ConnectError::invalid)?);
    for (name, value) in &connect.fields {
        request = request.header(name, &value[..]);
    }
    // The tap puts the true one there.
    request
        .extension(h3::ext::Protocol::WEB_TRANSPORT)
        .body(())
        .map_err(ConnectError::invalid)
}
