//! Streams on their way from the sorter to `h3`.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use futures_util::task::AtomicWaker;

/// How many of a kind wait for `h3` at most.
const WAITING: usize = 16;

/// Where streams of two kinds are handed over, one task to another. Every connection has one, and hardly ever a stream in
/// it, so it takes less memory than a channel for each kind.
pub(super) fn handover<U, B>() -> (Giver<U, B>, Taker<U, B>) {
    let place = Arc::new(Place::default());
    (Giver(place.clone()), Taker(place))
}

/// The end that gives. Dropping it says that no more come.
pub(super) struct Giver<U, B>(Arc<Place<U, B>>);

/// The end that takes, by one task.
pub(super) struct Taker<U, B>(Arc<Place<U, B>>);

struct Place<U, B> {
    waiting: Mutex<Waiting<U, B>>,
    taker: AtomicWaker,
}

/// In boxes, so that the queues take little room of their own.
struct Waiting<U, B> {
    uni: VecDeque<Box<U>>,
    bidi: VecDeque<Box<B>>,
    /// One of the ends is gone.
    over: bool,
}

impl<U, B> Giver<U, B> {
    /// Gives a unidirectional stream; back where there is no room, or nobody to take it.
    pub(super) fn uni(&self, stream: U) -> Result<(), U> {
        self.give(stream, |waiting| &mut waiting.uni)
    }

    /// Gives a bidirectional stream; back where there is no room, or nobody to take it.
    pub(super) fn bidi(&self, stream: B) -> Result<(), B> {
        self.give(stream, |waiting| &mut waiting.bidi)
    }

    fn give<T>(
        &self,
        stream: T,
        queue: impl FnOnce(&mut Waiting<U, B>) -> &mut VecDeque<Box<T>>,
    ) -> Result<(), T> {
        {
            let mut waiting = self.0.waiting();
            let over = waiting.over;
            let queue = queue(&mut waiting);
            if over || queue.len() >= WAITING {
                return Err(stream);
            }
            queue.push_back(Box::new(stream));
        }
        self.0.taker.wake();
        Ok(())
    }
}

impl<U, B> Taker<U, B> {
    /// The next unidirectional stream, or `None` when no more come.
    pub(super) fn poll_uni(&self, cx: &mut Context<'_>) -> Poll<Option<U>> {
        self.poll(cx, |waiting| &mut waiting.uni)
    }

    /// The next bidirectional stream, or `None` when no more come.
    pub(super) fn poll_bidi(&self, cx: &mut Context<'_>) -> Poll<Option<B>> {
        self.poll(cx, |waiting| &mut waiting.bidi)
    }

    fn poll<T>(
        &self,
        cx: &mut Context<'_>,
        queue: impl FnOnce(&mut Waiting<U, B>) -> &mut VecDeque<Box<T>>,
    ) -> Poll<Option<T>> {
        self.0.taker.register(cx.waker());
        let mut waiting = self.0.waiting();
        let over = waiting.over;
        match queue(&mut waiting).pop_front() {
            Some(stream) => Poll::Ready(Some(*stream)),
            None if over => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

impl<U, B> Place<U, B> {
    fn waiting(&self) -> MutexGuard<'_, Waiting<U, B>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<U, B> Default for Place<U, B> {
    fn default() -> Self {
        let waiting = Waiting {
            uni: VecDeque::new(),
            bidi: VecDeque::new(),
            over: false,
        };
        Self {
            waiting: Mutex::new(waiting),
            taker: AtomicWaker::new(),
        }
    }
}

impl<U, B> Drop for Giver<U, B> {
    fn drop(&mut self) {
        self.0.waiting().over = true;
        self.0.taker.wake();
    }
}

impl<U, B> Drop for Taker<U, B> {
    fn drop(&mut self) {
        let mut waiting = self.0.waiting();
        waiting.over = true;
        let left = (
            std::mem::take(&mut waiting.uni),
            std::mem::take(&mut waiting.bidi),
        );
        drop(waiting); // a stream may have something to say when it is dropped
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::{super::ride::tests::others_run, *};

    #[tokio::test]
    async fn each_kind_keeps_its_order_and_its_own_room() {
        let (giver, taker) = handover();
        for number in 0..WAITING {
            assert_eq!(giver.uni(number), Ok(()));
        }
        assert_eq!(giver.uni(WAITING), Err(WAITING));
        assert_eq!(giver.bidi('a'), Ok(()));
        assert_eq!(poll_fn(|cx| taker.poll_bidi(cx)).await, Some('a'));
        for number in 0..WAITING {
            assert_eq!(poll_fn(|cx| taker.poll_uni(cx)).await, Some(number));
        }
        assert_eq!(giver.uni(WAITING), Ok(()), "there is room again");
    }

    #[tokio::test]
    async fn who_waits_is_woken_by_a_stream_of_either_kind_and_by_the_end() {
        let (giver, taker) = handover();
        let (sender, mut got) = tokio::sync::mpsc::channel(1);
        tokio::spawn(async move {
            loop {
                let either = poll_fn(|cx| match taker.poll_uni(cx) {
                    Poll::Pending => taker.poll_bidi(cx),
                    ready @ Poll::Ready(_) => ready,
                });
                let either = either.await;
                if sender.send(either).await.is_err() || either.is_none() {
                    return;
                }
            }
        });
        others_run().await;
        giver.uni(1).unwrap();
        assert_eq!(got.recv().await, Some(Some(1)));
        others_run().await;
        giver.bidi(2).unwrap();
        assert_eq!(got.recv().await, Some(Some(2)));
        others_run().await;
        drop(giver);
        assert_eq!(got.recv().await, Some(None));
    }

    #[tokio::test]
    async fn what_was_given_before_the_end_is_taken_and_nothing_is_taken_by_who_is_gone() {
        let (giver, taker) = handover::<_, ()>();
        giver.uni(1).unwrap();
        drop(giver);
        assert_eq!(poll_fn(|cx| taker.poll_uni(cx)).await, Some(1));
        assert_eq!(poll_fn(|cx| taker.poll_uni(cx)).await, None);

        let (giver, taker) = handover::<_, ()>();
        let left = Arc::new(());
        giver.uni(left.clone()).unwrap();
        drop(taker);
        assert_eq!(Arc::strong_count(&left), 1, "what was left is dropped");
        assert!(giver.uni(left).is_err());
    }
}
