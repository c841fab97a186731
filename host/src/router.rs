//! Finds the route for a request.

use crate::{
    config::Origins,
    runtime::Component,
    transport::{Quirks, Request},
};

/// A route with its component loaded.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) name: std::sync::Arc<str>,
    pub(crate) path: String,
    pub(crate) component: Component,
    pub(crate) origins: Origins,
    pub(crate) quirks: Quirks,
}

/// Why a request is refused before any handler sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    NoRoute,
    Origin,
}

impl Refused {
    /// The status that answers it.
    pub(crate) fn status(self) -> u16 {
        match self {
            Self::NoRoute => 404,
            Self::Origin => 403,
        }
    }
}

/// All routes, the longest path first.
#[derive(Debug)]
pub(crate) struct Router {
    routes: Vec<Route>,
}

impl Router {
    pub(crate) fn new(mut routes: Vec<Route>) -> Self {
        routes.sort_by_key(|route| std::cmp::Reverse(route.path.len()));
        Self { routes }
    }

    /// The route that serves a request, if its origin is welcome there.
    pub(crate) fn find(&self, request: &Request) -> Result<&Route, Refused> {
        let connect = &request.connect;
        let path = connect.path.split('?').next().unwrap_or_default();
        let route = self
            .routes
            .iter()
            .find(|route| is_below(path, &route.path))
            .ok_or(Refused::NoRoute)?;
        match &connect.origin {
            Some(origin) if !is_welcome(&route.origins, origin, &connect.authority) => {
                Err(Refused::Origin)
            }
            Some(_) | None => Ok(route),
        }
    }
}

fn is_below(path: &str, prefix: &str) -> bool {
    match path.strip_prefix(prefix.trim_end_matches('/')) {
        Some(rest) => rest.is_empty() || rest.starts_with('/'),
        None => false,
    }
}

fn is_welcome(origins: &Origins, origin: &str, authority: &str) -> bool {
    match origins {
        Origins::Any => true,
        Origins::Listed(listed) => {
            origin.strip_prefix("https://") == Some(authority)
                || listed.iter().any(|known| known == origin)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_serves_itself_and_what_is_below_it() {
        for (path, prefix, below) in [
            ("/", "/", true),
            ("/chat", "/", true),
            ("/chat", "/chat", true),
            ("/chat/a", "/chat", true),
            ("/chat/a", "/chat/", true),
            ("/chats", "/chat", false),
            ("/", "/chat", false),
        ] {
            assert_eq!(is_below(path, prefix), below, "{path} below {prefix}");
        }
    }

    #[test]
    fn only_the_same_origin_and_listed_ones_are_welcome() {
        let listed = Origins::Listed(vec!["http://127.0.0.1:8080".to_owned()]);
        for (origin, welcome) in [
            ("https://a.example:4433", true),
            ("http://a.example:4433", false),
            ("http://127.0.0.1:8080", true),
            ("http://127.0.0.1:80801", false),
            ("null", false),
        ] {
            assert_eq!(
                is_welcome(&listed, origin, "a.example:4433"),
                welcome,
                "{origin}"
            );
        }
        assert!(is_welcome(&Origins::Any, "null", "a.example"));
    }
}
