//! The SETTINGS of every WebTransport draft we speak: ours on the way out, what the peer's mean on the way in.
//!
//! All drafts are offered at once, because each client looks for its own and ignores the rest. Unknown settings are
//! ignored; whether a value makes sense for a draft is not judged beyond what the RFCs demand.

use std::collections::BTreeSet;

use bytes::{Bytes, BytesMut};
use wharf_proto::{
    code::{AppCodes, HttpCode, Violation},
    connect::{Request, Token},
    session::Limits,
    varint::VarInt,
};

/// `SETTINGS_MAX_FIELD_SECTION_SIZE` (RFC 9114).
const MAX_FIELD_SECTION_SIZE: u32 = 0x06;
/// `SETTINGS_ENABLE_CONNECT_PROTOCOL` (RFC 9220).
const ENABLE_CONNECT_PROTOCOL: u32 = 0x08;
/// `SETTINGS_H3_DATAGRAM` (RFC 9297).
const H3_DATAGRAM: u32 = 0x33;
/// `H3_DATAGRAM` of HTTP Datagrams draft 04, which browsers of draft 02 send beside its successor.
const H3_DATAGRAM_DRAFT_04: u32 = 0xff_d277;
/// `SETTINGS_ENABLE_WEBTRANSPORT` of drafts 00 to 05.
const ENABLE_WEBTRANSPORT: u32 = 0x2b60_3742;
/// `SETTINGS_WEBTRANSPORT_MAX_SESSIONS` of drafts 07 to 12.
const WEBTRANSPORT_MAX_SESSIONS: u32 = 0xc671_706a;
/// `SETTINGS_WT_MAX_SESSIONS` of drafts 13 and 14.
const WT_MAX_SESSIONS: u32 = 0x14e9_cd29;
/// `SETTINGS_WT_ENABLED` of drafts 15 and 16.
const WT_ENABLED: u32 = 0x2c7c_f000;
/// `SETTINGS_WT_INITIAL_MAX_DATA` of drafts 12 to 16.
const WT_INITIAL_MAX_DATA: u32 = 0x2b61;
/// `SETTINGS_WT_INITIAL_MAX_STREAMS_UNI` of drafts 12 to 16.
const WT_INITIAL_MAX_STREAMS_UNI: u32 = 0x2b64;
/// `SETTINGS_WT_INITIAL_MAX_STREAMS_BIDI` of drafts 12 to 16.
const WT_INITIAL_MAX_STREAMS_BIDI: u32 = 0x2b65;
/// One of the ids that mean nothing, 0x1f * N + 0x21 (RFC 9114, "Defined SETTINGS Parameters"), here with N = 71.
const GREASE: u32 = 0x1f * 71 + 0x21;

/// What we tell every peer. The limits are each session's. Were all three zero, there would be no flow control; a file gives
/// `data` one byte at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ours {
    /// Sessions that a connection may hold.
    pub(super) sessions: u32,
    /// Bytes of a request's field section.
    pub(super) field_section: u32,
    /// Bytes that a peer may send at first.
    pub(super) data: u64,
    /// Unidirectional streams that a peer may open at first.
    pub(super) streams_uni: u64,
    /// Bidirectional streams that a peer may open at first.
    pub(super) streams_bidi: u64,
}

impl Ours {
    /// The payload of a client's SETTINGS frame. That it knows extended CONNECT is for a server to say.
    pub(super) fn encode_client(&self) -> Bytes {
        encode(&self.pairs()[1..])
    }

    /// The payload of a server's SETTINGS frame. QPACK's settings are left at their default of zero: no dynamic table.
    pub(super) fn encode(&self) -> Bytes {
        encode(&self.pairs())
    }

    fn pairs(&self) -> [(u32, u64); 12] {
        [
            (ENABLE_CONNECT_PROTOCOL, 1),
            (H3_DATAGRAM, 1),
            (H3_DATAGRAM_DRAFT_04, 1),
            (MAX_FIELD_SECTION_SIZE, self.field_section.into()),
            (ENABLE_WEBTRANSPORT, 1),
            (WEBTRANSPORT_MAX_SESSIONS, self.sessions.into()),
            (WT_MAX_SESSIONS, self.sessions.into()),
            (WT_ENABLED, 1),
            (WT_INITIAL_MAX_DATA, self.data),
            (WT_INITIAL_MAX_STREAMS_UNI, self.streams_uni),
            (WT_INITIAL_MAX_STREAMS_BIDI, self.streams_bidi),
            (GREASE, 0),
        ]
    }
}

