//! What HTTP/2 looks like on the wire, byte by byte.

use wharf::{
    config::Config,
    transport::{FinOrder, Quirks},
};
use wharf_proto::varint::VarInt;

use super::raw::{
    DATA, END_STREAM, Frame, GENEROUS, GOAWAY, HEADERS, RST_STREAM, Raw, connect_fields,
};
use crate::harness::{Log, TestServer, path};

const REFUSED_STREAM: u32 = 0x7;
const CANCEL: u32 = 0x8;

/// WebTransport's settings.
const WT: std::ops::RangeInclusive<u16> = 0x2b60..=0x2b66;

fn capsule(kind: u64, ints: &[u64], rest: &[u8]) -> Vec<u8> {
    let mut payload = Vec::new();
    for int in ints {
        VarInt::try_from(*int).unwrap().encode(&mut payload);
    }
    payload.extend(rest);
    let mut capsule = Vec::new();
    VarInt::try_from(kind).unwrap().encode(&mut capsule);
    VarInt::saturating(payload.len() as u64).encode(&mut capsule);
    capsule.extend(payload);
    capsule
}

const DATAGRAM: u64 = 0x0;
const DRAIN: u64 = 0x78ae;
const CLOSE: u64 = 0x2843;
const RESET: u64 = 0x190b_4d39;
const STREAM_3B: u64 = 0x190b_4d3b;
const STREAM_3C: u64 = 0x190b_4d3c;
const MAX_DATA: u64 = 0x190b_4d3d;

/// WT-H2, "WebTransport Settings"; Firefox refuses settings of WebTransport that come before extended CONNECT.
#[tokio::test]
async fn the_settings_of_webtransport_follow_extended_connect_in_the_first_frame() {
    let server = TestServer::start().await;
    let raw = Raw::connect(server.address, &[]).await;
    let ids: Vec<u16> = raw.settings.iter().map(|(id, _)| *id).collect();
    let extended = ids.iter().position(|id| *id == 0x8).unwrap();
    assert_eq!(raw.settings[extended], (0x8, 1));
    assert_eq!(
        ids[extended + 1..],
        [0x2b60, 0x2b61, 0x2b62, 0x2b63, 0x2b66, 0x2b64, 0x2b65]
    );
    assert!(!ids[..extended].iter().any(|id| WT.contains(id)));
    let of = |wanted| raw.settings.iter().find(|(id, _)| *id == wanted).unwrap().1;
    assert_eq!(of(0x2b60), 1);
    assert_eq!((of(0x2b61), of(0x2b66)), (16 << 20, 16 << 20));
    assert_eq!((of(0x2b64), of(0x2b65)), (256, 256));
}

/// WT-H2, "WT_STREAM Capsule", as deployed.
#[tokio::test]
async fn an_echo_is_one_capsule_that_ends_its_stream() {
    let server = TestServer::start().await;
    let mut raw = Raw::connect(server.address, GENEROUS).await;
    let session = raw.session("/plain").await;
    let ping = capsule(STREAM_3C, &[0], b"ping");
    assert_eq!(ping[..6], [0x99, 0x0b, 0x4d, 0x3c, 5, 0]);
    raw.capsules(session, &ping).await;
    assert_eq!(raw.data(session, ping.len()).await, ping);
}

/// Draft 15 of WT-H2, "WT_STREAM Capsule": the low bit is FIN.
#[tokio::test]
async fn a_route_may_follow_draft_15_in_what_ends_a_stream() {
    let server = TestServer::with(|config| {
        quirks(config).fin_order = FinOrder::Draft15;
    })
    .await;
    let mut raw = Raw::connect(server.address, GENEROUS).await;
    let session = raw.session("/plain").await;
    let ping = capsule(STREAM_3B, &[0], b"ping");
    raw.capsules(session, &ping).await;
    assert_eq!(raw.data(session, ping.len()).await, ping);
}

