use proptest::prelude::*;

use super::*;

const FIELD_SECTION_MAX: u32 = 16 << 10;

fn frame(kind: u64, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(kind, payload.len() as u64).to_vec();
    frame.extend_from_slice(payload);
    frame
}

/// A header section of an extended CONNECT request.
fn connect(token: &[u8]) -> Vec<u8> {
    let mut block = b"\0\0\x27\x02:protocol".to_vec();
    block.push(u8::try_from(token.len()).unwrap());
    block.extend_from_slice(token);
    frame(HEADERS, &block)
}

/// Settings of Chromium's.
fn chromium() -> Vec<u8> {
    frame(
        SETTINGS,
        b"\x01\x80\x01\x00\x00\x06\x80\x00\x40\x00\x07\x40\x64\x33\x01\xab\x60\x37\x42\x01",
    )
}

fn request() -> Filter {
    Filter::request(FIELD_SECTION_MAX)
}

/// What a filter makes of an input in pieces of those sizes, then of its end.
fn run(
    mut filter: Filter,
    input: &[u8],
    sizes: &[usize],
) -> (Vec<u8>, Filter, Result<(), Violation>) {
    let mut rest = Bytes::copy_from_slice(input);
    let mut out = VecDeque::new();
    let mut sizes = sizes.iter().copied().cycle();
    let mut result = Ok(());
    while !rest.is_empty() && result.is_ok() {
        let size = sizes.next().unwrap_or(usize::MAX).min(rest.len());
        result = filter.push(rest.split_to(size), &mut out);
    }
    assert!(out.iter().all(|piece| !piece.is_empty()));
    let result = result.and_then(|()| filter.finish());
    (out.iter().flatten().copied().collect(), filter, result)
}

fn passed(filter: Filter, input: &[u8]) -> Vec<u8> {
    let (out, _, result) = run(filter, input, &[]);
    assert_eq!(result, Ok(()));
    out
}

fn refusal(filter: Filter, input: &[u8]) -> HttpCode {
    run(filter, input, &[]).2.unwrap_err().code
}

fn after_settings(frame: &[u8]) -> Vec<u8> {
    [&chromium()[..], frame].concat()
}

fn after_headers(frame: &[u8]) -> Vec<u8> {
    [&connect(b"webtransport")[..], frame].concat()
}

#[test]
fn a_request_of_headers_data_and_trailers_passes_as_it_is() {
    let mut input = after_headers(&frame(DATA, &[7; 3000]));
    input.extend(frame(DATA, b"more"));
    input.extend(frame(HEADERS, b"\0\0"));
    assert_eq!(passed(request(), &input), input);
}

#[test]
fn a_token_that_h3_refuses_is_replaced_and_kept() {
    let (out, mut filter, result) = run(request(), &connect(b"webtransport-h3"), &[1]);
    assert_eq!((out, result), (connect(b"webtransport"), Ok(())));
    assert_eq!(filter.take_token().as_deref(), Some("webtransport-h3"));
    assert_eq!(filter.take_token(), None);
}

#[test]
fn a_token_in_trailers_is_not_looked_at() {
    let input = after_headers(&connect(b"webtransport-h3"));
    let (out, mut filter, _) = run(request(), &input, &[]);
    assert_eq!((out, filter.take_token()), (input, None));
}

#[test]
fn data_is_passed_before_it_is_complete_and_without_a_copy() {
    let mut filter = request();
    let mut out = VecDeque::new();
    let head = [&connect(b"webtransport")[..], &header(DATA, 1 << 40)].concat();
    filter.push(head.into(), &mut out).unwrap();
    out.clear();
    let data = Bytes::from(vec![7; 100_000]);
    filter.push(data.clone(), &mut out).unwrap();
    assert_eq!(out.len(), 1);
    assert_eq!(out[0].as_ptr(), data.as_ptr());
    assert_eq!((out[0].len(), filter.buffered()), (100_000, 0));
}

#[test]
fn each_piece_is_one_header_or_one_part_of_a_payload() {
    let mut filter = request();
    let mut out = VecDeque::new();
    let input = after_headers(&[frame(DATA, b"one"), frame(DATA, b"two")].concat());
    filter.push(input.into(), &mut out).unwrap();
    let data: Vec<_> = out.iter().skip(2).cloned().collect();
    assert_eq!(data, [&b"\0\x03"[..], b"one", b"\0\x03", b"two"]);
}

#[test]
fn empty_data_is_dropped_because_h3_takes_it_for_the_end() {
    let input = after_headers(&[frame(DATA, b""), frame(DATA, b"x")].concat());
    assert_eq!(passed(request(), &input), after_headers(&frame(DATA, b"x")));
}

