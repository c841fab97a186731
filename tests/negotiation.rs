//! What a response says besides its status: the protocol chosen, the handler's own fields, the draft.

use web_transport_quinn::proto::ConnectRequest;

use crate::{
    harness::{Log, TestServer, path, within},
    peer::{Http, ask, over_both},
};

/// By somebody else's client, which has the offer and the choice as text.
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

over_both!(the_choice_has_the_form_of_the_offer_and_a_malformed_offer_is_none);
/// WebTransport over HTTP/3, "Application Protocol Negotiation".
async fn the_choice_has_the_form_of_the_offer_and_a_malformed_offer_is_none(http: Http) {
    let server = TestServer::start().await;
    for (offer, chosen) in [
        ("\"a\", \"b\"", Some("\"a\"")),
        ("\"a\";q=1", Some("\"a\"")),
        ("a, b", Some("a")),
        ("\"a\", 1", None),
        ("\"a", None),
    ] {
        let fields = [("wt-available-protocols", offer)];
        let head = ask(http, &server, "/accept/200", &fields).await;
        assert_eq!(head.status, 200);
        assert_eq!(head.field("wt-protocol"), chosen, "{offer}");
    }
    // No offer, or no `admit`: no choice.
    for (path, fields) in [
        ("/accept/200", &[][..]),
        ("/plain", &[("wt-available-protocols", "\"a\"")]),
    ] {
        let head = ask(http, &server, path, fields).await;
        assert_eq!((head.status, head.field("wt-protocol")), (200, None));
    }
}

over_both!(fields_of_the_handler_are_in_the_response);
async fn fields_of_the_handler_are_in_the_response(http: Http) {
    let server = TestServer::start().await;
    for (path, status, name, value) in [
        ("/accept/200", 200, "x-wharf", "yes"),
        ("/accept/299", 299, "x-wharf", "yes"),
        ("/refuse/302", 302, "x-reason", "refused by the handler"),
        ("/refuse/418", 418, "x-reason", "refused by the handler"),
        ("/refuse/599", 599, "x-reason", "refused by the handler"),
    ] {
        let head = ask(http, &server, path, &[]).await;
        assert_eq!((head.status, head.field(name)), (status, Some(value)));
    }
}

over_both!(a_decision_that_cannot_be_sent_is_500);
async fn a_decision_that_cannot_be_sent_is_500(http: Http) {
    let server = TestServer::start().await;
    for path in ["/accept/404", "/accept/199", "/refuse/200", "/refuse/600"] {
        assert_eq!(ask(http, &server, path, &[]).await.status, 500, "{path}");
    }
    server.no_instances().await;
}

/// WebTransport over HTTP/3, draft 02, "Negotiating the Draft Version".
#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_draft_02_is_told_the_draft_and_no_other_is() {
    let server = TestServer::start().await;
    let marked = [("sec-webtransport-http3-draft02", "1")];
    for (fields, told) in [(&marked[..], Some("draft02")), (&[], None)] {
        let head = ask(Http::Http3, &server, "/plain", fields).await;
        let draft = head.field("sec-webtransport-http3-draft");
        assert_eq!((head.status, draft), (200, told));
    }
}

over_both!(a_request_of_a_foreign_page_is_refused_before_any_handler_runs);
async fn a_request_of_a_foreign_page_is_refused_before_any_handler_runs(http: Http) {
    let server = TestServer::start().await;
    let path = path("report");
    let foreign = [("origin", "https://evil.example")];
    assert_eq!(ask(http, &server, &path, &foreign).await.status, 403);
    assert_eq!(Log::of(&path), [""; 0]);
    assert_eq!(server.handle.instances(), 0);
    for welcome in ["https://listed.example", "https://localhost"] {
        let own = [("origin", welcome)];
        let head = ask(http, &server, &path, &own).await;
        assert_eq!(head.status, 200, "{welcome}");
    }
}
