//! What a guest has of WASI.

use std::sync::Arc;

use wasmtime_wasi::{WasiCtx, WasiCtxBuilder};

use super::{Terms, clocks::Coarse, output::Output};

/// The most random bytes that a guest may ask for at once.
const RANDOM_MAX: u64 = 64 << 10;

/// Made when the guest first asks for any of it, which most handlers never do.
pub(super) struct Wasi {
    terms: Arc<Terms>,
    outputs: [Output; 2],
    made: Option<Box<WasiCtx>>,
}

impl Wasi {
    /// What a guest on these terms has, whose standard output and error go there.
    pub(super) fn new(terms: &Arc<Terms>, outputs: &[Output; 2]) -> Self {
        Self {
            terms: terms.clone(),
            outputs: outputs.clone(),
            made: None,
        }
    }

    pub(super) fn get(&mut self) -> &mut WasiCtx {
        let Self {
            terms,
            outputs: [stdout, stderr],
            made,
        } = self;
        made.get_or_insert_with(|| {
            let resolution = terms.limits.clock_resolution;
            let wasi = WasiCtxBuilder::new()
                .stdout(stdout.clone())
                .stderr(stderr.clone())
                .envs(&terms.environment)
                .wall_clock(Coarse::new(resolution))
                .monotonic_clock(Coarse::new(resolution))
                .max_random_size(RANDOM_MAX)
                .build();
            Box::new(wasi)
        })
    }
}
