//! OpenAI chat completions, and the vendors that speak it.
//!
//! Source: platform.openai.com/docs/api-reference/chat, and the vendors' pages named in
//! [`crate::vendors`].

mod native;
mod read_answer;
mod read_request;
mod write_answer;
mod write_request;

pub(crate) use native::edits as native_edits;
pub(crate) use read_answer::{StreamReader, lenient_text, read_plain};
pub(crate) use read_request::{
    read_arguments, read_audio, read_effort, read_file, read_function, read_request, read_schema,
    read_tool_choice_word,
};
pub(crate) use write_answer::{StreamWriter, cache_writes, put_count, write_plain};
pub(crate) use write_request::{joined_text, write_request};
