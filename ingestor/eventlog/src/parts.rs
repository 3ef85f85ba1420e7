//! The named parts of a process: how each fares, and what follows when one ends that nobody stopped.
//!
//! A part that can begin anew is started again after a pause that grows ([`PartHandle::keep_running`]).
//! The loss of one that cannot ends the process in order ([`PartHandle::run_vital`], [`Parts::loss`]). A
//! part that runs and cannot do its work says so itself ([`PartHandle::failed`]).

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::caps::{PART_PAUSE_MAX, PART_PAUSE_MIN, PART_SETTLED_AFTER};
use crate::clock::unix_us;
use crate::thread::{StopSignal, StoppableThread};

/// All parts of a process. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Parts(Arc<PartList>);

#[derive(Debug, Default)]
struct PartList {
    parts: Mutex<Vec<PartHandle>>,
    /// The vital part that ended, and why.
    loss: watch::Sender<Option<String>>,
}

/// One part, for who runs it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct PartHandle {
    name: Arc<str>,
    history: Arc<Mutex<PartHistory>>,
    loss: watch::Sender<Option<String>>,
}

#[derive(Debug, Default)]
struct PartHistory {
    restarts: u64,
    /// What it cannot do, as it says itself.
    trouble: Option<String>,
    /// How it ended last, when nobody had stopped it.
    ended: Option<String>,
    /// When it was started after that; `None` during the pause.
    started: Option<Instant>,
    /// It ended, and cannot begin anew.
    is_lost: bool,
    /// When it last went from well to unwell, or back.
    since_us: u64,
}

/// How a part fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartState {
    Ok,
    /// It ended by itself, and is started again or was just now.
    Restarting,
    /// It cannot do its work.
    Failed,
}

impl PartState {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Restarting => "restarting",
            Self::Failed => "failed",
        }
    }
}

/// How a part fares at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartStatus {
    pub name: Arc<str>,
    pub state: PartState,
    /// What is wrong, unless all is well.
    pub reason: Option<String>,
    /// When it last went from well to unwell, or back.
    pub since_us: u64,
    /// How often it was started again.
    pub restarts: u64,
    /// Nothing can be served without it.
    pub is_lost: bool,
}

impl Parts {
    /// Makes a part known. One of that name that is there already is the same part.
    #[must_use]
    pub fn add(&self, name: &str) -> PartHandle {
        let mut parts = self.0.parts.lock();
        if let Some(known) = parts.iter().find(|part| &*part.name == name) {
            return known.clone();
        }
        let history = PartHistory {
            since_us: unix_us(),
            ..PartHistory::default()
        };
        let part = PartHandle {
            name: name.into(),
            history: Arc::new(Mutex::new(history)),
            loss: self.0.loss.clone(),
        };
        parts.push(part.clone());
        part
    }

    /// All of them, in the order in which they were made known.
    #[must_use]
    pub fn statuses(&self) -> Vec<PartStatus> {
        let parts = self.0.parts.lock();
        parts.iter().map(PartHandle::status).collect()
    }

    /// Becomes a text when a part has ended without which the process must not go on.
    #[must_use]
    pub fn loss(&self) -> watch::Receiver<Option<String>> {
        self.0.loss.subscribe()
    }
}

impl PartHandle {
    /// It does its work.
    pub fn ok(&self) {
        let mut history = self.history.lock();
        if history.trouble.take().is_some() {
            history.since_us = unix_us();
        }
    }

    /// It runs, and cannot do its work. Whether that is news; who gives the reason logs it then.
    pub fn failed(&self, reason: impl ToString) -> bool {
        let reason = reason.to_string();
        let mut history = self.history.lock();
        if history.trouble.is_none() {
            history.since_us = unix_us();
        }
        let before = history.trouble.replace(reason);
        before != history.trouble
    }

    /// Runs it on a thread of its own, again and again until it is stopped. What ends it before that is
    /// logged.
    pub fn keep_running(
        self,
        mut run: impl FnMut(&StopSignal) -> Result<(), String> + Send + 'static,
    ) -> io::Result<StoppableThread> {
        let name = Arc::clone(&self.name);
        StoppableThread::start(&name, move |stop| {
            let mut pause = PART_PAUSE_MIN;
            loop {
                let started = Instant::now();
                let ended = catch_unwind(AssertUnwindSafe(|| run(&stop)));
                if stop.is_set() {
                    if ended.is_err() {
                        let reason = in_words(ended);
                        tracing::error!(
                            part = &*self.name,
                            reason,
                            "a part failed to stop in order"
                        );
                    }
                    break;
                }
                if started.elapsed() > PART_PAUSE_MAX {
                    pause = PART_PAUSE_MIN;
                }
                self.pausing(&in_words(ended), pause);
                stop.sleep(pause);
                if stop.is_set() {
                    break;
                }
                self.history.lock().started = Some(Instant::now());
                pause = (pause * 2).min(PART_PAUSE_MAX);
            }
        })
    }

