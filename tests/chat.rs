//! The example of sessions that see each other: `guests/chat`, with its page.

use serde_json::{Value, json};
use wharf::{
    config::{Config, Route},
    runtime::Scope,
};

use crate::{
    binary::Wharf,
    browser::{Browser, Page},
    harness::{TestServer, guest, path, root, within},
    peer::{Gone, Http, Peer, PeerRecv, PeerSend, PeerSession, Terms, over_both},
};

/// The close codes of the handler.
const TOO_LONG: u32 = 1;
const ROOM_FULL: u32 = 2;
const ONE_STREAM_ONLY: u32 = 3;

fn chat(config: &mut Config) {
    config.tenants[0].routes = vec![Route::new("/", guest("chat"))];
}

fn shared(config: &mut Config) {
    chat(config);
    config.tenants[0].routes[0].scope = Scope::Shared;
}

/// Somebody in a room.
struct Person {
    session: PeerSession,
    send: PeerSend,
    recv: PeerRecv,
    /// What came of the lines that were not looked at.
    rest: Vec<u8>,
}

impl Person {
    /// Enters a room under a name, on a connection of its own.
    async fn enters(http: Http, server: &TestServer, room: &str, name: &str) -> Self {
        Self::comes_from(&Peer::connect(http, server).await, room, name).await
    }

    async fn comes_from(peer: &Peer, room: &str, name: &str) -> Self {
        let session = peer.session(&format!("{room}?name={name}")).await;
        let (send, recv) = within("a stream", session.open_bi()).await.unwrap();
        let rest = Vec::new();
        Self {
            session,
            send,
            recv,
            rest,
        }
    }

    async fn says(&mut self, text: &str) {
        let line = format!("{text}\n");
        let said = self.send.write_all(line.as_bytes());
        within("the message to leave", said).await.unwrap();
    }

    /// The next line that comes.
    async fn told(&mut self) -> Value {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<_> = self.rest.drain(..=end).collect();
                return serde_json::from_slice(&line).unwrap();
            }
            let more = within("a line", self.recv.read_chunk()).await.unwrap();
            self.rest.extend(more.expect("the stream goes on"));
        }
    }

    async fn sees_welcome(&mut self, you: &str, here: &[&str]) {
        let welcome = json!({ "type": "welcome", "you": you, "here": here });
        assert_eq!(self.told().await, welcome);
    }

    async fn sees_joined(&mut self, name: &str) {
        assert_eq!(self.told().await, json!({ "type": "joined", "name": name }));
    }

    async fn sees_left(&mut self, name: &str) {
        assert_eq!(self.told().await, json!({ "type": "left", "name": name }));
    }

    async fn sees_said(&mut self, name: &str, text: &str) {
        let mut told = self.told().await;
        let at = told.as_object_mut().unwrap().remove("at");
        assert!(at.is_some_and(|at| at.is_u64()), "{told}");
        assert_eq!(told, json!({ "type": "said", "name": name, "text": text }));
    }
}

over_both!(people_in_one_room_see_each_other_and_another_room_sees_none_of_it);
async fn people_in_one_room_see_each_other_and_another_room_sees_none_of_it(http: Http) {
    let server = TestServer::with(shared).await;
    let (room, other) = (path("room"), path("room"));
    let mut ann = Person::enters(http, &server, &room, "Ann").await;
    ann.sees_welcome("Ann", &["Ann"]).await;
    let mut cy = Person::enters(http, &server, &other, "Cy").await;
    cy.sees_welcome("Cy", &["Cy"]).await;
    let mut ben = Person::enters(http, &server, &room, "+Ben%20%C3%96%0A").await;
    ben.sees_welcome("Ben Ö", &["Ann", "Ben Ö"]).await;
    ann.sees_joined("Ben Ö").await;
    ann.says("hello \"Ben\"").await;
    ben.sees_said("Ann", "hello \"Ben\"").await;
    ben.says("  and\u{7} hello  ").await;
    ann.sees_said("Ann", "hello \"Ben\"").await;
    ann.sees_said("Ben Ö", "and hello").await;
    ben.sees_said("Ben Ö", "and hello").await;
    cy.says("anybody?").await;
    cy.sees_said("Cy", "anybody?").await;
}

