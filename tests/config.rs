//! The operator's file and its commands, `wharf check`, `wharf config schema` and `wharf serve`, as a stranger meets them.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use crate::{
    binary::program,
    harness::{guest, root},
};

mod example;
mod files;
mod problems;
pub(crate) mod serve;

/// A folder with an operator's file, and what the file names.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    /// With that text for a file.
    pub(crate) fn with(text: &str) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.put("wharf.toml", text);
        folder
    }

    /// A file of one tenant that has that text besides its name and certificate, and a route to the echo component.
    fn with_echo(tenant: &str) -> Self {
        let folder = Self::with(&format!(
            r#"listen = ["127.0.0.1:0"]
cache = {:?}
[[tenant]]
name = "a"
{tenant}
[[tenant.route]]
path = "/"
component = "echo.wasm"
"#,
            root().join("target/test-cache")
        ));
        std::fs::copy(guest("echo"), folder.path("echo.wasm")).unwrap();
        folder
    }

    pub(crate) fn folder(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn put(&self, name: &str, content: &str) {
        std::fs::write(self.path(name), content).unwrap();
    }

    /// What `wharf COMMAND` says of the file: its exit code, and the lines of the problems without the folder's name.
    fn problems(&self, command: &str) -> (Option<i32>, Vec<String>) {
        let file = self.path("wharf.toml");
        let output = wharf(&[command, "--config", file.to_str().unwrap()], &[]);
        assert_eq!(text(&output.stdout), "");
        let error = text(&output.stderr);
        let error = error.replace(&format!("{}/", self.0.path().display()), "");
        let mut lines = error.lines();
        let first = lines.next().unwrap_or_default();
        let lines: Vec<_> = lines
            .map(|line| line.strip_prefix("wharf.toml:").unwrap().to_owned())
            .collect();
        let problems = if lines.len() == 1 {
            "problem"
        } else {
            "problems"
        };
        let count = format!("wharf: {} {problems} in wharf.toml", lines.len());
        assert_eq!(first, count, "{error}");
        (output.status.code(), lines)
    }
}

/// Runs the program to its end, with nothing of this environment that it reads.
fn wharf(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    command(Path::new("."), environment)
        .args(arguments)
        .output()
        .unwrap()
}

fn command(folder: &Path, environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(program());
    command.current_dir(folder);
    for (name, _) in std::env::vars() {
        if name.starts_with("WHARF_") {
            command.env_remove(name);
        }
    }
    command.envs(environment.iter().copied());
    command
}

fn text(output: &[u8]) -> String {
    String::from_utf8(output.to_vec()).unwrap()
}
