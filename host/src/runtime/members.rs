//! The sessions that an instance serves.

use std::{sync::Arc, task::Waker};

use slab::Slab;
use wasmtime::component::ResourceAny;

use super::{Label, timers::Timers};
use crate::transport::Session;

/// The low bits of a member's number are its place, the others tell it from those that had the place before.
const PLACE_BITS: u32 = 16;

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
    pub(super) timers: Timers,
    pub(super) label: Arc<Label>,
    /// The guest's `handler`, once it is made.
    pub(super) handler: Option<ResourceAny>,
    /// Bytes that the host held for it when it was looked at last.
    pub(super) held: usize,
    /// Has it looked at again, after a callback of another session did something with it.
    pub(super) waker: Waker,
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
