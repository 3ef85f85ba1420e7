//! A background thread that can be stopped.

use std::io;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;

/// A named thread that runs until it is stopped. Dropping it stops it too; either way the caller
/// waits until it has ended.
#[derive(Debug)]
pub struct StoppableThread {
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

/// Tells a thread, or the futures that it runs, to stop.
#[derive(Clone, Debug)]
pub struct StopSignal(watch::Receiver<bool>);

impl StoppableThread {
    /// Starts `run`, which must return soon after its signal is set.
    pub fn start(name: &str, run: impl FnOnce(StopSignal) + Send + 'static) -> io::Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || run(StopSignal(stopped)))?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }

    /// Ends a [`StopSignal::sleep`] of the thread early.
    pub fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }

    /// Stops the thread and waits until it has ended.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for StoppableThread {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        self.wake();
        let Some(thread) = self.thread.take() else {
            return;
        };
        let name = thread.thread().name().unwrap_or_default().to_owned();
        if thread.join().is_err() {
            tracing::error!(thread = name, "a thread panicked");
        }
    }
}

impl StopSignal {
    #[must_use]
    pub fn is_set(&self) -> bool {
        *self.0.borrow()
    }

    /// Sleeps until the time is over, the thread is woken, or it is to stop. `false` if it is to
    /// stop. For the thread itself only.
    pub fn sleep(&self, time: Duration) -> bool {
        if !self.is_set() {
            std::thread::park_timeout(time);
        }
        !self.is_set()
    }

    /// The signal for async code: `true` once the thread is to stop.
    #[must_use]
    pub fn receiver(&self) -> watch::Receiver<bool> {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn a_sleeping_thread_wakes_on_demand_and_ends_when_stopped() {
        let (rounds, seen) = mpsc::channel();
        let thread = StoppableThread::start("test", move |stop| {
            while stop.sleep(LONG) {
                rounds.send("round").unwrap();
            }
            rounds.send("end").unwrap();
        })
        .unwrap();
        thread.wake();
        assert_eq!(seen.recv(), Ok("round"));
        thread.stop();
        assert_eq!(seen.try_iter().last(), Some("end"));
    }

    #[test]
    fn dropping_it_stops_async_code_too() {
        let thread = StoppableThread::start("test", |stop| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .build()
                .unwrap();
            let stopped = async move { stop.receiver().wait_for(|stop| *stop).await.map(|_| ()) };
            runtime.block_on(stopped).unwrap();
        });
        drop(thread.unwrap());
    }

    #[test]
    fn a_panic_in_it_stays_in_it() {
        StoppableThread::start("test", |_| panic!("on purpose"))
            .unwrap()
            .stop();
    }
}