#[tokio::test]
async fn a_route_may_take_clients_that_number_their_streams_like_servers() {
    let server = TestServer::with(|config| quirks(config).swapped_stream_ids = true).await;
    let mut raw = Raw::connect(server.address, GENEROUS).await;
    let session = raw.session("/plain").await;
    let ping = capsule(STREAM_3C, &[1], b"ping");
    raw.capsules(session, &ping).await;
    assert_eq!(raw.data(session, ping.len()).await, ping);
}

fn quirks(config: &mut Config) -> &mut Quirks {
    let plain = config.tenants[0]
        .routes
        .iter_mut()
        .find(|route| route.path == "/plain");
    &mut plain.unwrap().quirks
}

/// The same client elsewhere opens a stream of the server's.
#[tokio::test]
async fn a_peer_that_breaks_a_rule_is_told_in_the_close_of_its_session() {
    let server = TestServer::start().await;
    let mut raw = Raw::connect(server.address, GENEROUS).await;
    let path = path("report");
    let session = raw.session(&path).await;
    raw.capsules(session, &capsule(STREAM_3C, &[1], b"ping"))
        .await;
    let close = raw.data(session, usize::MAX).await;
    assert_eq!(close[..2], [0x68, 0x43]);
    assert_eq!(close[3..7], 0xffff_ff07_u32.to_be_bytes());
    assert!(close.ends_with(b"capsule for a stream that was never opened"));
    let told = Log::line(&path, "closed ").await;
    assert!(told.starts_with("closed 4294967047 host unclean"), "{told}");
}

/// WT-H2, "WT_RESET_STREAM Capsule": the last field says how much was sent.
#[tokio::test]
async fn a_reset_tells_the_code_and_what_was_sent() {
    let server = TestServer::start().await;
    let mut raw = Raw::connect(server.address, GENEROUS).await;
    let session = raw.session(&path("echo")).await;
    raw.capsules(session, &capsule(STREAM_3B, &[0], b"ping"))
        .await;
    let ping = capsule(STREAM_3B, &[0], b"ping");
    assert_eq!(raw.data(session, ping.len()).await, ping);
    raw.capsules(session, &capsule(RESET, &[0, 0xffff_ffff, 4], b""))
        .await;
    let reset = capsule(RESET, &[0, 0xffff_ffff, 4], b"");
    assert_eq!(raw.data(session, reset.len()).await, reset);
}

/// WT-H2, "Flow Control Header": the greater of the field and of the settings counts.
#[tokio::test]
async fn a_request_grants_more_than_the_settings_by_its_init_field() {
    let server = TestServer::start().await;
    let settings = [
        (0x2b61, 1 << 20),
        (0x2b63, 2),
        (0x2b62, 2),
        (0x2b65, 10),
        (0x2b64, 10),
    ];
    let mut raw = Raw::connect(server.address, &settings).await;
    for (init, granted) in [(None, 2), (Some("bl=5, u=1"), 5), (Some("bl=1, x=?1"), 2)] {
        let mut fields = connect_fields("/plain");
        fields.extend(init.map(|init| ("webtransport-init", init)));
        let session = raw.request(&fields, 0).await;
        assert_eq!(raw.next(&[HEADERS]).await.status(), 200);
        raw.capsules(session, &capsule(STREAM_3C, &[0], b"a long text"))
            .await;
        let echo = capsule(STREAM_3B, &[0], &b"a long text"[..granted]);
        let data = raw.data(session, echo.len()).await;
        // What follows tells that more waits.
        assert_eq!(data[..echo.len()], echo, "{init:?}");
    }
    for wrong in ["bl=x", "u=1.5", "br=(1)", "u=-1", "u=\"1\"", "{"] {
        let mut fields = connect_fields("/plain");
        fields.push(("webtransport-init", wrong));
        let asked = raw.request(&fields, 0).await;
        let answer = raw.next(&[HEADERS]).await;
        assert_eq!((answer.stream, answer.status()), (asked, 400), "{wrong}");
    }
}

