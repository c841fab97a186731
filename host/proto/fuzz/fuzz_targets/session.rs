//! A session survives any peer and any order of commands: it ends at most once, and what it sends breaks no rule.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use wharf_proto::{
    code::{HttpCode, Violation},
    id::Dir,
    session::{By, Config, EVENTS_MAX, Event, Limits, Session, Transmit},
};

// Each byte of the input says what happens next; some take the bytes after them.
fuzz_target!(|input: &[u8]| {
    let mut input = Input(input);
    let limits = |n: u8| Limits {
        data: n.into(),
        streams_bidi: (n & 3).into(),
        streams_uni: (n >> 6).into(),
    };
    let (local, peer) = (limits(input.byte()), limits(input.byte()));
    let flow_control = !local.is_zero() && !peer.is_zero();
    let mut run = Run::new(local, peer, flow_control);
    while !input.0.is_empty() {
        run.step(&mut input);
        run.check_events();
    }
    run.transmit();
});

struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        self.0.split_off_first().copied().unwrap_or_default()
    }

    fn dir(&mut self) -> Dir {
        if self.byte() & 1 == 0 {
            Dir::Bi
        } else {
            Dir::Uni
        }
    }

    fn bytes(&mut self) -> Bytes {
        let n = usize::from(self.byte()).min(self.0.len());
        Bytes::copy_from_slice(self.0.split_off(..n).unwrap_or_default())
    }
}

struct Run {
    session: Session,
    /// What an honest peer makes of what is sent to it.
    mirror: Session,
    streams: Vec<(By, Dir)>,
    unread: u64,
    fins: u32,
    closed: bool,
}

impl Run {
    fn new(local: Limits, peer: Limits, flow_control: bool) -> Self {
        let session = |local, peer| {
            Session::new(Config {
                flavour: wharf_proto::session::Flavour::Native,
                local,
                peer: flow_control.then_some(peer),
                datagram_bytes_max: 64,
            })
        };
        Self {
            session: session(local, peer),
            mirror: session(peer, local),
            streams: Vec::new(),
            unread: 0,
            fins: 0,
            closed: false,
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.byte() % 16 {
            0..4 => self.session.receive(input.bytes()),
            4 => {
                let dir = input.dir();
                if self.session.open(dir).is_ok() {
                    self.streams.push((By::Local, dir));
                }
            }
            5 => {
                let dir = input.dir();
                if self.session.accept(dir).is_ok() {
                    self.streams.push((By::Peer, dir));
                }
            }
            6 => {
                if let Some((by, dir)) = self.streams.pop() {
                    self.session.end(by, dir);
                }
            }
            7 => {
                let n = u64::from(input.byte()).min(self.session.send_credit());
                self.session.take_send_credit(n);
                self.session.note_blocked();
            }
            8 => {
                let n = input.byte().into();
                if self.session.received(n).is_ok() {
                    self.unread += n;
                }
            }
            9 => {
                let n = u64::from(input.byte()).min(self.unread);
                self.unread -= n;
                self.session.consumed(n);
            }
            10 => self.transmit(),
            11 => self.session.receive_fin(),
            12 => self.session.receive_abort("reset"),
            13 if input.byte() & 1 == 0 => self.session.ask_to_drain(),
            13 => self.session.drain(),
            14 => self.session.close(input.byte().into(), "closed"),
            _ if input.byte() & 1 == 0 => self.session.connection_lost(0, "lost"),
            _ => self.session.fail(Violation {
                code: HttpCode::H3_ID_ERROR,
                reason: "wrong",
            }),
        }
        assert_eq!(self.session.open_streams(), self.streams.len());
    }

    fn check_events(&mut self) {
        let mut n = 0;
        while let Some(event) = self.session.poll_event() {
            assert!(!self.closed, "{event:?} after the last event");
            self.closed = matches!(event, Event::Closed(_));
            n += 1;
        }
        assert!(n <= EVENTS_MAX + 5);
        assert_eq!(self.session.is_closed(), self.closed);
    }

    fn transmit(&mut self) {
        while let Some(transmit) = self.session.poll_transmit() {
            match transmit {
                Transmit::Capsules(bytes) => {
                    assert_eq!(self.fins, 0, "bytes after FIN");
                    self.mirror.receive(bytes);
                }
                Transmit::Fin => {
                    self.fins += 1;
                    self.mirror.receive_fin();
                }
                Transmit::Abort(_) => assert!(self.session.is_closed()),
            }
        }
        assert!(self.fins <= 1);
        while let Some(transmit) = self.mirror.poll_transmit() {
            assert!(!matches!(transmit, Transmit::Abort(_)), "{transmit:?}");
        }
    }
}
