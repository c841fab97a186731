//! What a client meets that gets no session, or loses it: one line that says why, and an exit code.

use super::{
    foreign::Quinn,
    native::Native,
    program::{Client, only, url},
};
use crate::{
    harness::{TestServer, within},
    peer::{Http, over_both},
};

over_both!(a_refusal_is_told_with_its_status);
async fn a_refusal_is_told_with_its_status(http: Http) {
    let server = TestServer::with(|config| {
        config.tenants[0].routes.remove(0);
    })
    .await;
    for (path, status) in [
        ("/nothing", 404),
        ("/refuse/302", 302),
        ("/refuse/429", 429),
    ] {
        let ended = Client::to(http, &server, path, &[]).end().await;
        ended.badly(1, &[&format!("wharf: refused with status {status}")]);
        assert_eq!(ended.lines, [format!("refused {status}")]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_is_told_for_each_http_version() {
    let nobody = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap();
    let url = format!("https://{address}/");
    let arguments = [url.as_str(), "--insecure", "--timeout", "0.3"];
    let ended = Client::run(&arguments).end().await;
    ended.badly(1, &["cannot connect", "no answer within 300ms", "HTTP/2"]);
    let ended = Client::run(&[&arguments[..], &["--http3"]].concat())
        .end()
        .await;
    ended.badly(1, &["no answer within 300ms"]);
    assert!(!ended.errors.contains("HTTP/2"), "{ended:?}");
    assert_eq!(ended.errors.lines().count(), 1, "{ended:?}");
    assert!(ended.lines.is_empty(), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_without_an_address_is_named() {
    let ended = Client::run(&["https://nobody.invalid/", "--timeout", "3"])
        .end()
        .await;
    ended.badly(1, &["cannot connect: nobody.invalid"]);
}

over_both!(a_connection_that_ends_without_a_word_ends_the_session_unclean);
async fn a_connection_that_ends_without_a_word_ends_the_session_unclean(http: Http) {
    let mut server = Native::bind(http).await;
    let mut client = Client::run(&server.arguments("/"));
    let _session = server.session().await;
    client.until("connected").await;
    server.cut_off();
    let line = client.line().await;
    assert!(line.starts_with("closed 0 \""), "{line}");
    assert!(line.ends_with("\" by peer unclean"), "{line}");
    let input = client.take_input();
    client.end().await.badly(1, &["the session was cut off"]);
    drop(input);
}

over_both!(a_request_that_is_never_answered_is_given_up_and_not_called_unreachable);
async fn a_request_that_is_never_answered_is_given_up_and_not_called_unreachable(http: Http) {
    let mut server = Native::bind(http).await;
    let arguments = server.arguments("/");
    let timeout = ["--timeout", "1"].map(str::to_owned);
    let client = Client::run(&[&arguments[..], &timeout].concat());
    let _undecided = server.incoming().await;
    let ended = client.end().await;
    ended.badly(1, &["the server broke off: no response within 1s"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_lost_ends_the_session_unclean() {
    let mut server = Quinn::bind();
    let mut client = Client::run(&server.arguments("/"));
    let session = server.accept().await;
    client.until("connected").await;
    session.close_connection(0x10c, "gone");
    client.expect("closed 0 \"gone\" by peer unclean").await;
    client
        .end()
        .await
        .badly(1, &["the session was cut off: gone"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_usage_ends_with_code_2_and_says_what_is_right() {
    for (arguments, says) in [
        (&["--insecure"][..], "URL"),
        (&["localhost"], "https://HOST[:PORT]/PATH"),
        (&["http://localhost/"], "does not begin with https://"),
        (&["https://a/", "--http2", "--http3"], "--http3"),
        (
            &["https://a/", "--cert-hash", "sha256:12"],
            "32 bytes in hexadecimal or base64",
        ),
        (
            &["https://a/", "-H", "nothing"],
            "a name, a colon and a value",
        ),
        (&["https://a/", "-H", "a b: c"], "\"a b\" cannot be sent"),
        (&["https://a/", "--protocol", "\u{e4}"], "printable ASCII"),
        (&["https://a/", "--echo-check", "7 apples"], "MiB and GiB"),
        (&["https://a/", "--timeout", "0"], "seconds"),
        (&["https://a/", "--insecure", "--ca", "x.pem"], "--ca"),
    ] {
        Client::run(arguments).end().await.badly(2, &[says]);
    }
    let ended = Client::run(&["--help"]).end().await;
    assert_eq!(ended.code, Some(0));
    let help = ended.lines.join("\n");
    for said in [
        "stream-closed STREAM",
        "priority STREAM NUMBER",
        "Exit codes",
        "--cert-hash",
    ] {
        assert!(help.contains(said), "{said:?} is not in {help}");
    }
}

over_both!(a_closed_standard_output_closes_the_session);
async fn a_closed_standard_output_closes_the_session(http: Http) {
    let server = TestServer::start().await;
    let mut child = std::process::Command::new(crate::binary::program())
        .args(["connect", &url(&server, "/plain"), "--insecure"])
        .arg(only(http))
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let input = child.stdin.take();
    let ended = within(
        "the program to end",
        tokio::task::spawn_blocking(move || child.wait()),
    );
    assert_eq!(ended.await.unwrap().unwrap().code(), Some(1));
    drop(input);
    server.no_instances().await;
}
