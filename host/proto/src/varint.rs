//! An integer below 2^62 and its wire form.
//!
//! The wire form is that of RFC 9000, "Variable-Length Integer Encoding": the two high bits of the first byte say how
//! many bytes there are. A value may arrive in more bytes than it needs; it leaves in the fewest.

use std::fmt;

use bytes::BufMut;
use thiserror::Error;

/// An integer that fits the wire: at most 2^62-1.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct VarInt(u64);

impl VarInt {
    /// The largest value, 2^62-1.
    pub const MAX: Self = Self((1 << 62) - 1);
    /// Bytes of the longest wire form.
    pub const MAX_SIZE: usize = 8;

    /// A value that always fits.
    #[must_use]
    pub const fn from_u32(value: u32) -> Self {
        Self(value as u64)
    }

    /// `value`, or [`MAX`](Self::MAX) if it is greater.
    #[must_use]
    pub const fn saturating(value: u64) -> Self {
        if value > Self::MAX.0 {
            Self::MAX
        } else {
            Self(value)
        }
    }

    /// The value.
    #[must_use]
    pub const fn into_inner(self) -> u64 {
        self.0
    }

    /// Bytes of the wire form: 1, 2, 4 or 8.
    #[must_use]
    pub const fn size(self) -> usize {
        match self.0 {
            0..=0x3f => 1,
            0x40..=0x3fff => 2,
            0x4000..=0x3fff_ffff => 4,
            _ => 8,
        }
    }

    /// Reads the value that `bytes` begin with, and says how many bytes it took. `None` means that more are needed.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<(Self, usize)> {
        let first = *bytes.first()?;
        let size = 1 << (first >> 6);
        let value = bytes
            .get(1..size)?
            .iter()
            .fold(u64::from(first & 0x3f), |value, &byte| {
                value << 8 | u64::from(byte)
            });
        Some((Self(value), size))
    }

    /// Appends the wire form to `out`.
    ///
    /// # Panics
    ///
    /// If `out` cannot grow and has less room than [`size`](Self::size).
    pub fn encode(self, out: &mut impl BufMut) {
        match self.size() {
            1 => out.put_uint(self.0, 1),
            2 => out.put_uint(self.0 | 0b01 << 14, 2),
            4 => out.put_uint(self.0 | 0b10 << 30, 4),
            _ => out.put_u64(self.0 | 0b11 << 62),
        }
    }
}

impl TryFrom<u64> for VarInt {
    type Error = VarIntOutOfRange;

    fn try_from(value: u64) -> Result<Self, Self::Error> {
        if value > Self::MAX.0 {
            return Err(VarIntOutOfRange(value));
        }
        Ok(Self(value))
    }
}

impl From<u8> for VarInt {
    fn from(value: u8) -> Self {
        Self(value.into())
    }
}

impl From<u32> for VarInt {
    fn from(value: u32) -> Self {
        Self(value.into())
    }
}

impl From<VarInt> for u64 {
    fn from(value: VarInt) -> Self {
        value.0
    }
}

impl fmt::Display for VarInt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The integer does not fit 62 bits.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Error)]
#[error("{0} does not fit 62 bits")]
pub struct VarIntOutOfRange(pub u64);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(value: u64) -> Vec<u8> {
        let mut out = Vec::new();
        VarInt::try_from(value).unwrap().encode(&mut out);
        out
    }

    /// RFC 9000, "Sample Variable-Length Integer Decoding".
    #[test]
    fn the_samples_of_the_rfc_decode() {
        let samples: [(&[u8], u64); 5] = [
            (
                &[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c],
                151_288_809_941_952_652,
            ),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15_293),
            (&[0x25], 37),
            (&[0x40, 0x25], 37),
        ];
        for (bytes, value) in samples {
            assert_eq!(VarInt::decode(bytes), Some((VarInt(value), bytes.len())));
        }
    }

    #[test]
    fn the_wire_form_is_the_shortest_at_every_edge() {
        let edges = [
            (0, 1),
            (0x3f, 1),
            (0x40, 2),
            (0x3fff, 2),
            (0x4000, 4),
            (0x3fff_ffff, 4),
            (0x4000_0000, 8),
            (VarInt::MAX.0, 8),
        ];
        for (value, size) in edges {
            assert_eq!(encoded(value).len(), size, "{value}");
            assert_eq!(VarInt(value).size(), size, "{value}");
        }
    }

    #[test]
    fn a_value_beyond_62_bits_is_refused() {
        assert!(VarInt::try_from(1u64 << 62).is_err());
        assert_eq!(VarInt::saturating(1 << 62), VarInt::MAX);
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes_and_every_shorter_prefix_is_incomplete(
            value in 0..=VarInt::MAX.0,
            shift in 0..62u32,
            tail: [u8; 3],
        ) {
            let value = value >> shift;
            let mut bytes = encoded(value);
            let size = bytes.len();
            for end in 0..size {
                prop_assert_eq!(VarInt::decode(&bytes[..end]), None);
            }
            bytes.extend(tail);
            prop_assert_eq!(VarInt::decode(&bytes), Some((VarInt(value), size)));
        }
    }
}
