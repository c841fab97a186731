//! A session over HTTP/3: its CONNECT stream, and what was granted on it.

use std::sync::{Arc, Mutex};

use bytes::{BufMut as _, Bytes, BytesMut};
use tokio::{
    sync::{AcquireError, Semaphore, SemaphorePermit, mpsc, watch},
    task::JoinSet,
};
use web_transport_quinn::proto::error_to_http3;
use wharf_proto::capsule::Capsule;

use super::{BIDI, Connection, Granted, Outlet, Recv, Send, UNI};
use crate::{
    capsules::{Capsules, Said, framed, max_data},
    peer::{Dir, End, Gone},
    raw::{header, put},
};

const H3_REQUEST_CANCELLED: u32 = 0x10c;

/// A session.
#[derive(Clone)]
pub(crate) struct Session(Arc<Inner>);

struct Inner {
    id: u64,
    connection: Connection,
    /// None once it was ended or given up.
    connect: tokio::sync::Mutex<Option<quinn::SendStream>>,
    credit: Arc<Credit>,
    said: watch::Receiver<Saying>,
    bidi: Queue<(quinn::SendStream, quinn::RecvStream)>,
    uni: Queue<quinn::RecvStream>,
    datagrams: Queue<Bytes>,
    reading: JoinSet<()>,
}

type Queue<T> = tokio::sync::Mutex<mpsc::Receiver<T>>;

/// What the server said of the end.
#[derive(Default)]
struct Saying {
    draining: bool,
    end: Option<End>,
}

impl Session {
    pub(super) fn begin(
        connection: Connection,
        send: quinn::SendStream,
        recv: quinn::RecvStream,
        outlet: Outlet,
    ) -> Self {
        let credit = Arc::new(Credit::new(connection.0.granted));
        let (saying, said) = watch::channel(Saying::default());
        let mut reading = JoinSet::new();
        reading.spawn(listen(Capsules::of(recv), credit.clone(), saying));
        Self(Arc::new(Inner {
            id: send.id().into(),
            connection,
            connect: Some(send).into(),
            credit,
            said,
            bidi: outlet.bidi.into(),
            uni: outlet.uni.into(),
            datagrams: outlet.datagrams.into(),
            reading,
        }))
    }

    fn conn(&self) -> &quinn::Connection {
        &self.0.connection.0.raw.conn
    }

    pub(crate) async fn open_bi(&self) -> Result<(Send, Recv), Gone> {
        self.0.credit.stream(Dir::Bi).await?;
        let (send, recv) = self.conn().open_bi().await.map_err(|_| Gone::Session)?;
        Ok((self.begin_stream(BIDI, send).await?, Recv(recv)))
    }

    pub(crate) async fn open_uni(&self) -> Result<Send, Gone> {
        self.0.credit.stream(Dir::Uni).await?;
        let send = self.conn().open_uni().await.map_err(|_| Gone::Session)?;
        self.begin_stream(UNI, send).await
    }

    async fn begin_stream(&self, kind: u64, mut send: quinn::SendStream) -> Result<Send, Gone> {
        let written = send.write_all(&header(kind, self.0.id)).await;
        written.map_err(Gone::from)?;
        Ok(self.sending(send))
    }

    fn sending(&self, send: quinn::SendStream) -> Send {
        Send::new(send, self.0.credit.clone())
    }

    pub(crate) async fn accept_bi(&self) -> Result<(Send, Recv), Gone> {
        let (send, recv) = self.next(&self.0.bidi).await?;
        Ok((self.sending(send), Recv(recv)))
    }

    pub(crate) async fn accept_uni(&self) -> Result<Recv, Gone> {
        self.next(&self.0.uni).await.map(Recv)
    }

    pub(crate) async fn read_datagram(&self) -> Result<Bytes, Gone> {
        self.next(&self.0.datagrams).await
    }

    /// The next of a queue. What came before the session's end is given out first.
    async fn next<T>(&self, queue: &Queue<T>) -> Result<T, Gone> {
        let mut queue = queue.lock().await;
        tokio::select! {
            biased;
            next = queue.recv() => next.ok_or(Gone::Session),
            _ = self.ended() => Err(Gone::Session),
        }
    }

    pub(crate) fn send_datagram(&self, payload: &[u8]) -> Result<(), Gone> {
        let mut datagram = BytesMut::new();
        put(&mut datagram, self.0.id / 4);
        datagram.put_slice(payload);
        match self.conn().send_datagram(datagram.freeze()) {
            Ok(()) => Ok(()),
            Err(quinn::SendDatagramError::ConnectionLost(_)) => Err(Gone::Session),
            Err(other) => panic!("a datagram cannot be sent: {other}"),
        }
    }

    pub(crate) fn max_datagram_size(&self) -> usize {
        let mut quarter = Vec::new();
        put(&mut quarter, self.0.id / 4);
        self.conn().max_datagram_size().unwrap() - quarter.len()
    }

    /// WebTransport over HTTP/3, "Use of Keying Material Exporters".
    pub(crate) fn export_keying_material(&self, label: &[u8], context: &[u8], out: &mut [u8]) {
        let mut all = self.0.id.to_be_bytes().to_vec();
        for part in [label, context] {
            all.push(u8::try_from(part.len()).unwrap());
            all.extend_from_slice(part);
        }
        let exported = self
            .conn()
            .export_keying_material(out, b"EXPORTER-WebTransport", &all);
        exported.unwrap();
    }

