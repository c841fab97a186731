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
use tokio::task::JoinSet;

/// A driver, and what rides along.
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
    /// There is no driver.
    #[default]
    Closed,
    Free,
    Taken(Rider),
}

impl Ride {
    /// Opens the place until what this gives is dropped.
    pub(super) fn open(&self) -> Open {
        *self.place() = Place::Free;
        Open(self.clone())
    }

    /// Runs a future along with the driver, or in a task of its own where no driver runs or another rides.
    pub(super) fn run(&self, rider: Rider) -> Running {
        match self.take_up(rider) {
            Ok(()) => Running::Along(self.clone()),
            Err(rider) => {
                let mut task = JoinSet::new();
                task.spawn(rider);
                Running::Alone(task)
            }
        }
    }

    fn take_up(&self, rider: Rider) -> Result<(), Rider> {
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
    fn put_down(&self) {
        let left = {
            let mut place = self.place();
            match *place {
                Place::Taken(_) => std::mem::replace(&mut *place, Place::Free),
                Place::Closed | Place::Free => return,
            }
        };
        drop(left); // not under the lock, which others may want who end with it
    }

    /// Polls the driver until that has ended, and the rider if that was woken: before the driver, which then sends what
    /// the rider has for it, and after the driver, which is what wakes it mostly.
    fn poll(&self, cx: &mut Context<'_>, driver: &mut Option<Rider>) -> Poll<()> {
        let Inner {
            woken,
            running,
            task,
            ..
        } = &*self.0;
        task.register(cx.waker());
        running.store(true, SeqCst);
        if woken.swap(false, SeqCst) {
            _ = self.poll_rider(); // asked again below where there is no driver any more
        }
        if let Some(driving) = driver
            && driving.as_mut().poll(cx).is_ready()
        {
            *driver = None;
        }
        let rides = if woken.swap(false, SeqCst) || driver.is_none() {
            self.poll_rider()
        } else {
            Poll::Pending
        };
        running.store(false, SeqCst);
        if woken.load(SeqCst) {
            cx.waker().wake_by_ref();
        }
        // What the rider has to say about the end of the connection it says after the driver.
        if driver.is_none() {
            rides
        } else {
            Poll::Pending
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

/// A future that runs until it has ended, or this is dropped.
pub(super) enum Running {
    Along(Ride),
    Alone(JoinSet<()>),
}

impl Drop for Running {
    fn drop(&mut self) {
        match self {
            Self::Along(ride) => ride.put_down(),
            Self::Alone(task) => task.abort_all(),
        }
    }
}

/// An open place. Dropping it ends the rider.
pub(super) struct Open(Ride);

impl Open {
    /// See [`Ride::poll`].
    pub(super) fn poll(&self, cx: &mut Context<'_>, driver: &mut Option<Rider>) -> Poll<()> {
        self.0.poll(cx, driver)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let left = std::mem::replace(&mut *self.0.place(), Place::Closed);
        drop(left);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::{future::poll_fn, sync::atomic::AtomicUsize, task::ready};

    use tokio::sync::watch;

    use super::*;

    /// A future that counts how often it is polled, and ends with the sender.
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

    /// A ride beside a task that stands for QUIC's driver, and ends with the sender.
    async fn driven() -> (Ride, watch::Sender<()>) {
        let ride = Ride::default();
        let (driver, sender, _) = rider();
        let driven = ride.clone();
        tokio::spawn(async move {
            let open = driven.open();
            let mut driver = Some(driver);
            poll_fn(|cx| open.poll(cx, &mut driver)).await;
        });
        others_run().await;
        (ride, sender)
    }

    pub(in super::super) async fn others_run() {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_rider_is_polled_whenever_it_is_woken_and_not_when_the_driver_is() {
        let (ride, driver) = driven().await;
        let (rider, wake, polls) = rider();
        let _running = ride.run(rider);
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
    async fn who_rides_before_the_driver_ran_goes_first() {
        let order = Arc::new(Mutex::new(Vec::new()));
        let note = |who| -> Rider {
            let order = order.clone();
            Box::pin(poll_fn(move |_| {
                order.lock().unwrap().push(who);
                Poll::Pending
            }))
        };
        let ride = Ride::default();
        let open = ride.open();
        let _running = ride.run(note("rider"));
        let mut driver = Some(note("driver"));
        poll_fn(|cx| {
            assert!(open.poll(cx, &mut driver).is_pending());
            Poll::Ready(())
        })
        .await;
        assert_eq!(*order.lock().unwrap(), ["rider", "driver"]);
    }

    #[tokio::test]
    async fn a_rider_goes_on_to_its_end_after_the_driver() {
        let (ride, driver) = driven().await;
        let (rider, wake, polls) = rider();
        let _running = ride.run(rider);
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
    async fn a_rider_ends_when_it_is_put_down_and_another_may_ride() {
        let (ride, _driver) = driven().await;
        let (first, wake, _) = rider();
        let running = ride.run(first);
        let (second, ..) = rider();
        let Err(second) = ride.take_up(second) else {
            panic!("one rides already");
        };
        assert!(!wake.is_closed());
        drop(running);
        assert!(wake.is_closed());
        assert!(ride.take_up(second).is_ok());
    }

    #[tokio::test]
    async fn a_rider_without_a_driver_has_a_task_of_its_own() {
        let (rider, wake, polls) = rider();
        let running = Ride::default().run(rider);
        others_run().await;
        assert_eq!(polls.load(SeqCst), 1);
        drop(running);
        others_run().await;
        assert!(wake.is_closed());
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
