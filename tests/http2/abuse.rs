//! Peers that abuse HTTP/2, or TCP below it: each costs bounded memory and its own connection.

use std::{sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;
use wharf::transport::{Limits, h2::Acceptor, tls::Certificate};

use super::raw::{
    ACK, CONTINUATION, DATA, END_HEADERS, Frame, GENEROUS, HEADERS, PING, RST_STREAM, Raw,
    SETTINGS, connect_fields, section, tls,
};
use crate::{
    binary::Wharf,
    harness::{Log, TestServer, path, root, within},
    peer::{Http, Peer},
};

const REFUSED_STREAM: u32 = 0x7;
const ENHANCE_YOUR_CALM: u32 = 0xb;

const GET: [(&str, &str); 4] = [
    (":method", "GET"),
    (":scheme", "https"),
    (":authority", "localhost"),
    (":path", "/"),
];

/// A server that is soon out of patience.
async fn hasty() -> TestServer {
    TestServer::with(|config| {
        config.transport.setup_timeout = Duration::from_millis(300);
        config.transport.idle_timeout = Duration::from_millis(600);
        config.transport.keep_alive = Duration::from_millis(200);
        config.transport.close_timeout = Duration::from_millis(300);
    })
    .await
}

async fn others_go_on(server: &TestServer) {
    for http in [Http::Http2, Http::Http3] {
        let session = server.session(http, "/plain").await;
        session.expect_echo(b"others go on").await;
    }
}

/// Waits until the server has closed a connection, in whatever way.
async fn is_closed(io: &mut (impl tokio::io::AsyncRead + Unpin)) {
    let mut buffer = [0; 4096];
    let closed = async { while !matches!(io.read(&mut buffer).await, Ok(0) | Err(_)) {} };
    within("the server to close the connection", closed).await;
}

#[tokio::test]
async fn connections_that_say_nothing_are_closed_and_hold_up_nobody() {
    let server = hasty().await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(server.address).await.unwrap());
    }
    others_go_on(&server).await;
    for mut tcp in silent {
        is_closed(&mut tcp).await;
    }
}

#[tokio::test]
async fn a_handshake_a_byte_at_a_time_is_given_up_in_time() {
    let server = hasty().await;
    let mut tcp = TcpStream::connect(server.address).await.unwrap();
    // The beginning of a record that is never whole.
    tcp.write_all(&[0x16, 0x03, 0x01, 0x02]).await.unwrap();
    is_closed(&mut tcp).await;
    others_go_on(&server).await;
}

#[tokio::test]
async fn tls_without_a_preface_is_closed_in_time() {
    let server = hasty().await;
    let mut tls = tls(server.address).await;
    tls.write_all(b"PRI * HTTP").await.unwrap();
    is_closed(&mut tls).await;
    others_go_on(&server).await;
}

#[tokio::test]
async fn headers_that_never_end_are_closed_in_time() {
    let server = hasty().await;
    let mut raw = Raw::connect(server.address, GENEROUS).await;
    let fields = section(&connect_fields("/plain"));
    // Without END_HEADERS: the rest is awaited, and PING is answered by nobody meanwhile.
    raw.send(&Frame::new(HEADERS, 0, 1, fields)).await;
    is_closed(&mut raw.io).await;
    others_go_on(&server).await;
}

/// CVE-2023-44487.
#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_reset_at_once_end_their_connection_before_they_cost_much() {
    let server = TestServer::start().await;
    let mut raw = Raw::connect(server.address, GENEROUS).await;
    let mut burst = Vec::new();
    for n in 0..20_000_u32 {
        let stream = 1 + 2 * n;
        let fields = section(&connect_fields("/plain"));
        burst.extend(Frame::new(HEADERS, END_HEADERS, stream, fields).encode());
        burst.extend(Frame::new(RST_STREAM, 0, stream, 8_u32.to_be_bytes()).encode());
    }
    let (mut read, mut write) = tokio::io::split(raw.io);
    let sending = tokio::spawn(async move { write.write_all(&burst).await });
    is_closed(&mut read).await;
    _ = sending.await;
    others_go_on(&server).await;
    server.no_instances().await;
    // An honest client may take back what it asked for.
    raw = Raw::connect(server.address, GENEROUS).await;
    let stream = raw.request(&connect_fields("/plain"), 0).await;
    raw.send(&Frame::new(RST_STREAM, 0, stream, 8_u32.to_be_bytes()))
        .await;
    raw.session("/plain").await;
}

