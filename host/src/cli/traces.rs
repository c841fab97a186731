//! Traces for OpenTelemetry: a span per session, sent to a collector by OTLP over HTTP.
//!
//! The variables of the OpenTelemetry specification say where to and how: `OTEL_EXPORTER_OTLP_ENDPOINT`, `…_HEADERS`,
//! `OTEL_SERVICE_NAME`, `OTEL_TRACES_SAMPLER` and so on. Without an endpoint nothing of this runs. Spans wait in a queue
//! of 2048 (`OTEL_BSP_MAX_QUEUE_SIZE`) for a thread of its own; those beyond are dropped.

use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use anyhow::Context as _;
use bytes::Bytes;
use http::{Request, Response};
use opentelemetry::{KeyValue, trace::TracerProvider as _};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    trace::{SdkTracer, SdkTracerProvider},
};
use tracing::Subscriber;
use tracing_opentelemetry::OpenTelemetryLayer;
use tracing_subscriber::registry::LookupSpan;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// Any of these asks for traces.
const ENDPOINTS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
];
/// How long the collector may take for one request.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The longest answer of a collector that is read, in bytes.
const ANSWER_MAX: u64 = 64 << 10;

/// What sends the traces, where the environment names a collector.
///
/// # Errors
///
/// When a variable of OpenTelemetry says what cannot be.
pub(super) fn provider() -> anyhow::Result<Option<SdkTracerProvider>> {
    let named = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let Some(endpoint) = ENDPOINTS.into_iter().find_map(named) else {
        return Ok(None);
    };
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(Client::new())
        .build()
        .with_context(|| format!("no traces can be sent to {}", endpoint.display()))?;
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource())
        .build();
    Ok(Some(provider))
}

/// Who sends: what the environment says, and else `wharf`.
fn resource() -> Resource {
    let named = ["OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"]
        .into_iter()
        .filter_map(|name| std::env::var(name).ok())
        .any(|value| !value.is_empty());
    let resource = Resource::builder()
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    if named {
        resource.build()
    } else {
        resource.with_service_name("wharf").build()
    }
}

/// Turns spans of `tracing` into those of OpenTelemetry.
pub(super) fn layer<S>(provider: &SdkTracerProvider) -> OpenTelemetryLayer<S, SdkTracer>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("wharf"))
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
}

/// Sends requests from the exporter's own thread, which it blocks.
struct Client(ureq::Agent);

impl Client {
    fn new() -> Self {
        let roots = rustls_native_certs::load_native_certs().certs;
        let roots = roots
            .iter()
            .map(|root| Certificate::from_der(root).to_owned())
            .collect();
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::Specific(Arc::new(roots)))
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build();
        let config = ureq::Agent::config_builder()
            .tls_config(tls)
            .timeout_global(Some(TIMEOUT))
            .http_status_as_error(false)
            .build();
        Self(config.new_agent())
    }

    fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (head, body) = request.into_parts();
        let response = self.0.run(Request::from_parts(head, &body[..]))?;
        let (head, mut body) = response.into_parts();
        let body = body.with_config().limit(ANSWER_MAX).read_to_vec()?;
        Ok(Response::from_parts(head, body.into()))
    }
}

impl HttpClient for Client {
    fn send_bytes<'this, 'sent>(
        &'this self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'sent>>
    where
        'this: 'sent,
        Self: 'sent,
    {
        Box::pin(async {
            let to = request.uri().clone();
            let sent = self.send(request);
            match &sent {
                Ok(response) if response.status().is_success() => {}
                Ok(response) => {
                    tracing::warn!(%to, status = %response.status(), "the collector took no traces");
                }
                Err(error) => tracing::warn!(%to, %error, "the collector took no traces"),
            }
            sent
        })
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}
