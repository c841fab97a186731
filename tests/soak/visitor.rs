//! A client that comes again and again: each time it does some things at random, then leaves in one of several ways.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Buf as _;
use tokio::time::Instant;
use wharf_proto::{
    capsule::Capsule,
    code::{AppCode, HttpCode},
    varint::VarInt,
};

use crate::{
    harness::within,
    random::Random,
    raw::{Raw, RawSession, client_config, read_rest},
    relay::Relay,
};

/// The newest draft. What the server may send is not in the way: granting more would need a client that counts.
const SETTINGS: &[(u64, u64)] = &[
    (0x33, 1),
    (0x2c7c_f000, 1),
    (0x2b61, 1 << 40),
    (0x2b64, 1 << 20),
    (0x2b65, 1 << 20),
];
/// What a stream that no session knew of is refused with.
const H3_REQUEST_CANCELLED: u64 = 0x10c;
/// What a session sends at most, so that the server's first grant covers it.
const SENT_MAX: usize = 3 << 20;
/// A client that reads nothing leaves all beyond this with the server.
const STREAM_WINDOW: u32 = 64 << 10;
const SESSIONS_MAX: u64 = 3;
const ACTS_MAX: u64 = 12;

/// What was done, and how often.
pub(super) type Tally = BTreeMap<&'static str, u64>;

/// One of the clients.
pub(super) struct Visitor {
    pub(super) relay: Relay,
    pub(super) path: &'static str,
    /// The mean time between two acts.
    pub(super) pause: Duration,
    pub(super) random: Random,
    pub(super) tally: Tally,
}

impl Visitor {
    /// Comes and goes until that time.
    pub(super) async fn run(mut self, until: Instant) -> Tally {
        let mut config = client_config();
        let mut transport = quinn::TransportConfig::default();
        transport.stream_receive_window(STREAM_WINDOW.into());
        config.transport_config(Arc::new(transport));
        let mut endpoint = socket();
        while Instant::now() < until {
            self.pause().await;
            let address = self.relay.address;
            let raw = Raw::connect_from(&endpoint, config.clone(), address, SETTINGS).await;
            let mut visit = Visit::begin(raw, &mut self).await;
            for _ in 0..self.random.below(ACTS_MAX + 1) {
                self.pause().await;
                visit.act(&mut self).await;
            }
            if self.random.percent(20) {
                // Nothing of what it still says arrives.
                self.relay.cut_off(endpoint.local_addr().unwrap());
                self.count("connections that vanished");
                endpoint = socket();
            } else {
                visit.leave(&mut self).await;
            }
        }
        endpoint.wait_idle().await;
        self.tally
    }

    async fn pause(&mut self) {
        let micros = u64::try_from(self.pause.as_micros()).unwrap();
        let pause = self.random.below(2 * micros);
        tokio::time::sleep(Duration::from_micros(pause)).await;
    }

    fn count(&mut self, what: &'static str) {
        self.count_more(what, 1);
    }

    fn count_more(&mut self, what: &'static str, more: usize) {
        *self.tally.entry(what).or_default() += more as u64;
    }

    /// A stream code, the extremes among them.
    fn code(&mut self) -> AppCode {
        let any = self.random.next() as u32;
        AppCode([0, 30, u32::MAX, any][self.random.below(4) as usize])
    }

    /// Mostly small, sometimes larger than a stream's window.
    fn size(&mut self) -> usize {
        let limit = [1 << 10, 16 << 10, 256 << 10][self.random.below(3) as usize];
        self.random.below(limit) as usize
    }
}

fn socket() -> quinn::Endpoint {
    quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap()
}

/// A connection with its sessions.
struct Visit {
    raw: Raw,
    sessions: Vec<RawSession>,
    /// Bytes sent by each session.
    sent: Vec<usize>,
    /// Streams that are left alone to the end.
    abandoned: Vec<(quinn::SendStream, quinn::RecvStream)>,
}

impl Visit {
    async fn begin(raw: Raw, visitor: &mut Visitor) -> Self {
        let mut sessions = Vec::new();
        for _ in 0..=visitor.random.below(SESSIONS_MAX) {
            sessions.push(raw.session(visitor.path).await);
            visitor.count("sessions");
        }
        visitor.count("connections");
        Self {
            raw,
            sent: vec![0; sessions.len()],
            sessions,
            abandoned: Vec::new(),
        }
    }

    async fn act(&mut self, visitor: &mut Visitor) {
        let at = visitor.random.below(self.sessions.len() as u64) as usize;
        let size = visitor.size();
        self.sent[at] += size;
        if self.sent[at] > SENT_MAX {
            return;
        }
        let bytes = visitor.random.bytes(size);
        let session = self.sessions[at].id;
        match visitor.random.below(10) {
            0..3 => self.echo(session, &bytes, visitor).await,
            3 => self.echo_uni(session, &bytes, visitor).await,
            4 => self.datagrams(session, visitor).await,
            5 => self.reset(session, &bytes, visitor).await,
            6 => self.stop(session, &bytes, visitor).await,
            7 => {
                let (mut send, recv) = self.raw.open_bi(session).await;
                within("the stream to take it", send.write_all(&bytes))
                    .await
                    .unwrap();
                self.abandoned.push((send, recv));
                visitor.count("streams abandoned");
            }
            8 => {
                // The first byte of a header that stays away.
                let (mut send, recv) = self.raw.conn.open_bi().await.unwrap();
                send.write_all(&[0x40]).await.unwrap();
                self.abandoned.push((send, recv));
                visitor.count("headers stalled");
            }
            _ => {
                self.sessions[at].send_capsule(&Capsule::Drain).await;
                visitor.count("drains");
                self.echo(session, &bytes, visitor).await;
            }
        }
    }

