//! The runtime and the components it has loaded.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use wasmtime::Engine;

use super::{
    Options, Scope, Terms,
    cpu::{Lane, Meter, Pace, Shares, Watch, Yield},
    engine,
    load::{self, Loaded},
    shared::Shared,
};
use crate::metrics::Metrics;

/// An engine and what all of its instances share. Cloning it is cheap and makes no second one.
#[derive(Clone)]
pub struct Runtime {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Engine,
    sessions: u32,
    cache_dir: Option<PathBuf>,
    lane: Arc<Lane>,
    shares: Arc<Shares>,
    instances: AtomicUsize,
    metrics: Metrics,
}

impl Runtime {
    /// Makes an engine with memory reserved for [`Options::sessions`], or fewer where the kernel's limit of memory maps
    /// allows fewer.
    ///
    /// Outside of a tokio runtime of several workers, long calls of guests hold up the others.
    ///
    /// # Errors
    ///
    /// When the address space does not hold as many.
    pub fn new(options: Options) -> anyhow::Result<Self> {
        let workers = tokio::runtime::Handle::try_current();
        let workers = workers.map_or(1, |handle| handle.metrics().num_workers());
        let shares = Arc::new(Shares::new(workers));
        let lane = Arc::new(Lane::new(workers));
        let pace = Pace::new(options.tick, lane.clone());
        let watch = Watch::new(shares.clone());
        let engine::Sized { engine, sessions } = engine::engine(&options, pace, watch)?;
        Ok(Self {
            inner: Arc::new(Inner {
                engine,
                sessions,
                cache_dir: options.cache_dir,
                lane,
                shares,
                instances: AtomicUsize::new(0),
                metrics: options.metrics,
            }),
        })
    }

    /// Reads, compiles and checks a component. Compiling may take seconds; code compiled before is taken from the cache.
    ///
    /// # Errors
    ///
    /// One line that names the file, what is wrong with it and the remedy.
    pub fn load(&self, file: &Path, terms: Terms) -> anyhow::Result<Component> {
        let wasm = load::read(file)?;
        let cache = self.inner.cache_dir.as_deref();
        let name = file.display().to_string();
        let loaded = load::link(&self.inner.engine, cache, &name, &wasm)?;
        load::fits(&loaded, &name, terms.limits.memory)?;
        self.inner.shares.add(&terms.account);
        let scope = terms.scope;
        let mut component = Component {
            runtime: self.clone(),
            loaded: Arc::new(loaded),
            terms: Arc::new(terms),
            shared: None,
        };
        if scope == Scope::Shared {
            component.shared = Some(Shared::new(component.clone()));
        }
        Ok(component)
    }

    /// How many sessions may live at once, each in an instance of its own.
    #[must_use]
    pub fn sessions(&self) -> u32 {
        self.inner.sessions
    }

    /// How many instances live.
    #[must_use]
    pub fn instances(&self) -> usize {
        self.inner.instances.load(Ordering::Relaxed)
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.inner.engine
    }

    /// Counts an instance for as long as what is returned lives.
    pub(super) fn count(&self) -> Counted {
        self.inner.instances.fetch_add(1, Ordering::Relaxed);
        Counted(self.inner.clone())
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime")
            .field("sessions", &self.inner.sessions)
            .finish_non_exhaustive()
    }
}

/// One live instance.
pub(super) struct Counted(Arc<Inner>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.instances.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A component that is compiled, fits the world and is linked. Cloning it is cheap.
#[derive(Clone)]
pub struct Component {
    pub(super) runtime: Runtime,
    pub(super) loaded: Arc<Loaded>,
    pub(super) terms: Arc<Terms>,
    /// The instance that all sessions share, where they do.
    pub(super) shared: Option<Shared>,
}

impl Component {
    /// Whether the component decides on requests itself: it exports `wharf:webtransport/admission`.
    #[must_use]
    pub fn admits(&self) -> bool {
        self.loaded.admit.is_some()
    }

    pub(super) fn meter(&self, yielded: &Yield) -> Meter {
        let Terms {
            limits, account, ..
        } = &*self.terms;
        Meter::new(&self.runtime.inner.lane, account, limits, yielded)
    }
}

impl fmt::Debug for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Component")
            .field("admits", &self.admits())
            .finish_non_exhaustive()
    }
}
