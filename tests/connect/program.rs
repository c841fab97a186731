//! `wharf connect` as a person, or a script, runs it.

use std::process::Stdio;

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
};

use crate::{
    binary::program,
    harness::{TestServer, within},
    peer::{Dir, Http},
};

/// The program, connected or about to be. Killed when dropped.
pub(super) struct Client {
    child: Child,
    input: Option<ChildStdin>,
    lines: tokio::io::Lines<BufReader<ChildStdout>>,
    errors: ChildStderr,
}

/// How it ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) code: Option<i32>,
    /// What was left to be read.
    pub(super) lines: Vec<String>,
    /// What it said on standard error.
    pub(super) errors: String,
}

impl Client {
    /// Runs `wharf connect` with these arguments.
    pub(super) fn run<S: AsRef<std::ffi::OsStr>>(arguments: &[S]) -> Self {
        let mut child = Command::new(program())
            .arg("connect")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self {
            input: child.stdin.take(),
            lines: BufReader::new(child.stdout.take().unwrap()).lines(),
            errors: child.stderr.take().unwrap(),
            child,
        }
    }

    /// Asks a server of ours for that path over that version only, trusting its certificate.
    pub(super) fn to(http: Http, server: &TestServer, path: &str, more: &[&str]) -> Self {
        let url = url(server, path);
        let hash = format!("sha256:{}", hexadecimal(&server.hash));
        Self::run(&[&[url.as_str(), "--cert-hash", &hash, only(http)], more].concat())
    }

    /// The same, once there is a session.
    pub(super) async fn connected(http: Http, server: &TestServer, path: &str) -> Self {
        let mut client = Self::to(http, server, path, &[]);
        client.expect(&connected(http, 200)).await;
        client
    }

    /// Types a line.
    pub(super) async fn enter(&mut self, line: &str) {
        self.enter_bytes(format!("{line}\n").as_bytes()).await;
    }

    pub(super) async fn enter_bytes(&mut self, bytes: &[u8]) {
        let input = self.input.as_mut().unwrap();
        within("the line to be read", input.write_all(bytes))
            .await
            .unwrap();
    }

    /// The standard input, for a task of its own.
    pub(super) fn take_input(&mut self) -> ChildStdin {
        self.input.take().unwrap()
    }

    /// The next line.
    pub(super) async fn line(&mut self) -> String {
        let line = within("a line", self.lines.next_line()).await.unwrap();
        line.expect("the program goes on")
    }

    /// The next line, which must be that.
    pub(super) async fn expect(&mut self, line: &str) {
        assert_eq!(self.line().await, line);
    }

    /// The next line that starts so.
    pub(super) async fn until(&mut self, start: &str) -> String {
        loop {
            let line = self.line().await;
            if line.starts_with(start) {
                return line;
            }
        }
    }

    /// Asks it to end, as Ctrl-C does.
    #[cfg(unix)]
    pub(super) async fn interrupt(&self) {
        let pid = self.child.id().unwrap().to_string();
        let sent = Command::new("kill").args(["-INT", &pid]).status().await;
        assert!(sent.unwrap().success());
    }

    /// Ends its input, and waits until it has ended by itself.
    pub(super) async fn end(mut self) -> Ended {
        self.input = None;
        let mut lines = Vec::new();
        while let Some(line) = within("a line", self.lines.next_line()).await.unwrap() {
            lines.push(line);
        }
        let mut errors = String::new();
        within("the errors", self.errors.read_to_string(&mut errors))
            .await
            .unwrap();
        let status = within("the program to end", self.child.wait()).await;
        Ended {
            code: status.unwrap().code(),
            lines,
            errors,
        }
    }
}

impl Ended {
    /// It ended well, with that line last.
    pub(super) fn well(&self, last: &str) {
        assert_eq!(self.code, Some(0), "{self:?}");
        assert_eq!(
            self.lines.last().map(String::as_str),
            Some(last),
            "{self:?}"
        );
    }

    /// It ended badly, with that code, and said all of these on standard error.
    pub(super) fn badly(&self, code: i32, says: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        for said in says {
            assert!(self.errors.contains(said), "{said:?} is not in {self:?}");
        }
    }
}

/// The option that has one version tried only.
pub(super) const fn only(http: Http) -> &'static str {
    match http {
        Http::Http3 => "--http3",
        Http::Http2 => "--http2",
    }
}

/// The line that begins a session with a server of ours.
pub(super) fn connected(http: Http, status: u16) -> String {
    format!("connected {} draft-15 status {status}", http.name())
}

/// The id of a stream that the program opens, the nth of its kind from 0 on. Over HTTP/3 its control stream has an
/// id too, and QPACK has no streams.
pub(super) const fn ours(http: Http, dir: Dir, nth: u64) -> u64 {
    let first = match (http, dir) {
        (Http::Http3, Dir::Bi) => 4,
        (Http::Http3, Dir::Uni) => 6,
        (Http::Http2, Dir::Bi) => 0,
        (Http::Http2, Dir::Uni) => 2,
    };
    first + 4 * nth
}

/// The id of the first stream of a kind that a server of ours opens.
pub(super) const fn theirs(http: Http, dir: Dir) -> u64 {
    match (http, dir) {
        (_, Dir::Bi) => 1,
        (Http::Http3, Dir::Uni) => 7,
        (Http::Http2, Dir::Uni) => 3,
    }
}

pub(super) fn url(server: &TestServer, path: &str) -> String {
    format!("https://{}{path}", server.address)
}

pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
