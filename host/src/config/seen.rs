//! Files as they were when they were looked at, so that one that has changed since is known.

use std::{
    collections::BTreeMap,
    fs::Metadata,
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::{Config, Tls};

/// Files, each as it was when it was looked at: before it was read, so that no change is missed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen(BTreeMap<PathBuf, Option<State>>);

/// What tells that a file is another than before; of a link, the file that it leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    modified: Option<SystemTime>,
    length: u64,
    inode: u64,
}

impl Seen {
    /// All files that a configuration is about: those it was read from, and those that it names, as they are now.
    pub(crate) fn of(config: &Config) -> Self {
        let mut seen = config.sources.clone();
        for tenant in &config.tenants {
            for route in &tenant.routes {
                seen.look_at(&route.component);
            }
            if let Tls::Files { certificate, key } = &tenant.tls {
                seen.look_at(certificate);
                seen.look_at(key);
            }
        }
        let admin = config.admin.as_ref();
        if let Some(token_file) = admin.and_then(|admin| admin.token_file.as_deref()) {
            seen.look_at(token_file);
        }
        seen
    }

    /// Looks at a file that was not looked at before.
    pub fn look_at(&mut self, file: &Path) {
        let look = || state(file);
        self.0.entry(file.to_owned()).or_insert_with(look);
    }

    /// The same files as they are now.
    pub(crate) fn again(&self) -> Self {
        let files = self.0.keys();
        Self(files.map(|file| (file.clone(), state(file))).collect())
    }

    /// Adds others. Of a file that is in both, what was seen first counts.
    pub(crate) fn take_in(&mut self, others: Self) {
        for (file, state) in others.0 {
            self.0.entry(file).or_insert(state);
        }
    }

    /// Has those files that are in `others` too be as they were there.
    pub(crate) fn as_in(&mut self, others: &Self) {
        for (file, state) in &mut self.0 {
            if let Some(other) = others.0.get(file) {
                state.clone_from(other);
            }
        }
    }
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
