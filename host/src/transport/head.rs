//! Heads of HTTP messages, from and to what the rest of the host says with them.

use std::ops::RangeInclusive;

use anyhow::Context as _;
use wharf_proto::connect::{self, Head, ProtocolForm, Refusal, encode_protocol};

use super::Response;

/// The statuses that begin a session.
const ACCEPTING: RangeInclusive<u16> = 200..=299;
/// The statuses that refuse one.
const REFUSING: RangeInclusive<u16> = 300..=599;

/// Whether a request asks for a session, and for which. `protocol` is its `:protocol`.
pub(super) fn check(
    head: &http::Request<()>,
    protocol: Option<&str>,
) -> Result<connect::Request, Refusal> {
    let uri = head.uri();
    let fields = head.headers().iter();
    Head {
        method: head.method().as_str(),
        scheme: uri.scheme_str(),
        authority: uri.authority().map(http::uri::Authority::as_str),
        path: uri.path_and_query().map(http::uri::PathAndQuery::as_str),
        protocol,
        fields: fields
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .collect(),
    }
    .check()
}

/// The size of a request's field section in bytes, as RFC 9114 counts it ("Header Size Constraints").
pub(super) fn section_size(head: &http::Request<()>, protocol: Option<&str>) -> u64 {
    const EACH: usize = 32;
    let uri = head.uri();
    let path = uri.path_and_query();
    let pseudo = [
        (":method", Some(head.method().as_str())),
        (":scheme", uri.scheme_str()),
        (
            ":authority",
            uri.authority().map(http::uri::Authority::as_str),
        ),
        (":path", path.map(http::uri::PathAndQuery::as_str)),
        (":protocol", protocol),
    ];
    let pseudo = pseudo.into_iter();
    let pseudo = pseudo.filter_map(|(name, value)| Some(name.len() + value?.len()));
    let fields = head.headers().iter();
    let fields = fields.map(|(name, value)| name.as_str().len() + value.len());
    pseudo.chain(fields).map(|size| (EACH + size) as u64).sum()
}

/// The head that begins the session that was asked for.
pub(super) fn acceptance(
    response: &Response,
    request: &connect::Request,
) -> anyhow::Result<http::Response<()>> {
    if let Some(protocol) = &response.protocol {
        anyhow::ensure!(
            request.offered_protocols.contains(protocol),
            "the protocol {protocol:?} was not offered"
        );
    }
    encode(response, ACCEPTING, request.protocol_form)
}

/// The head that refuses a session.
pub(super) fn refusal(response: &Response) -> anyhow::Result<http::Response<()>> {
    encode(response, REFUSING, ProtocolForm::default())
}

fn encode(
    response: &Response,
    statuses: RangeInclusive<u16>,
    form: ProtocolForm,
) -> anyhow::Result<http::Response<()>> {
    anyhow::ensure!(
        statuses.contains(&response.status),
        "the status is {}, not {} to {}",
        response.status,
        statuses.start(),
        statuses.end()
    );
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
