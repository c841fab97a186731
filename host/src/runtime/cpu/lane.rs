//! The background lane: the few places in which long calls go on, and who has the next one.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::oneshot;

use super::Account;

/// Places for calls that have yielded twice. Of the tenants that wait the one that had least of the lane, by its weight, is
/// next; of its calls the one that has spent least.
#[derive(Debug)]
pub(in super::super) struct Lane {
    state: Mutex<State>,
    waiting: AtomicUsize,
}

#[derive(Debug)]
struct State {
    free: usize,
    /// What the tenant had, by its weight, that was last given a place: newcomers begin there.
    virtual_time: u64,
    next: u64,
    tenants: BTreeMap<u64, Tenant>,
}

#[derive(Debug)]
struct Tenant {
    weight: u32,
    /// What it had of the lane, in nanoseconds by its weight.
    virtual_time: u64,
    running: usize,
    waiting: BinaryHeap<Waiting>,
}

/// The order is that of the heap: the greatest is next.
#[derive(Debug)]
struct Waiting {
    order: Reverse<(Duration, u64)>,
    place: oneshot::Sender<Place>,
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order.cmp(&other.order)
    }
}

impl Lane {
    /// A lane beside so many workers: one place fewer, and one at least.
    pub(in super::super) fn new(workers: usize) -> Self {
        Self {
            state: Mutex::new(State {
                free: workers.saturating_sub(1).max(1),
                virtual_time: 0,
                next: 0,
                tenants: BTreeMap::new(),
            }),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Whether somebody waits for a place.
    pub(super) fn is_wanted(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// How many calls have come so far, and whether one is there now.
    pub(super) fn usage(&self) -> (u64, bool) {
        let state = self.lock();
        (state.next, !state.tenants.is_empty())
    }

    /// Waits for a place, for a call that has spent so much; its former place, if it has one, is handed on meanwhile. It
    /// is among those that wait by then: a tenant that has nothing in the lane is forgotten with what it had.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the turn.
    pub(super) async fn enter(
        self: &Arc<Self>,
        account: &Account,
        spent: Duration,
        former: Option<Place>,
    ) -> Place {
        let (sender, place) = oneshot::channel();
        let given = {
            let mut state = self.lock();
            let number = state.next;
            state.next += 1;
            let virtual_time = state.virtual_time;
            let tenant = state.tenants.entry(account.number()).or_insert(Tenant {
                weight: 1,
                virtual_time,
                running: 0,
                waiting: BinaryHeap::new(),
            });
            tenant.weight = account.weight();
            tenant.waiting.push(Waiting {
                order: Reverse((spent, number)),
                place: sender,
            });
            self.hand_out(&mut state)
        };
        give(given);
        drop(former);
        let _counted = Counted::new(self, account);
        // The sender is gone without a word only with the lane, which this holds.
        place.await.unwrap_or_else(|_| Place {
            lane: self.clone(),
            tenant: None,
            used: Duration::ZERO,
        })
    }

    /// Gives the free places to those who are next. They are told when the lock is released.
    fn hand_out(self: &Arc<Self>, state: &mut State) -> Vec<(oneshot::Sender<Place>, Place)> {
        let mut given = Vec::new();
        while state.free > 0 {
            let waits = |(_, tenant): &(&u64, &mut Tenant)| !tenant.waiting.is_empty();
            let tenants = state.tenants.iter_mut().filter(waits);
            let Some((number, tenant)) = tenants.min_by_key(|(_, tenant)| tenant.virtual_time)
            else {
                break;
            };
            let Some(next) = tenant.waiting.pop() else {
                break;
            };
            if next.place.is_closed() {
                // Who waited has gone.
                if tenant.running == 0 && tenant.waiting.is_empty() {
                    let number = *number;
                    state.tenants.remove(&number);
                }
                continue;
            }
            tenant.running += 1;
            state.free -= 1;
            state.virtual_time = state.virtual_time.max(tenant.virtual_time);
            let place = Place {
                lane: self.clone(),
                tenant: Some(*number),
                used: Duration::ZERO,
            };
            given.push((next.place, place));
        }
        given
    }

    fn leave(self: &Arc<Self>, number: u64, used: Duration) {
        let given = {
            let mut state = self.lock();
            state.free += 1;
            if let Some(tenant) = state.tenants.get_mut(&number) {
                let used = u64::try_from(used.as_nanos()).unwrap_or(u64::MAX);
                let used = used / u64::from(tenant.weight.max(1));
                tenant.virtual_time = tenant.virtual_time.saturating_add(used);
                tenant.running -= 1;
                if tenant.running == 0 && tenant.waiting.is_empty() {
                    state.tenants.remove(&number);
                }
            }
            self.hand_out(&mut state)
        };
        give(given);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hands the places over. One whose taker has gone comes back by its drop, and goes to another.
fn give(given: Vec<(oneshot::Sender<Place>, Place)>) {
    for (sender, place) in given {
        _ = sender.send(place);
    }
}

/// A call that waits, counted for as long as it does.
struct Counted<'a>(&'a Lane, &'a Account);

impl<'a> Counted<'a> {
    fn new(lane: &'a Lane, account: &'a Account) -> Self {
        lane.waiting.fetch_add(1, Ordering::Relaxed);
        account.wait();
        Self(lane, account)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
        self.1.wait_no_more();
    }
}

/// A place in the lane, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    lane: Arc<Lane>,
    tenant: Option<u64>,
    used: Duration,
}

impl Place {
    /// Counts what was spent in it.
    pub(super) fn spend(&mut self, spent: Duration) {
        self.used += spent;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(tenant) = self.tenant {
            self.lane.leave(tenant, self.used);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt as _, future::BoxFuture};

    use super::{super::AccountLimits, *};

    const MS: Duration = Duration::from_millis(1);

    fn account(weight: u32) -> Account {
        Account::new(AccountLimits {
            weight,
            ..AccountLimits::default()
        })
    }

    /// Begins to wait.
    fn waiter<'a>(
        lane: &'a Arc<Lane>,
        account: &'a Account,
        spent: Duration,
    ) -> BoxFuture<'a, Place> {
        let mut waiter = lane.enter(account, spent, None).boxed();
        assert!((&mut waiter).now_or_never().is_none());
        waiter
    }

    #[test]
    fn there_is_one_place_fewer_than_workers_and_one_at_least() {
        for (workers, places) in [(0, 1), (1, 1), (2, 1), (8, 7)] {
            let (lane, account) = (Arc::new(Lane::new(workers)), account(1));
            let held: Vec<_> = (0..places)
                .map(|_| lane.enter(&account, MS, None).now_or_never().unwrap())
                .collect();
            assert!(lane.enter(&account, MS, None).now_or_never().is_none());
            drop(held);
        }
    }

    #[test]
    fn the_call_that_has_spent_least_is_next() {
        let (lane, account) = (Arc::new(Lane::new(2)), account(1));
        let place = lane.enter(&account, MS, None).now_or_never().unwrap();
        let mut long = waiter(&lane, &account, 50 * MS);
        let mut short = waiter(&lane, &account, MS);
        assert!(lane.is_wanted() && account.is_waiting());
        drop(place);
        assert!((&mut long).now_or_never().is_none());
        let place = (&mut short).now_or_never().unwrap();
        drop(place);
        assert!((&mut long).now_or_never().is_some());
        drop((long, short));
        assert!(!lane.is_wanted() && !account.is_waiting());
    }

    #[test]
    fn tenants_have_the_lane_by_their_weights() {
        let lane = Arc::new(Lane::new(2));
        let accounts = [account(1), account(3)];
        let mut turns = [0_u32; 2];
        let first = lane.enter(&accounts[0], MS, None).now_or_never().unwrap();
        // Two of each tenant wait at any time.
        let mut waiting: Vec<_> = [0, 1, 0, 1]
            .map(|tenant| (tenant, waiter(&lane, &accounts[tenant], MS)))
            .into();
        drop(first);
        for _ in 0..400 {
            let mut placed = None;
            waiting.retain_mut(|(tenant, waiter)| {
                let place = placed.is_none().then(|| waiter.now_or_never()).flatten();
                let waits = place.is_none();
                placed = placed.take().or(place.map(|place| (*tenant, place)));
                waits
            });
            let (tenant, mut place) = placed.unwrap();
            turns[tenant] += 1;
            place.spend(MS);
            waiting.push((tenant, waiter(&lane, &accounts[tenant], MS)));
        }
        assert!((290..310).contains(&turns[1]), "{turns:?}");
    }

    #[test]
    fn a_tenant_with_one_call_has_the_lane_by_its_weight_too() {
        let lane = Arc::new(Lane::new(2));
        let accounts = [account(1), account(3)];
        let mut turns = [0_u32; 2];
        let mut place = lane.enter(&accounts[0], MS, None).now_or_never().unwrap();
        let mut runs = 0;
        let mut other = waiter(&lane, &accounts[1], MS);
        for _ in 0..400 {
            turns[runs] += 1;
            place.spend(MS);
            let mut again = lane.enter(&accounts[runs], MS, Some(place)).boxed();
            // One of both has the place now.
            place = match (&mut again).now_or_never() {
                Some(place) => place,
                None => {
                    runs = 1 - runs;
                    let place = (&mut other).now_or_never().unwrap();
                    other = again;
                    place
                }
            };
        }
        assert!((290..310).contains(&turns[1]), "{turns:?}");
    }

    #[test]
    fn any_number_of_those_who_waited_may_have_gone() {
        let (lane, account) = (Arc::new(Lane::new(2)), account(1));
        let place = lane.enter(&account, MS, None).now_or_never().unwrap();
        for _ in 0..100_000 {
            drop(waiter(&lane, &account, MS));
        }
        drop(place);
        assert!(lane.enter(&account, MS, None).now_or_never().is_some());
        assert!(lane.lock().tenants.is_empty());
    }

    #[test]
    fn a_place_is_not_lost_with_one_who_waited_for_it() {
        let (lane, account) = (Arc::new(Lane::new(2)), account(1));
        let place = lane.enter(&account, MS, None).now_or_never().unwrap();
        let gone = waiter(&lane, &account, MS);
        let given_and_gone = waiter(&lane, &account, 2 * MS);
        let mut last = waiter(&lane, &account, 3 * MS);
        drop(gone);
        drop(place);
        drop(given_and_gone);
        assert!((&mut last).now_or_never().is_some());
    }
}
