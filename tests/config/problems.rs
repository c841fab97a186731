//! What is wrong with a file is told by line and key, with the remedy, all of it at once.

use super::{Folder, text, wharf};

/// A file in which everything is wrong.
const WRONG: &str = r#"listen = ["127.0.0.1:0", "somewhere"]
cahce = "cache"
drain = "1m"
[log]
filter = 5
[limits]
timers = -1
memroy = "64MiB"
streams-per-kind = 8
[[tenant]]
name = "a b"
certificate = "cert.pem"
weight = 0
[tenant.limits]
idle-timeout = "5s"
streams-per-kind = 9
[[tenant.route]]
path = "chat"
component = "missing.wasm"
scope = "everybody"
origins = "https://app.example"
quirks = ["odd"]
[tenant.route.environment]
A = 1
B = "b"
[tenant.route.secrets]
B = { file = "missing.secret" }
C = { variable = "WHARF_TEST_IS_NOT_SET" }
D = { file = "d", variable = "D" }
[tenant.route.limits]
timesr = 7
[[tenant]]
name = "b"
key = "key.pem"
authorities = ["app.example:443"]
[[tenant.route]]
path = "/x"
component = "wharf.toml"
[[tenant.route]]
path = "/x/"
component = "wharf.toml"
[tenant.route.limits]
total-memory = "1GiB"
[admin]
listn = "127.0.0.1:0"
"#;

