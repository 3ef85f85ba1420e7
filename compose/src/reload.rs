//! Reloads the configuration when its file, or a file or directory of secrets, changes.
//!
//! A thread compares inode, size and times four times a second, which also notices renames and the
//! switched links of a Kubernetes mount. It reads what stands still: a file that is being written is left
//! alone. A valid configuration is put in force as a whole; requests in flight keep the old one. An
//! invalid one, and one that takes every alias away, changes nothing: the error is logged once, the part
//! `config` says so, and the file is read again from time to time.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use weir_eventlog::{PartHandle, StopSignal, StoppableThread};
use weir_gateway::Reloader;

use crate::config::{Config, FileVersions, Loaded, load};

/// How often the files are looked at.
const POLL: Duration = Duration::from_millis(250);
/// An invalid file is read again after so many looks.
const LOOKS_BEFORE_RETRY: u32 = 20;

/// The thread that watches the files.
pub(crate) struct Reload {
    thread: StoppableThread,
    asked: Arc<AtomicBool>,
}

/// What a configuration is compared with before it is put in force.
pub(crate) struct InForce {
    /// What the process started with.
    pub(crate) config: Config,
    /// The files that it was read from.
    pub(crate) seen: Vec<FileVersions>,
    /// Whether one without aliases may take its place.
    pub(crate) allow_empty: bool,
}

impl Reload {
    pub(crate) fn follow(
        path: PathBuf,
        in_force: InForce,
        reloader: Reloader,
        part: PartHandle,
    ) -> anyhow::Result<Self> {
        let asked = Arc::new(AtomicBool::new(false));
        let ask = asked.clone();
        let mut watcher = ConfigWatcher {
            path,
            in_force,
            moving: None,
            reloader,
            part: part.clone(),
            has_complained: false,
            looks_since: 0,
        };
        let run = move |stop: &StopSignal| {
            while stop.sleep(POLL) {
                watcher.look(ask.swap(false, Ordering::Relaxed));
            }
            Ok(())
        };
        let thread = part.keep_running(run).context("start a thread")?;
        Ok(Self { thread, asked })
    }

    /// Reloads, whether anything changed or not.
    pub(crate) fn ask(&self) {
        self.asked.store(true, Ordering::Relaxed);
        self.thread.wake();
    }

    pub(crate) fn stop(self) {
        self.thread.stop();
    }
}

struct ConfigWatcher {
    path: PathBuf,
    /// `seen` is what was read last.
    in_force: InForce,
    /// What the files were at the last look, if that was not what was read.
    moving: Option<Vec<FileVersions>>,
    reloader: Reloader,
    part: PartHandle,
    /// The last reading was not put in force.
    has_complained: bool,
    looks_since: u32,
}

impl ConfigWatcher {
    fn look(&mut self, asked: bool) {
        let seen = &self.in_force.seen;
        let now: Vec<FileVersions> = seen.iter().map(FileVersions::now).collect();
        let has_changed = now != *seen;
        let stands_still = self.moving.as_ref() == Some(&now);
        self.looks_since += 1;
        let again = self.has_complained && self.looks_since >= LOOKS_BEFORE_RETRY;
        if asked || again || (has_changed && stands_still) {
            self.looks_since = 0;
            self.moving = None;
            self.in_force.seen = now;
            self.read();
        } else {
            self.moving = has_changed.then_some(now);
        }
    }

    /// Puts what is there in force, or says what is wrong with it and keeps what was.
    fn read(&mut self) {
        let before = self.reloader.directory();
        let loaded = load(&self.path, Some(&before)).map_err(|invalid| invalid.to_string());
        let aliases = before.names().count();
        match loaded.and_then(|loaded| self.worth_it(loaded, aliases)) {
            Ok(loaded) => self.put_in_force(loaded),
            Err(complaint) => {
                if self.part.failed(&complaint) {
                    tracing::error!(
                        "failed to reload the configuration; the old one stays in \
                         force:\n{complaint}"
                    );
                }
                self.has_complained = true;
            }
        }
    }

    /// An empty or half-written file must not take away what works.
    fn worth_it(&self, loaded: Loaded, aliases: usize) -> Result<Loaded, String> {
        if aliases == 0 || self.in_force.allow_empty || !loaded.config.aliases.is_empty() {
            return Ok(loaded);
        }
        Err(format!(
            "{}: it has no [[alias]], and {aliases} are in force: it is taken for empty or half-written. \
             To serve nothing, start with --allow-empty",
            self.path.display()
        ))
    }

    fn put_in_force(&mut self, loaded: Loaded) {
        self.reloader.reload(loaded.directory);
        self.has_complained = false;
        self.part.ok();
        self.in_force.seen = loaded.seen;
        tracing::info!(file = %self.path.display(), "reloaded providers and aliases");
        for section in loaded.config.sections_unlike(&self.in_force.config) {
            tracing::warn!(
                section,
                "changes in this section take effect at the next start"
            );
        }
    }
}
