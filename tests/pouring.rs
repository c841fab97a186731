//! A client that pours as much into a session's streams as it may, and one that waits for the answer to each word.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use tokio::task::JoinSet;

use crate::{
    harness::within,
    peer::{Peer, PeerRecv, PeerSend, PeerSession},
};

const PIECE: usize = 16 << 10;

/// A session into whose streams a client pours what the server grants.
pub(crate) struct Pouring {
    _session: PeerSession,
    taken: Arc<AtomicUsize>,
    read: Arc<AtomicUsize>,
    unread: Mutex<Vec<PeerRecv>>,
    tasks: Mutex<JoinSet<()>>,
}

impl Pouring {
    /// Begins to pour: so many streams, so many bytes into each.
    pub(crate) async fn begin(peer: &Peer, path: &str, streams: usize, each: usize) -> Self {
        let session = peer.session(path).await;
        let mut tasks = JoinSet::new();
        let taken = Arc::new(AtomicUsize::new(0));
        let mut unread = Vec::new();
        for _ in 0..streams {
            let (send, recv) = session.open_bi().await.unwrap();
            unread.push(recv);
            tasks.spawn(pour(send, each, taken.clone()));
        }
        Self {
            _session: session,
            taken,
            read: Arc::default(),
            unread: Mutex::new(unread),
            tasks: Mutex::new(tasks),
        }
    }

    /// Has the echoes read from now on.
    pub(crate) fn read_echoes(&self) {
        for mut recv in self.unread.lock().unwrap().drain(..) {
            let read = self.read.clone();
            self.tasks.lock().unwrap().spawn(async move {
                while let Ok(Some(chunk)) = recv.read_chunk().await {
                    read.fetch_add(chunk.len(), Relaxed);
                }
            });
        }
    }

    /// Bytes that the transport took from the client.
    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Relaxed)
    }

    /// Bytes that came back and were read.
    pub(crate) fn read(&self) -> usize {
        self.read.load(Relaxed)
    }
}

async fn pour(mut send: PeerSend, each: usize, taken: Arc<AtomicUsize>) {
    let piece = [7; PIECE];
    let mut left = each;
    while left > 0 {
        let Ok(size) = send.write(&piece[..PIECE.min(left)]).await else {
            return; // the session is over
        };
        taken.fetch_add(size, Relaxed);
        left -= size;
    }
    // Kept open: the end of a stream would be more than pouring.
    std::future::pending::<()>().await;
}

/// A session with one stream, on which one word at a time goes there and back.
pub(crate) struct PingPong {
    pub(crate) session: PeerSession,
    send: PeerSend,
    recv: PeerRecv,
    number: u64,
}

impl PingPong {
    pub(crate) async fn begin(peer: &Peer, path: &str) -> Self {
        let session = peer.session(path).await;
        let (send, recv) = session.open_bi().await.unwrap();
        Self {
            session,
            send,
            recv,
            number: 0,
        }
    }

    pub(crate) async fn round_trip(&mut self) {
        self.number += 1;
        let (word, mut echo) = (self.number.to_be_bytes(), [0; 8]);
        within("a word to be taken", self.send.write_all(&word))
            .await
            .unwrap();
        within("its echo", self.recv.read_exact(&mut echo))
            .await
            .unwrap();
        assert_eq!(echo, word);
    }
}