over_both!(everybody_has_a_name_of_their_own);
async fn everybody_has_a_name_of_their_own(http: Http) {
    let server = TestServer::with(shared).await;
    let room = path("room");
    let mut first = Person::enters(http, &server, &room, "").await;
    first.sees_welcome("guest", &["guest"]).await;
    let mut second = Person::enters(http, &server, &room, "guest").await;
    second.sees_welcome("guest 2", &["guest", "guest 2"]).await;
    let long = "x".repeat(40);
    let mut third = Person::enters(http, &server, &room, &long).await;
    let cut = &long[..32];
    third.sees_welcome(cut, &["guest", "guest 2", cut]).await;
}

over_both!(a_late_comer_is_given_the_last_50_messages);
async fn a_late_comer_is_given_the_last_50_messages(http: Http) {
    let server = TestServer::with(shared).await;
    let room = path("room");
    let mut ann = Person::enters(http, &server, &room, "Ann").await;
    ann.sees_welcome("Ann", &["Ann"]).await;
    for number in 0..60 {
        ann.says(&format!("message {number}")).await;
    }
    for number in 0..60 {
        ann.sees_said("Ann", &format!("message {number}")).await;
    }
    let mut ben = Person::enters(http, &server, &room, "Ben").await;
    ben.sees_welcome("Ben", &["Ann", "Ben"]).await;
    for number in 10..60 {
        ben.sees_said("Ann", &format!("message {number}")).await;
    }
    ann.says("welcome").await;
    ben.sees_said("Ann", "welcome").await;
}

over_both!(all_rooms_together_remember_no_more_than_their_instance_holds);
async fn all_rooms_together_remember_no_more_than_their_instance_holds(http: Http) {
    const ROOMS: usize = 120;
    let server = TestServer::with(|config| {
        shared(config);
        config.runtime.memory = 12 << 20;
        config.runtime.cpu_per_second = None;
    })
    .await;
    let loud = "\"".repeat(1000); // two bytes each where they are remembered
    let mut rooms = Vec::new();
    for _ in 0..ROOMS {
        let mut person = Person::enters(http, &server, &path("room"), "Ann").await;
        person.sees_welcome("Ann", &["Ann"]).await;
        for _ in 0..50 {
            person.says(&loud).await;
            person.sees_said("Ann", &loud).await;
        }
        rooms.push(person);
    }
    for person in &mut rooms {
        person.says("still here").await;
        person.sees_said("Ann", "still here").await;
    }
}

over_both!(who_leaves_is_told_to_the_others_however_they_went);
async fn who_leaves_is_told_to_the_others_however_they_went(http: Http) {
    let server = TestServer::with(shared).await;
    let room = path("room");
    let mut ann = Person::enters(http, &server, &room, "Ann").await;
    ann.sees_welcome("Ann", &["Ann"]).await;
    for way in ["close", "abort", "fin", "reset", "stop", "connection"] {
        let peer = Peer::connect(http, &server).await;
        let mut ben = Person::comes_from(&peer, &room, "Ben").await;
        ben.sees_welcome("Ben", &["Ann", "Ben"]).await;
        ann.sees_joined("Ben").await;
        match way {
            "close" => assert!(ben.session.close(7, "bye").await),
            "abort" => ben.session.abort().await,
            "fin" => ben.send.finish().unwrap(),
            "reset" => ben.send.reset(1),
            "stop" => ben.recv.stop(1),
            _ => peer.close(),
        }
        ann.sees_left("Ben").await;
    }
}

over_both!(a_slow_reader_holds_up_nobody_and_is_given_the_room_anew);
async fn a_slow_reader_holds_up_nobody_and_is_given_the_room_anew(http: Http) {
    const MESSAGES: usize = 1200;
    let message = |number: usize| format!("{number} {}", "x".repeat(900));
    let server = TestServer::with(shared).await;
    let room = path("room");
    let terms = Terms {
        window: 1 << 14,
        ..Terms::default()
    };
    let peer = Peer::connect_to(http, server.address, terms).await;
    let mut slow = Person::comes_from(&peer, &room, "Slow").await;
    slow.sees_welcome("Slow", &["Slow"]).await;
    let mut ann = Person::enters(http, &server, &room, "Ann").await;
    ann.sees_welcome("Ann", &["Slow", "Ann"]).await;
    // More than the windows and the send buffer of the slow one hold.
    for number in 0..MESSAGES {
        ann.says(&message(number)).await;
        ann.sees_said("Ann", &message(number)).await;
    }
    slow.sees_joined("Ann").await;
    let mut seen = 0;
    let welcome = loop {
        let told = slow.told().await;
        if told["type"] != "said" {
            break told;
        }
        assert_eq!(told["text"], message(seen));
        seen += 1;
    };
    assert!(seen < MESSAGES - 50, "it was slow: {seen}");
    let anew = json!({ "type": "welcome", "you": "Slow", "here": ["Slow", "Ann"] });
    assert_eq!(welcome, anew);
    for number in MESSAGES - 50..MESSAGES {
        slow.sees_said("Ann", &message(number)).await;
    }
    ann.says("still there?").await;
    slow.sees_said("Ann", "still there?").await;
}

