//! Credit of a session, whatever carries it: what is granted suffices, comes back, and is kept to.

use std::{pin::pin, time::Duration};

use crate::{
    harness::{Log, TestServer, eventually, path, within},
    peer::{Dir, Http, Peer, Terms, over_both},
};

over_both!(a_peer_sends_ten_windows_of_data_as_the_handler_consumes);
async fn a_peer_sends_ten_windows_of_data_as_the_handler_consumes(http: Http) {
    const WINDOW: u32 = 50_000;
    const PIECE: usize = 20_000;
    const STREAMS: usize = 25;
    let server = TestServer::with(|config| {
        config.transport.session.session_receive_credit = WINDOW;
        config.runtime.log_rate = 10_000;
    })
    .await;
    let path = path("report");
    let session = server.session(http, &path).await;
    for _ in 0..STREAMS {
        let mut uni = session.open_uni().await.unwrap();
        let written = uni.write_all(&[7; PIECE]);
        within("credit", written).await.unwrap();
        uni.finish().unwrap();
    }
    eventually("all of it", || {
        let lines = Log::of(&path);
        let sizes = lines.iter().filter_map(|line| line.strip_prefix("data "));
        let sizes = sizes.map(|line| line.split(' ').nth(1).unwrap().parse::<usize>().unwrap());
        sizes.sum::<usize>() == STREAMS * PIECE
    })
    .await;
}

over_both!(a_peer_opens_six_times_as_many_streams_as_may_be_open_at_once);
async fn a_peer_opens_six_times_as_many_streams_as_may_be_open_at_once(http: Http) {
    const WINDOW: u32 = 4;
    let server =
        TestServer::with(|config| config.transport.session.streams_per_kind = WINDOW).await;
    for dir in [Dir::Bi, Dir::Uni] {
        let path = path("report");
        let session = server.session(http, &path).await;
        for _ in 0..6 * WINDOW {
            let opened = async {
                match dir {
                    Dir::Uni => session.open_uni().await.unwrap(),
                    Dir::Bi => {
                        let (send, mut recv) = session.open_bi().await.unwrap();
                        recv.stop(0);
                        send
                    }
                }
            };
            let mut send = within("a stream to be granted", opened).await;
            send.write_all(b"x").await.unwrap();
            send.finish().unwrap();
        }
    }
}

over_both!(no_more_streams_are_open_than_the_limit_and_the_next_waits_for_one_to_end);
async fn no_more_streams_are_open_than_the_limit_and_the_next_waits_for_one_to_end(http: Http) {
    let server = TestServer::with(|config| config.transport.session.streams_per_kind = 2).await;
    let session = server.session(http, "/plain").await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let (mut send, recv) = session.open_bi().await.unwrap();
        send.write_all(b"x").await.unwrap();
        held.push((send, recv));
    }
    let mut third = pin!(session.open_bi());
    let wait = Duration::from_millis(50);
    let early = tokio::time::timeout(wait, &mut third).await;
    assert!(early.is_err(), "a third stream was granted");
    // Both of them, because more is granted at half of the window.
    for (mut send, mut recv) in held {
        send.finish().unwrap();
        let echo = within("the echo", recv.read_to_end(9)).await.unwrap();
        assert_eq!(echo, b"x");
    }
    let (mut send, mut recv) = within("the third", third).await.unwrap();
    send.write_all(b"third").await.unwrap();
    send.finish().unwrap();
    let echo = within("the echo", recv.read_to_end(9)).await.unwrap();
    assert_eq!(echo, b"third");
}

over_both!(a_handler_opens_as_many_streams_as_the_peer_grants);
async fn a_handler_opens_as_many_streams_as_the_peer_grants(http: Http) {
    let server = TestServer::start().await;
    let terms = Terms {
        streams: 3,
        ..Terms::default()
    };
    let peer = Peer::connect_to(http, server.address, terms).await;
    let path = path("exhaust-streams");
    let session = peer.session(&path).await;
    Log::line(&path, "opened-count 3 stream-limit").await;
    for _ in 0..3 {
        within("a stream that was opened", session.accept_uni())
            .await
            .unwrap();
    }
}
