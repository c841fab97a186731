//! Turns the fields of an extended CONNECT request into a [`Request`], or a status to refuse with.
//!
//! What is checked here is what every WebTransport request must keep: WT-H3, "Creating a New Session", and RFC 9114,
//! "Request Pseudo-Header Fields". Whether the resource exists and whether the origin may use it is for the host to say.

use std::str::FromStr;

use bytes::Bytes;
use sfv::{
    BareItem, Dictionary, Item, ItemSerializer, List, ListEntry, Parser, StringRef, TokenRef,
};
use thiserror::Error;

/// A request for a session that keeps the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Always `https`.
    pub scheme: String,
    /// Host, and port if it was given; never empty.
    pub authority: String,
    /// Begins with `/` and includes the query.
    pub path: String,
    /// The `:protocol` that was asked for.
    pub token: Token,
    /// The `Origin` field. Browsers always send it; the host must verify it when it is there.
    pub origin: Option<String>,
    /// All fields except the pseudo-header fields, in order, with lower-case names.
    pub fields: Vec<(String, Bytes)>,
    /// The application protocols that the client offers, best first. The response may choose one of them in a
    /// `wt-protocol` field, by [`encode_protocol`].
    pub offered_protocols: Vec<String>,
    /// How they were written; the response is to follow.
    pub protocol_form: ProtocolForm,
}

/// How application protocols are written in fields.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum ProtocolForm {
    /// As Strings, since draft 13.
    #[default]
    Strings,
    /// As Tokens, in drafts 10 to 12.
    Tokens,
}

/// The upgrade tokens of WebTransport.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Token {
    /// `webtransport`: over HTTP/2, and over HTTP/3 up to draft 14.
    WebTransport,
    /// `webtransport-h3`: over HTTP/3 since draft 15.
    WebTransportH3,
}

impl Token {
    /// The value of `:protocol`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WebTransport => "webtransport",
            Self::WebTransportH3 => "webtransport-h3",
        }
    }
}

impl FromStr for Token {
    type Err = Refusal;

    fn from_str(protocol: &str) -> Result<Self, Refusal> {
        [Self::WebTransport, Self::WebTransportH3]
            .into_iter()
            .find(|token| token.as_str() == protocol)
            .ok_or(Refusal::UnknownProtocol)
    }
}

/// The header section of a request, as it came.
#[derive(Clone, Debug)]
pub struct Head<'a> {
    /// `:method`.
    pub method: &'a str,
    /// `:scheme`.
    pub scheme: Option<&'a str>,
    /// `:authority`.
    pub authority: Option<&'a str>,
    /// `:path`.
    pub path: Option<&'a str>,
    /// `:protocol`.
    pub protocol: Option<&'a str>,
    /// The other fields in order, one entry for each line, with lower-case names.
    pub fields: Vec<(&'a str, &'a [u8])>,
}

impl Head<'_> {
    /// Checks that this is a proper request for a WebTransport session.
    ///
    /// # Errors
    ///
    /// The status to refuse with, and why.
    pub fn check(&self) -> Result<Request, Refusal> {
        let protocol = match self.protocol {
            Some(protocol) if self.method == "CONNECT" => protocol,
            _ => return Err(Refusal::NotConnect),
        };
        let (offered_protocols, protocol_form) = self.offered_protocols();
        Ok(Request {
            token: protocol.parse()?,
            scheme: self.scheme()?,
            authority: self.authority()?,
            path: self.path()?,
            origin: self.origin()?,
            fields: self
                .fields
                .iter()
                .map(|&(name, value)| (name.to_owned(), Bytes::copy_from_slice(value)))
                .collect(),
            offered_protocols,
            protocol_form,
        })
    }

    fn scheme(&self) -> Result<String, Refusal> {
        match self.scheme {
            Some(scheme) if scheme.eq_ignore_ascii_case("https") => Ok("https".to_owned()),
            Some(_) => Err(Refusal::Malformed(":scheme is not https")),
            None => Err(Refusal::Malformed(":scheme is missing")),
        }
    }

    fn authority(&self) -> Result<String, Refusal> {
        let authority = match self.authority {
            Some(authority) if !authority.is_empty() => authority,
            _ => return Err(Refusal::Malformed(":authority is missing or empty")),
        };
        if authority.contains('@') {
            return Err(Refusal::Malformed(":authority has user information"));
        }
        if self.lines("host").any(|host| host != authority.as_bytes()) {
            return Err(Refusal::Malformed("host differs from :authority"));
        }
        Ok(authority.to_owned())
    }

    fn path(&self) -> Result<String, Refusal> {
        match self.path {
            Some(path) if path.starts_with('/') => Ok(path.to_owned()),
            Some(_) => Err(Refusal::Malformed(":path does not begin with a slash")),
            None => Err(Refusal::Malformed(":path is missing")),
        }
    }

    fn origin(&self) -> Result<Option<String>, Refusal> {
        let mut lines = self.lines("origin");
        let Some(origin) = lines.next() else {
            return Ok(None);
        };
        if lines.next().is_some() {
            return Err(Refusal::Malformed("more than one origin"));
        }
        match str::from_utf8(origin) {
            Ok(origin) => Ok(Some(origin.to_owned())),
            Err(_) => Err(Refusal::Malformed("origin is not UTF-8")),
        }
    }

    /// WT-H3, "Application Protocol Negotiation": a List of Strings. Drafts 10 to 12 had Tokens there. Anything else
    /// makes the field count as absent.
    fn offered_protocols(&self) -> (Vec<String>, ProtocolForm) {
        let lines: Vec<&[u8]> = self.lines("wt-available-protocols").collect();
        let Ok(list) = Parser::new(&lines.join(&b", "[..])).parse::<List>() else {
            return (Vec::new(), ProtocolForm::Strings);
        };
        let all_of = |name: fn(&BareItem) -> Option<&str>| {
            list.iter()
                .map(|member| match member {
                    ListEntry::Item(Item { bare_item, .. }) => name(bare_item).map(str::to_owned),
                    ListEntry::InnerList(_) => None,
                })
                .collect::<Option<Vec<String>>>()
        };
        if let Some(strings) = all_of(|item| item.as_string().map(StringRef::as_str)) {
            return (strings, ProtocolForm::Strings);
        }
        let tokens = all_of(|item| item.as_token().map(TokenRef::as_str));
        (tokens.unwrap_or_default(), ProtocolForm::Tokens)
    }

    fn lines(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.fields
            .iter()
            .filter(move |field| field.0 == name)
            .map(|field| field.1)
    }
}

