//! A client for either HTTP version: what a test asks for and sees is the same, whatever carries it.
//!
//! A behaviour that both versions have is a function of [`Http`], and [`over_both`] makes its tests, one for each.
//! Over HTTP/3 the client is bare QUIC streams (`http3`), whose bytes are written by hand; over HTTP/2 it is wharf's own
//! session in the client's role (`http2`). What is about the bytes of one version is tested with that version alone.

use std::{net::SocketAddr, ops::RangeInclusive};

pub(crate) use wharf_proto::id::Dir;

use crate::harness::{TestServer, within};

pub(crate) use session::{PeerRecv, PeerSend, PeerSession};

mod http2;
mod http3;
mod session;

/// Makes the tests `NAME::http3` and `NAME::http2` of `async fn NAME(http: Http)`. Attributes of the tests go before the
/// name.
macro_rules! over_both {
    ($(#[$attribute:meta])* $behaviour:ident) => {
        mod $behaviour {
            use $crate::peer::Http;

            $(#[$attribute])*
            #[tokio::test(flavor = "multi_thread")]
            async fn http3() {
                Box::pin(super::$behaviour(Http::Http3)).await;
            }

            $(#[$attribute])*
            #[tokio::test(flavor = "multi_thread")]
            async fn http2() {
                Box::pin(super::$behaviour(Http::Http2)).await;
            }
        }
    };
}
pub(crate) use over_both;

/// The HTTP version that carries a session, and what lawfully differs with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Http {
    Http3,
    Http2,
}

impl Http {
    pub(crate) const ALL: &[Self] = &[Self::Http3, Self::Http2];

    /// What handlers, and the names of tests, call it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Http3 => "http3",
            Self::Http2 => "http2",
        }
    }

    /// The `:protocol` of the newest draft.
    pub(crate) const fn token(self) -> &'static str {
        match self {
            Self::Http3 => "webtransport-h3",
            Self::Http2 => "webtransport",
        }
    }

    /// Whether datagrams always arrive.
    pub(crate) const fn datagrams_reliable(self) -> bool {
        matches!(self, Self::Http2)
    }

    /// Whether a client that has closed does not see that the server had closed before: a session of wharf's own tells
    /// one end, and that is its close.
    pub(crate) const fn passes_over_a_close_after_its_own(self) -> bool {
        matches!(self, Self::Http2)
    }

    /// How large the largest datagram of a handler may be.
    pub(crate) const fn datagram_sizes(self) -> RangeInclusive<usize> {
        match self {
            Self::Http3 => 1100..=1 << 16,
            Self::Http2 => 65_535..=65_535,
        }
    }

    /// The id of the client's nth stream of a kind, from 0 on, in the first session of a connection. Over HTTP/3 the
    /// CONNECT stream and the control stream have ids too; over HTTP/2 each session counts from the beginning.
    pub(crate) const fn client_stream(self, dir: Dir, nth: u64) -> u64 {
        let first = match (self, dir) {
            (Self::Http3, Dir::Bi) => 4,
            (Self::Http3, Dir::Uni) => 6,
            (Self::Http2, Dir::Bi) => 0,
            (Self::Http2, Dir::Uni) => 2,
        };
        first + 4 * nth
    }

    /// How the server's close is seen to end the session. What stands for HTTP/2 does not tell a close of 0 without a
    /// reason from a bare end of the CONNECT stream, which means the same.
    pub(crate) fn closed(self, code: u32, reason: &str) -> End {
        match (self, code, reason) {
            (Self::Http2, 0, "") => End::Fin,
            _ => End::Close(code, reason.to_owned()),
        }
    }
}

/// Whom a test asks where it does not say.
const LOCALHOST: &str = "localhost";

/// What a client grants to the server in each session, and whom it asks for in TLS.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// Bytes of stream data, all in all. The client of HTTP/3 grants no more later; that of HTTP/2 does as it reads.
    pub(crate) data: u64,
    /// Streams of each kind, all in all, or at once over HTTP/2.
    pub(crate) streams: u32,
    /// Bytes of one stream ahead of its reader.
    pub(crate) window: u32,
    /// The name that TLS asks for. An address is no name: then it asks for none.
    pub(crate) name: &'static str,
}

