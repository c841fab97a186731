//! Two sessions joined by byte queues: honest ends never break a rule, and both learn how it ended.

#![expect(clippy::arithmetic_side_effects, reason = "an overflow fails the test")]

use proptest::{collection::vec, prelude::*};

use super::*;

/// One end, with what the network still carries to it.
struct End {
    session: Session,
    inbox: Vec<u8>,
    fin: bool,
    /// Bytes that came and were not consumed.
    unread: u64,
    closed: Option<Closed>,
}

#[derive(Copy, Clone, Debug)]
enum Step {
    Open(usize, Dir),
    /// The stream at this place, of those that are open, is over.
    Over(usize),
    Send(usize, u64),
    Consume(usize, u64),
    Transmit(usize),
    /// The network hands over so many bytes.
    Deliver(usize, usize),
    Drain(usize),
    Close(usize, u32),
}

struct Pair {
    ends: [End; 2],
    /// Who opened each stream that is not over, and whether the other end took it.
    streams: Vec<(usize, Dir, bool)>,
}

impl Pair {
    fn new(limits: [Limits; 2]) -> Self {
        let end = |local: Limits, peer: Limits| End {
            session: Session::new(Config {
                local,
                peer: Some(peer),
                datagram_bytes_max: 0,
            }),
            inbox: Vec::new(),
            fin: false,
            unread: 0,
            closed: None,
        };
        let [a, b] = limits;
        Self {
            ends: [end(a, b), end(b, a)],
            streams: Vec::new(),
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
                    let accepted = peer.session.accept(dir).is_ok();
                    assert!(accepted || peer.session.is_closed());
                    self.streams.push((side, dir, accepted));
                }
            }
            Step::Over(place) => {
                if place < self.streams.len() {
                    let (side, dir, accepted) = self.streams.swap_remove(place);
                    let (end, peer) = self.at(side);
                    end.session.end(By::Local, dir);
                    if accepted {
                        peer.session.end(By::Peer, dir);
                    }
                }
            }
            Step::Send(side, n) => {
                let (end, peer) = self.at(side);
                let n = n.min(end.session.send_credit());
                end.session.take_send_credit(n);
                end.session.note_blocked();
                match peer.session.received(n) {
                    Ok(()) => peer.unread += n,
                    Err(_) => assert!(peer.session.is_closed()),
                }
            }
            Step::Consume(side, n) => {
                let (end, _) = self.at(side);
                let n = n.min(end.unread);
                end.unread -= n;
                end.session.consumed(n);
            }
            Step::Transmit(side) => {
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
            Step::Deliver(side, n) => {
                let (end, _) = self.at(side);
                let bytes: Vec<u8> = end.inbox.drain(..n.min(end.inbox.len())).collect();
                end.session.receive(bytes.into());
                if end.fin && end.inbox.is_empty() {
                    end.session.receive_fin();
                }
            }
            Step::Drain(side) => self.at(side).0.session.drain(),
            Step::Close(side, code) => self.at(side).0.session.close(code, "closed"),
        }
        for end in &mut self.ends {
            while let Some(event) = end.session.poll_event() {
                assert_eq!(end.closed, None, "{event:?} after the last event");
                if let Event::Closed(closed) = event {
                    end.closed = Some(closed);
                }
            }
        }
    }
}

fn any_step() -> impl Strategy<Value = Step> {
    let side = 0..2usize;
    let dir = prop_oneof![Just(Dir::Bi), Just(Dir::Uni)];
    prop_oneof![
        8 => (side.clone(), dir).prop_map(|(side, dir)| Step::Open(side, dir)),
        6 => (0..4usize).prop_map(Step::Over),
        8 => (side.clone(), 0..40u64).prop_map(|(side, n)| Step::Send(side, n)),
        8 => (side.clone(), 0..40u64).prop_map(|(side, n)| Step::Consume(side, n)),
        8 => side.clone().prop_map(Step::Transmit),
        8 => (side.clone(), 0..20usize).prop_map(|(side, n)| Step::Deliver(side, n)),
        1 => side.clone().prop_map(Step::Drain),
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn honest_ends_break_no_rule_and_both_learn_of_the_end(
        limits in [any_limits(), any_limits()],
        steps in vec(any_step(), 0..150),
    ) {
        let mut pair = Pair::new(limits);
        for step in steps {
            pair.step(step);
        }
        for (from, to) in [(0, 1), (1, 0), (0, 1)] {
            pair.step(Step::Transmit(from));
            pair.step(Step::Deliver(to, usize::MAX));
        }
        match pair.ends.map(|end| end.closed) {
            [None, None] => {}
            [Some(a), Some(b)] => {
                prop_assert!(a.clean && b.clean);
                let both_closed = a.by == By::Local && b.by == By::Local;
                prop_assert!(both_closed || (a.by != b.by && a.code == b.code && a.reason == b.reason));
            }
            [a, b] => prop_assert!(false, "only one end knows: {a:?}, {b:?}"),
        }
    }
}