fn encode(pairs: &[(u32, u64)]) -> Bytes {
    let mut payload = BytesMut::new();
    for &(id, value) in pairs {
        VarInt::from_u32(id).encode(&mut payload);
        VarInt::saturating(value).encode(&mut payload);
    }
    payload.freeze()
}

/// What the peer's SETTINGS say about WebTransport.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PeerSettings {
    /// Whether the peer takes HTTP Datagrams.
    pub(super) datagrams: bool,
    /// Whether the peer takes extended CONNECT requests.
    connect: bool,
    newest: Option<Version>,
    initial: Limits,
}

/// The drafts that differ for us. Each stands for its successors, up to the next one here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Version {
    /// Drafts 00 to 06: stream error codes have 8 bits.
    Draft02,
    /// Drafts 07 to 12.
    Draft07,
    /// Drafts 13 and 14: several sessions on a connection need flow control.
    Draft13,
    /// Drafts 15 and 16.
    Draft15,
}

impl Version {
    /// The drafts, as the log names them.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Draft02 => "draft-02",
            Self::Draft07 => "draft-07",
            Self::Draft13 => "draft-13",
            Self::Draft15 => "draft-15",
        }
    }

    /// The `:protocol` of its requests over HTTP/3.
    pub(super) const fn token(self) -> Token {
        match self {
            Self::Draft02 | Self::Draft07 | Self::Draft13 => Token::WebTransport,
            Self::Draft15 => Token::WebTransportH3,
        }
    }

    /// How wide its application codes are.
    pub(super) const fn codes(self) -> AppCodes {
        match self {
            Self::Draft02 => AppCodes::Bits8,
            Self::Draft07 | Self::Draft13 | Self::Draft15 => AppCodes::Bits32,
        }
    }
}

impl PeerSettings {
    /// Reads the payload of a SETTINGS frame.
    pub(super) fn parse(mut payload: &[u8]) -> Result<Self, Violation> {
        let mut settings = Self::default();
        let mut seen = BTreeSet::new();
        while !payload.is_empty() {
            let id = take_varint(&mut payload)?;
            let value = take_varint(&mut payload)?;
            if !seen.insert(id) {
                return Err(settings_error("a setting occurs twice"));
            }
            settings.note(id, value)?;
        }
        Ok(settings)
    }

    fn note(&mut self, id: u64, value: u64) -> Result<(), Violation> {
        let Ok(id) = u32::try_from(id) else {
            return Ok(()); // no setting that we know is that large
        };
        match id {
            // Reserved because they were HTTP/2's (RFC 9114, "Defined SETTINGS Parameters").
            0x00 | 0x02..=0x05 => return Err(settings_error("a setting of HTTP/2")),
            H3_DATAGRAM if value > 1 => {
                return Err(settings_error("H3_DATAGRAM is neither 0 nor 1"));
            }
            H3_DATAGRAM | H3_DATAGRAM_DRAFT_04 => self.datagrams |= value != 0,
            ENABLE_CONNECT_PROTOCOL => self.connect = value == 1,
            ENABLE_WEBTRANSPORT => self.name(Version::Draft02, value),
            WEBTRANSPORT_MAX_SESSIONS => self.name(Version::Draft07, value),
            WT_MAX_SESSIONS => self.name(Version::Draft13, value),
            WT_ENABLED => self.name(Version::Draft15, value),
            WT_INITIAL_MAX_DATA => self.initial.data = value,
            WT_INITIAL_MAX_STREAMS_UNI => self.initial.streams_uni = value,
            WT_INITIAL_MAX_STREAMS_BIDI => self.initial.streams_bidi = value,
            _ => {}
        }
        Ok(())
    }

    fn name(&mut self, version: Version, value: u64) {
        if value != 0 {
            self.newest = self.newest.max(Some(version));
        }
    }

