//! The bytes over HTTP/2 as a peer sees them that knows the draft and nothing of ours: `h2_wire.py` answers what it saw.

use serde_json::{Value, json};
use wharf::transport::{FinOrder, Quirks};

use super::{absent, order_of, programs, server, table};
use crate::harness::{Log, TestServer, path};

const ENABLE_CONNECT_PROTOCOL: u64 = 0x08;
const WT_ENABLED: u64 = 0x2b60;
const MAX_DATA: u64 = 0x2b61;
const MAX_STREAM_DATA_UNI: u64 = 0x2b62;
const MAX_STREAM_DATA_BIDI_LOCAL: u64 = 0x2b63;
const MAX_STREAMS_UNI: u64 = 0x2b64;
const MAX_STREAMS_BIDI: u64 = 0x2b65;
const MAX_STREAM_DATA_BIDI_REMOTE: u64 = 0x2b66;

const CLOSE: u64 = 0x2843;
const GOES_ON: u64 = 0x190b_4d3b;
const ENDS: u64 = 0x190b_4d3c;

/// What the program saw of one item, and that the server was left as it should be; none where it is not installed.
async fn saw(server: &TestServer, mut item: Value) -> Option<Value> {
    let Some(mut command) = programs::python("h2_wire.py") else {
        absent(&table::H2);
        return None;
    };
    item["item"] = json!("the item");
    let mut answers = programs::answers(&mut command, order_of(server, &[item])).await;
    Some(answers.remove("the item").unwrap().unwrap())
}

