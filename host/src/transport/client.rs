//! Asks servers for sessions: the client's end, over whichever HTTP version reaches the server.
//!
//! ```no_run
//! use wharf::transport::{
//!     Event, Limits,
//!     client::{Ask, Http, Trust, connect},
//! };
//!
//! # async fn ask() -> anyhow::Result<()> {
//! let ask = Ask::new("https://localhost:4433/chat")?;
//! let mut session = connect(&ask, &Trust::Platform, Http::Auto, &Limits::default())
//!     .await?
//!     .session;
//! session.send_datagram(b"hello")?;
//! while let Some(event) = session.next_event().await {
//!     if let Event::Datagram(_) = event {
//!         session.close(0, "", wharf::transport::Closer::Local);
//!     }
//! }
//! # Ok(())
//! # }
//! ```

use std::{fmt, net::SocketAddr, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use rustls::pki_types::ServerName;
use thiserror::Error;
use tokio::time::{Instant, timeout_at};
use wharf_proto::connect::decode_protocol;

use super::{Limits, Request, Response, Role, Session, h2, h3};

mod ask;
mod trust;

pub use ask::Ask;
pub use trust::Trust;

/// An address that does not answer at once has the next one tried beside it, after this time (RFC 8305, "Connection
/// Attempts").
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// Which HTTP versions are tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Http {
    /// HTTP/3, and HTTP/2 where the server cannot be reached by that.
    #[default]
    Auto,
    /// HTTP/3 only.
    Http3,
    /// HTTP/2 only.
    Http2,
}

/// A session that a server has accepted.
#[derive(Debug)]
#[non_exhaustive]
pub struct Connected {
    /// The session.
    pub session: Session,
    /// What was asked for, as it was sent.
    pub request: Request,
    /// The response that began the session.
    pub response: Response,
}

/// Why there is no session.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// What was asked for cannot be sent.
    #[error("{0}")]
    Invalid(String),
    /// There was no connection, or none that carries WebTransport. Nothing was asked of the server.
    #[error("cannot connect: {0}")]
    Unreachable(String),
    /// The server refused, with a status that is not 200 to 299. Redirections are not followed.
    #[error("refused with status {}", .0.status)]
    Refused(Response),
    /// The server was asked, and gave no response.
    #[error("the server broke off: {0}")]
    Aborted(String),
    /// The server chose an application protocol that was not offered.
    #[error("the server chose the protocol {0:?}, which was not offered")]
    ForeignProtocol(String),
}

impl ConnectError {
    pub(super) fn invalid(error: impl fmt::Display) -> Self {
        Self::Invalid(error.to_string())
    }
}

/// Asks for a session. A name is resolved, and all of its addresses are tried. Each HTTP version that is tried may take
/// [`Limits::setup_timeout`].
///
/// # Errors
///
/// Why there is no session. Only after [`ConnectError::Unreachable`] does [`Http::Auto`] try another HTTP version.
///
/// # Cancel safety
///
/// Dropping the future closes the connection.
pub async fn connect(
    ask: &Ask,
    trust: &Trust,
    http: Http,
    limits: &Limits,
) -> Result<Connected, ConnectError> {
    ask.check()?;
    let tls = trust.client_config()?;
    let addresses = resolve(ask, limits.setup_timeout).await?;
    if let (Trust::Insecure, Some(address)) = (
        trust,
        addresses.iter().find(|address| !address.ip().is_loopback()),
    ) {
        let host = ask.host();
        return Err(ConnectError::Invalid(format!(
            "{host} is {address}, which is not this machine: a server is trusted blindly on loopback only"
        )));
    }
    // On the heap: a caller's future would be as large.
    let over_http3 = || {
        Box::pin(h3::connect(
            &addresses,
            ask.host(),
            tls.clone(),
            ask,
            limits,
        ))
    };
    let over_http2 = || Box::pin(over_http2(&addresses, tls.clone(), ask, limits));
    match http {
        Http::Http3 => over_http3().await,
        Http::Http2 => over_http2().await,
        Http::Auto => match over_http3().await {
            Err(ConnectError::Unreachable(first)) => match over_http2().await {
                Err(ConnectError::Unreachable(second)) => Err(ConnectError::Unreachable(format!(
                    "{first}; and over HTTP/2: {second}"
                ))),
                other => other,
            },
            other => other,
        },
    }
}

async fn resolve(ask: &Ask, timeout: Duration) -> Result<Vec<SocketAddr>, ConnectError> {
    let host = ask.host();
    let unreachable = |why: String| ConnectError::Unreachable(format!("{host}: {why}"));
    let resolving = tokio::net::lookup_host((host, ask.port()));
    let resolved = match tokio::time::timeout(timeout, resolving).await {
        Ok(resolved) => resolved.map_err(|error| unreachable(error.to_string()))?,
        Err(_) => return Err(unreachable(format!("not resolved within {timeout:?}"))),
    };
    let addresses: Vec<_> = resolved.collect();
    if addresses.is_empty() {
        return Err(unreachable("the name has no address".to_owned()));
    }
    Ok(addresses)
}