/// What is told of it.
const TOLD: &str = r#"1: listen: "somewhere" is not an address with a port (such as "127.0.0.1:4433" or "[::]:443")
2: cahce: unknown key (did you mean `cache`?)
3: drain: is a limit (move it to [limits])
5: log.filter: invalid type: integer `5`, expected a string
7: limits.timers: -1 is not a count (write a number such as 64)
8: limits.memroy: unknown key (did you mean `memory`?)
11: tenant.name: "a b" is not a name of at most 64 letters, digits, `-`, `_` and `.`
12: tenant.certificate: has no key (name its file by `key`, or write "development" for a certificate made at start)
13: tenant.weight: 0 is out of range (write 1 to 10000)
15: tenant.limits.idle-timeout: cannot be limited here: it counts before the tenant is known, or for the host as a whole (move it to [limits])
16: tenant.limits.streams-per-kind: 9 is more than the 8 of line 9 (lower this, or raise that)
18: tenant.route.path: "chat" is not a path that begins with `/`, without query (such as "/chat")
19: tenant.route.component: missing.wasm: no such file (paths begin at the folder of this file)
20: tenant.route.scope: unknown variant `everybody`, expected `session` or `shared`
21: tenant.route.origins: is not a list of origins (write ["https://app.example"], or "*" for all)
22: tenant.route.quirks: unknown variant `odd`, expected `swapped-stream-ids` or `draft15-fin`
24: tenant.route.environment.A: invalid type: integer `1`, expected a string
27: tenant.route.secrets.B: line 25 has the same (each may be there once)
27: tenant.route.secrets.B: missing.secret: no such file (paths begin at the folder of this file)
28: tenant.route.secrets.C: the environment has no WHARF_TEST_IS_NOT_SET that is text (set it for wharf)
29: tenant.route.secrets.D: stands in one place (write { file = "…" } or { variable = "…" })
31: tenant.route.limits.timesr: unknown key (did you mean `timers`?)
32: tenant.certificate: is missing (The file of the certificate chain in PEM, the tenant's own first, or "development" for one made at start)
35: tenant.authorities: authority `app.example:443`: no name of a host (write `app.example`, `*.app.example` or an address, without a port)
40: tenant.route.path: line 37 has the same (each may be there once)
43: tenant.route.limits.total-memory: cannot be limited here: it counts for all sessions of a tenant together (move it to [tenant.limits])
45: admin.listn: unknown key (did you mean `listen`?)"#;

#[test]
fn every_problem_is_told_at_once_by_line_and_key_with_the_remedy() {
    let folder = Folder::with(WRONG);
    let expected = TOLD;
    let (code, problems) = folder.problems("serve");
    assert_eq!(code, Some(1));
    assert_eq!(problems, expected.lines().collect::<Vec<_>>());
}

#[test]
fn a_file_that_is_no_toml_is_told_where() {
    let folder = Folder::with("listen = [\n[limits]\ntimers = 1 2\n");
    let (code, problems) = folder.problems("check");
    assert_eq!(code, Some(1));
    assert!(
        problems.iter().any(|line| line.starts_with("3:")),
        "{problems:#?}"
    );
}

#[test]
fn an_empty_file_is_told_what_it_needs() {
    let (code, problems) = Folder::with("").problems("check");
    assert_eq!(code, Some(1));
    assert_eq!(problems.len(), 2, "{problems:#?}");
    assert!(
        problems[0].starts_with("1: listen: is missing ("),
        "{problems:#?}"
    );
    assert!(
        problems[1].starts_with("1: tenant: is missing ("),
        "{problems:#?}"
    );
}

#[test]
fn tables_and_lists_that_are_none_are_told_how_to_be_written() {
    let folder = Folder::with("listen = \"127.0.0.1:0\"\nlimits = 5\n[tenant]\nname = \"a\"\n");
    let (_, problems) = folder.problems("check");
    let expected = [
        "1: listen: is no list (write it in brackets: [ … ])",
        "2: limits: is no table (write [limits])",
        "3: tenant: may be there several times (write [[tenant]])",
    ];
    assert_eq!(problems, expected);
}

#[test]
fn a_file_that_is_not_there_is_named_with_the_flag() {
    for command in ["serve", "check"] {
        let output = wharf(&[command, "-c", "nowhere.toml"], &[]);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(
            error.contains("nowhere.toml:1: ") && error.contains("--config"),
            "{error}"
        );
    }
}

#[test]
fn what_two_tenants_or_routes_have_alike_is_refused() {
    let tenant = |name: &str, authorities: &str| {
        format!(
            "[[tenant]]\nname = {name:?}\ncertificate = \"development\"\n{authorities}\n\
             [[tenant.route]]\npath = \"/\"\ncomponent = \"wharf.toml\"\n"
        )
    };
    let folder = Folder::with(
        &[
            "listen = [\"127.0.0.1:0\"]\n".to_owned(),
            tenant("a", "authorities = [\"app.example\", \"*.app.example\"]"),
            tenant("a", ""),
            tenant("b", "authorities = [\"APP.example.\"]"),
            tenant("c", ""),
        ]
        .concat(),
    );
    let (_, problems) = folder.problems("serve");
    let expected = [
        "10: tenant.name: line 3 has the same (each may be there once)",
        "19: tenant.authorities: authority `APP.example.`: listed twice (take it off one of the two)",
        "23: tenant.authorities: no authorities, as another tenant has none (list those of one of the two)",
    ];
    assert_eq!(problems, expected);
}

#[test]
fn secrets_are_in_no_message() {
    let folder =
        Folder::with_echo("certificate = \"development\"\nauthorities = [\"bad authority\"]");
    let route = "[tenant.route.secrets]\nA = { file = \"secret\" }\nB = { variable = \"SECRET_B\" }\nC = { file = \"bytes\" }\n\
                 [tenant.route.environment]\nA = \"twice\"\n";
    let file = std::fs::read_to_string(folder.path("wharf.toml")).unwrap();
    folder.put("wharf.toml", &(file + route));
    folder.put("secret", "hidden-in-a-file\n");
    std::fs::write(folder.path("bytes"), b"hidden-in-bytes\xff").unwrap();
    let file = folder.path("wharf.toml");
    for command in ["check", "serve"] {
        let output = wharf(
            &[command, "-c", file.to_str().unwrap(), "--log", "trace"],
            &[("SECRET_B", "hidden-in-a-variable")],
        );
        let said = text(&output.stderr) + &text(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("tenant.route.secrets.C: "), "{said}");
        assert!(said.contains("tenant.route.secrets.A: line "), "{said}");
        assert!(!said.contains("hidden"), "{said}");
    }
}
