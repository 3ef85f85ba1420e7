//! One switch that ends a run, a demo or a replay early.

use std::sync::Arc;

use tokio::sync::watch;

/// Clones share one switch. It goes one way.
#[derive(Clone, Debug, Default)]
pub struct StopSwitch(Arc<watch::Sender<bool>>);

impl StopSwitch {
    /// May be called from any thread, in or outside of a runtime, any number of times.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }

    #[must_use]
    pub fn is_stopped(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it is pulled.
    pub async fn stopped(&self) {
        // The sender lives in `self`, so that waiting cannot fail.
        let _ = self.0.subscribe().wait_for(|stopped| *stopped).await;
    }
}
