//! CPU time: who computes waits, and does not make others wait.

use std::time::{Duration, Instant};

use super::{ask, code, poke};
use crate::{
    harness::{TestServer, eventually, path},
    peer::{Http, over_both},
    tenants::{connect, tenant},
};

over_both!(a_callback_that_sleeps_is_awaited_and_one_that_sleeps_too_long_is_ended);
async fn a_callback_that_sleeps_is_awaited_and_one_that_sleeps_too_long_is_ended(http: Http) {
    let server = TestServer::with(|config| {
        config.runtime.callback_wait = Duration::from_millis(500);
    })
    .await;
    let other = server.session(http, "/plain").await;
    let short = server.session(http, &path("sleep")).await;
    assert_eq!(ask(&short, b"?").await, "awake");
    let long = server
        .session(http, &format!("{}?ms=60000", path("sleep")))
        .await;
    let _stream = poke(&long).await;
    assert_eq!(code(&long).await, 0xffff_ff02);
    other.expect_echo(b"others go on").await;
    assert_eq!(ask(&short, b"?").await, "awake");
}

over_both!(a_session_over_its_cpu_rate_is_slowed_and_not_ended);
async fn a_session_over_its_cpu_rate_is_slowed_and_not_ended(http: Http) {
    let rate = Duration::from_millis(20);
    let server = TestServer::with(|config| {
        config.runtime.cpu_per_second = Some(rate);
        config.runtime.callback_deadline = Duration::from_secs(20);
    })
    .await;
    let other = server.session(http, "/plain").await;
    let session = server.session(http, &path("compute")).await;
    let began = Instant::now();
    let mut answers = 0;
    // However fast the machine is, in the end it has spent what it had saved up, and more.
    while began.elapsed() < Duration::from_secs(3) || answers < 3 {
        let (mut send, mut recv) = session.open_bi().await.unwrap();
        send.write_all(b"x").await.unwrap();
        recv.read_exact(&mut [0; 8]).await.unwrap();
        answers += 1;
        other.expect_echo(b"others go on meanwhile").await;
    }
    let spent = server.handle.account("default").unwrap().cpu();
    // What it had saved up, what it had since, and one callback that went over.
    let most = rate + rate.mul_f64(began.elapsed().as_secs_f64()) + Duration::from_millis(100);
    assert!(
        rate < spent && spent < most,
        "{spent:?} of {most:?} in {answers} callbacks"
    );
    assert!(session.close(0, "").await);
}

over_both!(any_number_of_computing_sessions_leaves_a_worker_to_others);
async fn any_number_of_computing_sessions_leaves_a_worker_to_others(http: Http) {
    let server = TestServer::with(|config| {
        config.runtime.cpu_per_second = None;
        config.runtime.callback_deadline = Duration::from_secs(60);
    })
    .await;
    let mut computing = Vec::new();
    for _ in 0..16 {
        let session = server.session(http, &path("spin")).await;
        computing.push((poke(&session).await, session));
    }
    let other = server.session(http, "/plain").await;
    for _ in 0..50 {
        other.expect_echo(b"not held up").await;
    }
}

over_both!(tenants_that_fill_the_machine_have_it_by_their_weights_and_not_by_their_sessions);
async fn tenants_that_fill_the_machine_have_it_by_their_weights_and_not_by_their_sessions(
    http: Http,
) {
    const TENANTS: [(&str, &str, u32); 2] = [("light", "a.example", 1), ("heavy", "b.example", 3)];
    let server = TestServer::with(|config| {
        config.runtime.cpu_per_second = None;
        config.runtime.callback_deadline = Duration::from_secs(60);
        let tenants = TENANTS.map(|(name, authority, weight)| {
            let mut tenant = tenant(name, &[authority], "/", "faults");
            tenant.weight = weight;
            tenant
        });
        config.tenants = tenants.into();
    })
    .await;
    let cores = std::thread::available_parallelism().unwrap().get();
    let mut looping = Vec::new();
    for ((_, authority, _), sessions) in TENANTS.into_iter().zip([4 * cores, cores]) {
        let peer = connect(http, &server, authority).await;
        for _ in 0..sessions {
            let (status, session) = peer.ask_of(authority, "/spin", &[]).await;
            let session = session.unwrap_or_else(|| panic!("{status}"));
            looping.push((poke(&session).await, session));
        }
    }
    let spent = || TENANTS.map(|(name, ..)| server.handle.account(name).unwrap().cpu());
    let before = spent();
    let since = || {
        let now = spent();
        [now[0] - before[0], now[1] - before[1]].map(|time| time.as_secs_f64())
    };
    eventually("two seconds to be spent", || {
        since().iter().sum::<f64>() > 2.0
    })
    .await;
    let [light, heavy] = since();
    assert!(
        (2.0..4.5).contains(&(heavy / light)),
        "{light} s of {heavy} s"
    );
}
