//! A page for the browser: a small web server on loopback that tells it how to connect.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::Context as _;
use axum::{
    Json, Router,
    http::{HeaderName, HeaderValue, header},
    routing::get,
};
use serde::Serialize;
use tokio::net::TcpListener;
use tower_http::{services::ServeDir, set_header::SetResponseHeaderLayer};

/// What the page needs to open a session.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Target {
    /// Where sessions are served.
    pub(crate) url: String,
    /// The SHA-256 of the certificate, in base64.
    pub(crate) hash: String,
    /// The component's name.
    pub(crate) component: String,
    /// The version of the host.
    pub(crate) version: &'static str,
}

/// A page server, bound and not yet running.
#[derive(Debug)]
pub(crate) struct Page {
    listener: TcpListener,
    address: SocketAddr,
}

impl Page {
    /// Binds. Port 0 takes a free one.
    ///
    /// # Errors
    ///
    /// When the address cannot be bound.
    pub(crate) async fn bind(address: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address).await.with_context(|| {
            format!("cannot listen on TCP {address} (another program may hold the port; --page takes another, port 0 a free one)")
        })?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// The address bound.
    #[must_use]
    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves the page until dropped: the files of a folder, or the page that is built in.
    ///
    /// # Errors
    ///
    /// When the socket fails.
    pub(crate) async fn run(self, target: Target, files: Option<PathBuf>) -> anyhow::Result<()> {
        let session = move || async move { ([(header::CACHE_CONTROL, "no-store")], Json(target)) };
        let mut router = match files {
            Some(folder) => Router::new().fallback_service(ServeDir::new(folder)),
            None => built_in(),
        }
        .route("/session.json", get(session));
        for (name, value) in HEADERS {
            let value = HeaderValue::from_static(value);
            router = router.layer(SetResponseHeaderLayer::if_not_present(name, value));
        }
        Ok(axum::serve(self.listener, router).await?)
    }
}

/// What every answer has, unless it says otherwise itself.
const HEADERS: [(HeaderName, &str); 3] = [
    (header::CACHE_CONTROL, "no-cache"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'self'; img-src 'self' data:; connect-src 'self' https:; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
];

fn built_in() -> Router {
    let files = [
        ("/", "text/html", include_str!("page/index.html")),
        ("/page.css", "text/css", include_str!("page/page.css")),
        ("/page.js", "text/javascript", include_str!("page/page.js")),
    ];
    files.into_iter().fold(Router::new(), |router, file| {
        let (path, kind, content) = file;
        let kind = format!("{kind}; charset=utf-8");
        router.route(
            path,
            get(move || async move { ([(header::CONTENT_TYPE, kind)], content) }),
        )
    })
}
