//! Walks every cell of the table in the documentation of the module.

use super::*;

/// What each row of the table does. Every session has one stream of ours.
fn act(event: &str, session: &mut Session) {
    match event {
        "`ask_to_drain`" => session.ask_to_drain(),
        "`drain`" => session.drain(),
        "`end` of the last" => session.end(By::Local, Dir::Bi),
        "`close`" => session.close(1, "enough"),
        "`fail`" => session.fail(Violation {
            code: HttpCode::H3_ID_ERROR,
            reason: "wrong",
        }),
        "DRAIN" => session.receive(encode([Capsule::Drain])),
        "CLOSE" => session.receive(encode([close_capsule(2, "bye")])),
        "another capsule" => session.receive(encode([Capsule::Datagram("hi".into())])),
        "a malformed capsule" => session.receive(Bytes::from_static(b"\x80\x00\x78\xae\x01")),
        "`receive_fin`" => session.receive_fin(),
        "`receive_abort`" => session.receive_abort("reset"),
        "`connection_lost`" => session.connection_lost(3, "timed out"),
        _ => panic!("{event} is no row"),
    }
}

pub(super) fn in_state(state: &str) -> Session {
    let mut session = session();
    session.open(Dir::Bi).unwrap();
    let events: &[&str] = match state {
        "Open" => &[],
        "LocalDraining" => &["`drain`"],
        "PeerDraining" => &["DRAIN"],
        "BothDraining" => &["`drain`", "DRAIN"],
        "PeerClosed" => &["CLOSE"],
        "Closed" => &["`close`"],
        _ => panic!("{state} is no column"),
    };
    for event in events {
        act(event, &mut session);
    }
    assert_eq!(format!("{:?}", session.state), state);
    super::events(&mut session);
    transmits(&mut session);
    session
}

/// What happened, in the words of the table.
fn cell(before: &str, session: &mut Session) -> String {
    let state = format!("{:?}", session.state);
    let words: Vec<&str> = transmits(session)
        .into_iter()
        .flat_map(|transmit| match transmit {
            Transmit::Capsules(bytes) => decode(bytes)
                .iter()
                .map(|capsule| {
                    if *capsule == Capsule::Drain {
                        return "DRAIN";
                    }
                    assert!(matches!(capsule, Capsule::Close { .. }), "{capsule:?}");
                    "CLOSE"
                })
                .collect(),
            Transmit::Fin => vec!["FIN"],
            Transmit::Abort(_) => vec!["abort"],
        })
        .collect();
    match (state == before, words.is_empty()) {
        (true, true) => "-".to_owned(),
        (false, true) => state,
        (_, false) => format!("{state}: {}", words.join(", ")),
    }
}

#[test]
fn every_cell_of_the_documented_table_is_so() {
    let mut rows = include_str!("../../session.rs")
        .lines()
        .filter_map(|line| line.strip_prefix("//! | ")?.strip_suffix(" |"))
        .map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
    let states = rows.next().unwrap().split_off(1);
    let mut walked = 0;
    for row in rows {
        let (event, cells) = row.split_first().unwrap();
        let mut expected = "";
        for (state, cell_there) in states.iter().zip(cells) {
            if *cell_there != "same" {
                expected = cell_there;
            }
            let mut session = in_state(state);
            let was_over = session.is_closed();
            act(event, &mut session);
            assert_eq!(cell(state, &mut session), expected, "{event} in {state}");
            let told = events(&mut session)
                .iter()
                .filter(|event| matches!(event, Event::Closed(_)))
                .count();
            let ended = session.is_closed() && !was_over;
            assert_eq!(told, usize::from(ended), "{event} in {state}");
            walked += 1;
        }
    }
    assert_eq!(walked, 6 * 12);
}
