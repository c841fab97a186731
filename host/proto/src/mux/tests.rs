#![expect(clippy::arithmetic_side_effects, reason = "an overflow fails the test")]

use std::iter;

use bytes::{Buf as _, BytesMut};

use super::*;
use crate::{
    capsule::{Capsule, Decoder},
    code::CLOSE_PROTOCOL_VIOLATION,
    contract::{Closed, Closer, CommandError},
};

mod close;
mod credit;
mod datagrams;
mod dishonest;
mod ends;
mod pair;
mod sending;
mod streams;

const GRANTS: Grants = Grants {
    session: session::Limits {
        data: 1_000,
        streams_bidi: 3,
        streams_uni: 3,
    },
    uni: 300,
    bidi_local: 300,
    bidi_remote: 300,
};

fn config(side: Side) -> Config {
    Config {
        side,
        order: FinOrder::Deployed,
        swapped_ids: false,
        local: GRANTS,
        peer: GRANTS,
        limits: Limits {
            reads_wait_for_room: true,
            send: SendLimits {
                stream: 400,
                session: 1_000,
                room: usize::MAX,
            },
            streams_per_kind: 8,
            datagrams_in: 4,
            datagrams_out: 4,
            datagram_bytes: 100,
        },
    }
}

/// What holds of a session at any time.
fn check(mux: &Mux) {
    let streams = &mux.streams;
    for list in [&mux.readable, &mux.writable, &mux.starved, &mux.news] {
        let mut sorted: Vec<StreamId> = list.iter().copied().collect();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), list.len(), "a stream is listed twice");
        assert!(sorted.iter().all(|id| streams.contains_key(id)));
    }
    let listed = |list: &VecDeque<StreamId>, id| list.contains(&id);
    let (mut buffered, mut unread) = (0, 0);
    let mut ready = 0;
    let mut sorted: Vec<_> = streams.iter().collect();
    sorted.sort_unstable_by_key(|(id, _)| **id);
    for (id, stream) in sorted {
        assert_eq!(stream.listed_readable, listed(&mux.readable, *id));
        assert_eq!(stream.listed_writable, listed(&mux.writable, *id));
        assert_eq!(stream.listed_starved, listed(&mux.starved, *id));
        assert_eq!(stream.listed_news, listed(&mux.news, *id));
        assert_eq!(stream.listed_news, stream.has_news(), "{id}: {stream:?}");
        let mut may_send = false;
        if let Half::Open(sending) = &stream.send {
            buffered += sending.buffer.len();
            may_send = !sending.buffer.is_empty() && sending.credit.available() > 0;
        }
        if let Half::Open(receiving) = &stream.recv {
            unread += receiving.buffer.len();
        }
        assert_eq!(stream.turn.is_some(), may_send, "{id}: {stream:?}");
        if let Some(turn) = stream.turn {
            assert_eq!(mux.ready.get(&turn), Some(id));
            ready += 1;
        }
    }
    assert_eq!((mux.buffered, mux.ready.len()), (buffered, ready));
    let info = mux.info();
    let count = |dir| streams.keys().filter(|id| id.dir() == dir).count() as u64;
    assert_eq!(u64::from(info.streams_bidi), count(Dir::Bi));
    assert_eq!(u64::from(info.streams_uni), count(Dir::Uni));
    let waiting: usize = mux.datagrams_out.iter().map(Bytes::len).sum();
    assert_eq!(mux.datagram_bytes_out, waiting);
    let came: usize = mux.datagrams_in.iter().map(Bytes::len).sum();
    if !mux.is_closed() {
        let told = mux.events.iter().map(|event| {
            if let Event::Data { data, .. } = event {
                data.len()
            } else {
                0
            }
        });
        let lent = mux.lent.map_or(0, |(_, n)| usize::try_from(n).unwrap());
        unread += told.sum::<usize>() + lent;
        let held = buffered + unread + waiting + came + mux.core.buffered();
        assert_eq!(mux.held(), held);
    }
    assert!(mux.datagrams_out.len() <= mux.config.limits.datagrams_out);
    assert!(mux.datagrams_in.len() <= mux.config.limits.datagrams_in);
}

/// What a session has to transmit into so much room at a time, and whether FIN follows.
fn transmitted(mux: &mut Mux, room: usize) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    while let Some(transmit) = mux.poll_transmit(room) {
        match transmit {
            Transmit::Capsules(mut chunks) => {
                let all = chunks.copy_to_bytes(chunks.remaining());
                bytes.extend_from_slice(&all);
            }
            Transmit::Fin => return (bytes, true),
            Transmit::Abort(code) => panic!("aborted with {code}"),
        }
    }
    assert!(!mux.has_transmit());
    (bytes, false)
}

fn events(mux: &mut Mux) -> Vec<Event> {
    iter::from_fn(|| mux.poll_event()).collect()
}

/// A server, accepted just now.
fn server() -> Mux {
    Mux::new(config(Side::Server))
}