/// Nobody takes the requests here. A stream that is reset frees its place among those that may be open, and not what
/// waits on it.
#[tokio::test]
async fn requests_that_are_reset_while_they_wait_to_be_taken_are_bounded_in_number() {
    const SESSIONS: u32 = 1;
    // Those that may be open, of sessions and others, and those that wait at the door.
    const WAITING: u32 = SESSIONS + 32 + 16;
    let mut limits = Limits::default();
    limits.sessions_per_connection = SESSIONS;
    let acceptor = Acceptor::new(limits);
    let certificate = Certificate::development().unwrap();
    let tls = acceptor.tls_config(certificate.server_config().unwrap());
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepting = tokio::spawn(async move {
        let (tcp, peer) = listener.accept().await.unwrap();
        let tls = TlsAcceptor::from(Arc::new(tls)).accept(tcp).await.unwrap();
        acceptor.accept(tls, peer)
    });
    let mut raw = Raw::connect(address, GENEROUS).await;
    let _connection = within("the connection", accepting).await.unwrap();
    let refused = async {
        for n in 0.. {
            let stream = raw.request(&GET, 0).await;
            let ping = Frame::new(PING, 0, 0, u64::from(n).to_be_bytes());
            raw.send(&ping).await;
            loop {
                let frame = raw.next(&[PING, RST_STREAM]).await;
                if frame.kind == RST_STREAM {
                    assert_eq!((frame.stream, frame.code()), (stream, REFUSED_STREAM));
                    return n;
                }
                if frame.flags & ACK != 0 && n < WAITING {
                    break; // it has been seen
                }
            }
            let reset = Frame::new(RST_STREAM, 0, stream, 8_u32.to_be_bytes());
            raw.send(&reset).await;
        }
        unreachable!("it ends sooner");
    };
    assert_eq!(within("one to be refused", refused).await, WAITING);
}

/// CVE-2024-27316.
#[tokio::test(flavor = "multi_thread")]
async fn endless_continuations_end_their_connection() {
    let server = TestServer::start().await;
    let raw = Raw::connect(server.address, GENEROUS).await;
    let fields = section(&connect_fields("/plain"));
    let (mut read, mut write) = tokio::io::split(raw.io);
    let sending = tokio::spawn(async move {
        let mut sent = 0;
        let first = Frame::new(HEADERS, 0, 1, fields).encode();
        if write.write_all(&first).await.is_err() {
            return sent;
        }
        let filler = section(&[("x-filler", &"y".repeat(120))]).repeat(100);
        let more = Frame::new(CONTINUATION, 0, 1, filler).encode();
        while write.write_all(&more).await.is_ok() {
            sent += more.len();
        }
        sent
    });
    is_closed(&mut read).await;
    drop(read);
    let sent = within("the flood to end", sending).await.unwrap();
    assert!(sent < 64 << 20, "{sent} bytes were taken");
    others_go_on(&server).await;
}

/// The answers are not read, so they cannot leave: what waits is bounded.
#[tokio::test(flavor = "multi_thread")]
async fn floods_of_settings_and_pings_cost_at_most_1_mib_each() {
    const PEERS: usize = 16;
    let wharf = Wharf::run(&root().join("guests/echo")).await;
    let address = wharf.address();
    // What the program allocates once is allocated.
    Raw::connect(address, GENEROUS).await.session("/").await;
    let before = wharf.resident_kib();
    let ping = Frame::new(PING, 0, 0, *b"8 bytes!").encode();
    let settings = Frame::new(SETTINGS, 0, 0, [0, 4, 0, 1, 0, 0]).encode();
    let mut floods = Vec::new();
    for n in 0..PEERS {
        let mut raw = Raw::connect(address, GENEROUS).await;
        let frame = if n % 2 == 0 { &ping } else { &settings };
        let burst = frame.repeat(4_000);
        floods.push(tokio::spawn(async move {
            let flood = async {
                // Until nothing more is taken, or the connection is closed.
                for _ in 0..1_000 {
                    let write = raw.io.write_all(&burst);
                    match tokio::time::timeout(Duration::from_secs(1), write).await {
                        Ok(Ok(())) => {}
                        Ok(Err(_)) | Err(_) => return,
                    }
                }
            };
            flood.await;
            raw
        }));
    }
    let mut held = Vec::new();
    for flood in floods {
        held.push(within("a flood to end", flood).await.unwrap());
    }
    let grown = wharf.resident_kib().saturating_sub(before);
    assert!(grown < PEERS << 10, "{grown} KiB more for {PEERS} peers");
    let peer = Peer::connect_to(Http::Http2, address, crate::peer::Terms::default()).await;
    let session = peer.session("/").await;
    session.expect_echo(b"others go on").await;
}

