//! What one session may hold is its route's to say: a peer, and a handler, meet the limits of the route they are on.

use std::{ops::RangeInclusive, time::Duration};

use wharf::{
    config::Config,
    transport::{Limits, SessionLimits},
};

use crate::{
    harness::{Log, PATIENCE, TestServer, eventually, path},
    peer::{Dir, Http, Peer, PeerSession, Terms, over_both},
};

mod connection;
mod gate;
mod held;

/// Lowers what sessions of `/plain` may hold. Those of other paths have what the host allows.
fn lower_plain(config: &mut Config, change: impl FnOnce(&mut SessionLimits)) {
    let mut limits = config.transport.session.clone();
    change(&mut limits);
    let mut routes = config.tenants[0].routes.iter_mut();
    let plain = routes.find(|route| route.path == "/plain").unwrap();
    plain.session = Some(limits);
}

/// How long to wait for what comes, as long as less came than has to, and what does not have to.
const fn wait(came: usize, least: usize) -> Duration {
    match came < least {
        true => PATIENCE,
        false => Duration::from_millis(300),
    }
}

/// How many streams a peer opens, at least that many, before it has to wait.
async fn streams(session: &PeerSession, dir: Dir, least: usize) -> usize {
    let mut open = Vec::new();
    loop {
        let opened = async {
            match dir {
                Dir::Bi => {
                    let (mut send, recv) = session.open_bi().await.unwrap();
                    send.write_all(b"x").await.unwrap();
                    (send, Some(recv))
                }
                Dir::Uni => {
                    let mut send = session.open_uni().await.unwrap();
                    send.write_all(b"x").await.unwrap();
                    (send, None)
                }
            }
        };
        match tokio::time::timeout(wait(open.len(), least), opened).await {
            Ok(stream) => open.push(stream),
            Err(_) => return open.len(),
        }
    }
}

over_both!(a_route_with_two_streams_of_a_kind_is_beside_one_with_256);
async fn a_route_with_two_streams_of_a_kind_is_beside_one_with_256(http: Http) {
    let server =
        TestServer::with(|config| lower_plain(config, |limits| limits.streams_per_kind = 2)).await;
    // One connection, whose SETTINGS can say one number only.
    let peer = Peer::connect(http, &server).await;
    let low = peer.session("/plain").await;
    let high = peer.session(&path("quiet/report")).await;
    for dir in [Dir::Bi, Dir::Uni] {
        for (session, most) in [(&low, 2), (&high, 256)] {
            assert_eq!(streams(session, dir, most).await, most, "{dir:?}");
        }
    }
}

/// Has so many streams of a session take bytes whose echoes are not read, until none are taken, and asserts that each takes as
/// many as expected, besides what the client holds. A client over HTTP/2 that has its share of an echo before it has sent all
/// does not send while it does not read: then it is another session's turn. More than expected is too many at any time.
async fn take(
    http: Http,
    peer: &Peer,
    path: &str,
    streams: usize,
    expected: RangeInclusive<usize>,
) {
    const TRIES: u32 = 8;
    let (least, most) = (*expected.start(), *expected.end());
    for tries in 1..=TRIES {
        let session = peer.session(path).await;
        let mut enough = true;
        for _ in 0..streams {
            let taken = taken_once(http, &session, least).await;
            assert!(taken <= most, "{path}: {taken} bytes");
            enough &= taken >= least;
        }
        if enough {
            return;
        }
        assert!(http == Http::Http2 && tries < TRIES, "{path}: too few");
    }
}

async fn taken_once(http: Http, session: &PeerSession, least: usize) -> usize {
    let (held, patience) = match http {
        Http::Http3 => (0, PATIENCE),
        Http::Http2 => (
            Limits::default().session.stream_send_buffer,
            Duration::from_secs(2),
        ),
    };
    let (mut send, _recv) = session.open_bi().await.unwrap();
    let piece = vec![7; 10_000];
    let mut all = 0;
    let wait = |all| wait(all, held + least).min(patience);
    while let Ok(n) = tokio::time::timeout(wait(all), send.write(&piece)).await {
        all += n.unwrap();
    }
    all.saturating_sub(held)
}

/// What may differ in that: a piece that found no room, and what both ends have on its way back.
const GAP: usize = 10_000;

/// What the client takes of an echo, and once more where it found the first of it in two pieces.
const WINDOW: u32 = 1_000;

