//! Bytes of one stream that wait: to be sent, or to be given out.

use std::collections::VecDeque;

use bytes::{Buf as _, Bytes, BytesMut};

/// Sends smaller than this are gathered, so that a byte at a time does not cost an allocation each.
const GATHER_BELOW: usize = 1 << 10;
/// How much is gathered in one piece.
const GATHER_PIECE: usize = 8 << 10;
/// A received piece smaller than this is copied where others wait already: it may pin a whole read of the transport.
const COPY_BELOW: usize = 8 << 10;
/// One smaller than this is always copied: a stream with one byte would pin as much as one with a thousand.
const COPY_ALWAYS_BELOW: usize = 512;

/// What was taken from the application and the transport has not accepted yet.
#[derive(Debug, Default)]
pub struct SendBuffer {
    queue: VecDeque<Bytes>,
    /// The end of the queue, where small sends are gathered.
    tail: BytesMut,
    len: usize,
    fin: bool,
    /// The size of a send that was refused for want of room.
    refused: Option<usize>,
}

impl SendBuffer {
    /// How many bytes wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no byte waits; FIN may.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the end of the data was marked.
    #[must_use]
    pub fn has_fin(&self) -> bool {
        self.fin
    }

    /// Whether a send of so many bytes fits beside what waits here and in the whole session. One that is larger than the
    /// buffer fits when nothing waits, so that no program must know the limits; one that is larger than the room never does.
    #[must_use]
    pub fn fits(&self, len: usize, limits: SendLimits, session: usize) -> bool {
        let stream_fits = self.len == 0 || self.len.saturating_add(len) <= limits.stream;
        let session_fits =
            session == 0 || session.saturating_add(len.min(limits.stream)) <= limits.session;
        let there_is_room = session.saturating_add(len) <= limits.room;
        len == 0 || stream_fits && session_fits && there_is_room
    }

    /// Takes bytes, however many.
    pub fn push(&mut self, data: Bytes) {
        self.len = self.len.saturating_add(data.len());
        if data.len() >= GATHER_BELOW {
            self.seal_tail();
            self.queue.push_back(data);
        } else if !data.is_empty() {
            self.tail.extend_from_slice(&data);
            if self.tail.len() >= GATHER_PIECE {
                self.seal_tail();
            }
        }
    }

    /// Marks the end of the data.
    pub fn push_fin(&mut self) {
        self.fin = true;
    }

    /// Notes that a send of that size found no room.
    pub fn refuse(&mut self, len: usize) {
        self.refused = Some(len);
    }

    /// Whether a refused send would be taken now, and half of the buffer is free, or the room has become too small for it
    /// ever to be taken; says so once.
    pub fn take_writable(&mut self, limits: SendLimits, session: usize) -> bool {
        let writable = self.refused.is_some_and(|len| {
            len > limits.room || self.has_room(len, limits) && self.fits(len, limits, session)
        });
        if writable {
            self.refused = None;
        }
        writable
    }

    /// Whether a refused send waits for room in the session's buffer at most.
    #[must_use]
    pub fn waits_for_session(&self, limits: SendLimits) -> bool {
        self.refused.is_some_and(|len| self.has_room(len, limits))
    }

    /// All that waits, in pieces. Who has taken bytes off their front says how many, by [`advanced`](Self::advanced).
    pub fn pieces(&mut self) -> &mut [Bytes] {
        self.seal_tail();
        self.queue.make_contiguous()
    }

    /// Counts bytes that were taken off the front of [`pieces`](Self::pieces).
    pub fn advanced(&mut self, n: usize) {
        while self.queue.front().is_some_and(Bytes::is_empty) {
            self.queue.pop_front();
        }
        self.len = self.len.saturating_sub(n);
    }

    /// Takes at most `max` bytes off the first piece; none if nothing waits.
    pub fn take(&mut self, max: usize) -> Bytes {
        if self.queue.is_empty() {
            self.seal_tail();
        }
        let Some(first) = self.queue.front_mut() else {
            return Bytes::new();
        };
        let taken = first.split_to(first.len().min(max));
        self.advanced(taken.len());
        taken
    }

    /// Whether half of the buffer is free, and enough for so many bytes.
    fn has_room(&self, len: usize, limits: SendLimits) -> bool {
        let level = match limits.stream.checked_sub(len) {
            Some(room) => room.min(limits.stream / 2),
            None => 0, // larger than the buffer: taken when the buffer is empty
        };
        self.len <= level
    }

    fn seal_tail(&mut self) {
        if !self.tail.is_empty() {
            self.queue.push_back(self.tail.split().freeze());
        }
    }
}

/// How much may wait to be sent, in bytes.
#[derive(Copy, Clone, Debug)]
pub struct SendLimits {
    /// On one stream.
    pub stream: usize,
    /// On all streams of the session.
    pub session: usize,
    /// Likewise, as long as it is less, and then for the largest send too. [`usize::MAX`] without such a limit.
    pub room: usize,
}

impl SendLimits {
    /// The lower of the two for all streams.
    #[must_use]
    pub fn all(&self) -> usize {
        self.session.min(self.room)
    }
}

/// What came on a stream and was not given out yet.
#[derive(Debug, Default)]
pub struct ReceiveBuffer {
    queue: VecDeque<Bytes>,
    tail: BytesMut,
    len: usize,
}

