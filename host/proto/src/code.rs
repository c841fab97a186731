//! Application error codes, HTTP error codes, and the mapping between them.

use std::fmt;

use thiserror::Error;

use crate::varint::VarInt;

/// The code that the host closes a session with when its peer has broken the protocol.
pub const CLOSE_PROTOCOL_VIOLATION: u32 = 0xffff_ff07;

/// What the peer did wrong, and the code that answers it.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Error)]
#[error("{reason}")]
pub struct Violation {
    /// The code to answer with on the wire.
    pub code: HttpCode,
    /// What the peer did: one clause, for logs.
    pub reason: &'static str,
}

/// A code that an application gives to the reset or stop of a stream.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppCode(pub u32);

/// What [`AppCode`] 0 is on the wire.
const FIRST: u64 = 0x52e4_a40f_a8db;
/// What [`AppCode`] 2^32-1 is on the wire.
const LAST: u64 = 0x52e5_ac98_3162;
/// Application codes between two reserved code points. `FIRST` follows such a point directly, so that every run is whole.
const RUN: u64 = 0x1e;

impl AppCode {
    /// The code on the wire (WT-H3, "Resetting Data Streams").
    #[must_use]
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "the sum is at most LAST, below 2^47"
    )]
    pub const fn to_http3(self) -> HttpCode {
        let code = self.0 as u64;
        HttpCode(VarInt::saturating(FIRST + code + code / RUN))
    }

    /// The application's code, if `code` stands for one: it is in range and none of the reserved code points
    /// (RFC 9114, "Reserved Error Codes").
    #[must_use]
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "what is subtracted is not greater, as the range check says"
    )]
    pub fn from_http3(code: HttpCode) -> Option<Self> {
        let code = code.into_inner();
        let reserved = code % (RUN + 1) == 0x21 % (RUN + 1);
        if !(FIRST..=LAST).contains(&code) || reserved {
            return None;
        }
        let shifted = code - FIRST;
        u32::try_from(shifted - shifted / (RUN + 1)).ok().map(Self)
    }
}

/// How wide the application codes are that a peer understands.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum AppCodes {
    /// Drafts 00 to 03 of WT-H3: 8 bits.
    Bits8,
    /// Later ones: 32 bits.
    Bits32,
}

impl AppCodes {
    /// The code on the wire; what is too large for the peer becomes the largest that it understands.
    #[must_use]
    pub const fn encode(self, code: AppCode) -> HttpCode {
        match self {
            Self::Bits8 if code.0 > 255 => AppCode(255).to_http3(),
            Self::Bits8 | Self::Bits32 => code.to_http3(),
        }
    }
}

impl fmt::Display for AppCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A code on the wire of HTTP/3: for a stream's reset or stop, or for the end of a connection.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HttpCode(VarInt);

impl HttpCode {
    /// A code that always fits.
    #[must_use]
    pub const fn new(code: u32) -> Self {
        Self(VarInt::from_u32(code))
    }

    /// The number.
    #[must_use]
    pub const fn into_inner(self) -> u64 {
        self.0.into_inner()
    }
}

impl From<VarInt> for HttpCode {
    fn from(code: VarInt) -> Self {
        Self(code)
    }
}

impl fmt::Display for HttpCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "{:#x}", self.into_inner()),
        }
    }
}

