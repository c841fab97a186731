//! The client's end of an HTTP/2 connection, and the sessions that it asks for.

use std::{
    fmt,
    future::{Future as _, poll_fn},
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    task::Poll,
};

use anyhow::Context as _;
use h2::client::SendRequest;
use rustls::pki_types::ServerName;
use tokio::{net::TcpStream, sync::watch};
use tokio_rustls::{TlsConnector, client::TlsStream};
use wharf_proto::{
    connect::{Init, Token},
    id::Side,
    mux::Chunks,
};

use super::{
    ALPN, alive,
    connection::{self, Common, Exporter, Place},
    settings,
    tap::{Peer, Tap},
};
use crate::transport::{
    Limits, Response, Role, Session,
    client::{Ask, ConnectError, read_response},
    phase::Phase,
};

type Driving = h2::client::Connection<Tap<TlsStream<TcpStream>>, Chunks>;

/// A connection to a server of HTTP/2, for any number of sessions. It lives as long as it, or one of its sessions, does.
pub struct Client {
    requests: SendRequest<Chunks>,
    common: Arc<Common>,
    peer: watch::Receiver<Peer>,
}

impl Client {
    /// Agrees on HTTP/2 with a server whose TLS has agreed on `h2`, and waits for its SETTINGS: whether it takes sessions,
    /// and what it grants them. The caller says how long that may take, by a timeout.
    ///
    /// # Errors
    ///
    /// When the connection is lost, or the server takes no extended CONNECT.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub async fn new(tls: TlsStream<TcpStream>, limits: Limits) -> anyhow::Result<Self> {
        let limits = Arc::new(limits);
        let tls = Arc::new(Mutex::new(tls));
        let (sender, peer) = watch::channel(Peer::default());
        let exporter: Arc<dyn Exporter> = tls.clone();
        let exporter = Arc::downgrade(&exporter);
        let tap = Tap::new(tls, Role::Client, settings::encode(&limits), sender);
        let (requests, mut driving) = builder(&limits).handshake(tap).await?;
        greeted(&requests, &mut driving, &peer).await?;
        let common = Arc::new(Common::new(limits, exporter));
        tokio::spawn(drive(driving, common.clone(), peer.clone()));
        Ok(Self {
            requests,
            common,
            peer,
        })
    }

    /// Asks for a session.
    ///
    /// # Errors
    ///
    /// Why there is none. Where nothing was asked because the connection is lost, that is
    /// [`ConnectError::Unreachable`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future takes back what was asked for.
    pub async fn connect(&self, ask: &Ask) -> Result<(Session, Response), ConnectError> {
        let request = ask.request(Token::WebTransport, &[])?;
        let head = head(&request)?;
        let ready = self.requests.clone().ready().await;
        let mut requests = ready.map_err(unreachable)?;
        let place = Place::new(&self.common);
        let (response, send) = requests.send_request(head, false).map_err(unreachable)?;
        let response = response
            .await
            .map_err(|error| ConnectError::Aborted(error.to_string()))?;
        let (parts, body) = response.into_parts();
        let response = read_response(&parts, &request.offered_protocols)?;
        let peer = self.peer.borrow().settings.grants(Init::default());
        let limits = &self.common.limits.session;
        let session =
            super::Session::new(Side::Client, limits, peer, ask.quirks, send, body, place);
        Ok((session.into(), response))
    }

    /// Closes the connection, and tells its sessions' peers nothing but that.
    pub fn close(&self) {
        self.common.close();
    }

    /// Waits until the connection is over, whoever ended it.
    pub async fn closed(&self) {
        self.common.closed().await;
    }
}

/// A connection to the server at that address.
pub(in crate::transport) async fn dial(
    address: SocketAddr,
    server_name: ServerName<'static>,
    mut tls: rustls::ClientConfig,
    limits: &Limits,
) -> anyhow::Result<Client> {
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let tcp = TcpStream::connect(address).await?;
    _ = tcp.set_nodelay(true);
    let connector = TlsConnector::from(Arc::new(tls));
    let tls = connector.connect(server_name, tcp).await?;
    anyhow::ensure!(
        tls.get_ref().1.alpn_protocol() == Some(ALPN),
        "the server does not speak HTTP/2 (ALPN)"
    );
    Client::new(tls, limits.clone()).await
}

fn unreachable(why: impl fmt::Display) -> ConnectError {
    ConnectError::Unreachable(why.to_string())
}

/// The head of a request for a session.
fn head(request: &wharf_proto::connect::Request) -> Result<http::Request<()>, ConnectError> {
    let mut head = http::Request::connect(format!(
        "{}://{}{}",
        request.scheme, request.authority, request.path
    ));
    for (name, value) in &request.fields {
        head = head.header(name, &value[..]);
    }
    head.extension(h2::ext::Protocol::from_static(Token::WebTransport.as_str()))
        .body(())
        .map_err(ConnectError::invalid)
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

fn builder(limits: &Limits) -> h2::client::Builder {
    let all =
        connection::share(&limits.session).saturating_mul(limits.sessions_per_connection.into());
    let mut builder = h2::client::Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(connection::stream_window(limits))
        .initial_connection_window_size(connection::window(all))
        .max_header_list_size(limits.field_section)
        .max_send_buffer_size(connection::SEND_BUFFER)
        .data_frame_budget(limits.data_frame_budget);
    builder
}

/// Waits until the server's SETTINGS have come and `h2` knows of them.
async fn greeted(
    requests: &SendRequest<Chunks>,
    driving: &mut Driving,
    peer: &watch::Receiver<Peer>,
) -> anyhow::Result<()> {
    poll_fn(|cx| {
        if let Poll::Ready(ended) = Pin::new(&mut *driving).poll(cx) {
            return Poll::Ready(ended.context("the server ended the connection"));
        }
        if requests.is_extended_connect_protocol_enabled() {
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    })
    .await?;
    anyhow::ensure!(
        peer.borrow().settings.connect,
        "the server takes no extended CONNECT, so no WebTransport over HTTP/2"
    );
    Ok(())
}

/// Keeps the connection going until it is lost, or nobody needs it any more.
async fn drive(mut driving: Driving, common: Arc<Common>, mut peer: watch::Receiver<Peer>) {
    let Some(pings) = driving.ping_pong() else {
        return common.ended(); // `h2` gives it once, which this is
    };
    let limits = common.limits.clone();
    let alive = alive::watch(pings, limits.keep_alive, limits.idle_timeout, &common.rtt);
    tokio::pin!(alive);
    loop {
        tokio::select! {
            _ = &mut driving => break,
            () = &mut alive => break,
            () = common.close_wanted() => break,
            Ok(()) = peer.changed() => {
                if peer.borrow_and_update().goaway {
                    common.phase.send_replace(Phase::PeerDraining);
                }
            }
        }
    }
    common.ended();
}
