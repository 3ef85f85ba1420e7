//! Follows the configuration file, and the files and directories that hold secrets.
//!
//! Twice a second a thread looks whether one of them is another than before: by its inode, size and
//! times, so that it makes no difference whether a file was written, renamed or, as in a Kubernetes
//! mount, replaced by turning a link. If so, everything is read again and put in force whole, and
//! requests under way finish with what they began with. What cannot be read changes nothing: it is
//! said once, and tried again until it can.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use weir_gateway::{Reloader, key_files};

use crate::config::{Config, load};
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
    /// `secrets` are the files and directories that the configuration in force was read from,
    /// beside its own file.
    pub(crate) fn follow(
        path: PathBuf,
        config: Config,
        secrets: Vec<PathBuf>,
        reloader: Reloader,
    ) -> anyhow::Result<Self> {
        let asked = Arc::new(AtomicBool::new(false));
        let ask = asked.clone();
        let mut follower = Follower {
            seen: State::of(&path, &secrets),
            path,
            secrets,
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
    secrets: Vec<PathBuf>,
    seen: State,
    started_with: Config,
    reloader: Reloader,
    /// What is wrong with what was read last.
    complaint: Option<String>,
    looks_since: u32,
}

impl Follower {
    fn look(&mut self, asked: bool) {
        // What is written while it is read is seen as a change at the next look.
        let now = State::of(&self.path, &self.secrets);
        // An editor may have taken the file away for the moment.
        let changed = now != self.seen && now.has_configuration();
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
                tracing::info!(file = %self.path.display(), "providers and aliases were read again");
                for section in loaded.config.sections_unlike(&self.started_with) {
                    tracing::warn!(section, "what changed in it takes effect at the next start");
                }
                if loaded.secrets != self.secrets {
                    self.secrets = loaded.secrets;
                    self.seen = State::of(&self.path, &self.secrets);
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

/// What tells one version of a file from another.
type Version = Option<[i128; 6]>;

/// The versions of all files that are followed, the configuration's first.
#[derive(PartialEq)]
struct State(Vec<Version>);

impl State {
    fn of(path: &Path, secrets: &[PathBuf]) -> Self {
        let mut versions = vec![version(path)];
        for secret in secrets {
            versions.push(version(secret));
            // A directory does not change with the files that its links lead to.
            let files = key_files(secret).unwrap_or_default();
            versions.extend(files.iter().map(|file| version(file)));
        }
        Self(versions)
    }

    fn has_configuration(&self) -> bool {
        self.0.first().is_some_and(Option::is_some)
    }
}

fn version(path: &Path) -> Version {
    let numbers = |it: Metadata| {
        let nanos = |s: i64, ns: i64| i128::from(s) * 1_000_000_000 + i128::from(ns);
        [
            i128::from(it.dev()),
            i128::from(it.ino()),
            i128::from(it.mode()),
            i128::from(it.size()),
            nanos(it.mtime(), it.mtime_nsec()),
            nanos(it.ctime(), it.ctime_nsec()),
        ]
    };
    std::fs::metadata(path).ok().map(numbers)
}
