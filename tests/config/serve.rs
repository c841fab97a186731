//! `wharf serve` serves what the file says.

use std::{net::SocketAddr, path::Path, process::Stdio};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};

use super::{Folder, command, text, wharf};
use crate::{
    binary::resident_kib,
    harness::{guest, root, within},
};

/// `wharf serve`, serving. Killed when dropped.
pub(crate) struct Serving {
    pub(crate) addresses: Vec<SocketAddr>,
    child: tokio::process::Child,
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
        }
    }

    /// Asks the program to end, and waits until it has: its exit code and its log.
    pub(crate) async fn terminate(mut self) -> (Option<i32>, String) {
        let pid = self.child.id().unwrap().to_string();
        let sent = tokio::process::Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .await;
        assert!(sent.unwrap().success());
        let mut log = String::new();
        let mut errors = self.child.stderr.take().unwrap();
        within("the log to end", errors.read_to_string(&mut log))
            .await
            .unwrap();
        let ended = within("the program to end", self.child.wait())
            .await
            .unwrap();
        (ended.code(), log)
    }

    /// The resident memory of the program.
    pub(crate) fn resident_kib(&self) -> usize {
        resident_kib(self.child.id().unwrap())
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
