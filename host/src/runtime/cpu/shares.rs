//! Holds tenants to their weights while the machine is full.

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};

use super::{Account, account};

/// How often the shares are looked at.
const WINDOW: Duration = Duration::from_millis(20);
/// The machine counts as full from this part of the workers' time on, in percent.
const FULL: u32 = 90;

/// The accounts of a runtime, and what each spent lately.
#[derive(Debug)]
pub(in super::super) struct Shares {
    workers: u32,
    accounts: Mutex<Vec<Member>>,
}

#[derive(Debug)]
struct Member {
    account: Weak<account::Inner>,
    /// When it was looked at last.
    cpu: Duration,
}

impl Shares {
    pub(in super::super) fn new(workers: usize) -> Self {
        Self {
            workers: u32::try_from(workers).unwrap_or(u32::MAX).max(1),
            accounts: Mutex::default(),
        }
    }

    /// Has an account looked at, for as long as it lives.
    pub(in super::super) fn add(&self, account: &Account) {
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        let known = |member: &Member| member.account.ptr_eq(&account.downgrade());
        if !accounts.iter().any(known) {
            accounts.push(Member {
                account: account.downgrade(),
                cpu: account.cpu(),
            });
        }
    }

    /// Decides anew: in a window in which the process had nearly all of its workers' time, each tenant that spent anything
    /// is held to its weight's part of them; else to nothing.
    fn decide(&self, busy: Duration, window: Duration) {
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        accounts.retain(|member| member.account.strong_count() > 0);
        let mut active = Vec::new();
        for member in accounts.iter_mut() {
            let Some(account) = Account::upgrade(&member.account) else {
                continue;
            };
            let cpu = account.cpu();
            let spent = cpu.saturating_sub(std::mem::replace(&mut member.cpu, cpu));
            if spent.is_zero() && !account.is_waiting() {
                account.set_share(None);
            } else {
                active.push(account);
            }
        }
        let full = busy * 100 >= window * self.workers * FULL;
        let weights: u32 = active.iter().map(Account::weight).sum();
        let machine = Duration::from_secs(1) * self.workers;
        for account in &active {
            let share = machine.mul_f64(f64::from(account.weight()) / f64::from(weights.max(1)));
            account.set_share((full && active.len() > 1).then_some(share));
        }
    }
}

/// When the shares were looked at last. To be called at each tick.
#[derive(Debug)]
pub(in super::super) struct Watch {
    shares: Arc<Shares>,
    at: Instant,
    busy: Duration,
}

impl Watch {
    pub(in super::super) fn new(shares: Arc<Shares>) -> Self {
        Self {
            shares,
            at: Instant::now(),
            busy: process_cpu(),
        }
    }

    pub(in super::super) fn tick(&mut self) {
        let window = self.at.elapsed();
        if window < WINDOW {
            return;
        }
        let now = process_cpu();
        self.shares.decide(now.saturating_sub(self.busy), window);
        self.at += window;
        self.busy = now;
    }
}

fn process_cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{super::AccountLimits, *};

    const MS: Duration = Duration::from_millis(1);

    fn spent(account: &Account, duration: Duration) -> Duration {
        let now = Instant::now() + Duration::from_secs(60);
        account.spend(now, duration);
        account.delay(now)
    }

    #[test]
    fn tenants_are_held_to_their_weights_only_while_the_machine_is_full_and_others_want_it() {
        let shares = Shares::new(2);
        let [light, heavy, idle] = [1, 3, 100].map(|weight| {
            Account::new(AccountLimits {
                weight,
                ..AccountLimits::default()
            })
        });
        for account in [&light, &heavy, &idle] {
            shares.add(account);
        }
        let use_both = || [&light, &heavy].map(|account| account.spend(Instant::now(), MS));
        use_both();
        shares.decide(20 * MS, 20 * MS);
        assert_eq!(
            spent(&light, 100 * MS),
            Duration::ZERO,
            "half of the machine is free"
        );
        use_both();
        shares.decide(40 * MS, 20 * MS);
        // A quarter of two cores for the one, three quarters for the other, less what may be saved up.
        assert_eq!(spent(&light, 100 * MS), 180 * MS);
        assert_eq!(spent(&heavy, 150 * MS), 80 * MS);
        shares.decide(40 * MS, 20 * MS);
        shares.decide(40 * MS, 20 * MS);
        light.spend(Instant::now(), MS);
        shares.decide(40 * MS, 20 * MS);
        assert_eq!(
            spent(&light, 100 * MS),
            Duration::ZERO,
            "nobody else wants it"
        );
    }
}
