//! Bodies of plain HTTP/2: written as flow control has room, for the native server and its client alike.

use std::{future::poll_fn, task::Poll};

use anyhow::Context as _;
use bytes::Bytes;
use h2::SendStream;
use wharf::transport::Limits;

/// What wharf has `h2` hold of one stream.
pub(crate) const SEND_BUFFER: usize = 256 << 10;

/// The window of a stream and of a connection: that of wharf with one session.
pub(crate) fn window() -> u32 {
    Limits::default().session.session_receive_credit + (64 << 10)
}

/// Writes all of it, and the end of the body after it where `fin` is set.
pub(crate) async fn write(
    send: &mut SendStream<Bytes>,
    mut data: Bytes,
    fin: bool,
) -> anyhow::Result<()> {
    while !data.is_empty() {
        send.reserve_capacity(data.len());
        let part = data.split_to(room(send).await?.min(data.len()));
        send.send_data(part, fin && data.is_empty())?;
    }
    Ok(())
}

/// Waits until something may be sent, and says how much.
async fn room(send: &mut SendStream<Bytes>) -> anyhow::Result<usize> {
    poll_fn(|cx| {
        loop {
            match send.capacity() {
                0 => match send.poll_capacity(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(more) => more.context("the stream is over")??,
                },
                room => return Poll::Ready(Ok(room)),
            };
        }
    })
    .await
}