/// What comes of the first address that answers: addresses are tried one after the other, without waiting for those
/// before.
pub(super) async fn first_answer<T, F>(
    addresses: &[SocketAddr],
    dial: impl Fn(SocketAddr) -> F,
) -> Result<T, ConnectError>
where
    F: Future<Output = Result<T, String>>,
{
    let mut addresses = addresses.iter();
    let mut dialing = FuturesUnordered::new();
    let mut failed = Vec::new();
    loop {
        if let Some(&address) = addresses.next() {
            dialing.push(dial(address));
        }
        let more = addresses.len() > 0;
        tokio::select! {
            Some(dialed) = dialing.next() => match dialed {
                Ok(answer) => return Ok(answer),
                Err(error) => failed.push(error),
            },
            () = tokio::time::sleep(NEXT_ADDRESS), if more => {}
            else => return Err(ConnectError::Unreachable(failed.join("; "))),
        }
    }
}

async fn over_http2(
    addresses: &[SocketAddr],
    tls: rustls::ClientConfig,
    ask: &Ask,
    limits: &Limits,
) -> Result<Connected, ConnectError> {
    /// The draft that is spoken over HTTP/2.
    const DRAFT: &str = "draft-15";
    let until = Instant::now() + limits.setup_timeout;
    let late = |what| format!("{what} within {:?}", limits.setup_timeout);
    let name = ServerName::try_from(ask.host().to_owned()).map_err(ConnectError::invalid)?;
    let dialing = first_answer(addresses, |address| {
        let dialing = h2::dial(address, name.clone(), tls.clone(), limits);
        async move {
            match dialing.await {
                Ok(client) => Ok((client, address)),
                Err(error) => Err(format!("TCP {address}: {error:#}")),
            }
        }
    });
    let (client, peer) = match timeout_at(until, dialing).await {
        Ok(dialed) => dialed?,
        Err(_) => return Err(ConnectError::Unreachable(late("no answer"))),
    };
    let (session, response) = match timeout_at(until, client.connect(ask)).await {
        Ok(response) => response?,
        Err(_) => return Err(ConnectError::Aborted(late("no response"))),
    };
    let request = Request {
        connect: ask.request(wharf_proto::connect::Token::WebTransport, &[])?,
        peer,
        server_name: None,
        http: session.http(),
        role: Role::Client,
        draft: DRAFT,
    };
    Ok(Connected {
        session,
        request,
        response,
    })
}

/// The response that begins a session, if it is that.
pub(super) fn read_response(
    head: &http::response::Parts,
    offered: &[String],
) -> Result<Response, ConnectError> {
    let fields = head.headers.iter();
    let mut response = Response {
        status: head.status.as_u16(),
        fields: fields
            .map(|(name, value)| {
                let value = Bytes::copy_from_slice(value.as_bytes());
                (name.as_str().to_owned(), value)
            })
            .collect(),
        protocol: None,
    };
    if !head.status.is_success() {
        return Err(ConnectError::Refused(response));
    }
    let mut lines = head.headers.get_all("wt-protocol").iter();
    if let (Some(line), None) = (lines.next(), lines.next()) {
        response.protocol = decode_protocol(line.as_bytes());
    }
    if let Some(protocol) = &response.protocol
        && !offered.contains(protocol)
    {
        return Err(ConnectError::ForeignProtocol(protocol.clone()));
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: u16, protocol: &[&str]) -> http::response::Parts {
        let mut response = http::Response::builder().status(status);
        for line in protocol {
            response = response.header("wt-protocol", *line);
        }
        response.body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_response_begins_a_session_with_a_protocol_of_ours_only() {
        let offered = ["chat".to_owned()];
        let read = |status, lines: &[&str]| read_response(&response(status, lines), &offered);
        let chosen = |lines: &[&str]| read(200, lines).unwrap().protocol;
        assert_eq!(chosen(&[r#""chat""#]).as_deref(), Some("chat"));
        assert_eq!(chosen(&["chat;x=1"]).as_deref(), Some("chat"));
        for ignored in [&[][..], &["1"], &[r#""chat""#, r#""chat""#]] {
            assert_eq!(chosen(ignored), None, "{ignored:?}");
        }
        let foreign = read(204, &[r#""mail""#]).unwrap_err();
        assert!(matches!(foreign, ConnectError::ForeignProtocol(name) if name == "mail"));
        for status in [301, 404, 503] {
            let refused = read(status, &[r#""mail""#]).unwrap_err();
            assert!(matches!(refused, ConnectError::Refused(told) if told.status == status));
        }
    }
}