over_both!(a_route_with_less_receive_credit_is_beside_one_with_more);
async fn a_route_with_less_receive_credit_is_beside_one_with_more(http: Http) {
    const LOW: usize = 50_000;
    const BUFFER: usize = 20_000;
    let server = TestServer::with(|config| {
        config.transport.session.session_receive_credit = 10 * LOW as u32;
        config.transport.session.stream_send_buffer = BUFFER;
        for route in &mut config.tenants[0].routes {
            route.path = format!("{}more", route.path);
        }
        let mut less = config.tenants[0].routes[1].clone();
        let mut limits = config.transport.session.clone();
        limits.session_receive_credit = LOW as u32;
        (less.path, less.session) = ("/less".to_owned(), Some(limits));
        config.tenants[0].routes.push(less);
    })
    .await;
    let terms = Terms {
        window: WINDOW,
        ..Terms::default()
    };
    let peer = Peer::connect_to(http, server.address, terms).await;
    for (path, credit) in [("/less", LOW), ("/plainmore", 10 * LOW)] {
        let least = credit - GAP;
        let expected = least..=credit + BUFFER + GAP + 2 * WINDOW as usize;
        take(http, &peer, path, 1, expected).await;
    }
}

over_both!(a_handler_finds_the_send_buffers_of_its_route);
async fn a_handler_finds_the_send_buffers_of_its_route(http: Http) {
    let server = TestServer::with(|config| {
        let mut low = config.tenants[0].routes[0].clone();
        let mut limits = config.transport.session.clone();
        limits.session_send_buffer = 128 << 10;
        (low.path, low.session) = ("/flood/low".to_owned(), Some(limits));
        config.tenants[0].routes.push(low);
    })
    .await;
    // Nothing of the flood leaves.
    let terms = Terms {
        data: 0,
        ..Terms::default()
    };
    for (name, refused) in [("flood/low", true), ("flood", false)] {
        let path = format!("{}?bytes=196608", path(name));
        let peer = Peer::connect_to(http, server.address, terms).await;
        let session = peer.session(&path).await;
        let (mut send, _recv) = session.open_bi().await.unwrap();
        send.write_all(b"go").await.unwrap();
        Log::line(&path, "data").await;
        // The next callback comes when the flood has been sent, as far as it was taken.
        let mut next = session.open_uni().await.unwrap();
        next.write_all(b"x").await.unwrap();
        let id = http.client_stream(Dir::Uni, 0);
        Log::line(&path, &format!("opened {id} uni")).await;
        let told = Log::of(&path);
        let blocked = told.iter().any(|line| line.starts_with("would-block"));
        assert_eq!(blocked, refused, "{told:#?}");
    }
}

/// Over HTTP/2 those that the session has not taken in wait with the rest of its bytes.
#[tokio::test(flavor = "multi_thread")]
async fn datagrams_wait_for_the_handler_of_a_route_in_its_queue() {
    let http = Http::Http3;
    const QUEUE: usize = 5;
    const SENT: usize = 50;
    let server = TestServer::with(|config| {
        config.runtime.callback_deadline = Duration::from_secs(20);
        let mut low = config.tenants[0].routes[0].clone();
        let mut limits = config.transport.session.clone();
        limits.datagrams_in = QUEUE;
        (low.path, low.session) = ("/slow/low".to_owned(), Some(limits));
        config.tenants[0].routes.push(low);
    })
    .await;
    for (name, most) in [("slow/low", QUEUE), ("slow", SENT)] {
        let path = format!("{}?ms=1000", path(name));
        let session = server.session(http, &path).await;
        let (mut send, _recv) = session.open_bi().await.unwrap();
        send.write_all(b"go").await.unwrap();
        Log::line(&path, "data").await;
        // The handler computes while they come.
        for _ in 0..SENT {
            session.send_datagram(b"x").unwrap();
        }
        let came = || {
            let told = Log::of(&path);
            told.iter()
                .filter(|line| line.starts_with("datagram"))
                .count()
        };
        eventually("the datagrams that were kept", || came() == most).await;
        let mut last = session.open_uni().await.unwrap();
        last.write_all(b"x").await.unwrap();
        let id = http.client_stream(Dir::Uni, 0);
        Log::line(&path, &format!("data {id}")).await;
        assert_eq!(came(), most);
    }
}
