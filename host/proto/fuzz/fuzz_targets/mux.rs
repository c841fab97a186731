//! A session of streams in capsules survives any peer and any order of commands, and two of them, however the pipe between
//! them cuts their bytes, break no rule and lose nothing.

#![no_main]

use std::collections::BTreeMap;

use bytes::{Buf as _, Bytes};
use libfuzzer_sys::fuzz_target;
use wharf_proto::{
    buffer::SendLimits,
    capsule::{Decoder, FinOrder},
    code::CLOSE_PROTOCOL_VIOLATION,
    contract::{Closer, CommandError, Event},
    id::{Dir, Side, StreamId},
    mux::{Config, Grants, Limits, Mux, Transmit},
    session,
};

const STREAMS_MAX: u32 = 6;
const DATAGRAMS_MAX: usize = 3;
const SEND_MAX: usize = 255;

// The first byte says whether the peer is any bytes or an honest end, and the next ones what is granted. Then each byte
// says what happens next; some take the bytes after them.
fuzz_target!(|input: &[u8]| {
    let mut input = Input(input);
    let kind = input.byte();
    let order = if kind & 2 == 0 {
        FinOrder::Deployed
    } else {
        FinOrder::Draft15
    };
    let (client, server) = (input.grants(), input.grants());
    let config = |side, local, peer, send| Config {
        side,
        order,
        swapped_ids: kind & 4 != 0,
        local,
        peer,
        limits: Limits {
            send,
            reads_wait_for_room: true,
            streams_per_kind: STREAMS_MAX,
            datagrams_in: DATAGRAMS_MAX,
            datagrams_out: DATAGRAMS_MAX,
            datagram_bytes: 64,
        },
    };
    let send = SendLimits {
        stream: 1 + usize::from(input.byte()),
        session: 1 + 2 * usize::from(input.byte()),
        room: usize::MAX,
    };
    // It takes all that its application gives, so that both do not wait for each other to read.
    let patient = SendLimits {
        stream: 1 << 30,
        session: 1 << 30,
        room: usize::MAX,
    };
    let server = End::new(config(Side::Server, server, client, send));
    if kind & 1 == 0 {
        alone(server, &mut input, Decoder::with_streams(64, order));
    } else {
        let (local, peer) = (server.config.peer, server.config.local);
        let client = End::new(config(Side::Client, local, peer, patient));
        Pair([client, server]).run(&mut input);
    }
});

struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        self.0.split_off_first().copied().unwrap_or_default()
    }

    fn grants(&mut self) -> Grants {
        let n = self.byte();
        // None is zero: who is granted nothing waits for ever.
        let window = |n: u8| 1 + u64::from(n);
        Grants {
            session: session::Limits {
                data: window(self.byte()),
                streams_bidi: u64::from(n & 7),
                streams_uni: u64::from(n >> 4 & 7),
            },
            uni: window(self.byte()),
            bidi_local: window(self.byte()),
            bidi_remote: window(self.byte()),
        }
    }

    fn bytes(&mut self) -> Bytes {
        let n = usize::from(self.byte()).min(self.0.len());
        Bytes::copy_from_slice(self.0.split_off(..n).unwrap_or_default())
    }
}

/// What an end knows of a stream.
#[derive(Default)]
struct Track {
    sent: u64,
    received: u64,
    /// Whether a direction was reset or stopped.
    given_up: bool,
    over: bool,
}

struct End {
    config: Config,
    mux: Mux,
    streams: BTreeMap<StreamId, Track>,
    inbox: Vec<u8>,
    fin: bool,
    closed: Option<u32>,
    /// Whether the peer is honest, and its bytes are known.
    honest: bool,
}

/// The byte at a place of what one side sends on a stream.
fn byte(id: StreamId, sender: Side, offset: u64) -> u8 {
    let sender = u64::from(sender == Side::Server);
    (u64::from(id) * 31 + sender * 101 + offset * 7).to_le_bytes()[0]
}

impl End {
    fn new(config: Config) -> Self {
        Self {
            config,
            mux: Mux::new(config),
            streams: BTreeMap::new(),
            inbox: Vec::new(),
            fin: false,
            closed: None,
            honest: false,
        }
    }