over_both!(who_types_is_told_to_the_others_by_datagram);
async fn who_types_is_told_to_the_others_by_datagram(http: Http) {
    let server = TestServer::with(shared).await;
    let room = path("room");
    let mut ann = Person::enters(http, &server, &room, "Ann").await;
    ann.sees_welcome("Ann", &["Ann"]).await;
    let mut ben = Person::enters(http, &server, &room, "Ben").await;
    ben.sees_welcome("Ben", &["Ann", "Ben"]).await;
    ann.session.send_datagram(b"typing").unwrap();
    let typist = within("a datagram", ben.session.read_datagram()).await;
    assert_eq!(typist.unwrap(), "Ann");
    ben.session.send_datagram(b"typing").unwrap();
    // Her own did not come back.
    let typist = within("a datagram", ann.session.read_datagram()).await;
    assert_eq!(typist.unwrap(), "Ben");
}

over_both!(a_message_that_is_too_long_ends_the_session_of_who_sent_it);
async fn a_message_that_is_too_long_ends_the_session_of_who_sent_it(http: Http) {
    let server = TestServer::with(shared).await;
    let room = path("room");
    let mut ann = Person::enters(http, &server, &room, "Ann").await;
    ann.sees_welcome("Ann", &["Ann"]).await;
    let mut ben = Person::enters(http, &server, &room, "Ben").await;
    ben.says(&"x".repeat(1000)).await;
    ann.sees_joined("Ben").await;
    ann.sees_said("Ben", &"x".repeat(1000)).await;
    // It need not be complete for that.
    let without_end = "x".repeat(1001);
    ben.send.write_all(without_end.as_bytes()).await.unwrap();
    let reason = "a message has 1000 bytes at most";
    assert_eq!(ben.session.closed().await, http.closed(TOO_LONG, reason));
    ann.sees_left("Ben").await;
}

over_both!(a_second_stream_is_given_up);
async fn a_second_stream_is_given_up(http: Http) {
    let server = TestServer::with(shared).await;
    let mut ann = Person::enters(http, &server, &path("room"), "Ann").await;
    ann.sees_welcome("Ann", &["Ann"]).await;
    let (_send, mut recv) = ann.session.open_bi().await.unwrap();
    assert_eq!(recv.given_up().await, Gone::Code(ONE_STREAM_ONLY));
    let mut uni = ann.session.open_uni().await.unwrap();
    assert_eq!(uni.stopped().await, Gone::Code(ONE_STREAM_ONLY));
    ann.says("here I am").await;
    ann.sees_said("Ann", "here I am").await;
}

over_both!(a_room_takes_a_hundred_people);
async fn a_room_takes_a_hundred_people(http: Http) {
    let server = TestServer::with(shared).await;
    let room = path("room");
    let mut people = Vec::new();
    for _ in 0..2 {
        let peer = Peer::connect(http, &server).await;
        for _ in 0..50 {
            let mut person = Person::comes_from(&peer, &room, "Ann").await;
            assert_eq!(person.told().await["type"], "welcome");
            people.push(person);
        }
    }
    let late = Person::enters(http, &server, &room, "Ann").await;
    let full = http.closed(ROOM_FULL, "the room is full");
    assert_eq!(late.session.closed().await, full);
    let first = people.swap_remove(0);
    assert!(first.session.close(0, "").await);
    // It is gone when the others know.
    let second = &mut people[0];
    while second.told().await != json!({ "type": "left", "name": "Ann" }) {}
    let mut late = Person::enters(http, &server, &room, "Ann").await;
    assert_eq!(late.told().await["you"], "Ann", "the name is free again");
}

