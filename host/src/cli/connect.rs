//! `wharf connect`: asks for a session, and drives it by hand, by a component, or by a check.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use anyhow::ensure;
use bytes::Bytes;

use super::Usage;
use crate::{
    guest, runtime,
    server::Handler,
    transport::{
        Closer, Limits, Session,
        client::{Ask, ConnectError, Connected, Http, Trust, connect},
    },
};

mod command;
mod console;
mod echo;
mod input;
mod output;
mod values;

use output::Output;

/// Asks for a session, and drives it from the standard input; what happens is told on the standard output.
#[derive(Debug, clap::Args)]
#[command(after_long_help = command::HELP)]
pub(super) struct Args {
    /// Where to, such as `https://localhost:4433/chat`.
    #[arg(value_name = "URL", value_parser = Ask::new)]
    url: Ask,

    /// Over HTTP/3 only. Without this, HTTP/2 is tried where HTTP/3 does not reach the server.
    #[arg(long, conflicts_with = "http2")]
    http3: bool,

    /// Over HTTP/2 only.
    #[arg(long)]
    http2: bool,

    /// Trusts certificates of the authorities in this PEM file, instead of the machine's.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,

    /// Trusts the certificate that has this SHA-256 hash: in hexadecimal, with or without colons, or in base64. May be
    /// repeated.
    #[arg(long, value_name = "sha256:HASH", value_parser = values::hash, conflicts_with = "ca")]
    cert_hash: Vec<[u8; 32]>,

    /// Trusts any certificate; for loopback addresses only.
    #[arg(long, conflicts_with_all = ["ca", "cert_hash"])]
    insecure: bool,

    /// A field to send with the request. May be repeated.
    #[arg(short = 'H', long, value_name = "NAME: VALUE", value_parser = values::field)]
    header: Vec<(String, Bytes)>,

    /// The web page that asks, such as `https://app.example`.
    #[arg(long, value_name = "ORIGIN")]
    origin: Option<String>,

    /// An application protocol to offer. May be repeated, best first.
    #[arg(long, value_name = "NAME")]
    protocol: Vec<String>,

    /// How long the server may take until there is a session, and for each piece of the echo in a check, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = values::seconds)]
    timeout: Duration,

    /// Has so many bytes echoed on one stream, such as `16MiB`, compares each, says how fast, and ends.
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    echo_check: Option<u64>,

    /// Has the session handled by a component, or by the folder of a Rust crate that makes one, and ends with it.
    #[arg(long, value_name = "FILE.wasm | FOLDER", conflicts_with = "echo_check")]
    handler: Option<PathBuf>,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let (ask, trust, http, limits) = args.request()?;
    // Before the server is asked, so that a component that is none costs it nothing.
    let handler = match args.handler {
        Some(component) => Some(load(component).await?),
        None => None,
    };
    let mut output = Output::new();
    let connected = match connect(&ask, &trust, http, &limits).await {
        Ok(connected) => connected,
        Err(error) => {
            if let ConnectError::Refused(response) = &error {
                output.say(&format!("refused {}", response.status)).await?;
            }
            return Err(error.into());
        }
    };
    let interrupt = super::interrupt(); // before anybody can know that there is a session
    let told = output.say(&output::connected(&connected)).await;
    let Connected {
        session, request, ..
    } = connected;
    if let Err(error) = told {
        leave(session).await;
        return Err(error);
    }
    match (handler, args.echo_check) {
        // On the heap, as below: the futures of a session are large.
        (Some(handler), _) => Box::pin(handler.serve(session, &request, interrupt)).await,
        (None, Some(size)) => {
            let patience = limits.setup_timeout;
            Box::pin(echo::check(session, size, patience, interrupt, &mut output)).await
        }
        (None, None) => Box::pin(console::drive(session, interrupt, &mut output)).await,
    }
}

/// Closes a session that nobody drives any more, and waits until the server knows.
async fn leave(mut session: Session) {
    session.close(0, "", Closer::Local);
    while session.next_event().await.is_some() {}
}

async fn load(component: PathBuf) -> anyhow::Result<Handler> {
    let file = if component.is_dir() {
        tokio::task::spawn_blocking(move || guest::build(&component, super::say)).await??
    } else {
        component
    };
    let options = runtime::Options {
        sessions: 1,
        cache_dir: super::cache_dir(),
        ..runtime::Options::default()
    };
    Handler::load(file, options).await
}

impl Args {
    fn request(&self) -> Result<(Ask, Trust, Http, Limits), Usage> {
        let mut ask = self.url.clone();
        ask.origin.clone_from(&self.origin);
        ask.fields.clone_from(&self.header);
        ask.protocols.clone_from(&self.protocol);
        ask.check().map_err(|error| Usage(error.to_string()))?;
        let trust = match &self.ca {
            Some(file) => Trust::Authorities(file.clone()),
            None if !self.cert_hash.is_empty() => Trust::Hashes(self.cert_hash.clone()),
            None if self.insecure && is_loopback(ask.host()) => Trust::Insecure,
            None if self.insecure => {
                return Err(Usage(format!(
                    "--insecure is for this machine only, and {} is another (give --ca FILE or --cert-hash sha256:HASH)",
                    ask.host()
                )));
            }
            None => Trust::Platform,
        };
        let http = match (self.http3, self.http2) {
            (true, _) => Http::Http3,
            (_, true) => Http::Http2,
            (false, false) => Http::Auto,
        };
        let mut limits = Limits {
            setup_timeout: self.timeout,
            ..Limits::default()
        };
        // What is typed, or checked, may be more than fits on the way there and back.
        limits.session.reads_wait_for_room = self.handler.is_some();
        Ok((ask, trust, http, limits))
    }
}

/// Whether a host is this machine by what it is called.
fn is_loopback(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

/// How a session has to end for the exit code 0.
fn ended_cleanly(closed: &crate::transport::Closed) -> anyhow::Result<()> {
    ensure!(
        closed.clean,
        "the session was cut off: {}",
        if closed.reason.is_empty() {
            "no reason was given"
        } else {
            &closed.reason
        }
    );
    Ok(())
}
