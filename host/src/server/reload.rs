//! Reloads a server when a file changes that it was loaded from, or when it is asked to.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::Handle;
use crate::config::{Config, Seen};

/// How often files are looked at. They are read when two looks in a row find the same change: who writes several may be at
/// it still.
const LOOK: Duration = Duration::from_millis(500);

/// Keeps a server as its files say: the sources of its configuration, its components, its certificates and the token of its
/// admin listener.
///
/// The files are looked at again and again, wherever they are: each may be replaced by renaming, be a link, or be gone for
/// a while with its folder. A configuration that cannot be loaded changes nothing, and the log says once what is wrong
/// with it.
pub struct Watch<F> {
    handle: Handle,
    load: F,
    /// What is watched, as it was before it was read last.
    seen: Seen,
}

impl<F> Watch<F>
where
    F: FnMut() -> anyhow::Result<Config>,
{
    /// Watches what a server was loaded from. `load` loads its configuration anew.
    pub fn new(handle: Handle, load: F) -> Self {
        let seen = handle.seen();
        Self { handle, load, seen }
    }

    /// Reloads whenever a file has changed, and each time that `asked` ends.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the watch. A reload that is under way happens wholly or not at all.
    pub async fn run(mut self, mut asked: impl AsyncFnMut()) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut before = self.seen.clone();
        loop {
            tokio::select! {
                _ = looks.tick() => {
                    let now = self.seen.again();
                    if now != self.seen && now == before {
                        self.reload().await;
                    }
                    before = now;
                }
                () = asked() => self.reload().await,
            }
        }
    }

    async fn reload(&mut self) {
        // What changes after this look is seen as a change, even while it is being read.
        self.seen = self.seen.again();
        let loaded = match (self.load)() {
            Ok(config) => {
                let mut seen = Seen::of(&config);
                seen.as_in(&self.seen);
                self.seen = seen;
                self.handle.reload(config).await
            }
            Err(error) => Err(error),
        };
        match loaded {
            Ok(()) => tracing::info!("reloaded"),
            Err(error) => tracing::error!("not reloaded, all stays as it was: {error:#}"),
        }
    }
}

impl<F> std::fmt::Debug for Watch<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch")
            .field("seen", &self.seen)
            .finish_non_exhaustive()
    }
}
