//! `wharf serve` serves what the file says.

use std::{net::SocketAddr, path::Path, process::Stdio, time::Duration};

use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{ChildStderr, ChildStdout},
};

use super::{Folder, command, text, wharf};
use crate::{
    binary::{cpu, resident_kib},
    harness::{guest, root, within},
    scrape::ask,
};

/// `wharf serve`, serving. Killed when dropped.
pub(crate) struct Serving {
    pub(crate) addresses: Vec<SocketAddr>,
    child: tokio::process::Child,
    /// What it says after the addresses.
    said: Lines<BufReader<ChildStdout>>,
    errors: Lines<BufReader<ChildStderr>>,
    log: String,
}

impl Serving {
    /// In that folder; waits for that many addresses.
    pub(crate) async fn start(
        folder: &Path,
        flags: &[&str],
        environment: &[(&str, &str)],
        addresses: usize,
    ) -> Self {
        let mut command = command(folder, environment);
        command
            .arg("serve")
            .args(flags)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = tokio::process::Command::from(command)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let errors = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut found = Vec::new();
        for _ in 0..addresses {
            let line = within("an address", lines.next_line()).await.unwrap();
            let line = line.expect("an address is told");
            let address = line.strip_prefix("listening on ").unwrap();
            found.push(address.split(' ').next().unwrap().parse().unwrap());
        }
        Self {
            addresses: found,
            child,
            said: lines,
            errors,
            log: String::new(),
        }
    }

    /// The next line of the log, which ends with the program.
    async fn line(&mut self) -> Option<String> {
        let line = within("a line of the log", self.errors.next_line());
        let line = line.await.unwrap()?;
        self.log += &line;
        self.log.push('\n');
        Some(line)
    }

    /// Waits for a line of the log with that in it.
    async fn logs(&mut self, part: &str) {
        while !self.line().await.expect("the log goes on").contains(part) {}
    }

    async fn signal(&self, name: &str) {
        let pid = self.child.id().unwrap().to_string();
        let mut kill = tokio::process::Command::new("kill");
        let sent = kill.args([&format!("-{name}"), &pid]).status().await;
        assert!(sent.unwrap().success());
    }

    /// Asks the program to end, and waits until it has: its exit code and its log.
    pub(crate) async fn terminate(mut self) -> (Option<i32>, String) {
        self.signal("TERM").await;
        while self.line().await.is_some() {}
        let ended = within("the program to end", self.child.wait())
            .await
            .unwrap();
        (ended.code(), self.log)
    }

    /// The resident memory of the program.
    pub(crate) fn resident_kib(&self) -> usize {
        resident_kib(self.child.id().unwrap())
    }

    /// The CPU time that the program has spent.
    pub(crate) fn cpu(&self) -> Duration {
        cpu(self.child.id().unwrap())
    }

