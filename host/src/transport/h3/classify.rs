//! Sorts what a connection's peer sends: WebTransport streams and datagrams to the session table, the rest to `h3`.
//!
//! The header of a stream is read without holding up the streams behind it. Streams whose header does not come are
//! bounded in number and in time.

use std::{
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use wharf_proto::{
    code::{HttpCode, Violation},
    id::{Dir, SessionId, StreamId},
    varint::VarInt,
};

use super::{
    allowance::allow,
    filter::Filter,
    handover::Giver,
    inbox::Inbox,
    quic_code,
    stream::{Arrival, app_code},
    table::Table,
    tap::{Bidi, Notes, RecvSide},
};
use crate::transport::{Limits, Role};

/// How many of a kind are sorted in one go, so that none of the other kinds waits for more.
const BATCH: usize = 64;

/// A stream header is two varints.
const HEADER_MAX: usize = 2 * VarInt::MAX_SIZE;

const UNI_CONTROL: u64 = 0x00;
const UNI_PUSH: u64 = 0x01;
const UNI_QPACK_ENCODER: u64 = 0x02;
const UNI_QPACK_DECODER: u64 = 0x03;
/// The type of a unidirectional WebTransport stream.
pub(super) const UNI_WEBTRANSPORT: VarInt = VarInt::from_u32(0x54);
/// What a bidirectional WebTransport stream begins with.
pub(super) const BIDI_WEBTRANSPORT: VarInt = VarInt::from_u32(0x41);

/// Where the sorted streams go.
pub(super) struct Sorter {
    /// Which end we are.
    pub(super) role: Role,
    pub(super) conn: quinn::Connection,
    pub(super) table: Arc<Table>,
    pub(super) notes: Arc<Notes>,
    pub(super) http: Giver<RecvSide, Bidi>,
    pub(super) limits: Arc<Limits>,
}

type Pending =
    FuturesUnordered<Pin<Box<dyn Future<Output = Option<(Header, Result<Kind, Ended>)>> + Send>>>;

impl Sorter {
    /// Sorts until the connection is lost, and says why it was.
    pub(super) async fn run(self) -> quinn::ConnectionError {
        let mut pending = Pending::new();
        loop {
            let expiry = self.table.next_expiry();
            let expired = async {
                match expiry {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let result = tokio::select! {
                uni = self.conn.accept_uni() => uni.map(|recv| self.begin(None, recv, &mut pending)),
                bidi = self.conn.accept_bi() => bidi.and_then(|bidi| self.streams(bidi, &mut pending)),
                datagram = self.conn.read_datagram() => {
                    datagram.and_then(|datagram| self.datagrams(datagram))
                }
                Some(sorted) = pending.next() => {
                    match sorted {
                        Some((header, Ok(kind))) => {
                            if let Kind::WebTransport { .. } = kind {
                                self.forget(header.id());
                            }
                            self.sort(header, kind);
                        }
                        Some((header, Err(ended))) => {
                            self.forget(header.id());
                            self.ended(header, ended);
                        }
                        None => {}
                    }
                    Ok(())
                }
                () = expired => {
                    self.table.expire(tokio::time::Instant::now());
                    Ok(())
                }
            };
            if let Err(error) = result {
                return error;
            }
        }
    }

    /// Sorts a bidirectional stream, and those that came with it.
    fn streams(
        &self,
        first: (quinn::SendStream, quinn::RecvStream),
        pending: &mut Pending,
    ) -> Result<(), quinn::ConnectionError> {
        let (send, recv) = first;
        self.begin(Some(send), recv, pending);
        for _ in 1..BATCH {
            let Some(bidi) = self.conn.accept_bi().now_or_never() else {
                break;
            };
            let (send, recv) = bidi?;
            self.begin(Some(send), recv, pending);
        }
        Ok(())
    }

    /// Sorts a new stream at once where its header is there, as it nearly always is.
    fn begin(
        &self,
        send: Option<quinn::SendStream>,
        recv: quinn::RecvStream,
        pending: &mut Pending,
    ) {
        if self.table.peer_streams.opened() {
            allow(&self.conn, &self.table, &self.limits);
        }
        let mut header = Header {
            send,
            recv,
            read: Bytes::new(),
        };
        match header.poll_kind(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(kind)) => self.sort(header, kind),
            Poll::Ready(Err(ended)) => self.ended(header, ended),
            Poll::Pending if pending.len() >= self.limits.pending_streams => {
                self.table.seen(header.id());
                header.refuse(HttpCode::H3_EXCESSIVE_LOAD);
            }
            Poll::Pending => {
                // It may wait behind what the peer has sent on other streams.
                let grant = |window| self.conn.set_receive_window(window);
                self.table.window.open(grant);
                self.asked(header.id());
                let (timeout, table) = (self.limits.setup_timeout, self.table.clone());
                pending.push(Box::pin(async move {
                    let kind = tokio::time::timeout(
                        timeout,
                        std::future::poll_fn(|cx| header.poll_kind(cx)),
                    )
                    .await;
                    match kind {
                        Ok(kind) => Some((header, kind)),
                        Err(_) => {
                            forget(&table, header.id());
                            header.refuse(HttpCode::H3_REQUEST_CANCELLED);
                            None
                        }
                    }
                }));
            }
        }
    }

    /// The stream ended in its header.
    fn ended(&self, header: Header, ended: Ended) {
        let id = header.id();
        match (ended, StreamId::try_from(id)) {
            (Ended::Reset(code), Ok(id)) => self.table.deliver_reset(Arrival {
                id,
                send: header.send,
                recv: header.recv,
                prefix: Bytes::new(),
                reset: Some(code),
            }),
            (Ended::Reset(_) | Ended::Otherwise, _) => self.table.seen(id),
        }
    }

    fn asked(&self, id: u64) {
        if let Ok(id) = SessionId::try_from(id) {
            self.table.asked(id);
        }
    }

    fn forget(&self, id: u64) {
        forget(&self.table, id);
    }

    fn sort(&self, header: Header, kind: Kind) {
        let result = match kind {
            Kind::WebTransport {
                session,
                header: size,
            } => self.webtransport(header, session, size),
            Kind::Request if self.role == Role::Client => Err(Violation {
                code: HttpCode::H3_STREAM_CREATION_ERROR,
                reason: "a server opened a request stream",
            }),
            Kind::Request => {
                self.asked(header.id());
                self.request(header)
            }
            Kind::Http(kind, size) => self.http(header, kind, size),
        };
        if let Err(violation) = result {
            self.conn
                .close(quic_code(violation.code), violation.reason.as_bytes());
        }
    }

    fn webtransport(&self, header: Header, session: VarInt, size: usize) -> Result<(), Violation> {
        let session = SessionId::try_from(session).map_err(|_| Violation {
            code: HttpCode::H3_ID_ERROR,
            reason: "a stream names a session id that is not a request stream's",
        })?;
        let Ok(id) = StreamId::try_from(header.id()) else {
            return Ok(()); // QUIC has no other ids
        };
        let mut prefix = header.read;
        prefix.advance(size);
        self.table.deliver_stream(
            session,
            Arrival {
                id,
                send: header.send,
                recv: header.recv,
                prefix,
                reset: None,
            },
        );
        Ok(())
    }

    fn request(&self, header: Header) -> Result<(), Violation> {
        let Some(send) = header.send else {
            return Ok(());
        };
        let recv = RecvSide::new(
            header.recv,
            self.conn.clone(),
            header.read,
            0,
            Some(Filter::request(self.limits.field_section)),
            self.notes.clone(),
        )?;
        if let Err(bidi) = self.http.bidi(Bidi::new(send, recv)) {
            self.forget(bidi.id());
            bidi.reject();
        }
        Ok(())
    }

    fn http(&self, mut header: Header, kind: u64, size: usize) -> Result<(), Violation> {
        let filter = match kind {
            UNI_CONTROL => Some(Filter::control()),
            UNI_QPACK_ENCODER | UNI_QPACK_DECODER => None,
            UNI_PUSH if self.role == Role::Client => {
                return Err(Violation {
                    code: HttpCode::H3_ID_ERROR,
                    reason: "a push stream, though no push was allowed",
                });
            }
            UNI_PUSH => {
                return Err(Violation {
                    code: HttpCode::H3_STREAM_CREATION_ERROR,
                    reason: "a client opened a push stream",
                });
            }
            _ => {
                // Greased and unknown types are no errors (RFC 9114, "Unidirectional Streams").
                _ = header
                    .recv
                    .stop(quic_code(HttpCode::H3_STREAM_CREATION_ERROR));
                return Ok(());
            }
        };
        let recv = RecvSide::new(
            header.recv,
            self.conn.clone(),
            header.read,
            size,
            filter,
            self.notes.clone(),
        )?;
        self.http.uni(recv).map_err(|_| Violation {
            code: HttpCode::H3_STREAM_CREATION_ERROR,
            reason: "a second control or QPACK stream",
        })
    }

    /// Sorts a datagram, and those that came with it.
    fn datagrams(&self, first: Bytes) -> Result<(), quinn::ConnectionError> {
        let mut last = None;
        self.datagram(first, &mut last);
        for _ in 1..BATCH {
            let Some(datagram) = self.conn.read_datagram().now_or_never() else {
                break;
            };
            self.datagram(datagram?, &mut last);
        }
        Ok(())
    }

    /// Sorts a datagram; the next one is most likely the same session's, whose inbox is kept at hand.
    fn datagram(&self, mut datagram: Bytes, last: &mut Option<(SessionId, Arc<Inbox>)>) {
        let quarter = VarInt::decode(&datagram);
        let session = quarter.and_then(|(quarter, size)| {
            datagram.advance(size);
            SessionId::from_quarter(quarter).ok()
        });
        let Some(session) = session else {
            return self.conn.close(
                quic_code(HttpCode::H3_DATAGRAM_ERROR),
                b"a datagram names no request stream",
            );
        };
        match last {
            Some((id, inbox)) if *id == session => {
                inbox.put_datagram(datagram); // one that is over takes none
            }
            _ => {
                let inbox = self.table.deliver_datagram(session, datagram);
                *last = inbox.map(|inbox| (session, inbox));
            }
        }
    }
}

fn forget(table: &Table, id: u64) {
    if let Ok(id) = SessionId::try_from(id) {
        table.end(id);
    }
}

/// What a stream is.
#[derive(Clone, Copy)]
enum Kind {
    WebTransport {
        session: VarInt,
        header: usize,
    },
    /// A bidirectional stream of frames.
    Request,
    /// A unidirectional stream of that type, whose header takes so many bytes.
    Http(u64, usize),
}

/// How a stream ended before its header was complete.
enum Ended {
    /// The peer gave up sending, with a code where it is an application's.
    Reset(Option<u32>),
    /// With FIN, or with its connection.
    Otherwise,
}

/// A stream whose header is being read.
struct Header {
    send: Option<quinn::SendStream>,
    recv: quinn::RecvStream,
    read: Bytes,
}

impl Header {
    fn id(&self) -> u64 {
        self.recv.id().into()
    }

    fn dir(&self) -> Dir {
        if self.send.is_some() {
            Dir::Bi
        } else {
            Dir::Uni
        }
    }

    /// Reads until the kind is known, or the stream has ended before.
    fn poll_kind(&mut self, cx: &mut Context<'_>) -> Poll<Result<Kind, Ended>> {
        loop {
            if let Some(kind) = parse(&self.read, self.dir()) {
                return Poll::Ready(Ok(kind));
            }
            // The future holds no state of its own, so a new one for each poll is the same one.
            let chunk = match ready!(pin!(self.recv.read_chunk(usize::MAX, true)).poll(cx)) {
                Ok(Some(chunk)) => chunk.bytes,
                Err(quinn::ReadError::Reset(code)) => {
                    return Poll::Ready(Err(Ended::Reset(app_code(code))));
                }
                Ok(None) | Err(_) => return Poll::Ready(Err(Ended::Otherwise)),
            };
            if self.read.is_empty() {
                self.read = chunk;
            } else {
                // At most HEADER_MAX bytes were not enough, so this copy happens for slow headers only.
                let mut joined = BytesMut::with_capacity(HEADER_MAX + chunk.len());
                joined.extend_from_slice(&self.read);
                joined.extend_from_slice(&chunk);
                self.read = joined.freeze();
            }
        }
    }

    fn refuse(mut self, code: HttpCode) {
        _ = self.recv.stop(quic_code(code)); // an error says that the direction is over already
        if let Some(send) = &mut self.send {
            _ = send.reset(quic_code(code));
        }
    }
}

fn parse(read: &[u8], dir: Dir) -> Option<Kind> {
    let (kind, size) = VarInt::decode(read)?;
    match (dir, kind) {
        (Dir::Bi, BIDI_WEBTRANSPORT) | (Dir::Uni, UNI_WEBTRANSPORT) => {
            let (session, id_size) = VarInt::decode(read.get(size..)?)?;
            Some(Kind::WebTransport {
                session,
                header: size + id_size,
            })
        }
        (Dir::Bi, _) => Some(Kind::Request),
        (Dir::Uni, kind) => Some(Kind::Http(kind.into_inner(), size)),
    }
}