impl ReceiveBuffer {
    /// How many bytes wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes what came. A first piece is kept as it is unless it is tiny; small ones behind it are copied together.
    pub fn push(&mut self, data: Bytes) {
        let alone = self.len == 0;
        self.len = self.len.saturating_add(data.len());
        if data.len() >= COPY_BELOW || alone && data.len() >= COPY_ALWAYS_BELOW {
            self.seal_tail();
            self.queue.push_back(data);
        } else if alone && !data.is_empty() {
            self.queue.push_back(Bytes::copy_from_slice(&data));
        } else {
            self.tail.extend_from_slice(&data);
            if self.tail.len() >= COPY_BELOW {
                self.seal_tail();
            }
        }
    }

    /// Gives out at most `max` bytes. Several small pieces are joined by a copy, a large one is not copied.
    pub fn take(&mut self, max: usize) -> Bytes {
        self.seal_tail();
        let taken = match self.queue.front_mut() {
            None => return Bytes::new(),
            Some(first) if first.len() >= COPY_BELOW.min(max) || first.len() == self.len => {
                first.split_to(first.len().min(max))
            }
            Some(_) => self.join(max),
        };
        while self.queue.front().is_some_and(Bytes::is_empty) {
            self.queue.pop_front();
        }
        self.len = self.len.saturating_sub(taken.len());
        taken
    }

    /// Forgets what waits, and says how much that was.
    pub fn clear(&mut self) -> usize {
        self.queue.clear();
        self.tail.clear();
        std::mem::take(&mut self.len)
    }

    /// In how many pieces it waits.
    #[cfg(test)]
    pub(crate) fn pieces(&self) -> usize {
        self.queue.len().saturating_add(1)
    }

    fn join(&mut self, max: usize) -> Bytes {
        let mut joined = BytesMut::with_capacity(max.min(self.len));
        while let Some(first) = self.queue.front_mut() {
            let room = max.saturating_sub(joined.len());
            let n = first.len().min(room);
            joined.extend_from_slice(first.get(..n).unwrap_or_default());
            first.advance(n);
            if !first.is_empty() {
                break;
            }
            self.queue.pop_front();
        }
        joined.freeze()
    }

    fn seal_tail(&mut self) {
        if !self.tail.is_empty() {
            self.queue.push_back(self.tail.split().freeze());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: SendLimits = SendLimits {
        stream: 8,
        session: 20,
        room: usize::MAX,
    };

    fn bytes(n: usize) -> Bytes {
        Bytes::from(vec![1; n])
    }

    #[test]
    fn a_send_larger_than_the_buffer_fits_when_nothing_waits() {
        let mut buffer = SendBuffer::default();
        assert!(buffer.fits(1_000, LIMITS, 0));
        assert!(buffer.fits(1_000, LIMITS, 12), "counts as a whole buffer");
        assert!(!buffer.fits(1_000, LIMITS, 13));
        buffer.push(bytes(1));
        assert!(!buffer.fits(8, LIMITS, 1));
        assert!(buffer.fits(7, LIMITS, 1));
        assert!(buffer.fits(0, LIMITS, 1_000), "FIN alone");
    }

    #[test]
    fn nothing_is_taken_beyond_the_room() {
        let limits = SendLimits { room: 10, ..LIMITS };
        let mut buffer = SendBuffer::default();
        assert!(buffer.fits(10, limits, 0), "nothing waits");
        assert!(!buffer.fits(11, limits, 0));
        assert!(
            !buffer.fits(9, limits, 2),
            "not cut to the size of a buffer"
        );
        buffer.refuse(9);
        assert!(!buffer.take_writable(limits, 2));
        assert!(buffer.take_writable(limits, 1));
        buffer.refuse(9);
        let smaller = SendLimits { room: 8, ..LIMITS };
        assert!(buffer.take_writable(smaller, 2), "it waits for nothing");
    }

    #[test]
    fn room_is_told_once_when_half_of_the_buffer_is_free() {
        let mut buffer = SendBuffer::default();
        buffer.push(bytes(8));
        assert!(!buffer.take_writable(LIMITS, 8), "nothing was refused");
        buffer.refuse(1);
        buffer.take(3);
        assert!(!buffer.take_writable(LIMITS, 5));
        buffer.take(1);
        assert!(!buffer.take_writable(LIMITS, 20), "the session has no room");
        assert!(buffer.take_writable(LIMITS, 4));
        assert!(!buffer.take_writable(LIMITS, 4));
    }

    proptest! {
        #[test]
        fn bytes_leave_the_buffers_as_they_came(
            pieces in prop::collection::vec(0..20_000_usize, 0..12),
            takes in prop::collection::vec(1..30_000_usize, 1..12),
        ) {
            let mut sent = Vec::new();
            let (mut send, mut receive) = (SendBuffer::default(), ReceiveBuffer::default());
            for (i, len) in pieces.into_iter().enumerate() {
                let piece = Bytes::from(vec![u8::try_from(i).unwrap(); len]);
                sent.extend_from_slice(&piece);
                send.push(piece.clone());
                receive.push(piece);
            }
            prop_assert_eq!((send.len(), receive.len()), (sent.len(), sent.len()));
            let (mut a, mut b) = (Vec::new(), Vec::new());
            for max in takes.iter().cycle() {
                let (x, y) = (send.take(*max), receive.take(*max));
                prop_assert!(x.len() <= *max && y.len() <= *max);
                a.extend_from_slice(&x);
                b.extend_from_slice(&y);
                if x.is_empty() && y.is_empty() {
                    break;
                }
            }
            prop_assert!(a == sent && b == sent);
            prop_assert!(send.is_empty() && receive.is_empty());
        }
    }
}
