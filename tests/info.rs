//! What a handler can learn of its session: counts that agree with its client's, and keys that only both know.

use std::collections::BTreeMap;

use crate::{
    harness::{Log, TestServer, path, within},
    raw::{BROWSER, NEWEST, Raw},
};

type Info = BTreeMap<String, String>;

/// Asks on a new stream and gives the answer back, with its length.
async fn ask(raw: &Raw, session: u64, question: &[u8]) -> (Info, u64) {
    let (mut send, mut recv) = raw.open_bi(session).await;
    send.write_all(question).await.unwrap();
    send.finish().unwrap();
    let answer = within("the answer", recv.read_to_end(9999)).await.unwrap();
    let text = String::from_utf8(answer).unwrap();
    let pairs = text
        .split(' ')
        .map(|pair| pair.split_once('=').unwrap())
        .map(|(key, value)| (key.to_owned(), value.to_owned()));
    (pairs.collect(), text.len() as u64)
}

fn number(info: &Info, key: &str) -> u64 {
    info[key]
        .parse()
        .unwrap_or_else(|_| panic!("{key} is no number: {info:#?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn info_agrees_with_the_counts_of_the_client() {
    const CREDIT: u64 = 16 << 20;
    let server = TestServer::start().await;
    let raw = Raw::connect_to(server.address, NEWEST).await;
    let path = path("info");
    let connect = raw.session(&path).await;
    let session = connect.id;
    let (mut sent, mut received) = (0, 0);
    for size in [10, 20, 30] {
        raw.datagram(session, &vec![7; size]);
        Log::line(&path, &format!("datagram {size}")).await;
    }
    let mut held = Vec::new();
    for size in [1, 100, 10_000] {
        let mut uni = raw.open_uni(session).await;
        uni.write_all(&vec![7; size]).await.unwrap();
        sent += size as u64;
        held.push(uni);
    }
    // The last of it is told in pieces; the session's own count says when all has come.
    let mut last = Info::new();
    for _ in 0..100 {
        let (info, size) = ask(&raw, session, b"how much?").await;
        sent += 9;
        let all = number(&info, "bytes-received") == sent;
        assert_eq!(number(&info, "bytes-sent"), received);
        received += size;
        last = info;
        if all {
            break;
        }
    }
    let expected = [
        ("http", "http3".to_owned()),
        ("datagrams-reliable", "false".to_owned()),
        ("bytes-received", sent.to_string()),
        ("datagrams-received", "3".to_owned()),
        ("datagrams-sent", "0".to_owned()),
        ("datagrams-dropped-in", "0".to_owned()),
        ("datagrams-dropped-out", "0".to_owned()),
        ("streams-bidi", "1".to_owned()),
        ("streams-uni", held.len().to_string()),
        // What NEWEST grants, of which no stream was used.
        ("open-credit-bidi", "100".to_owned()),
        ("open-credit-uni", "100".to_owned()),
        ("send-buffered", "0".to_owned()),
        // Too little was used for a refill.
        ("receive-credit", (CREDIT - sent).to_string()),
    ];
    for (key, value) in expected {
        assert_eq!(last[key], value, "{key}");
    }
    let told = number(&last, "send-credit") + number(&last, "bytes-sent");
    assert_eq!(told, 1 << 20, "what NEWEST grants");
    assert!(number(&last, "rtt-us") > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn datagrams_of_the_handler_come_whole_and_in_order() {
    let server = TestServer::start().await;
    let raw = Raw::connect(&server).await;
    let session = raw
        .session(&format!("{}?count=3&bytes=8", path("datagrams")))
        .await;
    let (mut send, _recv) = raw.open_bi(session.id).await;
    send.write_all(b"x").await.unwrap();
    for number in 0..3_u8 {
        let datagram = within("a datagram", raw.conn.read_datagram())
            .await
            .unwrap();
        assert_eq!(datagram[..], [0, 0, 0, 0, number, 0, 0, 0, 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_flow_control_there_are_no_credits() {
    let server = TestServer::start().await;
    let raw = Raw::connect_to(server.address, BROWSER).await;
    let (_, session) = raw.ask(&path("info"), "webtransport").await;
    let (info, _) = ask(&raw, session.id, b"?").await;
    for key in [
        "open-credit-bidi",
        "open-credit-uni",
        "send-credit",
        "receive-credit",
    ] {
        assert_eq!(info[key], "none", "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_have_numbers_of_their_own() {
    let server = TestServer::start().await;
    let raw = Raw::connect(&server).await;
    let mut numbers = Vec::new();
    let mut sessions = Vec::new();
    for _ in 0..3 {
        let session = raw.session(&path("info")).await;
        numbers.push(number(&ask(&raw, session.id, b"?").await.0, "id"));
        sessions.push(session);
    }
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 3, "{numbers:?}");
}

/// WebTransport over HTTP/3, "Use of Keying Material Exporters".
#[tokio::test(flavor = "multi_thread")]
async fn keying_material_is_the_clients() {
    let server = TestServer::start().await;
    let raw = Raw::connect(&server).await;
    let mut seen = Vec::new();
    for _ in 0..2 {
        let session = raw.session(&path("export")).await;
        let (mut send, mut recv) = raw.open_bi(session.id).await;
        send.write_all(b"?").await.unwrap();
        let answer = within("the answer", recv.read_to_end(999)).await.unwrap();
        let context = [&session.id.to_be_bytes()[..], b"\x0awharf test", b"\x03ctx"].concat();
        let mut ours = [0; 32];
        raw.conn
            .export_keying_material(&mut ours, b"EXPORTER-WebTransport", &context)
            .unwrap();
        let hex: String = ours.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(String::from_utf8(answer).unwrap(), hex);
        seen.push(hex);
        std::mem::forget(session);
    }
    assert_ne!(seen[0], seen[1], "each session has keys of its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_request_is_what_the_client_sent() {
    let server = TestServer::start().await;
    let raw = Raw::connect(&server).await;
    let path = format!("{}?a=%20&b", path("request"));
    let mut fields = crate::raw::connect_fields(&path, "webtransport-h3");
    let own = [
        ("x-first", "1"),
        ("wt-available-protocols", "\"chat-2\", \"chat-1\""),
        ("x-second", "two words"),
        ("x-first", "3"),
        ("origin", "https://listed.example"),
    ];
    fields.extend(own);
    let (send, mut recv) = raw.request(&fields).await;
    let status = within("the response", crate::raw::read_status(&mut recv)).await;
    assert_eq!(status, 200);
    let session: u64 = send.id().into();
    let (mut question, mut answer) = raw.open_bi(session).await;
    question.write_all(b"?").await.unwrap();
    let told = within("the request", answer.read_to_end(9999)).await;
    let told = String::from_utf8(told.unwrap()).unwrap();
    let local = raw.conn.local_ip();
    let lines: Vec<_> = told.lines().collect();
    for expected in [
        "scheme=https",
        "authority=localhost",
        &format!("path={path}"),
        "token=webtransport-h3",
        "origin=https://listed.example",
        "offered-protocols=chat-2,chat-1",
        "http=http3",
        "role=server",
        "field.x-second=two words",
    ] {
        assert!(lines.contains(&expected), "{expected} is not in {told}");
    }
    let first: Vec<_> = lines
        .iter()
        .filter_map(|line| line.strip_prefix("field.x-first="))
        .collect();
    assert_eq!(first, ["1", "3"]);
    let peer = lines.iter().find_map(|line| line.strip_prefix("peer="));
    assert!(
        peer.unwrap().starts_with("127.0.0.1:"),
        "{peer:?}, and we are {local:?}"
    );
}