    /// The draft that a request follows: the newest that both sides named, which is the newest that the peer did,
    /// since we name them all (WT-H3, "Negotiating the Draft Version"). Only the newest has the token
    /// `webtransport-h3`. A peer that named none follows draft 07, whose clients need not name it, or draft 02
    /// where a field of the request says so.
    pub(super) fn version(&self, request: &Request) -> Version {
        let says_02 = || {
            let mut fields = request.fields.iter();
            fields.any(|(name, _)| name == "sec-webtransport-http3-draft02")
        };
        match self.newest {
            _ if request.token == Token::WebTransportH3 => Version::Draft15,
            Some(newest) => newest,
            None if says_02() => Version::Draft02,
            None => Version::Draft07,
        }
    }

    /// The draft that a request to this peer follows, where the peer is a server that takes any: the newest that both
    /// sides named. In draft 02 its setting stands for extended CONNECT as well.
    pub(super) fn version_to_ask(&self) -> Option<Version> {
        let version = self.newest?;
        let complete = self.datagrams && (self.connect || version == Version::Draft02);
        complete.then_some(version)
    }

    /// Whether the peer sent what a request of that draft requires of its SETTINGS (WT-H3, "Establishing a
    /// WebTransport-Capable HTTP/3 Connection"). Older drafts, and their browsers, are not that strict.
    pub(super) fn suffice(&self, version: Version) -> bool {
        version < Version::Draft15 || (self.newest == Some(Version::Draft15) && self.datagrams)
    }

    /// What the peer lets each session send at first, if sessions have flow control: the peer sent a limit that is not
    /// zero, as we do (WT-H3, "Negotiating the Use of Flow Control").
    pub(super) fn flow_control(&self) -> Option<Limits> {
        (!self.initial.is_zero()).then_some(self.initial)
    }

    /// Whether the connection may hold more than one session at a time. That this takes flow control came with draft
    /// 13; nothing forbade it before.
    pub(super) fn pooling(&self, version: Version) -> bool {
        version < Version::Draft13 || self.flow_control().is_some()
    }
}

fn take_varint(payload: &mut &[u8]) -> Result<u64, Violation> {
    let (value, size) = VarInt::decode(payload).ok_or(Violation {
        code: HttpCode::H3_FRAME_ERROR,
        reason: "SETTINGS end in the middle of a setting",
    })?;
    *payload = payload.get(size..).unwrap_or_default();
    Ok(value.into_inner())
}

