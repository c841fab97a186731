//! Sessions that share a connection: each gets its part of it, and one whose peer does not read costs itself only.

use std::{net::SocketAddr, time::Duration};

use futures_util::FutureExt as _;
use tokio::task::JoinSet;
use wharf::transport::Limits;

use crate::{
    binary::Wharf,
    harness::{TestServer, eventually, root, within},
    peer::{Http, Peer, PeerSession, Terms, over_both},
    pouring::{PingPong, Pouring},
    raw::Raw,
};

const MIB: usize = 1 << 20;
/// Of each stream, QUIC holds the piece whose end has not been acknowledged: as much as is read at once.
const PIECE: usize = 64 << 10;
/// What the allocator keeps, instances grow by, and QUIC needs to remember what is where.
const SLACK: usize = 16 * MIB;
const H3_EXCESSIVE_LOAD: u32 = 0x107;

/// Connects with receive windows of that size for each stream, and grants more than any test needs besides.
async fn connect(http: Http, address: SocketAddr, window: u32) -> Peer {
    let terms = Terms {
        window,
        ..Terms::default()
    };
    Peer::connect_to(http, address, terms).await
}

over_both!(sessions_go_on_while_another_of_their_connection_pours_50_streams);
async fn sessions_go_on_while_another_of_their_connection_pours_50_streams(http: Http) {
    const TRIPS: usize = 100;
    /// No more passes a byte that is on its way than the two ends hold for all of a connection.
    const AHEAD_MAX: usize = 8 * MIB;
    let server = TestServer::start().await;
    for sessions in [2, 8] {
        let peer = connect(http, server.address, 1 << 20).await;
        let pouring = Pouring::begin(&peer, "/plain", 50, usize::MAX).await;
        pouring.read_echoes();
        eventually("the pouring", || pouring.read() > MIB).await;
        let before = pouring.read();
        let mut others = JoinSet::new();
        for _ in 1..sessions {
            let mut other = PingPong::begin(&peer, "/plain").await;
            others.spawn(async move {
                for _ in 0..TRIPS {
                    other.round_trip().await;
                }
            });
        }
        while let Some(other) = others.join_next().await {
            other.unwrap();
        }
        let meanwhile = pouring.read();
        let per_trip = (meanwhile - before) / TRIPS;
        assert!(
            per_trip < AHEAD_MAX,
            "{per_trip} bytes were poured for each round trip"
        );
        eventually("more to be poured", || pouring.read() > meanwhile).await;
    }
}

over_both!(eight_sessions_that_pour_alike_get_alike);
async fn eight_sessions_that_pour_alike_get_alike(http: Http) {
    let server = TestServer::start().await;
    let peer = connect(http, server.address, 1 << 20).await;
    let mut all = Vec::new();
    for _ in 0..8 {
        let pouring = Pouring::begin(&peer, "/plain", 4, usize::MAX).await;
        pouring.read_echoes();
        all.push(pouring);
    }
    let read = || all.iter().map(Pouring::read).collect::<Vec<_>>();
    eventually("the pouring to begin everywhere", || {
        read().iter().all(|read| *read > 0)
    })
    .await;
    let before = read();
    let shares = || {
        let pairs = read().into_iter().zip(&before);
        pairs.map(|(now, before)| now - before).collect::<Vec<_>>()
    };
    // Long enough for what the sessions took in turns at first to be a small part.
    eventually("192 MiB", || shares().iter().sum::<usize>() > 192 * MIB).await;
    let shares = shares();
    let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
    assert!(least * 8 > *most, "{shares:?}");
}

/// Pours into a session until it takes no more, while another session of the connection goes on. Returns by how many
/// bytes the program grew meanwhile, at most.
async fn pour_in_vain(wharf: &Wharf, pouring: &Pouring, other: &mut PingPong) -> usize {
    /// So many round trips, and nothing taken meanwhile: nothing will be.
    const STILL: usize = 2000;
    let before = wharf.resident_kib();
    let (mut most, mut taken, mut still) = (before, 0, 0);
    while still < STILL {
        other.round_trip().await;
        most = most.max(wharf.resident_kib());
        let now = pouring.taken();
        still = if now == taken { still + 1 } else { 0 };
        taken = now;
    }
    (most - before) << 10
}

/// By how much a session with so many streams may make the program grow.
fn session_max(streams: usize) -> usize {
    let limits = Limits::default();
    // Packets that come together are one allocation until the last of them is read: it may be twice what is unread.
    let unread = 2 * limits.session.session_receive_credit as usize;
    let buffers = unread + limits.session.session_send_buffer;
    let window = usize::try_from(limits.connection_send_window).unwrap();
    buffers + window + streams * PIECE + SLACK
}