over_both!(with_an_instance_for_each_session_everybody_is_alone);
async fn with_an_instance_for_each_session_everybody_is_alone(http: Http) {
    let server = TestServer::with(chat).await;
    let room = path("room");
    for name in ["Ann", "Ben"] {
        let mut person = Person::enters(http, &server, &room, name).await;
        person.sees_welcome(name, &[name]).await;
        person.says("anybody?").await;
        person.sees_said(name, "anybody?").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn run_serves_the_page_of_the_handlers_folder_and_nothing_beside_it() {
    let wharf = Wharf::run_with(&root().join("guests/chat"), &["--shared"]).await;
    let page = wharf.get("").await.to_ascii_lowercase();
    for part in [
        "http/1.1 200 ",
        "content-type: text/html",
        "content-security-policy: default-src 'self';",
        "x-content-type-options: nosniff",
        "cache-control: no-cache",
        "chat.js",
    ] {
        assert!(page.contains(part), "{part:?} is not in {page}");
    }
    let session = wharf.get("session.json").await;
    assert!(session.contains(&wharf.session), "{session}");
    assert!(session.contains("no-store"), "{session}");
    for beside in [
        "page.css",
        "../Cargo.toml",
        "%2e%2e/Cargo.toml",
        "/etc/hostname",
    ] {
        let answer = wharf.get(beside).await;
        assert!(answer.starts_with("HTTP/1.1 404 "), "{beside}: {answer}");
    }
}

/// Enters the room `harbour` by the page.
async fn enters_by_page(browser: &Browser, wharf: &Wharf, name: &str, dark: bool) -> Page {
    let page = browser.open(&format!("{}#harbour", wharf.page)).await;
    let page = page.unwrap();
    page.set_viewport(900, 560, dark).await.unwrap();
    page.fill("#name", name).await.unwrap();
    page.click("#join").await.unwrap();
    let joined = "document.querySelector('#status').dataset.state === 'joined'";
    page.wait_for(joined, "the room").await.unwrap();
    page
}

async fn says_by_page(page: &Page, text: &str) {
    page.fill("#text", text).await.unwrap();
    page.click("#send").await.unwrap();
}

async fn sees_on_page(page: &Page, name: &str, text: &str) {
    let js = format!(
        "[...document.querySelectorAll('#messages > [data-kind=said]')].some((message) =>
             message.dataset.name === {} && message.querySelector('.text').textContent === {})",
        json!(name),
        json!(text)
    );
    page.wait_for(&js, text).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_people_chat_in_chromium() {
    let Some(chromium) = Browser::find() else {
        assert!(std::env::var_os("CI").is_none(), "CI needs Chromium");
        eprintln!("no Chromium here (set CHROMIUM to one): the page of the chat was not tried");
        return;
    };
    let wharf = Wharf::run_with(&root().join("guests/chat"), &["--shared"]).await;
    let browser = Browser::launch(chromium).await.unwrap();
    let ann = enters_by_page(&browser, &wharf, "Ann", false).await;
    says_by_page(&ann, "The ferry to Skye leaves at nine.").await;
    let ben = enters_by_page(&browser, &wharf, "Ben", false).await;
    sees_on_page(&ben, "Ann", "The ferry to Skye leaves at nine.").await;
    says_by_page(&ben, "<b>Nine</b> it is. See you at the pier!").await;
    sees_on_page(&ann, "Ben", "<b>Nine</b> it is. See you at the pier!").await;
    let here = "document.querySelectorAll('#people > [data-name]').length === 2";
    for page in [&ann, &ben] {
        page.wait_for(here, "two people").await.unwrap();
    }

    let types = "(() => { const text = document.querySelector('#text');
        text.value = 'I bring'; text.dispatchEvent(new Event('input')); })()";
    // A datagram may be lost, so she goes on typing.
    let typing = format!("setInterval(() => {types}, 100)");
    let typing = ann.evaluate(&typing).await.unwrap();
    let told = "document.querySelector('#typing').textContent === 'Ann types…'";
    ben.wait_for(told, "who types").await.unwrap();
    if let Some(picture) = std::env::var_os("WHARF_CHAT_PICTURE") {
        ben.screenshot(picture).await.unwrap();
    }
    let stop = format!("clearInterval({typing})");
    ann.evaluate(&stop).await.unwrap();

    ann.click("#leave").await.unwrap();
    let alone = "document.querySelector('#messages > [data-kind=left]')
        && document.querySelectorAll('#people > li').length === 1";
    ben.wait_for(alone, "Ann to leave").await.unwrap();
    for page in [&ann, &ben] {
        let complaints = page.complaints().await.unwrap();
        assert!(complaints.is_empty(), "the page complains: {complaints:#?}");
    }
}
