//! The program as a stranger meets it: bad input has one line for an answer, and an exit code.

use std::{net::UdpSocket, process::Output};

use crate::{binary::program, harness::guest};

fn wharf(arguments: &[&str]) -> Output {
    std::process::Command::new(program())
        .args(arguments)
        .output()
        .unwrap()
}

/// Runs `wharf run` and expects it to fail with one line on standard error that says all of these.
fn fails(arguments: &[&str], code: i32, says: &[&str]) {
    let output = wharf(&[&["run", "--page", "127.0.0.1:0", "--log", "off"], arguments].concat());
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{error}");
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "",
        "nothing is announced"
    );
    if code == 1 {
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    for said in says {
        assert!(error.contains(said), "{said:?} is not in {error:?}");
    }
}

fn file(name: &str, content: &[u8]) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, content).unwrap();
    (folder, path.to_str().unwrap().to_owned())
}

/// A component without imports or exports, and a core module: eight bytes each.
const EMPTY_COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
const EMPTY_MODULE: &[u8] = b"\0asm\x01\0\0\0";

#[test]
fn a_handler_that_is_no_handler_is_named_with_the_remedy() {
    for (content, says) in [
        (b"hello".as_slice(), ["handler.wasm", "not WebAssembly"]),
        (EMPTY_MODULE, ["handler.wasm", "not a component"]),
        (
            EMPTY_COMPONENT,
            ["handler.wasm", "exports no wharf:webtransport/callbacks"],
        ),
    ] {
        let (_folder, path) = file("handler.wasm", content);
        fails(&[&path, "--listen", "127.0.0.1:0"], 1, &says);
    }
    fails(
        &["missing.wasm", "--listen", "127.0.0.1:0"],
        1,
        &["missing.wasm", "no such file"],
    );
}

#[test]
fn an_import_that_is_not_granted_is_named() {
    let component = wat::parse_str(
        r#"(component
            (import "wasi:http/outgoing-handler@0.2.0" (instance))
            (instance $callbacks)
            (export "wharf:webtransport/callbacks@0.1.0" (instance $callbacks)))"#,
    );
    let (_folder, path) = file("handler.wasm", &component.unwrap());
    let import = "imports wasi:http/outgoing-handler@0.2.0, which is not granted";
    fails(
        &[&path, "--listen", "127.0.0.1:0"],
        1,
        &["handler.wasm", import],
    );
}

#[test]
fn a_port_in_use_is_named_with_the_remedy() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    fails(
        &[guest("echo").to_str().unwrap(), "--listen", &address],
        1,
        &[&address, "--listen"],
    );
}

#[test]
fn an_unreadable_certificate_is_named() {
    let (_folder, path) = file("cert.pem", b"hello");
    let echo = guest("echo");
    let certificate = ["--cert", &path, "--key", &path];
    fails(
        &[
            &[echo.to_str().unwrap(), "--listen", "127.0.0.1:0"],
            certificate.as_slice(),
        ]
        .concat(),
        1,
        &[&path],
    );
    fails(&[echo.to_str().unwrap(), "--cert", &path], 2, &["--key"]);
}

#[test]
fn wrong_usage_ends_with_code_2() {
    fails(
        &["echo.wasm", "--listen", "somewhere"],
        2,
        &["--listen", "somewhere"],
    );
    assert_eq!(wharf(&["sail"]).status.code(), Some(2));
    assert_eq!(wharf(&["--help"]).status.code(), Some(0));
}

#[test]
fn a_folder_that_holds_no_crate_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    fails(&[path], 1, &[path, "Cargo.toml"]);
}
