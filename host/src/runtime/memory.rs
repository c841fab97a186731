//! The memory of one instance: all of its memories and tables, and what the host holds for it.

use super::cpu::Account;

/// What an entry of a table takes on the host.
const TABLE_ENTRY: usize = size_of::<usize>();
/// What the host holds is put on the tenant's account in pieces, so that it is seldom touched.
const PIECE: usize = 64 << 10;

/// Counts what an instance has, and denies what is more than it, or its tenant, may have.
#[derive(Debug)]
pub(super) struct Memory {
    max: usize,
    used: usize,
    /// Bytes that the host holds for it.
    held: usize,
    /// As much of those as are on the account.
    owed: usize,
    /// What was granted last, should it be denied by the machine after that.
    granted: usize,
    denied: bool,
    account: Account,
}

impl Memory {
    pub(super) fn new(max: usize, account: Account) -> Self {
        Self {
            max,
            used: 0,
            held: 0,
            owed: 0,
            granted: 0,
            denied: false,
            account,
        }
    }

    /// Whether something was denied: a trap after that is for want of memory.
    pub(super) fn denied(&self) -> bool {
        self.denied
    }

    /// Bytes of all memories and tables.
    pub(super) fn used(&self) -> usize {
        self.used
    }

    /// What the host may hold more.
    pub(super) fn room(&self) -> usize {
        let own = self.max.saturating_sub(self.used + self.held);
        own.min(self.account.room())
    }

    /// Counts what the host holds now.
    pub(super) fn hold(&mut self, held: usize) {
        self.held = held;
        let owed = held.next_multiple_of(PIECE);
        if owed > self.owed {
            self.account.owe(owed - self.owed);
        } else if owed < self.owed {
            self.account.give_back(self.owed - owed);
        }
        self.owed = owed;
    }

    pub(super) fn grow_memory(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> bool {
        // What the memory's own type forbids is not for want of memory here.
        maximum.is_none_or(|maximum| desired <= maximum) && self.grow(current, desired)
    }

    pub(super) fn grow_table(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> bool {
        let bytes = |entries: usize| entries.saturating_mul(TABLE_ENTRY);
        maximum.is_none_or(|maximum| desired <= maximum)
            && self.grow(bytes(current), bytes(desired))
    }

    /// What was granted last could not be had.
    pub(super) fn grow_failed(&mut self) {
        let granted = std::mem::take(&mut self.granted);
        self.used -= granted;
        self.account.give_back(granted);
        self.denied = true;
    }

    fn grow(&mut self, current: usize, desired: usize) -> bool {
        let more = desired.saturating_sub(current);
        let all = self.used.saturating_add(self.held).saturating_add(more);
        let granted = all <= self.max && self.account.take(more);
        if granted {
            self.used += more;
            self.granted = more;
        } else {
            self.denied = true;
        }
        granted
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.account.give_back(self.used + self.owed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::AccountLimits;

    fn account(memory: usize) -> Account {
        Account::new(AccountLimits {
            memory,
            ..AccountLimits::default()
        })
    }

    #[test]
    fn memories_tables_and_what_the_host_holds_share_one_budget() {
        let mut memory = Memory::new(300_000, account(usize::MAX));
        assert!(memory.grow_memory(0, 131_072, None));
        assert!(memory.grow_table(0, 8_000, None));
        assert!(!memory.denied());
        assert_eq!(memory.room(), 300_000 - 131_072 - 64_000);
        memory.hold(50_000);
        assert!(
            !memory.grow_memory(0, 65_536, None),
            "a second memory counts too"
        );
        assert!(memory.denied());
        assert!(
            memory.grow_table(8_000, 8_600, None),
            "what fits is granted still"
        );
        memory.hold(0);
        assert!(memory.grow_memory(0, 65_536, None));
    }

    #[test]
    fn instances_of_a_tenant_share_its_total_and_give_it_back() {
        let account = account(200_000);
        let mut a = Memory::new(usize::MAX, account.clone());
        let mut b = Memory::new(usize::MAX, account.clone());
        assert!(a.grow_memory(0, 131_072, None));
        assert!(!b.grow_memory(0, 131_072, None));
        assert!(b.denied() && !a.denied());
        a.hold(1000);
        assert_eq!(account.memory(), 131_072 + PIECE);
        assert_eq!(b.room(), 200_000 - 131_072 - PIECE);
        drop(a);
        assert!(b.grow_memory(0, 131_072, None));
        b.grow_failed();
        assert_eq!((b.used(), account.memory()), (0, 0));
    }

    #[test]
    fn growth_beyond_a_memorys_own_maximum_is_no_want_of_memory() {
        let mut memory = Memory::new(1 << 20, account(usize::MAX));
        assert!(!memory.grow_memory(0, 131_072, Some(65_536)));
        assert!(!memory.denied());
    }
}
