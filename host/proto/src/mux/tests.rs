use bytes::Buf as _;

use super::*;
use crate::contract::CommandError;

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
