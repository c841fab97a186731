//! `wharf check` looks into components and certificates.

use rcgen::{CertificateParams, KeyPair};
use time::{Duration, OffsetDateTime};

use super::Folder;

#[test]
fn what_no_server_could_serve_is_told_as_well() {
    let folder = Folder::with_echo(
        "certificate = \"development\"\n\
         authorities = [\"a.1\", \"256.1.1.1\", \"*.[::1]\", \"[::1]\", \"[0::1]\"]",
    );
    let more = "[tenant.route.limits]\nmemory = \"32KiB\"\n\
                [[tenant]]\nname = \"b\"\ncertificate = \"development\"\nauthorities = [\"127.0.0.1\"]\n\
                [[tenant.route]]\npath = \"/\"\ncomponent = \"echo.wasm\"\n\
                [log]\nfilter = \"wharf=bogus\"\n\
                [admin]\nlisten = \"0.0.0.0:0\"\n";
    let file = std::fs::read_to_string(folder.path("wharf.toml")).unwrap();
    folder.put("wharf.toml", &(file + more));
    let (code, problems) = folder.problems("check");
    assert_eq!(code, Some(1));
    let expected = [
        ("6: tenant.authorities: ", "`a.1`: no name of a host"),
        ("6: tenant.authorities: ", "`256.1.1.1`: no name of a host"),
        ("6: tenant.authorities: ", "`*.[::1]`: no name of a host"),
        ("6: tenant.authorities: ", "`[0::1]`: listed twice"),
        ("9: tenant.route.component: ", "(raise `memory`)"),
        ("15: tenant.authorities: ", "another tenant has an address"),
        ("20: log.filter: ", "\"wharf=bogus\""),
        ("22: admin.listen: ", "needs a token"),
    ];
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
    for (problem, (key, what)) in problems.iter().zip(expected) {
        assert!(
            problem.starts_with(key) && problem.contains(what),
            "{problem}"
        );
    }
}

#[test]
fn a_token_that_cannot_be_read_is_told_with_its_file() {
    let folder = Folder::with_echo("certificate = \"development\"");
    let file = std::fs::read_to_string(folder.path("wharf.toml")).unwrap();
    folder.put(
        "wharf.toml",
        &(file + "[admin]\ntoken-file = \"missing.token\"\n"),
    );
    let (_, problems) = folder.problems("check");
    assert_eq!(problems.len(), 1, "{problems:#?}");
    let problem = &problems[0];
    assert!(problem.starts_with("10: admin.token-file: "), "{problem}");
    assert!(problem.contains("missing.token"), "{problem}");
}

/// Puts a certificate for these names, and its key, beside the file.
fn certificate(folder: &Folder, names: &[&str], days: i64) {
    let key = KeyPair::generate().unwrap();
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.not_before = OffsetDateTime::now_utc() - Duration::days(30);
    params.not_after = OffsetDateTime::now_utc() + Duration::days(days);
    folder.put("cert.pem", &params.self_signed(&key).unwrap().pem());
    folder.put("key.pem", &key.serialize_pem());
}

const FILES: &str = "certificate = \"cert.pem\"\nkey = \"key.pem\"\n";

#[test]
fn a_component_that_does_not_fit_is_told_with_the_reason() {
    let folder = Folder::with_echo("certificate = \"development\"");
    let more = "[[tenant.route]]\npath = \"/empty\"\ncomponent = \"empty.wasm\"\n\
                [[tenant.route]]\npath = \"/text\"\ncomponent = \"wharf.toml\"\n";
    let file = std::fs::read_to_string(folder.path("wharf.toml")).unwrap();
    folder.put("wharf.toml", &(file + more));
    std::fs::write(folder.path("empty.wasm"), b"\0asm\x0d\0\x01\0").unwrap();
    let (code, problems) = folder.problems("check");
    assert_eq!(code, Some(1));
    assert_eq!(problems.len(), 2, "{problems:#?}");
    for (problem, key, reason) in [
        (
            &problems[0],
            "11: tenant.route.component: ",
            "exports no wharf:webtransport/callbacks",
        ),
        (
            &problems[1],
            "14: tenant.route.component: ",
            "not WebAssembly",
        ),
    ] {
        assert!(
            problem.starts_with(key) && problem.contains(reason),
            "{problem}"
        );
    }
}

#[test]
fn a_certificate_for_other_hosts_is_told_for_each_of_them() {
    let authorities = r#"authorities = ["app.example", "*.app.example", "127.0.0.1", "other.example", "*.other.example"]"#;
    let folder = Folder::with_echo(&format!("{FILES}{authorities}"));
    certificate(&folder, &["app.example", "*.app.example", "127.0.0.1"], 30);
    let (code, problems) = folder.problems("check");
    assert_eq!(code, Some(1));
    assert_eq!(problems.len(), 2, "{problems:#?}");
    for (problem, host) in problems.iter().zip(["other.example", "*.other.example"]) {
        assert!(problem.starts_with("7: tenant.authorities: "), "{problem}");
        assert!(
            problem.contains(&format!("is no certificate for {host} (")),
            "{problem}"
        );
    }
}

#[test]
fn a_certificate_that_has_expired_is_told_with_the_day() {
    let folder = Folder::with_echo(FILES);
    certificate(&folder, &["app.example"], -1);
    let day = (OffsetDateTime::now_utc() - Duration::days(1)).date();
    let (code, problems) = folder.problems("check");
    assert_eq!(code, Some(1));
    assert_eq!(problems.len(), 1, "{problems:#?}");
    assert!(
        problems[0].starts_with("5: tenant.certificate: "),
        "{problems:#?}"
    );
    assert!(
        problems[0].ends_with(&format!("expired on {day} (renew it)")),
        "{problems:#?}"
    );
}

#[test]
fn a_key_of_another_certificate_is_told() {
    let folder = Folder::with_echo(FILES);
    certificate(&folder, &["app.example"], 30);
    folder.put("key.pem", &KeyPair::generate().unwrap().serialize_pem());
    let (_, problems) = folder.problems("check");
    assert_eq!(problems.len(), 1, "{problems:#?}");
    assert!(
        problems[0].contains("does not belong to the certificate"),
        "{problems:#?}"
    );
    folder.put("cert.pem", "no certificate");
    let (_, problems) = folder.problems("check");
    assert!(problems[0].contains("cert.pem"), "{problems:#?}");
}
