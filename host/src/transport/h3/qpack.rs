//! Finds `:protocol` in a QPACK field section and, where `h3` would not know its value, puts `webtransport` there.
//!
//! `h3` 0.0.8 resets a request whose `:protocol` is not on its own short list, which has neither `webtransport-h3`
//! nor what RFC 9220 wants answered with 501. Nothing else of a field section is looked at. It uses no dynamic table,
//! because our SETTINGS allow none. What is malformed, or no token, is left to `h3` to refuse.

use bytes::Bytes;

const NAME: &[u8] = b":protocol";
/// The value that `h3` knows.
const WEBTRANSPORT: &[u8] = b"webtransport";
/// The same as a string literal that is not Huffman-coded: its length, 12, comes first.
const WEBTRANSPORT_LITERAL: &[u8] = b"\x0cwebtransport";
/// No registered upgrade token is near as long. A longer one is not rewritten.
const TOKEN_BYTES_MAX: usize = 64;

/// A field section whose `:protocol` was replaced.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rewrite {
    /// The value that stood there: visible ASCII.
    pub(super) token: String,
    /// The encoded field section, with `webtransport` in its place.
    pub(super) block: Bytes,
}

/// Replaces the value of the first `:protocol`, unless that reads `webtransport` or cannot be read.
///
/// A second `:protocol` makes the request malformed; `h3` does not notice where it knows the value.
pub(super) fn rewrite_protocol(block: &[u8]) -> Option<Rewrite> {
    let place = find_protocol(block)?;
    let token = place.value.decode(TOKEN_BYTES_MAX)?;
    if token == WEBTRANSPORT || token.is_empty() || !token.iter().all(u8::is_ascii_graphic) {
        return None;
    }
    Some(Rewrite {
        token: String::from_utf8(token).ok()?,
        block: [place.before, WEBTRANSPORT_LITERAL, place.after]
            .concat()
            .into(),
    })
}

/// The same field section with another `:protocol`, where it has one.
pub(super) fn with_protocol(block: &[u8], token: &str) -> Option<Bytes> {
    let place = find_protocol(block)?;
    // One byte holds a length below the largest of the prefix.
    let length = u8::try_from(token.len())
        .ok()
        .filter(|length| *length < 0x7f)?;
    Some(
        [place.before, &[length], token.as_bytes(), place.after]
            .concat()
            .into(),
    )
}

/// The value of a field section's first `:protocol`, and what stands around it.
struct Place<'a> {
    before: &'a [u8],
    value: Text<'a>,
    after: &'a [u8],
}

fn find_protocol(block: &[u8]) -> Option<Place<'_>> {
    let mut rest = block;
    let required_insert_count = take_integer(&mut rest, 8)?;
    take_integer(&mut rest, 7)?; // Base
    if required_insert_count != 0 {
        return None;
    }
    // RFC 9204, "Field Line Representations". No entry of the static table is named `:protocol`.
    loop {
        let first = *rest.first()?;
        if first & 0b1000_0000 != 0 {
            take_integer(&mut rest, 6)?; // Indexed Field Line
        } else if first & 0b0100_0000 != 0 {
            take_integer(&mut rest, 4)?; // Literal Field Line with Name Reference
            take_string(&mut rest, 7)?;
        } else if first & 0b0010_0000 != 0 {
            let name = take_string(&mut rest, 3)?; // Literal Field Line with Literal Name
            let before = block.len() - rest.len();
            let value = take_string(&mut rest, 7)?;
            if name.decode(NAME.len()).is_some_and(|name| name == NAME) {
                return Some(Place {
                    before: block.get(..before)?,
                    value,
                    after: rest,
                });
            }
        } else {
            return None; // the post-base forms are of the dynamic table
        }
    }
}

/// A string as it is encoded.
struct Text<'a> {
    huffman: bool,
    bytes: &'a [u8],
}

impl Text<'_> {
    /// What it says, if that has at most `bytes_max` bytes.
    fn decode(&self, bytes_max: usize) -> Option<Vec<u8>> {
        if self.huffman {
            decode_huffman(self.bytes, bytes_max)
        } else {
            (self.bytes.len() <= bytes_max).then(|| self.bytes.to_vec())
        }
    }
}

/// RFC 9204, "String Literals": the bit before the length's prefix says whether the string is Huffman-coded.
fn take_string<'a>(rest: &mut &'a [u8], prefix_bits: u32) -> Option<Text<'a>> {
    let huffman = rest.first()? & (1 << prefix_bits) != 0;
    let length = usize::try_from(take_integer(rest, prefix_bits)?).ok()?;
    let (bytes, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(Text { huffman, bytes })
}

