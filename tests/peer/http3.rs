//! The client's side of HTTP/3: a connection of bare QUIC streams, and what on it belongs to which session.
//!
//! It speaks the newest draft and keeps to it: it sends no stream and no byte before the server has granted it. What the
//! server says on a CONNECT stream is read as it comes, and has to be what the draft allows.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::{Buf as _, Bytes};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};
use wharf_proto::varint::VarInt;

use super::{Head, Terms};
use crate::{
    harness::within,
    raw::{Raw, client_config, connect_fields, read_status, read_varint, send_head},
};

mod session;
mod streams;

pub(crate) use session::Session;
pub(crate) use streams::{Recv, Send};

/// Streams, and datagrams, of a session that were not taken yet. More wait in QUIC.
const WAITING_MAX: usize = 64;

const CONTROL: u64 = 0x00;
const UNI: u64 = 0x54;
const BIDI: u64 = 0x41;

/// A connection. It ends with its last clone, session and stream.
#[derive(Clone)]
pub(crate) struct Connection(Arc<Inner>);

struct Inner {
    raw: Raw,
    granted: Granted,
    sessions: Arc<Sessions>,
    _routing: JoinSet<()>,
}

/// What the SETTINGS of the server grant to a session.
#[derive(Clone, Copy, Debug, Default)]
struct Granted {
    data: u64,
    bidi: u64,
    uni: u64,
}

/// Where what comes in goes, by the session.
#[derive(Default)]
struct Sessions(Mutex<HashMap<u64, Inlet>>);

#[derive(Clone)]
struct Inlet {
    bidi: mpsc::Sender<(quinn::SendStream, quinn::RecvStream)>,
    uni: mpsc::Sender<quinn::RecvStream>,
    datagrams: mpsc::Sender<Bytes>,
}

/// Where a session takes what came in.
struct Outlet {
    bidi: mpsc::Receiver<(quinn::SendStream, quinn::RecvStream)>,
    uni: mpsc::Receiver<quinn::RecvStream>,
    datagrams: mpsc::Receiver<Bytes>,
}

impl Connection {
    pub(crate) async fn connect(server: SocketAddr, terms: Terms) -> Self {
        let mut config = client_config();
        let mut transport = quinn::TransportConfig::default();
        transport.stream_receive_window(terms.window.into());
        config.transport_config(Arc::new(transport));
        let mut raw = Raw::silent_as(terms.name, server, config).await;
        let streams = terms.streams.into();
        raw.say_settings(&[
            (0x33, 1),
            (0x2c7c_f000, 1),
            (0x2b61, terms.data),
            (0x2b64, streams),
            (0x2b65, streams),
        ])
        .await;
        let sessions = Arc::<Sessions>::default();
        let (told, granted) = oneshot::channel();
        let mut routing = JoinSet::new();
        routing.spawn(sessions.clone().route_uni(raw.conn.clone(), told));
        routing.spawn(sessions.clone().route_bidi(raw.conn.clone()));
        routing.spawn(sessions.clone().route_datagrams(raw.conn.clone()));
        let granted = within("the server's SETTINGS", granted).await.unwrap();
        Self(Arc::new(Inner {
            raw,
            granted,
            sessions,
            _routing: routing,
        }))
    }

    pub(crate) async fn ask(
        &self,
        authority: &str,
        path: &str,
        fields: &[(&str, &str)],
    ) -> (u16, Option<Session>) {
        let mut all = connect_fields(path, "webtransport-h3");
        for (name, value) in &mut all {
            if *name == ":authority" {
                *value = authority;
            }
        }
        all.extend(fields);
        let (mut send, mut recv) = self.0.raw.conn.open_bi().await.unwrap();
        // Before it is asked for, because the server may open streams of it as soon as it is.
        let outlet = self.0.sessions.begin(send.id().into());
        send_head(&mut send, &all).await;
        let status = within("the response", read_status(&mut recv)).await;
        let begins = (200..300).contains(&status);
        let session = begins.then(|| Session::begin(self.clone(), send, recv, outlet));
        (status, session)
    }

    pub(crate) fn close(&self) {
        self.0.raw.conn.close(0x100_u32.into(), b"");
    }

    pub(crate) async fn closed(&self) {
        assert_eq!(self.0.raw.closed_with().await, 0x100, "H3_NO_ERROR");
    }
}

