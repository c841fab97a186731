//! Cases at random for tests. What fails is printed with the seed of its run, and comes again with that seed in
//! `WHARF_SEED`.

use std::{
    env,
    hash::{BuildHasher as _, Hasher as _, RandomState},
};

use proptest::{
    prelude::*,
    test_runner::{RngAlgorithm, TestRng, TestRunner},
};

/// The seed that the environment names, or one of the moment.
fn seed() -> u64 {
    match env::var("WHARF_SEED") {
        Ok(seed) => seed.parse().expect("WHARF_SEED is a number"),
        Err(_) => RandomState::new().build_hasher().finish(),
    }
}

/// Checks so many cases of a seed; what fails is made small and told with the seed.
pub(crate) fn check_seeded<S: Strategy>(
    cases: u32,
    strategy: &S,
    test: impl Fn(S::Value) -> Result<(), TestCaseError>,
) {
    let seed = seed();
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_be_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let config = ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(cases)
    };
    if let Err(failure) = TestRunner::new_with_rng(config, rng).run(strategy, test) {
        panic!("WHARF_SEED={seed} gives this again: {failure}");
    }
}
