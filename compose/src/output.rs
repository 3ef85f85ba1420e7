//! Where commands write what they were asked for.
//!
//! A reader that has seen enough, as `head`, closes the pipe. That ends the command quietly; a
//! connection that breaks does not, although the system's word for both is the same.

use std::io::{self, Write};

use serde_json::Value;

/// Standard output.
#[derive(Debug)]
pub(crate) struct Output(io::Stdout);

/// Nobody reads standard output any more.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads the output any more")]
struct Closed;

pub(crate) fn stdout() -> Output {
    Output(io::stdout())
}

/// Whether a command ended because nobody reads its output any more.
pub(crate) fn is_closed(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
            .is_some_and(|inner| inner.is::<Closed>())
    })
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(told)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(told)
    }
}

fn told(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe => io::Error::new(io::ErrorKind::BrokenPipe, Closed),
        _ => error,
    }
}

/// Prints a value as one line of JSON.
pub(crate) fn print(value: &Value) -> anyhow::Result<()> {
    writeln!(stdout(), "{value}")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_output_is_told_from_a_broken_connection() {
        let broken = || io::Error::from(io::ErrorKind::BrokenPipe);
        let output = anyhow::Error::from(told(broken())).context("write the result");
        assert!(is_closed(&output));
        let connection = anyhow::Error::from(broken()).context("ask the store");
        assert!(!is_closed(&connection));
    }
}
