//! Follows the configuration file, and the files and directories that hold secrets.
//!
//! Twice a second a thread looks whether one of them is another than before: by its inode, size and
//! times, so that it makes no difference whether a file was written, renamed or, as in a Kubernetes
//! mount, replaced by turning a link. If so, everything is read again and put in force whole, and
//! requests under way finish with what they began with. What cannot be read changes nothing: it is
//! said once, and tried again until it can.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use weir_gateway::Reloader;

use crate::config::{Config, Seen, load};
use crate::parts::Stoppable;

/// How often the files are looked at.
const POLL: Duration = Duration::from_millis(500);
/// What could not be read is tried again after so many looks.
const LOOKS_BEFORE_RETRY: u32 = 10;

/// The thread that follows the files.
pub(crate) struct Reload {
    thread: Stoppable,
    asked: Arc<AtomicBool>,
}

impl Reload {
    /// `seen` is what the configuration in force was read from.
    pub(crate) fn follow(
        path: PathBuf,
        config: Config,
        seen: Vec<Seen>,
        reloader: Reloader,
    ) -> anyhow::Result<Self> {
        let asked = Arc::new(AtomicBool::new(false));
        let ask = asked.clone();
        let mut follower = Follower {
            path,
            seen,
            started_with: config,
            reloader,
            complaint: None,
            looks_since: 0,
        };
        let thread = Stoppable::start("config", move |stopped| {
            while !*stopped.borrow() {
                std::thread::park_timeout(POLL);
                follower.look(ask.swap(false, Ordering::Relaxed));
            }
        })?;
        Ok(Self { thread, asked })
    }

    /// Reads everything again, whether it changed or not.
    pub(crate) fn ask(&self) {
        self.asked.store(true, Ordering::Relaxed);
        self.thread.unpark();
    }

    pub(crate) fn stop(self) {
        self.thread.stop();
    }
}

struct Follower {
    path: PathBuf,
    /// What was read last.
    seen: Vec<Seen>,
    started_with: Config,
    reloader: Reloader,
    /// What is wrong with it.
    complaint: Option<String>,
    looks_since: u32,
}

impl Follower {
    fn look(&mut self, asked: bool) {
        let now: Vec<Seen> = self.seen.iter().map(Seen::now).collect();
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
                tracing::info!(file = %self.path.display(), "providers and aliases were read again");
                for section in loaded.config.sections_unlike(&self.started_with) {
                    tracing::warn!(section, "what changed in it takes effect at the next start");
                }
            }
            Err(invalid) => {
                let complaint = invalid.to_string();
                if self.complaint.as_ref() != Some(&complaint) {
                    tracing::error!(
                        "the changed configuration is not valid, the old one stays in \
                         force:\n{complaint}"
                    );
                }
                self.complaint = Some(complaint);
            }
        }
    }
}
