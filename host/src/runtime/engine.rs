//! The engine's configuration, and the clock that lets guests be interrupted.

use std::{num::NonZeroUsize, time::Duration};

use anyhow::Context as _;
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use super::Limits;

/// How often the epoch advances: what a guest may run before it yields to others on its thread.
const TICK: Duration = Duration::from_millis(1);
/// Memory maps that an instance takes from the kernel's limit for the process, without copy-on-write images.
const MAPS_PER_SESSION: u32 = 4;
/// Memory maps left for everything else.
const MAPS_RESERVED: u32 = 4096;
/// Components may have several core instances: a Rust guest 3, CPython 38. They are only counted, so this costs nothing.
const CORE_INSTANCES_PER_SESSION: u32 = 64;
/// Tables of a component: as many as the widest toolchain uses.
const TABLES_PER_SESSION: u32 = 2;
/// Address space per memory, which spares the guest's bounds checks: a smaller one costs a quarter of its speed.
const RESERVATION: u64 = (4 << 30) + (32 << 20);
/// Address space that user programs have.
const ADDRESS_SPACE: u64 = 1 << 47;

/// An engine and how many instances it holds at once.
pub(super) struct Sized {
    pub(super) engine: Engine,
    pub(super) sessions: u32,
}

/// Makes the engine, for as many sessions as were wished and the machine can hold, and starts its clock.
pub(super) fn engine(wished: u32, limits: &Limits) -> anyhow::Result<Sized> {
    let sessions = capacity(wished, max_map_count());
    if sessions < wished {
        tracing::warn!(
            wished,
            sessions,
            "the machine holds fewer sessions than configured; raise the sysctl vm.max_map_count (1048576) for more"
        );
    }
    let mut config = Config::new();
    config
        .concurrency_support(false)
        .epoch_interruption(true)
        .memory_init_cow(false)
        .max_wasm_stack(256 << 10)
        .async_stack_size(512 << 10)
        .async_stack_zeroing(true)
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        .wasm_relaxed_simd(false)
        .wasm_backtrace_max_frames(NonZeroUsize::new(16))
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool(sessions, limits)));
    let engine = Engine::new(&config)
        .map_err(anyhow::Error::from)
        .with_context(|| {
            format!("cannot reserve memory for {sessions} sessions (lower `sessions`)")
        })?;
    start_clock(&engine)?;
    Ok(Sized { engine, sessions })
}

fn pool(sessions: u32, limits: &Limits) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(sessions)
        .total_core_instances(sessions.saturating_mul(CORE_INSTANCES_PER_SESSION))
        .total_memories(memories(sessions))
        .total_tables(sessions.saturating_mul(TABLES_PER_SESSION))
        .total_stacks(sessions)
        .max_memory_size(limits.memory)
        .max_memories_per_component(2)
        .max_tables_per_component(16)
        .max_unused_warm_slots(256)
        .linear_memory_keep_resident(256 << 10)
        .table_keep_resident(64 << 10)
        .pagemap_scan(Enabled::Auto);
    pool
}

/// One for each session, and a few for components that have two.
fn memories(sessions: u32) -> u32 {
    sessions.saturating_add(sessions.div_ceil(8))
}

/// How many of the sessions wished for fit under the kernel's limit of memory maps, and into the address space.
fn capacity(wished: u32, maps: Option<u32>) -> u32 {
    let by_maps = maps.map_or(u32::MAX, |maps| {
        maps.saturating_sub(MAPS_RESERVED) / MAPS_PER_SESSION
    });
    let reservations = ADDRESS_SPACE / RESERVATION;
    // Of nine memories eight are counted, and a tenth of the address space is left for the rest.
    let by_space = u32::try_from(reservations / 10 * 8).unwrap_or(u32::MAX);
    wished.min(by_maps).min(by_space)
}

/// The kernel's limit of memory maps for a process, where there is one.
fn max_map_count() -> Option<u32> {
    std::fs::read_to_string("/proc/sys/vm/max_map_count")
        .ok()?
        .trim()
        .parse()
        .ok()
}

/// Advances the epoch until the engine is gone.
fn start_clock(engine: &Engine) -> anyhow::Result<()> {
    let engine = engine.weak();
    std::thread::Builder::new()
        .name("wharf-epoch".to_owned())
        .spawn(move || {
            while let Some(engine) = engine.upgrade() {
                engine.increment_epoch();
                drop(engine);
                std::thread::sleep(TICK);
            }
        })
        .context("cannot start the epoch thread")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_capped_below_the_kernels_limit_of_memory_maps() {
        assert_eq!(capacity(10_000, Some(65_530)), 10_000);
        assert_eq!(capacity(100_000, Some(65_530)), 15_358);
        assert_eq!(capacity(10, Some(100)), 0);
    }

    #[test]
    fn sessions_are_capped_below_the_address_space() {
        let sessions = capacity(u32::MAX, None);
        assert!(
            u64::from(memories(sessions)) * RESERVATION < ADDRESS_SPACE,
            "{sessions}"
        );
    }
}