    pub(crate) async fn drain(&self) {
        self.say(&Capsule::Drain).await;
    }

    /// Has the server send so many bytes, all in all.
    pub(crate) async fn grant_data(&self, limit: u64) {
        self.say(&max_data(limit)).await;
    }

    async fn say(&self, capsule: &Capsule) {
        let mut connect = self.0.connect.lock().await;
        let connect = connect.as_mut().expect("the session was not ended here");
        connect.write_all(&framed(capsule)).await.unwrap();
    }

    pub(crate) async fn draining(&self) {
        let mut said = self.0.said.clone();
        let draining = said.wait_for(|said| said.draining).await;
        assert!(draining.is_ok(), "the session ended before");
    }

    pub(crate) async fn close(&self, code: u32, reason: &str) -> bool {
        let mut connect = self.0.connect.lock().await.take();
        let connect = connect.as_mut().expect("the session was not ended here");
        let reason = reason.to_owned();
        let capsule = framed(&Capsule::Close { code, reason });
        let in_time = connect.write_all(&capsule).await.is_ok();
        _ = connect.finish();
        in_time
    }

    pub(crate) async fn abort(&self) {
        let mut connect = self.0.connect.lock().await.take();
        let connect = connect.as_mut().expect("the session was not ended here");
        connect.reset(H3_REQUEST_CANCELLED.into()).unwrap();
    }

    pub(crate) async fn closed(&self) -> End {
        self.ended().await
    }

    async fn ended(&self) -> End {
        let mut said = self.0.said.clone();
        let said = said.wait_for(|said| said.end.is_some()).await;
        let said = said.expect("the server says only what it may");
        said.end.clone().unwrap()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.connection.0.sessions.end(self.id);
        self.reading.abort_all();
        // QUIC ends the CONNECT stream with FIN as it is dropped.
    }
}

/// Reads what the server says on a CONNECT stream until it says no more.
async fn listen(mut capsules: Capsules, credit: Arc<Credit>, saying: watch::Sender<Saying>) {
    let mut close = None;
    let end = loop {
        let said = match capsules.heard().await {
            Ok(Said::Capsule(capsule)) => capsule,
            Ok(Said::Fin) => break close.unwrap_or(End::Fin),
            Ok(Said::Reset(code)) => break End::Reset(code),
            Err(_) => break End::Lost,
        };
        assert_eq!(close, None, "CLOSE is the last word, but {said:?} follows");
        match said {
            Capsule::MaxData(limit) => credit.raise_data(limit.into_inner()),
            Capsule::MaxStreams(dir, limit) => credit.raise_streams(dir, limit.into_inner()),
            Capsule::Drain => saying.send_modify(|saying| saying.draining = true),
            Capsule::Close { code, reason } => close = Some(End::Close(code, reason)),
            Capsule::DataBlocked(_) | Capsule::StreamsBlocked(..) => {}
            other => panic!("the server says {other:?}"),
        }
    };
    credit.end();
    saying.send_modify(|saying| saying.end = Some(end));
}

/// What may be sent in a session (WebTransport over HTTP/3, "Flow Control").
pub(super) struct Credit {
    granted: Mutex<Granted>,
    data: Semaphore,
    bidi: Semaphore,
    uni: Semaphore,
}

impl Credit {
    fn new(granted: Granted) -> Self {
        Self {
            data: permits(granted.data),
            bidi: permits(granted.bidi),
            uni: permits(granted.uni),
            granted: Mutex::new(granted),
        }
    }

    /// Credit for some bytes, at least one and at most so many. What is not used goes back when it is dropped.
    pub(super) async fn bytes(&self, most: usize) -> Result<SemaphorePermit<'_>, Gone> {
        let mut some = self.data.acquire().await?;
        let more = (most - 1).min(self.data.available_permits());
        if let Ok(more) = self.data.try_acquire_many(more as u32) {
            some.merge(more);
        }
        Ok(some)
    }

    async fn stream(&self, dir: Dir) -> Result<(), Gone> {
        let streams = match dir {
            Dir::Bi => &self.bidi,
            Dir::Uni => &self.uni,
        };
        streams.acquire().await?.forget();
        Ok(())
    }

    fn raise_data(&self, limit: u64) {
        raise(&self.data, &mut self.granted.lock().unwrap().data, limit);
    }

    fn raise_streams(&self, dir: Dir, limit: u64) {
        let granted = &mut *self.granted.lock().unwrap();
        match dir {
            Dir::Bi => raise(&self.bidi, &mut granted.bidi, limit),
            Dir::Uni => raise(&self.uni, &mut granted.uni, limit),
        }
    }

    fn end(&self) {
        for credit in [&self.data, &self.bidi, &self.uni] {
            credit.close();
        }
    }
}

fn permits(count: u64) -> Semaphore {
    Semaphore::new(usize::try_from(count).unwrap())
}

fn raise(credit: &Semaphore, granted: &mut u64, limit: u64) {
    assert!(
        limit > *granted,
        "a limit increases: {limit} after {granted}"
    );
    credit.add_permits(usize::try_from(limit - *granted).unwrap());
    *granted = limit;
}

impl From<AcquireError> for Gone {
    fn from(_: AcquireError) -> Self {
        Self::Session
    }
}

/// An application's code on the wire.
pub(super) fn wire(code: u32) -> quinn::VarInt {
    quinn::VarInt::from_u64(error_to_http3(code)).unwrap()
}