    async fn echo(&self, session: u64, bytes: &[u8], visitor: &mut Visitor) {
        let (mut send, mut recv) = self.raw.open_bi(session).await;
        within("the stream to take it", send.write_all(bytes))
            .await
            .unwrap();
        send.finish().unwrap();
        let echo = within("the echo", recv.read_to_end(bytes.len())).await;
        assert!(echo.unwrap() == bytes, "an echo differs");
        visitor.count("echoes on bidi streams");
        visitor.count_more("bytes echoed", bytes.len());
    }

    async fn echo_uni(&self, session: u64, bytes: &[u8], visitor: &mut Visitor) {
        let mut send = self.raw.open_uni(session).await;
        within("the stream to take it", send.write_all(bytes))
            .await
            .unwrap();
        send.finish().unwrap();
        loop {
            let mut answer = within("the answer", self.raw.conn.accept_uni())
                .await
                .unwrap();
            let mut kind = [0; 1];
            answer.read_exact(&mut kind).await.unwrap();
            if kind[0] != 0x40 {
                continue; // one of HTTP's own
            }
            let echo = within("the echo", read_rest(&mut answer)).await;
            let mut echo = &echo.unwrap()[1..];
            let (id, length) = VarInt::decode(echo).unwrap();
            echo.advance(length);
            assert!(
                id.into_inner() == session && echo == bytes,
                "an echo differs"
            );
            visitor.count("echoes on uni streams");
            return visitor.count_more("bytes echoed", bytes.len());
        }
    }

    /// Datagrams may be lost; those that come back are whole.
    async fn datagrams(&self, session: u64, visitor: &mut Visitor) {
        for _ in 0..4 {
            let byte = visitor.random.next() as u8;
            self.raw.datagram(session, &[byte; 200]);
        }
        visitor.count_more("datagrams", 4);
        for _ in 0..4 {
            let echo = self.raw.conn.read_datagram();
            let Ok(echo) = tokio::time::timeout(Duration::from_millis(50), echo).await else {
                return;
            };
            let echo = echo.unwrap();
            let (_, id) = VarInt::decode(&echo).unwrap();
            assert_eq!(echo[id..], [echo[id]; 200], "a datagram differs");
            visitor.count("datagrams echoed");
        }
    }

    /// The echo of a stream that was reset is reset with the same code.
    async fn reset(&self, session: u64, bytes: &[u8], visitor: &mut Visitor) {
        let (mut send, mut recv) = self.raw.open_bi(session).await;
        within("the stream to take it", send.write_all(bytes))
            .await
            .unwrap();
        let known = !bytes.is_empty() && visitor.random.percent(50);
        if known {
            within("the echo to begin", recv.read_exact(&mut [0]))
                .await
                .unwrap();
        }
        let code = quic_code(visitor.code().to_http3());
        send.reset(code).unwrap();
        match within("the echo to end", read_rest(&mut recv)).await {
            // QUIC discards what a reset overtakes: then no session ever knew of the stream.
            Err(quinn::ReadError::Reset(refused))
                if !known && refused.into_inner() == H3_REQUEST_CANCELLED =>
            {
                visitor.count("resets before the header");
            }
            Err(quinn::ReadError::Reset(echoed)) => {
                assert_eq!(echoed, code);
                visitor.count("resets echoed");
            }
            other => panic!("the echo of a reset ended with {other:?}"),
        }
    }

    /// A stream whose echo is not wanted is not read.
    async fn stop(&self, session: u64, bytes: &[u8], visitor: &mut Visitor) {
        let (mut send, mut recv) = self.raw.open_bi(session).await;
        within("the stream to take it", send.write_all(bytes))
            .await
            .unwrap();
        let code = quic_code(visitor.code().to_http3());
        recv.stop(code).unwrap();
        let echoed = within("the stop", send.stopped()).await.unwrap();
        assert_eq!(echoed, Some(code));
        visitor.count("stops echoed");
    }

    async fn leave(mut self, visitor: &mut Visitor) {
        let way = visitor.random.below(5);
        visitor.count(
            [
                "visits closed by capsule",
                "visits finished",
                "visits reset",
                "connections closed",
                "connections dropped",
            ][way as usize],
        );
        for mut session in std::mem::take(&mut self.sessions) {
            match way {
                0 => {
                    let capsule = Capsule::Close {
                        code: visitor.random.next() as u32,
                        reason: "good bye".to_owned(),
                    };
                    session.send_capsule(&capsule).await;
                    session.send.finish().unwrap();
                    self.ends(session).await;
                }
                1 => {
                    session.send.finish().unwrap();
                    self.ends(session).await;
                }
                2 => {
                    let code = quic_code(HttpCode::H3_REQUEST_CANCELLED);
                    session.send.reset(code).unwrap();
                    session.recv.stop(code).unwrap();
                    visitor.pause().await;
                }
                3 => self.raw.conn.close(0x100_u32.into(), b""),
                _ => {}
            }
        }
    }

    /// The server ends the CONNECT stream of a session too.
    async fn ends(&self, mut session: RawSession) {
        let began = Instant::now();
        let rest = within("the session to end", read_rest(&mut session.recv)).await;
        if let Err(error) = rest {
            let (id, stats) = (session.id, self.raw.conn.stats());
            let after = began.elapsed();
            panic!("session {id} ended after {after:?} with {error}: {stats:#?}");
        }
    }
}

fn quic_code(code: HttpCode) -> quinn::VarInt {
    quinn::VarInt::from_u64(code.into_inner()).unwrap()
}
