//! The structure of a body: which model was asked, with which tools and parameters, without the text.
//!
//! Only fields that an API is known to have are kept, and of texts only words that name a kind, a model
//! or a tool. Anything else is given by its size.

use crate::detect::Redactor;
use crate::tree::Tree;

/// Longest text that can be a word.
const WORD_BYTES_MAX: usize = 64;

/// Fields that are part of the APIs, in requests and answers.
#[rustfmt::skip]
const FIELDS: &[&str] = &[
    "annotations", "arguments", "cache_control", "choices", "code", "completion_tokens_details", "content",
    "content_filter_results", "created", "created_at", "data", "description", "detail", "dimensions",
    "disable_parallel_tool_use", "effort", "embedding", "enabled", "encoding_format", "error", "file",
    "finish_reason", "format", "frequency_penalty", "function", "functions", "image_url", "include_usage",
    "incomplete_details", "index", "input", "input_audio", "input_schema", "input_tokens_details",
    "instructions", "is_error", "json_schema", "media_type", "message", "messages", "metadata", "model", "n",
    "name", "object", "output", "output_config", "output_tokens_details", "parallel_tool_calls", "parameters",
    "param", "presence_penalty", "prompt_tokens_details", "reason", "reasoning", "reasoning_content",
    "reasoning_effort", "refusal", "response_format", "role", "schema", "seed", "server_tool_use",
    "service_tier", "signature", "source", "status", "stop", "stop_reason", "stop_sequence",
    "stop_sequences", "store", "stream", "stream_options", "strict", "summary", "system", "temperature",
    "text", "thinking", "tool_calls", "tool_choice", "tools", "top_k", "top_logprobs", "top_p", "truncation",
    "ttl", "type", "url", "usage", "user", "verbosity",
];

/// Fields whose text is one of a few words.
#[rustfmt::skip]
const WORDS: &[&str] = &[
    "code", "detail", "effort", "encoding_format", "finish_reason", "format", "media_type", "model", "object",
    "reason", "reasoning_effort", "role", "service_tier", "status", "stop_reason", "tool_choice", "truncation",
    "ttl", "type", "verbosity",
];

/// Fields that hold text of the conversation.
const TEXTS: &[&str] = &["content", "input", "text"];

/// Fields below which names are the application's own.
#[rustfmt::skip]
const FOREIGN: &[&str] = &["arguments", "input_schema", "metadata", "parameters", "schema"];

/// Objects that are a tool or the call of one, by the name of their field.
const TOOLS: &[&str] = &["function", "functions", "tool_choice", "tools"];

/// The structure of a body.
pub(crate) fn of(tree: &Tree, redactor: &Redactor) -> Tree {
    let Tree::Object(_) = tree else {
        return size(tree);
    };
    below("", tree, redactor)
}

/// The structure of a field's value.
fn below(name: &str, tree: &Tree, redactor: &Redactor) -> Tree {
    // The input of a tool's call is an object of the application's; that of an API is none.
    let is_foreign =
        FOREIGN.contains(&name) || (name == "input" && matches!(tree, Tree::Object(_)));
    match tree {
        _ if is_foreign => size(tree),
        // A number in the place of a text is one in another form: a token id, say.
        Tree::Number(_) if TEXTS.contains(&name) => Tree::Text("[number]".into()),
        Tree::Null | Tree::Bool(_) | Tree::Number(_) => tree.clone(),
        Tree::Text(text) if WORDS.contains(&name) && is_word(text, redactor) => tree.clone(),
        Tree::Text(_) => size(tree),
        Tree::List(items) => {
            let items = items.iter().map(|item| below(name, item, redactor));
            Tree::List(items.collect())
        }
        Tree::Object(fields) => {
            let is_tool = TOOLS.contains(&name)
                || tree.text_of("type").is_some_and(|kind| {
                    kind.ends_with("tool_use") || kind.ends_with("call") || kind == "function"
                });
            let known = fields
                .iter()
                .filter(|(name, _)| name.ends_with("_tokens") || FIELDS.contains(&&**name));
            let known = known.map(|(name, value)| {
                let shaped = match value {
                    Tree::Text(text) if name == "name" && is_tool && is_word(text, redactor) => {
                        value.clone()
                    }
                    value => below(name, value, redactor),
                };
                (name.clone(), shaped)
            });
            Tree::Object(known.collect())
        }
    }
}

fn size(tree: &Tree) -> Tree {
    Tree::Text(format!("[{} bytes]", tree.text_bytes()))
}

/// Whether a text can name a kind, and is not a secret.
fn is_word(text: &str, redactor: &Redactor) -> bool {
    let of_word = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:/-".contains(&byte);
    !text.is_empty()
        && text.len() <= WORD_BYTES_MAX
        && text.bytes().all(of_word)
        && !redactor.finds(text)
}
