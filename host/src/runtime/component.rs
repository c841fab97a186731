//! The runtime and the components it has loaded.

use std::{
    fmt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use wasmtime::Engine;

use super::{
    Limits, Options, engine,
    load::{self, Loaded},
};

/// An engine and what all of its instances share. Cloning it is cheap and makes no second one.
#[derive(Clone)]
pub struct Runtime {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Engine,
    sessions: u32,
    options: Options,
    instances: AtomicUsize,
}

impl Runtime {
    /// Makes an engine with memory reserved for [`Options::sessions`], or fewer where the machine holds fewer.
    ///
    /// # Errors
    ///
    /// When the address space cannot be reserved.
    pub fn new(options: Options) -> anyhow::Result<Self> {
        let engine::Sized { engine, sessions } = engine::engine(options.sessions, &options.limits)?;
        Ok(Self {
            inner: Arc::new(Inner {
                engine,
                sessions,
                options,
                instances: AtomicUsize::new(0),
            }),
        })
    }

    /// Reads, compiles and checks a component. Compiling may take seconds; code compiled before is taken from the cache.
    ///
    /// # Errors
    ///
    /// One line that names the file, what is wrong with it and the remedy.
    pub fn load(&self, file: &Path) -> anyhow::Result<Component> {
        let wasm = load::read(file)?;
        let cache = self.inner.options.cache_dir.as_deref();
        let loaded = load::link(
            &self.inner.engine,
            cache,
            &file.display().to_string(),
            &wasm,
        )?;
        Ok(Component {
            runtime: self.clone(),
            loaded: Arc::new(loaded),
        })
    }

    /// How many instances may live at once.
    #[must_use]
    pub fn sessions(&self) -> u32 {
        self.inner.sessions
    }

    /// How many instances live.
    #[must_use]
    pub fn instances(&self) -> usize {
        self.inner.instances.load(Ordering::Relaxed)
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.inner.options.limits
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
            .field("options", &self.inner.options)
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
}

impl Component {
    /// Whether the component decides on requests itself: it exports `wharf:webtransport/admission`.
    #[must_use]
    pub fn admits(&self) -> bool {
        self.loaded.admit.is_some()
    }
}

impl fmt::Debug for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Component")
            .field("admits", &self.admits())
            .finish_non_exhaustive()
    }
}
