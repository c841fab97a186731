use std::time::Duration;

use wharf_proto::{contract::Info, id::Dir};

use super::*;

/// Every metric, with its type: what dashboards and alerts are made of.
const NAMES: &[(&str, &str)] = &[
    ("wharf_build_info", "gauge"),
    ("wharf_call_seconds", "histogram"),
    ("wharf_connections", "gauge"),
    ("wharf_connections_accepted_total", "counter"),
    ("wharf_cpu_seconds_total", "counter"),
    ("wharf_datagrams_dropped_total", "counter"),
    ("wharf_datagrams_total", "counter"),
    ("wharf_handshake_failures_total", "counter"),
    ("wharf_log_lines_dropped_total", "counter"),
    ("wharf_memory_bytes", "gauge"),
    ("wharf_refusals_total", "counter"),
    ("wharf_send_buffer_bytes", "gauge"),
    ("wharf_sessions", "gauge"),
    ("wharf_sessions_accepted_total", "counter"),
    ("wharf_sessions_ended_total", "counter"),
    ("wharf_stream_bytes_total", "counter"),
    ("wharf_streams", "gauge"),
    ("wharf_streams_opened_total", "counter"),
    ("wharf_traps_total", "counter"),
];

fn begin(metrics: &Metrics, session: u64, tenant: &str) -> (Session, Arc<Stats>) {
    let stats = Arc::new(Stats::default());
    let about = About {
        session,
        tenant: tenant.into(),
        route: "echo".into(),
        path: "/secret?token=1".to_owned(),
        peer: ([127, 0, 0, 1], 4433).into(),
        http: "http3",
    };
    (metrics.begin(about, stats.clone()), stats)
}

fn info(bytes: u64) -> Info {
    let mut info = Info::default();
    info.bytes_received = bytes;
    info.streams_bidi = 1;
    info
}

/// The value of a sample, written as a scrape has it.
fn sample(metrics: &Metrics, name: &str) -> Option<String> {
    let text = metrics.text(Format::Prometheus);
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(value.trim().to_owned())
}

#[test]
fn the_names_stay() {
    let metrics = Metrics::new();
    let tenant: Arc<str> = "a".into();
    let _session = begin(&metrics, 1, "a");
    drop(begin(&metrics, 2, "a"));
    metrics.refused(&tenant, "no-route");
    metrics.trapped(&tenant, &tenant, Cause::Deadline);
    let _connection = metrics.connected("http3");
    metrics.handshake_failed("http2", "tls");
    let text = metrics.text(Format::Prometheus);
    let mut told: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .collect();
    told.sort_unstable();
    assert_eq!(told, NAMES, "{text}");
    for (name, _) in NAMES {
        assert!(text.contains(&format!("# HELP {name} ")), "{name}");
        let sampled = text.lines().any(|line| line.starts_with(name));
        assert!(sampled, "{name} has no sample in {text}");
    }
    let open = metrics.text(Format::OpenMetrics);
    assert!(open.ends_with("# EOF\n"), "{open}");
}

#[test]
fn what_a_session_did_stays_when_it_is_over_and_what_it_had_does_not() {
    let metrics = Metrics::new();
    let (first, stats) = begin(&metrics, 1, "a");
    stats.store(&info(7));
    stats.hold(100, 10);
    stats.opened(Dir::Bi, Opener::Peer);
    stats.called(Duration::from_millis(2));
    stats.log_lines_dropped(4);
    let (_second, more) = begin(&metrics, 2, "a");
    more.store(&info(5));
    let counted = |bytes| {
        for (name, value) in [
            (
                r#"stream_bytes_total{tenant="a",route="echo",direction="in"}"#,
                bytes,
            ),
            (
                r#"streams_opened_total{tenant="a",route="echo",kind="bidi",by="peer"}"#,
                "1",
            ),
            (r#"call_seconds_count{tenant="a",route="echo"}"#, "1"),
            (r#"cpu_seconds_total{tenant="a",route="echo"}"#, "0.002"),
            (r#"log_lines_dropped_total{tenant="a",route="echo"}"#, "4"),
            (
                r#"call_seconds_bucket{tenant="a",route="echo",le="0.01"}"#,
                "1",
            ),
            (
                r#"call_seconds_bucket{tenant="a",route="echo",le="0.001"}"#,
                "0",
            ),
        ] {
            let told = sample(&metrics, &format!("wharf_{name}"));
            assert_eq!(told.as_deref(), Some(value), "{name}");
        }
    };
    let held = |streams, memory, sessions| {
        for (name, value) in [
            (r#"streams{tenant="a",route="echo",kind="bidi"}"#, streams),
            (
                r#"memory_bytes{tenant="a",route="echo",of="instance"}"#,
                memory,
            ),
            (
                r#"sessions{tenant="a",route="echo",http="http3"}"#,
                sessions,
            ),
        ] {
            let told = sample(&metrics, &format!("wharf_{name}"));
            assert_eq!(told.as_deref(), Some(value), "{name}");
        }
    };
    counted("12");
    held("2", "100", "2");
    stats.closed(Closing {
        cause: Cause::Peer,
        code: 0,
    });
    drop(first);
    counted("12");
    held("1", "0", "1");
    more.store(&info(6));
    counted("13");
    let ended = r#"wharf_sessions_ended_total{tenant="a",route="echo",cause="peer"}"#;
    assert_eq!(sample(&metrics, ended).as_deref(), Some("1"));
}

#[test]
fn the_last_word_on_the_end_of_a_session_counts() {
    let metrics = Metrics::new();
    let (session, stats) = begin(&metrics, 1, "a");
    for cause in [Cause::Peer, Cause::Trapped] {
        stats.closed(Closing { cause, code: 0 });
    }
    drop(session);
    drop(begin(&metrics, 2, "a"));
    for cause in ["trapped", "dropped"] {
        let ended =
            format!(r#"wharf_sessions_ended_total{{tenant="a",route="echo",cause="{cause}"}}"#);
        assert_eq!(sample(&metrics, &ended).as_deref(), Some("1"), "{cause}");
    }
}

#[test]
fn sessions_are_told_in_the_order_of_their_numbers_and_by_tenant() {
    let metrics = Metrics::new();
    let mut sessions = Vec::new();
    for (number, tenant) in [(3, "a"), (1, "b"), (2, "a"), (4, "b")] {
        sessions.push(begin(&metrics, number, tenant));
    }
    let numbers = |tenant, after, limit| {
        let views = metrics.sessions(tenant, after, limit);
        let numbers = views.iter().map(|view| view.session);
        numbers.collect::<Vec<_>>()
    };
    assert_eq!(numbers(None, 0, 9), [1, 2, 3, 4]);
    assert_eq!(numbers(None, 0, 2), [1, 2]);
    assert_eq!(numbers(None, 2, 9), [3, 4]);
    assert_eq!(numbers(Some("a"), 0, 9), [2, 3]);
    assert!(numbers(Some("c"), 0, 9).is_empty());
    drop(sessions);
    assert!(numbers(None, 0, 9).is_empty());
}

#[test]
fn a_connection_is_open_until_it_is_dropped() {
    let metrics = Metrics::new();
    let connection = metrics.connected("http2");
    let open = r#"wharf_connections{http="http2"}"#;
    assert_eq!(sample(&metrics, open).as_deref(), Some("1"));
    drop(connection);
    assert_eq!(sample(&metrics, open).as_deref(), Some("0"));
    let accepted = r#"wharf_connections_accepted_total{http="http2"}"#;
    assert_eq!(sample(&metrics, accepted).as_deref(), Some("1"));
}