impl Default for Terms {
    /// More than any test needs, and a window as clients have it.
    fn default() -> Self {
        Self {
            data: 1 << 40,
            streams: 1 << 16,
            window: 1 << 20,
            name: LOCALHOST,
        }
    }
}

/// How a session ended, as the client saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With the server's CLOSE, which was its last word.
    Close(u32, String),
    /// With the bare end of the CONNECT stream: so a server answers a client's close.
    Fin,
    /// With a reset of the CONNECT stream, and its code.
    Reset(u64),
    /// With the connection, or given up without a word.
    Lost,
}

/// Why a stream takes or gives no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gone {
    /// The server gave it up with this code of the application.
    Code(u32),
    /// The server gave it up with a code that is no application's.
    NoCode,
    /// The session is over.
    Session,
}

/// The head of a response.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) fields: http::HeaderMap,
}

impl Head {
    /// A field as text.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(|value| value.to_str().unwrap())
    }
}

/// A connection, with any number of sessions.
#[derive(Clone)]
pub(crate) enum Peer {
    Http3(http3::Connection),
    Http2(http2::Connection),
}

/// Does the same with either variant.
macro_rules! either {
    ($peer:expr, $inner:ident => $does:expr) => {
        match $peer {
            Self::Http3($inner) => $does,
            Self::Http2($inner) => $does,
        }
    };
}

use either;

impl Peer {
    pub(crate) async fn connect(http: Http, server: &TestServer) -> Self {
        Self::connect_to(http, server.address, Terms::default()).await
    }

    pub(crate) async fn connect_to(http: Http, server: SocketAddr, terms: Terms) -> Self {
        match http {
            Http::Http3 => Self::Http3(http3::Connection::connect(server, terms).await),
            Http::Http2 => Self::Http2(http2::Connection::connect(server, terms).await),
        }
    }

    /// A session that begins.
    pub(crate) async fn session(&self, path: &str) -> PeerSession {
        let (status, session) = self.ask(path, &[]).await;
        assert_eq!(status, 200, "{path}");
        session.unwrap()
    }

    /// Asks for a session, with fields of the request besides those that must be. The session begins where the status is
    /// of the 200s.
    pub(crate) async fn ask(
        &self,
        path: &str,
        fields: &[(&str, &str)],
    ) -> (u16, Option<PeerSession>) {
        self.ask_of(LOCALHOST, path, fields).await
    }

    /// The same of another authority.
    pub(crate) async fn ask_of(
        &self,
        authority: &str,
        path: &str,
        fields: &[(&str, &str)],
    ) -> (u16, Option<PeerSession>) {
        match self {
            Self::Http3(connection) => {
                let (status, session) = connection.ask(authority, path, fields).await;
                (status, session.map(PeerSession::Http3))
            }
            Self::Http2(connection) => {
                let (head, session) = connection.ask(authority, path, fields).await;
                (head.status, session.map(PeerSession::Http2))
            }
        }
    }

    /// Closes the connection, without a word in its sessions.
    pub(crate) fn close(&self) {
        either!(self, connection => connection.close());
    }

    /// Waits until the server has closed the connection in order, with no error.
    pub(crate) async fn closed(&self) {
        within("the connection to end", async {
            either!(self, connection => connection.closed().await);
        })
        .await;
    }
}

/// Asks for a session on a connection of its own, and gives the whole head of the response. No session is left.
pub(crate) async fn ask(
    http: Http,
    server: &TestServer,
    path: &str,
    fields: &[(&str, &str)],
) -> Head {
    match http {
        Http::Http3 => http3::ask(server.address, path, fields).await,
        Http::Http2 => {
            let connection = http2::Connection::connect(server.address, Terms::default()).await;
            connection.ask(LOCALHOST, path, fields).await.0
        }
    }
}