/// RFC 7541, "Integer Representation", of at most nine more bytes, as `h3` has it: that fits without overflow.
fn take_integer(rest: &mut &[u8], prefix_bits: u32) -> Option<u64> {
    let prefix_max = u8::MAX >> (8 - prefix_bits);
    let mut value = u64::from(take_byte(rest)? & prefix_max);
    if value < u64::from(prefix_max) {
        return Some(value);
    }
    for shift in (0..63).step_by(7) {
        let byte = take_byte(rest)?;
        value += u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn take_byte(rest: &mut &[u8]) -> Option<u8> {
    let (byte, after) = rest.split_first()?;
    *rest = after;
    Some(*byte)
}

/// The symbols whose code has that many bits, in the order of their codes (RFC 7541, "Huffman Code"). The code is
/// canonical, so this is all of it; symbols with longer codes are left out, since no token has them.
const SYMBOLS: [&[u8]; 16] = [
    b"",
    b"",
    b"",
    b"",
    b"",
    b"012aceiost",
    b" %-./3456789=A_bdfghlmnpru",
    b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz",
    b"&*,;XZ",
    b"",
    b"!\"()?",
    b"'+|",
    b"#>",
    b"\0$@[]~",
    b"^}",
    b"<`{",
];

fn decode_huffman(bytes: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    // The code so far, the lowest code of its length, and that length.
    let (mut code, mut lowest, mut length) = (0_usize, 0_usize, 0_usize);
    for bit in bytes
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |shift| byte >> shift & 1))
    {
        code = code << 1 | usize::from(bit);
        lowest <<= 1;
        length += 1;
        let symbols = SYMBOLS.get(length)?;
        if let Some(&symbol) = symbols.get(code.checked_sub(lowest)?) {
            if text.len() == bytes_max {
                return None;
            }
            text.push(symbol);
            (code, lowest, length) = (0, 0, 0);
        } else {
            lowest += symbols.len();
        }
    }
    // What fills the last byte is shorter than that and all ones.
    (length < 8 && code + 1 == 1 << length).then_some(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `:method CONNECT` and `:scheme https` indexed, `:authority a` by name reference, then `line`, then `origin: b`
    /// with a literal name that must not be lost.
    fn block(line: &[u8]) -> Vec<u8> {
        let mut block = vec![0, 0, 0xc0 | 15, 0xc0 | 23, 0x50, 1, b'a'];
        block.extend_from_slice(line);
        block.extend_from_slice(b"\x26origin\x01b");
        block
    }

    fn byte(length: usize) -> u8 {
        u8::try_from(length).unwrap()
    }

    fn literal_line(name: &[u8], value: &[u8]) -> Vec<u8> {
        let mut line = vec![0x27, byte(name.len() - 7)];
        line.extend_from_slice(name);
        line.push(byte(value.len()));
        line.extend_from_slice(value);
        line
    }

    fn encode_huffman(text: &[u8]) -> Vec<u8> {
        let mut bits = String::new();
        for byte in text {
            let mut lowest = 0;
            for (length, symbols) in SYMBOLS.iter().enumerate() {
                lowest *= 2;
                if let Some(at) = symbols.iter().position(|symbol| symbol == byte) {
                    bits += &format!("{:0length$b}", lowest + at);
                }
                lowest += symbols.len();
            }
        }
        bits += &"1".repeat(bits.len().next_multiple_of(8) - bits.len());
        let octet =
            |bits: &[u8]| u8::from_str_radix(std::str::from_utf8(bits).unwrap(), 2).unwrap();
        bits.as_bytes().chunks(8).map(octet).collect()
    }

    fn token(block: &[u8]) -> Option<String> {
        rewrite_protocol(block).map(|rewrite| rewrite.token)
    }

    #[test]
    fn the_new_token_is_kept_and_replaced_by_the_one_h3_knows() {
        let rewrite = rewrite_protocol(&block(&literal_line(NAME, b"webtransport-h3"))).unwrap();
        assert_eq!(rewrite.token, "webtransport-h3");
        assert_eq!(rewrite.block, block(&literal_line(NAME, WEBTRANSPORT)));
    }

    #[test]
    fn a_huffman_coded_name_and_value_are_understood() {
        let name = encode_huffman(NAME);
        assert_eq!(name.len(), 7);
        let value = encode_huffman(b"webtransport-h3");
        let mut line = vec![0x2f, 0];
        line.extend_from_slice(&name);
        let mut expected = line.clone();
        line.push(0x80 | byte(value.len()));
        line.extend_from_slice(&value);
        expected.extend_from_slice(b"\x0cwebtransport");
        let rewrite = rewrite_protocol(&block(&line)).unwrap();
        assert_eq!(rewrite.token, "webtransport-h3");
        assert_eq!(rewrite.block, block(&expected));
    }

    #[test]
    fn the_never_indexed_bit_stays_as_it_was() {
        let mut line = literal_line(NAME, b"webtransport-h3");
        line[0] |= 0x10;
        let rewrite = rewrite_protocol(&block(&line)).unwrap();
        assert_eq!(rewrite.block[7], 0x37);
    }

    #[test]
    fn an_unknown_token_is_kept_so_that_it_can_be_answered() {
        for unknown in ["websocket", "connect-udp", "x", "Foo/1.0", "a~`|^#$&'*+!%"] {
            assert_eq!(
                token(&block(&literal_line(NAME, unknown.as_bytes()))),
                Some(unknown.to_owned())
            );
        }
    }

    #[test]
    fn a_request_of_our_own_says_the_token_that_h3_does_not_know() {
        let said = with_protocol(&block(&literal_line(NAME, WEBTRANSPORT)), "webtransport-h3");
        let expected = block(&literal_line(NAME, b"webtransport-h3"));
        assert_eq!(said.unwrap(), expected);
        assert_eq!(with_protocol(&block(b""), "webtransport-h3"), None);
    }

    #[test]
    fn a_request_that_says_webtransport_is_left_alone() {
        assert_eq!(token(&block(&literal_line(NAME, WEBTRANSPORT))), None);
    }

    #[test]
    fn a_request_without_protocol_is_left_alone() {
        assert_eq!(token(&block(b"")), None);
        assert_eq!(
            token(&block(&literal_line(b":protocox", b"webtransport-h3"))),
            None
        );
    }

    #[test]
    fn only_the_first_protocol_counts() {
        let mut lines = literal_line(NAME, WEBTRANSPORT);
        lines.extend_from_slice(&literal_line(NAME, b"webtransport-h3"));
        assert_eq!(token(&block(&lines)), None);
    }

    #[test]
    fn a_token_is_visible_ascii_of_at_most_64_bytes() {
        let longest = "x".repeat(64);
        assert_eq!(
            token(&block(&literal_line(NAME, longest.as_bytes()))),
            Some(longest)
        );
        for bad in [&[b'x'; 65][..], b"", b"a b", b"a\n", b"\xff", b"\xc3\xa4"] {
            assert_eq!(token(&block(&literal_line(NAME, bad))), None);
        }
    }

    #[test]
    fn a_length_may_be_padded_but_not_overflow() {
        let line = |length: &[u8]| [b"\x27\x02:protocol", length, b"abc"].concat();
        let plain = line(&[3]);
        assert_eq!(token(&block(&plain)), Some("abc".to_owned()));
        let mut padded = vec![0x7f; 127];
        padded.splice(0..0, [0x7f, 0x80, 0x00]);
        assert_eq!(
            take_string(&mut &padded[..], 7).map(|text| text.bytes.len()),
            Some(127)
        );
        for overlong in [
            &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f][..],
            &[0xff; 40],
        ] {
            assert_eq!(token(&block(&line(overlong))), None);
        }
    }

    #[test]
    fn a_block_with_references_to_a_dynamic_table_is_left_alone() {
        let mut counted = block(&literal_line(NAME, b"abc"));
        counted[0] = 1;
        assert_eq!(token(&counted), None);
        for post_base in [0x10, 0x00] {
            let mut line = vec![post_base, 0];
            line.extend_from_slice(&literal_line(NAME, b"abc"));
            assert_eq!(token(&block(&line)), None);
        }
    }

    #[test]
    fn a_block_cut_off_before_the_end_of_its_token_is_left_alone() {
        let whole = block(&literal_line(NAME, b"webtransport-h3"));
        for cut in 0..7 + 11 + 16 {
            assert_eq!(token(&whole[..cut]), None, "cut at {cut}");
        }
    }

    #[test]
    fn huffman_coded_text_of_the_rfc_is_read() {
        for (text, coded) in [
            (
                &b"www.example.com"[..],
                &b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff"[..],
            ),
            (b"no-cache", b"\xa8\xeb\x10\x64\x9c\xbf"),
            (b"custom-value", b"\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf"),
            (b"", b""),
        ] {
            assert_eq!(decode_huffman(coded, 64).as_deref(), Some(text));
            assert_eq!(encode_huffman(text), coded);
        }
    }

    #[test]
    fn wrong_padding_and_codes_of_no_token_are_refused() {
        // A whole byte of padding; zeros as padding; the code of the end of the string.
        for bad in [
            &b"\xff"[..],
            b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff\xff",
            b"\x18",
            &[0xff; 8],
        ] {
            assert_eq!(decode_huffman(bad, 64), None);
        }
    }

    #[test]
    fn decoding_stops_at_the_limit() {
        assert_eq!(decode_huffman(&[0; 1 << 20], 64), None);
    }

    proptest! {
        #[test]
        fn no_block_panics(block in proptest::collection::vec(any::<u8>(), 0..256)) {
            _ = rewrite_protocol(&block);
        }

        #[test]
        fn every_token_reads_the_same_plain_and_huffman_coded(text in "[!-~&&[^\\\\]]{1,64}") {
            prop_assert_eq!(decode_huffman(&encode_huffman(text.as_bytes()), 64), Some(text.into_bytes()));
        }
    }
}