    fn stream(&mut self, input: &mut Input<'_>) -> Option<StreamId> {
        let place = usize::from(input.byte());
        let n = self.streams.len();
        self.streams.keys().nth(place.checked_rem(n)?).copied()
    }

    /// What the application does, but for what ends the session.
    fn command(&mut self, command: u8, input: &mut Input<'_>) {
        match command {
            0 | 1 => {
                let dir = if command == 0 { Dir::Bi } else { Dir::Uni };
                if let Ok(id) = self.mux.open(dir) {
                    self.streams.insert(id, Track::default());
                }
            }
            2 => {
                let _ = self.mux.send_datagram(&input.bytes());
            }
            3 => self.take_events(1),
            4 => self.take_events(usize::MAX),
            _ => {
                if let Some(id) = self.stream(input) {
                    self.stream_command(command, id, input.byte());
                }
            }
        }
    }

    fn stream_command(&mut self, command: u8, id: StreamId, n: u8) {
        let side = self.config.side;
        let track = self.streams.get_mut(&id).unwrap();
        match command {
            5 => {
                let taken = self.mux.finish(id);
                assert_ne!(taken, Err(CommandError::WouldBlock));
            }
            6 => track.given_up |= self.mux.reset(id, n.into()).is_ok(),
            7 => track.given_up |= self.mux.stop(id, n.into()).is_ok(),
            8 => {
                let _ = self.mux.set_priority(id, (n & 3).into());
            }
            _ => {
                let places = track.sent..track.sent + u64::from(n);
                let data: Bytes = places.map(|place| byte(id, side, place)).collect();
                let room = self.mux.send_capacity(id);
                let taken = self.mux.send(id, data, false);
                if taken.is_ok() {
                    track.sent += u64::from(n);
                }
                if room.is_ok_and(|room| room >= n.into()) {
                    assert_eq!(taken, Ok(()));
                }
            }
        }
    }

    fn take_events(&mut self, n: usize) {
        for _ in 0..n {
            let Some(event) = self.mux.poll_event() else {
                return;
            };
            assert_eq!(self.closed, None, "{event:?} after the last event");
            self.take(event);
        }
    }

    fn take(&mut self, event: Event) {
        let sender = self.config.side.other();
        match event {
            Event::Opened(id) => assert!(self.streams.insert(id, Track::default()).is_none()),
            Event::Data { stream, data, fin } => {
                assert!(fin || !data.is_empty());
                let track = self.streams.get_mut(&stream).unwrap();
                assert!(!track.over);
                for got in data {
                    let expected = byte(stream, sender, track.received);
                    assert!(!self.honest || got == expected);
                    track.received += 1;
                }
            }
            Event::Reset(id, _) | Event::Stopped(id, _) => {
                let track = self.streams.get_mut(&id).unwrap();
                assert!(!track.over);
                track.given_up = true;
            }
            Event::Writable(id) => assert!(!self.streams[&id].over),
            Event::StreamClosed(id) => {
                let track = self.streams.get_mut(&id).unwrap();
                assert!(!std::mem::replace(&mut track.over, true));
                if !self.honest {
                    self.streams.remove(&id);
                }
            }
            Event::Datagram(datagram) => assert!(datagram.len() <= 64),
            Event::Draining => {}
            Event::Closed(closed) => self.closed = Some(closed.code),
            other => panic!("an event that is not known here: {other:?}"),
        }
    }

    /// What there is to say, of which little is more than the room.
    fn transmit(&mut self, room: usize) -> Option<Transmit> {
        let due = self.mux.has_transmit();
        let transmit = self.mux.poll_transmit(room);
        assert_eq!(transmit.is_some(), due);
        transmit
    }

    fn check(&self) {
        let info = self.mux.info();
        let limits = self.config.limits;
        let most = limits.send.session.saturating_add(SEND_MAX);
        assert!(info.send_buffered <= most as u64);
        let own = u64::from(STREAMS_MAX);
        let granted = self.config.local.session;
        assert!(u64::from(info.streams_bidi) <= own + granted.streams_bidi);
        assert!(u64::from(info.streams_uni) <= own + granted.streams_uni);
    }
}

