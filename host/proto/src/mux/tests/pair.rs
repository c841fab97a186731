//! Two ends joined by pipes that hand over what is in flight in pieces of any size: every byte arrives once and in order,
//! every code arrives, and nothing waits for ever.
//!
//! What fails is printed with the seed of its run, and comes again with that seed in `WHARF_SEED`.

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::seeded::check_seeded;

/// What an end did to a stream, and was told of it.
#[derive(Debug, Default)]
struct Track {
    sent: u64,
    finished: bool,
    reset: Option<u32>,
    stopped: Option<u32>,
    refused: bool,
    received: u64,
    fin: bool,
    was_reset: Option<u32>,
    stop: Option<u32>,
    over: bool,
}

impl Track {
    fn sends(&self) -> bool {
        !self.finished && self.reset.is_none() && self.stopped.is_none()
    }

    fn receives(&self) -> bool {
        !self.fin && self.was_reset.is_none() && self.stop.is_none()
    }
}

/// One end, with what the pipe still carries to it.
struct End {
    mux: Mux,
    inbox: Vec<u8>,
    fin: bool,
    streams: BTreeMap<StreamId, Track>,
    datagrams_sent: u32,
    last_datagram: Option<u32>,
    draining: bool,
    closed: Option<Closed>,
}

#[derive(Copy, Clone, Debug)]
enum Step {
    Do(Command),
    /// The transport has so much room.
    Transmit(usize),
    /// The pipe hands over so many bytes.
    Deliver(usize),
    /// The pipe breaks.
    Lose,
    /// Each end is told that the other gave up.
    Abort,
}

/// What the application does.
#[derive(Copy, Clone, Debug)]
enum Command {
    Open(Dir),
    /// On the stream at this place, of those of this end.
    Send(usize, usize, bool),
    Finish(usize),
    Reset(usize, u32),
    Stop(usize, u32),
    Priority(usize, i32),
    Datagram(usize),
    /// So many events are asked for.
    Events(usize),
    /// The send buffers have room for so many bytes.
    Room(usize),
    /// So many bytes and streams are granted from now on.
    Enlarge(u64, u64),
    Drain,
    Close(u32),
}

struct Pair {
    ends: [End; 2],
    /// How the pipe broke.
    lost: bool,
}

/// The byte at a place of what one side sends on a stream.
fn byte(id: StreamId, sender: Side, offset: u64) -> u8 {
    let id = u64::from(id);
    let sender = u64::from(sender == Side::Server);
    (id * 31 + sender * 101 + offset * 7 + (offset >> 8)).to_le_bytes()[0]
}

fn receives(id: StreamId, side: Side) -> bool {
    id.dir() == Dir::Bi || id.initiator() != side
}

fn sends(id: StreamId, side: Side) -> bool {
    receives(id, side.other())
}

impl End {
    fn new(config: Config) -> Self {
        Self {
            mux: Mux::new(config),
            inbox: Vec::new(),
            fin: false,
            streams: BTreeMap::new(),
            datagrams_sent: 0,
            last_datagram: None,
            draining: false,
            closed: None,
        }
    }

    fn side(&self) -> Side {
        self.mux.config.side
    }

    fn at(&mut self, place: usize) -> Option<StreamId> {
        let n = self.streams.len().max(1);
        self.streams.keys().nth(place % n).copied()
    }

