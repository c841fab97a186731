//! What a hostile handler may try: each costs it its session, and others nothing.

use std::time::{Duration, Instant};

use wharf::config::{Config, Route};

use super::{ask, code, poke};
use crate::{
    binary::Wharf,
    harness::{Log, TestServer, eventually, guest, path, within},
    peer::{End, Http, Peer, PeerSession, Terms, over_both},
    wat,
};

const TRAPPED: u32 = 0xffff_ff01;
const OUT_OF_TIME: u32 = 0xffff_ff02;
const OUT_OF_MEMORY: u32 = 0xffff_ff03;

/// The paths of handlers that end themselves when they are given something to do, and how.
const SINS: [(&str, u32); 10] = [
    ("trap", TRAPPED),
    ("trap-in-constructor", TRAPPED),
    ("recurse", TRAPPED),
    ("spin", OUT_OF_TIME),
    ("spin-in-constructor", OUT_OF_TIME),
    ("storm", OUT_OF_TIME),
    ("datagram-storm", OUT_OF_TIME),
    ("sleep?ms=600000", OUT_OF_TIME),
    ("grow", OUT_OF_MEMORY),
    ("grow-at-once", OUT_OF_MEMORY),
];

fn hasten(config: &mut Config) {
    config.runtime.callback_wait = Duration::from_millis(300);
}

/// A path of its own below that name, which may have a query.
fn path_of(name: &str) -> String {
    match name.split_once('?') {
        Some((name, query)) => format!("{}?{query}", path(name)),
        None => path(name),
    }
}

over_both!(each_sin_ends_its_own_session_with_its_code);
async fn each_sin_ends_its_own_session_with_its_code(http: Http) {
    let server = TestServer::with(hasten).await;
    let other = server.session(http, "/plain").await;
    for (sin, expected) in SINS {
        let session = server.session(http, &path_of(sin)).await;
        let _stream = poke(&session).await;
        assert_eq!(code(&session).await, expected, "{sin}");
        other.expect_echo(b"others go on").await;
    }
    drop(other);
    server.no_instances().await;
}

over_both!(a_handler_that_never_decides_is_refused_for_it);
async fn a_handler_that_never_decides_is_refused_for_it(http: Http) {
    let server = TestServer::start().await;
    let peer = Peer::connect(http, &server).await;
    assert_eq!(peer.ask("/accept/never", &[]).await.0, 500);
    peer.session("/plain").await.expect_echo(b"others").await;
    server.no_instances().await;
}

over_both!(a_handler_that_never_allocates_what_it_is_passed_is_ended);
async fn a_handler_that_never_allocates_what_it_is_passed_is_ended(http: Http) {
    let component = wat::never_allocates();
    let server = TestServer::with(|config| {
        config.tenants[0]
            .routes
            .push(Route::new("/never", component.path()));
    })
    .await;
    let session = server.session(http, "/never").await;
    assert_eq!(code(&session).await, OUT_OF_TIME);
}

/// Does what has a callback called of that name.
async fn provoke(session: &PeerSession, callback: &str) {
    match callback {
        "datagram" => session.send_datagram(b"x").unwrap(),
        "drain" => {
            let _stream = poke(session).await;
            session.drain().await;
            session.closed().await;
        }
        "timer" => {}
        "reset" => {
            let (mut send, mut recv) = session.open_bi().await.unwrap();
            send.write_all(b"x").await.unwrap();
            recv.read_exact(&mut [0]).await.unwrap();
            send.reset(1);
            session.closed().await;
        }
        "stop" => {
            let (mut send, mut recv) = session.open_bi().await.unwrap();
            send.write_all(b"x").await.unwrap();
            recv.read_exact(&mut [0]).await.unwrap();
            recv.stop(1);
            session.closed().await;
        }
        "stream-closed" => {
            let mut send = session.open_uni().await.unwrap();
            send.write_all(b"x").await.unwrap();
            send.finish().unwrap();
        }
        "writable" => {
            let (mut send, mut recv) = session.open_bi().await.unwrap();
            send.write_all(b"x").await.unwrap();
            while let Ok(Some(_)) = recv.read_chunk().await {}
        }
        _ => {
            let _stream = poke(session).await;
            session.closed().await;
        }
    }
}