#[tokio::test]
async fn what_waits_for_session_credit_is_sent_when_it_is_granted() {
    let server = TestServer::start().await;
    let settings = [(0x2b61, 3), (0x2b63, 1 << 20), (0x2b65, 10)];
    let mut raw = Raw::connect(server.address, &settings).await;
    let session = raw.session("/plain").await;
    raw.capsules(session, &capsule(STREAM_3C, &[0], b"hello"))
        .await;
    let part = capsule(STREAM_3B, &[0], b"hel");
    assert_eq!(raw.data(session, part.len()).await, part);
    // That it waits is told.
    let blocked = capsule(0x190b_4d41, &[3], b"");
    assert_eq!(raw.data(session, blocked.len()).await, blocked);
    raw.capsules(session, &capsule(MAX_DATA, &[100], b"")).await;
    let rest = capsule(STREAM_3C, &[0], b"lo");
    assert_eq!(raw.data(session, rest.len()).await, rest);
}

/// RFC 9297, "The Capsule Protocol"; WT-H2, "Session Termination".
#[tokio::test]
async fn a_close_is_answered_by_the_end_of_the_stream() {
    let server = TestServer::start().await;
    let mut raw = Raw::connect(server.address, GENEROUS).await;
    let path = path("report");
    let session = raw.session(&path).await;
    let close = capsule(CLOSE, &[], &[&7_u32.to_be_bytes()[..], b"bye"].concat());
    raw.send(&Frame::new(DATA, END_STREAM, session, close))
        .await;
    let end = raw.next(&[DATA, RST_STREAM]).await;
    assert_eq!(
        (end.kind, end.flags, &end.payload[..]),
        (DATA, END_STREAM, &b""[..])
    );
    assert_eq!(
        Log::line(&path, "closed ").await,
        "closed 7 peer clean \"bye\""
    );
}

#[tokio::test]
async fn a_reset_of_the_request_aborts_its_session_only() {
    let server = TestServer::start().await;
    let mut raw = Raw::connect(server.address, GENEROUS).await;
    let (path, other) = (path("report"), raw.session("/plain").await);
    let session = raw.session(&path).await;
    let reset = Frame::new(RST_STREAM, 0, session, CANCEL.to_be_bytes());
    raw.send(&reset).await;
    let told = Log::line(&path, "closed ").await;
    assert!(told.starts_with("closed 0 peer unclean"), "{told}");
    let ping = capsule(STREAM_3C, &[0], b"ping");
    raw.capsules(other, &ping).await;
    assert_eq!(raw.data(other, ping.len()).await, ping);
}

/// Windows, and a budget for small frames, so large that no honest burst ends the connection.
#[tokio::test]
async fn twenty_thousand_small_datagrams_in_a_burst_leave_the_connection_alone() {
    const COUNT: usize = 20_000;
    let server = TestServer::start().await;
    let mut raw = Raw::connect(server.address, GENEROUS).await;
    let session = raw.session("/plain").await;
    let datagram = capsule(DATAGRAM, &[], &[7; 20]);
    let frame = Frame::new(DATA, 0, session, datagram.clone()).encode();
    let (mut read, mut write) = tokio::io::split(raw.io);
    let sending = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt as _;
        for _ in 0..COUNT / 1_000 {
            write.write_all(&frame.repeat(1_000)).await.unwrap();
        }
        // Credit for the echoes, and a stream behind all of it.
        let ping = capsule(STREAM_3C, &[0], b"ping");
        let ping = Frame::new(DATA, 0, session, ping).encode();
        write.write_all(&ping).await.unwrap();
        write.flush().await.unwrap();
        write
    });
    let mut seen = Vec::new();
    let ping = capsule(STREAM_3C, &[0], b"ping");
    while !seen.ends_with(&ping) {
        use tokio::io::AsyncReadExt as _;
        let mut header = [0; 9];
        crate::harness::within("a frame", read.read_exact(&mut header))
            .await
            .unwrap();
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        let mut payload = vec![0; length];
        read.read_exact(&mut payload).await.unwrap();
        assert_ne!(
            header[3],
            GOAWAY,
            "{:?}",
            payload.escape_ascii().to_string()
        );
        if header[3] == DATA {
            seen.extend(payload);
        }
    }
    sending.await.unwrap();
    assert!(seen.starts_with(&datagram), "some were echoed");
}

