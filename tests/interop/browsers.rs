//! The browsers, which do the list in a page: `w3c.js`.

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinSet,
};

use super::{Answers, Item, absent, answer, asked, check, order, server, table};
use crate::{
    browser::{Browser, Firefox},
    harness::TestServer,
};

pub(crate) async fn chromium() {
    let Some(path) = Browser::find() else {
        return absent(&table::CHROMIUM);
    };
    let (server, items, page) = (
        server(table::CHROMIUM.quirks).await,
        asked(&table::CHROMIUM),
        Page::serve().await,
    );
    let browser = Browser::launch(path).await.unwrap();
    let tab = browser.open(&page.url).await.unwrap();
    let answers = tab.evaluate(&call(&server, &items)).await.unwrap();
    let answers = answers.as_str().unwrap();
    check(&table::CHROMIUM, &items, &read(answers)).await;
}

pub(crate) async fn firefox() {
    let Some(path) = Firefox::find() else {
        return absent(&table::FIREFOX);
    };
    let (server, items, page) = (
        server(table::FIREFOX.quirks).await,
        asked(&table::FIREFOX),
        Page::serve().await,
    );
    let mut browser = Firefox::launch(path).await.unwrap();
    browser.open(&page.url).await.unwrap();
    let answers = browser.evaluate(&call(&server, &items)).await.unwrap();
    check(&table::FIREFOX, &items, &read(&answers)).await;
}

/// The expression that does the list.
fn call(server: &TestServer, items: &[Item]) -> String {
    format!("({})({})", include_str!("w3c.js"), order(server, items))
}

fn read(answers: &str) -> Answers {
    let answers: Vec<Value> = serde_json::from_str(answers).unwrap();
    answers.into_iter().map(answer).collect()
}

/// An empty page on this machine, which browsers trust as if it came by HTTPS.
struct Page {
    url: String,
    _serving: JoinSet<()>,
}

impl Page {
    async fn serve() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                // One short request, one short answer; a browser that asks otherwise gets no page, and the test fails.
                _ = stream.read(&mut [0; 4096]).await;
                let answer = b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\n\r\n<!doctype html>";
                _ = stream.write_all(answer).await;
            }
        });
        Self {
            url,
            _serving: serving,
        }
    }
}
