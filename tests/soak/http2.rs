//! Many clients at once over HTTP/2, behind a network that is slow and takes some of them away: no byte is lost, and
//! nothing of them is left behind.

use std::time::Duration;

use tokio::{task::JoinSet, time::Instant};

use super::{Apart, tell, visitor::Tally};
use crate::{
    harness::within,
    peer::{End, Gone, Http, Peer, PeerRecv, PeerSend, PeerSession, Terms},
    random::Random,
    relay::tcp::{Pace, TcpRelay},
};

const CLIENTS: usize = 20;
const ACTS_MAX: u64 = 8;
const SESSIONS_MAX: u64 = 3;
const SLOW: Pace = Pace {
    piece: 4 << 10,
    late_percent: 5,
    late: Duration::from_millis(10),
    buffer: Some(16 << 10),
};

#[tokio::test(flavor = "multi_thread")]
async fn clients_over_a_slow_network_lose_no_byte_and_leave_nothing_behind() {
    let mut random = Random::told();
    let apart = Apart::start(Duration::from_secs(10)).await;
    let until = Instant::now() + Duration::from_secs(3);
    let mut visitors = JoinSet::new();
    for _ in 0..CLIENTS {
        let visitor = Visitor {
            relay: TcpRelay::at_pace(SLOW, apart.server.address, random.fork()),
            random: random.fork(),
            tally: Tally::new(),
        };
        visitors.spawn(visitor.run(until));
    }
    let mut sum = Tally::new();
    // The connections that were cut off are not told of their end until the server has noticed it.
    let mut relays = Vec::new();
    while let Some(visited) = visitors.join_next().await {
        let (tally, relay) = visited.unwrap();
        relays.push(relay);
        for (what, count) in tally {
            *sum.entry(what).or_default() += count;
        }
    }
    tell("done over HTTP/2", &sum);
    assert!(sum["sessions"] >= CLIENTS as u64, "{sum:#?}");
    apart.is_as_at_first().await;
}

/// One of the clients.
struct Visitor {
    relay: TcpRelay,
    random: Random,
    tally: Tally,
}

impl Visitor {
    /// Comes and goes until that time.
    async fn run(mut self, until: Instant) -> (Tally, TcpRelay) {
        while Instant::now() < until {
            let address = self.relay.address;
            let peer = Peer::connect_to(Http::Http2, address, Terms::default()).await;
            let mut sessions = Vec::new();
            for _ in 0..=self.random.below(SESSIONS_MAX) {
                sessions.push(within("a session", peer.session("/plain")).await);
                self.count("sessions");
            }
            let mut left_alone = Vec::new();
            for _ in 0..self.random.below(ACTS_MAX + 1) {
                let at = self.random.below(sessions.len() as u64) as usize;
                left_alone.extend(self.act(&sessions[at]).await);
            }
            self.leave(&peer, sessions).await;
        }
        (self.tally, self.relay)
    }

    fn count(&mut self, what: &'static str) {
        *self.tally.entry(what).or_default() += 1;
    }

    fn bytes(&mut self) -> Vec<u8> {
        let limit = [1 << 10, 16 << 10, 256 << 10][self.random.below(3) as usize];
        let size = self.random.below(limit) as usize;
        self.random.bytes(size)
    }

    /// Does something, and gives back the stream that is to be left alone to the end, if any.
    async fn act(&mut self, session: &PeerSession) -> Option<(PeerSend, PeerRecv)> {
        let (bytes, code) = (self.bytes(), self.random.next() as u32);
        match self.random.below(7) {
            0..3 => {
                session.expect_echo(&bytes).await;
                self.count("echoes");
            }
            3 => self.datagrams(session).await,
            4 => {
                let (mut send, mut recv) = self.begin(session, &bytes).await;
                send.reset(code);
                assert_eq!(recv.given_up().await, Gone::Code(code));
                self.count("resets echoed");
            }
            5 => {
                let (mut send, mut recv) = self.begin(session, &bytes).await;
                recv.stop(code);
                assert_eq!(send.stopped().await, Gone::Code(code));
                self.count("stops echoed");
            }
            _ => {
                self.count("streams left alone");
                return Some(self.begin(session, &bytes).await);
            }
        }
        None
    }

    /// A stream that goes on behind these bytes.
    async fn begin(&self, session: &PeerSession, bytes: &[u8]) -> (PeerSend, PeerRecv) {
        let (mut send, recv) = within("a stream", session.open_bi()).await.unwrap();
        let taken = within("the stream to take it", send.write_all(bytes));
        taken.await.unwrap();
        (send, recv)
    }

    /// They come back in order, for here they cannot be lost.
    async fn datagrams(&mut self, session: &PeerSession) {
        let sent: Vec<_> = (0..4).map(|_| self.random.bytes(200)).collect();
        for datagram in &sent {
            session.send_datagram(datagram).unwrap();
        }
        for datagram in &sent {
            let echo = within("the datagram", session.read_datagram()).await;
            assert!(echo.unwrap() == datagram[..], "a datagram differs");
        }
        self.count("datagrams echoed");
    }

    async fn leave(&mut self, peer: &Peer, sessions: Vec<PeerSession>) {
        let way = self.random.below(5);
        let code = self.random.next() as u32;
        match way {
            0 => {
                for session in &sessions {
                    session.close(code, "good bye").await;
                }
                for session in &sessions {
                    assert_eq!(session.closed().await, End::Fin);
                }
                self.count("visits closed");
            }
            1 => {
                for session in &sessions {
                    session.abort().await;
                }
                self.count("visits reset");
            }
            2 => {
                peer.close();
                self.count("connections closed");
            }
            3 => {
                self.relay.cut();
                self.count("connections that vanished");
                // Whose client need not wait for what never comes.
                peer.close();
            }
            _ => self.count("connections dropped"),
        }
    }
}
