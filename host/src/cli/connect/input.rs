//! The lines of the standard input.

use std::io::{BufRead as _, BufReader, Read};

use tokio::sync::mpsc;

/// Bytes of a line, as the help says.
const LINE_BYTES_MAX: usize = 64 << 10;

/// A line, without its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    Whole(Vec<u8>),
    /// It was longer than it may be, and was passed over.
    TooLong,
}

/// Reads the standard input line by line, one ahead of who takes them, to its end.
///
/// The thread that reads is not waited for: nobody can wake it, so it ends with its input, or with the process.
pub(super) fn lines() -> mpsc::Receiver<Line> {
    let (sender, lines) = mpsc::channel(1);
    std::thread::spawn(move || read(std::io::stdin(), |line| sender.blocking_send(line).is_ok()));
    lines
}

/// Gives out lines until there is none, or nobody takes them.
fn read(input: impl Read, mut take: impl FnMut(Line) -> bool) {
    let mut input = BufReader::new(input);
    let mut line = Vec::new();
    loop {
        line.clear();
        let limit = LINE_BYTES_MAX as u64 + 2;
        let Ok(1..) = input.by_ref().take(limit).read_until(b'\n', &mut line) else {
            return;
        };
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let taken = if text.len() <= LINE_BYTES_MAX {
            take(Line::Whole(text.to_vec()))
        } else {
            (line.ends_with(b"\n") || skip(&mut input)) && take(Line::TooLong)
        };
        if !taken {
            return;
        }
    }
}

/// Passes over the rest of a line.
fn skip(input: &mut impl std::io::BufRead) -> bool {
    loop {
        let Ok(part) = input.fill_buf() else {
            return false;
        };
        if part.is_empty() {
            return true;
        }
        let end = part.iter().position(|byte| *byte == b'\n');
        let used = end.map_or(part.len(), |end| end + 1);
        input.consume(used);
        if end.is_some() {
            return true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(input: &[u8]) -> Vec<Line> {
        let mut lines = Vec::new();
        read(input, |line| {
            lines.push(line);
            true
        });
        lines
    }

    #[test]
    fn a_line_ends_with_its_newline_or_with_the_input() {
        let whole = |text: &str| Line::Whole(text.as_bytes().to_vec());
        assert_eq!(all(b""), []);
        assert_eq!(all(b"a\r\n\nb"), [whole("a"), whole(""), whole("b")]);
    }

    #[test]
    fn a_line_that_is_too_long_is_passed_over_and_no_other() {
        let longest = vec![b'x'; LINE_BYTES_MAX];
        for more in [0, 1, 2, 3, 100_000] {
            let mut input = longest.clone();
            input.extend(vec![b'y'; more]);
            input.extend(b"\r\nnext\n");
            let first = if more == 0 {
                Line::Whole(longest.clone())
            } else {
                Line::TooLong
            };
            assert_eq!(
                all(&input),
                [first, Line::Whole(b"next".to_vec())],
                "{more}"
            );
        }
        let unended = vec![b'x'; 3 * LINE_BYTES_MAX];
        assert_eq!(all(&unended), [Line::TooLong]);
    }
}
