//! Google Gemini, `generateContent` and `streamGenerateContent`.
//!
//! Source: ai.google.dev/api/generate-content, and its guides on thinking, function calling and
//! thought signatures.

mod embeddings;
mod grounding;
mod read_answer;
mod write_request;

pub(crate) use embeddings::{read_embeddings, write_embeddings_request};
pub(crate) use read_answer::{GeminiReader, read_plain};
pub(crate) use write_request::{write_count_request, write_request};
