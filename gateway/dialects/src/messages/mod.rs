//! Anthropic messages.
//!
//! Source: platform.claude.com/docs/en/api/messages and, for streams,
//! platform.claude.com/docs/en/build-with-claude/streaming.

mod native;
mod read_answer;
mod read_request;
mod structured;
mod write_answer;
mod write_request;

pub(crate) use native::edits as native_edits;
pub(crate) use read_answer::{MessagesReader, read_plain, stop_reason};
pub(crate) use read_request::read_request;
pub(crate) use write_answer::{MessagesWriter, write_plain};
pub(crate) use write_request::write_request;

/// Version of the API if the client names none.
pub(crate) const VERSION: &str = "2023-06-01";
