use bytes::Buf as _;

use super::*;
use crate::contract::CommandError;

mod pair;

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
            send: SendLimits {
                stream: 400,
                session: 1_000,
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
    let mut buffered = 0;
    let mut ready = 0;
    for (id, stream) in streams {
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
    std::iter::from_fn(|| mux.poll_event()).collect()
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
    let (mut a, mut b) = (
        Mux::new(config(Side::Client)),
        Mux::new(config(Side::Server)),
    );
    let id = a.open(Dir::Bi).unwrap();
    settle(&mut a, &mut b);
    assert_eq!(events(&mut b), [Event::Opened(id)]);
    a.send(id, Bytes::from_static(b"ping"), true).unwrap();
    settle(&mut a, &mut b);
    let data = |data: &'static [u8]| Event::Data {
        stream: id,
        data: Bytes::from_static(data),
        fin: true,
    };
    assert_eq!(events(&mut b), [data(b"ping")]);
    b.send(id, Bytes::from_static(b"pong"), true).unwrap();
    settle(&mut a, &mut b);
    assert_eq!(events(&mut b), [Event::StreamClosed(id)]);
    assert_eq!(events(&mut a), [data(b"pong"), Event::StreamClosed(id)]);
    assert_eq!(a.finish(id), Err(CommandError::UnknownStream));
    a.close(7, "bye", Closer::Local);
    settle(&mut a, &mut b);
    let closed = |by| {
        [Event::Closed(Closed {
            code: 7,
            reason: "bye".to_owned(),
            by,
            clean: true,
        })]
    };
    assert_eq!(events(&mut a), closed(Closer::Local));
    assert_eq!(events(&mut b), closed(Closer::Peer));
}
