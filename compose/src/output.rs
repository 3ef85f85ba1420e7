//! Standard output, and notes beside it.
//!
//! A terminal takes some characters for commands, and clients choose what stands in some texts: there,
//! control characters are shown instead of sent.
//!
//! A reader that has seen enough, such as `head`, closes the pipe. That ends the command quietly; a
//! broken connection does not, although the operating system reports both as a broken pipe.

use std::fmt;
use std::io::{self, IsTerminal as _, Write};

use serde::Serialize;

/// Standard output.
#[derive(Debug)]
pub(crate) struct Stdout {
    inner: io::Stdout,
    /// What a terminal gets.
    shown: Option<ForTerminal>,
}

/// A line on stderr for whoever runs the command. That nobody can read it stops nothing.
pub(crate) fn note(text: impl fmt::Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// The reader of standard output has closed it.
#[derive(Debug, thiserror::Error)]
#[error("the output is closed")]
struct OutputClosed;

/// The command failed, and its output says so: nothing is left to print.
#[derive(Debug, thiserror::Error)]
#[error("the output says what failed")]
pub(crate) struct Reported;

pub(crate) fn stdout() -> Stdout {
    let inner = io::stdout();
    let shown = inner.is_terminal().then(ForTerminal::default);
    Stdout { inner, shown }
}

/// Shows control characters: ␛ for ESC. Line breaks and tabs stay.
#[derive(Debug, Default)]
struct ForTerminal {
    /// The first byte of a character that may be a control character of two bytes.
    held: bool,
}

/// The first byte of U+0080 to U+00BF in UTF-8; those up to U+009F are control characters.
const C1_LEAD: u8 = 0xc2;

impl ForTerminal {
    fn show(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len() + 16);
        for &byte in bytes {
            let mut encoded = [0; 4];
            match (std::mem::take(&mut self.held), byte) {
                (true, 0x80..=0x9f) => {
                    out.extend_from_slice("\u{fffd}".as_bytes());
                    continue;
                }
                (true, _) => out.push(C1_LEAD),
                (false, _) => {}
            }
            match byte {
                C1_LEAD => self.held = true,
                b'\n' | b'\t' => out.push(byte),
                0..0x20 => {
                    let picture = char::from_u32(0x2400 + u32::from(byte)).unwrap_or('\u{fffd}');
                    out.extend_from_slice(picture.encode_utf8(&mut encoded).as_bytes());
                }
                0x7f => out.extend_from_slice("\u{2421}".as_bytes()),
                _ => out.push(byte),
            }
        }
        out
    }
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
        match &mut self.shown {
            None => self.inner.write(bytes).map_err(mark_closed),
            Some(shown) => {
                let shown = shown.show(bytes);
                self.inner.write_all(&shown).map_err(mark_closed)?;
                Ok(bytes.len())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush().map_err(mark_closed)
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
    fn a_terminal_is_shown_control_characters_and_gets_none() {
        let text = "a\u{1b}[2Jb\u{9b}31m\u{7}\u{8}\r\u{7f}é\u{a0}ü│\n\t1";
        for size in [1, 2, 3, 1000] {
            let mut shown = ForTerminal::default();
            let pieces = text.as_bytes().chunks(size);
            let out: Vec<u8> = pieces.flat_map(|piece| shown.show(piece)).collect();
            assert_eq!(
                String::from_utf8(out).unwrap(),
                "a␛[2Jb\u{fffd}31m␇␈␍␡é\u{a0}ü│\n\t1"
            );
        }
    }

    #[test]
    fn a_closed_output_is_told_from_a_broken_connection() {
        let broken = || io::Error::from(io::ErrorKind::BrokenPipe);
        let output = anyhow::Error::from(mark_closed(broken())).context("write the result");
        assert!(is_closed(&output));
        let connection = anyhow::Error::from(broken()).context("ask the store");
        assert!(!is_closed(&connection));
    }
}
