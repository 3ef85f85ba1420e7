//! OpenAI responses.
//!
//! Source: platform.openai.com/docs/api-reference/responses and, for streams,
//! platform.openai.com/docs/api-reference/responses-streaming.

mod items;
mod native;
mod read_answer;
mod read_request;
mod write_answer;
mod write_request;

pub(crate) use native::{edits as native_edits, holds_free_text};
pub(crate) use read_answer::{ResponsesReader, read_plain};
pub(crate) use read_request::read_request;
pub(crate) use write_answer::{ResponsesWriter, write_plain};
pub(crate) use write_request::write_request;
