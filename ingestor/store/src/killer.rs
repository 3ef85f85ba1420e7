//! Stops statements whose client has gone.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::Mutex;
use tracing::warn;

use crate::engine::EmbeddedEngine;
use crate::run::{self, Running};

/// Stops a statement whose client has gone.
pub(crate) struct CancelOnDrop {
    pub(crate) running: Arc<Running>,
    pub(crate) query_id: String,
    pub(crate) killer: Killer,
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if !self.running.is_finished() {
            self.running.cancel();
            self.killer.kill(&self.query_id, &self.running);
        }
    }
}

/// A thread that stops statements. A statement that is busy inside the engine notices nothing else.
#[derive(Clone)]
pub(crate) struct Killer {
    shared: Arc<KillerShared>,
}

#[derive(Default)]
struct KillerShared {
    /// The statements to stop, by their id.
    statements: Mutex<HashMap<String, Arc<Running>>>,
    stopped: AtomicBool,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Killer {
    /// How often a statement is looked for that did not end yet: it may not have begun either.
    const AGAIN_AFTER: Duration = Duration::from_millis(100);

    pub(crate) fn start(engine: Arc<EmbeddedEngine>) -> Self {
        let killer = Self {
            shared: Arc::default(),
        };
        let runner = killer.clone();
        let spawned = thread::Builder::new()
            .name("store-killer".to_owned())
            .spawn(move || runner.run(&engine));
        match spawned {
            Ok(thread) => *killer.shared.thread.lock() = Some(thread),
            Err(error) => {
                warn!(%error, "failed to start the killer thread: statements of clients that leave run to their end");
            }
        }
        killer
    }

    fn kill(&self, query_id: &str, running: &Arc<Running>) {
        let mut statements = self.shared.statements.lock();
        statements.insert(query_id.to_owned(), Arc::clone(running));
        drop(statements);
        if let Some(thread) = &*self.shared.thread.lock() {
            thread.thread().unpark();
        }
    }

    /// Ends the thread, and waits until it has let go of the engine.
    pub(crate) fn stop(&self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        let thread = self.shared.thread.lock().take();
        if let Some(thread) = thread {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }

    fn run(&self, engine: &EmbeddedEngine) {
        while !self.shared.stopped.load(Ordering::Relaxed) {
            let query_ids: Vec<String> = {
                let mut statements = self.shared.statements.lock();
                statements.retain(|_, running| !running.is_finished());
                statements.keys().cloned().collect()
            };
            if query_ids.is_empty() {
                thread::park();
                continue;
            }
            for query_id in &query_ids {
                if let Err(error) = run::kill(engine, query_id) {
                    warn!(%error, query_id, "failed to stop a statement");
                }
            }
            thread::park_timeout(Self::AGAIN_AFTER);
        }
    }
}
