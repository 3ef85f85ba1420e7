//! Where log lines go: into a queue, from which a thread of its own writes them to stderr.
//!
//! Whoever logs never waits for whoever reads. If the reader hangs, the queue fills, and what has no room is
//! lost and counted; the part `log` says so. If it is gone, or its disk is full, its lines are lost.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use weir_eventlog::{PartHandle, Parts};

/// Lines that wait for their reader at most.
const LINES_MAX: usize = 8192;
/// How long the end of the process waits for its last lines.
const FLUSH_MAX: Duration = Duration::from_secs(1);
const FLUSH_LOOK: Duration = Duration::from_millis(5);

/// The log of this process. Dropping it writes what is in the queue, unless the reader hangs.
#[derive(Clone)]
pub(crate) struct LogQueue {
    entries: SyncSender<LogEntry>,
    loss: Arc<LogLoss>,
}

enum LogEntry {
    Line(Vec<u8>),
    /// All lines before it are written: say so.
    Flush(SyncSender<()>),
}

#[derive(Default)]
struct LogLoss {
    /// Lines that are lost and not spoken of yet.
    lines: AtomicU64,
    part: OnceLock<PartHandle>,
}

impl LogQueue {
    /// Starts the thread that writes to stderr.
    pub(crate) fn start() -> Self {
        let (queue, lines) = Self::new(LINES_MAX);
        let loss = Arc::clone(&queue.loss);
        let write = move || write_all(&lines, &loss, &mut io::stderr());
        // Without the thread every line is lost, and nothing else.
        let _ = std::thread::Builder::new().name("log".into()).spawn(write);
        queue
    }

    fn new(lines_max: usize) -> (Self, Receiver<LogEntry>) {
        let (entries, queued) = sync_channel(lines_max);
        let loss = Arc::default();
        (Self { entries, loss }, queued)
    }

    /// Makes the log a part of the process.
    pub(crate) fn join(&self, parts: &Parts) {
        self.loss.part.get_or_init(|| parts.add("log"));
    }

    /// Puts a line of our own at the end.
    pub(crate) fn say(&self, line: &str) {
        self.put(format!("{line}\n").into_bytes());
    }

    fn put(&self, line: Vec<u8>) {
        if let Err(TrySendError::Full(_)) = self.entries.try_send(LogEntry::Line(line)) {
            let lost = self.loss.lines.fetch_add(1, Relaxed) + 1;
            if let Some(part) = self.loss.part.get() {
                part.failed(format!("its reader does not read: {lost} lines are lost"));
            }
        }
    }

    /// Waits until what is in the queue is written, or the reader seems to hang.
    pub(crate) fn flush(&self) {
        let deadline = Instant::now() + FLUSH_MAX;
        let (done, written) = sync_channel(1);
        while Instant::now() < deadline {
            match self.entries.try_send(LogEntry::Flush(done.clone())) {
                Err(TrySendError::Full(_)) => std::thread::park_timeout(FLUSH_LOOK),
                Err(TrySendError::Disconnected(_)) => return,
                Ok(()) => {
                    // An error means that it was in vain.
                    let _ = written.recv_timeout(deadline - Instant::now());
                    return;
                }
            }
        }
    }
}

impl Write for LogQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.put(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Flushes the log when it is dropped, by a panic, too.
pub(crate) struct LogFlush(pub(crate) LogQueue);

impl Drop for LogFlush {
    fn drop(&mut self) {
        self.0.flush();
    }
}

/// Writes lines as they come. A line that cannot be written is lost.
fn write_all(entries: &Receiver<LogEntry>, loss: &LogLoss, out: &mut impl Write) {
    while let Ok(entry) = entries.recv() {
        match entry {
            LogEntry::Line(line) => _ = out.write_all(&line),
            LogEntry::Flush(done) => _ = done.try_send(()),
        }
        let lost = loss.lines.swap(0, Relaxed);
        if lost > 0 {
            let _ = writeln!(
                out,
                "{lost} log lines are lost: the log's reader did not read"
            );
            if let Some(part) = loss.part.get() {
                part.ok();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_beyond_the_bound_are_lost_and_counted_and_nobody_waits() {
        let parts = Parts::default();
        let (mut queue, entries) = LogQueue::new(2);
        queue.join(&parts);
        for line in ["one\n", "two\n", "three\n", "four\n"] {
            queue.write_all(line.as_bytes()).unwrap();
        }
        let reason = parts.statuses()[0].reason.clone().unwrap();
        assert!(reason.contains("2 lines are lost"), "{reason}");
        let loss = Arc::clone(&queue.loss);
        drop(queue);
        let mut out = Vec::new();
        write_all(&entries, &loss, &mut out);
        let out = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(lines[0], "one");
        assert!(lines[1].starts_with("2 log lines are lost"), "{out}");
        assert_eq!(lines[2], "two");
        assert_eq!(parts.statuses()[0].reason, None);
    }

    #[test]
    fn what_is_queued_is_written_before_a_flush_returns() {
        let (queue, entries) = LogQueue::new(8);
        let loss = Arc::clone(&queue.loss);
        let (mut reader, mut out) = io::pipe().unwrap();
        let writing = std::thread::spawn(move || write_all(&entries, &loss, &mut out));
        queue.say("the end");
        queue.flush();
        let mut written = [0; 8];
        io::Read::read_exact(&mut reader, &mut written).unwrap();
        assert_eq!(&written, b"the end\n");
        drop(queue);
        writing.join().unwrap();
    }
}
