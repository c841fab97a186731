//! The load client: what is measured, and how CPU and time are read around it.

use std::{
    future::Future,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use quinn::crypto::rustls::QuicClientConfig;
use web_transport_quinn::{Client, Session};
use wharf::transport::client::Trust;

use crate::{figure::Figure, process::Server, servers::Kind, socket};

mod datagrams;
mod http2;
mod ping;
mod sessions;
mod streams;
mod throughput;
mod transfer;

/// How long each load runs before it is measured.
const WARM_UP: Duration = Duration::from_millis(300);
/// What a load may take beyond its time before it counts as stuck.
const PATIENCE: Duration = Duration::from_secs(20);
/// The most operations of one measurement, whatever the time.
const OPERATIONS_MAX: u64 = 2_000_000;

/// What is measured, how long and at which sizes.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) seconds: Duration,
    /// In ascending order.
    pub(crate) sessions: Vec<u32>,
    pub(crate) measures: Vec<Measure>,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Measure {
    /// Bidirectional streams: open, 32 bytes there and back, FIN; 64 in flight.
    Streams,
    /// Datagrams of 1000 bytes there and back over 1, 16 and 256 sessions; 64 in flight, or one for each session.
    Datagrams,
    /// Bytes echoed over 1, 8 and 64 streams.
    Throughput,
    /// 32 bytes there and back on one stream, one at a time.
    Ping,
    /// 256 MiB there and back on one stream, over each HTTP version, and over QUIC alone.
    Transfer,
    /// Sessions opened, 16 at a time, and what they hold while idle.
    Sessions,
    /// Streams and datagrams as above, over HTTP/2.
    Http2,
    /// Throughput as above, over HTTP/2.
    Http2Throughput,
    /// One message at a time as above, over HTTP/2.
    Http2Ping,
    /// Sessions as above, over HTTP/2.
    Http2Sessions,
    /// Instances of the component without sessions; wharf only.
    Instances,
}

impl Measure {
    pub(crate) const ALL: [Self; 11] = [
        Self::Streams,
        Self::Datagrams,
        Self::Throughput,
        Self::Ping,
        Self::Transfer,
        Self::Sessions,
        Self::Http2,
        Self::Http2Throughput,
        Self::Http2Ping,
        Self::Http2Sessions,
        Self::Instances,
    ];

    /// Whether that server can be measured so.
    pub(crate) fn takes(self, kind: Kind) -> bool {
        match self {
            Self::Streams | Self::Datagrams | Self::Throughput | Self::Ping | Self::Sessions => {
                matches!(kind, Kind::Native | Kind::NativeWtransport) || !kind.is_native()
            }
            Self::Transfer => {
                matches!(kind, Kind::NativeQuinn | Kind::NativeH2) || !kind.is_native()
            }
            Self::Http2 | Self::Http2Throughput | Self::Http2Ping | Self::Http2Sessions => {
                kind == Kind::NativeH2 || !kind.is_native()
            }
            Self::Instances => kind == Kind::Wharf,
        }
    }
}

/// Takes one measurement.
pub(crate) async fn run(
    server: &mut Server,
    measure: Measure,
    plan: &Plan,
) -> anyhow::Result<Vec<Figure>> {
    let target = Target::new(server)?;
    match measure {
        Measure::Streams => streams::measure(server, &target, plan).await,
        Measure::Datagrams => datagrams::measure(server, &target, plan).await,
        Measure::Throughput => throughput::measure(server, &target, plan).await,
        Measure::Ping => ping::measure(server, &target, plan).await,
        Measure::Transfer => transfer::measure(server, &target).await,
        Measure::Sessions => sessions::measure(server, &target, plan).await,
        Measure::Http2 => http2::small::measure(server, &target, plan).await,
        Measure::Http2Throughput => http2::throughput::measure(server, &target, plan).await,
        Measure::Http2Ping => http2::ping::measure(server, &target, plan).await,
        Measure::Http2Sessions => http2::sessions::measure(server, &target, plan).await,
        Measure::Instances => Ok(Vec::new()), // not a load
    }
}

/// Opens sessions to one server.
#[derive(Clone, Debug)]
struct Target {
    client: Client,
    url: url::Url,
    kind: Kind,
    address: SocketAddr,
    /// In its certificate alone.
    trust: Trust,
}

impl Target {
    fn new(server: &Server) -> anyhow::Result<Self> {
        let trust = Trust::Hashes(vec![server.hash().try_into()?]);
        Ok(Self {
            client: Client::new(socket::endpoint(None)?, quic(&trust)?),
            url: url::Url::parse(&format!("https://{}/", server.address()))?,
            kind: server.kind(),
            address: server.address(),
            trust,
        })
    }

    async fn connect(&self) -> anyhow::Result<Session> {
        let session = self.client.connect(self.url.clone());
        let session = tokio::time::timeout(PATIENCE, session).await;
        Ok(session.context("no session in time")??)
    }
}

/// The TLS of a client, with that protocol (ALPN).
fn tls(trust: &Trust, protocol: &str) -> anyhow::Result<rustls::ClientConfig> {
    let mut tls = trust.client_config()?;
    tls.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    Ok(tls)
}

fn quic(trust: &Trust) -> anyhow::Result<quinn::ClientConfig> {
    let crypto = QuicClientConfig::try_from(tls(trust, "h3")?)?;
    Ok(quinn::ClientConfig::new(Arc::new(crypto)))
}

/// How long, and how much, a load goes on.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    until: Instant,
    operations: u64,
}

impl Bounds {
    fn of(time: Duration) -> Self {
        Self {
            until: Instant::now() + time,
            operations: OPERATIONS_MAX,
        }
    }

    fn allow(&self, done: u64) -> bool {
        done < self.operations && Instant::now() < self.until
    }
}

/// What a load took.
#[derive(Clone, Copy, Debug)]
struct Cost {
    /// CPU time of the server.
    cpu: Duration,
    wall: Duration,
}

impl Cost {
    fn cpu_us_per(&self, operations: u64) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / operations.max(1) as f64
    }

    fn per_second(&self, operations: u64) -> f64 {
        operations as f64 / self.wall.as_secs_f64()
    }
}

/// Runs a load for a while, then once more with the meter on.
async fn warm_and_metered<T>(
    server: &mut Server,
    time: Duration,
    load: impl AsyncFn(Bounds) -> anyhow::Result<T>,
) -> anyhow::Result<(T, Cost)> {
    patiently(WARM_UP, load(Bounds::of(WARM_UP))).await?;
    metered(server, patiently(time, load(Bounds::of(time)))).await
}

async fn metered<T>(
    server: &mut Server,
    load: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<(T, Cost)> {
    let before = server.usage().await?;
    let begun = Instant::now();
    let value = load.await?;
    let wall = begun.elapsed();
    let after = server.usage().await?;
    let cpu = after.cpu.saturating_sub(before.cpu);
    Ok((value, Cost { cpu, wall }))
}

async fn patiently<T>(
    time: Duration,
    load: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let load = tokio::time::timeout(time + PATIENCE, load).await;
    load.context("the load is stuck")?
}
