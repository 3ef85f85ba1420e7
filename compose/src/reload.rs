//! Reloads the configuration when its file, or a file or directory of secrets, changes.
//!
//! A thread compares inode, size and times twice a second, which also notices renames and the
//! switched links of a Kubernetes mount. A valid configuration is put in force as a whole; requests
//! in flight keep the old one. An invalid one changes nothing: the error is logged once, and the file
//! is read again from time to time.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use weir_eventlog::{StopSignal, StoppableThread};
use weir_gateway::Reloader;

use crate::config::{Config, FileVersions, load};

/// How often the files are looked at.
const POLL: Duration = Duration::from_millis(500);
/// An invalid file is read again after so many looks.
const LOOKS_BEFORE_RETRY: u32 = 10;

/// The thread that watches the files.
pub(crate) struct Reload {
    thread: StoppableThread,
    asked: Arc<AtomicBool>,
}

impl Reload {
    /// `seen` is what the configuration in force was read from.
    pub(crate) fn follow(
        path: PathBuf,
        config: Config,
        seen: Vec<FileVersions>,
        reloader: Reloader,
    ) -> anyhow::Result<Self> {
        let asked = Arc::new(AtomicBool::new(false));
        let ask = asked.clone();
        let mut watcher = ConfigWatcher {
            path,
            seen,
            started_with: config,
            reloader,
            complaint: None,
            looks_since: 0,
        };
        let run = move |stop: StopSignal| {
            while stop.sleep(POLL) {
                watcher.look(ask.swap(false, Ordering::Relaxed));
            }
        };
        let thread = StoppableThread::start("config", run).context("start a thread")?;
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
    /// What was read last.
    seen: Vec<FileVersions>,
    started_with: Config,
    reloader: Reloader,
    /// What is wrong with it.
    complaint: Option<String>,
    looks_since: u32,
}

impl ConfigWatcher {
    fn look(&mut self, asked: bool) {
        let now: Vec<FileVersions> = self.seen.iter().map(FileVersions::now).collect();
        // An editor may have taken the file away for the moment.
        let changed = now != self.seen && self.path.exists();
        self.looks_since += 1;
        let again = self.complaint.is_some() && self.looks_since >= LOOKS_BEFORE_RETRY;
        if asked || changed || again {
            self.looks_since = 0;
            self.seen = now;
            self.read();
        }
    }

    /// Puts what is there in force, or says what is wrong with it and keeps what was.
    fn read(&mut self) {
        match load(&self.path, Some(&self.reloader.directory())) {
            Ok(loaded) => {
                self.reloader.reload(loaded.directory);
                self.complaint = None;
                self.seen = loaded.seen;
                tracing::info!(file = %self.path.display(), "reloaded providers and aliases");
                for section in loaded.config.sections_unlike(&self.started_with) {
                    tracing::warn!(
                        section,
                        "changes in this section take effect at the next start"
                    );
                }
            }
            Err(invalid) => {
                let complaint = invalid.to_string();
                if self.complaint.as_ref() != Some(&complaint) {
                    tracing::error!(
                        "failed to reload the configuration; the old one stays in \
                         force:\n{complaint}"
                    );
                }
                self.complaint = Some(complaint);
            }
        }
    }
}
