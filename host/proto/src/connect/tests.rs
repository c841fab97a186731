use super::*;

fn head() -> Head<'static> {
    Head {
        method: "CONNECT",
        scheme: Some("https"),
        authority: Some("example.com:4433"),
        path: Some("/chat?room=1"),
        protocol: Some("webtransport-h3"),
        fields: vec![
            ("origin", b"https://example.com"),
            ("x-first", b"\xff"),
            ("x-first", b"2"),
        ],
    }
}

fn with_fields(fields: &[(&'static str, &'static [u8])]) -> Head<'static> {
    Head {
        fields: fields.to_vec(),
        ..head()
    }
}

fn offered(lines: &[&'static [u8]]) -> Vec<String> {
    let fields: Vec<_> = lines
        .iter()
        .map(|&line| ("wt-available-protocols", line))
        .collect();
    with_fields(&fields).check().unwrap().offered_protocols
}

#[test]
fn a_proper_request_is_taken_over_whole() {
    let request = Request {
        scheme: "https".into(),
        authority: "example.com:4433".into(),
        path: "/chat?room=1".into(),
        token: Token::WebTransportH3,
        origin: Some("https://example.com".into()),
        fields: vec![
            ("origin".into(), "https://example.com".into()),
            ("x-first".into(), Bytes::from_static(b"\xff")),
            ("x-first".into(), "2".into()),
        ],
        offered_protocols: Vec::new(),
        protocol_form: ProtocolForm::Strings,
    };
    assert_eq!(head().check(), Ok(request));
}

#[test]
fn both_tokens_are_known() {
    for token in [Token::WebTransport, Token::WebTransportH3] {
        let head = Head {
            protocol: Some(token.as_str()),
            ..head()
        };
        assert_eq!(head.check().unwrap().token, token);
    }
}

#[test]
fn a_request_without_origin_is_proper() {
    assert_eq!(with_fields(&[]).check().unwrap().origin, None);
}

#[test]
fn every_broken_rule_has_its_status() {
    type Break = fn(&mut Head<'_>);
    let rows: [(u16, Break); 16] = [
        (405, |head| head.method = "GET"),
        (405, |head| head.method = "connect"),
        (405, |head| head.protocol = None),
        (501, |head| head.protocol = Some("websocket")),
        (501, |head| head.protocol = Some("WebTransport")),
        (400, |head| head.scheme = None),
        (400, |head| head.scheme = Some("http")),
        (400, |head| head.authority = None),
        (400, |head| head.authority = Some("")),
        (400, |head| head.authority = Some("me@example.com")),
        (400, |head| head.path = None),
        (400, |head| head.path = Some("")),
        (400, |head| head.path = Some("*")),
        (400, |head| head.fields.push(("host", b"other.example"))),
        (400, |head| {
            head.fields.push(("origin", b"https://example.com"));
        }),
        (400, |head| head.fields = vec![("origin", b"https://\xff")]),
    ];
    for (status, broken) in rows {
        let mut head = head();
        broken(&mut head);
        let refusal = head.check().unwrap_err();
        assert_eq!(refusal.status(), status, "{head:?}: {refusal}");
    }
}

#[test]
fn a_host_field_that_agrees_with_the_authority_is_proper() {
    assert!(
        with_fields(&[("host", b"example.com:4433")])
            .check()
            .is_ok()
    );
}

#[test]
fn strings_are_offered_in_order_over_several_lines_and_without_parameters() {
    let lines: [&[u8]; 2] = [br#""chat-2";q=1, "chat \"1\"""#, br#""""#];
    assert_eq!(offered(&lines), ["chat-2", "chat \"1\"", ""]);
}

#[test]
fn a_list_of_tokens_alone_is_accepted() {
    assert_eq!(offered(&[b"chat-2, chat-1;x"]), ["chat-2", "chat-1"]);
}

#[test]
fn a_list_with_anything_else_is_ignored_whole() {
    let lines: [&[u8]; 9] = [
        br#""a", 1"#,
        br#""a", b"#,
        br#"a, "b""#,
        br#"("a" "b")"#,
        br#""a", :YQ==:"#,
        br#""a","#,
        br#""a"#,
        b"",
        b"\xff",
    ];
    for line in lines {
        assert_eq!(offered(&[line]), [""; 0], "{}", line.escape_ascii());
    }
    assert_eq!(offered(&[]), [""; 0]);
}

#[test]
fn a_chosen_protocol_is_written_as_the_client_wrote_its_own() {
    let string = |protocol| encode_protocol(protocol, ProtocolForm::Strings);
    assert_eq!(string("chat-1").unwrap(), r#""chat-1""#);
    assert_eq!(string(r#"a "b" \"#).unwrap(), r#""a \"b\" \\""#);
    assert_eq!(string("ä"), None);
    assert_eq!(string("a\n"), None);
    let token = |protocol| encode_protocol(protocol, ProtocolForm::Tokens);
    assert_eq!(token("chat-1").unwrap(), "chat-1");
    assert_eq!(token("chat 1"), None);
    let form = |line: &'static [u8]| {
        let head = with_fields(&[("wt-available-protocols", line)]);
        head.check().unwrap().protocol_form
    };
    assert_eq!(form(b"chat-2, chat-1"), ProtocolForm::Tokens);
    assert_eq!(form(br#""chat-2", "chat-1""#), ProtocolForm::Strings);
}

#[test]
fn protocols_are_offered_as_a_list_of_strings() {
    let offer = |protocols: &[&str]| {
        encode_protocols(&protocols.iter().map(|&p| p.to_owned()).collect::<Vec<_>>())
    };
    let line = br#""chat-2", "chat \"1\"""#;
    let said = offer(&["chat-2", "chat \"1\""]).unwrap();
    assert_eq!(said.as_bytes(), line);
    assert_eq!(offered(&[line]), ["chat-2", "chat \"1\""]);
    assert_eq!(offer(&[]).unwrap(), "");
    assert_eq!(offer(&["a", "\u{e4}"]), None);
}

#[test]
fn a_chosen_protocol_is_read_as_a_string_or_a_token() {
    for (value, protocol) in [
        (&br#""chat-1""#[..], Some("chat-1")),
        (br#""a \"b\"";x=1"#, Some("a \"b\"")),
        (b"chat-1", Some("chat-1")),
        (b"1", None),
        (br#""a", "b""#, None),
        (b"", None),
        (b"\xff", None),
    ] {
        assert_eq!(
            decode_protocol(value).as_deref(),
            protocol,
            "{}",
            value.escape_ascii()
        );
    }
}

fn init(lines: &[&'static str]) -> Result<Init, Refusal> {
    let line = |line: &&'static str| (Init::FIELD.to_owned(), Bytes::from_static(line.as_bytes()));
    Init::of(&lines.iter().map(line).collect::<Vec<_>>())
}

/// WT-H2, "Flow Control Header".
#[test]
fn a_request_may_grant_credit_by_a_dictionary() {
    let of = |uni, bidi_local, bidi_remote| {
        Ok(Init {
            uni,
            bidi_local,
            bidi_remote,
        })
    };
    assert_eq!(init(&[]), of(0, 0, 0));
    assert_eq!(init(&[""]), of(0, 0, 0));
    assert_eq!(init(&["u=1, bl=2, br=3"]), of(1, 2, 3));
    assert_eq!(
        init(&["u=1", "br=999999999999999"]),
        of(1, 0, 999_999_999_999_999)
    );
    assert_eq!(
        init(&["other=?1, u=7;x=y"]),
        of(7, 0, 0),
        "unknown keys and parameters"
    );
}

#[test]
fn credit_that_is_no_integer_is_refused() {
    for wrong in [
        "u", "u=1.0", "u=-1", "u=\"1\"", "u=(1)", "br=x", "u=", "{", "U=1",
    ] {
        let refused = init(&[wrong]).unwrap_err();
        assert_eq!(refused.status(), 400, "{wrong}");
    }
}
