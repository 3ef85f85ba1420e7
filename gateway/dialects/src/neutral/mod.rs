//! The neutral model between two dialects: one form of a request, one form of an answer.
//!
//! A client's request is read into a [`Request`] and written for the provider. A provider's answer,
//! plain or streamed, is read into [`AnswerEvent`]s, from which the client's answer is written. So
//! each dialect is read and written once, not once per pair.
//!
//! Text stays escaped; schemas and arguments stay JSON.

mod arguments_end;
mod cache_marks;
mod citation;
mod event;
mod fields;
mod given;
mod loss_report;
mod media;
mod openai_tools;
mod request;
mod request_writer;
mod signature;
mod tool_names;

pub(crate) use arguments_end::ArgumentsEnd;
pub(crate) use cache_marks::{CacheMarks, take_message_mark, take_tool_mark, with_marks};
pub(crate) use citation::{CITATION_MARK, Citation, CitedText};
pub(crate) use event::{AnswerEvent, EventSink, ToolUse, emit};
pub(crate) use fields::{Fields, is_empty_list};
pub(crate) use given::Given;
pub(crate) use loss_report::{Feature, LossReport};
pub(crate) use media::{
    CHAT_MEDIA, CLAUDE_MEDIA, GEMINI_MEDIA, MediaRules, OPENAI_CHAT_MEDIA, RESPONSES_MEDIA,
    media_type_of_name,
};
pub(crate) use openai_tools::{
    fnv_1a, free_text_arguments, free_text_tool, put_user, read_arguments, read_arguments_schema,
    short_id,
};
pub use request::Effort;
pub(crate) use request::{
    EMPTY_MESSAGE, Format, FreeTextTool, JsonSchema, MediaSource, Part, Reasoning, Request, Role,
    Sampling, Summary, Tool, ToolCall, ToolChoice, Turn, arguments_object, joined_text,
    tool_result,
};
pub(crate) use request_writer::{RequestWriter, is_default};
pub(crate) use signature::{ReasoningSignature, SIGNATURE_MARK, SignatureOrigin};
pub(crate) use tool_names::{StandIn, ToolNameRules};
