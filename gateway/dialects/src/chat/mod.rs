//! OpenAI chat completions, and the vendors that speak it.
//!
//! Source: platform.openai.com/docs/api-reference/chat, and the vendors' pages named in
//! [`crate::vendors`].

mod native;
mod native_model;
mod read_answer;
mod read_calls;
mod read_request;
mod reasoning_details;
mod write_answer;
mod write_request;

pub(crate) use native::{edits as native_edits, holds_openai_tools};
pub(crate) use read_answer::{ChatReader, finish_reason, read_plain};
pub(crate) use read_request::{
    Nesting, read_audio, read_file, read_format, read_function, read_request, read_tool_choice,
};
pub(crate) use write_answer::{ChatWriter, write_plain};
pub(crate) use write_request::{write_format, write_function, write_request, write_tool_choice};
