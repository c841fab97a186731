//! Datagrams: they come back, and their size has an answer.

use bytes::Bytes;

use crate::harness::{Log, TestServer, path, within};

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
