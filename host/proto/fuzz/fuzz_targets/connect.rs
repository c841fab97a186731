//! Any head of a request is refused with a status of ours, or begins a session that keeps the rules.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wharf_proto::connect::{Head, encode_protocol};

// Lines of the input are `:method`, `:scheme`, `:authority`, `:path` and `:protocol`, empty where there is none; then
// fields as `name=value`.
fuzz_target!(|input: &[u8]| {
    let mut lines = input.split(|byte| *byte == b'\n');
    let mut pseudo = || {
        let line = lines.next().and_then(|line| str::from_utf8(line).ok());
        line.filter(|line| !line.is_empty())
    };
    let head = Head {
        method: pseudo().unwrap_or("CONNECT"),
        scheme: pseudo(),
        authority: pseudo(),
        path: pseudo(),
        protocol: pseudo(),
        fields: lines.filter_map(field).collect(),
    };
    let request = match head.check() {
        Ok(request) => request,
        Err(refusal) => return assert!([400, 405, 501].contains(&refusal.status())),
    };
    assert_eq!(head.method, "CONNECT");
    assert_eq!(head.protocol, Some(request.token.as_str()));
    assert_eq!(request.scheme, "https");
    assert!(!request.authority.is_empty() && !request.authority.contains('@'));
    assert!(request.path.starts_with('/'));
    assert_eq!(request.fields.len(), head.fields.len());
    let lines = |name: &'static str| head.fields.iter().filter(move |field| field.0 == name);
    assert!(lines("host").all(|host| host.1 == request.authority.as_bytes()));
    assert!(lines("origin").count() <= 1, "which of them was checked?");
    assert_eq!(request.origin.is_some(), lines("origin").count() == 1);
    for protocol in &request.offered_protocols {
        let answer = encode_protocol(protocol, request.protocol_form)
            .expect("what was offered can be chosen");
        assert!(answer.is_ascii(), "{answer}");
    }
    // What the handler chooses comes back as it was offered.
    if let Some(chosen) = request.offered_protocols.first() {
        let answer = encode_protocol(chosen, request.protocol_form).expect("as above");
        let again = Head {
            fields: vec![("wt-available-protocols", answer.as_bytes())],
            ..head
        };
        let again = again.check().expect("nothing else was changed");
        assert_eq!(again.offered_protocols, [chosen.as_str()]);
    }
});

fn field(line: &[u8]) -> Option<(&str, &[u8])> {
    let end = line.iter().position(|byte| *byte == b'=')?;
    let (name, value) = line.split_at(end);
    Some((str::from_utf8(name).ok()?, value.get(1..)?))
}
