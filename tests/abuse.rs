//! Peers that send what no honest client sends: each costs a little memory and its own connection.

use crate::{
    binary::Wharf,
    harness::{TestServer, root, within},
    random::Random,
    raw::{NEWEST, Raw, connect_fields, field_section, frame, put},
};

const H3_EXCESSIVE_LOAD: u64 = 0x107;
const H3_FRAME_ERROR: u64 = 0x106;
const H3_ID_ERROR: u64 = 0x108;
const H3_DATAGRAM_ERROR: u64 = 0x33;

/// A frame header that announces 100 MiB.
fn huge(kind: u64) -> Vec<u8> {
    let mut header = Vec::new();
    put(&mut header, kind);
    put(&mut header, 100 << 20);
    header
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_of_100_mib_costs_its_connection_and_nothing_else() {
    let server = TestServer::start().await;
    for kind in [0x01, 0x21 + 0x1f * 7] {
        let raw = Raw::connect(&server).await;
        let (mut send, _recv) = raw.conn.open_bi().await.unwrap();
        send.write_all(&huge(kind)).await.unwrap();
        let sent = within("the connection to refuse it", async {
            let piece = vec![0; 64 << 10];
            let mut sent = 0;
            while sent < 100 << 20 && send.write_all(&piece).await.is_ok() {
                sent += piece.len();
            }
            sent
        })
        .await;
        assert_eq!(
            raw.closed_with().await,
            H3_EXCESSIVE_LOAD,
            "frame type {kind:#x}"
        );
        assert!(
            sent < 32 << 20,
            "{sent} bytes were taken of frame type {kind:#x}"
        );
    }
    let raw = Raw::connect(&server).await;
    raw.expect_echo(raw.session("/plain").await.id, b"others go on")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_of_100_mib_cost_at_most_1_mib_each() {
    const PEERS: usize = 32;
    let wharf = Wharf::run(&root().join("guests/echo")).await;
    let address = wharf.address();
    // What the program allocates once is allocated.
    Raw::connect_to(address, NEWEST).await.session("/").await;
    let before = wharf.resident_kib();
    let mut peers = Vec::new();
    for n in 0..PEERS {
        let raw = Raw::connect_to(address, NEWEST).await;
        let (mut send, recv) = raw.conn.open_bi().await.unwrap();
        send.write_all(&huge([0x01, 0x21 + 0x1f * 7][n % 2]))
            .await
            .unwrap();
        let piece = vec![0; 64 << 10];
        while send.write_all(&piece).await.is_ok() {}
        peers.push((raw, send, recv));
    }
    let grown = wharf.resident_kib().saturating_sub(before);
    assert!(grown < PEERS << 10, "{grown} KiB for {PEERS} peers");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_stream_header_stops_no_other_stream() {
    let server = TestServer::start().await;
    let raw = Raw::connect(&server).await;
    let session = raw.session("/plain").await;
    let mut stalled = Vec::new();
    for first in [0x40, 0x41] {
        let (mut send, recv) = raw.conn.open_bi().await.unwrap();
        send.write_all(&[first]).await.unwrap();
        let mut uni = raw.conn.open_uni().await.unwrap();
        uni.write_all(&[first]).await.unwrap();
        stalled.push((send, recv, uni));
    }
    for _ in 0..10 {
        raw.expect_echo(session.id, b"passes by").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_header_that_never_comes_is_given_up() {
    let server = TestServer::with(|config| {
        config.transport.setup_timeout = std::time::Duration::from_millis(100);
    })
    .await;
    let raw = Raw::connect(&server).await;
    let mut uni = raw.conn.open_uni().await.unwrap();
    uni.write_all(&[0x40]).await.unwrap();
    within("the stop", uni.stopped()).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_in_single_bytes_is_a_header() {
    let server = TestServer::start().await;
    let raw = Raw::connect(&server).await;
    let (mut send, mut recv) = raw.conn.open_bi().await.unwrap();
    for byte in frame(
        1,
        &field_section(&connect_fields("/plain", "webtransport-h3")),
    ) {
        send.write_all(&[byte]).await.unwrap();
    }
    assert_eq!(
        within("the response", crate::raw::read_status(&mut recv)).await,
        200
    );
    raw.expect_echo(send.id().into(), b"whole").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_that_no_session_can_have_close_the_connection() {
    let server = TestServer::start().await;
    let raw = Raw::connect(&server).await;
    raw.open_uni(3).await;
    assert_eq!(raw.closed_with().await, H3_ID_ERROR);
    let raw = Raw::connect(&server).await;
    raw.conn
        .send_datagram(b"\xff\xff\xff\xff\xff\xff\xff\xffx".as_slice().into())
        .unwrap();
    assert_eq!(raw.closed_with().await, H3_DATAGRAM_ERROR);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webtransport_signal_inside_a_request_closes_the_connection() {
    let server = TestServer::start().await;
    let raw = Raw::connect(&server).await;
    let mut session = raw.session("/plain").await;
    session
        .send
        .write_all(&crate::raw::header(0x41, session.id))
        .await
        .unwrap();
    assert_eq!(raw.closed_with().await, H3_FRAME_ERROR);
}

#[tokio::test(flavor = "multi_thread")]
async fn greased_frames_streams_settings_and_capsules_are_passed_over() {
    let server = TestServer::start().await;
    let settings = [NEWEST, &[(0x21 + 0x1f * 3, 77)]].concat();
    let raw = Raw::connect_to(server.address, &settings).await;
    let mut uni = raw.conn.open_uni().await.unwrap();
    let mut grease = Vec::new();
    put(&mut grease, 0x21 + 0x1f * 5);
    uni.write_all(&grease).await.unwrap();
    let mut session = raw.session("/plain").await;
    session
        .send
        .write_all(&frame(0x21 + 0x1f * 9, b"frame"))
        .await
        .unwrap();
    let mut capsule = Vec::new();
    put(&mut capsule, 0x17 + 0x29 * 1_000_003);
    put(&mut capsule, 100_000);
    capsule.extend(vec![0; 100_000]);
    session.send.write_all(&frame(0, &capsule)).await.unwrap();
    raw.expect_echo(session.id, b"passed over").await;
}

/// Bytes that no grammar made.
#[tokio::test(flavor = "multi_thread")]
async fn random_bytes_on_every_kind_of_stream_cost_their_connection_at_most() {
    let server = TestServer::start().await;
    let mut random = Random::told();
    let honest = Raw::connect(&server).await;
    let session = honest.session("/plain").await;
    for round in 0..60 {
        let raw = Raw::connect(&server).await;
        let mut target = raw.session("/plain").await;
        // Any of these may fail because the server has had enough.
        for _ in 0..6 {
            let bytes = beginnings(&mut random);
            match random.below(5) {
                0 => _ = target.send.write_all(&frame(0, &bytes)).await,
                1 => _ = target.send.write_all(&bytes).await,
                2 => _ = raw.conn.send_datagram(bytes.into()),
                3 => {
                    if let Ok(mut uni) = raw.conn.open_uni().await {
                        _ = uni.write_all(&bytes).await;
                    }
                }
                _ => {
                    if let Ok((mut bidi, _)) = raw.conn.open_bi().await {
                        _ = bidi.write_all(&bytes).await;
                    }
                }
            }
        }
        let echo = honest.expect_echo(session.id, b"others go on");
        within(&format!("round {round}"), echo).await;
    }
    drop((honest, session));
    within("all of it to end", server.no_instances()).await;
}

/// Few bytes, and often such as begin a frame, a stream or a capsule.
fn beginnings(random: &mut Random) -> Vec<u8> {
    let beginning: &[u8] = match random.below(6) {
        0 => b"",
        1 => b"\x00",
        2 => b"\x01",
        3 => b"\x40\x54",
        4 => b"\x40\x41",
        _ => b"\x68\x43",
    };
    let more = usize::try_from(random.below(40)).unwrap();
    [beginning, &random.bytes(more)].concat()
}
