//! Which client passes what: the one place that says where a client itself falls short.

use std::fmt::Write as _;

use wharf::transport::{FinOrder, Quirks};

use super::items;

/// The section's headline.
pub(crate) const HEADLINE: &str = "## Other people's clients";

/// The largest stream code that the server sends to a peer of draft 02, whose own codes have 8 bits.
const DRAFT_02: u32 = 255;

const NONE: Quirks = Quirks {
    swapped_stream_ids: false,
    fin_order: FinOrder::Deployed,
};

const INTRODUCTION: &str = "\
`cargo test interop`, after `tests/interop/install`, has other people's clients do a common list of things against a server
of ours, whose limits are small enough that the list needs new credit. A tick means that the client saw what it should,
and that the handler was told what it should; a number, that the client itself falls short, and then exactly that is what
the test expects. The table is written by the test (`WHARF_WRITE_TABLE=1`) from `interop/table.rs`.

What of HTTP/2 no client's API shows, such as which capsule ends a stream, is asked of `h2` beside the list
(`interop/wire.rs`).

A client that is not installed is not tried, except where `CI` is set.";

/// What follows the clients.
const NOT_TRIED: &str = "\
Not tried: Firefox over HTTP/2. Its HTTP/2 half is out of reach of pages. Driven with privileges (Marionette, Firefox ESR
153) it begins a session and has a datagram back; but it grants no credit, so that no data of a stream may be sent to it,
it does not end its streams, and it crashes in one run of three.
";

/// A client.
pub(crate) struct Client {
    /// Its column in the table.
    pub(crate) name: &'static str,
    /// What it is and speaks.
    about: &'static str,
    /// The largest stream code that it is sent.
    pub(crate) largest_code: u32,
    /// What the server bears with for it.
    pub(crate) quirks: Quirks,
    /// Where it falls short.
    falls_short: &'static [Short],
}

/// Where a client falls short, and what happens instead: whatever else happens fails the test.
pub(crate) struct Short {
    /// How the names of the items begin.
    items: &'static str,
    pub(crate) instead: Instead,
    why: &'static str,
}