/// Why a request begins no session.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Another method, or a CONNECT without `:protocol`.
    #[error("not an extended CONNECT request")]
    NotConnect,
    /// `:protocol` is no token of WebTransport.
    #[error(":protocol is not a WebTransport token")]
    UnknownProtocol,
    /// The request breaks a rule.
    #[error("malformed request: {0}")]
    Malformed(&'static str),
}

impl Refusal {
    /// The status to answer with.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::NotConnect => 405,
            Self::UnknownProtocol => 501,
            Self::Malformed(_) => 400,
        }
    }
}

/// What a client grants beyond its SETTINGS over HTTP/2, by the `webtransport-init` field of its request (WT-H2, "Flow
/// Control Header"). "Local" and "remote" are as the client sees it.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Init {
    /// Bytes on each unidirectional stream of the server.
    pub uni: u64,
    /// Bytes on each bidirectional stream of the client.
    pub bidi_local: u64,
    /// Bytes on each bidirectional stream of the server.
    pub bidi_remote: u64,
}

impl Init {
    /// The name of the field.
    pub const FIELD: &str = "webtransport-init";

    /// What the fields of a request say; nothing is granted where they do not.
    ///
    /// # Errors
    ///
    /// If the field is no Dictionary, or what it grants is no Integer from 0 on.
    pub fn of(fields: &[(String, Bytes)]) -> Result<Self, Refusal> {
        let lines = fields.iter().filter(|(name, _)| name == Self::FIELD);
        let lines: Vec<&[u8]> = lines.map(|(_, value)| &value[..]).collect();
        let malformed = Refusal::Malformed("WebTransport-Init is not a dictionary of limits");
        let dictionary = Parser::new(&lines.join(&b", "[..]))
            .parse::<Dictionary>()
            .map_err(|_| malformed)?;
        let limit = |key: &str| match dictionary.get(key) {
            None => Ok(0),
            Some(ListEntry::Item(Item { bare_item, .. })) => bare_item
                .as_integer()
                .and_then(|limit| u64::try_from(i64::from(limit)).ok())
                .ok_or(malformed),
            Some(ListEntry::InnerList(_)) => Err(malformed),
        };
        Ok(Self {
            uni: limit("u")?,
            bidi_local: limit("bl")?,
            bidi_remote: limit("br")?,
        })
    }
}

/// The value of a `wt-available-protocols` request field that offers `protocols`, best first, or `None` if such a field
/// cannot say one of them.
#[must_use]
pub fn encode_protocols(protocols: &[String]) -> Option<String> {
    let items = protocols.iter();
    let items = items.map(|protocol| encode_protocol(protocol, ProtocolForm::Strings));
    Some(items.collect::<Option<Vec<_>>>()?.join(", "))
}

/// The value of a `wt-protocol` response field that chooses `protocol`, or `None` if such a field cannot say it: only
/// printable ASCII can, and of that less in a Token.
#[must_use]
pub fn encode_protocol(protocol: &str, form: ProtocolForm) -> Option<String> {
    let item = ItemSerializer::new();
    Some(match form {
        ProtocolForm::Strings => item.bare_item(StringRef::from_str(protocol).ok()?).finish(),
        ProtocolForm::Tokens => item.bare_item(TokenRef::from_str(protocol).ok()?).finish(),
    })
}

/// The protocol that a `wt-protocol` response field chooses, if it chooses one. A field that is no String,
/// or no Token, which it was in drafts 10 to 12, counts as absent.
#[must_use]
pub fn decode_protocol(value: &[u8]) -> Option<String> {
    let item = Parser::new(value).parse::<Item>().ok()?.bare_item;
    let string = item.as_string().map(StringRef::as_str);
    let name = string.or_else(|| item.as_token().map(TokenRef::as_str))?;
    Some(name.to_owned())
}

#[cfg(test)]
mod tests;
