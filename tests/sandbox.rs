//! What a handler can do to others: nothing.

mod attacks;
mod cpu;
mod memory;
mod reach;
mod shared;

use crate::peer::{End, PeerRecv, PeerSend, PeerSession};

/// Asks on a stream of its own, and reads the answer, which ends it.
async fn ask(session: &PeerSession, question: &[u8]) -> String {
    let (mut send, mut recv) = session.open_bi().await.unwrap();
    send.write_all(question).await.unwrap();
    let answer = recv.read_to_end(1 << 20).await.unwrap();
    String::from_utf8(answer).unwrap()
}

/// Gives the handler something to do. Whoever wants no answer drops the stream, which the handler may be told.
async fn poke(session: &PeerSession) -> Option<(PeerSend, PeerRecv)> {
    let (mut send, recv) = session.open_bi().await.ok()?;
    send.write_all(b"x").await.ok()?;
    Some((send, recv))
}

/// The code that the host closed the session with.
async fn code(session: &PeerSession) -> u32 {
    match session.closed().await {
        End::Close(code, _) => code,
        end => panic!("{end:?}"),
    }
}
