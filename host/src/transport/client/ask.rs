//! What is asked of a server: an address, and the fields of a request.

use bytes::Bytes;
use http::Uri;
use wharf_proto::connect::{Head, Request, Token, encode_protocols};

use super::ConnectError;
use crate::transport::Quirks;

/// The port of `https`.
const PORT: u16 = 443;

/// A request for a session.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Ask {
    /// Host, and port if it is not 443.
    pub authority: String,
    /// Begins with `/` and includes the query.
    pub path: String,
    /// The web page that asks, where it is one.
    pub origin: Option<String>,
    /// Further fields, with lower-case names.
    pub fields: Vec<(String, Bytes)>,
    /// Application protocols, of which the server may choose one, best first.
    pub protocols: Vec<String>,
    /// Deviations of the server's from the drafts that are borne with.
    pub quirks: Quirks,
}

impl Ask {
    /// A plain request for the session at a URL such as `https://localhost:4433/chat?room=1`.
    ///
    /// # Errors
    ///
    /// One line that says what is wrong with the URL.
    pub fn new(url: &str) -> Result<Self, ConnectError> {
        let wrong = |why: &str| {
            ConnectError::Invalid(format!("{url:?} {why} (expected https://HOST[:PORT]/PATH)"))
        };
        let uri: Uri = url.parse().map_err(|_| wrong("is no URL"))?;
        if uri.scheme_str() != Some("https") {
            return Err(wrong("does not begin with https://"));
        }
        let authority = uri.authority().ok_or_else(|| wrong("names no host"))?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let ask = Self {
            authority: authority.as_str().to_owned(),
            path: if path.starts_with('/') {
                path.to_owned()
            } else {
                format!("/{path}") // a query right after the host
            },
            origin: None,
            fields: Vec::new(),
            protocols: Vec::new(),
            quirks: Quirks::default(),
        };
        ask.check()?;
        Ok(ask)
    }

    /// The host, without the brackets of an IPv6 address.
    #[must_use]
    pub fn host(&self) -> &str {
        self.split().0
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.split().1.unwrap_or(PORT)
    }

    /// Host and port; a port that is none counts as absent, which [`check`](Self::check) does not let pass.
    fn split(&self) -> (&str, Option<u16>) {
        let (host, port) = match self.authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port.parse().ok()),
            Some(_) | None => (self.authority.as_str(), None),
        };
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        (bare.unwrap_or(host), port)
    }

    /// Whether it can be sent.
    ///
    /// # Errors
    ///
    /// What cannot be, by its name.
    pub fn check(&self) -> Result<(), ConnectError> {
        let authority: http::uri::Authority =
            self.authority.parse().map_err(ConnectError::invalid)?;
        let has_port = authority.as_str().len() > authority.host().len();
        if authority.host().is_empty() || (has_port && authority.port_u16().is_none()) {
            return Err(ConnectError::Invalid(format!(
                "{:?} is no host, or no host and port",
                self.authority
            )));
        }
        self.request(Token::WebTransport, &[]).map(|_| ())
    }

    /// The request, with that `:protocol`, and with those fields in front.
    pub(in crate::transport) fn request(
        &self,
        token: Token,
        first: &[(&str, &str)],
    ) -> Result<Request, ConnectError> {
        let offered = encode_protocols(&self.protocols).ok_or_else(|| {
            ConnectError::Invalid(format!(
                "a protocol among {:?} is not of printable ASCII",
                self.protocols
            ))
        })?;
        let mut fields: Vec<(&str, &[u8])> = Vec::new();
        for (name, value) in first {
            fields.push((name, value.as_bytes()));
        }
        if let Some(origin) = &self.origin {
            fields.push(("origin", origin.as_bytes()));
        }
        if !offered.is_empty() {
            fields.push(("wt-available-protocols", offered.as_bytes()));
        }
        for (name, value) in &self.fields {
            fields.push((name, value));
        }
        for (name, value) in &fields {
            let known = http::HeaderName::from_lowercase(name.as_bytes()).is_ok();
            if !known || http::HeaderValue::from_bytes(value).is_err() {
                return Err(ConnectError::Invalid(format!(
                    "the field {name:?} cannot be sent"
                )));
            }
        }
        let head = Head {
            method: "CONNECT",
            scheme: Some("https"),
            authority: Some(&self.authority),
            path: Some(&self.path),
            protocol: Some(token.as_str()),
            fields,
        };
        head.check().map_err(ConnectError::invalid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_to_and_for_what() {
        for (url, host, port, path) in [
            ("https://localhost:4433/a?b=c", "localhost", 4433, "/a?b=c"),
            ("https://example.com", "example.com", 443, "/"),
            ("https://[::1]:1/", "::1", 1, "/"),
            ("https://[::1]", "::1", 443, "/"),
            ("https://127.0.0.1?x", "127.0.0.1", 443, "/?x"),
        ] {
            let ask = Ask::new(url).unwrap();
            assert_eq!((ask.host(), ask.port()), (host, port), "{url}");
            assert_eq!(ask.path, path, "{url}");
        }
    }

    #[test]
    fn what_is_no_url_of_a_server_is_refused_with_the_form_of_one() {
        for url in [
            "",
            "localhost",
            "http://a/",
            "https://",
            "https://a:b/",
            "/a",
            "https://u@a/",
        ] {
            let error = Ask::new(url).unwrap_err();
            assert!(matches!(error, ConnectError::Invalid(_)), "{url}: {error}");
        }
    }

    #[test]
    fn protocols_and_the_origin_are_fields_of_the_request() {
        let mut ask = Ask::new("https://a/").unwrap();
        ask.protocols = vec!["a".to_owned(), "b c".to_owned()];
        ask.origin = Some("https://page.example".to_owned());
        ask.fields = vec![("x".to_owned(), Bytes::from_static(b"y"))];
        let request = ask
            .request(Token::WebTransportH3, &[("draft", "02")])
            .unwrap();
        let fields = request.fields.iter();
        assert_eq!(request.offered_protocols, ask.protocols);
        assert_eq!(request.origin, ask.origin);
        assert_eq!(
            fields
                .map(|(name, value)| format!("{name}: {}", value.escape_ascii()))
                .collect::<Vec<_>>(),
            [
                "draft: 02",
                "origin: https://page.example",
                r#"wt-available-protocols: \"a\", \"b c\""#,
                "x: y",
            ]
        );
    }

    #[test]
    fn what_cannot_be_sent_is_refused() {
        let with = |name: &str, value: &'static [u8]| {
            let mut ask = Ask::new("https://a/").unwrap();
            ask.fields = vec![(name.to_owned(), Bytes::from_static(value))];
            ask.check().map_err(|error| error.to_string())
        };
        assert_eq!(with("x", b"y"), Ok(()));
        for (name, value) in [("X", &b"y"[..]), ("", b"y"), (":path", b"/"), ("x", b"\n")] {
            assert!(
                with(name, value)
                    .unwrap_err()
                    .contains(&format!("{name:?}"))
            );
        }
        let mut ask = Ask::new("https://a/").unwrap();
        ask.protocols = vec!["\u{e4}".to_owned()];
        assert!(ask.check().is_err());
    }
}