/// Asks for a session by `h3`'s own client, which decodes all of the response.
pub(crate) async fn ask(server: SocketAddr, path: &str, fields: &[(&str, &str)]) -> Head {
    let raw = Raw::silent(server).await;
    let conn = h3_quinn::Connection::new(raw.conn.clone());
    let (mut driver, mut client) = within("the control streams", h3::client::new(conn))
        .await
        .unwrap();
    let driving = tokio::spawn(async move { driver.wait_idle().await });
    let mut request = http::Request::builder()
        .method(http::Method::CONNECT)
        .uri(format!("https://localhost{path}"))
        .extension(h3::ext::Protocol::WEB_TRANSPORT);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let mut stream = client
        .send_request(request.body(()).unwrap())
        .await
        .unwrap();
    let response = within("the response", stream.recv_response())
        .await
        .unwrap();
    drop::<h3::client::RequestStream<_, Bytes>>(stream);
    driving.abort();
    Head {
        status: response.status().as_u16(),
        fields: response.headers().clone(),
    }
}

impl Sessions {
    /// Has what belongs to that session kept from now on.
    fn begin(&self, id: u64) -> Outlet {
        let (bidi, bidi_out) = mpsc::channel(WAITING_MAX);
        let (uni, uni_out) = mpsc::channel(WAITING_MAX);
        let (datagrams, datagrams_out) = mpsc::channel(WAITING_MAX);
        let inlet = Inlet {
            bidi,
            uni,
            datagrams,
        };
        self.0.lock().unwrap().insert(id, inlet);
        Outlet {
            bidi: bidi_out,
            uni: uni_out,
            datagrams: datagrams_out,
        }
    }

    fn end(&self, id: u64) {
        self.0.lock().unwrap().remove(&id);
    }

    fn inlet(&self, id: u64) -> Option<Inlet> {
        self.0.lock().unwrap().get(&id).cloned()
    }

    // What is for a session that has gone is dropped: that is how a client gives it up.

    async fn route_uni(
        self: Arc<Self>,
        conn: quinn::Connection,
        settings: oneshot::Sender<Granted>,
    ) {
        let mut settings = Some(settings);
        // The control stream, and others of HTTP, which must not be given up.
        let mut critical = Vec::new();
        while let Ok(mut recv) = conn.accept_uni().await {
            match read_varint(&mut recv).await {
                Some(UNI) => {
                    let session = read_varint(&mut recv).await.unwrap();
                    if let Some(inlet) = self.inlet(session) {
                        _ = inlet.uni.send(recv).await;
                    }
                }
                Some(CONTROL) => {
                    let settings = settings.take().expect("one control stream");
                    _ = settings.send(read_settings(&mut recv).await);
                    critical.push(recv);
                }
                Some(_) => critical.push(recv),
                None => {} // reset before its header came
            }
        }
    }

    async fn route_bidi(self: Arc<Self>, conn: quinn::Connection) {
        while let Ok((send, mut recv)) = conn.accept_bi().await {
            if read_varint(&mut recv).await == Some(BIDI)
                && let Some(session) = read_varint(&mut recv).await
                && let Some(inlet) = self.inlet(session)
            {
                _ = inlet.bidi.send((send, recv)).await;
            }
        }
    }

    async fn route_datagrams(self: Arc<Self>, conn: quinn::Connection) {
        while let Ok(mut datagram) = conn.read_datagram().await {
            let (quarter, size) = VarInt::decode(&datagram).unwrap();
            datagram.advance(size);
            if let Some(inlet) = self.inlet(quarter.into_inner() * 4) {
                _ = inlet.datagrams.send(datagram).await;
            }
        }
    }
}

/// Reads the SETTINGS that begin the server's control stream.
async fn read_settings(control: &mut quinn::RecvStream) -> Granted {
    let kind = read_varint(control).await;
    assert_eq!(kind, Some(4), "the control stream begins with SETTINGS");
    let length = read_varint(control).await.unwrap();
    let mut payload = vec![0; usize::try_from(length).unwrap()];
    control.read_exact(&mut payload).await.unwrap();
    let mut granted = Granted::default();
    let mut rest = &payload[..];
    while let Some((id, size)) = VarInt::decode(rest) {
        rest.advance(size);
        let (value, size) = VarInt::decode(rest).unwrap();
        rest.advance(size);
        match id.into_inner() {
            0x2b61 => granted.data = value.into_inner(),
            0x2b64 => granted.uni = value.into_inner(),
            0x2b65 => granted.bidi = value.into_inner(),
            _ => {}
        }
    }
    granted
}
