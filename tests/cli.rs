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
fn a_folder_without_a_page_is_named_with_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().to_str().unwrap();
    fails(
        &["handler.wasm", "--page-files", folder],
        1,
        &[folder, "no index.html", "--page-files"],
    );
}

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
fn run_says_all_of_the_addresses_that_it_listens_on() {
    use std::io::BufRead as _;
    let several = ["--listen", "127.0.0.1:0,[::1]:0", "--listen", "127.0.0.1:0"];
    let mut child = std::process::Command::new(program())
        .args(["run", "--page", "127.0.0.1:0", "--log", "off"])
        .args(several)
        .arg(guest("echo"))
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
    let said: Vec<_> = lines
        .map(Result::unwrap)
        .take_while(|line| !line.contains("hash"))
        .filter(|line| line.starts_with("  session"))
        .collect();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(said[1].contains("https://[::1]:"), "{said:?}");
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

/// A folder of programs that stand in for those of a Rust installation, which lacks the target of guests.
#[cfg(unix)]
struct Toolchain(tempfile::TempDir);

#[cfg(unix)]
impl Toolchain {
    fn new() -> Self {
        let toolchain = Self(tempfile::tempdir().unwrap());
        let sysroot = toolchain.0.path().display();
        toolchain.put("rustc", &format!("echo {sysroot}"));
        toolchain.put("cargo", "exit 1");
        toolchain
    }

    fn put(&self, name: &str, script: &str) {
        use std::os::unix::fs::PermissionsExt;
        let file = self.0.path().join(name);
        std::fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
    }

    /// What `wharf run` says on standard error about a crate.
    fn run(&self) -> String {
        let echo = crate::harness::root().join("guests/echo");
        let output = std::process::Command::new(program())
            .args(["run", "--log", "off"])
            .arg(echo)
            .env("PATH", self.0.path())
            .env_remove("CARGO")
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    }
}

#[cfg(unix)]
#[test]
fn a_missing_target_is_added_by_rustup_and_said() {
    let toolchain = Toolchain::new();
    toolchain.put("rustup", "echo \"rustup was told: $*\" >&2");
    let said = toolchain.run();
    assert!(said.contains("adding the target wasm32-wasip2"), "{said}");
    assert!(
        said.contains("rustup was told: target add wasm32-wasip2"),
        "{said}"
    );
    toolchain.put("rustup", "exit 1");
    let said = toolchain.run();
    assert!(
        said.contains("run: rustup target add wasm32-wasip2"),
        "{said}"
    );
}

#[cfg(unix)]
#[test]
fn a_missing_target_without_rustup_has_one_line_to_run() {
    let said = Toolchain::new().run();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(
        said.contains("run: rustup target add wasm32-wasip2"),
        "{said}"
    );
}
