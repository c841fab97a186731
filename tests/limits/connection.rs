//! What a peer may hold of one connection, beside what its sessions may.

use std::{pin::pin, time::Duration};

use super::{GAP, WINDOW, take};
use crate::{
    harness::{TestServer, within},
    http2,
    peer::{self, Http, Peer, Terms, over_both},
    raw::{Raw, connect_fields, read_status},
};

over_both!(a_stream_takes_as_many_bytes_ahead_as_its_credit);
async fn a_stream_takes_as_many_bytes_ahead_as_its_credit(http: Http) {
    const CREDIT: usize = 50_000;
    const BUFFER: usize = 20_000;
    let server = TestServer::with(|config| {
        config.transport.stream_receive_credit = CREDIT as u32;
        config.transport.session.stream_send_buffer = BUFFER;
    })
    .await;
    let terms = Terms {
        window: WINDOW,
        ..Terms::default()
    };
    let peer = Peer::connect_to(http, server.address, terms).await;
    // One stream keeps nothing from another.
    let least = CREDIT - GAP;
    let expected = least..=CREDIT + BUFFER + GAP + 2 * WINDOW as usize;
    take(http, &peer, "/plain", 2, expected).await;
}

over_both!(a_request_with_too_many_fields_is_refused_and_the_server_goes_on);
async fn a_request_with_too_many_fields_is_refused_and_the_server_goes_on(http: Http) {
    let server = TestServer::with(|config| config.transport.field_section = 1_000).await;
    let long = "x".repeat(2_000);
    let status = match http {
        // Of clients that look at the limit, none sends such a request.
        Http::Http3 => {
            let raw = Raw::connect(&server).await;
            let mut fields = connect_fields("/plain", "webtransport-h3");
            fields.push(("long", &long));
            let (_send, mut recv) = raw.request(&fields).await;
            within("the response", read_status(&mut recv)).await
        }
        Http::Http2 => {
            let fields = [("long", &*long)];
            let head = peer::ask(http, &server, "/plain", &fields).await;
            head.status
        }
    };
    assert_eq!(status, 431);
    let session = server.session(http, "/plain").await;
    session.expect_echo(b"as many as may be").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_are_no_sessions_are_bounded_over_http3() {
    let server = TestServer::with(|config| {
        config.transport.session.streams_per_kind = 0;
        config.transport.http_streams = 4;
    })
    .await;
    let raw = Raw::connect(&server).await;
    let mut held = Vec::new();
    // One is for a session, the others for requests.
    for _ in 0..1 + 4 {
        let (mut send, recv) = raw.conn.open_bi().await.unwrap();
        send.write_all(&[1]).await.unwrap();
        held.push((send, recv));
    }
    let mut another = pin!(raw.conn.open_bi());
    let early = tokio::time::timeout(Duration::from_millis(200), &mut another).await;
    assert!(early.is_err(), "another stream");
    let (mut send, _recv) = held.remove(0);
    send.reset(0_u32.into()).unwrap();
    within("its place", another).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_are_no_sessions_are_bounded_over_http2() {
    /// SETTINGS_MAX_CONCURRENT_STREAMS; `h2` refuses those beyond (RFC 9113, "Stream Concurrency").
    const STREAMS: u16 = 3;
    let server = TestServer::with(|config| {
        config.transport.sessions_per_connection = 2;
        config.transport.http_streams = 4;
    })
    .await;
    let raw = http2::raw::Raw::connect(server.address, http2::raw::GENEROUS).await;
    assert!(raw.settings.contains(&(STREAMS, 6)), "{:?}", raw.settings);
}