    fn send(&mut self, id: StreamId, len: usize, fin: bool) {
        let side = self.side();
        let track = self.streams.get_mut(&id).unwrap();
        let data: Bytes = (track.sent..track.sent + len as u64)
            .map(|offset| byte(id, side, offset))
            .collect();
        match self.mux.send(id, data, fin) {
            Ok(()) => {
                assert!(track.sends() && sends(id, side));
                track.sent += len as u64;
                track.finished = fin;
            }
            Err(CommandError::WouldBlock) => track.refused = true,
            Err(CommandError::TooLarge) => assert!(len > self.mux.config.limits.send.room),
            Err(CommandError::UnknownStream) => assert!(track.over),
            Err(CommandError::WrongDirection) => assert!(!sends(id, side)),
            Err(CommandError::Finished) => assert!(track.finished),
            Err(CommandError::Reset) => {} // by a stop, where it was not told yet
            Err(error) => assert_eq!((error, self.mux.is_closed()), (CommandError::Closed, true)),
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Open(dir) => {
                if let Ok(id) = self.mux.open(dir) {
                    assert!(self.streams.insert(id, Track::default()).is_none());
                }
            }
            Command::Send(place, len, fin) => {
                if let Some(id) = self.at(place) {
                    self.send(id, len, fin);
                }
            }
            Command::Finish(place) => {
                if let Some(id) = self.at(place)
                    && self.mux.finish(id).is_ok()
                {
                    self.streams.get_mut(&id).unwrap().finished = true;
                }
            }
            Command::Reset(place, code) => {
                if let Some(id) = self.at(place)
                    && self.mux.reset(id, code).is_ok()
                {
                    let track = self.streams.get_mut(&id).unwrap();
                    assert_eq!(track.reset.replace(code), None);
                }
            }
            Command::Stop(place, code) => {
                if let Some(id) = self.at(place)
                    && self.mux.stop(id, code).is_ok()
                {
                    let track = self.streams.get_mut(&id).unwrap();
                    assert!(track.receives());
                    track.stop = Some(code);
                }
            }
            Command::Priority(place, priority) => {
                if let Some(id) = self.at(place) {
                    let _ = self.mux.set_priority(id, priority);
                }
            }
            Command::Datagram(len) => {
                let mut datagram = self.datagrams_sent.to_be_bytes().to_vec();
                datagram.resize(4 + len, 7);
                if self.mux.send_datagram(&datagram).is_ok() {
                    self.datagrams_sent += 1;
                }
            }
            Command::Events(n) => self.take_events(n),
            // The patient end takes all.
            Command::Room(bytes) if self.mux.config.limits.send.session < 1 << 30 => {
                self.mux.set_room(bytes);
            }
            Command::Room(_) => {}
            Command::Enlarge(data, streams) => self.mux.enlarge(session::Limits {
                data,
                streams_bidi: streams,
                streams_uni: streams,
            }),
            Command::Drain => self.mux.drain(),
            Command::Close(code) => self.mux.close(code, "closed", Closer::Local),
        }
    }

    fn take_events(&mut self, n: usize) {
        for _ in 0..n {
            let Some(event) = self.mux.poll_event() else {
                return;
            };
            self.take(event);
        }
    }

    fn take(&mut self, event: Event) {
        assert_eq!(self.closed, None, "{event:?} after the last event");
        let side = self.side();
        match event {
            Event::Opened(id) => {
                assert_eq!(id.initiator(), side.other());
                let same = |other: &&StreamId| {
                    (other.initiator(), other.dir()) == (id.initiator(), id.dir())
                };
                let before = self.streams.keys().filter(same).count() as u64;
                assert_eq!(id.index(), before, "opened in order");
                self.streams.insert(id, Track::default());
            }
            Event::Data { stream, data, fin } => {
                let track = self.streams.get_mut(&stream).unwrap();
                assert!(!track.over && track.receives() && receives(stream, side));
                assert!(fin || !data.is_empty());
                for got in data {
                    assert_eq!(got, byte(stream, side.other(), track.received));
                    track.received += 1;
                }
                track.fin = fin;
            }
            Event::Reset(id, code) => {
                let track = self.streams.get_mut(&id).unwrap();
                assert!(!track.over && track.receives());
                track.was_reset = Some(code.unwrap());
            }
            Event::Stopped(id, code) => {
                let track = self.streams.get_mut(&id).unwrap();
                assert!(!track.over && track.stopped.is_none() && track.reset.is_none());
                track.stopped = Some(code.unwrap());
            }
            Event::Writable(id) => {
                let track = self.streams.get_mut(&id).unwrap();
                assert!(std::mem::take(&mut track.refused) && !track.over);
            }
            Event::StreamClosed(id) => {
                let track = self.streams.get_mut(&id).unwrap();
                assert!(!sends(id, side) || !track.sends());
                assert!(!receives(id, side) || !track.receives());
                assert!(!std::mem::replace(&mut track.over, true));
            }
            Event::Datagram(datagram) => {
                let number = u32::from_be_bytes(datagram[..4].try_into().unwrap());
                assert!(self.last_datagram.replace(number) < Some(number));
            }
            Event::Draining => assert!(!std::mem::replace(&mut self.draining, true)),
            Event::Closed(closed) => self.closed = Some(closed),
        }
    }
}

impl Pair {
    fn new(setup: &Setup) -> Self {
        let [client, server] = setup.configs();
        Self {
            ends: [End::new(client), End::new(server)],
            lost: false,
        }
    }

    /// The end at `side`, and its peer.
    fn at(&mut self, side: usize) -> (&mut End, &mut End) {
        let [a, b] = &mut self.ends;
        if side == 0 { (a, b) } else { (b, a) }
    }

