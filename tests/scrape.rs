//! A client of the admin listener, of bare bytes, and what it reads out of metrics.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use wharf::config::{Admin, Config};

use crate::harness::{TestServer, within};

/// An answer of the admin listener.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

/// Asks with these fields, and no others: `Host` is one of them.
pub(crate) async fn ask_with(to: SocketAddr, request: &str, fields: &[(&str, &str)]) -> Answer {
    let mut text = format!("{request} HTTP/1.1\r\n");
    for (name, value) in fields {
        text += &format!("{name}: {value}\r\n");
    }
    text += "\r\n";
    let answer = within("the answer of the admin listener", async {
        let mut tcp = TcpStream::connect(to).await.unwrap();
        tcp.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        tcp.read_to_string(&mut answer).await.unwrap();
        answer
    });
    let answer = answer.await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    Answer {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head: head.to_ascii_lowercase(),
        body: body.to_owned(),
    }
}

/// Asks as a program on this machine does.
pub(crate) async fn ask(to: SocketAddr, request: &str) -> Answer {
    ask_with(to, request, &[("host", &to.to_string())]).await
}

/// Gives a configuration an admin listener on a free port.
pub(crate) fn observed(config: &mut Config) {
    let mut admin = Admin::default();
    admin.listen.set_port(0);
    config.admin = Some(admin);
}

impl TestServer {
    /// A server with the defaults, and an admin listener.
    pub(crate) async fn observed() -> Self {
        Self::with(observed).await
    }

    /// What the admin listener answers.
    pub(crate) async fn admin(&self, request: &str) -> Answer {
        ask(self.admin.unwrap(), request).await
    }

    /// The value of a metric, which is named as a scrape has it, without the prefix of all; 0 where it is not told.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let Answer { status, body, .. } = self.admin("GET /metrics").await;
        assert_eq!(status, 200, "{body}");
        let value = body
            .lines()
            .find_map(|line| line.strip_prefix("wharf_")?.strip_prefix(name));
        value.map_or(0.0, |value| value.trim().parse().unwrap())
    }

    /// Waits until a metric has that value. There is no event for that.
    pub(crate) async fn measures(&self, name: &str, value: f64) {
        let mut again = tokio::time::interval(std::time::Duration::from_millis(5));
        within(&format!("{name} to be {value}"), async {
            while self.metric(name).await.to_bits() != value.to_bits() {
                again.tick().await;
            }
        })
        .await;
    }

    /// The live sessions that the admin listener tells.
    pub(crate) async fn told_sessions(&self, query: &str) -> Vec<Value> {
        let Answer { status, body, .. } = self.admin(&format!("GET /sessions{query}")).await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }
}