#[test]
fn unknown_frames_are_dropped_on_either_stream() {
    for unknown in [
        0x21,
        0x1f * 1_000_000 + 0x21,
        0x0c,
        0xf0700,
        0xf0701,
        (1 << 62) - 1,
    ] {
        for payload in [&[][..], &[1; 5000], &vec![1; 1 << 20]] {
            let unknown = frame(unknown, payload);
            assert_eq!(
                passed(request(), &after_headers(&unknown)),
                after_headers(b"")
            );
            assert_eq!(
                passed(request(), &[&unknown[..], &after_headers(b"")].concat()),
                after_headers(b"")
            );
            assert_eq!(
                passed(Filter::control(), &after_settings(&unknown)),
                after_settings(b"")
            );
        }
    }
}

#[test]
fn settings_pass_and_are_kept() {
    let (out, mut filter, result) = run(Filter::control(), &chromium(), &[1]);
    assert_eq!((out, result), (chromium(), Ok(())));
    assert!(filter.take_settings().unwrap().datagrams);
    assert_eq!(filter.take_settings(), None);
}

#[test]
fn control_frames_with_one_id_pass() {
    for kind in [GOAWAY, MAX_PUSH_ID, CANCEL_PUSH] {
        for id in [&b"\x00"[..], b"\x40\x04", b"\xc0\0\0\0\0\0\0\x08"] {
            let input = after_settings(&frame(kind, id));
            assert_eq!(passed(Filter::control(), &input), input);
        }
    }
}

#[test]
fn headers_of_100_mib_are_refused_at_once() {
    for before in [Vec::new(), after_headers(b"")] {
        let mut filter = request();
        let input = [&before[..], &header(HEADERS, 100 << 20)].concat();
        let refused = filter.push(input.into(), &mut VecDeque::new()).unwrap_err();
        assert_eq!(refused.code, HttpCode::H3_EXCESSIVE_LOAD);
        assert!(filter.buffered() <= HEADER_BYTES_MAX);
    }
}

#[test]
fn headers_pass_up_to_the_limit_and_its_slack() {
    let max = u64::from(FIELD_SECTION_MAX) + FIELD_SECTION_SLACK;
    let largest = frame(HEADERS, &vec![0; usize::try_from(max).unwrap()]);
    assert_eq!(passed(request(), &largest), largest);
    assert_eq!(
        refusal(request(), &header(HEADERS, max + 1)),
        HttpCode::H3_EXCESSIVE_LOAD
    );
}

#[test]
fn an_unknown_frame_of_100_mib_is_refused_at_once() {
    let unknown = header(0x21, 100 << 20);
    assert_eq!(refusal(request(), &unknown), HttpCode::H3_EXCESSIVE_LOAD);
    assert_eq!(
        refusal(Filter::control(), &after_settings(&unknown)),
        HttpCode::H3_EXCESSIVE_LOAD
    );
}

#[test]
fn settings_over_4_kib_are_refused() {
    assert_eq!(
        refusal(Filter::control(), &header(SETTINGS, 4097)),
        HttpCode::H3_EXCESSIVE_LOAD
    );
}

#[test]
fn malformed_settings_are_refused_by_their_rule() {
    assert_eq!(
        refusal(Filter::control(), &frame(SETTINGS, b"\x33\x02")),
        HttpCode::H3_SETTINGS_ERROR
    );
    assert_eq!(
        refusal(Filter::control(), &frame(SETTINGS, b"\x33")),
        HttpCode::H3_FRAME_ERROR
    );
}

#[test]
fn a_control_stream_begins_with_settings() {
    for kind in [DATA, GOAWAY, 0x02, 0x21, 0xf0700] {
        assert_eq!(
            refusal(Filter::control(), &frame(kind, b"\x01")),
            HttpCode::H3_MISSING_SETTINGS
        );
    }
}

#[test]
fn settings_come_once() {
    assert_eq!(
        refusal(Filter::control(), &after_settings(&chromium())),
        HttpCode::H3_FRAME_UNEXPECTED
    );
}

#[test]
fn a_request_carries_no_frame_of_a_control_stream_or_of_http2_and_no_push_promise() {
    for kind in [
        0x02,
        CANCEL_PUSH,
        SETTINGS,
        0x05,
        0x06,
        GOAWAY,
        0x08,
        0x09,
        MAX_PUSH_ID,
    ] {
        assert_eq!(
            refusal(request(), &frame(kind, b"")),
            HttpCode::H3_FRAME_UNEXPECTED
        );
        assert_eq!(
            refusal(request(), &after_headers(&frame(kind, b""))),
            HttpCode::H3_FRAME_UNEXPECTED
        );
    }
}

#[test]
fn a_control_stream_carries_no_frame_of_a_request_or_of_http2_and_no_push_promise() {
    for kind in [DATA, HEADERS, 0x02, 0x05, 0x06, 0x08, 0x09] {
        let input = after_settings(&frame(kind, b"\0\0"));
        assert_eq!(
            refusal(Filter::control(), &input),
            HttpCode::H3_FRAME_UNEXPECTED
        );
    }
}

#[test]
fn a_request_begins_with_headers() {
    assert_eq!(
        refusal(request(), &frame(DATA, b"x")),
        HttpCode::H3_FRAME_UNEXPECTED
    );
}