/// Asks a server without quirks, and compares.
async fn sees(item: Value, expected: Value) {
    if let Some(saw) = saw(&server(Quirks::default()).await, item).await {
        assert_eq!(saw, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_servers_settings_come_whole_in_its_first_frame_after_the_one_that_allows_them() {
    let server = server(Quirks::default()).await;
    let item = json!({"do": "settings", "path": path("echo")});
    let Some(saw) = saw(&server, item).await else {
        return;
    };
    let frames: Vec<Vec<(u64, u64)>> = serde_json::from_value(saw).unwrap();
    let [frame] = &frames[..] else {
        panic!("one SETTINGS frame is expected: {frames:?}");
    };
    let at = |wanted| frame.iter().position(|(id, _)| *id == wanted);
    let allows = at(ENABLE_CONNECT_PROTOCOL).unwrap();
    assert_eq!(frame[allows].1, 1);
    let stream = 16 << 20;
    for (id, value) in [
        (WT_ENABLED, 1),
        (MAX_DATA, 1 << 20),
        (MAX_STREAM_DATA_UNI, stream),
        (MAX_STREAM_DATA_BIDI_LOCAL, stream),
        (MAX_STREAM_DATA_BIDI_REMOTE, stream),
        (MAX_STREAMS_UNI, 64),
        (MAX_STREAMS_BIDI, 64),
    ] {
        let place = at(id).unwrap_or_else(|| panic!("{id:#x} is missing: {frame:x?}"));
        assert!(place > allows, "{id:#x} comes too early: {frame:x?}");
        assert_eq!(frame[place].1, value, "{id:#x}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_the_capsule_that_all_implementations_end_it_with() {
    let item = json!({"do": "ends", "path": path("quiet/echo"), "size": 300_000});
    sees(item, json!(["same", [GOES_ON], ENDS])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_as_in_draft_15_where_the_route_says_so() {
    let draft_15 = Quirks {
        fin_order: FinOrder::Draft15,
        ..Quirks::default()
    };
    let item = json!({"do": "ends", "path": path("quiet/echo"), "size": 300_000, "draft_15": true});
    if let Some(saw) = saw(&server(draft_15).await, item).await {
        assert_eq!(saw, json!(["same", [ENDS], GOES_ON]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_names_the_size_of_what_was_sent_before_it() {
    let item = json!({"do": "reset", "path": path("echo"), "size": 300, "code": u32::MAX});
    sees(item, json!([u32::MAX, 300])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_servers_close_is_a_capsule_and_then_the_end_at_once() {
    let item = json!({"do": "closed", "path": path("close-on-data") + "?code=42&reason=bye"});
    sees(item, json!([[42, "bye"], CLOSE, 1, true])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_close_is_answered_with_the_bare_end() {
    let path = path("echo");
    let item = json!({"do": "close", "path": path, "code": u32::MAX});
    let server = server(Quirks::default()).await;
    if let Some(saw) = saw(&server, item).await {
        assert_eq!(saw, json!([[0, ""], null]));
        let told = Log::line(&path, "closed ").await;
        assert_eq!(told, "closed 4294967295 peer clean \"enough\"");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_the_settings_and_the_header_field_the_greater_limit_counts() {
    let settings = |local, remote, uni| {
        json!({
            MAX_STREAM_DATA_BIDI_LOCAL.to_string(): local,
            MAX_STREAM_DATA_BIDI_REMOTE.to_string(): remote,
            MAX_STREAM_DATA_UNI.to_string(): uni,
        })
    };
    let item = json!({
        "do": "limits",
        // The streams of the client, then one of each kind of the server.
        "paths": [[path("big") + "?bytes=9000", 1], [path("push"), 2]],
        "field": "u=3, bl=3000, br=6, unknown=\"x\";y",
        "ours": settings(1000, 4, 7),
        "granted": settings(3000, 6, 7),
    });
    sees(item, json!([[0, 3000], [1, 6], [3, 7]])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_field_of_limits_that_cannot_be_read_is_a_bad_request() {
    let bad = [
        "u", "u=?1", "u=\"1\"", "bl=1.5", "br=(1)", "u=1,", "=1", "U=1",
    ];
    let good = ["u=1", "u=1;x=2, bl=0", "x=?0", "u=\"1\", u=1"];
    let values = [&bad[..], &good[..]].concat();
    let item = json!({"do": "statuses", "path": path("echo"), "values": values});
    let expected = [[400].repeat(bad.len()), [200].repeat(good.len())].concat();
    sees(item, json!(expected)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clients_goaway_asks_the_handler_to_drain_and_its_session_goes_on() {
    let path = path("echo");
    let server = server(Quirks::default()).await;
    if let Some(saw) = saw(&server, json!({"do": "goes_away", "path": path})).await {
        assert_eq!(saw, json!("same"));
        Log::line(&path, "closed ").await;
        let drains = Log::of(&path)
            .iter()
            .filter(|line| *line == "drain")
            .count();
        assert_eq!(drains, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_says_goaway_and_its_sessions_go_on() {
    if programs::python("h2_wire.py").is_none() {
        return absent(&table::H2);
    }
    let path = path("echo");
    let server = server(Quirks::default()).await;
    let item = json!({"item": "goaway", "do": "goaway", "path": path});
    let order = order_of(&server, &[item]);
    let mut command = programs::python("h2_wire.py").unwrap();
    let (answers, ()) = tokio::join!(programs::answers(&mut command, order), async {
        Log::line(&path, "constructed ").await;
        server.stop().await;
    });
    assert_eq!(answers["goaway"], Ok(json!([[0], false, "same"])));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_swaps_the_ids_is_told_of_its_violation_where_the_route_does_not_bear_with_it()
 {
    let Some(mut command) = programs::node("fails_client.mjs") else {
        return absent(&table::FAILS_COMPONENTS);
    };
    let path = path("echo");
    let server = server(Quirks::default()).await;
    let item = json!({"item": "swapped", "do": "read_close", "path": path});
    let answers = programs::answers(&mut command, order_of(&server, &[item])).await;
    let reason = "capsule for a stream that was never opened";
    assert_eq!(answers["swapped"], Ok(json!([0xffff_ff07_u32, reason])));
    let told = Log::line(&path, "closed ").await;
    assert_eq!(told, format!("closed 4294967047 host unclean {reason:?}"));
    server.no_instances().await;
}
