//! Many clients at once behind a bad network, for long: nothing of them is left behind.
//!
//! `cargo test --test tests -- --ignored --nocapture soak` takes a quarter of an hour; `WHARF_SOAK_SECONDS` shortens it,
//! and `WHARF_SEED` has the clients and the network choose as in another run.

use std::{
    net::SocketAddr,
    sync::{
        Once,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    runtime::{Builder, Runtime},
    task::JoinSet,
    time::Instant,
};

use crate::{
    binary::Wharf,
    harness::{TestServer, root, within},
    random::Random,
    raw::{GENEROUS, Raw, read_rest},
    relay::{Relay, Weather},
};
use visitor::{Tally, Visitor};

mod http2;
mod visitor;

const WEATHER: Weather = Weather {
    lost_percent: 5,
    late_percent: 5,
    late: Duration::from_millis(10),
};

/// The name of the threads of [`Apart`].
const THREADS: &str = "soaked-server";
/// How often one of them has panicked.
static PANICS: AtomicUsize = AtomicUsize::new(0);

/// Has panics of the servers counted: each would cost a session only, and might go unseen.
fn count_panics() {
    static COUNTED: Once = Once::new();
    COUNTED.call_once(|| {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if std::thread::current().name() == Some(THREADS) {
                PANICS.fetch_add(1, Ordering::Relaxed);
            }
            hook(info);
        }));
    });
}

/// A server in this process, with a runtime of its own, so that its tasks can be counted.
struct Apart {
    server: TestServer,
    runtime: Option<Runtime>,
    tasks: usize,
}

impl Apart {
    async fn start(idle_timeout: Duration) -> Self {
        count_panics();
        let mut runtime = Builder::new_multi_thread();
        let runtime = runtime.enable_all().thread_name(THREADS).build().unwrap();
        let server = runtime
            .spawn(TestServer::with(move |config| {
                config.sessions = 2000;
                config.transport.idle_timeout = idle_timeout;
                config.transport.keep_alive = idle_timeout / 5;
                // A header may be lost several times over.
                config.transport.setup_timeout = Duration::from_secs(60);
            }))
            .await
            .unwrap();
        let mut apart = Self {
            server,
            runtime: Some(runtime),
            tasks: 0,
        };
        apart.tasks = settled(Duration::from_secs(1), || apart.tasks()).await;
        apart
    }

    fn tasks(&self) -> usize {
        self.runtime.as_ref().unwrap().metrics().num_alive_tasks()
    }