#[test]
fn nothing_known_follows_trailers() {
    let trailers = after_headers(&frame(HEADERS, b"\0\0"));
    for kind in [DATA, HEADERS] {
        let input = [&trailers[..], &frame(kind, b"\0\0")].concat();
        assert_eq!(refusal(request(), &input), HttpCode::H3_FRAME_UNEXPECTED);
    }
}

#[test]
fn a_webtransport_stream_does_not_begin_inside_another_stream() {
    let signal = header(WEBTRANSPORT_STREAM, 4);
    assert_eq!(refusal(request(), &signal), HttpCode::H3_FRAME_ERROR);
    assert_eq!(
        refusal(request(), &after_headers(&signal)),
        HttpCode::H3_FRAME_ERROR
    );
    assert_eq!(
        refusal(Filter::control(), &after_settings(&signal)),
        HttpCode::H3_FRAME_ERROR
    );
}

#[test]
fn a_control_frame_holds_exactly_one_id() {
    for kind in [GOAWAY, MAX_PUSH_ID, CANCEL_PUSH] {
        for bad in [&b""[..], b"\x40", b"\x00\x00", &[0; 8], &[0; 9]] {
            let input = after_settings(&frame(kind, bad));
            assert_eq!(refusal(Filter::control(), &input), HttpCode::H3_FRAME_ERROR);
        }
    }
}

#[test]
fn a_stream_may_end_between_frames_only() {
    let mut input = after_headers(&frame(DATA, b"abc"));
    let ends = [0, after_headers(b"").len(), input.len(), input.len() + 7];
    input.extend(frame(0x21, b"grease!"[..5].as_ref()));
    for end in 0..=input.len() {
        let (_, _, result) = run(request(), &input[..end], &[]);
        assert_eq!(result.is_ok(), ends.contains(&end), "end at {end}");
        if let Err(violation) = result {
            assert_eq!(violation.code, HttpCode::H3_FRAME_ERROR);
        }
    }
}

fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let payload = proptest::collection::vec(any::<u8>(), 0..40);
    prop_oneof![
        4 => payload.clone().prop_map(|payload| frame(DATA, &payload)),
        2 => (0x21..0x40_0000_u64, payload.clone()).prop_map(|(kind, payload)| frame(kind, &payload)),
        1 => "[a-z-]{1,20}".prop_map(|token| connect(token.as_bytes())),
        1 => payload.prop_map(|payload| frame(GOAWAY, &payload)),
        1 => (0_u32..64).prop_map(|id| frame(MAX_PUSH_ID, &[u8::try_from(id).unwrap()])),
    ]
}

proptest! {
    #[test]
    fn any_split_gives_the_same_output(
        control in any::<bool>(),
        frames in proptest::collection::vec(any_frame(), 0..12),
        sizes in proptest::collection::vec(1_usize..30, 1..12),
    ) {
        let (filter, begin): (fn() -> Filter, _) = if control {
            (Filter::control, chromium())
        } else {
            (request, connect(b"webtransport-h3"))
        };
        let input = [begin, frames.concat()].concat();
        let (out, mut whole, result) = run(filter(), &input, &[]);
        let (split_out, mut split, split_result) = run(filter(), &input, &sizes);
        prop_assert_eq!(result, split_result);
        prop_assert_eq!(out, split_out);
        prop_assert_eq!(whole.take_token(), split.take_token());
        prop_assert_eq!(whole.take_settings(), split.take_settings());
    }

    #[test]
    fn no_input_panics_or_is_held_beyond_the_cap(
        control in any::<bool>(),
        input in proptest::collection::vec(any::<u8>(), 0..400),
        sizes in proptest::collection::vec(1_usize..30, 1..12),
    ) {
        let filter = if control { Filter::control() } else { request() };
        let (_, filter, _) = run(filter, &input, &sizes);
        prop_assert!(filter.buffered() <= input.len());
    }
}

#[test]
fn a_response_may_have_several_header_sections_and_says_nothing_of_a_protocol() {
    let interim = frame(HEADERS, b"\0\0\xd8");
    let last = connect(b"webtransport-h3");
    let content = frame(DATA, b"abc");
    let whole = [interim, last, content].concat();
    let (out, mut filter, result) = run(Filter::response(FIELD_SECTION_MAX), &whole, &[1]);
    assert_eq!((result, out), (Ok(()), whole));
    assert_eq!(filter.take_token(), None);
    let long = header(
        HEADERS,
        u64::from(FIELD_SECTION_MAX) + FIELD_SECTION_SLACK + 1,
    );
    let code = refusal(Filter::response(FIELD_SECTION_MAX), &long);
    assert_eq!(code, HttpCode::H3_EXCESSIVE_LOAD);
    let settings = refusal(Filter::response(FIELD_SECTION_MAX), &chromium());
    assert_eq!(settings, HttpCode::H3_FRAME_UNEXPECTED);
}
