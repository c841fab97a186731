//! Runs the calls into one session's guest: when each may begin, where it goes on, what it spends, when it is stopped.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};
use tokio::time::Sleep;

use super::{Account, Lane, bucket::Bucket, lane::Place};
use crate::runtime::Limits;

/// What is spent before it is put on the accounts: calls are shorter than what that costs.
const SETTLE: Duration = Duration::from_micros(100);
/// How long a wait lasts at most until the rates are looked at again, because a tenant's share may change meanwhile.
const PAUSE: Duration = Duration::from_millis(20);
/// How much a session may save up.
const BURST: Duration = Duration::from_secs(1);

/// Why a call was stopped. The instance is dead: it stopped where it stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Stopped {
    /// It spent more CPU than a call may.
    Deadline,
    /// It waited longer than a call may.
    Waited,
}

/// The calls of one session.
#[derive(Debug)]
pub(in super::super) struct Meter {
    lane: Arc<Lane>,
    account: Account,
    bucket: Bucket,
    yielded: Yield,
    deadline: Duration,
    wait_max: Duration,
    /// Whether the last call yielded more than once.
    long: bool,
    /// Whether something was spent since the buckets were asked.
    due: bool,
    unsettled: Duration,
    spent: Duration,
}

impl Meter {
    /// A meter for a session's calls.
    pub(in super::super) fn new(
        lane: &Arc<Lane>,
        account: &Account,
        limits: &Limits,
        yielded: &Yield,
    ) -> Self {
        Self {
            lane: lane.clone(),
            account: account.clone(),
            bucket: Bucket::new(limits.cpu_per_second, BURST),
            yielded: yielded.clone(),
            deadline: limits.callback_deadline,
            wait_max: limits.callback_wait,
            long: false,
            due: true,
            unsettled: Duration::ZERO,
            spent: Duration::ZERO,
        }
    }

    /// Makes it one for calls that belong to no session of their own: only the tenant's rate holds.
    pub(in super::super) fn of_no_session(&mut self) {
        self.bucket.set_rate(None);
    }

    /// How long to wait until it is asked again whether the next call may begin: not at all, unless the session or its
    /// tenant is over its rate.
    pub(in super::super) fn delay(&mut self) -> Duration {
        if !std::mem::take(&mut self.due) {
            return Duration::ZERO;
        }
        let now = Instant::now();
        let delay = self.bucket.delay(now).max(self.account.delay(now));
        self.due = !delay.is_zero();
        delay.min(PAUSE)
    }

    /// Waits until the next call may begin.
    async fn ready(&mut self) {
        loop {
            let delay = self.delay();
            if delay.is_zero() {
                return;
            }
            tokio::time::sleep(delay).await;
        }
    }

    /// The session has nothing to do: puts on the accounts what was spent.
    pub(in super::super) fn idle(&mut self) {
        if !self.unsettled.is_zero() {
            self.settle(Instant::now());
        }
        self.due = true;
    }

    /// CPU time spent in calls.
    pub(in super::super) fn spent(&self) -> Duration {
        self.spent
    }

    /// Runs a call to its end, or until it has spent or waited more than it may. It begins when the session and its tenant
    /// are within their rates.
    ///
    /// Then it begins at once, unless calls of the session have been long, or others of the tenant wait for the lane: then, and
    /// as soon as it has yielded twice, it runs in the lane. Once it may have only because the system ran others meanwhile.
    pub(in super::super) async fn run<T>(
        &mut self,
        call: Pin<&mut impl Future<Output = T>>,
    ) -> Result<T, Stopped> {
        if self.due {
            self.ready().await;
        }
        let mut call = Call {
            call,
            yielded: self.yielded.clone(),
            place: None,
            placed: false,
            spent: Duration::ZERO,
            unsure: Duration::ZERO,
            wait: None,
            wait_max: self.wait_max,
        };
        let mut in_lane = self.long || self.account.is_waiting();
        if in_lane {
            call.place = Some(self.lane.enter(&self.account, Duration::ZERO, None).await);
        }
        let (mut first, mut yields) = (true, 0_u32);
        let mut charged = Duration::ZERO;
        let result = loop {
            let step = std::future::poll_fn(|cx| call.poll(cx, first)).await;
            let spent = call.spent - charged;
            charged = call.spent;
            self.charge(spent);
            match step {
                Step::Done(value) => break Ok(value),
                Step::WaitedTooLong => break Err(Stopped::Waited),
                Step::Yielded if call.spent - call.unsure > self.deadline => {
                    break Err(Stopped::Deadline);
                }
                Step::Yielded => yields = yields.saturating_add(1),
                Step::Woken => {}
            }
            first = false;
            in_lane |= yields > 1;
            // Over its tenant's rate, it leaves the lane to others meanwhile. For its session's it is not held up here: it is
            // bounded by its deadline, and the others of a shared instance wait for its end.
            loop {
                let delay = self.account.delay(Instant::now());
                if delay.is_zero() {
                    break;
                }
                call.place = None;
                tokio::time::sleep(delay.min(PAUSE)).await;
            }
            if in_lane && (call.place.is_none() || self.lane.is_wanted()) {
                let former = call.place.take();
                let place = self.lane.enter(&self.account, call.spent, former).await;
                call.place = Some(place);
            }
            // What else this worker has to do comes first, sockets among it.
            tokio::task::yield_now().await;
        };
        self.long = yields > 1;
        result
    }

