//! web-transport-quinn does the common list: each session on a connection of its own.

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use web_transport_quinn::{
    ClientError, ConnectError, ReadError, RecvStream, SendStream, Session, SessionError,
    WebTransportError,
    proto::{self, ConnectRequest},
};

use super::{items::Item, rust_clients::pattern};
use crate::harness::TestServer;

/// Does an item, and returns what it saw.
pub(crate) async fn does(server: &TestServer, item: &Item) -> Result<Value> {
    if item.act == "refused" {
        return refused(server, item).await;
    }
    let session = connect(server, item).await?;
    match item.act {
        "bidi" => echo(&session, item.size).await?,
        "uni" => {
            send(session.open_uni().await?, item.size).await?;
            receive(session.accept_uni().await?, item.size).await?;
        }
        "datagram" => datagram(&session, item.size).await?,
        "pushed" => {
            let mut bidi = session.accept_bi().await?.1;
            let mut uni = session.accept_uni().await?;
            let both = [bidi.read_to_end(99).await?, uni.read_to_end(99).await?];
            return Ok(json!(
                both.map(|word| String::from_utf8_lossy(&word).into_owned())
            ));
        }
        "many" => {
            for _ in 0..item.count {
                echo(&session, item.size).await?;
            }
        }
        "reset" => {
            let (mut send, _recv) = begin(&session).await?;
            send.reset(item.code)?;
            echo(&session, 1).await?;
        }
        "stop" => {
            let (_send, mut recv) = begin(&session).await?;
            recv.stop(item.code)?;
            echo(&session, 1).await?;
        }
        "read_reset" => {
            let (mut send, mut recv) = session.open_bi().await?;
            send.write_all(b"x").await?;
            return match recv.read(&mut [0]).await {
                Err(ReadError::Reset(code)) => Ok(json!(code)),
                other => bail!("{other:?}"),
            };
        }
        "read_stop" => {
            let (mut send, _recv) = session.open_bi().await?;
            send.write_all(b"x").await?;
            return Ok(json!(send.stopped().await?));
        }
        "close" => {
            echo(&session, 1).await?;
            session.close(item.code, item.reason.as_bytes());
            session.closed().await;
            return Ok(json!("closed"));
        }
        "read_close" => {
            let (mut send, _recv) = session.open_bi().await?;
            send.write_all(b"x").await?;
            let closed = session.closed().await;
            let SessionError::WebTransportError(WebTransportError::Closed(code, reason)) = closed
            else {
                bail!(closed);
            };
            return Ok(json!([code, reason]));
        }
        "protocol" => return Ok(json!(session.protocol())),
        other => bail!("it cannot do {other}"),
    }
    Ok(json!("same"))
}

async fn connect(server: &TestServer, item: &Item) -> Result<Session, ClientError> {
    let url = format!("https://{}{}", server.address, item.path);
    let request = ConnectRequest::new(url::Url::parse(&url).unwrap())
        .with_protocols(item.protocols.iter().map(ToString::to_string));
    server.client().connect(request).await
}

async fn refused(server: &TestServer, item: &Item) -> Result<Value> {
    match connect(server, item).await {
        Err(ClientError::HttpError(ConnectError::ProtoError(
            proto::ConnectError::WrongStatus(Some(status)),
        ))) => Ok(json!(status.as_u16())),
        Err(other) => bail!(other),
        Ok(_) => bail!("accepted"),
    }
}

async fn echo(session: &Session, size: usize) -> Result<()> {
    let (sending, receiving) = session.open_bi().await?;
    tokio::try_join!(send(sending, size), receive(receiving, size))?;
    Ok(())
}

async fn send(mut stream: SendStream, size: usize) -> Result<()> {
    stream.write_all(&pattern(size)).await?;
    Ok(stream.finish()?)
}

async fn receive(mut stream: RecvStream, size: usize) -> Result<()> {
    let received = stream.read_to_end(size + 1).await?;
    ensure!(received == pattern(size), "{} other bytes", received.len());
    Ok(())
}

async fn datagram(session: &Session, size: usize) -> Result<()> {
    let sent = bytes::Bytes::from(pattern(size));
    let mut again = tokio::time::interval(std::time::Duration::from_millis(200));
    let received = loop {
        tokio::select! {
            // Any datagram may be lost.
            _ = again.tick() => session.send_datagram(sent.clone())?,
            received = session.read_datagram() => break received?,
        }
    };
    ensure!(received == sent, "{received:?}");
    Ok(())
}

/// A stream that has carried a byte to and fro.
async fn begin(session: &Session) -> Result<(SendStream, RecvStream)> {
    let (mut send, mut recv) = session.open_bi().await?;
    send.write_all(b"x").await?;
    recv.read(&mut [0]).await?.context("the stream ended")?;
    Ok((send, recv))
}
