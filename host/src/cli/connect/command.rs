//! The commands of `wharf connect`: what may be typed, and what is wrong with what was.

use bytes::Bytes;

use crate::transport::{Dir, StreamId};

/// The end of `wharf connect --help`.
pub(super) const HELP: &str = "\
Events, one on a line of the standard output. TEXT stands in quotes; what is not printable is escaped as in Rust.
  connected http3 DRAFT status STATUS [protocol NAME]
  refused STATUS
  opened STREAM bidi|uni           the server opened a stream
  data STREAM LENGTH TEXT [fin]
  datagram LENGTH TEXT
  reset STREAM CODE|none           the server gave up sending
  stopped STREAM CODE|none         the server gave up reading
  waiting STREAM                   a `send` finds no room; no command is read until it does
  writable STREAM                  it does
  stream-closed STREAM
  draining                         the server asks that the session be ended
  closed CODE TEXT by local|peer|host clean|unclean
  error WHAT                       a command that could not be done; the session goes on

Commands, one on a line of the standard input. STREAM is a number that `open` or `opened` said, or `last` for the one
opened last by a command.
  open bidi|uni                    answers `open STREAM`
  send STREAM TEXT                 to the end of the line, as it is
  fin STREAM                       ends the sending direction
  datagram TEXT
  reset STREAM CODE                gives up sending
  stop STREAM CODE                 gives up reading
  priority STREAM NUMBER           higher goes first, 0 is the default
  drain                            asks the server to end the session, and opens no further stream
  close CODE [TEXT]
  info                             answers with one line of `info NAME VALUE ...`
  help                             answers with lines of `help ...`
Empty lines and lines that begin with # do nothing. A line has at most 65536 bytes.

The end of the standard input closes the session with code 0, as soon as what was sent is with the transport and each
stream that was ended with `fin` has been ended by the server too. So does Ctrl-C, at once.

Exit codes: 0 the session ended cleanly, 1 it did not or there was none, 2 wrong usage.";

/// The form of every command.
pub(super) const FORMS: [&str; 11] = [
    "open bidi|uni",
    "send STREAM TEXT",
    "fin STREAM",
    "datagram TEXT",
    "reset STREAM CODE",
    "stop STREAM CODE",
    "priority STREAM NUMBER",
    "drain",
    "close CODE [TEXT]",
    "info",
    "help",
];

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Open(Dir),
    Send(Which, Bytes),
    Fin(Which),
    Datagram(Bytes),
    Reset(Which, u32),
    Stop(Which, u32),
    Priority(Which, i32),
    Drain,
    Close(u32, String),
    Info,
    Help,
}

/// The stream that a command is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    Id(StreamId),
    /// The one opened last from here.
    Last,
}

impl Command {
    /// Reads a line; `None` for one that does nothing. An error is one line that says what is wrong and what is right.
    pub(super) fn parse(line: &[u8]) -> Result<Option<Self>, String> {
        let mut words = Words(line);
        let Some(name) = words.next() else {
            return Ok(None);
        };
        if name.starts_with(b"#") {
            return Ok(None);
        }
        let known = |form: &&&str| form.split(' ').next().map(str::as_bytes) == Some(name);
        let Some(form) = FORMS.iter().find(known) else {
            let name = name.escape_ascii();
            return Err(format!("no command is named {name} (help lists them)"));
        };
        Self::read(name, &mut words)
            .map(Some)
            .map_err(|wrong| format!("{}: {wrong} (expected {form})", name.escape_ascii()))
    }

    fn read(name: &[u8], words: &mut Words<'_>) -> Result<Self, String> {
        let command = match name {
            b"open" => Self::Open(match words.next() {
                Some(b"bidi") => Dir::Bi,
                Some(b"uni") => Dir::Uni,
                Some(_) | None => return Err("a stream is bidi or uni".to_owned()),
            }),
            b"send" => return Ok(Self::Send(words.stream()?, words.rest())),
            b"datagram" => return Ok(Self::Datagram(words.rest())),
            b"fin" => Self::Fin(words.stream()?),
            b"reset" => Self::Reset(words.stream()?, words.number("code")?),
            b"stop" => Self::Stop(words.stream()?, words.number("code")?),
            b"priority" => Self::Priority(words.stream()?, words.number("priority")?),
            b"drain" => Self::Drain,
            b"close" => {
                let code = words.number("code")?;
                let reason = String::from_utf8(words.rest().to_vec());
                return Ok(Self::Close(
                    code,
                    reason.map_err(|_| "the reason is not UTF-8")?,
                ));
            }
            b"info" => Self::Info,
            _ => Self::Help,
        };
        match words.next() {
            Some(more) => Err(format!("{} is too much", more.escape_ascii())),
            None => Ok(command),
        }
    }
}

/// What is left of a line.
struct Words<'a>(&'a [u8]);

