//! What a response says besides its status: the protocol chosen, the handler's own fields, the draft.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use web_transport_quinn::proto::ConnectRequest;

use crate::{
    harness::{TestServer, path, within},
    raw::Raw,
};

/// Asks for a session by `h3`'s own client, and gives the head of the response.
async fn ask(server: &TestServer, path: &str, fields: &[(&str, &str)]) -> (StatusCode, HeaderMap) {
    let raw = Raw::silent(server.address).await;
    let conn = h3_quinn::Connection::new(raw.conn.clone());
    let (mut driver, mut client) = within("the control streams", h3::client::new(conn))
        .await
        .unwrap();
    let driving = tokio::spawn(async move { driver.wait_idle().await });
    let mut request = Request::builder()
        .method(Method::CONNECT)
        .uri(format!("https://localhost{path}"))
        .extension(h3::ext::Protocol::WEB_TRANSPORT);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let mut stream = client
        .send_request(request.body(()).unwrap())
        .await
        .unwrap();
    let response = within("the response", stream.recv_response())
        .await
        .unwrap();
    drop::<h3::client::RequestStream<_, Bytes>>(stream);
    driving.abort();
    (response.status(), response.headers().clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_handler_chooses_one_of_the_protocols_that_the_client_offers() {
    let server = TestServer::start().await;
    let offered = |offer: &[&str], path: &str| {
        let url = url::Url::parse(&format!("https://{}{path}", server.address)).unwrap();
        let offer = offer.iter().map(|&protocol| protocol.to_owned());
        let request = ConnectRequest::new(url).with_protocols(offer);
        let client = server.client();
        async move {
            within("the session", client.connect(request))
                .await
                .unwrap()
        }
    };
    for (offer, path, chosen) in [
        (&["chat-2", "chat-1"][..], "/accept/200", Some("chat-2")),
        (
            &["with \"quotes\" \\"],
            "/accept/200",
            Some("with \"quotes\" \\"),
        ),
        (&[], "/accept/200", None),
        // No `admit`, no choice.
        (&["chat-2"], "/plain", None),
    ] {
        let session = offered(offer, path).await;
        assert_eq!(session.protocol(), chosen, "{offer:?} at {path}");
    }
}

/// WebTransport over HTTP/3, "Application Protocol Negotiation".
#[tokio::test(flavor = "multi_thread")]
async fn the_choice_has_the_form_of_the_offer_and_a_malformed_offer_is_none() {
    let server = TestServer::start().await;
    for (offer, chosen) in [
        ("\"a\", \"b\"", Some("\"a\"")),
        ("\"a\";q=1", Some("\"a\"")),
        ("a, b", Some("a")),
        ("\"a\", 1", None),
        ("\"a", None),
    ] {
        let fields = [("wt-available-protocols", offer)];
        let (status, fields) = ask(&server, "/accept/200", &fields).await;
        assert_eq!(status, 200);
        let told = fields
            .get("wt-protocol")
            .map(|value| value.to_str().unwrap());
        assert_eq!(told, chosen, "{offer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_of_the_handler_are_in_the_response() {
    let server = TestServer::start().await;
    for (path, status, name, value) in [
        ("/accept/200", 200, "x-wharf", "yes"),
        ("/accept/299", 299, "x-wharf", "yes"),
        ("/refuse/302", 302, "x-reason", "refused by the handler"),
        ("/refuse/418", 418, "x-reason", "refused by the handler"),
        ("/refuse/599", 599, "x-reason", "refused by the handler"),
    ] {
        let (told, fields) = ask(&server, path, &[]).await;
        assert_eq!(
            (told.as_u16(), &fields[name]),
            (status, &value.parse().unwrap())
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_that_cannot_be_sent_is_500() {
    let server = TestServer::start().await;
    for path in ["/accept/404", "/accept/199", "/refuse/200", "/refuse/600"] {
        assert_eq!(ask(&server, path, &[]).await.0, 500, "{path}");
    }
    server.no_instances().await;
}

/// WebTransport over HTTP/3, draft 02, "Negotiating the Draft Version".
#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_draft_02_is_told_the_draft_and_no_other_is() {
    let server = TestServer::start().await;
    let draft = |fields: &HeaderMap| fields.get("sec-webtransport-http3-draft").cloned();
    let marked = [("sec-webtransport-http3-draft02", "1")];
    let (status, fields) = ask(&server, "/plain", &marked).await;
    assert_eq!(
        (status.as_u16(), draft(&fields)),
        (200, "draft02".parse().ok())
    );
    let (status, fields) = ask(&server, "/plain", &[]).await;
    assert_eq!((status.as_u16(), draft(&fields)), (200, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_of_a_foreign_page_is_refused_before_any_handler_runs() {
    let server = TestServer::start().await;
    let path = path("report");
    let foreign = [("origin", "https://evil.example")];
    assert_eq!(ask(&server, &path, &foreign).await.0, 403);
    assert_eq!(crate::harness::Log::of(&path), [""; 0]);
    assert_eq!(server.handle.instances(), 0);
    for welcome in ["https://listed.example", "https://localhost"] {
        let own = [("origin", welcome)];
        assert_eq!(ask(&server, &path, &own).await.0, 200, "{welcome}");
    }
}
