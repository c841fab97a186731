//! Where the log goes and in which format, and the traces where a collector is named.

use std::{io::IsTerminal as _, time::Duration};

use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::{
    EnvFilter, Registry,
    filter::filter_fn,
    fmt,
    layer::{Layer, SubscriberExt as _},
    util::SubscriberInitExt as _,
};

use super::{Usage, traces};
use crate::config::{Log, LogFormat};

/// The target of the spans that are for traces only.
const SPANS: &str = "wharf::session";
/// How long the collector of traces may take for the last of them.
const FLUSH: Duration = Duration::from_secs(5);

/// What the command line says of the log.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What is logged, such as `info`, `wharf=debug` or `wharf::guest=off`. Without it `info`.
    #[arg(long, global = true, env = "WHARF_LOG", value_name = "FILTER")]
    log: Option<String>,

    /// Lines for people, or one JSON object a line. Without it `text`.
    #[arg(long, global = true, env = "WHARF_LOG_FORMAT", value_name = "FORMAT")]
    log_format: Option<LogFormat>,
}

/// The log, and the traces, of this process.
#[derive(Debug)]
pub(super) struct Logging {
    traces: Option<SdkTracerProvider>,
}

impl Args {
    /// Begins to log to standard error: as the command line says, and where it says nothing as `log` does. Call it once.
    ///
    /// # Errors
    ///
    /// A [`Usage`] where the filter cannot be parsed; another where the collector's address cannot.
    pub(super) fn start(self, log: Log) -> anyhow::Result<Logging> {
        let filter = self.log.unwrap_or(log.filter);
        let parsed = EnvFilter::try_new(&filter);
        let filter = parsed.map_err(|error| Usage(format!("--log {filter}: {error}")))?;
        let off = format!("{SPANS}=off").parse();
        let filter = filter.add_directive(off.map_err(|error| Usage(format!("{error}")))?);
        let traces = traces::provider()?;
        let spans = traces.as_ref().map(|traces| {
            traces::layer(traces).with_filter(filter_fn(|metadata| metadata.target() == SPANS))
        });
        let lines = lines(self.log_format.unwrap_or(log.format));
        tracing_subscriber::registry()
            .with(lines.with_filter(filter))
            .with(spans)
            .init();
        Ok(Logging { traces })
    }
}

fn lines(format: LogFormat) -> Box<dyn Layer<Registry> + Send + Sync> {
    let lines = fmt::layer().with_writer(std::io::stderr);
    match format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .boxed(),
    }
}

impl Logging {
    /// Sends what is left of the traces, and waits for that, at most 5 s.
    pub(super) fn finish(self) {
        if let Some(traces) = self.traces
            && let Err(error) = traces.shutdown_with_timeout(FLUSH)
        {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }
}
