//! Where the client's sessions over HTTP/2 come from.

use std::net::SocketAddr;

use wharf::transport;

use super::Session;
use crate::peer::{Head, Terms};

/// A connection. It ends with its last clone and session.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    server: SocketAddr,
    terms: Terms,
}

/// What the library gives for a request.
struct Answer {
    response: transport::Response,
    /// The session, where the response begins one.
    session: Option<transport::Session>,
}

#[expect(clippy::unused_async, reason = "each of these waits for the server")]
impl Connection {
    pub(crate) async fn connect(server: SocketAddr, terms: Terms) -> Self {
        Self { server, terms }
    }

    /// Bytes of one stream ahead of its reader.
    pub(super) fn window(&self) -> usize {
        self.terms.window as usize
    }

    async fn request(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        unimplemented!("{path} of {}, with {fields:?}", self.server)
    }

    /// Asks for a session, which begins where the status is of the 200s.
    pub(crate) async fn ask(&self, path: &str, fields: &[(&str, &str)]) -> (Head, Option<Session>) {
        let Answer { response, session } = self.request(path, fields).await;
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
        unimplemented!("{self:?}")
    }

    /// Waits until the server has closed the connection in order.
    pub(crate) async fn closed(&self) {
        unimplemented!("{self:?}")
    }
}
