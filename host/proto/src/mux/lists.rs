//! Which streams of a session wait for what. A stream is on a list at most once, and on none when it is over.

use std::{cmp::Reverse, collections::VecDeque, mem};

use super::{Half, Mux, Stream};
use crate::id::StreamId;

/// A place among the streams that have data to send: the highest priority first, then who has waited longest.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Turn {
    priority: Reverse<i32>,
    number: u64,
}

/// Puts a stream at the end of a list, where it is not on it.
pub(super) fn list(id: StreamId, listed: &mut bool, list: &mut VecDeque<StreamId>) {
    if !mem::replace(listed, true) {
        list.push_back(id);
    }
}

impl Mux {
    pub(super) fn list_readable(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id) {
            list(id, &mut stream.listed_readable, &mut self.readable);
        }
    }

    pub(super) fn list_starved(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id) {
            list(id, &mut stream.listed_starved, &mut self.starved);
        }
    }

    /// Whether a stream that refused bytes takes them now. Where only the session has no room, it waits for that.
    pub(super) fn is_writable(&mut self, id: StreamId) -> bool {
        let limits = self.config.limits.send;
        let Some(stream) = self.streams.get_mut(&id) else {
            return false;
        };
        stream.listed_writable = false;
        let Half::Open(sending) = &mut stream.send else {
            return false;
        };
        if sending.buffer.has_fin() {
            return false;
        }
        let writable = sending.buffer.take_writable(limits, self.buffered);
        if !writable && sending.buffer.waits_for_session(limits) {
            list(id, &mut stream.listed_starved, &mut self.starved);
        }
        writable
    }

    /// Lists a stream for which capsules without data are due, and takes it off the list where none is due any more.
    pub(super) fn list_news(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        if stream.has_news() {
            list(id, &mut stream.listed_news, &mut self.news);
        } else if mem::take(&mut stream.listed_news) {
            self.news.retain(|other| *other != id);
        }
    }

    /// Gives a stream with data to send its turn, or has the peer told that its credit holds it up.
    pub(super) fn list_ready(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let Half::Open(sending) = &mut stream.send else {
            return;
        };
        if sending.buffer.is_empty() || stream.turn.is_some() {
            return;
        }
        if sending.credit.available() == 0 {
            sending.credit.note_blocked();
            return self.list_news(id);
        }
        let turn = Turn {
            priority: Reverse(stream.priority),
            number: self.turns,
        };
        self.turns = self.turns.saturating_add(1);
        stream.turn = Some(turn);
        self.ready.insert(turn, id);
        self.core.note_blocked();
    }

    /// Whose turn it is.
    pub(super) fn pop_ready(&mut self) -> Option<StreamId> {
        let (_, id) = self.ready.pop_first()?;
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.turn = None;
        }
        Some(id)
    }

    /// Forgets the places of a stream that is over. It has nothing to say, so that it is on no other list.
    pub(super) fn unlist(&mut self, id: StreamId, stream: &Stream) {
        let lists = [
            (stream.listed_readable, &mut self.readable),
            (stream.listed_writable, &mut self.writable),
            (stream.listed_starved, &mut self.starved),
        ];
        for (_, list) in lists.into_iter().filter(|(listed, _)| *listed) {
            list.retain(|other| *other != id);
        }
    }
}
