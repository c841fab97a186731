//! Datagrams: they come back, and their size has an answer.

use bytes::Bytes;

use crate::{
    harness::{Log, TestServer, path, within},
    raw::Raw,
};

#[tokio::test(flavor = "multi_thread")]
async fn datagrams_of_every_size_are_echoed() {
    let server = TestServer::start().await;
    let session = server.connect("/plain").await;
    for size in [0, 1, 32, 1000, session.max_datagram_size().min(1150)] {
        let sent = Bytes::from(vec![u8::try_from(size % 251).unwrap(); size]);
        // A datagram may be lost, so it is sent again until one comes back.
        let echoed = within("the echo", async {
            loop {
                session.send_datagram(sent.clone()).unwrap();
                let wait = std::time::Duration::from_secs(1);
                if let Ok(datagram) = tokio::time::timeout(wait, session.read_datagram()).await {
                    let datagram = datagram.unwrap();
                    if datagram.len() == size {
                        return datagram;
                    }
                }
            }
        })
        .await;
        assert_eq!(echoed, sent);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_datagram_larger_than_the_path_carries_is_refused_to_the_handler() {
    let server = TestServer::start().await;
    let path = path("errors");
    let session = server.connect(&path).await;
    let mut send = session.open_uni().await.unwrap();
    send.write_all(b"x").await.unwrap();
    Log::line(&path, "error datagram-too-large too-large").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_datagram_of_the_largest_size_is_delivered_both_ways() {
    let server = TestServer::start().await;
    let raw = Raw::connect(&server).await;
    let path_info = path("info");
    let session = raw.session(&path_info).await;
    // To the handler: one byte for the quarter of the session's id.
    let size = raw.conn.max_datagram_size().unwrap() - 1;
    raw.datagram(session.id, &vec![7; size]);
    Log::line(&path_info, &format!("datagram {size}")).await;
    // From the handler, of the size that it is told of.
    let (mut send, mut recv) = raw.open_bi(session.id).await;
    send.write_all(b"?").await.unwrap();
    let info = within("the answer", recv.read_to_end(9999)).await.unwrap();
    let info = String::from_utf8(info).unwrap();
    let (_, largest) = info.rsplit_once("max-datagram-size=").unwrap();
    let largest: usize = largest.parse().unwrap();
    assert!(largest >= 1100, "{largest}");
    let path = format!("{}?bytes={largest}", path("datagrams"));
    let sender = raw.session(&path).await;
    let (mut send, _recv) = raw.open_bi(sender.id).await;
    send.write_all(b"x").await.unwrap();
    let datagram = within("the datagram", raw.conn.read_datagram()).await;
    assert_eq!(datagram.unwrap().len(), 1 + largest);
    assert!(!Log::of(&path).iter().any(|line| line.starts_with("error")));
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

#[tokio::test(flavor = "multi_thread")]
async fn of_more_datagrams_than_the_queue_holds_the_newest_are_sent() {
    let server = TestServer::with(|config| config.transport.datagrams_out = 10).await;
    let raw = Raw::connect(&server).await;
    // More than QUIC's own buffer of 1 MiB, in one callback: what does not fit waits in ours.
    let path = format!("{}?count=2000&bytes=1000", path("datagrams"));
    let newest = async {
        // The network may lose datagrams, so it is tried again until one of the newest comes.
        loop {
            let session = raw.session(&path).await;
            let (mut send, _recv) = raw.open_bi(session.id).await;
            send.write_all(b"x").await.unwrap();
            let wait = std::time::Duration::from_secs(1);
            while let Ok(datagram) = tokio::time::timeout(wait, raw.conn.read_datagram()).await {
                let datagram = datagram.unwrap();
                let number = u32::from_be_bytes(datagram[1..5].try_into().unwrap());
                if number >= 1990 {
                    return;
                }
            }
        }
    };
    within("the newest of them", newest).await;
}
