//! The `wharf` program as a person runs it.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::OnceLock,
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, ChildStdout, Command},
    sync::watch,
    task::JoinSet,
};
use web_transport_quinn::{ClientBuilder, Session};

use crate::harness::{cargo, within};

/// The program, built if it is not.
pub(crate) fn program() -> PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let build = || {
        let output = cargo()
            .args([
                // Without `-p`, so that features are unified as in the build of the tests, and nothing is built twice.
                "build",
                "--bin",
                "wharf",
                "--message-format",
                "json-render-diagnostics",
            ])
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

/// How long the program may take to say where it serves: it may have to build its guest first, and wait for others that
/// build theirs.
const BUILD_PATIENCE: Duration = Duration::from_secs(300);

/// What stands behind a word in the next line that has it.
async fn told(lines: &mut Lines, word: &str) -> String {
    loop {
        let line = tokio::time::timeout(BUILD_PATIENCE, lines.next_line()).await;
        let Ok(Ok(Some(line))) = line else {
            panic!("the program does not tell its {word}: {line:?}");
        };
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
    /// Where the admin listener is, where there is one.
    pub(crate) admin: Option<String>,
    log: watch::Receiver<Vec<String>>,
    child: Child,
    _readers: JoinSet<()>,
}

impl Wharf {
    /// Runs a component, or a crate's folder, on free ports.
    pub(crate) async fn run(handler: &Path) -> Self {
        Self::run_with(handler, &[]).await
    }

    pub(crate) async fn run_with(handler: &Path, more: &[&str]) -> Self {
        let mut command = Command::new(program());
        command.arg("run").arg(handler).args(more);
        Self::start(command).await
    }

    /// Starts a command line that ends in `wharf run HANDLER`, on free ports.
    pub(crate) async fn start(mut command: Command) -> Self {
        let mut child = command
            .args(["--listen", "127.0.0.1:0", "--page", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut errors = BufReader::new(child.stderr.take().unwrap()).lines();
        let (sender, log) = watch::channel(Vec::new());
        let mut readers = JoinSet::new();
        readers.spawn(async move {
            while let Ok(Some(line)) = errors.next_line().await {
                sender.send_modify(|lines| lines.push(line));
            }
        });
        let page = told(&mut lines, "page").await;
        let session = told(&mut lines, "session").await;
        let hash = told(&mut lines, "sha-256").await;
        // All is said in one write: an empty line follows where there is no admin listener.
        let next = lines.next_line().await.unwrap().unwrap_or_default();
        let admin = next.strip_prefix("  admin    ").map(str::to_owned);
        Self {
            page,
            session,
            hash,
            admin,
            log,
            child,
            _readers: readers,
        }
    }

    /// Waits for a line of the log with that in it.
    pub(crate) async fn logs(&self, part: &str) {
        self.logs_times(part, 1).await;
    }

    /// Waits for so many lines of the log with that in them.
    pub(crate) async fn logs_times(&self, part: &str, times: usize) {
        let mut log = self.log.clone();
        let found = log.wait_for(|lines| {
            let found = lines.iter().filter(|line| line.contains(part));
            found.count() >= times
        });
        let found = tokio::time::timeout(crate::harness::PATIENCE, found)
            .await
            .is_ok_and(|found| found.is_ok());
        assert!(
            found,
            "not {times} lines have {part:?} among {:#?}",
            self.log.borrow()
        );
    }

    /// The lines of the log so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.log.borrow().clone()
    }

    /// Whether a line of the log has that in it.
    pub(crate) fn has_logged(&self, part: &str) -> bool {
        self.log.borrow().iter().any(|line| line.contains(part))
    }

    /// Asks the program to end, as Ctrl-C does, and waits until it has: its exit code.
    #[cfg(unix)]
    pub(crate) async fn interrupt(self) -> Option<i32> {
        self.signal("INT").await;
        self.exit().await
    }

    /// Sends the program a signal, by its name.
    #[cfg(unix)]
    pub(crate) async fn signal(&self, name: &str) {
        let pid = self.child.id().unwrap().to_string();
        let mut kill = Command::new("kill");
        let sent = kill.args([&format!("-{name}"), &pid]).status().await;
        assert!(sent.unwrap().success());
    }

    /// Waits until the program has ended: its exit code.
    #[cfg(unix)]
    pub(crate) async fn exit(mut self) -> Option<i32> {
        within("the program to end", self.child.wait())
            .await
            .unwrap()
            .code()
    }

    /// Where sessions are served.
    pub(crate) fn address(&self) -> std::net::SocketAddr {
        let address = self.session.strip_prefix("https://").unwrap();
        address.trim_end_matches('/').parse().unwrap()
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

    /// The page server's answer to a GET, head and body.
    pub(crate) async fn get(&self, file: &str) -> String {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let address = self.page.strip_prefix("http://").unwrap();
        let address = address.trim_end_matches('/');
        let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
        let request =
            format!("GET /{file} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        within("the answer", socket.read_to_string(&mut answer))
            .await
            .unwrap();
        answer
    }

    /// How many files the program may open, and how many it might allow itself.
    pub(crate) fn open_files(&self) -> (String, String) {
        let limits =
            std::fs::read_to_string(format!("/proc/{}/limits", self.child.id().unwrap())).unwrap();
        let line = limits
            .lines()
            .find_map(|line| line.strip_prefix("Max open files"));
        let mut numbers = line.unwrap().split_whitespace().map(str::to_owned);
        (numbers.next().unwrap(), numbers.next().unwrap())
    }

    /// The resident memory of the program.
    pub(crate) fn resident_kib(&self) -> usize {
        resident_kib(self.child.id().unwrap())
    }
}

/// The resident memory of a program.
pub(crate) fn resident_kib(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.unwrap().trim().trim_end_matches(" kB");
    kib.parse().unwrap()
}

/// The CPU time that a program has spent.
pub(crate) fn cpu(pid: u32) -> Duration {
    const TICKS_PER_SECOND: u64 = 100; // what Linux tells programs, whatever it uses itself
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name, in brackets, may have spaces in it. User time and system time are the 12th and 13th behind it.
    let (_, behind) = stat.rsplit_once(')').unwrap();
    let times = behind.split_whitespace().skip(11).take(2);
    let ticks: u64 = times.map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
}
