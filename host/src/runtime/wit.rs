//! The values of the WIT, and what the rest of the host calls them.

use bytes::Bytes;
use wharf_proto::id::{Dir, StreamId};

use super::bindings::wharf::webtransport::types::{self, StreamKind};
use crate::transport::{Closed, Closer, Request, Response, Role};

pub(super) fn kind(id: StreamId) -> StreamKind {
    match id.dir() {
        Dir::Bi => StreamKind::Bidi,
        Dir::Uni => StreamKind::Uni,
    }
}

pub(super) fn close_info(closed: Closed) -> types::CloseInfo {
    types::CloseInfo {
        code: closed.code,
        reason: closed.reason,
        by: match closed.by {
            Closer::Local => types::Closer::Local,
            Closer::Peer => types::Closer::Peer,
            Closer::Host => types::Closer::Host,
        },
        clean: closed.clean,
    }
}

pub(super) fn asked(request: &Request) -> types::Request {
    let connect = &request.connect;
    let fields = connect.fields.iter();
    types::Request {
        scheme: connect.scheme.clone(),
        authority: connect.authority.clone(),
        path: connect.path.clone(),
        token: connect.token.as_str().to_owned(),
        origin: connect.origin.clone(),
        fields: fields
            .map(|(name, value)| (name.clone(), value.to_vec()))
            .collect(),
        offered_protocols: connect.offered_protocols.clone(),
        peer: request.peer.to_string(),
        http: request.http.into(),
        role: match request.role {
            Role::Server => types::Role::Server,
            Role::Client => types::Role::Client,
        },
    }
}

/// The response of an acceptance, or why it cannot be sent.
pub(super) fn acceptable(
    acceptance: types::Acceptance,
    request: &types::Request,
) -> Result<Response, String> {
    if !(200..300).contains(&acceptance.status) {
        return Err(format!(
            "an acceptance has a status from 200 to 299, not {}",
            acceptance.status
        ));
    }
    if let Some(protocol) = &acceptance.protocol
        && !request.offered_protocols.contains(protocol)
    {
        return Err(format!("the protocol {protocol:?} was not offered"));
    }
    Ok(Response {
        status: acceptance.status,
        fields: sendable(acceptance.fields)?,
        protocol: acceptance.protocol,
    })
}

/// The response of a rejection, or why it cannot be sent.
pub(super) fn rejectable(rejection: types::Rejection) -> Result<Response, String> {
    if !(300..600).contains(&rejection.status) {
        return Err(format!(
            "a rejection has a status from 300 to 599, not {}",
            rejection.status
        ));
    }
    Ok(Response {
        status: rejection.status,
        fields: sendable(rejection.fields)?,
        protocol: None,
    })
}

/// Fields that HTTP can send: names and values are well-formed, and none is the connection's own affair.
fn sendable(fields: Vec<(String, Vec<u8>)>) -> Result<Vec<(String, Bytes)>, String> {
    const OWN: [&str; 7] = [
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "transfer-encoding",
        "upgrade",
        "wt-protocol",
    ];
    let check = |(name, value): (String, Vec<u8>)| {
        let known = http::HeaderName::from_lowercase(name.as_bytes()).is_ok();
        if !known || OWN.contains(&name.as_str()) || http::HeaderValue::from_bytes(&value).is_err()
        {
            return Err(format!("the field {name:?} cannot be sent"));
        }
        Ok((name, Bytes::from(value)))
    };
    fields.into_iter().map(check).collect()
}