/// What happens instead.
#[derive(Debug)]
pub(crate) enum Instead {
    /// It sees this, as JSON.
    Sees(&'static str),
    /// The handler is told a line that ends so.
    Tells(&'static str),
    /// The handler is not told.
    TellsNot,
    /// It gives up.
    Fails,
    /// One time it passes, another time not.
    Varies,
    /// Nothing: it is not asked.
    NotAsked,
}

use Instead::{Fails, NotAsked, Sees, Tells, TellsNot, Varies};

impl Client {
    /// How the client falls short in that item.
    pub(crate) fn short(&self, item: &str) -> Option<&Short> {
        let mut all = self.falls_short.iter();
        all.find(|short| item.starts_with(short.items))
    }

    /// Whether the server sends a smaller code in that item than its handler asked for.
    fn is_cut_in(&self, item: &str) -> bool {
        let (ours, code) = item.rsplit_once(" by the server with ").unzip();
        let code = code.and_then(|code| code.parse().ok());
        ours.is_some() && code.is_some_and(|code: u32| code > self.largest_code)
    }
}

pub(crate) const PYWEBTRANSPORT: Client = Client {
    name: "pywebtransport",
    about: "pywebtransport 0.21.1 (Python): draft 15 with flow control, the whole list on one connection",
    largest_code: u32::MAX,
    quirks: NONE,
    falls_short: &[UNTOLD_STATUS],
};

pub(crate) const AIOQUIC_D02: Client = Client {
    name: "aioquic d02",
    about: "aioquic 1.7.2 (Python) in draft 02, the whole list on one connection. It knows streams and datagrams; \
            SETTINGS, capsules and codes are ours",
    largest_code: DRAFT_02,
    quirks: NONE,
    falls_short: &[
        Short {
            items: "reset with 4294967295",
            instead: NotAsked,
            why: EIGHT_BITS,
        },
        Short {
            items: "stop with 4294967295",
            instead: NotAsked,
            why: EIGHT_BITS,
        },
    ],
};

pub(crate) const AIOQUIC_D07: Client = Client {
    name: "aioquic d07",
    about: "the same in draft 07",
    largest_code: u32::MAX,
    quirks: NONE,
    falls_short: &[],
};

pub(crate) const AIOQUIC_D15: Client = Client {
    name: "aioquic d15",
    about: "the same in draft 15, with flow control",
    largest_code: u32::MAX,
    quirks: NONE,
    falls_short: &[],
};

pub(crate) const CHROMIUM: Client = Client {
    name: "Chromium",
    about: "Debian's Chromium: draft 02",
    largest_code: DRAFT_02,
    quirks: NONE,
    falls_short: &[OWN_CONNECTION, LARGE_RESET, LARGE_STOP, UNTOLD_STATUS],
};

pub(crate) const FIREFOX: Client = Client {
    name: "Firefox",
    about: "Debian's Firefox ESR: draft 02",
    largest_code: DRAFT_02,
    quirks: NONE,
    falls_short: &[
        OWN_CONNECTION,
        LARGE_RESET,
        Short {
            items: "stop with",
            instead: TellsNot,
            why: "`cancel()` sends nothing; the session's end then stops the stream without a code",
        },
        Short {
            items: "reset by the server",
            instead: Varies,
            why: "`read()` fails, most times without the code",
        },
        Short {
            items: "protocol negotiated",
            instead: Sees("null"),
            why: "it has no `protocols`",
        },
        UNTOLD_STATUS,
    ],
};

pub(crate) const WTRANSPORT: Client = Client {
    name: "wtransport",
    about: "wtransport 0.7.2 (Rust, on quinn as we are): draft 07. Its stream codes are QUIC's; the test maps them",
    largest_code: u32::MAX,
    quirks: NONE,
    falls_short: &[
        OWN_CONNECTION,
        Short {
            items: "close with code and reason",
            instead: Tells("0 peer unclean \"done\""),
            why: "it closes the QUIC connection, with a code that is not WebTransport's",
        },
        Short {
            items: "closed with code and reason",
            instead: Fails,
            why: "it does not read the capsule that says them",
        },
        Short {
            items: "protocol negotiated",
            instead: Fails,
            why: "it does not show the response's fields",
        },
        UNTOLD_STATUS,
    ],
};

pub(crate) const WEB_TRANSPORT_QUINN: Client = Client {
    name: "web-transport-quinn",
    about: "web-transport-quinn 0.13.5 (Rust, on quinn as we are): draft 07",
    largest_code: u32::MAX,
    quirks: NONE,
    falls_short: &[OWN_CONNECTION],
};

pub(crate) const H2: Client = Client {
    name: "h2",
    about: "h2 4.4.1 (Python) over HTTP/2, the whole list on one connection. It knows HTTP/2; SETTINGS, capsules and \
            credit are ours",
    largest_code: u32::MAX,
    quirks: NONE,
    falls_short: &[],
};

pub(crate) const FAILS_COMPONENTS: Client = Client {
    name: "fails-components",
    about: "@fails-components/webtransport 1.6.8 (Node) over HTTP/2, on routes with `swapped_stream_ids`, without which \
            its sessions end with a protocol violation at their first stream. Its half for HTTP/3 is not in the package",
    largest_code: u32::MAX,
    quirks: Quirks {
        swapped_stream_ids: true,
        ..NONE
    },
    falls_short: &[
        OWN_CONNECTION,
        LARGE_RESET,
        LARGE_STOP,
        Short {
            items: "protocol negotiated",
            instead: Sees(r#""\"one\"""#),
            why: "it gives the quotation marks of the field with it",
        },
        UNTOLD_STATUS,
    ],
};

/// In the order of the columns.
const ALL: &[&Client] = &[
    &PYWEBTRANSPORT,
    &AIOQUIC_D02,
    &AIOQUIC_D07,
    &AIOQUIC_D15,
    &CHROMIUM,
    &FIREFOX,
    &WTRANSPORT,
    &WEB_TRANSPORT_QUINN,
    &H2,
    &FAILS_COMPONENTS,
];

const UNTOLD_STATUS: Short = Short {
    items: "refused with",
    instead: Sees("\"refused\""),
    why: "it says that it was refused, not with what status",
};

const OWN_CONNECTION: Short = Short {
    items: "two sessions on one connection",
    instead: Fails,
    why: "every session has a connection of its own",
};

const LARGE_RESET: Short = Short {
    items: "reset with 4294967295",
    instead: Tells(" 255"),
    why: "of a larger code than 255 it makes 255",
};

const LARGE_STOP: Short = Short {
    items: "stop with 4294967295",
    ..LARGE_RESET
};

const EIGHT_BITS: &str = "codes of draft 02 have 8 bits";

/// The section of `tests/README.md`, from its headline on.
pub(crate) fn section() -> String {
    let mut reasons: Vec<&str> = Vec::new();
    let mut text = format!(
        "{HEADLINE}\n\n{INTRODUCTION}\n\n|  | {} |\n|---|{}\n",
        ALL.iter()
            .map(|client| client.name)
            .collect::<Vec<_>>()
            .join(" | "),
        ":-:|".repeat(ALL.len()),
    );
    for name in items::list(&PYWEBTRANSPORT).iter().map(|item| &item.name) {
        let mut cells = format!("| {name} |");
        for client in ALL {
            let why = client.short(name).map(|short| short.why);
            let why = why.or_else(|| (client.is_cut_in(name)).then_some(EIGHT_BITS));
            let cell = match why {
                None => "✓".to_owned(),
                Some(why) => {
                    let known = reasons.iter().position(|reason| *reason == why);
                    let place = known.unwrap_or_else(|| {
                        reasons.push(why);
                        reasons.len() - 1
                    });
                    format!("({})", place + 1)
                }
            };
            _ = write!(cells, " {cell} |");
        }
        _ = writeln!(text, "{cells}");
    }
    text.push_str("\nWhat a client itself cannot do:\n\n");
    for (place, reason) in reasons.iter().enumerate() {
        _ = writeln!(text, "{}. {reason}", place + 1);
    }
    text.push_str("\nThe clients:\n\n");
    for client in ALL {
        _ = writeln!(text, "- **{}**: {}.", client.name, client.about);
    }
    text.push('\n');
    text.push_str(NOT_TRIED);
    text
}
