//! The values of a file: each is read by itself, so that one that is wrong leaves the others readable.

use std::{borrow::Cow, fmt, marker::PhantomData, net::SocketAddr, ops::Range};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use super::problem::Report;

/// A value that a file may give.
pub(super) struct Given<T>(Option<Spanned<Result<T, String>>>);

impl<T> Given<T> {
    /// The value, where it was given and is right; reports what is wrong.
    pub(super) fn take(self, report: &mut Report) -> Option<T> {
        Some(self.take_with_place(report)?.0)
    }

    /// The same, with its place.
    pub(super) fn take_with_place(self, report: &mut Report) -> Option<(T, Range<usize>)> {
        let given = self.0?;
        let span = given.span();
        match given.into_inner() {
            Ok(value) => Some((value, span)),
            Err(what) => {
                report.add(&span, what);
                None
            }
        }
    }
}

impl<T> Default for Given<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Given<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Spanned::<toml::Value>::deserialize(deserializer)?;
        let span = value.span();
        let read = T::deserialize(value.into_inner())
            .map_err(|error: toml::de::Error| error.message().to_owned());
        Ok(Self(Some(Spanned::new(span, read))))
    }
}

impl<T: JsonSchema> JsonSchema for Given<T> {
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// A text that must have a certain form.
pub(super) trait Form: Sized {
    /// What it is, with an example, for who wrote something else.
    const EXPECTED: &'static str;

    fn read(text: &str) -> Option<Self>;
}

/// A text of that form.
pub(super) struct Text<F>(pub(super) F);

impl<'de, F: Form> Deserialize<'de> for Text<F> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<F>(PhantomData<F>);
        impl<F: Form> serde::de::Visitor<'_> for Visitor<F> {
            type Value = Text<F>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(F::EXPECTED)
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
                let wrong = || E::custom(format!("{text:?} is not {}", F::EXPECTED));
                F::read(text).map(Text).ok_or_else(wrong)
            }
        }
        deserializer.deserialize_str(Visitor(PhantomData))
    }
}

impl<F> JsonSchema for Text<F> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        String::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        String::json_schema(generator)
    }
}

impl Form for SocketAddr {
    const EXPECTED: &'static str =
        "an address with a port (such as \"127.0.0.1:4433\" or \"[::]:443\")";

    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

/// The name of a tenant.
pub(super) struct Name(pub(super) String);

impl Form for Name {
    const EXPECTED: &'static str = "a name of at most 64 letters, digits, `-`, `_` and `.`";

    fn read(text: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        ((1..=64).contains(&text.len()) && text.bytes().all(plain)).then(|| Self(text.to_owned()))
    }
}

/// The path of a route.
pub(super) struct RoutePath(pub(super) String);

impl Form for RoutePath {
    const EXPECTED: &'static str = "a path that begins with `/`, without query (such as \"/chat\")";

    fn read(text: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_graphic() && !b"?#".contains(&byte);
        (text.starts_with('/') && text.bytes().all(plain)).then(|| Self(text.to_owned()))
    }
}

/// The origin of web pages.
pub(super) struct Origin(pub(super) String);

impl Form for Origin {
    const EXPECTED: &'static str = "an origin, a scheme and a host (such as \"https://app.example\" or \"http://localhost:5173\")";

    fn read(text: &str) -> Option<Self> {
        let origin = text.trim_end_matches('/');
        let (scheme, host) = origin.split_once("://")?;
        let plain = |byte: u8| byte.is_ascii_graphic() && !b"/?#@*".contains(&byte);
        // Browsers leave the usual port out (URL Standard, "Origin").
        let origin = match scheme {
            "http" => origin.strip_suffix(":80").unwrap_or(origin),
            "https" => origin.strip_suffix(":443").unwrap_or(origin),
            _ => return None,
        };
        let valid = !host.is_empty() && host.bytes().all(plain);
        valid.then(|| Self(origin.to_ascii_lowercase()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_as_browsers_send_it() {
        for (written, read) in [
            ("https://app.example", Some("https://app.example")),
            ("https://App.Example/", Some("https://app.example")),
            ("https://app.example:443", Some("https://app.example")),
            ("http://app.example:80/", Some("http://app.example")),
            ("http://app.example:443", Some("http://app.example:443")),
            ("https://[::1]:443", Some("https://[::1]")),
            ("https://app.example:8443", Some("https://app.example:8443")),
            ("ftp://app.example", None),
            ("https://", None),
            ("app.example", None),
            ("https://*.app.example", None),
        ] {
            let origin = Origin::read(written).map(|origin| origin.0);
            assert_eq!(origin.as_deref(), read, "{written}");
        }
    }
}
