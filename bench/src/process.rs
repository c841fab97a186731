//! A server in a child process: started, asked what it used, stopped.

use std::{net::SocketAddr, path::Path, process::Stdio, time::Duration};

use anyhow::{Context as _, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use crate::servers::{Hello, Kind, Usage};

/// Compiling the component, where it is not cached, takes the longest.
const START_TIMEOUT: Duration = Duration::from_secs(60);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Raises this process's limit of open files, and that of those it starts, as far as it may: over TCP each session has a
/// socket at either end.
pub(crate) fn raise_file_limit() -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised).context("the limit of open files cannot be raised")
}

/// A running server. Its process is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    kind: Kind,
    address: SocketAddr,
    hash: Vec<u8>,
    child: Child,
    asking: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Server {
    /// Starts this program again as that server, and waits until it serves.
    pub(crate) async fn start(kind: Kind, component: &Path) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let mut child = Command::new(program)
            .args(["serve", &kind.to_string()])
            .arg(component)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start a server's process")?;
        let asking = child.stdin.take().context("the server has no input")?;
        let answers = child.stdout.take().context("the server has no output")?;
        let mut answers = BufReader::new(answers).lines();
        let hello: Hello = tokio::time::timeout(START_TIMEOUT, answer(&mut answers))
            .await
            .context("the server did not start in time")??;
        Ok(Self {
            kind,
            address: hello.address,
            hash: hello.hash,
            child,
            asking,
            answers,
        })
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The SHA-256 of its certificate.
    pub(crate) fn hash(&self) -> &[u8] {
        &self.hash
    }

    /// What the process used since it began. It answers itself, because only it can tell its CPU time more exactly than
    /// to a clock tick.
    pub(crate) async fn usage(&mut self) -> anyhow::Result<Usage> {
        self.asking.write_all(b"\n").await?;
        self.asking.flush().await?;
        tokio::time::timeout(ANSWER_TIMEOUT, answer(&mut self.answers))
            .await
            .context("the server does not answer")?
    }

    /// Ends the process, and fails if it had ended before.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        let early = self.child.try_wait()?;
        ensure!(early.is_none(), "the server ended by itself: {early:?}");
        drop(self.asking);
        tokio::time::timeout(ANSWER_TIMEOUT, self.child.wait())
            .await
            .context("the server does not stop")??;
        Ok(())
    }
}

async fn answer<T: serde::de::DeserializeOwned>(
    answers: &mut Lines<BufReader<ChildStdout>>,
) -> anyhow::Result<T> {
    let line = answers.next_line().await?;
    let line = line.context("the server ended; it says why above")?;
    Ok(serde_json::from_str(&line)?)
}
