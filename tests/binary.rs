//! The `wharf` program as a person runs it.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::OnceLock,
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, ChildStdout, Command},
};
use web_transport_quinn::{ClientBuilder, Session};

use crate::harness::{root, within};

/// The program, built if it is not.
pub(crate) fn program() -> PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let build = || {
        let output = std::process::Command::new(env!("CARGO"))
            .args([
                // Without `-p`, so that features are unified as in the build of the tests, and nothing is built twice.
                "build",
                "--bin",
                "wharf",
                "--message-format",
                "json-render-diagnostics",
            ])
            .current_dir(root())
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        assert!(output.status.success(), "wharf does not build");
        String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .find_map(|message| message["executable"].as_str().map(PathBuf::from))
            .unwrap()
    };
    PROGRAM.get_or_init(build).clone()
}

type Lines = tokio::io::Lines<BufReader<ChildStdout>>;

/// What stands behind a word in the next line that has it.
async fn told(lines: &mut Lines, word: &str) -> String {
    loop {
        let line = within(word, lines.next_line()).await.unwrap().unwrap();
        if let Some((_, value)) = line.split_once(&format!("{word} ")) {
            return value.trim().to_owned();
        }
    }
}

/// `wharf run`, ready to serve. Killed when dropped.
pub(crate) struct Wharf {
    pub(crate) page: String,
    pub(crate) session: String,
    pub(crate) hash: String,
    child: Child,
}

impl Wharf {
    /// Runs a component, or a crate's folder, on free ports.
    pub(crate) async fn run(handler: &Path) -> Self {
        Self::run_with(handler, &[]).await
    }

    pub(crate) async fn run_with(handler: &Path, more: &[&str]) -> Self {
        let mut child = Command::new(program())
            .arg("run")
            .arg(handler)
            .args(["--listen", "127.0.0.1:0", "--page", "127.0.0.1:0"])
            .args(more)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let page = told(&mut lines, "page").await;
        let session = told(&mut lines, "session").await;
        let hash = told(&mut lines, "sha-256").await;
        Self {
            page,
            session,
            hash,
            child,
        }
    }

    /// A session to that path.
    pub(crate) async fn connect(&self, path: &str) -> Session {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        let hash = STANDARD.decode(&self.hash).unwrap();
        let client = ClientBuilder::new()
            .with_server_certificate_hashes(vec![hash])
            .unwrap();
        let url = url::Url::parse(&self.session).unwrap().join(path).unwrap();
        within("the session", client.connect(url)).await.unwrap()
    }

    /// The resident memory of the program.
    pub(crate) fn resident_kib(&self) -> usize {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.child.id().unwrap())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}
