//! A server in this process on a port of its own, the guests it serves, and their log.

use std::{
    collections::HashMap,
    fmt::Write as _,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::Command,
    sync::{
        LazyLock, Mutex, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::{oneshot, watch};
use tracing_subscriber::{Layer, layer::SubscriberExt as _};
use web_transport_quinn::{Client, ClientBuilder, Session};
use wharf::{
    config::{Config, Origins, Route, Tls},
    server::{Handle, Host, Server},
    transport::Gate,
};

use crate::peer::{Http, Peer, PeerSession};

/// What no wait in a test may exceed: a failure then, not a hang.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A guest's component, built once for all tests.
pub(crate) fn guest(name: &str) -> PathBuf {
    static BUILT: LazyLock<Mutex<HashMap<String, PathBuf>>> = LazyLock::new(Mutex::default);
    let mut built = BUILT.lock().unwrap();
    let build = || wharf::guest::build(&root().join("guests").join(name), |_| {}).unwrap();
    built.entry(name.to_owned()).or_insert_with(build).clone()
}

/// The repository.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// Cargo, without what the outer cargo says of this package: ring's build script looks at it, and all that depends on
/// ring would be built anew each time.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env!("CARGO"));
    for (name, _) in std::env::vars() {
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            command.env_remove(name);
        }
    }
    command.current_dir(root());
    command
}

/// A path below which no other test has sessions: `/NAME/N`.
pub(crate) fn path(name: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("/{name}/{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A running server. Dropping it ends everything at once.
pub(crate) struct TestServer {
    pub(crate) address: SocketAddr,
    /// All of them, where it has several.
    pub(crate) addresses: Vec<SocketAddr>,
    /// Where the admin listener is, where there is one.
    pub(crate) admin: Option<SocketAddr>,
    pub(crate) hash: [u8; 32],
    pub(crate) handle: Host,
    /// What reloads it and ends it.
    pub(crate) control: Handle,
    pub(crate) gate: Gate,
    stop: Option<oneshot::Sender<()>>,
    running: tokio::task::JoinHandle<()>,
}

impl TestServer {
    /// A server with the defaults: `faults` serves every path but those of `echo` and `admission`.
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// A server whose configuration was changed.
    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        Log::install();
        let route = |path: &str, guest_name: &str| {
            let mut route = Route::new(path, guest(guest_name));
            route.origins = Origins::Listed(vec!["https://listed.example".to_owned()]);
            route
        };
        let routes = vec![
            route("/", "faults"),
            route("/plain", "echo"),
            route("/accept", "admission"),
            route("/refuse", "admission"),
        ];
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut config = Config::new(vec![listen], Tls::Development, routes);
        config.sessions = 256;
        // All clients of a test are of one address.
        config.sessions_per_ip = u32::MAX;
        config.transport.connections_per_ip = usize::MAX;
        config.transport.handshakes_per_ip = u32::MAX;
        config.cache_dir = Some(root().join("target/test-cache"));
        change(&mut config);
        let server = Server::bind(config).await.unwrap();
        let (stop, stopped) = oneshot::channel();
        Self {
            address: server.local_addr(),
            addresses: server.local_addrs().to_vec(),
            admin: server.admin_addr(),
            hash: server.certificate_hash(),
            handle: server.host(),
            control: server.handle(),
            gate: server.gate(),
            stop: Some(stop),
            running: tokio::spawn(server.run(async {
                _ = stopped.await;
            })),
        }
    }

    /// A client that trusts this server.
    pub(crate) fn client(&self) -> Client {
        ClientBuilder::new()
            .with_server_certificate_hashes(vec![self.hash.to_vec()])
            .unwrap()
    }

    /// A session to that path, on a connection of its own.
    pub(crate) async fn session(&self, http: Http, path: &str) -> PeerSession {
        Peer::connect(http, self).await.session(path).await
    }

    /// A session to that path, of somebody else's client.
    pub(crate) async fn connect(&self, path: &str) -> Session {
        self.try_connect(path).await.unwrap()
    }

    pub(crate) async fn try_connect(
        &self,
        path: &str,
    ) -> Result<Session, web_transport_quinn::ClientError> {
        let url = url::Url::parse(&format!("https://{}{path}", self.address)).unwrap();
        tokio::time::timeout(PATIENCE, self.client().connect(url))
            .await
            .unwrap()
    }

    /// Asks the server to stop, and waits until it has.
    pub(crate) async fn stop(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        (&mut self.running).await.unwrap();
    }

    /// Waits until the server has stopped, which another has asked of it.
    pub(crate) async fn ended(mut self) {
        (&mut self.running).await.unwrap();
    }

    /// Waits until no instance lives. There is no event for that, so it looks again whenever a guest's line comes, or
    /// a little later.
    pub(crate) async fn no_instances(&self) {
        eventually("instances to end", || {
            self.handle.instances() == 0 && self.handle.sessions() == 0
        })
        .await;
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.running.abort();
    }
}

/// Waits for what has no event to wait for: looks again every few milliseconds, and fails in the end.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let mut again = tokio::time::interval(Duration::from_millis(5));
    let found = async {
        while !condition() {
            again.tick().await;
        }
    };
    assert!(
        tokio::time::timeout(PATIENCE, found).await.is_ok(),
        "waited in vain for {what}"
    );
}

/// Waits for a future, and fails in the end.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited in vain for {what}"),
    }
}

/// The lines that guests wrote, by the path of their session; no query is in it.
pub(crate) struct Log {
    lines: watch::Sender<HashMap<String, Vec<String>>>,
}

impl Log {
    fn install() -> &'static Self {
        static LOG: OnceLock<Log> = OnceLock::new();
        LOG.get_or_init(|| {
            let lines = watch::Sender::new(HashMap::new());
            let subscriber = tracing_subscriber::registry().with(Collector(lines.clone()));
            tracing::subscriber::set_global_default(subscriber).unwrap();
            Self { lines }
        })
    }

    /// All that the guest at that path has written.
    pub(crate) fn of(path: &str) -> Vec<String> {
        Self::install()
            .lines
            .borrow()
            .get(without_query(path))
            .cloned()
            .unwrap_or_default()
    }

    /// Waits until the guest at that path has written a line that starts so, and returns the line.
    pub(crate) async fn line(path: &str, start: &str) -> String {
        let mut lines = Self::install().lines.subscribe();
        let find = |lines: &HashMap<String, Vec<String>>| {
            lines
                .get(without_query(path))?
                .iter()
                .find(|line| line.starts_with(start))
                .cloned()
        };
        match tokio::time::timeout(PATIENCE, lines.wait_for(|lines| find(lines).is_some())).await {
            Ok(found) => find(&found.unwrap()).unwrap(),
            Err(_) => panic!(
                "{path}: no line starts with {start:?} among {:#?}",
                Self::of(path)
            ),
        }
    }
}

fn without_query(path: &str) -> &str {
    path.split('?').next().unwrap()
}

struct Collector(watch::Sender<HashMap<String, Vec<String>>>);

impl<S: tracing::Subscriber> Layer<S> for Collector {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        if event.metadata().target() != "wharf::guest" {
            return;
        }
        let mut line = Line::default();
        event.record(&mut line);
        self.0
            .send_modify(|lines| lines.entry(line.path).or_default().push(line.message));
    }
}

#[derive(Default)]
struct Line {
    path: String,
    message: String,
}

impl tracing::field::Visit for Line {
    fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
        if field.name() == "path" {
            value.clone_into(&mut self.path);
        }
    }

    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            write!(self.message, "{value:?}").unwrap();
        }
    }
}
