//! A client that pours as much into a session's streams as it may, and one that waits for the answer to each word.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use bytes::Bytes;
use tokio::{sync::Semaphore, task::JoinSet};
use wharf::transport::Limits;
use wharf_proto::capsule::{Capsule, Decoder};

use crate::{
    harness::within,
    raw::{Raw, RawSession, read_varint},
};

const PIECE: u32 = 16 << 10;

/// The SETTINGS of a client of the newest draft that grants more than any test needs.
pub(crate) const GENEROUS: &[(u64, u64)] = &settings(1 << 40);

/// The same, with so many bytes for each session.
pub(crate) const fn settings(data: u64) -> [(u64, u64); 5] {
    [
        (0x33, 1),
        (0x2c7c_f000, 1),
        (0x2b61, data),
        (0x2b64, 1000),
        (0x2b65, 1000),
    ]
}

/// A session into whose streams a client pours what the server grants.
pub(crate) struct Pouring {
    _send: quinn::SendStream,
    taken: Arc<AtomicUsize>,
    read: Arc<AtomicUsize>,
    unread: Mutex<Vec<quinn::RecvStream>>,
    tasks: Mutex<JoinSet<()>>,
}

impl Pouring {
    /// Begins to pour: so many streams, so many bytes into each.
    pub(crate) async fn begin(raw: &Raw, path: &str, streams: usize, each: usize) -> Self {
        let session = raw.session(path).await;
        let credit = Arc::new(Semaphore::new(
            Limits::default().session_receive_credit as usize,
        ));
        let mut tasks = JoinSet::new();
        tasks.spawn(take_credit(session.recv, credit.clone()));
        let taken = Arc::new(AtomicUsize::new(0));
        let mut unread = Vec::new();
        for _ in 0..streams {
            let (send, recv) = raw.open_bi(session.id).await;
            unread.push(recv);
            tasks.spawn(pour(send, each, credit.clone(), taken.clone()));
        }
        Self {
            _send: session.send,
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
                while let Ok(Some(chunk)) = recv.read_chunk(usize::MAX, true).await {
                    read.fetch_add(chunk.bytes.len(), Relaxed);
                }
            });
        }
    }

    /// Bytes that QUIC took from the client.
    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Relaxed)
    }

    /// Bytes that came back and were read.
    pub(crate) fn read(&self) -> usize {
        self.read.load(Relaxed)
    }
}

async fn pour(
    mut send: quinn::SendStream,
    each: usize,
    credit: Arc<Semaphore>,
    taken: Arc<AtomicUsize>,
) {
    let piece = vec![7; PIECE as usize];
    let mut left = each;
    while left > 0 {
        credit.acquire_many(PIECE).await.unwrap().forget();
        let mut rest = &piece[..piece.len().min(left)];
        left -= rest.len();
        while !rest.is_empty() {
            let Ok(size) = send.write(rest).await else {
                return; // the session is over
            };
            taken.fetch_add(size, Relaxed);
            rest = &rest[size..];
        }
    }
    // Kept open: the end of a stream would be more than pouring.
    std::future::pending::<()>().await;
}

/// Reads the capsules on a CONNECT stream, and adds to the credit what the server grants.
async fn take_credit(mut recv: quinn::RecvStream, credit: Arc<Semaphore>) {
    let mut granted = u64::from(Limits::default().session_receive_credit);
    let mut decoder = Decoder::new(0);
    while let (Some(kind), Some(length)) =
        (read_varint(&mut recv).await, read_varint(&mut recv).await)
    {
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        recv.read_exact(&mut payload).await.unwrap();
        if kind != 0 {
            continue;
        }
        decoder.push(Bytes::from(payload));
        while let Some(capsule) = decoder.poll().unwrap() {
            if let Capsule::MaxData(limit) = capsule {
                let more = limit.into_inner() - granted;
                credit.add_permits(usize::try_from(more).unwrap());
                granted = limit.into_inner();
            }
        }
    }
}

/// A session with one stream, on which one word at a time goes there and back.
pub(crate) struct PingPong {
    pub(crate) session: RawSession,
    send: quinn::SendStream,
    recv: quinn::RecvStream,
    number: u64,
}

impl PingPong {
    pub(crate) async fn begin(raw: &Raw, path: &str) -> Self {
        let session = raw.session(path).await;
        let (send, recv) = raw.open_bi(session.id).await;
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
