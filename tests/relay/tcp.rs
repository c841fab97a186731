//! A path of the network for TCP. It may be slow, and a connection can be cut without a word to either end: the sockets
//! stay open, and nothing more passes.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::JoinSet,
};

use crate::random::Random;

/// Bytes that are taken from a socket at once where nothing else is asked for.
const PIECE_MAX: usize = 64 << 10;

/// How what is sent is carried.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Bytes go on in pieces of at most so many.
    pub(crate) piece: usize,
    /// Of a hundred pieces, so many are held back, with all behind them.
    pub(crate) late_percent: u64,
    /// For how long at most.
    pub(crate) late: Duration,
    /// What the kernel holds in each direction, where it is not to decide itself.
    pub(crate) buffer: Option<u32>,
}

impl Default for Pace {
    /// All goes on at once.
    fn default() -> Self {
        Self {
            piece: PIECE_MAX,
            late_percent: 0,
            late: Duration::ZERO,
            buffer: None,
        }
    }
}

/// A relay. Dropping it closes all connections.
pub(crate) struct TcpRelay {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    cuts: watch::Sender<u64>,
    _forwarding: JoinSet<()>,
}

impl TcpRelay {
    /// A relay that forwards all at once.
    pub(crate) fn to(server: SocketAddr) -> Self {
        Self::at_pace(Pace::default(), server, Random::told())
    }

    pub(crate) fn at_pace(pace: Pace, server: SocketAddr, random: Random) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        // Of the sockets that it accepts.
        if let Some(buffer) = pace.buffer {
            socket.set_recv_buffer_size(buffer).unwrap();
            socket.set_send_buffer_size(buffer).unwrap();
        }
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let listener = socket.listen(1024).unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let cuts = watch::Sender::new(0);
        let accepting = Accepting {
            listener,
            server,
            pace,
            random,
            connections: connections.clone(),
            cuts: cuts.clone(),
        };
        let mut forwarding = JoinSet::new();
        forwarding.spawn(accepting.run());
        Self {
            address,
            connections,
            cuts,
            _forwarding: forwarding,
        }
    }

    /// How many connections there have been.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Cuts the connections off that there are: neither end hears a word more, not even that of its end. New ones pass.
    pub(crate) fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}

struct Accepting {
    listener: TcpListener,
    server: SocketAddr,
    pace: Pace,
    random: Random,
    connections: Arc<AtomicUsize>,
    cuts: watch::Sender<u64>,
}

impl Accepting {
    async fn run(mut self) {
        let mut pairs = JoinSet::new();
        loop {
            tokio::select! {
                Ok((near, _)) = self.listener.accept() => {
                    self.connections.fetch_add(1, Ordering::Relaxed);
                    let mut cut = self.cuts.subscribe();
                    let (server, pace) = (self.server, self.pace);
                    let (there, back) = (self.random.fork(), self.random.fork());
                    pairs.spawn(async move {
                        let mut near = near;
                        let Ok(mut far) = far(server, pace).await else {
                            return;
                        };
                        _ = near.set_nodelay(true);
                        tokio::select! {
                            () = forward(&mut near, &mut far, pace, there, back) => {}
                            // The sockets stay, and nobody reads them.
                            _ = cut.changed() => std::future::pending().await,
                        }
                    });
                }
                Some(_) = pairs.join_next() => {}
            }
        }
    }
}

async fn far(server: SocketAddr, pace: Pace) -> std::io::Result<TcpStream> {
    let socket = match server {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if let Some(buffer) = pace.buffer {
        socket.set_recv_buffer_size(buffer)?;
        socket.set_send_buffer_size(buffer)?;
    }
    let far = socket.connect(server).await?;
    far.set_nodelay(true)?;
    Ok(far)
}

/// Both directions, until both have ended or one has failed.
async fn forward(
    near: &mut TcpStream,
    far: &mut TcpStream,
    pace: Pace,
    there: Random,
    back: Random,
) {
    let ((near_recv, near_send), (far_recv, far_send)) = (near.split(), far.split());
    _ = tokio::try_join!(
        carry(near_recv, far_send, pace, there),
        carry(far_recv, near_send, pace, back),
    );
}

/// One direction, up to its end, which is passed on.
async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    pace: Pace,
    mut random: Random,
) -> std::io::Result<()> {
    let mut piece = vec![0; pace.piece];
    loop {
        let most = match pace.late_percent {
            0 => pace.piece,
            _ => random.below(pace.piece as u64) as usize + 1,
        };
        let size = from.read(&mut piece[..most]).await?;
        if size == 0 {
            return to.shutdown().await;
        }
        if random.percent(pace.late_percent) {
            let micros = u64::try_from(pace.late.as_micros()).unwrap();
            tokio::time::sleep(Duration::from_micros(random.below(micros + 1))).await;
        }
        to.write_all(&piece[..size]).await?;
    }
}
