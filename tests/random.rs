//! Random choices that a seed repeats.

/// A source of numbers that look random (`SplitMix64`).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// From `WHARF_SEED`, or a new seed; told with what the test prints, so that a failure can be looked for again.
    #[expect(clippy::print_stderr, reason = "shown by the test harness on failure")]
    pub(crate) fn told() -> Self {
        let given = std::env::var("WHARF_SEED").ok();
        let seed = given.map_or_else(
            || std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0),
            |seed| seed.parse().unwrap(),
        );
        eprintln!("WHARF_SEED={seed}");
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not zero.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Whether something happens that happens so often.
    pub(crate) fn percent(&mut self, often: u64) -> bool {
        self.below(100) < often
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count + 8);
        while bytes.len() < count {
            bytes.extend(self.next().to_le_bytes());
        }
        bytes.truncate(count);
        bytes
    }

    /// A source of its own, for a task whose turns come in no fixed order.
    pub(crate) fn fork(&mut self) -> Self {
        Self(self.next())
    }
}
