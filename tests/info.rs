//! What a handler can learn of its session: counts that agree with its client's, and keys that only both know.

use std::collections::BTreeMap;

use crate::{
    harness::{Log, TestServer, path, within},
    peer::{Http, Peer, PeerSession, Terms, over_both},
    raw::{BROWSER, Raw},
};

type Info = BTreeMap<String, String>;

/// Asks on a new stream and gives the answer back, with its length.
async fn ask(session: &PeerSession, question: &[u8]) -> (Info, u64) {
    let (mut send, mut recv) = session.open_bi().await.unwrap();
    send.write_all(question).await.unwrap();
    send.finish().unwrap();
    let answer = within("the answer", recv.read_to_end(9999)).await.unwrap();
    (parsed(&answer), answer.len() as u64)
}

fn parsed(answer: &[u8]) -> Info {
    let pairs = std::str::from_utf8(answer)
        .unwrap()
        .split(' ')
        .map(|pair| pair.split_once('=').unwrap())
        .map(|(key, value)| (key.to_owned(), value.to_owned()));
    pairs.collect()
}

fn number(info: &Info, key: &str) -> u64 {
    info[key]
        .parse()
        .unwrap_or_else(|_| panic!("{key} is no number: {info:#?}"))
}

over_both!(info_agrees_with_the_counts_of_the_client);
async fn info_agrees_with_the_counts_of_the_client(http: Http) {
    const CREDIT: u64 = 16 << 20;
    let server = TestServer::start().await;
    let granted = Terms {
        data: 1 << 20,
        streams: 100,
        ..Terms::default()
    };
    let peer = Peer::connect_to(http, server.address, granted).await;
    let path = path("info");
    let session = peer.session(&path).await;
    let (mut sent, mut received) = (0, 0);
    for size in [10, 20, 30] {
        session.send_datagram(&vec![7; size]).unwrap();
        Log::line(&path, &format!("datagram {size}")).await;
    }
    let mut held = Vec::new();
    for size in [1, 100, 10_000] {
        let mut uni = session.open_uni().await.unwrap();
        uni.write_all(&vec![7; size]).await.unwrap();
        sent += size as u64;
        held.push(uni);
    }
    // The last of it is told in pieces; the session's own count says when all has come. HTTP/2 asks for its round-trip time
    // when a connection begins, and a busy machine may have the answer later than this.
    let mut last = Info::new();
    for _ in 0..100 {
        let (info, size) = ask(&session, b"how much?").await;
        sent += 9;
        let all = number(&info, "bytes-received") == sent && info["rtt-us"].parse::<u64>().is_ok();
        assert_eq!(number(&info, "bytes-sent"), received);
        received += size;
        last = info;
        if all {
            break;
        }
    }
    let expected = [
        ("http", http.name().to_owned()),
        ("datagrams-reliable", http.datagrams_reliable().to_string()),
        ("bytes-received", sent.to_string()),
        ("datagrams-received", "3".to_owned()),
        ("datagrams-sent", "0".to_owned()),
        ("datagrams-dropped-in", "0".to_owned()),
        ("datagrams-dropped-out", "0".to_owned()),
        ("streams-bidi", "1".to_owned()),
        ("streams-uni", held.len().to_string()),
        // What the client grants, of which no stream was used.
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
    assert_eq!(told, 1 << 20, "what the client grants");
    assert!(number(&last, "rtt-us") > 0);
}

over_both!(datagrams_of_the_handler_come_whole_and_in_order);
async fn datagrams_of_the_handler_come_whole_and_in_order(http: Http) {
    let server = TestServer::start().await;
    let path = format!("{}?count=3&bytes=8", path("datagrams"));
    let session = server.session(http, &path).await;
    let (mut send, _recv) = session.open_bi().await.unwrap();
    send.write_all(b"x").await.unwrap();
    for number in 0..3_u8 {
        let datagram = within("a datagram", session.read_datagram()).await.unwrap();
        assert_eq!(datagram[..], [0, 0, 0, number, 0, 0, 0, 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_flow_control_there_are_no_credits() {
    let server = TestServer::start().await;
    let raw = Raw::connect_to(server.address, BROWSER).await;
    let (_, session) = raw.ask(&path("info"), "webtransport").await;
    let (mut send, mut recv) = raw.open_bi(session.id).await;
    send.write_all(b"?").await.unwrap();
    let answer = within("the answer", recv.read_to_end(9999)).await.unwrap();
    let info = parsed(&answer);
    for key in [
        "open-credit-bidi",
        "open-credit-uni",
        "send-credit",
        "receive-credit",
    ] {
        assert_eq!(info[key], "none", "{key}");
    }
}

over_both!(sessions_have_numbers_of_their_own);
async fn sessions_have_numbers_of_their_own(http: Http) {
    let server = TestServer::start().await;
    let peer = Peer::connect(http, &server).await;
    let mut numbers = Vec::new();
    let mut sessions = Vec::new();
    for _ in 0..3 {
        let session = peer.session(&path("info")).await;
        numbers.push(number(&ask(&session, b"?").await.0, "id"));
        sessions.push(session);
    }
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 3, "{numbers:?}");
}

over_both!(keying_material_is_the_clients);
/// WebTransport over HTTP/3, "Use of Keying Material Exporters".
async fn keying_material_is_the_clients(http: Http) {
    let server = TestServer::start().await;
    let peer = Peer::connect(http, &server).await;
    let mut seen = Vec::new();
    let mut sessions = Vec::new();
    for _ in 0..2 {
        let session = peer.session(&path("export")).await;
        let (mut send, mut recv) = session.open_bi().await.unwrap();
        send.write_all(b"?").await.unwrap();
        let answer = within("the answer", recv.read_to_end(999)).await.unwrap();
        let mut ours = [0; 32];
        session.export_keying_material(b"wharf test", b"ctx", &mut ours);
        let hex: String = ours.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(String::from_utf8(answer).unwrap(), hex);
        seen.push(hex);
        sessions.push(session);
    }
    assert_ne!(seen[0], seen[1], "each session has keys of its own");
}

over_both!(the_request_is_what_the_client_sent);
async fn the_request_is_what_the_client_sent(http: Http) {
    let server = TestServer::start().await;
    let peer = Peer::connect(http, &server).await;
    let path = format!("{}?a=%20&b", path("request"));
    let fields = [
        ("x-first", "1"),
        ("wt-available-protocols", "\"chat-2\", \"chat-1\""),
        ("x-second", "two words"),
        ("x-first", "3"),
        ("origin", "https://listed.example"),
    ];
    let (status, session) = peer.ask(&path, &fields).await;
    assert_eq!(status, 200);
    let (mut question, mut answer) = session.as_ref().unwrap().open_bi().await.unwrap();
    question.write_all(b"?").await.unwrap();
    let told = within("the request", answer.read_to_end(9999)).await;
    let told = String::from_utf8(told.unwrap()).unwrap();
    let lines: Vec<_> = told.lines().collect();
    for expected in [
        "scheme=https",
        "authority=localhost",
        &format!("path={path}"),
        &format!("token={}", http.token()),
        "origin=https://listed.example",
        "offered-protocols=chat-2,chat-1",
        &format!("http={}", http.name()),
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
    let from = lines.iter().find_map(|line| line.strip_prefix("peer="));
    assert!(from.unwrap().starts_with("127.0.0.1:"), "{from:?}");
}