impl<'a> Words<'a> {
    /// The next word. One blank behind it is taken with it.
    fn next(&mut self) -> Option<&'a [u8]> {
        let text = self.0.trim_ascii_start();
        let end = text.iter().position(u8::is_ascii_whitespace);
        let (word, rest) = text.split_at(end.unwrap_or(text.len()));
        self.0 = rest.get(1..).unwrap_or_default();
        (!word.is_empty()).then_some(word)
    }

    /// All that is left, as it is.
    fn rest(&mut self) -> Bytes {
        Bytes::copy_from_slice(std::mem::take(&mut self.0))
    }

    fn stream(&mut self) -> Result<Which, String> {
        match self.next() {
            Some(b"last") => Ok(Which::Last),
            Some(word) => parse::<u64>(word)
                .and_then(|id| StreamId::try_from(id).ok())
                .map(Which::Id)
                .ok_or_else(|| format!("{} is no stream", word.escape_ascii())),
            None => Err("no stream is named".to_owned()),
        }
    }

    fn number<T: std::str::FromStr>(&mut self, what: &str) -> Result<T, String> {
        let word = self.next().ok_or_else(|| format!("no {what} is given"))?;
        parse(word).ok_or_else(|| format!("{} is no {what}", word.escape_ascii()))
    }
}

fn parse<T: std::str::FromStr>(word: &[u8]) -> Option<T> {
    str::from_utf8(word).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn which(id: u64) -> Which {
        Which::Id(StreamId::try_from(id).unwrap())
    }

    #[test]
    fn each_command_is_read_as_it_is_written() {
        let text = Bytes::from_static;
        for (line, command) in [
            ("open bidi", Command::Open(Dir::Bi)),
            ("  open\tuni ", Command::Open(Dir::Uni)),
            (
                "send 4 hello  world ",
                Command::Send(which(4), text(b"hello  world ")),
            ),
            ("send 4  two", Command::Send(which(4), text(b" two"))),
            ("send last", Command::Send(Which::Last, text(b""))),
            ("fin 4", Command::Fin(which(4))),
            ("datagram a b", Command::Datagram(text(b"a b"))),
            ("datagram", Command::Datagram(text(b""))),
            ("reset 4 7", Command::Reset(which(4), 7)),
            ("stop 3 4294967295", Command::Stop(which(3), u32::MAX)),
            ("priority 4 -1", Command::Priority(which(4), -1)),
            ("drain", Command::Drain),
            ("close 0", Command::Close(0, String::new())),
            ("close 5 good bye", Command::Close(5, "good bye".to_owned())),
            ("info", Command::Info),
            ("help", Command::Help),
        ] {
            assert_eq!(Command::parse(line.as_bytes()), Ok(Some(command)), "{line}");
        }
        for nothing in ["", "   ", "# send 4 hello"] {
            assert_eq!(Command::parse(nothing.as_bytes()), Ok(None));
        }
        let bytes = Command::parse(b"datagram \xff\0").unwrap().unwrap();
        assert_eq!(bytes, Command::Datagram(text(b"\xff\0")));
    }

    #[test]
    fn what_is_wrong_is_named_with_what_is_right() {
        for (line, says) in [
            (&b"sail"[..], ["sail", "help"]),
            (b"\xff", ["\\xff", "help"]),
            (b"open", ["open: a stream is bidi or uni", "open bidi|uni"]),
            (b"open both", ["bidi or uni", "open bidi|uni"]),
            (b"send", ["send: no stream is named", "send STREAM TEXT"]),
            (b"send x y", ["x is no stream", "send STREAM TEXT"]),
            (b"fin 4611686018427387904", ["is no stream", "fin STREAM"]),
            (b"fin 4 5", ["5 is too much", "fin STREAM"]),
            (b"reset 4", ["no code is given", "reset STREAM CODE"]),
            (b"reset 4 -1", ["-1 is no code", "reset STREAM CODE"]),
            (
                b"stop 4 4294967296",
                ["4294967296 is no code", "stop STREAM CODE"],
            ),
            (
                b"priority 4 high",
                ["high is no priority", "priority STREAM NUMBER"],
            ),
            (b"close", ["no code is given", "close CODE [TEXT]"]),
            (b"close 1 \xff", ["not UTF-8", "close CODE [TEXT]"]),
            (b"drain now", ["now is too much", "drain"]),
        ] {
            let error = Command::parse(line).unwrap_err();
            for said in says {
                assert!(error.contains(said), "{said:?} is not in {error:?}");
            }
            assert_eq!(error.lines().count(), 1);
        }
    }

    #[test]
    fn the_help_has_every_command() {
        for form in FORMS {
            assert!(HELP.contains(&format!("\n  {form}")), "{form}");
        }
    }

    proptest! {
        #[test]
        fn no_line_panics(line in proptest::collection::vec(any::<u8>(), 0..64)) {
            _ = Command::parse(&line);
        }
    }
}
