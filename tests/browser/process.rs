//! A browser's processes, and the folder they write to.

use super::devtools::COMMAND;
use anyhow::{Context as _, Result, bail};
use std::env;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::ChildStderr;
use tokio::task::JoinSet;

/// The browser of this machine: what the variable names, or the first of the usual names on the `PATH`.
pub(super) fn find(variable: &str, names: &[&str]) -> Option<PathBuf> {
    if let Some(named) = env::var_os(variable) {
        return Some(named.into());
    }
    let path = env::var_os("PATH")?;
    names
        .iter()
        .flat_map(|name| env::split_paths(&path).map(move |folder| folder.join(name)))
        .find(|file| file.is_file())
}

/// A running browser that has said where it listens. Dropping it ends it.
pub(super) struct Process {
    /// Where it listens.
    pub(super) url: String,
    _stderr: JoinSet<()>,
    _running: Running,
}

impl Process {
    /// Starts a browser with a profile of its own, and reads its log until a line begins with what it says before the
    /// address.
    pub(super) async fn start(command: Command, profile: TempDir, says: &str) -> Result<Self> {
        let mut running = Running::start(command, profile)?;
        let stderr = running.child.stderr.take().context("stderr is piped")?;
        let mut lines = BufReader::new(ChildStderr::from_std(stderr)?).lines();
        let url = tokio::time::timeout(COMMAND, address(&mut lines, says)).await;
        let url = url.context("the browser does not say where it listens")??;
        let mut stderr = JoinSet::new(); // read to its end, or the browser stops when the pipe is full
        stderr.spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self {
            url,
            _stderr: stderr,
            _running: running,
        })
    }
}

struct Running {
    child: Child,
    _profile: TempDir,
}

impl Running {
    fn start(mut command: Command, profile: TempDir) -> Result<Self> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let child = command.process_group(0).spawn();
        let child = child.with_context(|| command.get_program().display().to_string())?;
        Ok(Self {
            child,
            _profile: profile,
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The whole group: helpers that outlive the browser would go on writing to the profile while it is deleted.
        // A failure has nobody to be told to, and means that they are gone already.
        let group = format!("-{}", self.child.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn address(lines: &mut Lines<BufReader<ChildStderr>>, says: &str) -> Result<String> {
    let mut said = Vec::new();
    while let Some(line) = lines.next_line().await? {
        if let Some(url) = line.strip_prefix(says) {
            return Ok(url.to_owned());
        }
        said.push(line);
    }
    bail!("the browser ended at once: {said:#?}")
}
