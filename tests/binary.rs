//! The `wharf` program as a person runs it.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::OnceLock,
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};
use web_transport_quinn::{ClientBuilder, Session};

use crate::harness::{root, within};

/// The program, built if it is not.
pub fn program() -> PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let build = || {
        let output = std::process::Command::new(env!("CARGO"))
            .args(["build", "-p", "wharf", "--bin", "wharf", "--message-format", "json-render-diagnostics"])
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

/// `wharf run`, ready to serve. Killed when dropped.
pub struct Wharf {
    pub page: String,
    pub session: String,
    pub hash: String,
    child: Child,
}

impl Wharf {
    /// Runs a component, or a crate's folder, on free ports.
    pub async fn run(handler: &Path) -> Self {
        Self::run_with(handler, &[]).await
    }

    pub async fn run_with(handler: &Path, more: &[&str]) -> Self {
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
        let mut told = |name: &'static str| {
            let lines = &mut lines;
            async move {
                loop {
                    let line = within(name, lines.next_line()).await.unwrap().unwrap();
                    if let Some(value) = line.trim_start().strip_prefix(name) {
                        return value.trim().to_owned();
                    }
                }
            }
        };
        Self {
            page: told("page").await,
            session: told("session").await,
            hash: told("hash").await.strip_prefix("sha-256 ").unwrap().to_owned(),
            child,
        }
    }

    /// A session to that path.
    pub async fn connect(&self, path: &str) -> Session {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        let hash = STANDARD.decode(&self.hash).unwrap();
        let client = ClientBuilder::new().with_server_certificate_hashes(vec![hash]).unwrap();
        let url = url::Url::parse(&self.session).unwrap().join(path).unwrap();
        within("the session", client.connect(url)).await.unwrap()
    }

    /// The resident memory of the program.
    pub fn resident_kib(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id().unwrap())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}