/// The peer is any bytes.
fn alone(mut end: End, input: &mut Input<'_>, mut decoder: Decoder) {
    let mut fins = 0;
    while !input.0.is_empty() {
        match input.byte() % 20 {
            0..4 => end.mux.receive(input.bytes()),
            4 => match input.byte() % 8 {
                0 => end.mux.receive_fin(),
                1 => end.mux.receive_abort("reset"),
                2 => end.mux.connection_lost(0, "lost"),
                3 => end.mux.drain(),
                4 => end.mux.ask_to_drain(),
                5 => end.mux.peer_drains(),
                _ => end.mux.close(1, "closed", Closer::Local),
            },
            5..8 => match end.transmit(1 + usize::from(input.byte())) {
                None => {}
                Some(Transmit::Fin) => fins += 1,
                Some(Transmit::Abort(_)) => assert!(end.mux.is_closed()),
                Some(Transmit::Capsules(mut chunks)) => {
                    assert_eq!(fins, 0, "bytes after FIN");
                    decoder.push(chunks.copy_to_bytes(chunks.remaining()));
                    while decoder.poll().expect("only capsules are sent").is_some() {}
                    assert_eq!(decoder.finish(), Ok(()), "capsules are sent whole");
                }
            },
            command => end.command(command - 8, input),
        }
        end.check();
    }
    assert!(fins <= 1);
    end.take_events(usize::MAX);
    assert_eq!(end.closed.is_some(), end.mux.is_closed());
}

struct Pair([End; 2]);

impl Pair {
    fn run(mut self, input: &mut Input<'_>) {
        for end in &mut self.0 {
            end.honest = true;
        }
        while !input.0.is_empty() {
            let what = input.byte();
            let side = usize::from(what & 1);
            match what >> 1 & 31 {
                0..5 => drop(self.deliver(side, input.byte().into())),
                5..10 => drop(self.transmit(side, 1 + usize::from(input.byte()))),
                10 => match input.byte() {
                    0 => self.0[side].mux.drain(),
                    1 => self.0[side].mux.close(1, "closed", Closer::Local),
                    _ => {}
                },
                command => self.0[side].command(command - 11, input),
            }
            self.0[side].check();
        }
        let mut busy = true;
        while std::mem::take(&mut busy) {
            for side in [0, 1] {
                busy |= self.deliver(side, usize::MAX);
                self.0[side].take_events(usize::MAX);
                busy |= self.transmit(side, 1 << 16);
            }
        }
        self.agree();
    }

    fn transmit(&mut self, side: usize, room: usize) -> bool {
        let transmit = self.0[side].transmit(room);
        let happened = transmit.is_some();
        let peer = &mut self.0[1 - side];
        match transmit {
            None => {}
            Some(Transmit::Fin) => assert!(!std::mem::replace(&mut peer.fin, true)),
            Some(Transmit::Abort(code)) => panic!("{code}"),
            Some(Transmit::Capsules(chunks)) => {
                assert!(!peer.fin, "bytes after FIN");
                let mut chunks = chunks;
                while chunks.has_remaining() {
                    peer.inbox.extend_from_slice(chunks.chunk());
                    let n = chunks.chunk().len();
                    chunks.advance(n);
                }
            }
        }
        happened
    }

    fn deliver(&mut self, side: usize, n: usize) -> bool {
        let end = &mut self.0[side];
        let bytes: Vec<u8> = end.inbox.drain(..n.min(end.inbox.len())).collect();
        let happened = !bytes.is_empty();
        end.mux.receive(bytes.into());
        if end.fin && end.inbox.is_empty() {
            end.mux.receive_fin();
        }
        happened
    }

    /// Nothing is in flight: what one end gave, the other has.
    fn agree(&self) {
        let [client, server] = &self.0;
        assert_eq!(client.closed.is_some(), server.closed.is_some());
        if client.closed.is_some() {
            for end in &self.0 {
                assert_ne!(end.closed, Some(CLOSE_PROTOCOL_VIOLATION));
            }
            return;
        }
        for (end, peer) in [(client, server), (server, client)] {
            assert_eq!(end.mux.info().send_buffered, 0);
            for (id, track) in &end.streams {
                let other = &peer.streams[id];
                assert_eq!(track.over, other.over);
                if !track.given_up && !other.given_up {
                    assert_eq!(track.sent, other.received);
                }
            }
        }
    }
}
