//! Paths of the protocol crate: bytes to capsules, and streams to capsules.

use std::hint::black_box;

use anyhow::{Context as _, ensure};
use bytes::{Buf as _, Bytes, BytesMut};
use wharf_proto::{
    buffer::SendLimits,
    capsule::{Capsule, Decoder, FinOrder},
    id::{Dir, Side, StreamId},
    mux::{Config, Grants, Limits, Mux, Transmit},
    session,
    varint::VarInt,
};

/// Capsules that come at once.
pub(super) const CAPSULES: u32 = 16;
/// Streams that have something to send.
pub(super) const STREAMS: u32 = 64;
const PAYLOAD: &[u8] = &[7; 1000];

/// Decodes capsules, one with credit between each two with data.
pub(super) fn decode(turns: u32) -> anyhow::Result<()> {
    let stream = StreamId::try_from(0)?;
    let kinds = [
        Capsule::Stream {
            stream,
            data: Bytes::from_static(PAYLOAD),
            fin: false,
        },
        Capsule::MaxStreamData {
            stream,
            limit: VarInt::saturating(1 << 20),
        },
        Capsule::Datagram(Bytes::from_static(PAYLOAD)),
        Capsule::MaxData(VarInt::saturating(1 << 20)),
    ];
    let mut bytes = BytesMut::new();
    for kind in kinds.iter().cycle().take(CAPSULES as usize) {
        kind.encode(&mut bytes);
    }
    let bytes = bytes.freeze();
    let mut decoder = Decoder::with_streams(PAYLOAD.len(), FinOrder::Deployed);
    for _ in 0..turns {
        decoder.push(bytes.clone());
        let mut came = 0;
        while let Some(capsule) = decoder.poll()? {
            black_box(capsule);
            came += 1;
        }
        ensure!(came == CAPSULES, "{came} capsules came");
    }
    Ok(())
}

/// Has each of many streams send a piece, in turn.
pub(super) fn schedule(turns: u32) -> anyhow::Result<()> {
    /// More than is sent.
    const MUCH: u64 = 1 << 40;
    let grants = Grants {
        session: session::Limits {
            data: MUCH,
            streams_bidi: STREAMS.into(),
            streams_uni: STREAMS.into(),
        },
        uni: MUCH,
        bidi_local: MUCH,
        bidi_remote: MUCH,
    };
    let mut mux = Mux::new(Config {
        side: Side::Server,
        order: FinOrder::Deployed,
        swapped_ids: false,
        local: grants,
        peer: grants,
        limits: Limits {
            send: SendLimits {
                stream: 256 << 10,
                session: 4 << 20,
                room: usize::MAX,
            },
            reads_wait_for_room: true,
            streams_per_kind: STREAMS,
            datagrams_in: 256,
            datagrams_out: 256,
            datagram_bytes: PAYLOAD.len(),
        },
    });
    let streams = (0..STREAMS).map(|_| mux.open(Dir::Bi));
    let streams = streams.collect::<Result<Vec<_>, _>>()?;
    for _ in 0..turns {
        for stream in &streams {
            mux.send(*stream, Bytes::from_static(PAYLOAD), false)?;
        }
        let mut left = streams.len() * PAYLOAD.len();
        while mux.has_transmit() {
            let transmit = mux.poll_transmit(16 << 10).context("there is room")?;
            let Transmit::Capsules(mut chunks) = transmit else {
                anyhow::bail!("the session ends");
            };
            while chunks.has_remaining() {
                let chunk = chunks.chunk().len();
                left = left.saturating_sub(chunk);
                chunks.advance(chunk);
            }
        }
        ensure!(left == 0, "not all was sent");
    }
    Ok(())
}
