//! The session that a behaviour acts in, and what its path asks for.

use crate::bindings::wharf::webtransport::transport::Session;
use crate::bindings::wharf::webtransport::types::Request;
use std::str::FromStr;

/// A session with its request, and the request's path taken apart.
pub(crate) struct Scene {
    pub(crate) session: Session,
    pub(crate) request: Request,
    /// The behaviour that is asked for.
    pub(crate) name: String,
    /// Whether data and datagrams are left out of the report.
    pub(crate) quiet: bool,
    /// The arguments, still escaped.
    arguments: Vec<(String, String)>,
}

impl Scene {
    pub(crate) fn new(session: Session, request: Request) -> Self {
        let (path, query) = match request.path.split_once('?') {
            Some(parts) => parts,
            None => (request.path.as_str(), ""),
        };
        let mut segments = path.split('/').skip(1).peekable();
        let quiet = segments.next_if_eq(&"quiet").is_some();
        let name = segments.next().unwrap_or_default().to_owned();
        let arguments = query
            .split('&')
            .filter_map(|argument| argument.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        Self {
            session,
            request,
            name,
            quiet,
            arguments,
        }
    }

    /// The argument as a number; the default where it is absent, or none that fits.
    pub(crate) fn number<T: FromStr>(&self, key: &str, default: T) -> T {
        let value = self.argument(key).and_then(|value| value.parse().ok());
        value.unwrap_or(default)
    }

    /// The argument as text; empty where it is absent.
    pub(crate) fn text(&self, key: &str) -> String {
        unescape(self.argument(key).unwrap_or_default())
    }

    /// Closes the session with the `code` and `reason` of the path.
    pub(crate) fn close(&self) {
        self.session
            .close(self.number("code", 0), &self.text("reason"));
    }

    /// Drains the session.
    pub(crate) fn drain(&self) {
        self.session.drain();
    }

    fn argument(&self, key: &str) -> Option<&str> {
        let mut arguments = self.arguments.iter();
        arguments.find_map(|(name, value)| (name == key).then_some(value.as_str()))
    }
}

/// Undoes the escapes of a query: `+` is a space, `%2B` is a plus.
fn unescape(text: &str) -> String {
    let spaced = text.replace('+', " ");
    let mut parts = spaced.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let byte = part
            .get(..2)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        let literal = match byte {
            Some(_) => part.get(2..).unwrap_or_default(),
            None => part,
        };
        bytes.push(byte.unwrap_or(b'%'));
        bytes.extend_from_slice(literal.as_bytes());
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
