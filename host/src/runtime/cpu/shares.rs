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
/// Who uses less than this part of its share is not held to it, in percent: who is held uses about all of it.
const LIGHT: u32 = 90;

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

    /// Decides anew: in a window in which the process had nearly all of its workers' time, the tenants that spent as much as
    /// their weight's part of them are held to it, and share what those leave who spent less; else nobody is held.
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
                active.push((account, spent.as_secs_f64() / window.as_secs_f64()));
            }
        }
        let full = busy * 100 >= window * self.workers * FULL;
        if full && active.len() > 1 {
            share(f64::from(self.workers), active);
        } else {
            for (account, _) in &active {
                account.set_share(None);
            }
        }
    }
}

/// Shares so many cores among tenants, of whom is told how many each used.
fn share(mut cores: f64, mut tenants: Vec<(Account, f64)>) {
    loop {
        let weights: f64 = tenants.iter().map(|(tenant, _)| weight(tenant)).sum();
        let part = |tenant: &Account| cores * weight(tenant) / weights;
        let is_light = |(tenant, used): &(Account, f64)| {
            !tenant.is_waiting() && used * 100.0 < part(tenant) * f64::from(LIGHT)
        };
        let (light, heavy): (Vec<_>, Vec<_>) = tenants.into_iter().partition(is_light);
        if light.is_empty() {
            for (tenant, _) in &heavy {
                tenant.set_share(Some(Duration::from_secs_f64(part(tenant))));
            }
            return;
        }
        for (tenant, used) in &light {
            tenant.set_share(None);
            cores = (cores - used).max(0.0);
        }
        tenants = heavy;
    }
}

fn weight(tenant: &Account) -> f64 {
    f64::from(tenant.weight())
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
        let use_both = || {
            light.spend(Instant::now(), 10 * MS);
            heavy.spend(Instant::now(), 30 * MS);
        };
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
    #[test]
    fn what_tenants_leave_of_their_shares_is_the_others() {
        let shares = Shares::new(8);
        let tenants: Vec<_> = (0..20)
            .map(|_| Account::new(AccountLimits::default()))
            .collect();
        for tenant in &tenants {
            shares.add(tenant);
            tenant.spend(Instant::now(), MS);
        }
        tenants[0].spend(Instant::now(), 139 * MS);
        shares.decide(160 * MS, 20 * MS);
        // Of eight cores, 19 times a twentieth is used by the others.
        let second = Duration::from_secs(1);
        let delay = spent(&tenants[0], 7050 * MS);
        assert!((970 * MS..second).contains(&delay), "{delay:?}");
        assert_eq!(spent(&tenants[1], second), Duration::ZERO);
    }
}
