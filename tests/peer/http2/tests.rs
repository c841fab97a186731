use std::net::Ipv4Addr;

use tokio::time::{Duration, timeout};
use wharf::transport::{
    Limits, Requested, Response,
    h3::{Acceptor, Connection as Served},
    tls::Certificate,
};

use super::{Connection, Session};
use crate::{
    harness::within,
    peer::{End, Gone, Http, Peer, PeerRecv, PeerSend, PeerSession, Terms},
};

/// A session of wharf's, driven as those of HTTP/2 are, and its other end, which wharf has no part in. That the one is
/// a server's and over HTTP/3 makes no difference to who drives it.
struct Pair {
    driven: PeerSession,
    other: PeerSession,
    _served: (Served, quinn::Endpoint),
}

impl Pair {
    async fn new(window: u32) -> Self {
        let acceptor = Acceptor::new(Limits::default());
        let tls = Certificate::development().unwrap().server_config().unwrap();
        let config = acceptor.server_config(tls).unwrap();
        let endpoint = quinn::Endpoint::server(config, (Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let address = endpoint.local_addr().unwrap();
        let terms = Terms {
            window,
            ..Terms::default()
        };
        let serving = async {
            let conn = endpoint.accept().await.unwrap().await.unwrap();
            let mut served = acceptor.accept(conn);
            let Some(Requested::Session(incoming)) = served.next_request().await else {
                panic!("no session was asked for");
            };
            let session = incoming.accept(&Response::new(200)).await.unwrap();
            (served, session)
        };
        let asking = async {
            let peer = Peer::connect_to(Http::Http3, address, Terms::default()).await;
            peer.session("/any").await
        };
        let both = async { tokio::join!(serving, asking) };
        let ((served, session), other) = within("a session", Box::pin(both)).await;
        let connection = Connection::connect(address, terms).await;
        Self {
            driven: PeerSession::Http2(Session::begin(connection, session)),
            other,
            _served: (served, endpoint),
        }
    }
}

async fn whole(mut send: PeerSend, mut recv: PeerRecv, size: usize) {
    let bytes: Vec<u8> = (0..size).map(|n| (n / 251) as u8).collect();
    let sending = async {
        send.write_all(&bytes).await.unwrap();
        send.finish().unwrap();
    };
    let both = async { tokio::join!(sending, recv.read_to_end(size)).1 };
    let received = within("all of it", both).await.unwrap();
    assert!(received == bytes, "{size} bytes differ");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_either_end_carry_every_byte() {
    let pair = Pair::new(1 << 20).await;
    for size in [0, 1, 1 << 20, 40 << 20] {
        let (send, mut own) = pair.driven.open_bi().await.unwrap();
        let (mut back, recv) = within("it", pair.other.accept_bi()).await.unwrap();
        assert_eq!((send.id(), own.id()), (back.id(), recv.id()));
        whole(send, recv, size).await;
        back.write_all(b"back").await.unwrap();
        back.finish().unwrap();
        assert_eq!(own.read_to_end(9).await.unwrap(), b"back");
        let send = pair.other.open_uni().await.unwrap();
        let recv = within("it", pair.driven.accept_uni()).await.unwrap();
        whole(send, recv, size).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn resets_and_stops_are_told_with_their_codes() {
    let pair = Pair::new(1 << 20).await;
    let (mut send, mut recv) = pair.other.open_bi().await.unwrap();
    send.write_all(b"x").await.unwrap();
    let (mut driven_send, mut driven_recv) = pair.driven.accept_bi().await.unwrap();
    send.reset(7);
    assert_eq!(driven_recv.given_up().await, Gone::Code(7));
    recv.stop(8);
    assert_eq!(driven_send.stopped().await, Gone::Code(8));
    let written = driven_send.write_all(b"x").await;
    assert_eq!(written, Err(Gone::Code(8)));
    let (mut send, mut recv) = pair.driven.open_bi().await.unwrap();
    let (mut other_send, mut other_recv) = pair.other.accept_bi().await.unwrap();
    send.write_all(b"x").await.unwrap();
    assert_eq!(other_recv.read_chunk().await.unwrap().unwrap(), "x");
    send.reset(9);
    recv.stop(10);
    assert_eq!(other_recv.given_up().await, Gone::Code(9));
    assert_eq!(other_send.stopped().await, Gone::Code(10));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_read_stays_with_the_other_end_until_it_is() {
    const WINDOW: u32 = 64 << 10;
    let pair = Pair::new(WINDOW).await;
    let mut send = pair.other.open_uni().await.unwrap();
    let mut size = 0;
    // What fills all windows between the two ends is taken, and no more.
    while let Ok(taken) = timeout(Duration::from_millis(500), send.write(&[7; 1 << 16])).await {
        size += taken.unwrap();
        assert!(size < 64 << 20, "64 MiB were taken and none of it was read");
    }
    let mut recv = pair.driven.accept_uni().await.unwrap();
    send.finish().unwrap();
    let read = within("what was sent", recv.read_to_end(size)).await;
    assert_eq!(read.unwrap().len(), size);
    // What is given up unread holds nothing up either.
    let mut flood = pair.other.open_uni().await.unwrap();
    let flooding = tokio::spawn(async move { flood.write_all(&vec![7; 40 << 20]).await });
    drop(within("it", pair.driven.accept_uni()).await.unwrap());
    assert!(within("the stop", flooding).await.unwrap().is_err());
    pair.driven.send_datagram(b"goes on").unwrap();
    let datagram = within("a datagram", pair.other.read_datagram()).await;
    assert_eq!(datagram.unwrap(), "goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_is_told_to_all_that_wait() {
    let pair = Pair::new(1 << 20).await;
    let (mut send, mut recv) = pair.driven.open_bi().await.unwrap();
    send.write_all(b"x").await.unwrap();
    let ended = async {
        tokio::join!(
            recv.given_up(),
            send.stopped(),
            pair.driven.closed(),
            pair.driven.accept_uni(),
            pair.driven.read_datagram(),
        )
    };
    let closing = async {
        pair.other.drain().await;
        pair.driven.draining().await;
        pair.other.close(7, "enough").await
    };
    let both = async { tokio::join!(ended, closing) };
    let ((recv, send, end, uni, datagram), in_time) = within("all of it", both).await;
    assert_eq!((recv, send, in_time), (Gone::Session, Gone::Session, true));
    assert_eq!(end, End::Close(7, "enough".to_owned()));
    assert!(uni.is_err() && datagram == Err(Gone::Session));
    assert_eq!(pair.other.closed().await, End::Fin);
    assert_eq!(pair.driven.send_datagram(b"late"), Err(Gone::Session));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_handle_closes_and_an_abort_does_not() {
    let pair = Pair::new(1 << 20).await;
    drop(pair.driven);
    assert_eq!(pair.other.closed().await, End::Close(0, String::new()));
    let pair = Pair::new(1 << 20).await;
    pair.driven.abort().await;
    assert_eq!(pair.driven.closed().await, End::Lost);
    assert!(matches!(pair.other.closed().await, End::Reset(_)));
}