/// A program that has served a session, and so allocated what it allocates once.
async fn warm_program(http: Http) -> Wharf {
    let wharf = Wharf::run(&root().join("guests/echo")).await;
    let peer = connect(http, wharf.address(), 1 << 20).await;
    PingPong::begin(&peer, "/").await.round_trip().await;
    wharf
}

over_both!(a_session_whose_peer_never_reads_costs_itself_only);
async fn a_session_whose_peer_never_reads_costs_itself_only(http: Http) {
    let wharf = warm_program(http).await;
    let peer = connect(http, wharf.address(), 64 << 10).await;
    let mut other = PingPong::begin(&peer, "/").await;
    let pouring = Pouring::begin(&peer, "/", 20, usize::MAX).await;
    let grown = pour_in_vain(&wharf, &pouring, &mut other).await;
    assert!(grown < session_max(20), "{grown} bytes more");
    // What the session holds is not lost: it flows as soon as it is read.
    let taken = pouring.taken();
    pouring.read_echoes();
    eventually("the echoes", || pouring.read() > taken + MIB).await;
}

/// Over HTTP/3, where the client grants nothing by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_whose_peer_grants_no_credit_costs_itself_only() {
    const GRANT: usize = 5000;
    let wharf = warm_program(Http::Http3).await;
    let terms = Terms {
        data: GRANT as u64,
        ..Terms::default()
    };
    let peer = Peer::connect_to(Http::Http3, wharf.address(), terms).await;
    let mut other = PingPong::begin(&peer, "/").await;
    let PeerSession::Http3(session) = &other.session else {
        unreachable!("it is over HTTP/3");
    };
    session.grant_data(1 << 30).await;
    let pouring = Pouring::begin(&peer, "/", 20, usize::MAX).await;
    pouring.read_echoes();
    let grown = pour_in_vain(&wharf, &pouring, &mut other).await;
    assert!(grown < session_max(20), "{grown} bytes more");
    assert_eq!(pouring.read(), GRANT, "all of the grant, and no more");
}

over_both!(a_hundred_streams_whose_echoes_are_not_read_cost_what_one_session_may);
async fn a_hundred_streams_whose_echoes_are_not_read_cost_what_one_session_may(http: Http) {
    const STREAMS: usize = 99;
    // With small windows the server holds what it cannot pass on; with large ones the client holds it, unread.
    for (window, each) in [(16 << 10, usize::MAX), (1 << 30, MIB)] {
        let wharf = warm_program(http).await;
        let peer = connect(http, wharf.address(), window).await;
        let mut other = PingPong::begin(&peer, "/").await;
        let pouring = Pouring::begin(&peer, "/", STREAMS, each).await;
        let grown = pour_in_vain(&wharf, &pouring, &mut other).await;
        assert!(
            grown < session_max(STREAMS),
            "{grown} bytes more with windows of {window}"
        );
        if each == MIB {
            assert_eq!(pouring.taken(), STREAMS * MIB);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stalled_stream_headers_beyond_the_limit_are_refused_and_stop_no_other_stream() {
    const PENDING: usize = 40;
    const EACH: usize = 100;
    let server = TestServer::with(|config| {
        config.transport.pending_streams = PENDING;
        config.transport.setup_timeout = Duration::from_secs(60);
    })
    .await;
    let raw = Raw::connect(&server).await;
    let session = raw.session("/plain").await;
    let mut stalled = Vec::new();
    for _ in 0..EACH {
        let (mut send, recv) = raw.conn.open_bi().await.unwrap();
        send.write_all(&[0x40]).await.unwrap();
        stalled.push((send, Some(recv)));
        let mut uni = raw.conn.open_uni().await.unwrap();
        uni.write_all(&[0x40]).await.unwrap();
        stalled.push((uni, None));
        if stalled.len() % 20 == 0 {
            raw.expect_echo(session.id, b"passes by").await;
        }
    }
    let refused = |send: &quinn::SendStream| match send.stopped().now_or_never() {
        Some(code) => {
            assert_eq!(code.unwrap(), Some(H3_EXCESSIVE_LOAD.into()));
            true
        }
        None => false,
    };
    eventually("those beyond the limit to be refused", || {
        stalled.iter().filter(|(send, _)| refused(send)).count() == 2 * EACH - PENDING
    })
    .await;
    for _ in 0..10 {
        raw.expect_echo(session.id, b"passes by").await;
    }
    // Those within the limit are streams as soon as their headers are whole.
    stalled.retain(|(send, recv)| !refused(send) && recv.is_some());
    for (mut send, recv) in stalled {
        send.write_all(&crate::raw::header(0x41, session.id)[1..])
            .await
            .unwrap();
        send.write_all(b"late").await.unwrap();
        send.finish().unwrap();
        let mut recv = recv.unwrap();
        let echo = within("the echo", recv.read_to_end(99)).await;
        assert_eq!(echo.unwrap(), b"late");
    }
}
