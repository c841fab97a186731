//! What a handler can do to others: nothing.

mod attacks;
mod cpu;
mod memory;
mod reach;
mod shared;

use crate::peer::{End, PeerSession};

/// Asks on a stream of its own, and reads the answer, which ends it.
async fn ask(session: &PeerSession, question: &[u8]) -> String {
    let (mut send, mut recv) = session.open_bi().await.unwrap();
    send.write_all(question).await.unwrap();
    let answer = recv.read_to_end(1 << 20).await.unwrap();
    String::from_utf8(answer).unwrap()
}

/// Gives the handler something to do, whose answer nobody waits for.
async fn poke(session: &PeerSession) {
    if let Ok((mut send, _recv)) = session.open_bi().await {
        _ = send.write_all(b"x").await;
    }
}

/// The code that the host closed the session with.
async fn code(session: &PeerSession) -> u32 {
    match session.closed().await {
        End::Close(code, _) => code,
        end => panic!("{end:?}"),
    }
}
