//! Two sessions joined by a network that hands over what is in flight in any order: honest ends never break a rule, and
//! both learn how it ended.
//!
//! Bytes of the CONNECT stream keep their order. Streams, and pieces of data, are streams of QUIC's: each arrives when it
//! likes. What fails is printed with the seed of its run, and comes again with that seed in `WHARF_SEED`.

#![expect(clippy::arithmetic_side_effects, reason = "an overflow fails the test")]

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::seeded::check_seeded;

/// One end, with what the network still carries to it.
struct End {
    session: Session,
    inbox: Vec<u8>,
    fin: bool,
    in_flight: Vec<InFlight>,
    /// Bytes that came and were not consumed.
    unread: u64,
    /// Streams that came, or were opened here, and are not over here.
    streams: Vec<(By, Dir)>,
    closed: Option<Closed>,
}

/// What arrives in any order.
#[derive(Copy, Clone, Debug)]
enum InFlight {
    Stream(Dir),
    Data(u64),
}

#[derive(Copy, Clone, Debug)]
enum Step {
    Open(usize, Dir),
    /// The stream at this place, of those of this end, is over here.
    Over(usize, usize),
    Send(usize, u64),
    Consume(usize, u64),
    Transmit(usize),
    /// The network hands over so many bytes of the CONNECT stream.
    Deliver(usize, usize),
    /// The network hands over what is at this place of what is in flight.
    Arrive(usize, usize),
    Drain(usize),
    /// The end grants as much from now on.
    Enlarge(usize, Limits),
    Close(usize, u32),
}

struct Pair {
    ends: [End; 2],
}

impl Pair {
    fn new(limits: [Limits; 2]) -> Self {
        let end = |local: Limits, peer: Limits| End {
            session: Session::new(Config {
                flavour: Flavour::Native,
                local,
                peer: Some(peer),
                datagram_bytes_max: 0,
            }),
            inbox: Vec::new(),
            fin: false,
            in_flight: Vec::new(),
            unread: 0,
            streams: Vec::new(),
            closed: None,
        };
        let [a, b] = limits;
        Self {
            ends: [end(a, b), end(b, a)],
        }
    }

    /// The end at `side`, and its peer.
    fn at(&mut self, side: usize) -> (&mut End, &mut End) {
        let [a, b] = &mut self.ends;
        if side == 0 { (a, b) } else { (b, a) }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Open(side, dir) => {
                let (end, peer) = self.at(side);
                if end.session.open(dir).is_ok() {
                    end.streams.push((By::Local, dir));
                    peer.in_flight.push(InFlight::Stream(dir));
                }
            }
            Step::Over(side, place) => self.at(side).0.over(place),
            Step::Send(side, n) => {
                let (end, peer) = self.at(side);
                let n = n.min(end.session.send_credit());
                end.session.take_send_credit(n);
                end.session.note_blocked();
                peer.in_flight.push(InFlight::Data(n));
            }
            Step::Consume(side, n) => {
                let (end, _) = self.at(side);
                let n = n.min(end.unread);
                end.unread -= n;
                end.session.consumed(n);
            }
            Step::Transmit(side) => self.transmit(side),
            Step::Deliver(side, n) => {
                let (end, _) = self.at(side);
                let bytes: Vec<u8> = end.inbox.drain(..n.min(end.inbox.len())).collect();
                end.session.receive(bytes.into());
                if end.fin && end.inbox.is_empty() {
                    end.session.receive_fin();
                }
            }
            Step::Arrive(side, place) => self.at(side).0.arrive(place),
            Step::Drain(side) => self.at(side).0.session.drain(),
            Step::Enlarge(side, limits) => self.at(side).0.session.enlarge(limits),
            Step::Close(side, code) => self.at(side).0.session.close(code, "closed"),
        }
        for end in &mut self.ends {
            end.take_events();
        }
    }

    fn transmit(&mut self, side: usize) {
        let (end, peer) = self.at(side);
        while let Some(transmit) = end.session.poll_transmit() {
            assert!(!peer.fin, "{transmit:?} after the end of the stream");
            match transmit {
                Transmit::Capsules(bytes) => peer.inbox.extend_from_slice(&bytes),
                Transmit::Fin => peer.fin = true,
                Transmit::Abort(code) => panic!("{code}"),
            }
        }
    }

    /// Everything that was said arrives, back and forth until nothing is left to say.
    fn settle(&mut self) {
        for (from, to) in [(0, 1), (1, 0), (0, 1)] {
            self.step(Step::Transmit(from));
            self.step(Step::Deliver(to, usize::MAX));
        }
    }
}