/// RFC 9113, "Flow Control": a stream that may not send holds what it would, up to its buffers.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_whose_windows_are_zero_costs_its_session_only() {
    let server = TestServer::with(|config| {
        config.transport.close_timeout = Duration::from_millis(300);
    })
    .await;
    let mut settings = GENEROUS.to_vec();
    settings[0] = (0x4, 0);
    let mut raw = Raw::connect(server.address, &settings).await;
    let path = format!("{}?bytes=20000000", path("flood"));
    let session = raw.session(&path).await;
    let go = [0x99, 0x0b, 0x4d, 0x3b, 3, 0, b'g', b'o'];
    raw.send(&Frame::new(DATA, 0, session, go)).await;
    Log::line(&path, "would-block").await;
    others_go_on(&server).await;
    drop(raw);
    Log::line(&path, "closed ").await;
    server.no_instances().await;
}

#[tokio::test]
async fn a_peer_that_does_not_answer_a_ping_is_lost() {
    let server = hasty().await;
    let mut raw = Raw::connect(server.address, GENEROUS).await;
    let path = path("report");
    raw.session(&path).await;
    // Nothing is read or written from here on.
    let told = Log::line(&path, "closed ").await;
    assert!(told.starts_with("closed 0 peer unclean"), "{told}");
    is_closed(&mut raw.io).await;
}

#[tokio::test]
async fn a_peer_that_answers_pings_keeps_its_session_and_an_idle_connection_is_closed() {
    let server = hasty().await;
    let mut raw = Raw::connect(server.address, GENEROUS).await;
    let path = path("report");
    let session = raw.session(&path).await;
    for _ in 0..10 {
        let ping = raw.next(&[PING]).await;
        assert_eq!(ping.flags & ACK, 0);
    }
    assert!(
        Log::of(&path)
            .iter()
            .all(|line| !line.starts_with("closed"))
    );
    let reset = Frame::new(RST_STREAM, 0, session, 8_u32.to_be_bytes());
    raw.send(&reset).await;
    // Without a session, answers to PING keep it no longer.
    let closed = async {
        while let Ok(frame) = raw.frame().await {
            if frame.kind == PING && frame.flags & ACK == 0 {
                let pong = Frame::new(PING, ACK, 0, frame.payload);
                _ = raw.io.write_all(&pong.encode()).await;
            }
        }
    };
    within("the idle connection to be closed", closed).await;
}

/// Each connection is one.
#[tokio::test]
async fn the_program_may_open_as_many_files_as_the_machine_lets_it() {
    let wharf = Wharf::run(&root().join("guests/echo")).await;
    let (soft, hard) = wharf.open_files();
    assert_eq!(soft, hard);
}

/// Small frames of a session that is not served are bounded by their budget.
#[tokio::test(flavor = "multi_thread")]
async fn small_frames_that_nobody_takes_end_their_connection() {
    let server = TestServer::with(|config| {
        config.transport.data_frame_budget = 1 << 20;
        config.runtime.callback_deadline = Duration::from_secs(20);
    })
    .await;
    let path = path("spin");
    let mut raw = Raw::connect(server.address, GENEROUS).await;
    let session = raw.session(&path).await;
    // The handler does not return from this.
    let go = [0x99, 0x0b, 0x4d, 0x3b, 3, 0, b'g', b'o'];
    raw.send(&Frame::new(DATA, 0, session, go)).await;
    Log::line(&path, "data").await;
    let datagram = [0, 1, b'x'];
    let burst = Frame::new(DATA, 0, session, datagram)
        .encode()
        .repeat(20_000);
    let (mut read, mut write) = tokio::io::split(raw.io);
    let sending = tokio::spawn(async move { write.write_all(&burst).await });
    let mut said = Vec::new();
    within("the connection to end", read.read_to_end(&mut said))
        .await
        .ok();
    _ = sending.await;
    let calm = ENHANCE_YOUR_CALM.to_be_bytes();
    assert!(said.windows(4).any(|window| window == calm));
    others_go_on(&server).await;
}
