//! The sessions that an instance serves.

use std::{
    cell::Cell,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use slab::Slab;
use wasmtime::component::ResourceAny;

use super::{Label, timers::Timers};
use crate::transport::{Event, Session};

/// The low bits of a member's number are its place, the others tell it from those that had the place before.
const PLACE_BITS: u32 = 16;

/// Datagrams of a batch, as the WIT says.
const BATCH_MAX: usize = 64;
/// Bytes of all datagrams of a batch, likewise.
const BATCH_BYTES_MAX: usize = 64 << 10;

/// The sessions of an instance, by the number that the guest's handle of each stands for.
#[derive(Debug, Default)]
pub(super) struct Members {
    places: Slab<Member>,
    joined: u32,
    /// The one that tells what the instance takes, which all of them share.
    first: Option<u32>,
}

/// One session, as its instance sees it.
#[derive(Debug)]
pub(super) struct Member {
    number: u32,
    pub(super) session: Session,
    /// What its session said after the datagrams of a batch.
    pub(super) ahead: Option<Event>,
    pub(super) timers: Timers,
    pub(super) label: Arc<Label>,
    /// The guest's `handler`, once it is made.
    pub(super) handler: Option<ResourceAny>,
    /// Bytes that the host held for it when it was looked at last.
    pub(super) held: usize,
    /// Has it looked at again, after a callback of another session did something with it.
    pub(super) waker: Waker,
}

impl Member {
    pub(super) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        match self.ahead.take() {
            Some(event) => Poll::Ready(event),
            None => self.session.poll_event(cx),
        }
    }

    /// The datagrams that wait after that one, with it.
    pub(super) fn batch(&mut self, first: &Bytes, cx: &mut Context<'_>) -> Batch {
        let session = &mut self.session;
        let (batch, ahead) = batch(first, |filling| {
            session.take_datagrams(|datagram| filling.take(datagram));
            if filling.has_room() {
                session.poll_event(cx)
            } else {
                Poll::Pending
            }
        });
        self.ahead = ahead;
        batch
    }
}

/// Datagrams, one after another. A guest is lent them.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) data: Arc<Vec<u8>>,
    pub(super) sizes: Arc<Vec<u32>>,
}

thread_local! {
    /// The batch that a guest was lent last, to be filled again.
    static SPARE: Cell<Batch> = Cell::default();
}

impl Batch {
    fn spare() -> Self {
        let mut batch = SPARE.take();
        batch.filled(|filling| filling.clear());
        batch
    }

    /// Has it filled.
    fn filled<T>(&mut self, fill: impl FnOnce(&mut Filling<'_>) -> T) -> T {
        fill(&mut Filling {
            data: Arc::make_mut(&mut self.data),
            sizes: Arc::make_mut(&mut self.sizes),
        })
    }

    /// The guest has its own copy now.
    pub(super) fn spare_again(self) {
        SPARE.set(self);
    }
}

/// A batch that is being filled.
struct Filling<'a> {
    data: &'a mut Vec<u8>,
    sizes: &'a mut Vec<u32>,
}

impl Filling<'_> {
    fn clear(&mut self) {
        self.data.clear();
        self.sizes.clear();
    }

    /// Whether there may be one more, if it is small enough.
    fn has_room(&self) -> bool {
        self.sizes.len() < BATCH_MAX
    }

    /// Takes a datagram, unless it is more than may be in a batch.
    fn take(&mut self, datagram: &[u8]) -> bool {
        let fits = self.has_room() && self.data.len() + datagram.len() <= BATCH_BYTES_MAX;
        if fits {
            self.push(datagram);
        }
        fits
    }

    fn push(&mut self, datagram: &[u8]) {
        let size = u32::try_from(datagram.len()).unwrap_or(u32::MAX); // they are shorter than 64 KiB
        self.data.extend_from_slice(datagram);
        self.sizes.push(size);
    }
}

