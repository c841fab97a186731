//! What one session may hold is its route's to say: a peer, and a handler, meet the limits of the route they are on.

use std::{pin::pin, time::Duration};

use wharf::{config::Config, transport::SessionLimits};

use crate::{
    harness::{Log, TestServer, path, within},
    peer::{Dir, Http, Peer, PeerSession, Terms, over_both},
};

/// Lowers what sessions of `/plain` may hold. Those of other paths have what the host allows.
fn lower_plain(config: &mut Config, change: impl FnOnce(&mut SessionLimits)) {
    let mut limits = config.transport.session.clone();
    change(&mut limits);
    let mut routes = config.tenants[0].routes.iter_mut();
    let plain = routes.find(|route| route.path == "/plain").unwrap();
    plain.session = Some(limits);
}

/// How many streams a peer opens before it has to wait.
async fn streams(session: &PeerSession, dir: Dir) -> usize {
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
        match tokio::time::timeout(Duration::from_millis(500), opened).await {
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
        assert_eq!(streams(&low, dir).await, 2, "{dir:?}");
        assert_eq!(streams(&high, dir).await, 256, "{dir:?}");
    }
}

/// How many bytes are taken of a stream whose echo is not read, until none are.
async fn taken(session: &PeerSession) -> usize {
    let (mut send, _recv) = session.open_bi().await.unwrap();
    let piece = vec![7; 10_000];
    let mut all = 0;
    while let Ok(n) = tokio::time::timeout(Duration::from_millis(500), send.write(&piece)).await {
        all += n.unwrap();
    }
    all
}

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
        window: 1_000,
        ..Terms::default()
    };
    let peer = Peer::connect_to(http, server.address, terms).await;
    // What is on its way back is in the send buffer and in the peer's window.
    let back = BUFFER + 2_000;
    let low = taken(&peer.session("/less").await).await;
    assert!((LOW..=LOW + back).contains(&low), "{low} bytes");
    let high = taken(&peer.session("/plainmore").await).await;
    assert!((10 * LOW..=10 * LOW + back).contains(&high), "{high} bytes");
}

over_both!(a_handler_finds_the_send_buffers_of_its_route);
async fn a_handler_finds_the_send_buffers_of_its_route(http: Http) {
    const BUFFER: u64 = 128 << 10;
    let server = TestServer::with(|config| {
        let mut low = config.tenants[0].routes[0].clone();
        let mut limits = config.transport.session.clone();
        limits.stream_send_buffer = BUFFER as usize;
        limits.session_send_buffer = BUFFER as usize;
        (low.path, low.session) = ("/flood".to_owned(), Some(limits));
        config.tenants[0].routes.push(low);
    })
    .await;
    let terms = Terms {
        data: 0,
        window: 0,
        ..Terms::default()
    };
    let peer = Peer::connect_to(http, server.address, terms).await;
    // The same handler, with the lower route's buffers by the first path and the host's by the other.
    let low = format!("{}?bytes=131072", path("flood"));
    let session = peer.session(&low).await;
    let (mut send, _recv) = session.open_bi().await.unwrap();
    send.write_all(b"go").await.unwrap();
    // A buffer that is full to the last byte refuses nothing yet.
    let more = format!("{}?bytes=196608", path("flood"));
    let refused = peer.session(&more).await;
    let (mut send, _recv) = refused.open_bi().await.unwrap();
    send.write_all(b"go").await.unwrap();
    Log::line(&more, "would-block").await;
    assert!(
        !Log::of(&low)
            .iter()
            .any(|line| line.starts_with("would-block"))
    );
    let host = format!("{}?bytes=196608", path("quiet/flood"));
    let session = peer.session(&host).await;
    let (mut send, _recv) = session.open_bi().await.unwrap();
    send.write_all(b"go").await.unwrap();
    // What follows in the same session was handled after the flood.
    session
        .open_uni()
        .await
        .unwrap()
        .write_all(b"x")
        .await
        .unwrap();
    Log::line(&host, "opened 2").await;
    assert!(
        !Log::of(&host)
            .iter()
            .any(|line| line.starts_with("would-block"))
    );
}