fn pair() -> (Mux, Mux) {
    (Mux::new(config(Side::Client)), server())
}

fn stream_id(initiator: Side, dir: Dir, index: u64) -> StreamId {
    StreamId::new(initiator, dir, index).unwrap()
}

/// The first streams of both kinds that the peer of a server opens.
fn peers() -> (StreamId, StreamId) {
    let [bi, uni] = [Dir::Bi, Dir::Uni].map(|dir| stream_id(Side::Client, dir, 0));
    (bi, uni)
}

fn int(n: u64) -> VarInt {
    VarInt::try_from(n).unwrap()
}

fn encode(capsules: impl IntoIterator<Item = Capsule>) -> Bytes {
    let mut out = BytesMut::new();
    for capsule in capsules {
        capsule.encode(&mut out);
    }
    out.freeze()
}

fn decode(bytes: Vec<u8>) -> Vec<Capsule> {
    let mut decoder = Decoder::with_streams(1_000, FinOrder::Deployed);
    decoder.push(bytes.into());
    let capsules = iter::from_fn(|| decoder.poll().unwrap()).collect();
    assert_eq!(decoder.finish(), Ok(()));
    capsules
}

/// The peer says this.
fn hear(mux: &mut Mux, capsules: impl IntoIterator<Item = Capsule>) {
    mux.receive(encode(capsules));
    check(mux);
}

/// What a session has to say, when it goes on.
fn said(mux: &mut Mux) -> Vec<Capsule> {
    let (bytes, fin) = transmitted(mux, 1 << 20);
    check(mux);
    assert!(!fin);
    decode(bytes)
}

fn wt_stream(stream: StreamId, data: impl Into<Bytes>, fin: bool) -> Capsule {
    let data = data.into();
    Capsule::Stream { stream, data, fin }
}

fn bytes(n: usize) -> Bytes {
    Bytes::from(vec![7; n])
}

fn data(stream: StreamId, data: impl Into<Bytes>, fin: bool) -> Event {
    let data = data.into();
    Event::Data { stream, data, fin }
}

fn reset_stream(stream: StreamId, code: u32, size: u64) -> Capsule {
    Capsule::ResetStream {
        stream,
        code,
        reliable_size: Some(int(size)),
    }
}

fn stop_sending(stream: StreamId, code: u32) -> Capsule {
    Capsule::StopSending { stream, code }
}

fn close_capsule(code: u32, reason: &str) -> Capsule {
    Capsule::Close {
        code,
        reason: reason.to_owned(),
    }
}

fn closed(code: u32, reason: &str, by: Closer, clean: bool) -> Event {
    Event::Closed(Closed {
        code,
        reason: reason.to_owned(),
        by,
        clean,
    })
}

/// The session ends, at both ends, because its peer broke a rule.
fn assert_violation(mux: &mut Mux, reason: &str) {
    let told = closed(CLOSE_PROTOCOL_VIOLATION, reason, Closer::Host, false);
    assert_eq!(events(mux).pop(), Some(told));
    let (bytes, fin) = transmitted(mux, 1 << 20);
    let said = close_capsule(CLOSE_PROTOCOL_VIOLATION, reason);
    assert_eq!((decode(bytes), fin), (vec![said], true));
    assert!(mux.streams.is_empty());
    check(mux);
}

/// Hands over what waits in both directions until nothing does.
fn settle(a: &mut Mux, b: &mut Mux) {
    loop {
        let (to_b, fin_b) = transmitted(a, 1_000);
        let (to_a, fin_a) = transmitted(b, 1_000);
        if to_a.is_empty() && to_b.is_empty() && !fin_a && !fin_b {
            return;
        }
        b.receive(to_b.into());
        a.receive(to_a.into());
        if fin_b {
            b.receive_fin();
        }
        if fin_a {
            a.receive_fin();
        }
    }
}

#[test]
fn a_stream_is_opened_carries_data_both_ways_and_is_over() {
    let (mut a, mut b) = pair();
    let id = a.open(Dir::Bi).unwrap();
    settle(&mut a, &mut b);
    assert_eq!(events(&mut b), [Event::Opened(id)]);
    a.send(id, "ping".into(), true).unwrap();
    settle(&mut a, &mut b);
    assert_eq!(events(&mut b), [data(id, "ping", true)]);
    b.send(id, "pong".into(), true).unwrap();
    settle(&mut a, &mut b);
    assert_eq!(events(&mut b), [Event::StreamClosed(id)]);
    assert_eq!(
        events(&mut a),
        [data(id, "pong", true), Event::StreamClosed(id)]
    );
    assert_eq!(a.finish(id), Err(CommandError::UnknownStream));
    a.close(7, "bye", Closer::Local);
    settle(&mut a, &mut b);
    assert_eq!(events(&mut a), [closed(7, "bye", Closer::Local, true)]);
    assert_eq!(events(&mut b), [closed(7, "bye", Closer::Peer, true)]);
}
