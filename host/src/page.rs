//! The developer's page: a small web server on loopback that tells a browser how to connect.

use std::net::SocketAddr;

use anyhow::Context as _;
use axum::{
    Json, Router,
    http::{HeaderName, header},
    response::IntoResponse,
    routing::get,
};
use serde::Serialize;
use tokio::net::TcpListener;

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

    /// Serves the page until dropped.
    ///
    /// # Errors
    ///
    /// When the socket fails.
    pub(crate) async fn run(self, target: Target) -> anyhow::Result<()> {
        let router = Router::new()
            .route(
                "/",
                get(|| async { file("text/html; charset=utf-8", include_str!("page/index.html")) }),
            )
            .route(
                "/page.css",
                get(|| async { file("text/css; charset=utf-8", include_str!("page/page.css")) }),
            )
            .route(
                "/page.js",
                get(|| async {
                    file(
                        "text/javascript; charset=utf-8",
                        include_str!("page/page.js"),
                    )
                }),
            )
            .route(
                "/session.json",
                get(|| async move { ([(header::CACHE_CONTROL, "no-store")], Json(target)) }),
            );
        Ok(axum::serve(self.listener, router).await?)
    }
}

fn file(kind: &'static str, content: &'static str) -> impl IntoResponse {
    const POLICY: &str =
        "default-src 'self'; img-src data:; connect-src 'self' https:; frame-ancestors 'none'";
    let headers: [(HeaderName, &str); 4] = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, content)
}
