//! The engine's configuration, and the clock that lets guests be interrupted.

use std::num::NonZeroUsize;

use anyhow::{Context as _, ensure};
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use super::{
    Options,
    cpu::{Pace, Watch},
};

/// Memory maps that an instance takes from the kernel's limit for the process, without copy-on-write images.
const MAPS_PER_INSTANCE: u32 = 4;
/// Memory maps left for everything else.
const MAPS_RESERVED: u32 = 4096;
/// Components may have several core instances: a Rust guest 3, CPython 38. They are only counted, so this costs nothing.
const CORE_INSTANCES: u32 = 64;
/// Tables of a component: as many as the widest toolchain uses.
const TABLES: u32 = 2;
/// Address space per memory, which spares the guest's bounds checks: a smaller one costs a quarter of its speed.
const RESERVATION: u64 = (4 << 30) + (32 << 20);
/// Address space that user programs have, less a tenth for everything else.
const ADDRESS_SPACE: u64 = (1 << 47) / 10 * 9;

/// An engine, and how many sessions it holds at once.
pub(super) struct Sized {
    pub(super) engine: Engine,
    pub(super) sessions: u32,
}

/// Makes the engine, for as many sessions as were wished and the kernel's limit of memory maps allows, and starts its
/// clock, by which the shares are watched.
pub(super) fn engine(options: &Options, pace: Pace, shares: Watch) -> anyhow::Result<Sized> {
    let wished = options.sessions;
    let sessions = wished.min(mappable(max_map_count()).saturating_sub(options.spare));
    if sessions < wished {
        tracing::warn!(
            wished,
            sessions,
            "the machine holds fewer sessions than configured; raise the sysctl vm.max_map_count (1048576) for more"
        );
    }
    let instances = sessions.saturating_add(options.spare);
    let pool = pool(instances, options.limits.memory)?;
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
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    let engine = Engine::new(&config)
        .map_err(anyhow::Error::from)
        .with_context(|| {
            format!("cannot reserve memory for {instances} instances (lower `sessions`, or raise the limit of address space, `ulimit -v`)")
        })?;
    start_clock(&engine, pace, shares)?;
    Ok(Sized { engine, sessions })
}

/// The pool that so many instances live in.
///
/// # Errors
///
/// When the address space cannot hold them, or they cannot be counted.
fn pool(instances: u32, memory: usize) -> anyhow::Result<PoolingAllocationConfig> {
    // One memory for each, and a few for components that have two.
    let memories = u64::from(instances) + u64::from(instances.div_ceil(8));
    let bytes = memories.saturating_mul(RESERVATION);
    ensure!(
        bytes <= ADDRESS_SPACE,
        "{instances} instances need {} TiB of address space, and a program has {}: lower `sessions` to at most {}",
        bytes >> 40,
        ADDRESS_SPACE >> 40,
        ADDRESS_SPACE / RESERVATION * 8 / 9,
    );
    ensure!(
        memory as u64 <= RESERVATION - (32 << 20),
        "an instance has at most 4 GiB of memory: lower `memory`"
    );
    let each = |count: u32| {
        let all = instances.checked_mul(count);
        all.with_context(|| format!("{instances} instances cannot be counted: lower `sessions`"))
    };
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(each(CORE_INSTANCES)?)
        .total_memories(u32::try_from(memories)?)
        .total_tables(each(TABLES)?)
        .total_stacks(instances)
        .max_memory_size(memory)
        .max_memories_per_component(2)
        .max_tables_per_component(16)
        .max_unused_warm_slots(256)
        .linear_memory_keep_resident(256 << 10)
        .table_keep_resident(64 << 10)
        .pagemap_scan(Enabled::Auto);
    Ok(pool)
}

/// How many instances fit under the kernel's limit of memory maps; the process would be aborted beyond.
fn mappable(maps: Option<u32>) -> u32 {
    maps.map_or(u32::MAX, |maps| {
        maps.saturating_sub(MAPS_RESERVED) / MAPS_PER_INSTANCE
    })
}

/// The kernel's limit of memory maps for a process, where there is one.
fn max_map_count() -> Option<u32> {
    std::fs::read_to_string("/proc/sys/vm/max_map_count")
        .ok()?
        .trim()
        .parse()
        .ok()
}

/// Advances the epoch until the engine is gone, and has the tenants' shares looked at.
fn start_clock(engine: &Engine, mut pace: Pace, mut shares: Watch) -> anyhow::Result<()> {
    let engine = engine.weak();
    std::thread::Builder::new()
        .name("wharf-epoch".to_owned())
        .spawn(move || {
            while let Some(engine) = engine.upgrade() {
                engine.increment_epoch();
                drop(engine);
                shares.tick();
                std::thread::sleep(pace.step());
            }
        })
        .context("cannot start the epoch thread")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_are_capped_below_the_kernels_limit_of_memory_maps() {
        assert_eq!(mappable(Some(65_530)), 15_358);
        assert_eq!(mappable(Some(100)), 0);
        assert_eq!(mappable(None), u32::MAX);
    }

    #[test]
    fn more_instances_than_the_address_space_holds_are_an_error_that_says_how_many_it_does() {
        let error = pool(40_000, 64 << 20).err().unwrap().to_string();
        assert!(error.contains("lower `sessions` to at most"), "{error}");
        let most: u32 = error.split_whitespace().last().unwrap().parse().unwrap();
        assert!(pool(most, 64 << 20).is_ok(), "{most}");
        assert!(pool(most + 10, 64 << 20).is_err(), "{most}");
        assert!(pool(u32::MAX, 64 << 20).is_err());
        assert!(pool(1, usize::MAX).is_err());
    }
}
