//! One instance for all sessions of a route.

use std::time::Duration;

use wharf::{config::Config, runtime::Scope};

use super::{ask, code, poke};
use crate::{
    harness::{Log, TestServer, eventually, path, within},
    peer::{Http, Peer, over_both},
};

fn share(config: &mut Config) {
    for route in &mut config.tenants[0].routes {
        route.scope = Scope::Shared;
    }
}

over_both!(sessions_of_a_shared_instance_see_each_other_and_others_do_not);
async fn sessions_of_a_shared_instance_see_each_other_and_others_do_not(http: Http) {
    let shared = TestServer::with(share).await;
    let apart = TestServer::start().await;
    for n in 1..=3 {
        let session = shared.session(http, &path("count")).await;
        assert_eq!(ask(&session, b"?").await, n.to_string());
        let session = apart.session(http, &path("count")).await;
        assert_eq!(ask(&session, b"?").await, "1");
    }
}

over_both!(a_hundred_sessions_of_one_instance_keep_their_streams_and_datagrams_apart);
async fn a_hundred_sessions_of_one_instance_keep_their_streams_and_datagrams_apart(http: Http) {
    let server = TestServer::with(|config| {
        share(config);
        config.runtime.log_rate = u32::MAX;
    })
    .await;
    let peers = [
        Peer::connect(http, &server).await,
        Peer::connect(http, &server).await,
    ];
    let mut sessions = tokio::task::JoinSet::new();
    for n in 0..100 {
        let session = peers[n as usize % 2].session("/plain").await;
        sessions.spawn(async move {
            for turn in 0..10 {
                let word = format!("session {n} turn {turn}");
                session.expect_echo(word.as_bytes()).await;
            }
            session
                .send_datagram(format!("datagram {n}").as_bytes())
                .unwrap();
            assert_eq!(
                session.read_datagram().await.unwrap(),
                format!("datagram {n}")
            );
            assert!(session.close(n, "done").await);
        });
    }
    while let Some(ended) = sessions.join_next().await {
        ended.unwrap();
    }
    eventually("sessions to end", || server.handle.sessions() == 0).await;
    assert_eq!(server.handle.instances(), 1);
}

over_both!(what_admission_does_with_another_session_is_sent_at_once);
async fn what_admission_does_with_another_session_is_sent_at_once(http: Http) {
    let server = TestServer::with(share).await;
    let peer = Peer::connect(http, &server).await;
    let session = peer.session("/accept/200").await;
    // Its callback is the last before the admission.
    session.expect_echo(b"called").await;
    let _other = peer.session("/accept/told").await;
    let told = within("the datagram", session.read_datagram()).await;
    assert_eq!(told.unwrap(), "asked");
}

over_both!(a_shared_instance_keeps_nothing_of_the_sessions_that_have_ended);
async fn a_shared_instance_keeps_nothing_of_the_sessions_that_have_ended(http: Http) {
    let server = TestServer::with(|config| {
        share(config);
        config.sessions = 16;
        config.runtime.handles = 8;
    })
    .await;
    let peer = Peer::connect(http, &server).await;
    // All handles there may be, several times over.
    for _ in 0..100 {
        let session = peer.session("/plain").await;
        session.expect_echo(b"one of many").await;
        assert!(session.close(0, "").await);
    }
    // And as many sessions at once as there may be.
    eventually("sessions to end", || server.handle.sessions() == 0).await;
    let mut sessions = Vec::new();
    for _ in 0..16 {
        sessions.push(peer.session("/plain").await);
    }
    for session in &sessions {
        session.expect_echo(b"one of 16").await;
    }
    assert_eq!(server.handle.instances(), 1);
}

