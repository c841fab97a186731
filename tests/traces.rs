//! What the program sends to a collector of OpenTelemetry.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    process::Command,
};

use crate::{
    binary::{Wharf, program},
    harness::{guest, within},
};

/// Takes one request, and answers it as collectors do.
async fn request(collector: &TcpListener) -> (String, Vec<u8>) {
    let (mut tcp, _) = collector.accept().await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(tcp.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    tcp.read_exact(&mut body).await.unwrap();
    tcp.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        .await
        .unwrap();
    (head, body)
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_ended_is_a_span_at_the_collector() {
    let collector = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", collector.local_addr().unwrap());
    let mut command = Command::new(program());
    command
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        .arg("run")
        .arg(guest("faults"));
    let wharf = Wharf::start(command).await;
    let session = wharf.connect("/close?code=77&token=hidden").await;
    within("the close", session.closed()).await;
    // The exporter waits for more, unless the program ends.
    let (got, code) = tokio::join!(within("the traces", request(&collector)), wharf.interrupt());
    assert_eq!(code, Some(0));
    let (head, body) = got;
    assert!(head.starts_with("post /v1/traces http/1.1\r\n"), "{head}");
    assert!(
        head.contains("content-type: application/x-protobuf"),
        "{head}"
    );
    let text = String::from_utf8_lossy(&body);
    for said in [
        "service.name",
        "wharf",
        "session",
        "tenant",
        "default",
        "route",
        "faults.wasm",
        "http3",
        "/close",
        "cause",
        "handler",
        "close_code",
        "bytes_in",
        "cpu_ns",
    ] {
        assert!(text.contains(said), "{said} is not in {text}");
    }
    assert!(!text.contains("hidden"), "queries may hold secrets: {text}");
}