impl End {
    fn arrive(&mut self, place: usize) {
        if place >= self.in_flight.len() {
            return;
        }
        let arrived = self.in_flight.swap_remove(place);
        let taken = match arrived {
            InFlight::Stream(dir) => {
                let taken = self.session.accept(dir);
                if taken.is_ok() {
                    self.streams.push((By::Peer, dir));
                }
                taken
            }
            InFlight::Data(n) => {
                let taken = self.session.received(n);
                if taken.is_ok() {
                    self.unread += n;
                }
                taken
            }
        };
        if let Err(violation) = taken {
            assert_eq!(violation.code, HttpCode::WT_SESSION_GONE, "{arrived:?}");
        }
    }

    fn over(&mut self, place: usize) {
        if place < self.streams.len() {
            let (by, dir) = self.streams.swap_remove(place);
            self.session.end(by, dir);
        }
    }

    fn take_events(&mut self) {
        while let Some(event) = self.session.poll_event() {
            assert_eq!(self.closed, None, "{event:?} after the last event");
            if let Event::Closed(closed) = event {
                self.closed = Some(closed);
            }
        }
        assert_eq!(self.session.is_closed(), self.closed.is_some());
        assert_eq!(self.session.open_streams(), self.streams.len());
    }
}

fn any_step() -> impl Strategy<Value = Step> {
    let side = 0..2usize;
    let dir = prop_oneof![Just(Dir::Bi), Just(Dir::Uni)];
    let place = 0..4usize;
    prop_oneof![
        8 => (side.clone(), dir).prop_map(|(side, dir)| Step::Open(side, dir)),
        8 => (side.clone(), place.clone()).prop_map(|(side, place)| Step::Over(side, place)),
        8 => (side.clone(), 0..40u64).prop_map(|(side, n)| Step::Send(side, n)),
        8 => (side.clone(), 0..40u64).prop_map(|(side, n)| Step::Consume(side, n)),
        8 => side.clone().prop_map(Step::Transmit),
        8 => (side.clone(), 0..20usize).prop_map(|(side, n)| Step::Deliver(side, n)),
        14 => (side.clone(), place).prop_map(|(side, place)| Step::Arrive(side, place)),
        1 => side.clone().prop_map(Step::Drain),
        1 => (side.clone(), any_limits()).prop_map(|(side, limits)| Step::Enlarge(side, limits)),
        1 => (side, 1..9u32).prop_map(|(side, code)| Step::Close(side, code)),
    ]
}

fn any_limits() -> impl Strategy<Value = Limits> {
    (0..50u64, 0..5u64, 0..5u64).prop_map(|(data, streams_bidi, streams_uni)| Limits {
        data,
        streams_bidi,
        streams_uni,
    })
}

#[test]
fn honest_ends_break_no_rule_and_both_learn_of_the_end() {
    let strategy = ([any_limits(), any_limits()], vec(any_step(), 0..200));
    check_seeded(2000, &strategy, |(limits, steps)| {
        let mut pair = Pair::new(limits);
        for step in steps {
            pair.step(step);
        }
        pair.settle();
        match pair.ends.map(|end| end.closed) {
            [None, None] => {}
            [Some(a), Some(b)] => {
                prop_assert!(a.clean && b.clean);
                let both_closed = a.by == By::Local && b.by == By::Local;
                let one_word = a.by != b.by && a.code == b.code && a.reason == b.reason;
                prop_assert!(both_closed || one_word, "{a:?}, {b:?}");
            }
            [a, b] => prop_assert!(false, "only one end knows: {a:?}, {b:?}"),
        }
        Ok(())
    });
}

#[test]
fn what_was_used_up_is_granted_again_however_the_network_delivers() {
    let limits = Limits {
        data: 40,
        streams_bidi: 3,
        streams_uni: 3,
    };
    let no_end = any_step().prop_filter("the session goes on", |step| {
        !matches!(step, Step::Drain(_) | Step::Close(..))
    });
    check_seeded(500, &vec(no_end, 0..200), |steps| {
        let mut pair = Pair::new([limits, limits]);
        for step in steps {
            pair.step(step);
        }
        // Everything arrives, is consumed and ends; each end may then use a whole window again, but for what is not
        // worth a capsule: less than half of it.
        for side in [0, 1] {
            while !pair.at(side).0.in_flight.is_empty() {
                pair.step(Step::Arrive(side, 0));
            }
            while !pair.at(side).0.streams.is_empty() {
                pair.step(Step::Over(side, 0));
            }
            pair.step(Step::Consume(side, u64::MAX));
        }
        pair.settle();
        for end in &pair.ends {
            prop_assert_eq!(&end.closed, &None);
            prop_assert!(end.session.send_credit() > limits.data / 2);
            for dir in [Dir::Bi, Dir::Uni] {
                prop_assert!(end.session.open_credit(dir) > Some(limits.streams_bidi / 2));
            }
        }
        Ok(())
    });
}
