//! How directions of a stream end: FIN, reset, stop, their races, and what no honest peer says of them.

use super::*;

const CODES: [u32; 3] = [0, 1, u32::MAX];

#[test]
fn codes_of_reset_and_stop_are_raw_in_both_directions() {
    for code in CODES {
        let (mut a, mut b) = pair();
        let id = a.open(Dir::Bi).unwrap();
        a.reset(id, code).unwrap();
        a.stop(id, code).unwrap();
        settle(&mut a, &mut b);
        let told = [
            Event::Opened(id),
            Event::Stopped(id, Some(code)),
            Event::Reset(id, Some(code)),
            Event::StreamClosed(id),
        ];
        assert_eq!(events(&mut b), told);
        settle(&mut a, &mut b);
        assert_eq!(events(&mut a), [Event::StreamClosed(id)]);
    }
}

#[test]
fn a_code_beyond_32_bits_is_a_violation() {
    for kind in [b"\x99\x0b\x4d\x39", b"\x99\x0b\x4d\x3a"] {
        let mut mux = server();
        let payload = b"\x09\x00\xc0\x00\x00\x01\x00\x00\x00\x00";
        mux.receive([&kind[..], payload].concat().into());
        assert_violation(&mut mux, "error code beyond 32 bits");
    }
}

#[test]
fn a_reset_says_how_much_was_sent_and_drops_the_rest() {
    let mut mux = server();
    let id = mux.open(Dir::Uni).unwrap();
    mux.send(id, bytes(350), false).unwrap();
    said(&mut mux);
    mux.reset(id, 9).unwrap();
    assert_eq!(mux.info().send_buffered, 0);
    assert_eq!(said(&mut mux), [reset_stream(id, 9, 300)]);
    assert_eq!(events(&mut mux), [Event::StreamClosed(id)]);
    assert_eq!(mux.reset(id, 9), Err(CommandError::UnknownStream));
}

#[test]
fn a_reset_before_anything_was_sent_still_opens_the_stream() {
    let mut mux = server();
    let id = mux.open(Dir::Uni).unwrap();
    mux.send(id, bytes(10), true).unwrap();
    mux.reset(id, 9).unwrap();
    assert_eq!(
        said(&mut mux),
        [wt_stream(id, "", false), reset_stream(id, 9, 0)]
    );
}

#[test]
fn the_reliable_size_must_be_what_was_sent_but_may_be_left_out() {
    let (bi, _) = peers();
    for (reliable_size, lawful) in [
        (None, true),
        (Some(3), true),
        (Some(2), false),
        (Some(4), false),
    ] {
        let mut mux = server();
        let reset = Capsule::ResetStream {
            stream: bi,
            code: 8,
            reliable_size: reliable_size.map(int),
        };
        hear(&mut mux, [wt_stream(bi, "abc", false), reset]);
        if lawful {
            let told = [
                Event::Opened(bi),
                data(bi, "abc", false),
                Event::Reset(bi, Some(8)),
            ];
            assert_eq!(events(&mut mux), told, "what was sent is told before");
        } else {
            assert_violation(&mut mux, "reliable size that differs from what was sent");
        }
    }
}

#[test]
fn a_stop_is_answered_by_a_reset_with_its_code() {
    for code in CODES {
        let mut mux = server();
        let id = mux.open(Dir::Bi).unwrap();
        mux.send(id, bytes(350), true).unwrap();
        said(&mut mux);
        hear(&mut mux, [stop_sending(id, code)]);
        assert_eq!(events(&mut mux), [Event::Stopped(id, Some(code))]);
        assert_eq!(said(&mut mux), [reset_stream(id, code, 300)]);
        assert_eq!(mux.send(id, "x".into(), false), Err(CommandError::Reset));
        hear(&mut mux, [wt_stream(id, "on", true)]);
        assert_eq!(
            events(&mut mux),
            [data(id, "on", true), Event::StreamClosed(id)]
        );
    }
}

#[test]
fn a_stop_that_crosses_fin_or_a_reset_is_ignored() {
    for end in ["fin", "reset"] {
        let mut mux = server();
        let id = mux.open(Dir::Bi).unwrap();
        match end {
            "fin" => mux.finish(id).unwrap(),
            _ => mux.reset(id, 1).unwrap(),
        }
        said(&mut mux);
        hear(&mut mux, [stop_sending(id, 2)]);
        assert_eq!(
            (events(&mut mux), said(&mut mux)),
            (vec![], vec![]),
            "{end}"
        );
        hear(&mut mux, [wt_stream(id, "", true)]);
        events(&mut mux);
        hear(&mut mux, [stop_sending(id, 2)]);
        assert!(!mux.is_closed() && mux.streams.is_empty());
    }
}

#[test]
fn a_stop_that_crosses_the_peers_end_leaves_nothing_open() {
    for end in ["fin", "reset"] {
        let mut mux = server();
        let (_, uni) = peers();
        hear(&mut mux, [wt_stream(uni, "", false)]);
        events(&mut mux);
        mux.stop(uni, 6).unwrap();
        assert_eq!(said(&mut mux), [stop_sending(uni, 6)]);
        hear(
            &mut mux,
            [match end {
                "fin" => wt_stream(uni, "late", true),
                _ => reset_stream(uni, 7, 0),
            }],
        );
        assert_eq!(events(&mut mux), [Event::StreamClosed(uni)], "{end}");
    }
}

