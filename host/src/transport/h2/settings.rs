//! The SETTINGS of WebTransport over HTTP/2: what we send, what the peer sent, and what both grant.

use wharf_proto::{connect::Init, mux::Grants, session};

use crate::transport::Limits;

const ENABLE_CONNECT_PROTOCOL: u16 = 0x08;
const WT_ENABLED: u16 = 0x2b60;
const MAX_DATA: u16 = 0x2b61;
const STREAM_DATA_UNI: u16 = 0x2b62;
const STREAM_DATA_BIDI_LOCAL: u16 = 0x2b63;
const STREAMS_UNI: u16 = 0x2b64;
const STREAMS_BIDI: u16 = 0x2b65;
const STREAM_DATA_BIDI_REMOTE: u16 = 0x2b66;

/// What we grant each session at first.
pub(super) fn ours(limits: &Limits) -> Grants {
    let stream = limits.stream_receive_credit.into();
    Grants {
        session: limits.session.grants(),
        uni: stream,
        bidi_local: stream,
        bidi_remote: stream,
    }
}

/// The settings that tell it, to follow those that `h2` sends. WT_ENABLED is 1, which earlier drafts read as one session;
/// more are taken.
pub(super) fn encode(limits: &Limits) -> Vec<(u16, u32)> {
    let stream = limits.stream_receive_credit;
    vec![
        (WT_ENABLED, 1),
        (MAX_DATA, limits.session.session_receive_credit),
        (STREAM_DATA_UNI, stream),
        (STREAM_DATA_BIDI_LOCAL, stream),
        (STREAM_DATA_BIDI_REMOTE, stream),
        (STREAMS_UNI, limits.session.streams_per_kind),
        (STREAMS_BIDI, limits.session.streams_per_kind),
    ]
}

/// What the peer's SETTINGS said, the latest of each.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PeerSettings {
    /// Whether extended CONNECT is enabled.
    pub(super) connect: bool,
    pub(super) enabled: Option<u32>,
    data: u32,
    streams_bidi: u32,
    streams_uni: u32,
    uni: u32,
    bidi_local: u32,
    /// Up to draft 13 one setting stood for both ends' bidirectional streams.
    bidi_remote: Option<u32>,
}

impl PeerSettings {
    pub(super) fn set(&mut self, id: u16, value: u32) {
        match id {
            ENABLE_CONNECT_PROTOCOL => self.connect = value == 1,
            WT_ENABLED => self.enabled = Some(value),
            MAX_DATA => self.data = value,
            STREAM_DATA_UNI => self.uni = value,
            STREAM_DATA_BIDI_LOCAL => self.bidi_local = value,
            STREAM_DATA_BIDI_REMOTE => self.bidi_remote = Some(value),
            STREAMS_UNI => self.streams_uni = value,
            STREAMS_BIDI => self.streams_bidi = value,
            _ => {}
        }
    }

    /// What the peer grants a session: the greater of its settings and of the request's WebTransport-Init (WT-H2, "Flow
    /// Control Header").
    pub(super) fn grants(&self, init: Init) -> Grants {
        let bidi_remote = self.bidi_remote.unwrap_or(self.bidi_local);
        Grants {
            session: session::Limits {
                data: self.data.into(),
                streams_bidi: self.streams_bidi.into(),
                streams_uni: self.streams_uni.into(),
            },
            uni: init.uni.max(self.uni.into()),
            bidi_local: init.bidi_local.max(self.bidi_local.into()),
            bidi_remote: init.bidi_remote.max(bidi_remote.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(settings: &[(u16, u32)]) -> PeerSettings {
        let mut peer = PeerSettings::default();
        for &(id, value) in settings {
            peer.set(id, value);
        }
        peer
    }

    #[test]
    fn the_greater_of_settings_and_request_is_granted() {
        let settings = peer(&[(STREAM_DATA_UNI, 5), (STREAM_DATA_BIDI_LOCAL, 7)]);
        let init = Init {
            uni: 4,
            bidi_local: 8,
            bidi_remote: 0,
        };
        let grants = settings.grants(init);
        assert_eq!((grants.uni, grants.bidi_local), (5, 8));
    }

    /// Drafts 08 to 13 of WT-H2 had one setting for bidirectional streams.
    #[test]
    fn one_setting_for_bidirectional_streams_counts_for_both_ends() {
        let grants = |settings: &[(u16, u32)]| peer(settings).grants(Init::default());
        let old = grants(&[(STREAM_DATA_BIDI_LOCAL, 7)]);
        assert_eq!((old.bidi_local, old.bidi_remote), (7, 7));
        let new = grants(&[(STREAM_DATA_BIDI_LOCAL, 7), (STREAM_DATA_BIDI_REMOTE, 0)]);
        assert_eq!((new.bidi_local, new.bidi_remote), (7, 0));
    }

    #[test]
    fn what_we_tell_is_what_we_grant() {
        let limits = Limits::default();
        let mut told = PeerSettings::default();
        for (id, value) in encode(&limits) {
            told.set(id, value);
        }
        assert_eq!(told.grants(Init::default()), ours(&limits));
        assert_eq!(told.enabled, Some(1));
    }
}
