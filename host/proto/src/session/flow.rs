//! The limits of one session whose flow control is enabled, in both directions (WT-H3, "Flow Control").

use bytes::BytesMut;

use super::{Limits, Session};
use crate::{
    capsule::{Capsule, STREAMS_MAX},
    code::{HttpCode, Violation},
    credit::{Exceeded, NotIncreased, ReceiveCredit, SendCredit},
    id::{ByDir, Dir},
    varint::VarInt,
};

/// What the peer grants us and what we grant it: bytes on all streams, and streams of both kinds.
#[derive(Debug)]
pub(super) struct Flow {
    send: SendCredit,
    open: ByDir<SendCredit>,
    receive: ReceiveCredit,
    accept: ByDir<ReceiveCredit>,
}

impl Flow {
    pub(super) const fn new(local: Limits, peer: Limits) -> Self {
        Self {
            send: SendCredit::new(peer.data),
            open: ByDir {
                bi: SendCredit::new(peer.streams_bidi),
                uni: SendCredit::new(peer.streams_uni),
            },
            receive: ReceiveCredit::new(local.data, VarInt::MAX.into_inner()),
            accept: ByDir {
                bi: ReceiveCredit::new(local.streams_bidi, STREAMS_MAX),
                uni: ReceiveCredit::new(local.streams_uni, STREAMS_MAX),
            },
        }
    }

    /// Grants as much from now on, and nothing less.
    pub(super) fn enlarge(&mut self, local: Limits) {
        self.receive.enlarge(local.data);
        self.accept.bi.enlarge(local.streams_bidi);
        self.accept.uni.enlarge(local.streams_uni);
    }

    /// Takes one of the streams that we may open. Without one, the peer is to be told.
    pub(super) fn open(&mut self, dir: Dir) -> Result<(), Exceeded> {
        let credit = self.open.get_mut(dir);
        credit.take(1).inspect_err(|_| credit.note_blocked())
    }

    pub(super) fn accept(&mut self, dir: Dir) -> Result<(), Violation> {
        let credit = self.accept.get_mut(dir);
        credit
            .receive(1)
            .map_err(|_| violation("more streams than were granted"))
    }

    /// One of the peer's streams is over.
    pub(super) fn end(&mut self, dir: Dir) {
        self.accept.get_mut(dir).consume(1);
    }

    pub(super) fn send(&mut self, n: u64) -> Result<(), Exceeded> {
        self.send.take(n)
    }

    pub(super) fn note_blocked(&mut self) {
        self.send.note_blocked();
    }

    pub(super) fn receive(&mut self, n: u64) -> Result<(), Violation> {
        self.receive
            .receive(n)
            .map_err(|_| violation("more data than was granted"))
    }

    pub(super) fn consume(&mut self, n: u64) {
        self.receive.consume(n);
    }

    pub(super) fn forgive(&mut self, n: u64) {
        self.receive.forgive(n);
    }

    pub(super) fn forgive_stream(&mut self, dir: Dir) {
        self.accept.get_mut(dir).forgive(1);
    }

    /// Takes WT_MAX_DATA, and says whether nothing had been left to send.
    /// Where `lenient`, the same limit again is no fault (WT-H2, "WT_MAX_DATA Capsule").
    pub(super) fn raise_data(&mut self, limit: VarInt, lenient: bool) -> Result<bool, Violation> {
        let raised = raise(&mut self.send, limit, lenient);
        raised.map_err(|_| violation("data limit that does not increase"))
    }

    /// Takes WT_MAX_STREAMS, and says whether nothing had been left to open. `lenient` as above.
    pub(super) fn raise_streams(
        &mut self,
        dir: Dir,
        limit: VarInt,
        lenient: bool,
    ) -> Result<bool, Violation> {
        let raised = raise(self.open.get_mut(dir), limit, lenient);
        raised.map_err(|_| violation("stream limit that does not increase"))
    }

    /// Whether there is something that the peer does not know yet.
    pub(super) fn has_news(&self) -> bool {
        let of = |dir| self.accept.get(dir).has_update() || self.open.get(dir).has_blocked();
        self.receive.has_update() || self.send.has_blocked() || of(Dir::Bi) || of(Dir::Uni)
    }

    /// Appends what the peer does not know yet: limits that were raised, and limits that hold us up.
    pub(super) fn encode_news(&mut self, out: &mut BytesMut) {
        if let Some(limit) = self.receive.poll_update() {
            Capsule::MaxData(VarInt::saturating(limit)).encode(out);
        }
        if let Some(limit) = self.send.poll_blocked() {
            Capsule::DataBlocked(VarInt::saturating(limit)).encode(out);
        }
        for dir in [Dir::Bi, Dir::Uni] {
            if let Some(limit) = self.accept.get_mut(dir).poll_update() {
                Capsule::MaxStreams(dir, VarInt::saturating(limit)).encode(out);
            }
            if let Some(limit) = self.open.get_mut(dir).poll_blocked() {
                Capsule::StreamsBlocked(dir, VarInt::saturating(limit)).encode(out);
            }
        }
    }

    pub(super) const fn open_credit(&self, dir: Dir) -> u64 {
        self.open.get(dir).available()
    }

    pub(super) const fn accept_credit(&self, dir: Dir) -> u64 {
        self.accept.get(dir).available()
    }

    pub(super) const fn send_credit(&self) -> u64 {
        self.send.available()
    }

    pub(super) const fn send_limit(&self) -> u64 {
        self.send.limit()
    }

    pub(super) const fn receive_credit(&self) -> u64 {
        self.receive.available()
    }

    pub(super) const fn unconsumed(&self) -> u64 {
        self.receive.outstanding()
    }
}

impl Session {
    /// Bytes that came and were not [`consumed`](Self::consumed); none where there is no flow control.
    pub(crate) fn unconsumed(&self) -> u64 {
        self.flow.as_ref().map_or(0, Flow::unconsumed)
    }

    /// Bytes of the CONNECT stream that are no whole capsule yet.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.decoder.buffered()
    }
}

fn raise(credit: &mut SendCredit, limit: VarInt, lenient: bool) -> Result<bool, NotIncreased> {
    if lenient && limit.into_inner() == credit.limit() {
        return Ok(false);
    }
    credit.raise(limit.into_inner())
}

const fn violation(reason: &'static str) -> Violation {
    Violation {
        code: HttpCode::WT_FLOW_CONTROL_ERROR,
        reason,
    }
}