    /// Whether the server echoes at that path, over that HTTP version.
    async fn echoes(&self, path: &str, http: &str) -> bool {
        let url = format!("https://localhost:{}{path}", self.addresses[0].port());
        let check = tokio::task::spawn_blocking({
            let http = http.to_owned();
            move || {
                wharf(
                    &[
                        "connect",
                        &url,
                        "--insecure",
                        &http,
                        "--echo-check",
                        "64KiB",
                    ],
                    &[],
                )
            }
        });
        check.await.unwrap().status.success()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn serve_serves_the_example_file_until_it_is_told_to_stop() {
    for component in ["echo", "admission"] {
        guest(component);
    }
    let flags = ["--listen", "127.0.0.1:0"];
    let serving = Serving::start(&root(), &flags, &[], 1).await;
    for http in ["--http3", "--http2"] {
        assert!(serving.echoes("/echo", http).await, "{http}");
        assert!(!serving.echoes("/nowhere", http).await, "{http}");
    }
    let (code, log) = serving.terminate().await;
    assert_eq!(code, Some(0), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn flags_count_before_the_environment_and_that_before_the_file() {
    let folder = Folder::with_echo("certificate = \"development\"\n[log]\nfilter = \"off\"");
    let text = std::fs::read_to_string(folder.path("wharf.toml")).unwrap();
    let text = text.replace("[log]\nfilter = \"off\"\n", "") + "[log]\nfilter = \"off\"\n";
    let text = text.replace(
        "[\"127.0.0.1:0\"]",
        "[\"127.0.0.1:0\", \"127.0.0.1:0\", \"127.0.0.1:0\"]",
    );
    folder.put("wharf.toml", &text);
    let environment = [
        ("WHARF_LISTEN", "127.0.0.1:0,127.0.0.1:0"),
        ("WHARF_LOG", "info"),
        ("WHARF_CACHE", "by-environment"),
    ];
    let here = folder.0.path();

    let by_file = Serving::start(here, &[], &[], 3).await;
    let (code, log) = by_file.terminate().await;
    assert_eq!((code, log.as_str()), (Some(0), ""));

    let by_environment = Serving::start(here, &[], &environment, 2).await;
    let (code, log) = by_environment.terminate().await;
    assert!(code == Some(0) && log.contains("draining"), "{log}");
    assert!(folder.path("by-environment").is_dir());

    let flags = [
        "--listen",
        "127.0.0.1:0",
        "--log",
        "warn",
        "--cache",
        "by-flag",
    ];
    let by_flags = Serving::start(here, &flags, &environment, 1).await;
    let (code, log) = by_flags.terminate().await;
    assert_eq!((code, log.as_str()), (Some(0), ""));
    assert!(folder.path("by-flag").is_dir());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_becomes_bad_changes_nothing_and_the_log_says_what_is_wrong() {
    let folder = Folder::with_echo("certificate = \"development\"");
    let good = std::fs::read_to_string(folder.path("wharf.toml")).unwrap();
    let mut serving = Serving::start(folder.0.path(), &[], &[], 1).await;
    folder.put("wharf.toml", "listen = [\n");
    serving.logs("not reloaded, all stays as it was").await;
    serving.logs("wharf.toml:1: ").await;
    assert!(serving.echoes("/", "--http3").await);
    folder.put(
        "wharf.toml",
        &good.replace("path = \"/\"", "path = \"/new\""),
    );
    serving.logs("reloaded").await;
    assert!(serving.echoes("/new", "--http3").await);
    assert!(!serving.echoes("/", "--http2").await);
    serving.signal("HUP").await;
    serving.logs("reloaded").await;
    assert_eq!(serving.terminate().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_listener_is_told_beside_the_addresses() {
    let folder = Folder::with_echo("certificate = \"development\"");
    let file = std::fs::read_to_string(folder.path("wharf.toml")).unwrap();
    folder.put(
        "wharf.toml",
        &(file + "[admin]\nlisten = \"127.0.0.1:0\"\n"),
    );
    let mut serving = Serving::start(folder.0.path(), &[], &[], 1).await;
    let line = within("the admin listener", serving.said.next_line()).await;
    let line = line.unwrap().unwrap();
    let admin = line.strip_prefix("admin at http://").unwrap();
    let admin = admin.trim_end_matches('/').parse().unwrap();
    assert_eq!(ask(admin, "GET /live").await.status, 200);
    assert_eq!(serving.terminate().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_told_to_stop_while_it_starts_stops_at_once() {
    let folder = Folder::with_echo("certificate = \"development\"");
    let component = std::fs::read(folder.path("echo.wasm")).unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = free.local_addr().unwrap();
    drop(free);
    let mut file = std::fs::read_to_string(folder.path("wharf.toml")).unwrap();
    // Enough to compile, each another and none in the cache.
    for number in 0..40 {
        let name = format!("{number}.wasm");
        let mut other = component.clone();
        other.extend([0, 3, 1, b'n', number]); // a custom section
        std::fs::write(folder.path(&name), other).unwrap();
        file += &format!("[[tenant.route]]\npath = \"/{number}\"\ncomponent = {name:?}\n");
    }
    folder.put(
        "wharf.toml",
        &(file + &format!("[admin]\nlisten = \"{admin}\"\n")),
    );
    let environment = [("WHARF_CACHE", "empty-cache")];
    let mut serving = Serving::start(folder.0.path(), &[], &environment, 0).await;
    within("the start", async {
        while tokio::net::TcpStream::connect(admin).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    serving.signal("TERM").await;
    let said = within("the end", serving.said.next_line()).await.unwrap();
    assert_eq!(said, None, "it serves");
    let ended = within("the exit", serving.child.wait()).await.unwrap();
    assert_eq!(ended.code(), Some(0));
}

#[test]
fn help_says_what_a_stranger_needs() {
    for (arguments, says) in [
        (vec!["--help"], ["serve", "check"]),
        (
            vec!["serve", "--help"],
            ["wharf.toml", "wharf config schema"],
        ),
        (vec!["check", "--help"], ["wharf.toml", "remedy"]),
        (vec!["config", "--help"], ["schema", "JSON"]),
    ] {
        let output = wharf(&arguments, &[]);
        let said = text(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{said}");
        for word in says {
            assert!(said.contains(word), "{word:?} is not in {said}");
        }
    }
    assert_eq!(wharf(&["config"], &[]).status.code(), Some(2));
    assert_eq!(wharf(&["serve", "--config"], &[]).status.code(), Some(2));
}