macro_rules! http_codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal;)*) => {
        impl HttpCode {
            $($(#[$doc])* pub const $name: Self = Self::new($code);)*

            const fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$name => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

// RFC 9297, "HTTP/3 Error Code"; RFC 9114, "HTTP/3 Error Codes"; WT-H3, "HTTP/3 Error Code Registration".
http_codes! {
    /// A datagram that names no stream.
    H3_DATAGRAM_ERROR = 0x33;
    /// Nothing is wrong.
    H3_NO_ERROR = 0x100;
    /// A violation that no other code fits.
    H3_GENERAL_PROTOCOL_ERROR = 0x101;
    /// The fault is the sender's own.
    H3_INTERNAL_ERROR = 0x102;
    /// The peer opened a stream that is not accepted.
    H3_STREAM_CREATION_ERROR = 0x103;
    /// A stream that the connection needs was closed.
    H3_CLOSED_CRITICAL_STREAM = 0x104;
    /// A frame came where it is not allowed.
    H3_FRAME_UNEXPECTED = 0x105;
    /// A frame breaks its own format.
    H3_FRAME_ERROR = 0x106;
    /// The peer causes too much work.
    H3_EXCESSIVE_LOAD = 0x107;
    /// A stream id or push id was used wrongly.
    H3_ID_ERROR = 0x108;
    /// SETTINGS hold a wrong value.
    H3_SETTINGS_ERROR = 0x109;
    /// SETTINGS were not the first frame.
    H3_MISSING_SETTINGS = 0x10a;
    /// The request was not processed at all.
    H3_REQUEST_REJECTED = 0x10b;
    /// The request, or its response, is no longer wanted.
    H3_REQUEST_CANCELLED = 0x10c;
    /// The request ended too early.
    H3_REQUEST_INCOMPLETE = 0x10d;
    /// A message, or the capsules in it, are malformed.
    H3_MESSAGE_ERROR = 0x10e;
    /// What CONNECT led to was lost.
    H3_CONNECT_ERROR = 0x10f;
    /// A data stream came before its session, and too many of them.
    WT_BUFFERED_STREAM_REJECTED = 0x3994_bd84;
    /// The session of a data stream is over.
    WT_SESSION_GONE = 0x170d_7b68;
    /// The session's flow control was broken.
    WT_FLOW_CONTROL_ERROR = 0x045d_4487;
    /// No application protocol was agreed on.
    WT_ALPN_ERROR = 0x0817_b3dd;
    /// SETTINGS or transport parameters that WebTransport requires are missing.
    WT_REQUIREMENTS_NOT_MET = 0x212c_0d48;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn http(code: u64) -> HttpCode {
        HttpCode::from(VarInt::try_from(code).unwrap())
    }

    #[test]
    fn application_codes_map_as_in_the_draft() {
        let rows = [
            (0, FIRST),
            (29, FIRST + 29),
            // FIRST + 30 is reserved.
            (30, FIRST + 31),
            (31, FIRST + 32),
            (255, FIRST + 255 + 8),
            (u32::MAX, LAST),
        ];
        for (app, code) in rows {
            assert_eq!(AppCode(app).to_http3(), http(code), "{app}");
            assert_eq!(AppCode::from_http3(http(code)), Some(AppCode(app)), "{app}");
        }
    }

    #[test]
    fn a_peer_of_8_bits_is_given_no_larger_code() {
        for (code, told) in [(0, 0), (30, 30), (255, 255), (256, 255), (u32::MAX, 255)] {
            let told = AppCode(told).to_http3();
            assert_eq!(AppCodes::Bits8.encode(AppCode(code)), told, "{code}");
            assert_eq!(
                AppCodes::Bits32.encode(AppCode(code)),
                AppCode(code).to_http3()
            );
        }
    }

    #[test]
    fn reserved_code_points_are_no_application_codes() {
        let reserved = (FIRST..FIRST + 1_000).filter(|code| (code - 0x21) % 0x1f == 0);
        let mut seen = 0;
        for code in reserved {
            assert_eq!(AppCode::from_http3(http(code)), None, "{code:#x}");
            seen += 1;
        }
        assert_eq!(seen, 32);
        assert_eq!(AppCode::from_http3(http(FIRST + 30)), None);
    }

    #[test]
    fn codes_outside_the_range_are_no_application_codes() {
        for code in [0, FIRST - 1, LAST + 1, VarInt::MAX.into_inner()] {
            assert_eq!(AppCode::from_http3(http(code)), None, "{code:#x}");
        }
    }

    #[test]
    fn a_code_is_printed_by_its_name_or_else_in_hexadecimal() {
        assert_eq!(HttpCode::WT_SESSION_GONE.to_string(), "WT_SESSION_GONE");
        assert_eq!(HttpCode::new(0x1234).to_string(), "0x1234");
    }

    proptest! {
        #[test]
        fn every_application_code_survives_the_wire(code: u32) {
            prop_assert_eq!(AppCode::from_http3(AppCode(code).to_http3()), Some(AppCode(code)));
        }

        #[test]
        fn every_code_in_range_is_reserved_or_maps_back_to_itself(code in FIRST..=LAST) {
            match AppCode::from_http3(http(code)) {
                Some(app) => prop_assert_eq!(app.to_http3(), http(code)),
                None => prop_assert_eq!(code % 0x1f, 0x21 % 0x1f),
            }
        }
    }
}
