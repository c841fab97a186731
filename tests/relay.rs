//! A path of the network between clients and a server: here, for UDP. It may lose packets and let them overtake each other, and it can
//! be cut without a word to either end.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{net::UdpSocket, task::JoinHandle, time::Instant};

use crate::random::Random;

pub(crate) mod either;
pub(crate) mod tcp;

/// Packets that are held back at once in one direction. One more goes on at once.
const LATE_MAX: usize = 256;
const PACKET_MAX: usize = 1 << 16;

/// What happens to packets.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weather {
    /// Of a hundred packets, so many are lost.
    pub(crate) lost_percent: u64,
    /// Of a hundred packets, so many are held back, while those behind them go on.
    pub(crate) late_percent: u64,
    /// For how long at most.
    pub(crate) late: Duration,
}

/// A relay. Each client's packets leave it from a socket of their own, as behind a NAT.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    clients: Arc<Clients>,
    forwarding: JoinHandle<()>,
}

#[derive(Default)]
struct Clients(Mutex<HashMap<SocketAddr, Client>>);

struct Client {
    far: Arc<UdpSocket>,
    back: JoinHandle<()>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.back.abort();
    }
}

impl Relay {
    /// A relay that forwards all, in order.
    pub(crate) async fn to(server: SocketAddr) -> Self {
        Self::through(Weather::default(), server, Random::told()).await
    }

    pub(crate) async fn through(weather: Weather, server: SocketAddr, random: Random) -> Self {
        let near = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        Self::on(near, weather, server, random)
    }

    /// A relay that clients find at that socket.
    pub(crate) fn on(
        near: UdpSocket,
        weather: Weather,
        server: SocketAddr,
        random: Random,
    ) -> Self {
        let address = near.local_addr().unwrap();
        let clients = Arc::new(Clients::default());
        let there = There {
            near: Arc::new(near),
            server,
            clients: clients.clone(),
            weather,
            random,
        };
        Self {
            address,
            clients,
            forwarding: tokio::spawn(there.run()),
        }
    }

    /// Cuts all clients off, for good.
    pub(crate) fn cut(&self) {
        self.forwarding.abort();
        self.clients.0.lock().unwrap().clear();
    }

    /// Cuts one client off. A new connection from the same address would pass again.
    pub(crate) fn cut_off(&self, client: SocketAddr) {
        self.clients.0.lock().unwrap().remove(&client);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.cut();
    }
}

/// From the clients to the server.
struct There {
    near: Arc<UdpSocket>,
    server: SocketAddr,
    clients: Arc<Clients>,
    weather: Weather,
    random: Random,
}

impl There {
    async fn run(mut self) {
        let mut carrier = Carrier::new(self.weather, self.random.fork());
        let mut packet = vec![0; PACKET_MAX];
        loop {
            tokio::select! {
                received = self.near.recv_from(&mut packet) => {
                    let Ok((size, client)) = received else { continue };
                    if let Some(far) = self.far(client, packet[0]).await {
                        carrier.carry(Hop(far, self.server), &packet[..size]);
                    }
                }
                () = carrier.overdue() => {}
            }
        }
    }

    /// The socket of that client. A client that is not known, or was cut off, has to begin a connection first: its
    /// packet has the long header of an Initial (RFC 9000, "Initial Packet").
    async fn far(&mut self, client: SocketAddr, first: u8) -> Option<Arc<UdpSocket>> {
        let known = |clients: &Clients| {
            let clients = clients.0.lock().unwrap();
            clients.get(&client).map(|client| client.far.clone())
        };
        if let Some(far) = known(&self.clients) {
            return Some(far);
        }
        if first & 0xf0 != 0xc0 {
            return None;
        }
        let far = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.ok()?);
        far.writable().await.ok()?;
        let carrier = Carrier::new(self.weather, self.random.fork());
        let back = tokio::spawn(back(far.clone(), Hop(self.near.clone(), client), carrier));
        let record = Client {
            far: far.clone(),
            back,
        };
        self.clients.0.lock().unwrap().insert(client, record);
        Some(far)
    }
}

/// From the server to a client.
async fn back(far: Arc<UdpSocket>, hop: Hop, mut carrier: Carrier) {
    let mut packet = vec![0; PACKET_MAX];
    loop {
        tokio::select! {
            received = far.recv_from(&mut packet) => {
                if let Ok((size, _)) = received {
                    carrier.carry(hop.clone(), &packet[..size]);
                }
            }
            () = carrier.overdue() => {}
        }
    }
}

/// The socket that sends a packet on, and the address it goes to.
#[derive(Clone)]
struct Hop(Arc<UdpSocket>, SocketAddr);

impl Hop {
    fn send(&self, packet: &[u8]) {
        // A packet that cannot be forwarded is lost, as packets may be.
        _ = self.0.try_send_to(packet, self.1);
    }
}

/// One direction: what is done to its packets.
struct Carrier {
    weather: Weather,
    random: Random,
    late: Vec<(Instant, Hop, Vec<u8>)>,
}

impl Carrier {
    fn new(weather: Weather, random: Random) -> Self {
        Self {
            weather,
            random,
            late: Vec::new(),
        }
    }

    fn carry(&mut self, hop: Hop, packet: &[u8]) {
        if self.random.percent(self.weather.lost_percent) {
            return;
        }
        if self.random.percent(self.weather.late_percent) && self.late.len() < LATE_MAX {
            let micros = u64::try_from(self.weather.late.as_micros()).unwrap();
            let after = Duration::from_micros(self.random.below(micros + 1));
            self.late
                .push((Instant::now() + after, hop, packet.to_owned()));
            return;
        }
        hop.send(packet);
    }

    /// Sends the next of the packets that were held back, when its time has come.
    async fn overdue(&mut self) {
        let next = (0..self.late.len()).min_by_key(|at| self.late[*at].0);
        let Some(next) = next else {
            return std::future::pending().await;
        };
        tokio::time::sleep_until(self.late[next].0).await;
        let (_, hop, packet) = self.late.swap_remove(next);
        hop.send(&packet);
    }
}
