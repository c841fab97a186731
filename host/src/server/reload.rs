//! Reloads a server when a file changes that it was loaded from, or when it is asked to.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::Metadata,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::{sync::Notify, time::Instant};

use super::Handle;
use crate::config::{Config, Tls};

/// How long files must be left alone before they are read: who writes several may be at it still.
const QUIET: Duration = Duration::from_millis(200);
/// How long they are waited for where they are never left alone.
const PATIENCE: Duration = Duration::from_secs(5);

/// Keeps a server as its files say: the sources of its configuration, its components and its certificates.
///
/// Folders are watched rather than files, so that a file may be replaced by renaming, and by way of symbolic links. A
/// configuration that cannot be loaded changes nothing, and the log says once what is wrong with it.
pub struct Watch<F> {
    handle: Handle,
    load: F,
    /// What is watched, and what it was when it was read last.
    files: BTreeMap<PathBuf, Option<State>>,
    folders: BTreeSet<PathBuf>,
    watcher: Option<RecommendedWatcher>,
    touched: Arc<Notify>,
}

/// What tells that a file is another than before.
#[derive(Debug, PartialEq, Eq)]
struct State {
    modified: Option<SystemTime>,
    length: u64,
    inode: u64,
}

impl<F> Watch<F>
where
    F: FnMut() -> anyhow::Result<Config>,
{
    /// Watches what a server was loaded from. `load` loads its configuration anew.
    pub fn new(handle: Handle, load: F) -> Self {
        let touched = Arc::new(Notify::new());
        let touch = touched.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let only_read = event.is_ok_and(|event| matches!(event.kind, EventKind::Access(_)));
            if !only_read {
                touch.notify_one();
            }
        });
        let watcher = watcher.map_err(|error| {
            tracing::warn!(%error, "changes of files are not seen (SIGHUP reloads them)");
        });
        let files = handle.look_at_config(files);
        let mut watch = Self {
            handle,
            load,
            files: BTreeMap::new(),
            folders: BTreeSet::new(),
            watcher: watcher.ok(),
            touched,
        };
        watch.follow(files);
        watch
    }

    /// Reloads whenever a file has changed, and each time that `asked` ends.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the watch. A reload that is under way happens wholly or not at all.
    pub async fn run(mut self, mut asked: impl AsyncFnMut()) {
        loop {
            tokio::select! {
                () = self.touched.notified() => {
                    self.settled().await;
                    if self.files.iter().any(|(file, before)| state(file) != *before) {
                        self.reload().await;
                    }
                }
                () = asked() => self.reload().await,
            }
        }
    }

    /// Waits until nothing was touched for a while.
    async fn settled(&self) {
        let latest = Instant::now() + PATIENCE;
        loop {
            let until = latest.min(Instant::now() + QUIET);
            let again = tokio::time::timeout_at(until, self.touched.notified()).await;
            if again.is_err() {
                return;
            }
        }
    }

    async fn reload(&mut self) {
        // What changes after this look is seen as a change, even while it is being read.
        for (file, before) in &mut self.files {
            *before = state(file);
        }
        let loaded = match (self.load)() {
            Ok(config) => {
                self.follow(files(&config));
                self.handle.reload(config).await
            }
            Err(error) => Err(error),
        };
        match loaded {
            Ok(()) => tracing::info!("reloaded"),
            Err(error) => tracing::error!("not reloaded, all stays as it was: {error:#}"),
        }
    }

    /// Watches these files from now on, and no others.
    fn follow(&mut self, files: BTreeSet<PathBuf>) {
        let folders: BTreeSet<_> = files.iter().flat_map(|file| folders(file)).collect();
        if let Some(watcher) = &mut self.watcher {
            for folder in self.folders.difference(&folders) {
                _ = watcher.unwatch(folder); // one that is gone is not watched anyway
            }
            // All of them, because one may have been made anew.
            for folder in &folders {
                if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
                    let folder = folder.display();
                    tracing::warn!(%folder, %error, "changes of files there are not seen (SIGHUP reloads them)");
                }
            }
        }
        self.folders = folders;
        self.files.retain(|file, _| files.contains(file));
        for file in files {
            self.files
                .entry(file)
                .or_insert_with_key(|file| state(file));
        }
    }
}

impl<F> std::fmt::Debug for Watch<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch")
            .field("files", &self.files.keys())
            .finish_non_exhaustive()
    }
}

/// The files that a configuration is about.
fn files(config: &Config) -> BTreeSet<PathBuf> {
    let mut files: BTreeSet<_> = config.sources.iter().cloned().collect();
    for tenant in &config.tenants {
        files.extend(tenant.routes.iter().map(|route| route.component.clone()));
        match &tenant.tls {
            Tls::Files { certificate, key } => files.extend([certificate.clone(), key.clone()]),
            Tls::Development => {}
        }
    }
    files
}

/// Where a file is, and where what it links to is.
fn folders(file: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let linked = file.canonicalize().ok();
    let both = [Some(file.to_owned()), linked].into_iter().flatten();
    both.filter_map(|file| match file.parent()? {
        here if here.as_os_str().is_empty() => Some(PathBuf::from(".")),
        folder => Some(folder.to_owned()),
    })
}

/// What a file is now; `None` where there is none.
fn state(file: &Path) -> Option<State> {
    let metadata = std::fs::metadata(file).ok()?;
    Some(State {
        modified: metadata.modified().ok(),
        length: metadata.len(),
        inode: inode(&metadata),
    })
}

#[cfg(unix)]
fn inode(metadata: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn inode(_: &Metadata) -> u64 {
    0
}
