//! The README is what a newcomer does: its commands run, its handler is built and served.

use crate::{
    binary::{Wharf, program},
    harness::{TestServer, cargo, root, within},
};

fn readme() -> String {
    std::fs::read_to_string(root().join("README.md")).unwrap()
}

/// The code blocks of a language, in order.
fn blocks(readme: &str, language: &str) -> Vec<String> {
    let opening = format!("```{language}\n");
    let blocks = readme.split(&opening).skip(1);
    blocks
        .map(|rest| rest.split("```").next().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_command_serves_a_page_that_knows_where_its_session_is() {
    let first = blocks(&readme(), "sh").remove(0);
    let mut words = first.split_whitespace();
    assert_eq!(words.next(), Some("cargo"));
    program(); // so that what follows is no build, which may take long
    let mut command = cargo();
    command.args(words);
    let wharf = Wharf::start(command.into()).await;
    let told = wharf.get("session.json").await;
    assert!(told.contains(&wharf.session), "{told}");
    assert!(told.contains(&wharf.hash), "{told}");
    assert!(wharf.get("").await.contains("<title>"));
    let session = wharf.connect("/").await;
    let (mut send, mut recv) = session.open_bi().await.unwrap();
    send.write_all(b"hello").await.unwrap();
    send.finish().unwrap();
    let echo = within("the echo", recv.read_to_end(99)).await.unwrap();
    assert_eq!(echo, b"hello");
}

#[test]
fn the_second_command_is_the_one_that_ci_runs() {
    let second = blocks(&readme(), "sh").remove(1);
    let ci = std::fs::read_to_string(root().join(".ci/run")).unwrap();
    assert!(ci.lines().any(|line| line == second.trim()), "{second}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_handler_echoes() {
    // As deep below the root as the guests are, because its path to the WIT says so.
    let folder = root().join("target/readme-handler");
    std::fs::create_dir_all(folder.join("src")).unwrap();
    let alone = "\n[workspace]\n[profile.release]\nlto = \"fat\"\ncodegen-units = 1\n"; // as the guests are built
    let manifest = blocks(&readme(), "toml").remove(0) + alone;
    std::fs::write(folder.join("Cargo.toml"), manifest).unwrap();
    std::fs::copy(root().join("Cargo.lock"), folder.join("Cargo.lock")).unwrap();
    // What the guests have built is built already.
    std::fs::create_dir_all(folder.join(".cargo")).unwrap();
    let shared = format!("build.target-dir = {:?}\n", root().join("target"));
    std::fs::write(folder.join(".cargo/config.toml"), shared).unwrap();
    let handler = blocks(&readme(), "rust").remove(0);
    assert!(handler.lines().count() <= 36, "no longer a small handler");
    std::fs::write(folder.join("src/lib.rs"), handler).unwrap();
    let component = tokio::task::spawn_blocking(move || wharf::guest::build(&folder, |_| {}))
        .await
        .unwrap()
        .unwrap();
    let server = TestServer::with(|config| {
        config.tenants[0].routes.truncate(1);
        config.tenants[0].routes[0].component = component;
    })
    .await;
    let session = server.connect("/").await;
    let (mut send, mut recv) = session.open_bi().await.unwrap();
    send.write_all(b"small").await.unwrap();
    send.finish().unwrap();
    let echo = within("the echo", recv.read_to_end(99)).await.unwrap();
    assert_eq!(echo, b"small");
}

#[test]
fn it_has_no_more_than_280_lines() {
    assert!(readme().lines().count() <= 280);
}
