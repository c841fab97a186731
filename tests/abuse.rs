//! Peers that send what no honest client sends: each costs a little memory and its own connection.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use crate::{
    binary::Wharf,
    harness::{TestServer, root, within},
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

/// Bytes that no grammar made. What fails is told with its seed, which `WHARF_SEED` gives back.
#[tokio::test(flavor = "multi_thread")]
async fn random_bytes_on_every_kind_of_stream_cost_their_connection_at_most() {
    let server = TestServer::start().await;
    let seed = match std::env::var("WHARF_SEED") {
        Ok(seed) => seed.parse().expect("WHARF_SEED is a number"),
        Err(_) => RandomState::new().build_hasher().finish() | 1,
    };
    let mut random = Random(seed);
    let honest = Raw::connect(&server).await;
    let session = honest.session("/plain").await;
    for round in 0..60 {
        let raw = Raw::connect(&server).await;
        let mut target = raw.session("/plain").await;
        // Any of these may fail because the server has had enough.
        for _ in 0..6 {
            let bytes = random.bytes();
            match random.next() % 5 {
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
        within(&format!("round {round} of WHARF_SEED={seed}"), echo).await;
    }
    drop((honest, session));
    within(&format!("WHARF_SEED={seed}"), server.no_instances()).await;
}

/// Xorshift: enough for bytes that mean nothing.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Few bytes, and often such as begin a frame, a stream or a capsule.
    fn bytes(&mut self) -> Vec<u8> {
        const BEGINNINGS: [&[u8]; 6] =
            [b"", b"\x00", b"\x01", b"\x40\x54", b"\x40\x41", b"\x68\x43"];
        let beginning = BEGINNINGS[self.next() as usize % BEGINNINGS.len()];
        let more = (0..self.next() % 40).map(|_| self.next().to_le_bytes()[0]);
        let more: Vec<_> = more.collect();
        [beginning, &more].concat()
    }
}
