//! The client's end of an HTTP/2 connection, and the sessions that it asks for.

use std::{
    fmt,
    future::{Future as _, poll_fn},
    pin::Pin,
    sync::{Arc, Mutex},
    task::Poll,
};

use anyhow::Context as _;
use h2::client::SendRequest;
use tokio::{net::TcpStream, sync::watch};
use tokio_rustls::client::TlsStream;
use wharf_proto::{
    connect::Init,
    id::Side,
    mux::{Chunks, Config, Mux},
};

use super::{
    alive,
    connection::{self, Common, Place},
    session::Session,
    settings,
    tap::{Peer, Role, Tap},
};
use crate::transport::{Limits, Quirks, phase::Phase};

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
        let tap = Tap::new(tls.clone(), Role::Client, settings::encode(&limits), sender);
        let (requests, mut driving) = builder(&limits).handshake(tap).await?;
        greeted(&requests, &mut driving, &peer).await?;
        let common = Arc::new(Common::new(limits, tls));
        tokio::spawn(drive(driving, common.clone(), peer.clone()));
        Ok(Self {
            requests,
            common,
            peer,
        })
    }

    /// Asks for a session by an extended CONNECT request with this head, whose `:protocol` is added. Without a session,
    /// the response says why.
    ///
    /// # Errors
    ///
    /// When the head is malformed, the connection is lost, or the server resets the request.
    pub async fn connect(
        &self,
        mut head: http::Request<()>,
        quirks: Quirks,
    ) -> anyhow::Result<(http::response::Parts, Option<super::super::Session>)> {
        let token = h2::ext::Protocol::from_static("webtransport");
        head.extensions_mut().insert(token);
        let mut requests = self.requests.clone().ready().await?;
        let place = Place::new(&self.common);
        let (response, send) = requests.send_request(head, false)?;
        let (parts, body) = response.await?.into_parts();
        if !parts.status.is_success() {
            return Ok((parts, None));
        }
        let limits = &self.common.limits;
        let mux = Mux::new(Config {
            side: Side::Client,
            order: quirks.fin_order,
            swapped_ids: quirks.swapped_stream_ids,
            local: settings::ours(limits),
            peer: self.peer.borrow().settings.grants(Init::default()),
            limits: limits.mux(),
        });
        let session = Session::new(mux, send, body, place);
        Ok((parts, Some(session.into())))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

fn builder(limits: &Limits) -> h2::client::Builder {
    let mut builder = h2::client::Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(connection::window(limits, 1))
        .initial_connection_window_size(connection::window(limits, limits.sessions_per_connection))
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
        return;
    };
    let limits = common.limits.clone();
    let alive = alive::watch(pings, limits.keep_alive, limits.idle_timeout, &common.rtt);
    tokio::pin!(alive);
    loop {
        tokio::select! {
            _ = &mut driving => return,
            () = &mut alive => return,
            Ok(()) = peer.changed() => {
                if peer.borrow_and_update().goaway {
                    common.phase.send_replace(Phase::Draining);
                }
            }
        }
    }
}