    fn charge(&mut self, spent: Duration) {
        self.spent += spent;
        self.unsettled += spent;
        if self.unsettled >= SETTLE {
            self.settle(Instant::now());
        }
    }

    fn settle(&mut self, now: Instant) {
        let spent = std::mem::take(&mut self.unsettled);
        self.bucket.spend(now, spent);
        self.account.spend(now, spent);
        self.due = true;
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.settle(Instant::now());
    }
}

/// How far a call got.
enum Step<T> {
    Done(T),
    /// A tick of the epoch has passed.
    Yielded,
    /// Its wait in a host call is over, and it needs a place in the lane to go on.
    Woken,
    WaitedTooLong,
}

/// A call on its way.
struct Call<'a, F> {
    call: Pin<&'a mut F>,
    yielded: Yield,
    place: Option<Place>,
    /// Whether it had a place before its wait.
    placed: bool,
    spent: Duration,
    /// As much of that as may have been spent by others, while the system ran them instead: by the first look, which ends
    /// with the second tick.
    unsure: Duration,
    /// The wait in a host call, while there is one.
    wait: Option<(Pin<Box<Sleep>>, tokio::time::Instant)>,
    /// What it may still wait.
    wait_max: Duration,
}

impl<F: Future> Call<'_, F> {
    /// Looks after the call once. Nearly every call ends with the first look, which is timed by the clock that is cheap
    /// to read; the others by this thread's CPU time, so that nobody is charged for what others run meanwhile.
    fn poll(&mut self, cx: &mut Context<'_>, first: bool) -> Poll<Step<F::Output>> {
        if let Some((_, since)) = self.wait.take() {
            self.wait_max = self.wait_max.saturating_sub(since.elapsed());
            if std::mem::take(&mut self.placed) {
                return Poll::Ready(Step::Woken);
            }
        }
        let spent;
        let polled;
        if first && self.spent.is_zero() {
            let started = Instant::now();
            polled = self.call.as_mut().poll(cx);
            spent = started.elapsed();
            self.unsure = spent;
        } else {
            let started = thread_cpu();
            polled = self.call.as_mut().poll(cx);
            spent = thread_cpu().saturating_sub(started);
        }
        self.spent += spent;
        if let Some(place) = &mut self.place {
            place.spend(spent);
        }
        match polled {
            Poll::Ready(value) => Poll::Ready(Step::Done(value)),
            Poll::Pending if self.yielded.take() => Poll::Ready(Step::Yielded),
            Poll::Pending => {
                // It waits in a call of WASI's. Nobody keeps a place for that.
                self.placed = self.place.take().is_some();
                if self.wait_max.is_zero() {
                    return Poll::Ready(Step::WaitedTooLong);
                }
                let mut sleep = Box::pin(tokio::time::sleep(self.wait_max));
                if sleep.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Step::WaitedTooLong);
                }
                self.wait = Some((sleep, tokio::time::Instant::now()));
                Poll::Pending
            }
        }
    }
}

/// Whether a guest has yielded: set by the epoch's callback, taken by who looks after the call.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Yield(Arc<AtomicBool>);

