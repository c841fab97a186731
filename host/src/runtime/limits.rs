//! The memory of one instance: all of its memories and tables together.

use wasmtime::ResourceLimiter;

/// What an entry of a table takes on the host.
const TABLE_ENTRY: usize = size_of::<usize>();

/// Counts what an instance has, and denies what is more than it may have.
#[derive(Debug)]
pub(super) struct Budget {
    max: usize,
    used: usize,
    denied: bool,
}

impl Budget {
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            used: 0,
            denied: false,
        }
    }

    /// Whether something was denied: a trap after that is for want of memory.
    pub(super) fn denied(&self) -> bool {
        self.denied
    }

    fn grow(&mut self, current: usize, desired: usize) -> bool {
        let used = self.used.saturating_add(desired.saturating_sub(current));
        let granted = used <= self.max;
        if granted {
            self.used = used;
        } else {
            self.denied = true;
        }
        granted
    }
}

impl ResourceLimiter for Budget {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // What the memory's own type forbids is not for want of memory here.
        Ok(maximum.is_none_or(|maximum| desired <= maximum) && self.grow(current, desired))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let bytes = |entries: usize| entries.saturating_mul(TABLE_ENTRY);
        Ok(maximum.is_none_or(|maximum| desired <= maximum)
            && self.grow(bytes(current), bytes(desired)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_and_tables_share_one_budget() {
        let mut budget = Budget::new(200_000);
        assert!(budget.memory_growing(0, 131_072, None).unwrap());
        assert!(budget.table_growing(0, 8_000, None).unwrap());
        assert!(!budget.denied());
        assert!(
            !budget.memory_growing(0, 65_536, None).unwrap(),
            "a second memory counts too"
        );
        assert!(budget.denied());
        assert!(
            budget.table_growing(8_000, 8_600, None).unwrap(),
            "what fits is granted still"
        );
    }

    #[test]
    fn growth_beyond_a_memorys_own_maximum_is_no_want_of_memory() {
        let mut budget = Budget::new(1 << 20);
        assert!(!budget.memory_growing(0, 131_072, Some(65_536)).unwrap());
        assert!(!budget.denied());
    }
}
