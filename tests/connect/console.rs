//! A session driven by hand or by a script.

use super::program::{Client, connected, ours, theirs};
use crate::{
    harness::{Log, TestServer, path},
    peer::{Dir, Http, over_both},
};

/// A text with the ids of streams in it: `bidi-1` and `bidi-2` are the first two that the program opens, `uni-1` is the
/// first unidirectional one.
fn with_ids(http: Http, text: &str) -> String {
    text.replace("bidi-1", &ours(http, Dir::Bi, 0).to_string())
        .replace("bidi-2", &ours(http, Dir::Bi, 1).to_string())
        .replace("uni-1", &ours(http, Dir::Uni, 0).to_string())
}

over_both!(a_script_has_its_echo_printed_and_ends_by_itself);
async fn a_script_has_its_echo_printed_and_ends_by_itself(http: Http) {
    let server = TestServer::start().await;
    let mut client = Client::to(http, &server, "/plain", &[]);
    client
        .enter_bytes(with_ids(http, "open bidi\nsend last hi\u{e4}\nfin bidi-1\n").as_bytes())
        .await;
    let ended = client.end().await;
    ended.well("closed 0 \"\" by local clean");
    assert_eq!(
        ended.lines[..2],
        [connected(http, 200), with_ids(http, "open bidi-1")]
    );
    let text: String = ended
        .lines
        .iter()
        .filter(|line| line.starts_with(&with_ids(http, "data bidi-1 ")))
        .filter_map(|line| line.split('"').nth(1))
        .collect();
    assert_eq!(text, "hi\u{e4}", "{ended:?}");
    let over = with_ids(http, "stream-closed bidi-1");
    assert!(ended.lines.contains(&over), "{ended:?}");
}

