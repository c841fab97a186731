//! Which of many parts have something to do, so that a wake-up costs what is ready and not what exists.
//!
//! Every part (a stream of a session, a session of an instance) polls with the waker of its own [`Token`]. Waking it puts
//! the token's number on a list, once, and wakes the task, which takes the list and looks at those parts only.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Wake, Waker},
};

use futures_util::task::AtomicWaker;

/// The list of a task's tokens that were woken.
#[derive(Debug, Default)]
struct Ready {
    task: AtomicWaker,
    woken: Mutex<Vec<usize>>,
}

impl Ready {
    fn woken(&self) -> MutexGuard<'_, Vec<usize>> {
        self.woken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a task has to look at, round by round: in each what was woken before it began, and what the task itself wants to
/// look at again.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    ready: Arc<Ready>,
    round: VecDeque<usize>,
    again: Vec<usize>,
}

impl Rounds {
    /// A token of that number. Numbers may be used again: a late wake-up of a former holder is one needless look.
    pub(crate) fn token(&self, number: usize) -> Arc<Token> {
        Arc::new(Token {
            number,
            queued: AtomicBool::new(false),
            ready: self.ready.clone(),
        })
    }

    /// The number of the next token to look at; where there is none, the next one that is woken wakes the task.
    pub(crate) fn next(&mut self, task: &Waker) -> Option<usize> {
        if self.round.is_empty() && !self.begin() {
            self.ready.task.register(task);
            self.begin(); // what woke meanwhile woke nobody
        }
        self.round.pop_front()
    }

    fn begin(&mut self) -> bool {
        self.round.extend(self.ready.woken().drain(..));
        self.round.extend(self.again.drain(..));
        !self.round.is_empty()
    }

    /// Has the part looked at in the next round. To be called by the task itself, which is not woken: that would have it
    /// run once more for nothing.
    pub(crate) fn again(&mut self, token: &Token) {
        if !token.queued.swap(true, Ordering::AcqRel) {
            self.again.push(token.number);
        }
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
    /// Has the part looked at in the next round, by the task that is woken for it.
    pub(crate) fn arm(&self) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            self.ready.woken().push(self.number);
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

    fn round(rounds: &mut Rounds) -> Vec<usize> {
        std::iter::from_fn(|| rounds.next(Waker::noop())).collect()
    }

    #[test]
    fn a_token_woken_twice_is_listed_once_until_it_is_looked_at() {
        let mut rounds = Rounds::default();
        let (a, b) = (rounds.token(7), rounds.token(3));
        b.arm();
        a.arm();
        b.arm();
        assert_eq!(rounds.next(Waker::noop()), Some(3));
        b.arm();
        assert_eq!(round(&mut rounds), [7], "nobody has looked at it");
        b.disarm();
        b.arm();
        assert_eq!(round(&mut rounds), [3]);
    }

    #[test]
    fn what_is_always_looked_at_again_leaves_others_their_turn() {
        let mut rounds = Rounds::default();
        let (a, b) = (rounds.token(0), rounds.token(1));
        a.arm();
        let mut looks = Vec::new();
        for _ in 0..4 {
            let number = rounds.next(Waker::noop()).unwrap();
            looks.push(number);
            if number == 0 {
                a.disarm();
                rounds.again(&a);
                b.arm();
            } else {
                b.disarm();
            }
        }
        assert_eq!(looks, [0, 1, 0, 1]);
    }

    #[test]
    fn a_task_is_woken_by_others_and_not_by_itself() {
        #[derive(Default)]
        struct Count(std::sync::atomic::AtomicUsize);
        impl Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let count = Arc::new(Count::default());
        let task = count.clone().into();
        let mut rounds = Rounds::default();
        let (a, b) = (rounds.token(0), rounds.token(1));
        assert_eq!(rounds.next(&task), None);
        rounds.again(&a);
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
        b.arm();
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert_eq!(round(&mut rounds), [1, 0]);
    }
}