/// A datagram and those after it, as many as there are or may be in a batch; and what came after those, which is not to
/// wait for another call to be found. `next` may put datagrams in by itself before it tells of an event.
fn batch(
    first: &Bytes,
    mut next: impl FnMut(&mut Filling<'_>) -> Poll<Event>,
) -> (Batch, Option<Event>) {
    let mut batch = Batch::spare();
    let ahead = batch.filled(|filling| {
        filling.push(first);
        while filling.has_room() {
            match next(filling) {
                Poll::Ready(Event::Datagram(next)) if filling.take(&next) => {}
                Poll::Ready(other) => return Some(other),
                Poll::Pending => break,
            }
        }
        None
    });
    (batch, ahead)
}

impl Members {
    /// Takes a session in, and returns its number.
    pub(super) fn insert(&mut self, session: Session, label: Arc<Label>) -> u32 {
        let entry = self.places.vacant_entry();
        // An instance has fewer sessions than there are places: the address space holds fewer.
        let place = u32::try_from(entry.key()).unwrap_or(u32::MAX) & ((1 << PLACE_BITS) - 1);
        let number = self.joined << PLACE_BITS | place;
        self.joined = self.joined.wrapping_add(1);
        entry.insert(Member {
            number,
            session,
            ahead: None,
            timers: Timers::default(),
            label,
            handler: None,
            held: 0,
            waker: Waker::noop().clone(),
        });
        self.first.get_or_insert(number);
        number
    }

    /// The session of that number, if it is here still.
    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut Member> {
        let member = self.places.get_mut(place(number))?;
        (member.number == number).then_some(member)
    }

    /// Whether it is the one that tells what the instance takes, which all of them share.
    pub(super) fn is_first(&self, number: u32) -> bool {
        self.first == Some(number)
    }

    pub(super) fn remove(&mut self, number: u32) -> Option<Member> {
        self.get_mut(number)?;
        let removed = self.places.try_remove(place(number));
        if self.is_first(number) {
            let mut others = self.places.iter();
            self.first = others.next().map(|(_, member)| member.number);
        }
        removed
    }
}

fn place(number: u32) -> usize {
    (number & ((1 << PLACE_BITS) - 1)) as usize
}

#[cfg(test)]
mod tests {
    use wharf_proto::id::StreamId;

    use super::*;

    fn datagram(len: usize) -> Event {
        Event::Datagram(Bytes::from(vec![7; len]))
    }

    /// How many datagrams of those lengths are a batch, and the event that was found after them.
    fn batched(
        first: usize,
        events: impl IntoIterator<Item = Event>,
    ) -> (usize, Option<Event>, usize) {
        let mut events = events.into_iter();
        let first = Bytes::from(vec![7; first]);
        let (batch, ahead) = batch(&first, |_| events.next().map_or(Poll::Pending, Poll::Ready));
        (batch.sizes.len(), ahead, events.count())
    }

    #[test]
    fn datagrams_without_an_event_each_count_as_those_with_one() {
        let first = Bytes::from_static(b"1");
        let mut left = 70;
        let (batch, ahead) = batch(&first, |filling| {
            while left > 0 && filling.take(b"22") {
                left -= 1;
            }
            Poll::Pending
        });
        assert_eq!((batch.sizes.len(), ahead, left), (64, None, 7));
        assert_eq!(batch.sizes[..3], [1, 2, 2]);
        assert_eq!(batch.data[..5], *b"12222");
    }

    #[test]
    fn a_batch_is_what_waits_up_to_the_first_event_that_is_no_datagram() {
        assert_eq!(batched(1, []), (1, None, 0));
        assert_eq!(batched(0, [datagram(0), datagram(9)]), (3, None, 0));
        let stream = StreamId::try_from(0).unwrap();
        let events = [datagram(1), Event::Opened(stream), datagram(1)];
        assert_eq!(batched(1, events), (2, Some(Event::Opened(stream)), 1));
    }

    #[test]
    fn a_batch_has_64_datagrams_and_64_kib_at_most_unless_one_alone_is_larger() {
        let many = || std::iter::repeat_with(|| datagram(1000));
        assert_eq!(batched(1000, many().take(70)), (64, None, 7));
        let kib = |n: usize| datagram(n << 10);
        let (batch, ahead, left) = batched(40 << 10, [kib(24), kib(1), kib(1)]);
        assert_eq!((batch, ahead, left), (2, Some(kib(1)), 1));
        assert_eq!(batched(70 << 10, [kib(1)]), (1, Some(kib(1)), 0));
    }
}
