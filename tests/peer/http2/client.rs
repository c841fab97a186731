//! Where the client's sessions over HTTP/2 come from.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use wharf::transport::{
    Limits,
    client::{Ask, ConnectError},
    h2::Client,
};

use super::Session;
use crate::{
    harness::within,
    peer::{Head, Terms},
    raw::tls_config,
};

/// The most credit that the settings of HTTP/2 can say.
const CREDIT_MAX: u64 = 1 << 30;

/// A connection. It ends with its last clone and session.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    client: Arc<Client>,
    terms: Terms,
}

impl Connection {
    pub(crate) async fn connect(server: SocketAddr, terms: Terms) -> Self {
        let mut limits = Limits::default();
        limits.session.session_receive_credit = terms.data.min(CREDIT_MAX) as u32;
        limits.stream_receive_credit = terms.window;
        limits.session.streams_per_kind = terms.streams;
        limits.session.reads_wait_for_room = false;
        let mut tls = tls_config();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let tls = tokio_rustls::TlsConnector::from(Arc::new(tls));
        let tcp = within("TCP", TcpStream::connect(server)).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let name = ServerName::try_from(terms.name).unwrap();
        let tls = within("TLS", tls.connect(name, tcp)).await.unwrap();
        let client = within("HTTP/2", Client::new(tls, limits)).await.unwrap();
        Self {
            client: Arc::new(client),
            terms,
        }
    }

    /// Bytes of one stream ahead of its reader.
    pub(super) fn window(&self) -> usize {
        self.terms.window as usize
    }

    /// Asks for a session, which begins where the status is of the 200s.
    pub(crate) async fn ask(
        &self,
        authority: &str,
        path: &str,
        fields: &[(&str, &str)],
    ) -> (Head, Option<Session>) {
        let mut ask = Ask::new(&format!("https://{authority}{path}")).unwrap();
        let fields = fields.iter();
        ask.fields = fields
            .map(|(name, value)| {
                let value = Bytes::copy_from_slice(value.as_bytes());
                ((*name).to_owned(), value)
            })
            .collect();
        let (response, session) = match self.client.connect(&ask).await {
            Ok((session, response)) => (response, Some(session)),
            Err(ConnectError::Refused(response)) => (response, None),
            Err(error) => panic!("{path}: {error}"),
        };
        let mut head = Head {
            status: response.status,
            fields: http::HeaderMap::new(),
        };
        for (name, value) in response.fields {
            let name: http::HeaderName = name.parse().unwrap();
            let value = http::HeaderValue::from_maybe_shared(value).unwrap();
            head.fields.append(name, value);
        }
        let session = session.map(|session| Session::begin(self.clone(), session));
        (head, session)
    }

    /// Closes the connection, without a word in its sessions.
    pub(crate) fn close(&self) {
        self.client.close();
    }

    /// Waits until the server has closed the connection in order.
    pub(crate) async fn closed(&self) {
        self.client.closed().await;
    }
}