#[tokio::test]
async fn sessions_beyond_the_limit_of_a_connection_are_refused_and_the_others_live() {
    let server = TestServer::with(|config| config.transport.sessions_per_connection = 2).await;
    let mut raw = Raw::connect(server.address, GENEROUS).await;
    let first = raw.session("/plain").await;
    raw.session("/plain").await;
    let third = raw.request(&connect_fields("/plain"), 0).await;
    let refused = raw.next(&[HEADERS, RST_STREAM]).await;
    assert_eq!((refused.kind, refused.stream), (RST_STREAM, third));
    assert_eq!(refused.code(), REFUSED_STREAM);
    let ping = capsule(STREAM_3C, &[0], b"ping");
    raw.capsules(first, &ping).await;
    assert_eq!(raw.data(first, ping.len()).await, ping);
}

/// WT-H2, "Graceful shutdown": a client's GOAWAY asks its sessions to end.
#[tokio::test]
async fn a_goaway_of_the_client_is_told_to_the_handler() {
    let server = TestServer::start().await;
    let mut raw = Raw::connect(server.address, GENEROUS).await;
    let path = path("report");
    raw.session(&path).await;
    raw.send(&Frame::new(GOAWAY, 0, 0, [0; 8])).await;
    Log::line(&path, "drain").await;
}

#[tokio::test]
async fn an_ordinary_request_is_answered_beside_sessions() {
    let server = TestServer::start().await;
    let mut raw = Raw::connect(server.address, GENEROUS).await;
    raw.session("/plain").await;
    let get = [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "localhost"),
        (":path", "/live"),
    ];
    let stream = raw.request(&get, END_STREAM).await;
    let head = raw.next(&[HEADERS]).await;
    assert_eq!((head.stream, head.status()), (stream, 200));
    let body = raw.data(stream, usize::MAX).await;
    assert!(body.starts_with(b"wharf is up"));
}

#[tokio::test]
async fn requests_that_begin_no_session_have_an_answer() {
    let server = TestServer::start().await;
    let cases: [(&str, &str, u16); 3] = [
        (":protocol", "websocket", 501),
        (":protocol", "webtransport-h3", 501),
        (":path", "/plain", 200),
    ];
    for (name, value, status) in cases {
        let mut raw = Raw::connect(server.address, GENEROUS).await;
        let mut fields = connect_fields("/plain");
        for field in &mut fields {
            if field.0 == name {
                field.1 = value;
            }
        }
        raw.request(&fields, 0).await;
        assert_eq!(raw.next(&[HEADERS]).await.status(), status, "{value}");
    }
}

/// WT-H2, "WT_DRAIN_SESSION Capsule": GOAWAY is of the connection, and intermediaries end it.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_says_so_on_each_session_as_well_as_by_goaway() {
    let server = TestServer::start().await;
    let mut raw = Raw::connect(server.address, GENEROUS).await;
    let stream = raw.session(&path("report")).await;
    let stopping = tokio::spawn(server.stop());
    let (mut goaway, mut drain) = (false, false);
    while !(goaway && drain) {
        let frame = raw.next(&[DATA, GOAWAY]).await;
        goaway |= frame.kind == GOAWAY;
        if frame.kind == DATA {
            assert_eq!(
                (frame.stream, frame.payload),
                (stream, capsule(DRAIN, &[], b""))
            );
            drain = true;
        }
    }
    raw.send(&Frame::new(DATA, END_STREAM, stream, [])).await;
    stopping.await.unwrap();
}
