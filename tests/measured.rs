//! Figures of the sandbox that need a quiet machine, and so are taken on demand:
//! `cargo test --test tests -- --ignored --nocapture measured` prints them.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::task::JoinSet;

use crate::{
    config::{Folder, serve::Serving},
    harness::{eventually, guest, root, within},
    peer::{Http, Peer, PeerSession, Terms, over_both},
};

/// An operator's file with those limits of the host, and a tenant by each name with one route.
fn folder(limits: &str, tenants: &[(&str, &str)]) -> Folder {
    let mut text = format!(
        r#"listen = ["127.0.0.1:0"]
cache = {:?}
[log]
filter = "off"
[limits]
sessions-per-ip = "unlimited"
connections-per-ip = "unlimited"
handshakes-per-ip = "unlimited"
{limits}
"#,
        root().join("target/test-cache")
    );
    for (name, component) in tenants {
        text += &format!(
            r#"[[tenant]]
name = {name:?}
authorities = ["{name}.example"]
certificate = "development"
[[tenant.route]]
path = "/"
component = {:?}
"#,
            guest(component)
        );
    }
    Folder::with(&text)
}

async fn session(http: Http, server: SocketAddr, name: &'static str, path: &str) -> PeerSession {
    let terms = Terms {
        name,
        ..Terms::default()
    };
    let peer = Peer::connect_to(http, server, terms).await;
    let (status, session) = peer.ask_of(name, path, &[]).await;
    session.unwrap_or_else(|| panic!("{status} of {name}"))
}

/// Sends 32 bytes on a stream every few milliseconds: how long each took to come back.
async fn ping(session: PeerSession, until: Instant) -> Vec<Duration> {
    let (mut send, mut recv) = session.open_bi().await.unwrap();
    let mut beat = tokio::time::interval(Duration::from_millis(20));
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut times = Vec::new();
    while Instant::now() < until {
        beat.tick().await;
        let begun = Instant::now();
        send.write_all(&[7; 32]).await.unwrap();
        within("the echo", recv.read_exact(&mut [0; 32]))
            .await
            .unwrap();
        times.push(begun.elapsed());
    }
    times
}

/// Has a handler loop: for ever, or for most of its deadline and then again.
async fn loops(http: Http, server: SocketAddr, ever: bool) {
    let path = if ever {
        "/spin"
    } else {
        "/compute?rounds=20000000"
    };
    let session = session(http, server, "a.example", path).await;
    let (mut send, mut recv) = session.open_bi().await.unwrap();
    loop {
        send.write_all(b"x").await.unwrap();
        let answer = recv.read_chunk().await.unwrap();
        answer.expect("a handler that computes ends no stream");
    }
}

/// How long 50 sessions of a tenant wait for each echo, in order, beside so many guests of another tenant that loop.
async fn echoes(http: Http, free: bool, looping: usize) -> Vec<Duration> {
    const SESSIONS: usize = 50;
    const SECONDS: u64 = 20;
    let limits = "cpu-per-second = \"unlimited\"\ncallback-deadline = \"60s\"";
    let folder = folder(
        if free { limits } else { "" },
        &[("a", "faults"), ("b", "echo")],
    );
    let environment = [("TOKIO_WORKER_THREADS", "2")];
    let serving = Serving::start(folder.folder(), &[], &environment, 1).await;
    let server = serving.addresses[0];
    let mut sessions = Vec::new();
    for _ in 0..SESSIONS {
        sessions.push(session(http, server, "b.example", "/").await);
    }
    let mut loopers = JoinSet::new();
    for _ in 0..looping {
        loopers.spawn(loops(http, server, free));
    }
    // Who has spent least is next, so that all loop by then.
    let idle = serving.cpu();
    let busy = Duration::from_millis(20) * looping as u32;
    eventually("all to loop", || serving.cpu() >= idle + busy).await;
    let began = serving.cpu();
    let until = Instant::now() + Duration::from_secs(SECONDS);
    let pings: JoinSet<_> = sessions
        .into_iter()
        .map(|session| ping(session, until))
        .collect();
    let mut times: Vec<_> = pings.join_all().await.into_iter().flatten().collect();
    while let Some(ended) = loopers.try_join_next() {
        ended.unwrap();
    }
    let spent = serving.cpu() - began;
    assert!(
        looping == 0 || spent > Duration::from_secs(SECONDS) / 2,
        "{spent:?} of CPU"
    );
    times.sort_unstable();
    times
}

over_both!(
    #[ignore = "a measurement of a minute, for a quiet machine"]
    fifty_loops_of_a_tenant_delay_the_echoes_of_another_by_two_ticks_at_most
);
async fn fifty_loops_of_a_tenant_delay_the_echoes_of_another_by_two_ticks_at_most(http: Http) {
    const TICK: Duration = Duration::from_millis(1);
    let mut alone = Duration::ZERO;
    eprintln!("{http:?}: echoes, p50, p99, p99.9, most (µs)");
    for (name, free, looping) in [
        ("alone", false, 0),
        ("beside 50 loops, by default", false, 50),
        ("beside 50 loops without limits of CPU", true, 50),
    ] {
        let times = echoes(http, free, looping).await;
        let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
        let figures = [0.5, 0.99, 0.999, 1.0].map(|part| at(part).as_micros());
        eprintln!("{name}: {} {figures:?}", times.len());
        if looping == 0 {
            alone = at(0.99);
        }
        assert!(
            at(0.99) <= alone + 2 * TICK,
            "{name}: {:?}, and {alone:?} alone",
            at(0.99)
        );
    }
}

over_both!(
    #[ignore = "a measurement of minutes, and of what the whole machine can hold"]
    twelve_thousand_instances_live_at_once_and_one_above_the_machines_most_is_refused
);
async fn twelve_thousand_instances_live_at_once_and_one_above_the_machines_most_is_refused(
    http: Http,
) {
    const LIVE: usize = 12_000;
    const PER_CONNECTION: usize = 200;
    // QUIC keeps some 30 bytes of each stream that a peer may open, in any session of its connection.
    let limits = "sessions = 20000\nsessions-per-connection = 1000\nstreams-per-kind = 16";
    let folder = folder(limits, &[("b", "echo")]);
    let serving = Serving::start(folder.folder(), &[], &[], 1).await;
    let server = serving.addresses[0];
    let before = serving.resident_kib();
    let mut live = Vec::new();
    let refused = loop {
        let terms = Terms {
            name: "b.example",
            ..Terms::default()
        };
        let peer = Peer::connect_to(http, server, terms).await;
        let mut refused = None;
        for _ in 0..PER_CONNECTION {
            let (status, session) = peer.ask_of("b.example", "/", &[]).await;
            let Some(session) = session else {
                refused = Some(status);
                break;
            };
            live.push(session);
            if live.len() == LIVE {
                let resident = serving.resident_kib();
                eprintln!("{http:?}: {LIVE} sessions, {before} KiB before, {resident} KiB now");
                assert!(resident < 700 << 10, "{resident} KiB");
            }
        }
        if let Some(refused) = refused {
            break refused;
        }
    };
    let most = std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap();
    let most: usize = most.trim().parse().unwrap();
    eprintln!(
        "{http:?}: {refused} after {} sessions, {} KiB, at vm.max_map_count {most}",
        live.len(),
        serving.resident_kib()
    );
    assert_eq!(refused, 503);
    assert!(live.len() >= LIVE);
    for session in [&live[0], &live[live.len() - 1]] {
        session.expect_echo(b"all live").await;
    }
    assert!(live.pop().unwrap().close(0, "").await);
    session(http, server, "b.example", "/").await;
}