fn settings_error(reason: &'static str) -> Violation {
    Violation {
        code: HttpCode::H3_SETTINGS_ERROR,
        reason,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn payload(pairs: &[(u64, u64)]) -> Bytes {
        let mut payload = BytesMut::new();
        for &(id, value) in pairs {
            VarInt::try_from(id).unwrap().encode(&mut payload);
            VarInt::try_from(value).unwrap().encode(&mut payload);
        }
        payload.freeze()
    }

    fn parse(pairs: &[(u64, u64)]) -> PeerSettings {
        PeerSettings::parse(&payload(pairs)).unwrap()
    }

    fn request(token: &str, fields: &[(&str, &[u8])]) -> Request {
        let head = wharf_proto::connect::Head {
            method: "CONNECT",
            scheme: Some("https"),
            authority: Some("localhost"),
            path: Some("/"),
            protocol: Some(token),
            fields: fields.to_vec(),
        };
        head.check().unwrap()
    }

    fn version(peer: &PeerSettings) -> Version {
        peer.version(&request("webtransport", &[]))
    }

    fn version_h3(peer: &PeerSettings) -> Version {
        peer.version(&request("webtransport-h3", &[]))
    }

    fn refusal(pairs: &[(u64, u64)]) -> HttpCode {
        PeerSettings::parse(&payload(pairs)).unwrap_err().code
    }

    #[test]
    fn our_settings_name_every_draft_in_the_recommended_order() {
        let ours = Ours {
            sessions: 64,
            field_section: 16 << 10,
            data: 4 << 20,
            streams_uni: 256,
            streams_bidi: 255,
        };
        let expected = [
            (0x08, 1),
            (0x33, 1),
            (0xff_d277, 1),
            (0x06, 16_384),
            (0x2b60_3742, 1),
            (0xc671_706a, 64),
            (0x14e9_cd29, 64),
            (0x2c7c_f000, 1),
            (0x2b61, 4 << 20),
            (0x2b64, 256),
            (0x2b65, 255),
            (u64::from(GREASE), 0),
        ];
        assert_eq!(ours.encode(), payload(&expected));
        assert_eq!((GREASE - 0x21) % 0x1f, 0);
    }

    #[test]
    fn a_client_says_the_same_but_for_extended_connect() {
        let ours = Ours {
            sessions: 1,
            field_section: 1,
            data: 1,
            streams_uni: 1,
            streams_bidi: 1,
        };
        let mut expected = payload(&[(0x08, 1)]);
        expected = [&expected[..], &ours.encode_client()].concat().into();
        assert_eq!(ours.encode(), expected);
    }

    #[test]
    fn a_server_is_asked_by_the_newest_draft_that_it_names_completely() {
        for (settings, version) in [
            (
                &[(0x08, 1), (0x33, 1), (0x2c7c_f000, 1), (0x2b60_3742, 1)][..],
                Some(Version::Draft15),
            ),
            (
                &[(0x08, 1), (0x33, 1), (0x14e9_cd29, 8)],
                Some(Version::Draft13),
            ),
            (
                &[(0x08, 1), (0x33, 1), (0xc671_706a, 8)],
                Some(Version::Draft07),
            ),
            (&[(0xff_d277, 1), (0x2b60_3742, 1)], Some(Version::Draft02)),
            (&[(0x33, 1), (0x2c7c_f000, 1)], None),
            (&[(0x08, 1), (0x2c7c_f000, 1)], None),
            (&[(0x08, 1), (0x33, 1)], None),
            (&[], None),
        ] {
            assert_eq!(parse(settings).version_to_ask(), version, "{settings:?}");
        }
        assert_eq!(Version::Draft15.token(), Token::WebTransportH3);
        assert_eq!(Version::Draft13.token(), Token::WebTransport);
    }

    #[test]
    fn a_peer_with_our_settings_gets_the_newest_draft_with_our_limits() {
        let ours = Ours {
            sessions: 1,
            field_section: 1,
            data: 10,
            streams_uni: 20,
            streams_bidi: u64::MAX,
        };
        let peer = PeerSettings::parse(&ours.encode()).unwrap();
        assert!(peer.datagrams);
        assert_eq!(version(&peer), Version::Draft15);
        let limits = Limits {
            data: 10,
            streams_uni: 20,
            streams_bidi: VarInt::MAX.into_inner(),
        };
        assert_eq!(peer.flow_control(), Some(limits));
    }

    #[test]
    fn chromium_speaks_draft_02_and_may_pool_without_flow_control() {
        let peer = parse(&[
            (0x01, 65_536),
            (0x06, 16_384),
            (0x07, 100),
            (0x33, 1),
            (0xff_d277, 1),
            (0x2b60_3742, 1),
            (0x1f * 1_000_000 + 0x21, 12_345),
        ]);
        assert!(peer.datagrams);
        assert_eq!(version(&peer), Version::Draft02);
        assert_eq!(peer.flow_control(), None);
        assert!(peer.pooling(version(&peer)));
    }

    #[test]
    fn chromium_with_its_flag_speaks_draft_07() {
        let peer = parse(&[(0x33, 1), (0x2b60_3742, 1), (0xc671_706a, 16)]);
        assert_eq!(version(&peer), Version::Draft07);
        assert!(peer.pooling(version(&peer)));
    }

    #[test]
    fn firefox_speaks_draft_02() {
        let peer = parse(&[
            (0x01, 65_536),
            (0x07, 20),
            (0x2b60_3742, 1),
            (0xff_d277, 1),
            (0x33, 1),
            (0x08, 1),
        ]);
        assert!(peer.datagrams);
        assert_eq!(version(&peer), Version::Draft02);
    }

    #[test]
    fn safari_on_ios_speaks_draft_13_and_on_macos_draft_07() {
        let ios = parse(&[(0x33, 1), (0x14e9_cd29, 1)]);
        assert_eq!(version(&ios), Version::Draft13);
        assert!(!ios.pooling(version(&ios)));
        let macos = parse(&[(0x33, 1), (0xc671_706a, 1)]);
        assert_eq!(version(&macos), Version::Draft07);
    }

    #[test]
    fn pywebtransport_speaks_draft_15_and_pools_under_flow_control() {
        let peer = parse(&[
            (0x33, 1),
            (0x2c7c_f000, 1),
            (0x2b61, 1 << 20),
            (0x2b64, 100),
            (0x2b65, 100),
        ]);
        assert_eq!(version_h3(&peer), Version::Draft15);
        assert!(peer.pooling(version_h3(&peer)));
    }

    #[test]
    fn the_new_token_means_the_newest_draft_whatever_the_settings() {
        let peer = parse(&[(0x2b60_3742, 1)]);
        assert_eq!(version_h3(&peer), Version::Draft15);
        assert!(!peer.pooling(version_h3(&peer)));
    }

    #[test]
    fn a_peer_that_names_no_draft_or_names_one_with_zero_speaks_draft_07() {
        assert_eq!(version(&parse(&[])), Version::Draft07);
        assert_eq!(
            version(&parse(&[(0x2c7c_f000, 0), (0x2b60_3742, 0)])),
            Version::Draft07
        );
    }

    #[test]
    fn a_field_says_draft_02_where_no_setting_names_a_draft() {
        let says = request("webtransport", &[("sec-webtransport-http3-draft02", b"1")]);
        assert_eq!(parse(&[]).version(&says), Version::Draft02);
        assert_eq!(parse(&[(0x2c7c_f000, 1)]).version(&says), Version::Draft15);
    }

    #[test]
    fn the_newest_draft_requires_its_own_setting_and_datagrams() {
        for (settings, suffices) in [
            (&[(0x2c7c_f000, 1), (0x33, 1)][..], true),
            (&[(0x2c7c_f000, 1)], false),
            (&[(0x33, 1)], false),
        ] {
            assert_eq!(parse(settings).suffice(Version::Draft15), suffices);
            assert!(parse(settings).suffice(Version::Draft07));
        }
    }

    #[test]
    fn one_limit_that_is_not_zero_turns_flow_control_on() {
        for id in [0x2b61, 0x2b64, 0x2b65] {
            assert!(parse(&[(id, 1)]).flow_control().is_some());
            assert!(parse(&[(id, 0)]).flow_control().is_none());
        }
    }

    #[test]
    fn the_old_datagram_setting_suffices() {
        assert!(parse(&[(0xff_d277, 1), (0x33, 0)]).datagrams);
        assert!(!parse(&[(0x33, 0)]).datagrams);
    }

    #[test]
    fn a_setting_given_twice_is_an_error_even_an_unknown_one() {
        assert_eq!(
            refusal(&[(0x33, 1), (0x08, 1), (0x33, 1)]),
            HttpCode::H3_SETTINGS_ERROR
        );
        assert_eq!(
            refusal(&[(1 << 61, 1), (1 << 61, 2)]),
            HttpCode::H3_SETTINGS_ERROR
        );
    }

    #[test]
    fn settings_reserved_from_http2_are_an_error() {
        for id in [0x00, 0x02, 0x03, 0x04, 0x05] {
            assert_eq!(refusal(&[(id, 0)]), HttpCode::H3_SETTINGS_ERROR);
        }
    }

    #[test]
    fn h3_datagram_is_zero_or_one() {
        assert_eq!(refusal(&[(0x33, 2)]), HttpCode::H3_SETTINGS_ERROR);
    }

    #[test]
    fn settings_cut_off_anywhere_inside_a_setting_are_a_frame_error() {
        let whole = payload(&[(0x2b61, 1 << 20)]);
        for cut in 1..whole.len() {
            let refused = PeerSettings::parse(&whole[..cut]).unwrap_err();
            assert_eq!(refused.code, HttpCode::H3_FRAME_ERROR);
        }
    }

    proptest! {
        #[test]
        fn no_payload_panics(payload in proptest::collection::vec(any::<u8>(), 0..64)) {
            _ = PeerSettings::parse(&payload);
        }
    }
}
