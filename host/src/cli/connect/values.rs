//! Turns what was typed behind a flag into a value, or says what it should have been.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;

/// A SHA-256 hash: `sha256:` and hexadecimal, with or without colons, or base64.
pub(super) fn hash(typed: &str) -> Result<[u8; 32], String> {
    let text = typed
        .strip_prefix("sha256:")
        .or_else(|| typed.strip_prefix("sha-256:"))
        .unwrap_or(typed)
        .trim();
    let bytes = hexadecimal(&text.replace(':', "")).or_else(|| STANDARD.decode(text).ok());
    bytes
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| "expected sha256: and 32 bytes in hexadecimal or base64".to_owned())
}

fn hexadecimal(digits: &str) -> Option<Vec<u8>> {
    let digits = digits.as_bytes();
    let byte = |pair: &[u8]| {
        let pair = str::from_utf8(pair).ok()?;
        let hex = pair.len() == 2 && pair.bytes().all(|digit| digit.is_ascii_hexdigit());
        hex.then(|| u8::from_str_radix(pair, 16).ok())?
    };
    digits.chunks(2).map(byte).collect()
}

/// A field: a name, a colon, a value.
pub(super) fn field(typed: &str) -> Result<(String, Bytes), String> {
    let (name, value) = typed
        .split_once(':')
        .filter(|(name, _)| !name.trim().is_empty())
        .ok_or("expected a name, a colon and a value")?;
    let value = Bytes::copy_from_slice(value.trim().as_bytes());
    Ok((name.trim().to_ascii_lowercase(), value))
}

/// A number of bytes, such as `16MiB`.
pub(super) fn size(typed: &str) -> Result<u64, String> {
    let digits = typed.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let shift = match &typed[digits.len()..] {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        unit => return Err(format!("no such unit: {unit} (B, KiB, MiB and GiB are)")),
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| "expected a whole number and a unit, such as 16MiB".to_owned())?;
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| "too large".to_owned())
}

/// A time in seconds, such as `2.5`.
pub(super) fn seconds(typed: &str) -> Result<Duration, String> {
    typed
        .parse()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .filter(|time| !time.is_zero() && *time <= Duration::from_secs(3600))
        .ok_or_else(|| "expected seconds, more than 0 and at most 3600".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_may_be_written_in_several_ways() {
        let bytes: [u8; 32] = std::array::from_fn(|at| u8::try_from(at * 8).unwrap());
        let plain: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let colons = bytes.map(|byte| format!("{byte:02X}")).join(":");
        for text in [plain, colons, STANDARD.encode(bytes)] {
            for typed in [format!("sha256:{text}"), format!("sha-256:{text}"), text] {
                assert_eq!(hash(&typed), Ok(bytes), "{typed}");
            }
        }
    }

    #[test]
    fn what_is_no_hash_is_refused() {
        for typed in [
            "",
            "sha256:",
            "sha256:00",
            "sha1:00",
            "\u{e4}",
            &"+1".repeat(32),
        ] {
            assert!(hash(typed).is_err(), "{typed}");
        }
    }

    #[test]
    fn a_field_has_a_name_in_lower_case_and_a_value() {
        let parsed = field("X-Name:  a: b ").unwrap();
        assert_eq!(parsed, ("x-name".to_owned(), Bytes::from_static(b"a: b")));
        assert_eq!(field("x:").unwrap().1, "");
        for typed in ["", "x", ":x", " : x"] {
            assert!(field(typed).is_err(), "{typed}");
        }
    }

    #[test]
    fn a_size_has_a_unit() {
        for (typed, bytes) in [
            ("0", 0),
            ("7B", 7),
            ("1KiB", 1 << 10),
            ("16MiB", 16 << 20),
            ("2GiB", 2 << 30),
        ] {
            assert_eq!(size(typed), Ok(bytes), "{typed}");
        }
        for typed in [
            "",
            "MiB",
            "1MB",
            "1.5MiB",
            "-1",
            "1 MiB",
            "99999999999GiB",
            "1\u{e4}",
        ] {
            assert!(size(typed).is_err(), "{typed}");
        }
    }

    #[test]
    fn a_time_is_more_than_nothing() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for typed in ["", "0", "-1", "inf", "NaN", "1e9", "5s"] {
            assert!(seconds(typed).is_err(), "{typed}");
        }
    }
}