over_both!(a_trap_in_any_callback_ends_the_session);
async fn a_trap_in_any_callback_ends_the_session(http: Http) {
    let server = TestServer::start().await;
    for callback in [
        "opened",
        "data",
        "reset",
        "stop",
        "writable",
        "stream-closed",
        "datagram",
        "drain",
        "timer",
    ] {
        let path = format!("{}?at={callback}", path("trap-at"));
        let session = server.session(http, &path).await;
        provoke(&session, callback).await;
        let end = within(callback, session.closed()).await;
        assert!(
            matches!(end, End::Close(TRAPPED, _)),
            "in {callback}: {end:?}"
        );
    }
    let path = format!("{}?at=closed", path("trap-at"));
    let session = server.session(http, &path).await;
    session.close(0, "").await;
    Log::line(&path, "closed").await;
    drop(session);
    server.no_instances().await;
}

over_both!(a_reason_of_16_mib_is_cut_and_told);
async fn a_reason_of_16_mib_is_cut_and_told(http: Http) {
    let server = TestServer::start().await;
    let session = server
        .session(http, &format!("{}?mib=16", path("long-reason")))
        .await;
    let _stream = poke(&session).await;
    assert_eq!(session.closed().await, End::Close(9, "r".repeat(1024)));
}

over_both!(a_line_of_16_mib_costs_the_log_one_line);
async fn a_line_of_16_mib_costs_the_log_one_line(http: Http) {
    let server = TestServer::start().await;
    let path = format!("{}?mib=16", path("babble"));
    let session = server.session(http, &path).await;
    assert_eq!(ask(&session, b"?").await, "said");
    session.close(0, "").await;
    Log::line(&path, "bbb").await;
    let lines = Log::of(&path);
    let babbled = lines.iter().filter(|line| line.starts_with("bbb"));
    assert_eq!(babbled.count(), 1);
    assert!(lines.iter().all(|line| line.len() < 2048));
}

over_both!(lines_beyond_the_rate_are_dropped_and_counted);
async fn lines_beyond_the_rate_are_dropped_and_counted(http: Http) {
    let server = TestServer::with(|config| config.runtime.log_rate = 3).await;
    let path = path("echo");
    let session = server.session(http, &path).await;
    // It writes a line for each event of a stream.
    for _ in 0..20 {
        session.expect_echo(b"said").await;
    }
    session.close(0, "").await;
    let told = Log::line(&path, "[").await;
    assert!(
        told.ends_with(" lines dropped: more than 3 in a second]"),
        "{told}"
    );
}

/// All that a handler may do to the program, one after the other.
async fn attack(http: Http, wharf: &Wharf) {
    let peer = Peer::connect_to(http, wharf.address(), Terms::default()).await;
    let ends = SINS.iter().map(|(sin, _)| sin.to_string());
    let callbacks = [
        "opened",
        "data",
        "reset",
        "stop",
        "stream-closed",
        "datagram",
    ];
    let traps = callbacks.map(|at| format!("trap-at?at={at}"));
    for sin in ends.chain(traps) {
        let session = peer.session(&path_of(&format!("quiet/{sin}"))).await;
        let at = sin.split_once("at=").map_or("data", |(_, at)| at);
        provoke(&session, at).await;
        within(&sin, session.closed()).await;
    }
    for name in [
        "exhaust-streams",
        "timers",
        "datagrams?count=100000&bytes=1000",
        "flood?bytes=1000000000",
        "long-reason?mib=16",
        "babble?mib=16",
    ] {
        let session = peer.session(&path_of(&format!("quiet/{name}"))).await;
        // Of what it sends nothing is read.
        let (mut send, recv) = session.open_bi().await.unwrap();
        send.write_all(b"x").await.unwrap();
        session.close(0, "").await;
        drop(recv);
    }
    peer.close();
}

over_both!(after_all_attacks_in_a_row_the_program_is_as_it_was);
async fn after_all_attacks_in_a_row_the_program_is_as_it_was(http: Http) {
    let wharf = Wharf::run(&guest("faults")).await;
    // What is allocated once is allocated: pools, and the allocator's own.
    for _ in 0..2 {
        attack(http, &wharf).await;
    }
    let before = wharf.resident_kib();
    for _ in 0..3 {
        attack(http, &wharf).await;
    }
    // What is still ending when the last attacker has left is given some time.
    eventually("the memory to be within 10 % of before", || {
        wharf.resident_kib() < before + before / 10
    })
    .await;
    // A machine that is busy with other tests may hold up one, but not each.
    let mut quickest = Duration::MAX;
    for _ in 0..20 {
        let began = Instant::now();
        let peer = Peer::connect_to(http, wharf.address(), Terms::default()).await;
        let session = peer.session(&path("echo")).await;
        session.expect_echo(b"as before").await;
        quickest = quickest.min(began.elapsed());
    }
    assert!(
        quickest < Duration::from_millis(100),
        "{quickest:?} for a fresh echo"
    );
}
