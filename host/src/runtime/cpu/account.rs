//! What the sessions of one tenant use together.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use super::bucket::Bucket;

/// How much a tenant may save up.
const BURST: Duration = Duration::from_secs(1);
/// How much of its share of a full machine a tenant may save up.
const SHARE_BURST: Duration = Duration::from_millis(20);

/// What all sessions of a tenant may use together.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct AccountLimits {
    /// The share of the processor beside the others' when the machine is full. Default 100.
    pub weight: u32,
    /// Bytes of all instances, with what the host holds for them. Default unlimited.
    pub memory: usize,
    /// CPU time per second, on all cores. Default unlimited, `None`.
    pub cpu_per_second: Option<Duration>,
}

impl Default for AccountLimits {
    fn default() -> Self {
        Self {
            weight: 100,
            memory: usize::MAX,
            cpu_per_second: None,
        }
    }
}

/// A tenant's account, on which its sessions' CPU time and memory are put. Cloning it is cheap; all clones are one
/// account.
#[derive(Clone, Debug)]
pub struct Account {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    /// Unique in the process.
    number: u64,
    weight: AtomicU32,
    memory_max: AtomicUsize,
    memory: AtomicUsize,
    /// Nanoseconds.
    spent: AtomicU64,
    /// Its own limit.
    rate: Bucket,
    /// Its share while the machine is full.
    share: Bucket,
    /// Calls that wait for a place in the lane.
    pub(super) waiting: AtomicUsize,
}

impl Account {
    /// An account with nothing on it.
    #[must_use]
    pub fn new(limits: AccountLimits) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let account = Self {
            inner: Arc::new(Inner {
                number: NEXT.fetch_add(1, Ordering::Relaxed),
                weight: AtomicU32::new(0),
                memory_max: AtomicUsize::new(0),
                memory: AtomicUsize::new(0),
                spent: AtomicU64::new(0),
                rate: Bucket::new(None, BURST),
                share: Bucket::new(None, SHARE_BURST),
                waiting: AtomicUsize::new(0),
            }),
        };
        account.set_limits(limits);
        account
    }

    /// Changes what may be put on it. What is on it already stays.
    pub fn set_limits(&self, limits: AccountLimits) {
        let inner = &*self.inner;
        inner.weight.store(limits.weight.max(1), Ordering::Relaxed);
        inner.memory_max.store(limits.memory, Ordering::Relaxed);
        inner.rate.set_rate(limits.cpu_per_second);
    }

    /// CPU time that its sessions have spent.
    #[must_use]
    pub fn cpu(&self) -> Duration {
        Duration::from_nanos(self.inner.spent.load(Ordering::Relaxed))
    }

    /// Bytes that its sessions take now.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.inner.memory.load(Ordering::Relaxed)
    }

    pub(super) fn number(&self) -> u64 {
        self.inner.number
    }

    pub(super) fn weight(&self) -> u32 {
        self.inner.weight.load(Ordering::Relaxed)
    }

    pub(super) fn downgrade(&self) -> std::sync::Weak<Inner> {
        Arc::downgrade(&self.inner)
    }

    pub(super) fn upgrade(inner: &std::sync::Weak<Inner>) -> Option<Self> {
        Some(Self {
            inner: inner.upgrade()?,
        })
    }

    pub(super) fn spend(&self, now: Instant, spent: Duration) {
        let nanos = u64::try_from(spent.as_nanos()).unwrap_or(u64::MAX);
        self.inner.spent.fetch_add(nanos, Ordering::Relaxed);
        self.inner.rate.spend(now, spent);
        self.inner.share.spend(now, spent);
    }

    /// How long until its sessions may spend again.
    pub(super) fn delay(&self, now: Instant) -> Duration {
        self.inner.rate.delay(now).max(self.inner.share.delay(now))
    }

    /// Holds it to a share of the machine, or no longer.
    pub(super) fn set_share(&self, per_second: Option<Duration>) {
        self.inner.share.set_rate(per_second);
    }

    /// Whether calls of the tenant wait for a place in the lane.
    pub(super) fn is_waiting(&self) -> bool {
        self.inner.waiting.load(Ordering::Relaxed) > 0
    }

    pub(super) fn wait(&self) {
        self.inner.waiting.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn wait_no_more(&self) {
        self.inner.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    /// Puts memory on the account, if there is room for all of it.
    pub(in super::super) fn take(&self, bytes: usize) -> bool {
        let max = self.inner.memory_max.load(Ordering::Relaxed);
        let add = |used: usize| used.checked_add(bytes).filter(|used| *used <= max);
        self.inner
            .memory
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add)
            .is_ok()
    }

    /// Puts memory on the account that is taken already.
    pub(in super::super) fn owe(&self, bytes: usize) {
        self.inner.memory.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Takes memory off the account.
    pub(in super::super) fn give_back(&self, bytes: usize) {
        self.inner.memory.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// What may still be put on it.
    pub(in super::super) fn room(&self) -> usize {
        let max = self.inner.memory_max.load(Ordering::Relaxed);
        max.saturating_sub(self.memory())
    }
}
