//! Guests written by hand: a core module in text becomes a component, with no guest toolchain.

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use crate::harness::{TestServer, root, within};

/// The component of `guests/wat/echo.wat`, changed.
fn echo(change: impl FnOnce(String) -> String) -> tempfile::NamedTempFile {
    let wat = std::fs::read_to_string(root().join("guests/wat/echo.wat")).unwrap();
    let file = tempfile::NamedTempFile::with_suffix(".wasm").unwrap();
    std::fs::write(file.path(), component(&change(wat)).unwrap()).unwrap();
    file
}

/// The echo, whose allocations for what the host passes to it never return.
pub(crate) fn never_allocates() -> tempfile::NamedTempFile {
    echo(|wat| {
        let body = "(local $start i32) (local $missing i32)";
        assert!(wat.contains(body));
        wat.replace(body, &format!("{body} (loop $ever (br $ever))"))
    })
}

/// Makes a component of a core module whose imports and exports bear the canonical names of our world.
fn component(wat: &str) -> anyhow::Result<Vec<u8>> {
    let mut module = wat::parse_str(wat)?;
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(root().join("wit"))?;
    let world = resolve.select_world(&[package], Some("session-handler"))?;
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)?;
    ComponentEncoder::default()
        .validate(true)
        .module(&module)?
        .encode()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_written_by_hand_echoes_streams_and_datagrams() {
    let file = echo(|wat| wat);
    let server = TestServer::with(|config| {
        config.tenants[0].routes.truncate(1);
        file.path()
            .clone_into(&mut config.tenants[0].routes[0].component);
    })
    .await;
    let session = server.connect("/").await;
    let (mut send, mut recv) = session.open_bi().await.unwrap();
    send.write_all(b"by hand").await.unwrap();
    send.finish().unwrap();
    assert_eq!(
        within("the echo", recv.read_to_end(99)).await.unwrap(),
        b"by hand"
    );
    session
        .send_datagram(b"datagram".as_slice().into())
        .unwrap();
    assert_eq!(
        within("the datagram", session.read_datagram())
            .await
            .unwrap()[..],
        *b"datagram"
    );
}
