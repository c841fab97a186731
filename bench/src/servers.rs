//! The servers that are measured, and what each tells the process that measures it.

use std::{
    fmt, fs,
    io::Write as _,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use quinn::crypto::rustls::QuicServerConfig;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use wharf::transport::{Limits, tls::Certificate};

mod h2_echo;
mod native;
mod null_echo;
mod quinn_echo;
mod wharf_echo;
mod wtransport_echo;

/// A server that echoes streams piece by piece, and datagrams where it has any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// On `web-transport-quinn`, without a sandbox.
    Native,
    /// On `wtransport`, without a sandbox.
    NativeWtransport,
    /// On `quinn` alone: streams of QUIC, and no HTTP.
    NativeQuinn,
    /// On `h2` alone: the bodies of ordinary requests.
    NativeH2,
    /// On wharf's transport, by a handler in plain Rust: without a sandbox.
    WharfNull,
    /// On wharf, by the component guests/echo.
    Wharf,
}

impl Kind {
    pub(crate) const ALL: [Self; 6] = [
        Self::Native,
        Self::NativeWtransport,
        Self::NativeQuinn,
        Self::NativeH2,
        Self::WharfNull,
        Self::Wharf,
    ];

    /// Whether it has no part of wharf in it, so that wharf is compared with it.
    pub(crate) fn is_native(self) -> bool {
        match self {
            Self::Native | Self::NativeWtransport | Self::NativeQuinn | Self::NativeH2 => true,
            Self::WharfNull | Self::Wharf => false,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::NativeWtransport => "native-wtransport",
            Self::NativeQuinn => "native-quinn",
            Self::NativeH2 => "native-h2",
            Self::WharfNull => "wharf-null",
            Self::Wharf => "wharf",
        })
    }
}

pub(crate) use null_echo::echo as null_echo;

/// A server's first line: where it serves, and the hash of its certificate.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Hello {
    pub(crate) address: SocketAddr,
    pub(crate) hash: Vec<u8>,
}

/// A server's answer to each line it is sent.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct Usage {
    /// CPU time of all threads, in user and in kernel mode.
    pub(crate) cpu: Duration,
    /// Resident memory.
    pub(crate) resident_kib: u64,
}

/// Serves in this process until the standard input ends.
pub(crate) async fn serve(kind: Kind, component: &Path) -> anyhow::Result<()> {
    match kind {
        Kind::Native => native::serve().await,
        Kind::NativeWtransport => wtransport_echo::serve().await,
        Kind::NativeQuinn => quinn_echo::serve().await,
        Kind::NativeH2 => h2_echo::serve().await,
        Kind::WharfNull => null_echo::serve().await,
        Kind::Wharf => wharf_echo::serve(component).await,
    }
}

/// Where wharf keeps the compiled component, so that it is compiled once.
pub(crate) fn cache_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench-cache")
}

fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// Says where this server is, and answers from then on.
fn announce(address: SocketAddr, hash: [u8; 32]) -> anyhow::Result<()> {
    let hash = hash.to_vec();
    tell(&Hello { address, hash })?;
    std::thread::Builder::new()
        .name("usage".to_owned())
        .spawn(|| {
            for _ in std::io::stdin().lines().map_while(Result::ok) {
                if usage().and_then(|usage| tell(&usage)).is_err() {
                    break;
                }
            }
            std::process::exit(0);
        })
        .context("cannot start a thread")?;
    Ok(())
}

/// Writes a line for the process that started this one.
pub(crate) fn tell<T: Serialize>(what: &T) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(what)?;
    line.push(b'\n');
    let mut out = std::io::stdout().lock();
    out.write_all(&line)?;
    Ok(out.flush()?)
}

/// What this process used so far.
pub(crate) fn usage() -> anyhow::Result<Usage> {
    let status = fs::read_to_string("/proc/self/status").context("needs the /proc of Linux")?;
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"))
        .context("/proc/self/status has no VmRSS")?;
    Ok(Usage {
        cpu: Duration::try_from(clock_gettime(ClockId::ProcessCPUTime))?,
        resident_kib: resident.parse()?,
    })
}

/// The QUIC settings of the native servers: those of wharf, so that none has an advantage by its windows. Of streams they
/// allow quinn's 100 of each kind, enough for any load here: wharf's limit is higher, but it allows as many only to who uses
/// them, and each one that is allowed costs memory.
fn transport_config() -> anyhow::Result<quinn::TransportConfig> {
    let limits = Limits::default();
    let mut config = quinn::TransportConfig::default();
    config
        .max_idle_timeout(Some(limits.idle_timeout.try_into()?))
        .keep_alive_interval(Some(limits.keep_alive))
        .stream_receive_window(limits.stream_receive_credit.into())
        .receive_window((limits.session.session_receive_credit + (64 << 10)).into())
        .datagram_receive_buffer_size(Some(1 << 20))
        .datagram_send_buffer_size(1 << 20);
    Ok(config)
}

fn quic_config(certificate: &Certificate) -> anyhow::Result<quinn::ServerConfig> {
    let mut tls = certificate.server_config()?;
    tls.alpn_protocols = vec![b"h3".to_vec()];
    let crypto = QuicServerConfig::try_from(tls)?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(Arc::new(transport_config()?));
    Ok(config)
}
