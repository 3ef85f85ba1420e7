//! Standard output.
//!
//! A reader that has seen enough, such as `head`, closes the pipe. That ends the command quietly; a
//! broken connection does not, although the operating system reports both as a broken pipe.

use std::io::{self, Write};

use serde::Serialize;

/// Standard output.
#[derive(Debug)]
pub(crate) struct Stdout(io::Stdout);

/// The reader of standard output has closed it.
#[derive(Debug, thiserror::Error)]
#[error("the output is closed")]
struct OutputClosed;

/// The command failed, and its output says so: nothing is left to print.
#[derive(Debug, thiserror::Error)]
#[error("the output says what failed")]
pub(crate) struct Reported;

pub(crate) fn stdout() -> Stdout {
    Stdout(io::stdout())
}

/// Whether a command ended because its output was closed.
pub(crate) fn is_closed(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
            .is_some_and(|inner| inner.is::<OutputClosed>())
    })
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(mark_closed)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(mark_closed)
    }
}

fn mark_closed(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe => io::Error::new(io::ErrorKind::BrokenPipe, OutputClosed),
        _ => error,
    }
}

/// Prints a value as one line of JSON.
pub(crate) fn print(value: &impl Serialize) -> anyhow::Result<()> {
    writeln!(stdout(), "{}", serde_json::to_string(value)?)?;
    Ok(())
}

/// Prints a value as indented JSON.
pub(crate) fn print_pretty(value: &impl Serialize) -> anyhow::Result<()> {
    writeln!(stdout(), "{}", serde_json::to_string_pretty(value)?)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_output_is_told_from_a_broken_connection() {
        let broken = || io::Error::from(io::ErrorKind::BrokenPipe);
        let output = anyhow::Error::from(mark_closed(broken())).context("write the result");
        assert!(is_closed(&output));
        let connection = anyhow::Error::from(broken()).context("ask the store");
        assert!(!is_closed(&connection));
    }
}