over_both!(bytes_that_are_no_text_go_out_as_they_are_and_come_back_escaped);
async fn bytes_that_are_no_text_go_out_as_they_are_and_come_back_escaped(http: Http) {
    let server = TestServer::start().await;
    let mut client = Client::connected(http, &server, "/plain").await;
    client.enter_bytes(b"datagram a\xff\0 \"b\"\r\n").await;
    client.expect(r#"datagram 7 "a\xff\0 \"b\"""#).await;
    client.end().await.well("closed 0 \"\" by local clean");
}

over_both!(every_command_reaches_the_handler_at_the_far_end);
async fn every_command_reaches_the_handler_at_the_far_end(http: Http) {
    let server = TestServer::start().await;
    let path = path("report");
    let mut client = Client::connected(http, &server, &path).await;
    for (commands, answers, lines) in [
        (
            &["open bidi", "send bidi-1 hello"][..],
            &["open bidi-1"][..],
            &["opened bidi-1 bidi", "data bidi-1 5 more"][..],
        ),
        (&["fin bidi-1"], &[], &["data bidi-1 0 fin"]),
        (
            &["open uni", "send last hello!"],
            &["open uni-1"],
            &["opened uni-1 uni", "data uni-1 6 more"],
        ),
        (
            &["priority last 1", "priority uni-1 -1", "reset last 7"],
            &[],
            &["reset uni-1 7"],
        ),
        (
            &["open bidi", "send bidi-2 x"],
            &["stream-closed uni-1", "open bidi-2"],
            &["data bidi-2 1 more"],
        ),
        (&["stop bidi-2 9"], &[], &["stop bidi-2 9"]),
        (&["datagram abc"], &[], &["datagram 3"]),
        (&["drain"], &[], &["drain"]),
        (
            &["open uni"],
            &["error open: the session is draining (use the streams that are open)"],
            &[],
        ),
    ] {
        for command in commands {
            client.enter(&with_ids(http, command)).await;
        }
        for answer in answers {
            client.expect(&with_ids(http, answer)).await;
        }
        for line in lines {
            Log::line(&path, &with_ids(http, line)).await;
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

over_both!(a_command_that_cannot_be_done_is_told_with_the_remedy_and_the_session_goes_on);
async fn a_command_that_cannot_be_done_is_told_with_the_remedy_and_the_session_goes_on(http: Http) {
    let server = TestServer::start().await;
    let mut client = Client::connected(http, &server, "/plain").await;
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
    let answer = match http {
        Http::Http3 => "error datagram: the datagram is too large (`info` tells max-datagram-size)",
        // A line that is as long as may be is no longer than a datagram may be.
        Http::Http2 => &format!("datagram 60000 \"{}\"", &long[..60_000]),
    };
    client.expect(answer).await;
    client.enter("datagram still here").await;
    client.expect("datagram 10 \"still here\"").await;
    client.end().await.well("closed 0 \"\" by local clean");
}

over_both!(the_end_of_the_input_waits_for_the_streams_that_were_finished_and_for_no_other);
async fn the_end_of_the_input_waits_for_the_streams_that_were_finished_and_for_no_other(
    http: Http,
) {
    let server = TestServer::start().await;
    // What is sent there is never answered, nor is the stream ended.
    let path = path("report");
    let mut client = Client::connected(http, &server, &path).await;
    client.enter("open bidi").await;
    client.enter("send last unfinished").await;
    client.until(&with_ids(http, "open bidi-1")).await;
    Log::line(&path, &with_ids(http, "data bidi-1 10")).await;
    client.end().await.well("closed 0 \"\" by local clean");
    let line = Log::line(&path, "closed").await;
    assert_eq!(line, "closed 0 peer clean \"\"");
}

over_both!(streams_that_the_server_opens_are_told);
async fn streams_that_the_server_opens_are_told(http: Http) {
    let server = TestServer::start().await;
    let mut client = Client::connected(http, &server, &path("push")).await;
    let (bidi, uni) = (theirs(http, Dir::Bi), theirs(http, Dir::Uni));
    let mut lines = Vec::new();
    while lines
        .iter()
        .filter(|line: &&String| line.starts_with("data"))
        .count()
        < 2
        || !lines.contains(&format!("stream-closed {uni}"))
    {
        lines.push(client.line().await);
    }
    for line in [format!("opened {bidi} bidi"), format!("opened {uni} uni")] {
        assert!(lines.contains(&line), "{line:?} is not in {lines:?}");
    }
    client.enter(&format!("fin {bidi}")).await;
    client.until(&format!("stream-closed {bidi}")).await;
    client.end().await.well("closed 0 \"\" by local clean");
}

over_both!(what_the_server_gives_up_is_told_with_its_code);
async fn what_the_server_gives_up_is_told_with_its_code(http: Http) {
    let server = TestServer::start().await;
    for (name, told) in [("reset", "reset bidi-1 7"), ("stop", "stopped bidi-1 7")] {
        let mut client = Client::connected(http, &server, &format!("{}?code=7", path(name))).await;
        client.enter("open bidi").await;
        client.enter("send last x").await;
        client.until(&with_ids(http, told)).await;
        client.enter("close 0").await;
        assert_eq!(client.end().await.code, Some(0));
    }
}

over_both!(a_drain_of_the_server_is_told_and_all_goes_on);
async fn a_drain_of_the_server_is_told_and_all_goes_on(http: Http) {
    let server = TestServer::start().await;
    let path = path("drain-on-data");
    let mut client = Client::connected(http, &server, &path).await;
    client.enter("open bidi").await;
    client.enter("send last x").await;
    client.until("draining").await;
    client.enter("send last yy").await;
    Log::line(&path, &with_ids(http, "data bidi-1 2 more")).await;
    client.enter("close 3 enough").await;
    client
        .end()
        .await
        .well("closed 3 \"enough\" by local clean");
}

over_both!(a_close_of_the_server_ends_the_program_well_with_its_code_and_reason);
async fn a_close_of_the_server_ends_the_program_well_with_its_code_and_reason(http: Http) {
    let server = TestServer::start().await;
    let path = format!("{}?code=7&reason=bye", path("close"));
    let mut client = Client::connected(http, &server, &path).await;
    client.expect("closed 7 \"bye\" by peer clean").await;
    // Although its input goes on.
    let input = client.take_input();
    assert_eq!(client.end().await.code, Some(0));
    drop(input);
}

#[cfg(unix)]
over_both!(an_interrupt_closes_the_session);
#[cfg(unix)]
async fn an_interrupt_closes_the_session(http: Http) {
    let server = TestServer::start().await;
    let path = path("report");
    let mut client = Client::connected(http, &server, &path).await;
    Log::line(&path, "constructed").await;
    client.interrupt().await;
    client.expect("closed 0 \"\" by local clean").await;
    assert_eq!(Log::line(&path, "closed").await, "closed 0 peer clean \"\"");
    let input = client.take_input();
    assert_eq!(client.end().await.code, Some(0));
    drop(input);
}

over_both!(an_application_protocol_is_offered_and_the_choice_told);
async fn an_application_protocol_is_offered_and_the_choice_told(http: Http) {
    let server = TestServer::start().await;
    let offered = [
        "--protocol",
        "chat v2",
        "--protocol",
        "mail",
        "-H",
        "X-Any: thing",
    ];
    let mut client = Client::to(http, &server, "/accept/201", &offered);
    client
        .expect(&format!("{} protocol chat v2", connected(http, 201)))
        .await;
    assert_eq!(client.end().await.code, Some(0));
}

over_both!(fields_and_the_origin_reach_the_handler);
async fn fields_and_the_origin_reach_the_handler(http: Http) {
    let server = TestServer::start().await;
    let origin = "https://listed.example";
    let path = path("request");
    let arguments = ["-H", "X-Any: thing", "--origin", origin];
    let mut client = Client::to(http, &server, &path, &arguments);
    client.until("connected").await;
    client.enter("open bidi").await;
    client.enter("send last ?").await;
    client.enter("fin last").await;
    let ended = client.end().await;
    let told = ended.lines.concat();
    let (token, version) = (
        format!("token={}\\n", http.token()),
        format!("http={}\\n", http.name()),
    );
    for said in ["x-any", "thing", origin, &token, &version] {
        assert!(told.contains(said), "{said:?} is not in {ended:?}");
    }
}

over_both!(echo_check_compares_every_byte_and_says_how_fast);
async fn echo_check_compares_every_byte_and_says_how_fast(http: Http) {
    let server = TestServer::start().await;
    for (size, text) in [
        (0_u64, "0B"),
        (1, "1B"),
        (16 << 20, "16MiB"),
        (40 << 20, "40MiB"),
    ] {
        let ended = Client::to(http, &server, "/plain", &["--echo-check", text])
            .end()
            .await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let line = ended.lines.last().unwrap();
        assert!(
            line.starts_with(&format!("echoed {} bytes in ", size)),
            "{line}"
        );
        assert!(line.ends_with(" MiB/s"), "{line}");
    }
}

over_both!(echo_check_fails_on_what_is_no_echo);
async fn echo_check_fails_on_what_is_no_echo(http: Http) {
    let server = TestServer::start().await;
    for (name, size, says) in [
        ("info", "1KiB", "byte 0 is another"),
        ("close-on-data", "1KiB", "after 0 bytes"),
        ("reset", "1KiB", "the server gave up sending after 0 bytes"),
        ("stop", "40MiB", "the server gave up reading"),
        ("report", "1KiB", "nothing came for 300ms, after 0 bytes"),
    ] {
        let ended = Client::to(
            http,
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

over_both!(a_send_without_room_waits_for_it_before_the_next_command);
async fn a_send_without_room_waits_for_it_before_the_next_command(http: Http) {
    use tokio::io::AsyncWriteExt as _;
    let mut server = super::native::Native::bind(http).await;
    let mut client = Client::run(&server.arguments("/"));
    let mut session = server.session().await;
    client.until("connected").await;
    let mut input = client.take_input();
    const LINES: usize = 100;
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
    client.until(&with_ids(http, "waiting bidi-1")).await;
    let stream = session.opened(Dir::Bi).await;
    assert_eq!(session.read(stream).await.len(), LINES * LINE);
    client.until(&with_ids(http, "writable bidi-1")).await;
    let info = client.until("info").await;
    let value = |name: &str| -> usize {
        let mut words = info.split(' ').skip_while(|word| *word != name);
        words.nth(1).unwrap().parse().unwrap()
    };
    let sent = value("bytes-sent") + value("send-buffered");
    assert_eq!(sent, LINES * LINE, "{info}");
    session.send(stream, "".into(), true).unwrap();
    drop(typing.await.unwrap());
    tokio::spawn(async move { session.closed().await });
    client.end().await.well("closed 0 \"\" by local clean");
}