#[test]
fn a_stop_after_the_peers_end_is_not_said() {
    let mut mux = server();
    let (_, uni) = peers();
    hear(&mut mux, [wt_stream(uni, "all", true)]);
    assert_eq!(mux.poll_event(), Some(Event::Opened(uni)));
    mux.stop(uni, 6).unwrap();
    assert_eq!(events(&mut mux), [Event::StreamClosed(uni)]);
    assert_eq!(said(&mut mux), []);
}

#[test]
fn each_misuse_has_an_error_of_its_own() {
    let mut mux = server();
    let (bi, uni) = peers();
    assert_eq!(
        mux.send(bi, "x".into(), false),
        Err(CommandError::UnknownStream)
    );
    hear(
        &mut mux,
        [wt_stream(bi, "", true), wt_stream(uni, "", false)],
    );
    events(&mut mux);
    assert_eq!(
        mux.send(uni, "x".into(), false),
        Err(CommandError::WrongDirection)
    );
    assert_eq!(mux.set_priority(uni, 1), Err(CommandError::WrongDirection));
    assert_eq!(mux.send_capacity(bi), Ok(400));
    assert_eq!(mux.stop(bi, 1), Err(CommandError::Finished));
    mux.stop(uni, 1).unwrap();
    assert_eq!(mux.stop(uni, 1), Err(CommandError::Reset));
    let own = mux.open(Dir::Uni).unwrap();
    assert_eq!(mux.stop(own, 1), Err(CommandError::WrongDirection));
    mux.finish(own).unwrap();
    assert_eq!(
        mux.send(own, "x".into(), false),
        Err(CommandError::Finished)
    );
    assert_eq!(mux.send_capacity(own), Err(CommandError::Finished));
    mux.reset(own, 1).unwrap();
    assert_eq!(
        mux.finish(own),
        Err(CommandError::Reset),
        "FIN was not on its way"
    );
    mux.finish(bi).unwrap();
    said(&mut mux);
    assert_eq!(mux.reset(bi, 1), Err(CommandError::Finished));
    mux.close(0, "", Closer::Local);
    assert_eq!(mux.send(bi, "x".into(), false), Err(CommandError::Closed));
    assert_eq!(mux.open(Dir::Bi), Err(CommandError::Closed));
    assert_eq!(mux.send_datagram(b"x"), Err(CommandError::Closed));
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn what_no_honest_peer_says_of_a_stream_is_a_violation() {
    let (bi, uni) = peers();
    let (own_bi, own_uni) = (
        stream_id(Side::Server, Dir::Bi, 0),
        stream_id(Side::Server, Dir::Uni, 0),
    );
    let unknown = stream_id(Side::Server, Dir::Bi, 1);
    let limit = int(500);
    let after_end = "data after a stream's end";
    let reset_after_end = "reset after a stream's end";
    let lacks = "capsule for a direction that its stream lacks";
    let never = "capsule for a stream that was never opened";
    let fin = |id| wt_stream(id, "x", true);
    let more = |id| wt_stream(id, "x", false);
    let rows = [
        (vec![fin(bi), more(bi)], after_end),
        (vec![fin(bi), fin(bi)], after_end),
        (vec![fin(bi), wt_stream(bi, "", false)], after_end),
        (vec![more(bi), reset_stream(bi, 1, 1), more(bi)], after_end),
        (vec![more(bi), reset_stream(bi, 1, 1), fin(bi)], after_end),
        (vec![fin(bi), reset_stream(bi, 1, 1)], reset_after_end),
        (
            vec![reset_stream(bi, 1, 0), reset_stream(bi, 1, 0)],
            reset_after_end,
        ),
        (
            vec![stop_sending(bi, 1), stop_sending(bi, 1)],
            "second stop of a stream",
        ),
        (vec![more(own_uni)], lacks),
        (vec![reset_stream(own_uni, 1, 0)], lacks),
        (
            vec![Capsule::StreamDataBlocked {
                stream: own_uni,
                limit,
            }],
            lacks,
        ),
        (vec![stop_sending(uni, 1)], lacks),
        (vec![Capsule::MaxStreamData { stream: uni, limit }], lacks),
        (vec![more(unknown)], never),
        (vec![reset_stream(unknown, 1, 0)], never),
        (vec![stop_sending(unknown, 1)], never),
        (
            vec![Capsule::MaxStreamData {
                stream: unknown,
                limit,
            }],
            never,
        ),
        (
            vec![Capsule::StreamDataBlocked {
                stream: unknown,
                limit,
            }],
            never,
        ),
    ];
    for (capsules, reason) in rows {
        for told in [false, true] {
            let mut mux = server();
            assert_eq!(mux.open(Dir::Bi), Ok(own_bi));
            assert_eq!(mux.open(Dir::Uni), Ok(own_uni));
            for capsule in capsules.clone() {
                assert!(!mux.is_closed());
                hear(&mut mux, [capsule]);
                if told && !mux.is_closed() {
                    events(&mut mux);
                    said(&mut mux);
                }
            }
            assert_violation(&mut mux, reason);
        }
    }
}

#[test]
fn data_and_resets_for_a_stream_that_is_over_are_violations() {
    let (_, uni) = peers();
    for (capsule, reason) in [
        (wt_stream(uni, "", false), "data on a stream that is over"),
        (reset_stream(uni, 1, 0), "reset of a stream that is over"),
    ] {
        let mut mux = server();
        hear(&mut mux, [wt_stream(uni, "", true)]);
        events(&mut mux);
        assert!(mux.streams.is_empty());
        hear(&mut mux, [capsule]);
        assert_violation(&mut mux, reason);
    }
}