    /// Neither a session, nor an instance, nor a task is left, and none of them has panicked.
    async fn is_as_at_first(&self) {
        // Longer than others may take: on a busy machine QUIC waits three times what it takes for a round trip.
        let until = Instant::now() + Duration::from_secs(60);
        let left = || {
            let handle = &self.server.handle;
            (handle.sessions(), handle.instances(), self.tasks())
        };
        let mut again = tokio::time::interval(Duration::from_millis(20));
        while left() != (0, 0, self.tasks) && Instant::now() < until {
            again.tick().await;
        }
        assert_eq!(left(), (0, 0, self.tasks), "sessions, instances, tasks");
        assert_eq!(PANICS.load(Ordering::Relaxed), 0, "the server panicked");
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Waits until a value has not changed for that long.
async fn settled(long: Duration, mut value: impl FnMut() -> usize) -> usize {
    let (mut last, mut since) = (value(), Instant::now());
    let mut again = tokio::time::interval(Duration::from_millis(20));
    while since.elapsed() < long {
        again.tick().await;
        let now = value();
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
    last
}

/// So many clients come and go for that long.
async fn visit(
    server: SocketAddr,
    path: &'static str,
    clients: usize,
    pause: Duration,
    length: Duration,
    random: &mut Random,
) -> Tally {
    let until = Instant::now() + length;
    let mut visitors = JoinSet::new();
    for _ in 0..clients {
        let visitor = Visitor {
            // One for each: a socket that all share would lose more packets than the weather says.
            relay: Relay::through(WEATHER, server, random.fork()).await,
            path,
            pause,
            random: random.fork(),
            tally: Tally::new(),
        };
        visitors.spawn(visitor.run(until));
    }
    let mut sum = Tally::new();
    while let Some(tally) = visitors.join_next().await {
        for (what, count) in tally.unwrap_or_else(|error| panic!("{path}: {error}")) {
            *sum.entry(what).or_default() += count;
        }
    }
    sum
}

/// Has as many instances at once as the soak never has, each with more memory than the pool keeps of an instance that is
/// gone. From then on the pool is as large as it gets, and what the program grows by is something else.
async fn fill_pool(server: SocketAddr) {
    const CONNECTIONS: usize = 16;
    const SESSIONS: usize = 50;
    let bytes = vec![7; 512 << 10];
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        let raw = Raw::connect_to(server, GENEROUS).await;
        let mut sessions = Vec::new();
        for _ in 0..SESSIONS {
            let session = raw.session("/").await;
            // Collected by the handler, and sent back when it is whole.
            let mut send = raw.open_uni(session.id).await;
            within("a stream to be taken", send.write_all(&bytes))
                .await
                .unwrap();
            send.finish().unwrap();
            sessions.push(session);
        }
        let mut answers = 0;
        while answers < SESSIONS {
            let mut recv = within("an answer", raw.conn.accept_uni()).await.unwrap();
            let mut kind = [0];
            recv.read_exact(&mut kind).await.unwrap();
            if kind == [0x40] {
                within("all of it", read_rest(&mut recv)).await.unwrap();
                answers += 1;
            }
        }
        connections.push((raw, sessions));
    }
}

#[expect(clippy::print_stderr, reason = "figures for who runs it")]
fn tell(what: &str, figures: impl std::fmt::Debug) {
    eprintln!("{what}: {figures:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_behind_a_bad_network_leave_no_instance_and_no_task_behind() {
    let mut random = Random::told();
    let apart = Apart::start(Duration::from_secs(15)).await;
    let (pause, length) = (Duration::from_millis(50), Duration::from_secs(3));
    let address = apart.server.address;
    let tally = visit(address, "/plain", 20, pause, length, &mut random).await;
    tell("done", &tally);
    assert!(tally["sessions"] >= 20, "{tally:#?}");
    apart.is_as_at_first().await;
}

/// Half of them visit a server in this process, whose sessions, instances and tasks are counted, half visit the program,
/// whose memory is measured. A visit holds one to three sessions.
#[ignore = "takes ten minutes; WHARF_SOAK_SECONDS shortens it"]
#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_clients_for_ten_minutes_leave_nothing_behind() {
    const CLIENTS: usize = 100;
    const PAUSE: Duration = Duration::from_secs(1);
    /// The program notices within its idle timeout that a client vanished, and then lets the session close.
    const NOTICED: Duration = Duration::from_secs(45);
    let seconds = std::env::var("WHARF_SOAK_SECONDS").ok();
    let seconds = seconds.map_or(600, |seconds| seconds.parse().unwrap());
    let mut random = Random::told();
    let apart = Apart::start(Duration::from_secs(12)).await;
    let program = Wharf::run(&root().join("guests/echo")).await;
    let (here, there) = (apart.server.address, program.address());

    // What the program allocates once, and for its greatest number of sessions, is allocated.
    fill_pool(there).await;
    let warm_up = Duration::from_secs(seconds / 10);
    visit(there, "/", CLIENTS, PAUSE, warm_up, &mut random).await;
    let resting = async || {
        let mut least = program.resident_kib();
        let until = Instant::now() + NOTICED;
        let mut again = tokio::time::interval(Duration::from_millis(100));
        while Instant::now() < until {
            again.tick().await;
            least = least.min(program.resident_kib());
        }
        least
    };
    let before = resting().await;

    let (mut random_here, mut random_there) = (random.fork(), random.fork());
    let length = Duration::from_secs(seconds);
    let most = tokio::spawn(most_sessions(apart.server.handle.clone()));
    let (counted, measured) = tokio::join!(
        visit(here, "/plain", CLIENTS, PAUSE, length, &mut random_here),
        visit(there, "/", CLIENTS, PAUSE, length, &mut random_there),
    );
    let busy = program.resident_kib();
    most.abort();
    assert!(!program.has_logged("panicked"), "the program panicked");
    tell("in this process", &counted);
    tell("in the program", &measured);
    apart.is_as_at_first().await;
    let after = resting().await;
    tell(
        "resident KiB of the program (before, at the end of the visits, after)",
        (before, busy, after),
    );
    assert!(
        after * 10 <= before * 11,
        "{before} KiB before, {after} KiB after"
    );
}

/// Tells how many sessions there are, now and then.
async fn most_sessions(host: wharf::server::Host) {
    let mut again = tokio::time::interval(Duration::from_secs(30));
    loop {
        again.tick().await;
        tell("sessions, instances", (host.sessions(), host.instances()));
    }
}
