//! Datagrams: they come back, and their size has an answer.

use std::time::Duration;

use crate::{
    harness::{Log, TestServer, path, within},
    peer::{Http, Peer, PeerSession, over_both},
    raw::Raw,
};

over_both!(datagrams_of_every_size_are_echoed);
async fn datagrams_of_every_size_are_echoed(http: Http) {
    let server = TestServer::start().await;
    let session = server.session(http, "/plain").await;
    for size in [0, 1, 32, 1000, session.max_datagram_size().min(1150)] {
        let sent = vec![u8::try_from(size % 251).unwrap(); size];
        let echoed = within("the echo", echo(http, &session, &sent)).await;
        assert_eq!(echoed, sent);
    }
}

/// Sends a datagram and gives the next one of its size.
async fn echo(http: Http, session: &PeerSession, sent: &[u8]) -> bytes::Bytes {
    // A datagram may be lost, where they are not reliable: then it is sent again until one comes back.
    let wait = match http.datagrams_reliable() {
        true => Duration::MAX,
        false => Duration::from_secs(1),
    };
    loop {
        session.send_datagram(sent).unwrap();
        if let Ok(datagram) = tokio::time::timeout(wait, session.read_datagram()).await {
            let datagram = datagram.unwrap();
            if datagram.len() == sent.len() {
                return datagram;
            }
        }
    }
}

over_both!(a_datagram_larger_than_the_path_carries_is_refused_to_the_handler);
async fn a_datagram_larger_than_the_path_carries_is_refused_to_the_handler(http: Http) {
    let server = TestServer::start().await;
    let path = path("errors");
    let session = server.session(http, &path).await;
    let mut send = session.open_uni().await.unwrap();
    send.write_all(b"x").await.unwrap();
    Log::line(&path, "error datagram-too-large too-large").await;
}

over_both!(of_several_datagrams_one_that_is_too_large_is_refused_and_the_others_are_sent);
async fn of_several_datagrams_one_that_is_too_large_is_refused_and_the_others_are_sent(http: Http) {
    let server = TestServer::start().await;
    let path = path("datagrams-together");
    let session = server.session(http, &path).await;
    let (mut send, _recv) = session.open_bi().await.unwrap();
    send.write_all(b"x").await.unwrap();
    Log::line(&path, "error send-datagrams too-large").await;
    // Where the sizes do not add up nothing is sent.
    Log::line(&path, "error wrong-sizes invalid").await;
    for sent in ["before", "after", "last"] {
        let datagram = within("a datagram", session.read_datagram()).await;
        assert_eq!(datagram.unwrap(), sent);
    }
}

over_both!(datagrams_that_come_together_come_back_whole_and_in_order);
async fn datagrams_that_come_together_come_back_whole_and_in_order(http: Http) {
    const COUNT: u32 = 150;
    let server = TestServer::start().await;
    let session = server.session(http, "/plain").await;
    for number in 0..COUNT {
        let mut datagram = number.to_be_bytes().to_vec();
        datagram.resize(4 + number as usize % 900, 7);
        session.send_datagram(&datagram).unwrap();
    }
    come_in_order(&session, http, COUNT, |number| 4 + number as usize % 900).await;
}

// They are more than share one allocation on their way out.
over_both!(datagrams_that_are_sent_at_once_come_whole_and_in_order);
async fn datagrams_that_are_sent_at_once_come_whole_and_in_order(http: Http) {
    let server = TestServer::start().await;
    let path = format!("{}?count=150&bytes=1000", path("datagrams-at-once"));
    let session = server.session(http, &path).await;
    let (mut send, _recv) = session.open_bi().await.unwrap();
    send.write_all(b"x").await.unwrap();
    come_in_order(&session, http, 150, |_| 1000).await;
}

/// Reads datagrams that are numbered in their first 4 bytes, and filled with sevens to their size.
async fn come_in_order(session: &PeerSession, http: Http, count: u32, size: impl Fn(u32) -> usize) {
    let mut next = 0;
    while next < count {
        let datagram = tokio::time::timeout(Duration::from_secs(2), session.read_datagram());
        let Ok(datagram) = datagram.await else {
            // The rest of them may be lost, where they are not reliable.
            assert!(next > 0 && !http.datagrams_reliable(), "{next}");
            break;
        };
        let datagram = datagram.unwrap();
        let number = u32::from_be_bytes(datagram[..4].try_into().unwrap());
        assert!(number == next || number > next && !http.datagrams_reliable());
        assert_eq!(datagram.len(), size(number));
        assert!(datagram[4..].iter().all(|byte| *byte == 7));
        next = number + 1;
    }
}

