//! What the server writes, byte by byte, beside what it understands of the same bytes written by hand.

use crate::{
    harness::{Log, TestServer, path, within},
    raw::Raw,
};

/// WebTransport over HTTP/3, "Unidirectional Streams", "Bidirectional Streams" and "Datagrams".
#[tokio::test(flavor = "multi_thread")]
async fn streams_and_datagrams_of_the_server_begin_as_the_draft_says() {
    let server = TestServer::start().await;
    let raw = Raw::connect(&server).await;
    let _first = raw.session("/plain").await;
    let session = raw.session(&path("push")).await;
    assert_eq!(session.id, 4);
    let (_send, mut bidi) = within("a bidi stream", raw.conn.accept_bi()).await.unwrap();
    assert_eq!(
        within("its bytes", bidi.read_to_end(99)).await.unwrap(),
        b"\x40\x41\x04pushed-bidi"
    );
    let uni = async {
        loop {
            let mut uni = raw.conn.accept_uni().await.unwrap();
            let mut kind = [0];
            uni.read_exact(&mut kind).await.unwrap();
            // The control stream stays open for ever.
            if kind[0] == 0x40 {
                return uni.read_to_end(99).await.unwrap();
            }
        }
    };
    let uni = within("a uni stream", uni).await;
    assert_eq!(uni, b"\x54\x04pushed-uni");
    raw.datagram(session.id, b"ignored");
    let echo = raw.session("/plain").await;
    raw.conn
        .send_datagram(b"\x02word".as_slice().into())
        .unwrap();
    assert_eq!(echo.id, 8);
    let datagram = within("the datagram", raw.conn.read_datagram()).await;
    assert_eq!(datagram.unwrap()[..], *b"\x02word");
}

/// The lengths of varints are the sender's choice (RFC 9000, "Variable-Length Integer Encoding").
#[tokio::test(flavor = "multi_thread")]
async fn headers_in_longer_integers_than_needed_are_understood() {
    let server = TestServer::start().await;
    let raw = Raw::connect(&server).await;
    let path = path("report");
    let session = raw.session(&path).await;
    assert_eq!(session.id, 0);
    for (length, header) in [
        (3, &b"\x40\x54\x00"[..]),
        (4, b"\x40\x54\x40\x00"),
        (5, b"\x80\x00\x00\x54\x80\x00\x00\x00"),
        (6, b"\xc0\0\0\0\0\0\0\x54\xc0\0\0\0\0\0\0\0"),
    ] {
        let mut uni = raw.conn.open_uni().await.unwrap();
        let bytes = [header, &vec![7; length]].concat();
        uni.write_all(&bytes).await.unwrap();
        let id: u64 = uni.id().into();
        Log::line(&path, &format!("data {id} {length}")).await;
    }
    raw.conn
        .send_datagram(b"\x40\x00four".as_slice().into())
        .unwrap();
    Log::line(&path, "datagram 4").await;
}

/// Every byte of a header, and of the data behind it, in a packet of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_comes_in_pieces_is_one_header() {
    let server = TestServer::start().await;
    let raw = Raw::connect(&server).await;
    let path = path("report");
    let session = raw.session(&path).await;
    for header in [&b"\x40\x54\x00x"[..], b"\x80\x00\x00\x54\x40\x00x"] {
        let mut uni = raw.conn.open_uni().await.unwrap();
        let id: u64 = uni.id().into();
        for byte in header {
            uni.write_all(&[*byte]).await.unwrap();
            // Acknowledged by the time that the echo is back.
            raw.datagram(session.id, b"");
            tokio::task::yield_now().await;
        }
        uni.finish().unwrap();
        Log::line(&path, &format!("data {id} 1")).await;
        Log::line(&path, &format!("stream-closed {id}")).await;
    }
}

/// WebTransport over HTTP/3, "Session Termination" and "Drain": the capsules by their bytes.
#[tokio::test(flavor = "multi_thread")]
async fn capsules_of_the_peer_written_by_hand_are_understood() {
    let server = TestServer::start().await;
    let raw = Raw::connect(&server).await;
    let path = path("report");
    let mut session = raw.session(&path).await;
    // DATA, its length; WT_DRAIN_SESSION, no payload.
    session
        .send
        .write_all(b"\x00\x05\x80\x00\x78\xae\x00")
        .await
        .unwrap();
    Log::line(&path, "drain").await;
    // DATA, its length; WT_CLOSE_SESSION, its length, the code, the reason.
    session
        .send
        .write_all(b"\x00\x0a\x68\x43\x07\x00\x00\x00\x2abye")
        .await
        .unwrap();
    session.send.finish().unwrap();
    assert_eq!(session.received().await, "", "the answer is FIN alone");
    assert_eq!(
        Log::line(&path, "closed").await,
        "closed 42 peer clean \"bye\""
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_drain_of_the_server_is_five_bytes() {
    let server = TestServer::start().await;
    let raw = Raw::connect(&server).await;
    let mut session = raw.session(&path("drain-on-data")).await;
    let (mut send, _recv) = raw.open_bi(session.id).await;
    send.write_all(b"x").await.unwrap();
    let mut bytes = [0; 7];
    let read = session.recv.read_exact(&mut bytes);
    within("the capsule", read).await.unwrap();
    assert_eq!(bytes, *b"\x00\x05\x80\x00\x78\xae\x00");
}
