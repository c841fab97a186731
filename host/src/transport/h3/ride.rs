//! Runs a future along with QUIC's driver, in its task.
//!
//! What sorts a connection's streams and datagrams has something to do whenever the driver had. In a task of its own it
//! would be one more that tokio wakes in a row, after three of which it has another worker take part.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures_util::task::AtomicWaker;

/// What rides along.
pub(super) type Rider = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The place for a rider beside one driver. All clones are one.
#[derive(Clone, Debug, Default)]
pub(super) struct Ride(Arc<Inner>);

#[derive(Default)]
struct Inner {
    place: Mutex<Place>,
    /// The rider was woken.
    woken: AtomicBool,
    /// The task is at it, and looks at `woken` before it ends.
    running: AtomicBool,
    task: AtomicWaker,
}

#[derive(Default)]
enum Place {
    /// There is no driver yet.
    #[default]
    Waiting,
    Free,
    Taken(Rider),
    /// The driver is gone.
    Closed,
}

impl Ride {
    /// Opens the place until what this gives is dropped.
    pub(super) fn open(&self) -> Open<'_> {
        *self.place() = Place::Free;
        Open(self)
    }

    /// Takes a rider up; gives it back where no driver runs, or another rides.
    pub(super) fn take_up(&self, rider: Rider) -> Result<(), Rider> {
        {
            let mut place = self.place();
            if !matches!(*place, Place::Free) {
                return Err(rider);
            }
            *place = Place::Taken(rider);
        }
        self.0.wake_by_ref();
        Ok(())
    }

    /// Drops the rider.
    pub(super) fn put_down(&self) {
        let left = {
            let mut place = self.place();
            match *place {
                Place::Taken(_) => std::mem::replace(&mut *place, Place::Free),
                Place::Waiting | Place::Free | Place::Closed => return,
            }
        };
        drop(left); // not under the lock, which others may want who end with it
    }

    /// Polls the driver, and then the rider if that was woken.
    pub(super) fn poll(
        &self,
        cx: &mut Context<'_>,
        driver: impl FnOnce(&mut Context<'_>) -> Poll<()>,
    ) -> Poll<()> {
        let Inner {
            woken,
            running,
            task,
            ..
        } = &*self.0;
        task.register(cx.waker());
        running.store(true, SeqCst);
        let driven = driver(cx);
        let rides = if woken.swap(false, SeqCst) || driven.is_ready() {
            self.poll_rider()
        } else {
            Poll::Pending
        };
        running.store(false, SeqCst);
        if woken.load(SeqCst) {
            cx.waker().wake_by_ref();
        }
        // What the rider has to say about the end of the connection it says after the driver.
        match (driven, rides) {
            (Poll::Ready(()), Poll::Ready(())) => Poll::Ready(()),
            (Poll::Ready(()) | Poll::Pending, _) => Poll::Pending,
        }
    }

    /// Ready where there is no rider, any more.
    fn poll_rider(&self) -> Poll<()> {
        let mut place = self.place();
        let Place::Taken(rider) = &mut *place else {
            return Poll::Ready(());
        };
        let waker = Waker::from(self.0.clone());
        let rides = rider.as_mut().poll(&mut Context::from_waker(&waker));
        if rides.is_ready() {
            let left = std::mem::replace(&mut *place, Place::Free);
            drop(place);
            drop(left);
        }
        rides
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.0.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Inner {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, SeqCst);
        if !self.running.load(SeqCst) {
            self.task.wake();
        }
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ride").finish_non_exhaustive()
    }
}

/// An open place. Dropping it ends the rider.
pub(super) struct Open<'a>(&'a Ride);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        let left = std::mem::replace(&mut *self.0.place(), Place::Closed);
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, sync::atomic::AtomicUsize, task::ready};

    use tokio::sync::watch;

    use super::*;

    /// A task that stands for QUIC's driver, and ends with the sender.
    fn driver(ride: &Ride) -> watch::Sender<()> {
        let (sender, mut woken) = watch::channel(());
        let ride = ride.clone();
        tokio::spawn(async move {
            let _open = ride.open();
            let mut driver = Box::pin(async move { while woken.changed().await.is_ok() {} });
            let mut ended = false;
            poll_fn(|cx| {
                ride.poll(cx, |cx| {
                    ended = ended || driver.as_mut().poll(cx).is_ready();
                    if ended {
                        Poll::Ready(())
                    } else {
                        Poll::Pending
                    }
                })
            })
            .await;
        });
        sender
    }

    /// A rider that counts how often it is polled, and ends with the sender.
    fn rider() -> (Rider, watch::Sender<()>, Arc<AtomicUsize>) {
        let (sender, mut woken) = watch::channel(());
        let polls = Arc::new(AtomicUsize::new(0));
        let count = polls.clone();
        let mut inner = Box::pin(async move { while woken.changed().await.is_ok() {} });
        let rider = Box::pin(poll_fn(move |cx| {
            count.fetch_add(1, SeqCst);
            ready!(inner.as_mut().poll(cx));
            Poll::Ready(())
        }));
        (rider, sender, polls)
    }

    async fn others_run() {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_rider_is_polled_whenever_it_is_woken_and_not_when_the_driver_is() {
        let ride = Ride::default();
        let driver = driver(&ride);
        others_run().await;
        let (rider, wake, polls) = rider();
        assert!(ride.take_up(rider).is_ok());
        others_run().await;
        assert_eq!(polls.load(SeqCst), 1, "to begin with");
        driver.send_replace(());
        others_run().await;
        assert_eq!(polls.load(SeqCst), 1);
        for polled in 2..5 {
            wake.send_replace(());
            others_run().await;
            assert_eq!(polls.load(SeqCst), polled);
        }
    }

    #[tokio::test]
    async fn a_rider_goes_on_to_its_end_after_the_driver() {
        let ride = Ride::default();
        let driver = driver(&ride);
        others_run().await;
        let (rider, wake, polls) = rider();
        assert!(ride.take_up(rider).is_ok());
        others_run().await;
        drop(driver);
        others_run().await;
        let before = polls.load(SeqCst);
        drop(wake);
        others_run().await;
        assert_eq!(polls.load(SeqCst), before + 1);
        let (late, ..) = self::rider();
        assert!(ride.take_up(late).is_err(), "nobody is there to poll it");
    }

    #[tokio::test]
    async fn a_rider_that_is_put_down_is_dropped_and_another_may_ride() {
        let ride = Ride::default();
        let (early, ..) = rider();
        assert!(ride.take_up(early).is_err(), "there is no driver yet");
        let _driver = driver(&ride);
        others_run().await;
        let (first, wake, _) = rider();
        assert!(ride.take_up(first).is_ok());
        let (second, ..) = rider();
        let Err(second) = ride.take_up(second) else {
            panic!("one rides already");
        };
        assert!(!wake.is_closed());
        ride.put_down();
        assert!(wake.is_closed());
        assert!(ride.take_up(second).is_ok());
    }

    #[tokio::test]
    async fn a_rider_ends_with_the_task_of_its_driver() {
        let ride = Ride::default();
        let (rider, wake, _) = rider();
        {
            let _open = ride.open();
            assert!(ride.take_up(rider).is_ok());
        }
        assert!(wake.is_closed());
    }
}
