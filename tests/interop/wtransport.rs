//! wtransport does the common list: each session on a connection of its own. Its codes are QUIC's; they are mapped here.

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use wharf_proto::{
    code::{AppCode, HttpCode},
    varint,
};
use wtransport::{
    ClientConfig, Connection, Endpoint, RecvStream, SendStream, VarInt,
    error::{ConnectingError, ConnectionError, StreamReadError, StreamWriteError},
    tls::Sha256Digest,
};

use super::{items::Item, rust_clients::pattern};
use crate::harness::TestServer;

/// Does an item, and returns what it saw.
pub(crate) async fn does(server: &TestServer, item: &Item) -> Result<Value> {
    let connection = match connect(server, item).await {
        Err(ConnectingError::SessionRejected) if item.act == "refused" => {
            return Ok(json!("refused"));
        }
        other => other?,
    };
    match item.act {
        "bidi" => echo(&connection, item.size).await?,
        "uni" => {
            send(connection.open_uni().await?.await?, item.size).await?;
            receive(connection.accept_uni().await?, item.size).await?;
        }
        "datagram" => datagram(&connection, item.size).await?,
        "pushed" => {
            let bidi = read_to_end(connection.accept_bi().await?.1).await?;
            let uni = read_to_end(connection.accept_uni().await?).await?;
            return Ok(json!(
                [bidi, uni].map(|word| String::from_utf8_lossy(&word).into_owned())
            ));
        }
        "many" => {
            for _ in 0..item.count {
                echo(&connection, item.size).await?;
            }
        }
        "reset" => {
            let (mut send, _recv) = begin(&connection).await?;
            send.reset(to_http3(item.code))?;
            echo(&connection, 1).await?;
        }
        "stop" => {
            let (_send, recv) = begin(&connection).await?;
            recv.stop(to_http3(item.code));
            echo(&connection, 1).await?;
        }
        "read_reset" => {
            let (mut send, mut recv) = connection.open_bi().await?.await?;
            send.write_all(b"x").await?;
            return match recv.read(&mut [0]).await {
                Err(StreamReadError::Reset(code)) => Ok(json!(from_http3(code))),
                other => bail!("{other:?}"),
            };
        }
        "read_stop" => {
            let (mut send, _recv) = connection.open_bi().await?.await?;
            send.write_all(b"x").await?;
            let stopped = send.stopped().await;
            let StreamWriteError::Stopped(code) = stopped else {
                bail!(stopped);
            };
            return Ok(json!(from_http3(code)));
        }
        "close" => {
            echo(&connection, 1).await?;
            connection.close(VarInt::from_u32(item.code), item.reason.as_bytes());
            connection.closed().await;
            return Ok(json!("closed"));
        }
        "read_close" => {
            let (mut send, _recv) = connection.open_bi().await?.await?;
            send.write_all(b"x").await?;
            return closed(&connection).await;
        }
        other => bail!("it cannot do {other}"),
    }
    Ok(json!("same"))
}

/// The code and reason with which the server closed.
async fn closed(connection: &Connection) -> Result<Value> {
    let closed = connection.closed().await;
    let ConnectionError::ApplicationClosed(close) = closed else {
        bail!(closed);
    };
    let reason = String::from_utf8_lossy(close.reason());
    Ok(json!([close.code().into_inner(), reason]))
}

async fn connect(server: &TestServer, item: &Item) -> Result<Connection, ConnectingError> {
    let config = ClientConfig::builder()
        .with_bind_default()
        .with_server_certificate_hashes([Sha256Digest::new(server.hash)])
        .build();
    let url = format!("https://{}{}", server.address, item.path);
    Endpoint::client(config).unwrap().connect(url).await
}

fn to_http3(code: u32) -> VarInt {
    VarInt::try_from_u64(AppCode(code).to_http3().into_inner()).unwrap()
}

fn from_http3(code: VarInt) -> Option<u32> {
    let code = HttpCode::from(varint::VarInt::saturating(code.into_inner()));
    AppCode::from_http3(code).map(|code| code.0)
}

async fn echo(connection: &Connection, size: usize) -> Result<()> {
    let (sending, receiving) = connection.open_bi().await?.await?;
    tokio::try_join!(send(sending, size), receive(receiving, size))?;
    Ok(())
}

async fn send(mut stream: SendStream, size: usize) -> Result<()> {
    stream.write_all(&pattern(size)).await?;
    Ok(stream.finish().await?)
}

async fn receive(stream: RecvStream, size: usize) -> Result<()> {
    let received = read_to_end(stream).await?;
    ensure!(received == pattern(size), "{} other bytes", received.len());
    Ok(())
}

async fn read_to_end(mut stream: RecvStream) -> Result<Vec<u8>> {
    let (mut received, mut piece) = (Vec::new(), [0; 4096]);
    while let Some(size) = stream.read(&mut piece).await? {
        received.extend_from_slice(&piece[..size]);
    }
    Ok(received)
}

async fn datagram(connection: &Connection, size: usize) -> Result<()> {
    let sent = pattern(size);
    let mut again = tokio::time::interval(std::time::Duration::from_millis(200));
    let received = loop {
        tokio::select! {
            // Any datagram may be lost.
            _ = again.tick() => connection.send_datagram(&sent)?,
            received = connection.receive_datagram() => break received?,
        }
    };
    ensure!(*received == *sent, "{received:?}");
    Ok(())
}

/// A stream that has carried a byte to and fro.
async fn begin(connection: &Connection) -> Result<(SendStream, RecvStream)> {
    let (mut send, mut recv) = connection.open_bi().await?.await?;
    send.write_all(b"x").await?;
    recv.read(&mut [0]).await?.context("the stream ended")?;
    Ok((send, recv))
}