/// Over HTTP/2, where what was sent at once comes at once.
#[tokio::test(flavor = "multi_thread")]
async fn datagrams_that_come_together_are_fewer_calls_than_datagrams() {
    const COUNT: u32 = 200;
    let server = TestServer::observed().await;
    let session = server.session(Http::Http2, "/plain").await;
    for _ in 0..COUNT {
        session.send_datagram(&[7; 8]).unwrap();
    }
    for _ in 0..COUNT {
        within("a datagram", session.read_datagram()).await.unwrap();
    }
    let of = |name: &str, labels: &str| {
        format!(r#"{name}{{tenant="default",route="echo.wasm"{labels}}}"#)
    };
    let sent = of("datagrams_total", r#",direction="out""#);
    server.measures(&sent, f64::from(COUNT)).await;
    let calls = server.metric(&of("call_seconds_count", "")).await;
    assert!(calls < f64::from(COUNT) / 2.0, "{calls}");
}

over_both!(a_datagram_of_the_largest_size_is_delivered_both_ways);
async fn a_datagram_of_the_largest_size_is_delivered_both_ways(http: Http) {
    let server = TestServer::start().await;
    let peer = Peer::connect(http, &server).await;
    // To the handler.
    let path_info = path("info");
    let session = peer.session(&path_info).await;
    let size = session.max_datagram_size();
    session.send_datagram(&vec![7; size]).unwrap();
    Log::line(&path_info, &format!("datagram {size}")).await;
    // From the handler, of the size that it is told of.
    let (mut send, mut recv) = session.open_bi().await.unwrap();
    send.write_all(b"?").await.unwrap();
    let info = within("the answer", recv.read_to_end(9999)).await.unwrap();
    let info = String::from_utf8(info).unwrap();
    let (_, largest) = info.rsplit_once("max-datagram-size=").unwrap();
    let largest: usize = largest.parse().unwrap();
    assert!(http.datagram_sizes().contains(&largest), "{largest}");
    let path = format!("{}?bytes={largest}", path("datagrams"));
    let sender = peer.session(&path).await;
    let (mut send, _recv) = sender.open_bi().await.unwrap();
    send.write_all(b"x").await.unwrap();
    let datagram = within("the datagram", sender.read_datagram()).await;
    assert_eq!(datagram.unwrap().len(), largest);
    assert!(!Log::of(&path).iter().any(|line| line.starts_with("error")));
}

over_both!(datagrams_go_to_their_own_session_and_after_its_end_to_none);
async fn datagrams_go_to_their_own_session_and_after_its_end_to_none(http: Http) {
    let server = TestServer::start().await;
    let peer = Peer::connect(http, &server).await;
    let paths = [path("report"), path("report")];
    let gone = peer.session(&paths[0]).await;
    let lives = peer.session(&paths[1]).await;
    gone.send_datagram(&[7; 10]).unwrap();
    Log::line(&paths[0], "datagram 10").await;
    assert!(gone.close(0, "").await);
    Log::line(&paths[0], "closed").await;
    lives.send_datagram(&[7; 30]).unwrap();
    Log::line(&paths[1], "datagram 30").await;
    assert!(Log::of(&paths[0]).last().unwrap().starts_with("closed"));
    for path in &paths {
        let told = |line: &&String| line.starts_with("datagram");
        assert_eq!(Log::of(path).iter().filter(told).count(), 1);
    }
}

/// RFC 9297, "HTTP/3 Datagrams", and WebTransport over HTTP/3, "Session Termination".
#[tokio::test(flavor = "multi_thread")]
async fn a_datagram_goes_to_its_own_session_and_one_of_a_session_that_is_gone_to_none() {
    let server = TestServer::start().await;
    let raw = Raw::connect(&server).await;
    let paths = [path("report"), path("report")];
    let gone = raw.session(&paths[0]).await;
    let lives = raw.session(&paths[1]).await;
    raw.datagram(gone.id, &[7; 10]);
    Log::line(&paths[0], "datagram 10").await;
    let (id, mut send) = (gone.id, gone.send);
    send.finish().unwrap();
    Log::line(&paths[0], "closed").await;
    raw.datagram(id, &[7; 20]);
    raw.datagram(lives.id, &[7; 30]);
    Log::line(&paths[1], "datagram 30").await;
    assert!(Log::of(&paths[0]).last().unwrap().starts_with("closed"));
    let told = |line: &&String| line.starts_with("datagram");
    assert_eq!(Log::of(&paths[1]).iter().filter(told).count(), 1);
}

over_both!(of_more_datagrams_than_the_queue_holds_the_newest_are_sent);
async fn of_more_datagrams_than_the_queue_holds_the_newest_are_sent(http: Http) {
    let server = TestServer::with(|config| config.transport.session.datagrams_out = 10).await;
    let peer = Peer::connect(http, &server).await;
    // More than QUIC's own buffer of 1 MiB, in one callback: what does not fit waits in ours.
    let path = format!("{}?count=2000&bytes=1000", path("datagrams"));
    let newest = async {
        // The network may lose datagrams, so it is tried again until one of the newest comes.
        loop {
            let session = peer.session(&path).await;
            let (mut send, _recv) = session.open_bi().await.unwrap();
            send.write_all(b"x").await.unwrap();
            let wait = Duration::from_secs(1);
            while let Ok(datagram) = tokio::time::timeout(wait, session.read_datagram()).await {
                let datagram = datagram.unwrap();
                let number = u32::from_be_bytes(datagram[..4].try_into().unwrap());
                if number >= 1990 {
                    return;
                }
            }
        }
    };
    within("the newest of them", newest).await;
}