    fn pausing(&self, reason: &str, pause: Duration) {
        tracing::error!(
            part = &*self.name,
            reason,
            pause_ms = pause.as_millis(),
            "a part ended that nobody stopped; it is started again"
        );
        let mut history = self.history.lock();
        history.restarts += 1;
        history.ended = Some(reason.to_owned());
        history.started = None;
        history.trouble = None;
        history.since_us = unix_us();
    }

    /// Runs a part once that others start again: its panic stays in it.
    pub(crate) fn run_once(&self, run: impl FnOnce()) {
        self.history.lock().started = Some(Instant::now());
        let run = || {
            run();
            Ok(())
        };
        let ended = catch_unwind(AssertUnwindSafe(run));
        if ended.is_err() {
            self.pausing(&in_words(ended), Duration::ZERO);
        }
    }

    /// Runs a part that cannot begin anew. If it ends before it was told to, the process does, too.
    pub fn run_vital(&self, run: impl FnOnce(), is_stopped: impl FnOnce() -> bool) {
        let ended = catch_unwind(AssertUnwindSafe(|| {
            run();
            Ok(())
        }));
        if is_stopped() && ended.is_ok() {
            return;
        }
        let reason = in_words(ended);
        tracing::error!(
            part = &*self.name,
            reason,
            "a part ended that nobody stopped; the process cannot go on without it"
        );
        let mut history = self.history.lock();
        history.is_lost = true;
        history.since_us = unix_us();
        let loss = format!("{} ended: {reason}", self.name);
        history.ended = Some(reason);
        self.loss.send_replace(Some(loss));
    }

    #[must_use]
    pub fn status(&self) -> PartStatus {
        let history = self.history.lock();
        let is_settled = |started: Instant| started.elapsed() >= PART_SETTLED_AFTER;
        let is_unsettled = !history.started.is_some_and(is_settled);
        let (state, reason) = match (&history.trouble, &history.ended) {
            (_, Some(ended)) if history.is_lost => (PartState::Failed, Some(ended)),
            (Some(trouble), _) => (PartState::Failed, Some(trouble)),
            (None, Some(ended)) if is_unsettled => (PartState::Restarting, Some(ended)),
            (None, _) => (PartState::Ok, None),
        };
        PartStatus {
            name: Arc::clone(&self.name),
            state,
            reason: reason.cloned(),
            since_us: history.since_us,
            restarts: history.restarts,
            is_lost: history.is_lost,
        }
    }
}

fn in_words(ended: thread::Result<Result<(), String>>) -> String {
    let panic = match ended {
        Ok(Ok(())) => return "it ended by itself".to_owned(),
        Ok(Err(reason)) => return reason,
        Err(panic) => panic,
    };
    let said = panic.downcast_ref::<&str>().map(|said| (*said).to_owned());
    let said = said.or_else(|| panic.downcast_ref::<String>().cloned());
    format!("it panicked: {}", said.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn status(parts: &Parts) -> PartStatus {
        parts.statuses().remove(0)
    }

    #[test]
    fn a_part_that_panics_or_ends_is_started_again_and_says_why() {
        let parts = Parts::default();
        let (rounds, seen) = mpsc::channel();
        let mut round = 0;
        let thread = parts.add("test").keep_running(move |stop| {
            round += 1;
            rounds.send(round).unwrap();
            match round {
                1 => panic!("on purpose"),
                2 => Err("no more".to_owned()),
                _ => {
                    while stop.sleep(Duration::from_secs(3600)) {}
                    Ok(())
                }
            }
        });
        let thread = thread.unwrap();
        assert_eq!(seen.recv(), Ok(1));
        assert_eq!(seen.recv(), Ok(2));
        let status_then = status(&parts);
        assert_eq!(status_then.state, PartState::Restarting);
        assert_eq!(seen.recv(), Ok(3));
        let status_now = status(&parts);
        assert_eq!(status_now.restarts, 2);
        assert_eq!(status_now.reason.as_deref(), Some("no more"));
        assert!(!status_now.is_lost);
        thread.stop();
        assert_eq!(status(&parts).restarts, 2, "an end on demand is none");
        assert_eq!(*parts.loss().borrow(), None);
    }

    #[test]
    fn the_loss_of_a_vital_part_is_told_with_its_name() {
        let parts = Parts::default();
        let part = parts.add("worker-0");
        part.run_vital(|| {}, || true);
        assert_eq!(*parts.loss().borrow(), None);
        part.run_vital(|| panic!("on purpose"), || false);
        let loss = parts.loss().borrow().clone();
        assert_eq!(
            loss.as_deref(),
            Some("worker-0 ended: it panicked: on purpose")
        );
        assert!(status(&parts).is_lost);
        assert_eq!(status(&parts).state, PartState::Failed);
    }

    #[test]
    fn a_part_says_itself_what_it_cannot_do() {
        let parts = Parts::default();
        let part = parts.add("config");
        assert!(part.failed("it is empty"));
        assert!(!part.failed("it is empty"), "the same is no news");
        assert_eq!(status(&parts).state, PartState::Failed);
        parts.add("config").ok();
        assert_eq!(status(&parts).state, PartState::Ok);
        assert_eq!(status(&parts).reason, None);
        assert_eq!(parts.statuses().len(), 1);
    }
}
