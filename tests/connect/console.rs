//! A session driven by hand or by a script.

use super::program::Client;
use crate::harness::{Log, TestServer, path, within};

#[tokio::test(flavor = "multi_thread")]
async fn a_script_has_its_echo_printed_and_ends_by_itself() {
    let server = TestServer::start().await;
    let mut client = Client::to(&server, "/plain", &[]);
    client
        .enter_bytes("open bidi\nsend last hi\u{e4}\nfin 4\n".as_bytes())
        .await;
    let ended = client.end().await;
    ended.well("closed 0 \"\" by local clean");
    assert_eq!(
        ended.lines[..2],
        ["connected http3 draft-15 status 200", "open 4"]
    );
    let text: String = ended
        .lines
        .iter()
        .filter(|line| line.starts_with("data 4 "))
        .filter_map(|line| line.split('"').nth(1))
        .collect();
    assert_eq!(text, "hi\u{e4}", "{ended:?}");
    let over = "stream-closed 4".to_owned();
    assert!(ended.lines.contains(&over), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_text_go_out_as_they_are_and_come_back_escaped() {
    let server = TestServer::start().await;
    let mut client = Client::connected(&server, "/plain").await;
    client.enter_bytes(b"datagram a\xff\0 \"b\"\r\n").await;
    client.expect(r#"datagram 7 "a\xff\0 \"b\"""#).await;
    client.end().await.well("closed 0 \"\" by local clean");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_reaches_the_handler_at_the_far_end() {
    let server = TestServer::start().await;
    let path = path("report");
    let mut client = Client::connected(&server, &path).await;
    for (commands, answers, lines) in [
        (
            &["open bidi", "send 4 hello"][..],
            &["open 4"][..],
            &["opened 4 bidi", "data 4 5 more"][..],
        ),
        (&["fin 4"], &[], &["data 4 0 fin"]),
        (
            &["open uni", "send last hello!"],
            &["open 14"],
            &["opened 14 uni", "data 14 6 more"],
        ),
        (
            &["priority last 1", "priority 14 -1", "reset last 7"],
            &[],
            &["reset 14 7"],
        ),
        (
            &["open bidi", "send 8 x"],
            &["stream-closed 14", "open 8"],
            &["data 8 1 more"],
        ),
        (&["stop 8 9"], &[], &["stop 8 9"]),
        (&["datagram abc"], &[], &["datagram 3"]),
        (&["drain"], &[], &["drain"]),
        (
            &["open uni"],
            &["error open: the session is draining (use the streams that are open)"],
            &[],
        ),
    ] {
        for command in commands {
            client.enter(command).await;
        }
        for answer in answers {
            client.expect(answer).await;
        }
        for line in lines {
            Log::line(&path, line).await;
        }
    }
    client.enter("info").await;
    let info = client.line().await;
    for said in [
        "info streams-bidi 2 streams-uni 0 ",
        " bytes-sent 12 ",
        " datagrams-sent 1 ",
    ] {
        assert!(info.contains(said), "{said:?} is not in {info:?}");
    }
    client.enter("help").await;
    client.expect("help open bidi|uni").await;
    client.until("help help").await;
    client.enter("close 5 good bye").await;
    client.expect("closed 5 \"good bye\" by local clean").await;
    let line = Log::line(&path, "closed").await;
    assert_eq!(line, "closed 5 peer clean \"good bye\"");
    assert_eq!(client.end().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_cannot_be_done_is_told_with_the_remedy_and_the_session_goes_on() {
    let server = TestServer::start().await;
    let mut client = Client::connected(&server, "/plain").await;
    for (command, says) in [
        ("sail away", "no command is named sail (help lists them)"),
        (
            "open",
            "open: a stream is bidi or uni (expected open bidi|uni)",
        ),
        (
            "send last x",
            "no stream was opened yet (open bidi|uni opens one)",
        ),
        (
            "send 400 x",
            "send 400: unknown stream (`open` and `opened` name those that are)",
        ),
        (
            "send four x",
            "send: four is no stream (expected send STREAM TEXT)",
        ),
        (
            "reset 4 -1",
            "reset: -1 is no code (expected reset STREAM CODE)",
        ),
        ("fin 0", "fin 0: unknown stream"),
    ] {
        client.enter(command).await;
        let line = client.line().await;
        assert!(line.starts_with(&format!("error {says}")), "{line}");
    }
    let long = "x".repeat(70_000);
    client.enter(&format!("datagram {long}")).await;
    client
        .expect("error the line is too long (at most 65536 bytes)")
        .await;
    client.enter(&format!("datagram {}", &long[..60_000])).await;
    client
        .expect("error datagram: the datagram is too large (`info` tells max-datagram-size)")
        .await;
    client.enter("datagram still here").await;
    client.expect("datagram 10 \"still here\"").await;
    client.end().await.well("closed 0 \"\" by local clean");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_input_waits_for_the_streams_that_were_finished_and_for_no_other() {
    let server = TestServer::start().await;
    // What is sent there is never answered, nor is the stream ended.
    let path = path("report");
    let mut client = Client::connected(&server, &path).await;
    client.enter("open bidi").await;
    client.enter("send last unfinished").await;
    client.until("open 4").await;
    Log::line(&path, "data 4 10").await;
    client.end().await.well("closed 0 \"\" by local clean");
    let line = Log::line(&path, "closed").await;
    assert_eq!(line, "closed 0 peer clean \"\"");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_the_server_opens_are_told() {
    let server = TestServer::start().await;
    let mut client = Client::connected(&server, &path("push")).await;
    let mut lines = Vec::new();
    while lines
        .iter()
        .filter(|line: &&String| line.starts_with("data"))
        .count()
        < 2
        || !lines.contains(&"stream-closed 15".to_owned())
    {
        lines.push(client.line().await);
    }
    for line in ["opened 1 bidi", "opened 15 uni"] {
        assert!(
            lines.contains(&line.to_owned()),
            "{line:?} is not in {lines:?}"
        );
    }
    client.enter("fin 1").await;
    client.until("stream-closed 1").await;
    client.end().await.well("closed 0 \"\" by local clean");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_gives_up_is_told_with_its_code() {
    let server = TestServer::start().await;
    for (name, told) in [("reset", "reset 4 7"), ("stop", "stopped 4 7")] {
        let mut client = Client::connected(&server, &format!("{}?code=7", path(name))).await;
        client.enter("open bidi").await;
        client.enter("send last x").await;
        client.until(told).await;
        client.enter("close 0").await;
        assert_eq!(client.end().await.code, Some(0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_of_the_server_is_told_and_all_goes_on() {
    let server = TestServer::start().await;
    let path = path("drain-on-data");
    let mut client = Client::connected(&server, &path).await;
    client.enter("open bidi").await;
    client.enter("send last x").await;
    client.until("draining").await;
    client.enter("send last yy").await;
    Log::line(&path, "data 4 2 more").await;
    client.enter("close 3 enough").await;
    client
        .end()
        .await
        .well("closed 3 \"enough\" by local clean");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_close_of_the_server_ends_the_program_well_with_its_code_and_reason() {
    let server = TestServer::start().await;
    let path = format!("{}?code=7&reason=bye", path("close"));
    let mut client = Client::connected(&server, &path).await;
    client.expect("closed 7 \"bye\" by peer clean").await;
    // Although its input goes on.
    let input = client.take_input();
    assert_eq!(client.end().await.code, Some(0));
    drop(input);
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_closes_the_session() {
    let server = TestServer::start().await;
    let path = path("report");
    let mut client = Client::connected(&server, &path).await;
    Log::line(&path, "constructed").await;
    client.interrupt().await;
    client.expect("closed 0 \"\" by local clean").await;
    assert_eq!(Log::line(&path, "closed").await, "closed 0 peer clean \"\"");
    let input = client.take_input();
    assert_eq!(client.end().await.code, Some(0));
    drop(input);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_protocol_is_offered_and_the_choice_told() {
    let server = TestServer::start().await;
    let offered = [
        "--protocol",
        "chat v2",
        "--protocol",
        "mail",
        "-H",
        "X-Any: thing",
    ];
    let mut client = Client::to(&server, "/accept/201", &offered);
    client
        .expect("connected http3 draft-15 status 201 protocol chat v2")
        .await;
    assert_eq!(client.end().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_and_the_origin_reach_the_handler() {
    let server = TestServer::start().await;
    let origin = "https://listed.example";
    let path = path("request");
    let arguments = ["-H", "X-Any: thing", "--origin", origin];
    let mut client = Client::to(&server, &path, &arguments);
    client.until("connected").await;
    client.enter("open bidi").await;
    client.enter("send last ?").await;
    client.enter("fin last").await;
    let ended = client.end().await;
    let told = ended.lines.concat();
    for said in ["x-any", "thing", origin, "token=webtransport-h3"] {
        assert!(told.contains(said), "{said:?} is not in {ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn echo_check_compares_every_byte_and_says_how_fast() {
    let server = TestServer::start().await;
    for size in [0_u64, 1, 4 << 20, 40 << 20] {
        let text = format!("{size}B");
        let ended = Client::to(&server, "/plain", &["--echo-check", &text])
            .end()
            .await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let line = ended.lines.last().unwrap();
        assert!(
            line.starts_with(&format!("echoed {size} bytes in ")),
            "{line}"
        );
        assert!(line.ends_with(" MiB/s"), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn echo_check_fails_on_what_is_no_echo() {
    let server = TestServer::start().await;
    for (name, size, says) in [
        ("info", "1KiB", "byte 0 is another"),
        ("close-on-data", "1KiB", "after 0 bytes"),
        ("reset", "1KiB", "the server gave up sending after 0 bytes"),
        ("stop", "40MiB", "the server gave up reading"),
        ("report", "1KiB", "nothing came for 300ms, after 0 bytes"),
    ] {
        let ended = Client::to(
            &server,
            &path(name),
            &["--echo-check", size, "--timeout", "0.3"],
        )
        .end()
        .await;
        ended.badly(1, &[says]);
        assert!(ended.lines.last().unwrap().contains(says), "{ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_send_without_room_waits_for_it_before_the_next_command() {
    use tokio::io::AsyncWriteExt as _;
    let mut server = super::foreign::Quinn::bind();
    let mut client = Client::run(&server.arguments("/"));
    let session = server.accept().await;
    client.until("connected").await;
    let mut input = client.take_input();
    const LINES: usize = 50;
    const LINE: usize = 60_000;
    let typing = tokio::spawn(async move {
        input.write_all(b"open bidi\n").await.unwrap();
        let line = format!("send last {}\n", "x".repeat(LINE));
        for _ in 0..LINES {
            input.write_all(line.as_bytes()).await.unwrap();
        }
        input.write_all(b"fin last\ninfo\n").await.unwrap();
        input
    });
    // More than fits in all buffers on the way, of which nothing is read before.
    client.until("waiting 4").await;
    let (mut send, mut recv) = within("the stream", session.accept_bi()).await.unwrap();
    let read = within("all of it", recv.read_to_end(usize::MAX))
        .await
        .unwrap();
    assert_eq!(read.len(), LINES * LINE);
    client.until("writable 4").await;
    let info = client.until("info").await;
    let value = |name: &str| -> usize {
        let mut words = info.split(' ').skip_while(|word| *word != name);
        words.nth(1).unwrap().parse().unwrap()
    };
    let sent = value("bytes-sent") + value("send-buffered");
    assert_eq!(sent, LINES * LINE, "{info}");
    send.finish().unwrap();
    drop(typing.await.unwrap());
    client.end().await.well("closed 0 \"\" by local clean");
}
