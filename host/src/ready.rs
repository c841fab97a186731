//! Which of many parts have something to do, so that a wake-up costs what is ready and not what exists.
//!
//! Every part (a stream of a session, a session of an instance) polls with the waker of its own [`Token`]. Waking it puts
//! the token's number on a list, once, and wakes the task, which takes the list and looks at those parts only.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Wake, Waker},
};

use futures_util::task::AtomicWaker;

/// The list of a task's tokens that were woken.
#[derive(Debug, Default)]
pub(crate) struct Ready {
    task: AtomicWaker,
    woken: Mutex<Vec<usize>>,
}

impl Ready {
    /// Has the task woken by the next token.
    pub(crate) fn register(&self, task: &Waker) {
        self.task.register(task);
    }

    /// Moves the numbers of the tokens woken so far to `turn`, in the order they woke.
    pub(crate) fn take(&self, turn: &mut VecDeque<usize>) {
        let mut woken = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
        turn.extend(woken.drain(..));
    }
}

/// The waker of one part.
#[derive(Debug)]
pub(crate) struct Token {
    number: usize,
    queued: AtomicBool,
    ready: Arc<Ready>,
}

impl Token {
    /// A token of that number. Numbers may be used again: a late wake-up of a former holder is one needless look.
    pub(crate) fn new(number: usize, ready: &Arc<Ready>) -> Arc<Self> {
        Arc::new(Self {
            number,
            queued: AtomicBool::new(false),
            ready: ready.clone(),
        })
    }

    /// Has the part looked at in the next turn.
    pub(crate) fn arm(&self) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            self.ready
                .woken
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(self.number);
            self.ready.task.wake();
        }
    }

    /// To be called before the part is looked at, so that what happens from here on counts again.
    pub(crate) fn disarm(&self) {
        self.queued.store(false, Ordering::Release);
    }
}

impl Wake for Token {
    fn wake(self: Arc<Self>) {
        self.arm();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.arm();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_woken_twice_is_listed_once_until_it_is_looked_at() {
        let ready = Arc::new(Ready::default());
        let (a, b) = (Token::new(7, &ready), Token::new(3, &ready));
        let mut turn = VecDeque::new();
        b.arm();
        a.arm();
        b.arm();
        ready.take(&mut turn);
        assert_eq!(turn, [3, 7]);
        b.arm();
        ready.take(&mut turn);
        assert_eq!(turn, [3, 7], "still to be looked at");
        b.disarm();
        b.arm();
        ready.take(&mut turn);
        assert_eq!(turn, [3, 7, 3]);
    }
}