    /// Whether anything happened.
    fn step(&mut self, side: usize, step: Step) -> bool {
        let lost = self.lost;
        let (end, peer) = self.at(side);
        let mut happened = true;
        match step {
            Step::Transmit(room) => {
                let has = end.mux.has_transmit();
                let transmit = end.mux.poll_transmit(room);
                assert_eq!(transmit.is_some(), has, "{:?}", end.mux);
                happened = has;
                match transmit {
                    None => {}
                    Some(Transmit::Abort(_)) => assert!(lost),
                    Some(_) if lost => {}
                    Some(Transmit::Fin) => assert!(!std::mem::replace(&mut peer.fin, true)),
                    Some(Transmit::Capsules(mut chunks)) => {
                        assert!(!peer.fin, "bytes after FIN");
                        let n = chunks.remaining();
                        peer.inbox.extend_from_slice(&chunks.copy_to_bytes(n));
                    }
                }
            }
            Step::Deliver(n) => {
                happened = !end.inbox.is_empty() || end.fin;
                let bytes: Vec<u8> = end.inbox.drain(..n.min(end.inbox.len())).collect();
                end.mux.receive(bytes.into());
                if end.fin && end.inbox.is_empty() {
                    end.mux.receive_fin();
                    happened = !std::mem::take(&mut end.fin) || happened;
                }
            }
            Step::Lose | Step::Abort => {
                self.lost = true;
                for end in &mut self.ends {
                    (end.inbox, end.fin) = (Vec::new(), false);
                    if matches!(step, Step::Abort) {
                        end.mux.receive_abort("reset");
                    } else {
                        end.mux.connection_lost(9, "lost");
                    }
                }
            }
            Step::Do(command) => end.command(command),
        }
        for end in &self.ends {
            check(&end.mux);
        }
        happened
    }

    /// Both ends go on until nothing is left to do.
    fn settle(&mut self) {
        let mut happened = true;
        while std::mem::take(&mut happened) {
            for side in [0, 1] {
                happened |= self.step(side, Step::Deliver(usize::MAX));
                self.step(side, Step::Do(Command::Events(usize::MAX)));
                happened |= self.step(side, Step::Transmit(40_000));
            }
        }
    }
}

#[derive(Clone, Debug)]
struct Setup {
    client: Grants,
    server: Grants,
    send: SendLimits,
    /// Which end takes as much as its application gives, so that both do not wait for each other to read.
    patient: usize,
    swapped_ids: bool,
    order: FinOrder,
}

impl Setup {
    fn configs(&self) -> [Config; 2] {
        let config = |side, local, peer, patient| Config {
            side,
            order: self.order,
            swapped_ids: self.swapped_ids,
            local,
            peer,
            limits: Limits {
                reads_wait_for_room: true,
                send: if patient {
                    SendLimits {
                        stream: 1 << 30,
                        session: 1 << 30,
                        room: usize::MAX,
                    }
                } else {
                    self.send
                },
                streams_per_kind: 4,
                datagrams_in: 3,
                datagrams_out: 3,
                datagram_bytes: 60,
            },
        };
        [
            config(Side::Client, self.client, self.server, self.patient == 0),
            config(Side::Server, self.server, self.client, self.patient == 1),
        ]
    }
}

fn any_grants(scale: u64) -> impl Strategy<Value = Grants> {
    let window = 1..300 * scale;
    let windows = (window.clone(), window.clone(), window);
    (1..900 * scale, windows, 0..5u64, 0..5u64).prop_map(|(data, windows, bidi, uni)| Grants {
        session: session::Limits {
            data,
            streams_bidi: bidi,
            streams_uni: uni,
        },
        uni: windows.0,
        bidi_local: windows.1,
        bidi_remote: windows.2,
    })
}

fn any_setup(scale: usize) -> impl Strategy<Value = Setup> {
    let grants = || any_grants(scale as u64);
    let send = (1..400 * scale, 0..800 * scale);
    let flags = (0..2usize, any::<bool>(), any::<bool>());
    (grants(), grants(), send, flags).prop_map(|(client, server, send, flags)| Setup {
        client,
        server,
        send: SendLimits {
            stream: send.0,
            session: send.0 + send.1,
            room: usize::MAX,
        },
        patient: flags.0,
        swapped_ids: flags.1,
        order: if flags.2 {
            FinOrder::Deployed
        } else {
            FinOrder::Draft15
        },
    })
}

fn any_step(scale: usize) -> impl Strategy<Value = Step> {
    let place = 0..8usize;
    let code = prop_oneof![Just(0), Just(u32::MAX), any::<u32>()];
    let dir = prop_oneof![Just(Dir::Bi), Just(Dir::Uni)];
    let command = prop_oneof![
        6 => dir.prop_map(Command::Open),
        20 => (place.clone(), 0..300 * scale, prop::bool::weighted(0.1))
            .prop_map(|(place, len, fin)| Command::Send(place, len, fin)),
        3 => place.clone().prop_map(Command::Finish),
        2 => (place.clone(), code.clone()).prop_map(|(place, code)| Command::Reset(place, code)),
        2 => (place.clone(), code).prop_map(|(place, code)| Command::Stop(place, code)),
        2 => (place, -1..2i32).prop_map(|(place, priority)| Command::Priority(place, priority)),
        3 => (0..60usize).prop_map(Command::Datagram),
        14 => (0..6usize).prop_map(Command::Events),
        1 => (1..600 * scale).prop_map(Command::Room),
        1 => (0..900 * scale as u64, 0..9u64)
            .prop_map(|(data, streams)| Command::Enlarge(data, streams)),
    ];
    prop_oneof![
        52 => command.prop_map(Step::Do),
        14 => (1..400 * scale).prop_map(Step::Transmit),
        14 => (0..600 * scale).prop_map(Step::Deliver),
    ]
}