impl Yield {
    /// The future that a guest yields by: it waits once, and is not woken, because the next look is
    /// [`Meter::run`]'s to choose.
    pub(in super::super) fn once(&self) -> impl Future<Output = ()> + Send + 'static {
        let flag = self.0.clone();
        let mut over = false;
        std::future::poll_fn(move |_| {
            if std::mem::replace(&mut over, true) {
                return Poll::Ready(());
            }
            flag.store(true, Ordering::Relaxed);
            Poll::Pending
        })
    }

    fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::{super::AccountLimits, *};

    const MS: Duration = Duration::from_millis(1);

    fn meter(limits: &Limits) -> (Meter, Yield) {
        let yielded = Yield::default();
        let account = Account::new(AccountLimits::default());
        let meter = Meter::new(&Arc::new(Lane::new(2)), &account, limits, &yielded);
        (meter, yielded)
    }

    fn compute(cpu: Duration) {
        let until = thread_cpu() + cpu;
        while thread_cpu() < until {
            std::hint::spin_loop();
        }
    }

    #[tokio::test]
    async fn a_call_that_computes_past_its_deadline_is_stopped() {
        let limits = Limits {
            callback_deadline: 10 * MS,
            ..Limits::default()
        };
        let (mut meter, yielded) = meter(&limits);
        let endless = async {
            loop {
                compute(2 * MS);
                yielded.once().await;
            }
        };
        assert_eq!(meter.run::<()>(pin!(endless)).await, Err(Stopped::Deadline));
        assert!((10 * MS..50 * MS).contains(&meter.spent()), "{meter:?}");
        assert_eq!(meter.account.cpu(), meter.spent());
    }

    #[tokio::test]
    async fn waiting_costs_nothing_and_is_limited_in_all() {
        let limits = Limits {
            callback_wait: 200 * MS,
            ..Limits::default()
        };
        let (mut meter, _) = meter(&limits);
        assert_eq!(meter.run(pin!(tokio::time::sleep(20 * MS))).await, Ok(()));
        assert!(meter.spent() < 5 * MS, "{meter:?}");
        let naps = async {
            loop {
                tokio::time::sleep(20 * MS).await;
            }
        };
        assert_eq!(meter.run::<()>(pin!(naps)).await, Err(Stopped::Waited));
    }

    #[tokio::test]
    async fn a_session_over_its_rate_waits_and_goes_on() {
        let limits = Limits {
            cpu_per_second: Some(100 * MS),
            ..Limits::default()
        };
        let (mut meter, _) = meter(&limits);
        assert_eq!(meter.delay(), Duration::ZERO);
        meter.run(pin!(async { compute(120 * MS) })).await.unwrap();
        let delay = meter.delay();
        assert!(!delay.is_zero());
        assert!(
            !meter.delay().is_zero(),
            "asked again, it is over its rate still"
        );
        let before = Instant::now();
        meter.run(pin!(async {})).await.unwrap();
        assert!(before.elapsed() + 10 * MS > delay, "{delay:?}");
    }
    #[tokio::test]
    async fn a_call_under_way_is_not_held_up_for_its_sessions_rate() {
        let limits = Limits {
            cpu_per_second: Some(10 * MS),
            callback_deadline: Duration::from_secs(10),
            ..Limits::default()
        };
        let (mut meter, yielded) = meter(&limits);
        let before = Instant::now();
        let call = async {
            for _ in 0..3 {
                compute(20 * MS);
                yielded.once().await;
            }
        };
        meter.run(pin!(call)).await.unwrap();
        // Its debt is five seconds, and is paid before the next call.
        assert!(before.elapsed() < Duration::from_secs(4));
        assert!(!meter.delay().is_zero());
    }

    #[tokio::test]
    async fn time_that_others_ran_in_the_first_look_does_not_end_a_call() {
        let limits = Limits {
            callback_deadline: 10 * MS,
            ..Limits::default()
        };
        let (mut meter, yielded) = meter(&limits);
        let call = async {
            std::thread::sleep(30 * MS);
            yielded.once().await;
        };
        assert_eq!(meter.run(pin!(call)).await, Ok(()));
    }

    #[tokio::test]
    async fn a_call_goes_on_without_a_place_in_the_lane_until_it_has_yielded_twice() {
        let (mut meter, yielded) = meter(&Limits::default());
        let another = Account::new(AccountLimits::default());
        let taken = meter.lane.enter(&another, Duration::ZERO, None).await;
        let once = yielded.clone();
        meter.run(pin!(once.once())).await.unwrap();
        let mut twice = pin!(async {
            yielded.once().await;
            yielded.once().await;
        });
        let mut second = pin!(meter.run(twice.as_mut()));
        for _ in 0..10 {
            assert!(futures_util::poll!(second.as_mut()).is_pending());
            tokio::task::yield_now().await;
        }
        drop(taken);
        second.await.unwrap();
    }

    #[tokio::test]
    async fn a_wait_of_no_length_does_not_lead_out_of_the_lane() {
        let (mut meter, yielded) = meter(&Limits::default());
        let (lane, account) = (meter.lane.clone(), meter.account.clone());
        let left = Arc::new(AtomicBool::new(false));
        let leaves = left.clone();
        let call = async {
            yielded.once().await;
            yielded.once().await;
            // It has the only place until it waits; then another has.
            tokio::spawn(async move {
                let _place = lane.enter(&account, Duration::ZERO, None).await;
                for _ in 0..100 {
                    tokio::task::yield_now().await;
                }
                leaves.store(true, Ordering::Relaxed);
            });
            tokio::task::yield_now().await;
            left.load(Ordering::Relaxed)
        };
        assert_eq!(meter.run(pin!(call)).await, Ok(true));
    }
}
