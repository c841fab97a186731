//! Has bytes echoed, and compares each.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use bytes::{Bytes, BytesMut};

use super::{leave, output::Output};
use crate::transport::{CommandError, Dir, Event, Session, StreamId};

/// How much is sent at once.
const PIECE: usize = 64 << 10;

/// Sends that many bytes on one stream, and FIN; every byte must come back, and then FIN. `patience` is for each piece.
pub(super) async fn check(
    mut session: Session,
    size: u64,
    patience: Duration,
    interrupt: impl Future<Output = ()>,
    output: &mut Output,
) -> anyhow::Result<()> {
    let started = Instant::now();
    let echoed = tokio::select! {
        echoed = echo(&mut session, size, patience) => echoed,
        () = interrupt => Err(anyhow::anyhow!("interrupted")),
    };
    let seconds = started.elapsed().as_secs_f64();
    leave(session).await;
    if let Err(error) = echoed {
        output.say(&format!("failed {error}")).await?;
        return Err(error);
    }
    #[expect(clippy::cast_precision_loss, reason = "for people to read")]
    let rate = size as f64 / f64::from(1 << 20) / seconds;
    let line = format!("echoed {size} bytes in {seconds:.3} s, {rate:.1} MiB/s");
    output.say(&line).await
}

async fn echo(session: &mut Session, size: u64, patience: Duration) -> anyhow::Result<()> {
    let stream = session.open(Dir::Bi)?;
    let mut sender = Sender {
        bytes: Noise::default(),
        left: size,
        piece: Bytes::new(),
        finished: false,
    };
    let mut expected = Noise::default();
    let mut received = 0;
    loop {
        sender.send(session, stream);
        let event = tokio::time::timeout(patience, session.next_event())
            .await
            .with_context(|| format!("nothing came for {patience:?}, after {received} bytes"))?
            .context("the session was over before")?;
        match event {
            Event::Data {
                stream: id,
                data,
                fin,
            } if id == stream => {
                for byte in &data {
                    ensure!(
                        received < size,
                        "more came back than was sent: byte {received} and on"
                    );
                    ensure!(*byte == expected.next(), "byte {received} is another");
                    received += 1;
                }
                if fin {
                    ensure!(
                        received == size,
                        "of {size} bytes only {received} came back"
                    );
                    return Ok(());
                }
            }
            Event::Reset(id, code) if id == stream => {
                bail!("the server gave up sending after {received} bytes, with code {code:?}")
            }
            Event::Stopped(id, code) if id == stream => {
                bail!("the server gave up reading, with code {code:?}")
            }
            Event::Closed(closed) => bail!(
                "the session ended after {received} bytes: {} {:?}",
                closed.code,
                closed.reason
            ),
            Event::Data { .. }
            | Event::Opened(_)
            | Event::Reset(..)
            | Event::Stopped(..)
            | Event::Writable(_)
            | Event::StreamClosed(_)
            | Event::Datagram(_)
            | Event::Draining
            | _ => {}
        }
    }
}

/// The sending side of the check.
struct Sender {
    bytes: Noise,
    left: u64,
    /// Made, and not taken yet.
    piece: Bytes,
    finished: bool,
}

impl Sender {
    /// Sends what there is room for. Where the stream takes nothing more, an event says why.
    fn send(&mut self, session: &mut Session, stream: StreamId) {
        while !self.finished {
            if self.piece.is_empty() {
                let size = usize::try_from(self.left).unwrap_or(PIECE).min(PIECE);
                let mut piece = BytesMut::with_capacity(size);
                piece.extend((0..size).map(|_| self.bytes.next()));
                self.piece = piece.freeze();
                self.left -= size as u64;
            }
            match session.send(stream, self.piece.clone(), self.left == 0) {
                Ok(()) => {
                    self.piece = Bytes::new();
                    self.finished = self.left == 0;
                }
                Err(CommandError::WouldBlock) => return,
                Err(_) => self.finished = true,
            }
        }
    }
}

/// Bytes without a pattern, always the same (splitmix64).
#[derive(Default)]
struct Noise {
    state: u64,
    word: [u8; 8],
    used: usize,
}

impl Noise {
    fn next(&mut self) -> u8 {
        if self.used == 0 {
            self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut word = self.state;
            word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            self.word = (word ^ (word >> 31)).to_le_bytes();
        }
        let byte = self.word[self.used];
        self.used = (self.used + 1) % self.word.len();
        byte
    }
}
