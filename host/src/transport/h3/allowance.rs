//! How many streams QUIC allows the peer of a connection over all of its sessions.
//!
//! quinn has an entry in a table for each stream that it allows, and fills those tables when a connection begins. So it allows
//! a few ahead of those that are open, and more as they are used, up to what the sessions may have.

use std::sync::atomic::{AtomicU32, Ordering};

use super::table::{Share, Table};
use crate::transport::Limits;

/// Streams of each kind that are allowed at least, unless the limits are lower. With a few of our own they just fit into
/// tables of 64 and of 32 entries.
const LEAST: u32 = 24;

/// Has QUIC allow the peer as many as the connection's sessions may have, as far as it has use for them.
pub(super) fn allow(conn: &quinn::Connection, table: &Table, limits: &Limits) {
    let one = Share::of(&limits.session);
    let share = table.share(one);
    // Before the first session it is as at the beginning: QUIC takes nothing back that was granted.
    let share = if share.sessions == 0 { one } else { share };
    let grant = Grant::new(limits, share, table.peer_streams.open());
    table.peer_streams.granted(&grant);
    conn.set_max_concurrent_bi_streams(grant.streams.into());
    conn.set_max_concurrent_uni_streams(grant.streams.into());
}

/// What is allowed at a time.
pub(super) struct Grant {
    /// Of each kind.
    streams: u32,
    /// Whether those are all that the sessions may have.
    complete: bool,
}

impl Grant {
    /// What a connection begins with.
    pub(super) fn first(limits: &Limits) -> Self {
        Self::new(limits, Share::of(&limits.session), 0)
    }

    /// For sessions whose limits come to that, and whose peer has so many streams open.
    fn new(limits: &Limits, share: Share, open: u32) -> Self {
        let most = share.streams.saturating_add(limits.http_streams);
        // A peer that opens as many as it may is given more when it has used up the half.
        let streams = open.saturating_mul(4).max(LEAST).min(most);
        Self {
            streams,
            complete: streams == most,
        }
    }

    pub(super) fn configure(&self, config: &mut quinn::TransportConfig) {
        config
            .max_concurrent_bidi_streams(self.streams.into())
            .max_concurrent_uni_streams(self.streams.into());
    }
}

/// The peer's streams that QUIC has, of both kinds. One that was turned away, or is HTTP's, is counted as open for good:
/// more is allowed the sooner.
#[derive(Debug)]
pub(super) struct PeerStreams {
    open: AtomicU32,
    /// More than so many want another grant.
    enough: AtomicU32,
}

impl PeerStreams {
    pub(super) fn new(first: &Grant) -> Self {
        let streams = Self {
            open: AtomicU32::new(0),
            enough: AtomicU32::new(0),
        };
        streams.granted(first);
        streams
    }

    fn open(&self) -> u32 {
        self.open.load(Ordering::Relaxed)
    }

    fn granted(&self, grant: &Grant) {
        let enough = if grant.complete {
            u32::MAX
        } else {
            grant.streams / 2
        };
        self.enough.store(enough, Ordering::Relaxed);
    }

    /// There is one more. Says whether QUIC is to [allow] more of them.
    #[must_use]
    pub(super) fn opened(&self) -> bool {
        let open = self.open.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        open > self.enough.load(Ordering::Relaxed)
    }

    /// So many that were opened are over.
    pub(super) fn closed(&self, streams: u32) {
        self.open.fetch_sub(streams, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        let mut limits = Limits::default();
        (limits.session.streams_per_kind, limits.http_streams) = (256, 32);
        limits
    }

    #[test]
    fn streams_are_allowed_ahead_of_those_that_are_open_and_all_in_the_end() {
        let limits = limits();
        let one = Share::of(&limits.session);
        let allowed = |share, open| {
            let grant = Grant::new(&limits, share, open);
            (grant.streams, grant.complete)
        };
        assert_eq!(allowed(one, 0), (LEAST, false));
        assert_eq!(allowed(one, LEAST / 2), (2 * LEAST, false));
        assert_eq!(allowed(one, 72), (288, false));
        assert_eq!(allowed(one, 73), (1 + 256 + 32, true));
        assert_eq!(allowed(one.with(one), 73), (292, false));
        assert_eq!(allowed(one.with(one), 512), (2 + 512 + 32, true));
    }

    #[test]
    fn another_grant_is_wanted_when_the_half_is_open_and_never_when_all_is_granted() {
        let limits = limits();
        let one = Share::of(&limits.session);
        let streams = PeerStreams::new(&Grant::first(&limits));
        let opened = (1..).find(|_| streams.opened());
        assert_eq!(opened, Some(LEAST / 2 + 1));
        streams.granted(&Grant::new(&limits, one, streams.open()));
        assert!(!streams.opened());
        streams.granted(&Grant::new(&limits, one, 256));
        assert!((0..1000).all(|_| !streams.opened()));
    }
}