fn any_end() -> impl Strategy<Value = Step> {
    prop_oneof![
        Just(Step::Do(Command::Drain)),
        (1..9u32).prop_map(|code| Step::Do(Command::Close(code))),
        Just(Step::Lose),
        Just(Step::Abort),
    ]
}

fn any_steps(scale: usize) -> impl Strategy<Value = Vec<(usize, Step)>> {
    vec((0..2usize, any_step(scale)), 0..120)
}

/// What both ends know of their streams agrees, when nothing is in flight.
fn agree(pair: &Pair) -> Result<(), TestCaseError> {
    for (end, peer) in [(0, 1), (1, 0)].map(|(end, peer)| (&pair.ends[end], &pair.ends[peer])) {
        let open = end.streams.values().filter(|track| !track.over).count();
        prop_assert_eq!(end.mux.streams.len(), open);
        prop_assert_eq!(end.mux.buffered, 0);
        prop_assert!(end.mux.core.send_credit() > peer.mux.config.local.session.data / 2);
        for (id, ours) in &end.streams {
            let theirs = &peer.streams[id];
            prop_assert_eq!(ours.over, theirs.over, "{}", id);
            if !sends(*id, end.side()) {
                continue;
            }
            match (theirs.stop, ours.reset) {
                (None, None) => {
                    prop_assert_eq!(theirs.received, ours.sent, "{}", id);
                    prop_assert_eq!(theirs.fin, ours.finished, "{}", id);
                    prop_assert!(!(ours.refused && ours.sends()), "{} waits for ever", id);
                }
                (None, code) => prop_assert_eq!(theirs.was_reset, code, "{}", id),
                (Some(code), _) => match ours.stopped {
                    Some(told) => prop_assert_eq!(told, code, "{}", id),
                    None => prop_assert!(ours.finished || ours.reset.is_some(), "{}", id),
                },
            }
        }
    }
    Ok(())
}

fn run(pair: &mut Pair, steps: Vec<(usize, Step)>) {
    for (side, step) in steps {
        pair.step(side, step);
    }
}

#[test]
fn every_byte_and_every_code_arrives_once_and_nothing_waits_for_ever() {
    for (cases, scale) in [(2000, 1), (100, 60)] {
        let strategy = (any_setup(scale), any_steps(scale));
        check_seeded(cases, &strategy, |(setup, steps)| {
            let mut pair = Pair::new(&setup);
            run(&mut pair, steps);
            pair.settle();
            prop_assert!(pair.ends.iter().all(|end| end.closed.is_none()));
            agree(&pair)
        });
    }
}

#[test]
fn both_ends_learn_of_the_end_and_keep_nothing() {
    let ending = (0..2usize, any_end());
    let strategy = (any_setup(1), any_steps(1), ending, any_steps(1));
    check_seeded(1000, &strategy, |(setup, before, (side, ending), after)| {
        let mut pair = Pair::new(&setup);
        run(&mut pair, before);
        pair.step(side, ending);
        run(&mut pair, after);
        pair.settle();
        for end in &pair.ends {
            let mux = &end.mux;
            prop_assert_eq!(mux.is_told(), end.closed.is_some());
            if end.closed.is_some() {
                prop_assert!(mux.streams.is_empty() && mux.events.is_empty());
                prop_assert!(!mux.has_transmit());
            }
        }
        match (&pair.ends[0].closed, &pair.ends[1].closed) {
            (Some(a), Some(b)) if pair.lost => {
                prop_assert!(a.by == Closer::Local || a.by == Closer::Peer);
                prop_assert!(!(a.clean && b.clean) || a.code == b.code, "{a:?}, {b:?}");
            }
            (Some(a), Some(b)) => {
                prop_assert!(a.clean && b.clean);
                let both_closed = a.by == Closer::Local && b.by == Closer::Local;
                let one_word = a.by != b.by && a.code == b.code && a.reason == b.reason;
                prop_assert!(both_closed || one_word, "{a:?}, {b:?}");
            }
            // One of them drains, and streams are still open.
            (None, None) => prop_assert!(matches!(ending, Step::Do(Command::Drain))),
            (a, b) => prop_assert!(false, "only one end knows: {a:?}, {b:?}"),
        }
        Ok(())
    });
}
