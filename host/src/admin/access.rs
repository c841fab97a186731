//! Who may use the admin listener.

use std::{
    net::IpAddr,
    sync::{Arc, PoisonError, RwLock},
};

use axum::{
    http::{HeaderMap, StatusCode, header, uri::Authority},
    response::{IntoResponse, Response},
};
use subtle::ConstantTimeEq as _;

/// Holds requests against what they need. Cloning it is cheap; all clones are one.
#[derive(Clone)]
pub(crate) struct Access(Arc<RwLock<Needed>>);

/// What a request must have to be answered.
pub(crate) enum Needed {
    /// `Authorization: Bearer`, and this.
    Token(String),
    /// Nothing, but that it was not caused by a web page: the listener is on loopback.
    NoPage,
}

/// Why a request is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    Token,
    Page,
}

impl Needed {
    /// Where there is a token, that; else the listener is loopback's.
    pub(crate) fn by(token: Option<String>) -> Self {
        token.map_or(Self::NoPage, Self::Token)
    }

    fn check(&self, headers: &HeaderMap) -> Result<(), Denied> {
        match self {
            Self::Token(token) => {
                let given = headers.get(header::AUTHORIZATION);
                let given = given.and_then(|given| bearer(given.as_bytes()));
                // Only the length may show.
                let equal = given.is_some_and(|given| token.as_bytes().ct_eq(given).into());
                equal.then_some(()).ok_or(Denied::Token)
            }
            Self::NoPage => {
                let host = headers.get(header::HOST);
                let host = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
                let by_address = host.is_some_and(|host| names_no_other(host.host()));
                let by_page = headers.contains_key(header::ORIGIN);
                (by_address && !by_page).then_some(()).ok_or(Denied::Page)
            }
        }
    }
}

impl Access {
    pub(super) fn new(needed: Needed) -> Self {
        Self(Arc::new(RwLock::new(needed)))
    }

    /// Requests must have that from now on.
    pub(crate) fn demand(&self, needed: Needed) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = needed;
    }

    /// Whether a request with these headers is answered.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<(), Denied> {
        let needed = self.0.read().unwrap_or_else(PoisonError::into_inner);
        needed.check(headers)
    }
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").finish_non_exhaustive()
    }
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    const SCHEME: &[u8] = b"bearer ";
    let (scheme, token) = value.split_at_checked(SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME).then_some(token)
}

/// Whether a host is an address or `localhost`: any other name may have been made to lead here, for a page of that name.
fn names_no_other(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<IpAddr>().is_ok()
}

impl IntoResponse for Denied {
    fn into_response(self) -> Response {
        match self {
            Self::Token => (
                StatusCode::UNAUTHORIZED,
                [(header::WWW_AUTHENTICATE, "Bearer")],
                "the token is missing, or another\n",
            )
                .into_response(),
            Self::Page => (
                StatusCode::FORBIDDEN,
                "without a token, only requests by address and from no web page are answered\n",
            )
                .into_response(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_may_lead_here_is_not_answered() {
        for (host, answered) in [
            ("127.0.0.1:9464", true),
            ("[::1]:9464", true),
            ("localhost:9464", true),
            ("rebound.example:9464", false),
            ("localhost.example", false),
            ("127.0.0.1.example", false),
        ] {
            let headers = HeaderMap::from_iter([(header::HOST, host.parse().unwrap())]);
            let checked = Needed::NoPage.check(&headers);
            assert_eq!(checked.is_ok(), answered, "{host}");
        }
        assert_eq!(Needed::NoPage.check(&HeaderMap::new()), Err(Denied::Page));
    }

    #[test]
    fn only_the_whole_token_is_taken() {
        let access = Needed::Token("0123456789abcdef".to_owned());
        for (given, taken) in [
            ("Bearer 0123456789abcdef", true),
            ("bearer 0123456789abcdef", true),
            ("Bearer 0123456789abcde", false),
            ("Bearer 0123456789abcdef0", false),
            ("Bearer ", false),
            ("Basic 0123456789abcdef", false),
            ("0123456789abcdef", false),
        ] {
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, given.parse().unwrap())]);
            assert_eq!(access.check(&headers).is_ok(), taken, "{given}");
        }
        assert_eq!(access.check(&HeaderMap::new()), Err(Denied::Token));
    }
}
