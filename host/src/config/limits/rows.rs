//! All limits, in the order of the example file.

use std::ops::RangeInclusive;

use super::{
    super::amount::{Slot, Unit},
    Place::{Each, Guest, Host, Session, Tenant},
    Row,
};

/// Numbers of things.
const COUNT: RangeInclusive<u64> = 0..=1_000_000;
/// The same where none would be no server at all.
const SOME: RangeInclusive<u64> = 1..=1_000_000;
/// Bytes of buffers and credits: a window of HTTP/2 ends at 2 GiB.
const BYTES: RangeInclusive<u64> = 0..=1 << 30;
/// Times: a millisecond, the finest that is told here, to a day.
const TIME: RangeInclusive<u64> = MILLISECOND..=24 * 3600 * 1000 * MILLISECOND;
const MILLISECOND: u64 = 1_000_000;

pub(super) static ROWS: &[Row] = &[
    Row::new(
        "sessions",
        Unit::Count,
        COUNT,
        Each(
            |host| Slot::U32(&mut host.sessions),
            |tenant| Slot::U32(&mut tenant.sessions),
            |route| Slot::U32(&mut route.sessions),
        ),
        "Live sessions of the host, of the tenant, or of the route; the next is refused.",
    ),
    Row::new(
        "sessions-per-ip",
        Unit::Count,
        COUNT,
        Each(
            |host| Slot::U32(&mut host.sessions_per_ip),
            |tenant| Slot::U32(&mut tenant.sessions_per_ip),
            |route| Slot::U32(&mut route.sessions_per_ip),
        ),
        "Live sessions of one address of peers, or of one /64 of IPv6; the next is refused.",
    )
    .or_unlimited(),
    Row::new(
        "sessions-per-connection",
        Unit::Count,
        SOME,
        Host(|host| Slot::U32(&mut host.transport.sessions_per_connection)),
        "Live sessions of one connection; the next is refused.",
    ),
    Row::new(
        "connections",
        Unit::Count,
        SOME,
        Host(|host| Slot::Usize(&mut host.transport.connections)),
        "Connections at once, of both HTTP versions; the next is refused.",
    ),
    Row::new(
        "connections-per-ip",
        Unit::Count,
        SOME,
        Host(|host| Slot::Usize(&mut host.transport.connections_per_ip)),
        "Connections of one address, or of one /64 of IPv6; the next is refused.",
    )
    .or_unlimited(),
    Row::new(
        "handshakes-per-ip",
        Unit::Count,
        SOME,
        Host(|host| Slot::U32(&mut host.transport.handshakes_per_ip)),
        "Handshakes per second that one address, or one /64 of IPv6, may begin; those beyond are not answered.",
    )
    .or_unlimited(),
    Row::new(
        "handshakes",
        Unit::Count,
        SOME,
        Host(|host| Slot::Usize(&mut host.transport.handshakes)),
        "Handshakes under way at once; those beyond are not answered.",
    ),
    Row::new(
        "addresses",
        Unit::Count,
        SOME,
        Host(|host| Slot::Usize(&mut host.transport.addresses)),
        "Addresses that are remembered for the rate of their handshakes; others may not connect meanwhile.",
    ),
    Row::new(
        "streams-per-kind",
        Unit::Count,
        COUNT,
        Session(|session| Slot::U32(&mut session.streams_per_kind)),
        "Streams of each kind that a peer may hold open in a session; the next waits, or ends the session of a peer that \
         does not wait.",
    ),
    Row::new(
        "session-receive-credit",
        Unit::Bytes,
        1..=1 << 30, // peers that are told of no credit at all do without flow control
        Session(|session| Slot::U32(&mut session.session_receive_credit)),
        "Bytes that a peer may send ahead of the handler in a session; the peer waits beyond.",
    ),
    Row::new(
        "stream-receive-credit",
        Unit::Bytes,
        BYTES,
        Host(|host| Slot::U32(&mut host.transport.stream_receive_credit)),
        "Bytes that a peer may send ahead of the handler on a stream; the peer waits beyond.",
    ),
    Row::new(
        "connection-send-window",
        Unit::Bytes,
        BYTES,
        Host(|host| Slot::U64(&mut host.transport.connection_send_window)),
        "Bytes that a connection of HTTP/3 holds until its peer has acknowledged them; handlers wait beyond.",
    ),
    Row::new(
        "udp-receive-buffer",
        Unit::Bytes,
        BYTES,
        Host(|host| Slot::Usize(&mut host.transport.udp_receive_buffer)),
        "Bytes that the system is asked to hold of each UDP socket; it may give less (net.core.rmem_max on Linux).",
    ),
    Row::new(
        "stream-send-buffer",
        Unit::Bytes,
        BYTES,
        Session(|session| Slot::Usize(&mut session.stream_send_buffer)),
        "Bytes of a handler that wait on a stream for the transport; `would-block` beyond.",
    ),
    Row::new(
        "session-send-buffer",
        Unit::Bytes,
        BYTES,
        Session(|session| Slot::Usize(&mut session.session_send_buffer)),
        "Bytes of a handler that wait in a session for the transport; `would-block` beyond.",
    ),
    Row::new(
        "datagrams-in",
        Unit::Count,
        COUNT,
        Session(|session| Slot::Usize(&mut session.datagrams_in)),
        "Datagrams that wait for the handler in a session; the oldest is dropped beyond.",
    ),
    Row::new(
        "datagrams-out",
        Unit::Count,
        COUNT,
        Session(|session| Slot::Usize(&mut session.datagrams_out)),
        "Datagrams that wait for the transport in a session; the oldest is dropped beyond.",
    ),
    Row::new(
        "early-streams",
        Unit::Count,
        COUNT,
        Host(|host| Slot::Usize(&mut host.transport.early_streams)),
        "Streams of a connection that came before their session; the next is refused.",
    ),
    Row::new(
        "early-datagrams",
        Unit::Count,
        COUNT,
        Host(|host| Slot::Usize(&mut host.transport.early_datagrams)),
        "Datagrams of a connection that came before their session; the oldest is dropped beyond.",
    ),
    Row::new(
        "pending-streams",
        Unit::Count,
        SOME,
        Host(|host| Slot::Usize(&mut host.transport.pending_streams)),
        "Streams of a connection of HTTP/3 whose header has not come; the next is refused.",
    ),
    Row::new(
        "delayed-resets",
        Unit::Count,
        COUNT,
        Session(|session| Slot::Usize(&mut session.delayed_resets)),
        "Streams of HTTP/3 that the handler has reset and whose reset waits for their header to arrive; the next is reset \
         at once.",
    ),
    Row::new(
        "http-streams",
        Unit::Count,
        SOME,
        Host(|host| Slot::U32(&mut host.transport.http_streams)),
        "Streams of a connection besides those of sessions, of each kind, such as ordinary requests; the next waits.",
    ),
    Row::new(
        "requests",
        Unit::Count,
        SOME,
        Host(|host| Slot::Usize(&mut host.transport.requests)),
        "Requests of a connection that wait to be looked at; those beyond wait on their streams.",
    ),
    Row::new(
        "data-frame-budget",
        Unit::Bytes,
        BYTES,
        Host(|host| Slot::Usize(&mut host.transport.data_frame_budget)),
        "Bytes that small DATA frames of HTTP/2 may cost until their sessions take them, for each connection; a peer that \
         goes beyond loses it.",
    ),
    Row::new(
        "field-section",
        Unit::Bytes,
        1024..=1 << 20,
        Host(|host| Slot::U32(&mut host.transport.field_section)),
        "The largest head of a request; a larger one is refused.",
    ),
    Row::new(
        "memory",
        Unit::Bytes,
        0..=4 << 30,
        Guest(|guest| Slot::Usize(&mut guest.memory)),
        "Memory of an instance, all of its memories and tables together; growth beyond fails in the guest.",
    ),
    Row::new(
        "total-memory",
        Unit::Bytes,
        0..=1 << 50,
        Tenant(|tenant| Slot::Usize(&mut tenant.memory)),
        "Memory of all of the tenant's instances, with what the host holds for them; growth beyond fails in the guest.",
    )
    .or_unlimited(),
    Row::new(
        "callback-deadline",
        Unit::Time,
        TIME,
        Guest(|guest| Slot::Time(&mut guest.callback_deadline)),
        "CPU time of one callback; one that needs more ends its session.",
    ),
    Row::new(
        "callback-wait",
        Unit::Time,
        TIME,
        Guest(|guest| Slot::Time(&mut guest.callback_wait)),
        "How long one callback may wait in calls of WASI, such as a sleep; one that waits longer ends its session.",
    ),
    Row::new(
        "cpu-per-second",
        Unit::Time,
        TIME,
        Guest(|guest| Slot::TimeOrNone(&mut guest.cpu_per_second)),
        "CPU time per second of a session; it waits beyond.",
    )
    .or_unlimited(),
    Row::new(
        "total-cpu-per-second",
        Unit::Time,
        TIME,
        Tenant(|tenant| Slot::TimeOrNone(&mut tenant.cpu_per_second)),
        "CPU time per second of all of the tenant's sessions, on all cores; they wait beyond.",
    )
    .or_unlimited(),
    Row::new(
        "tick",
        Unit::Time,
        MILLISECOND..=100 * MILLISECOND,
        Host(|host| Slot::Time(&mut host.tick)),
        "How long a handler runs before it yields to others; up to 8 ms where none was long for a second.",
    ),
    Row::new(
        "clock-resolution",
        Unit::Time,
        1..=1000 * MILLISECOND,
        Host(|host| Slot::Time(&mut host.runtime.clock_resolution)),
        "The steps in which handlers see their clocks go on; finer clocks tell of what else runs here.",
    ),
    Row::new(
        "timers",
        Unit::Count,
        COUNT,
        Guest(|guest| Slot::Usize(&mut guest.timers)),
        "Timers that a session may have set; setting the next fails.",
    ),
    Row::new(
        "handles",
        Unit::Count,
        COUNT,
        Guest(|guest| Slot::U32(&mut guest.handles)),
        "Handles and resources that an instance may hold; one more is a trap.",
    ),
    Row::new(
        "log-line",
        Unit::Bytes,
        0..=1 << 20,
        Guest(|guest| Slot::Usize(&mut guest.log_line)),
        "Bytes of a line that a guest writes to the log; the rest of the line is dropped.",
    ),
    Row::new(
        "log-rate",
        Unit::Count,
        COUNT,
        Guest(|guest| Slot::U32(&mut guest.log_rate)),
        "Lines per second that a session writes to the log; the rest is dropped and counted.",
    ),
    Row::new(
        "setup-timeout",
        Unit::Time,
        TIME,
        Host(|host| Slot::Time(&mut host.transport.setup_timeout)),
        "How long a peer may take for a handshake, its SETTINGS, and the header of a stream.",
    ),
    Row::new(
        "idle-timeout",
        Unit::Time,
        TIME,
        Host(|host| Slot::Time(&mut host.transport.idle_timeout)),
        "How long a connection may be silent before it counts as lost.",
    ),
    Row::new(
        "keep-alive",
        Unit::Time,
        TIME,
        Host(|host| Slot::Time(&mut host.transport.keep_alive)),
        "How often a silent connection is probed; less than `idle-timeout`, or silent peers are lost.",
    ),
    Row::new(
        "close-timeout",
        Unit::Time,
        TIME,
        Host(|host| Slot::Time(&mut host.transport.close_timeout)),
        "How long a session that is closed may take to tell its peer.",
    ),
    Row::new(
        "drain",
        Unit::Time,
        0..=24 * 3600 * 1000 * MILLISECOND,
        Host(|host| Slot::Time(&mut host.drain)),
        "How long sessions may take to end by themselves when the server stops; those left are closed.",
    ),
];