over_both!(each_session_of_a_shared_instance_is_told_its_own_end_and_has_its_own_log);
async fn each_session_of_a_shared_instance_is_told_its_own_end_and_has_its_own_log(http: Http) {
    let server = TestServer::with(share).await;
    let paths = [path("report"), path("report"), path("report")];
    let mut sessions = Vec::new();
    for path in &paths {
        sessions.push(server.session(http, path).await);
        Log::line(path, "constructed").await;
    }
    assert!(sessions[1].close(5, "first").await);
    Log::line(&paths[1], "closed 5 peer clean \"first\"").await;
    sessions[0].abort().await;
    Log::line(&paths[0], "closed 0 peer unclean").await;
    assert!(sessions[2].close(6, "last").await);
    Log::line(&paths[2], "closed 6 peer clean \"last\"").await;
    for path in &paths {
        let lines = Log::of(path);
        let closed = lines.iter().filter(|line| line.starts_with("closed"));
        assert_eq!(closed.count(), 1, "{lines:#?}");
    }
}

over_both!(a_trap_ends_all_sessions_of_the_instance_and_the_next_gets_a_new_one);
async fn a_trap_ends_all_sessions_of_the_instance_and_the_next_gets_a_new_one(http: Http) {
    let server = TestServer::with(share).await;
    let counting = server.session(http, &path("count")).await;
    assert_eq!(ask(&counting, b"?").await, "1");
    let trapping = server.session(http, &path("trap")).await;
    let elsewhere = server.session(http, "/plain").await;
    let _stream = poke(&trapping).await;
    assert_eq!(code(&trapping).await, 0xffff_ff01);
    assert_eq!(code(&counting).await, 0xffff_ff01);
    elsewhere.expect_echo(b"another route goes on").await;
    let next = server.session(http, &path("count")).await;
    assert_eq!(ask(&next, b"?").await, "1", "the instance is a new one");
}

over_both!(where_traps_repeat_sessions_are_refused_for_a_while);
async fn where_traps_repeat_sessions_are_refused_for_a_while(http: Http) {
    let server = TestServer::with(share).await;
    let peer = Peer::connect(http, &server).await;
    let mut refused = 0;
    for _ in 0..8 {
        let (status, session) = peer.ask(&path("trap-in-constructor"), &[]).await;
        match session {
            Some(session) => assert_eq!(code(&session).await, 0xffff_ff01),
            None => {
                assert_eq!(status, 503);
                refused += 1;
            }
        }
    }
    assert!(refused > 0);
    // In time there is a new instance.
    loop {
        if let (200, Some(session)) = peer.ask(&path("count"), &[]).await {
            assert_eq!(ask(&session, b"?").await, "1");
            break;
        }
    }
}

over_both!(admission_is_decided_in_the_instance_that_serves);
async fn admission_is_decided_in_the_instance_that_serves(http: Http) {
    let server = TestServer::with(share).await;
    let peer = Peer::connect(http, &server).await;
    assert_eq!(peer.ask("/refuse/418", &[]).await.0, 418);
    let (status, session) = peer.ask("/accept/299", &[]).await;
    assert_eq!(status, 299);
    session.unwrap().expect_echo(b"admitted").await;
    assert_eq!(server.handle.instances(), 2, "each route has its own");
}

over_both!(a_session_over_its_cpu_rate_does_not_hold_up_the_others_of_its_instance);
async fn a_session_over_its_cpu_rate_does_not_hold_up_the_others_of_its_instance(http: Http) {
    let server = TestServer::with(|config| {
        share(config);
        config.runtime.cpu_per_second = Some(Duration::from_millis(20));
        config.runtime.callback_deadline = Duration::from_secs(20);
    })
    .await;
    let greedy = server
        .session(http, &format!("{}?rounds=200000000", path("compute")))
        .await;
    let _stream = poke(&greedy).await;
    let other = server.session(http, &path("echo")).await;
    other.expect_echo(b"before").await;
    // The greedy one pays off for seconds.
    let _stream = poke(&greedy).await;
    for _ in 0..5 {
        other.expect_echo(b"meanwhile").await;
    }
}
