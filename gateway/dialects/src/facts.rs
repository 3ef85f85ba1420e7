//! What is learned from an answer, and why one cannot be passed on.

use thiserror::Error;
use weir_schemas::{OtherModelUsage, Usage};

use crate::caps;
use crate::upstream_error::UpstreamErrorFacts;

/// What the meter needs to know of an answer. Filled while it passes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ResponseFacts {
    /// Usage that the provider reports.
    pub usage: Option<Usage>,
    /// Model that the provider reports.
    pub upstream_model: Option<String>,
    /// Id that the provider gave the answer.
    pub upstream_id: Option<String>,
    pub finish_reason: Option<FinishReason>,
    /// Service tier that the provider reports.
    pub service_tier: Option<String>,
    /// Where the provider says the model ran, if that has a price of its own.
    pub inference_geo: Option<String>,
    /// Usage at other models within the same call; `usage` does not include it.
    pub other_models: Vec<OtherModelUsage>,
    /// Whether a part of the answer itself was seen: text, reasoning or a tool call. The chunk that
    /// only announces the role does not count.
    pub first_token_seen: bool,
    /// Whether the output so far includes the answer's end. Events are journaled before it is sent.
    pub terminal_seen: bool,
    /// Error that the provider reported inside its answer.
    pub provider_error: Option<UpstreamErrorFacts>,
    /// What of the answer had no place in the client's dialect.
    pub lost: Vec<&'static str>,
    /// Bytes of text, reasoning and tool calls, for estimates without reported usage. JSON escapes
    /// count.
    pub text_bytes: u64,
    /// The beginning of that text, at most [`caps::TEXT_SAMPLE_BYTES_MAX`].
    pub text_sample: Vec<u8>,
    /// Chunks with any such text. Most providers send about one token per chunk.
    pub text_chunks: u64,
    /// Bytes returned for the client.
    pub output_bytes: u64,
}

impl ResponseFacts {
    /// Notes that a part of the answer has no place in the client's dialect.
    pub(crate) fn lose(&mut self, what: &'static str) {
        if !self.lost.contains(&what) {
            self.lost.push(what);
        }
    }

    /// Counts the search that each call of OpenAI's search models makes, and that it bills beside the
    /// tokens without counting it (developers.openai.com/api/docs/pricing, November 2026).
    pub(crate) fn count_search_of_model(&mut self) {
        if let (Some(model), Some(usage)) = (&self.upstream_model, &mut self.usage)
            && is_search_model(model)
        {
            usage.web_searches = usage.web_searches.max(Some(1));
        }
    }

    /// Counts a piece of the answer's text, escaped as JSON holds it.
    pub(crate) fn add_text(&mut self, text: &[u8]) {
        self.text_bytes += text.len() as u64;
        let room = caps::TEXT_SAMPLE_BYTES_MAX.saturating_sub(self.text_sample.len());
        self.text_sample
            .extend_from_slice(&text[..text.len().min(room)]);
    }
}

/// Whether each call of a model makes a search.
pub(crate) fn is_search_model(model: &str) -> bool {
    let name = model.rsplit('/').next().unwrap_or_default();
    name.starts_with("gpt-") && name.contains("-search-")
}

/// Why the model stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The answer is complete, or met a stop sequence.
    Stop,
    /// The limit on output tokens, or the context window.
    Length,
    ToolCalls,
    ContentFilter,
    /// The model declined.
    Refusal,
    /// The provider paused a long turn, to be continued by the client.
    Pause,
    /// The provider gave up.
    Error,
    /// An unknown reason.
    Other,
}

impl FinishReason {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
            Self::ContentFilter => "content_filter",
            Self::Refusal => "refusal",
            Self::Pause => "pause",
            Self::Error => "error",
            Self::Other => "other",
        }
    }
}

/// Why an answer cannot be passed on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StreamError {
    #[error("the provider's answer ended before it was complete")]
    Truncated,
    #[error("the provider's answer is malformed: {reason}")]
    Malformed { reason: String },
    #[error("the provider's answer exceeds the {bytes_max} bytes that can be translated")]
    TooLarge { bytes_max: usize },
    #[error("the provider reported an error inside its answer: {}", .0.message)]
    Provider(UpstreamErrorFacts),
}

impl StreamError {
    pub(crate) const TOO_LARGE: Self = Self::TooLarge {
        bytes_max: caps::TRANSLATED_BODY_BYTES_MAX,
    };

    pub(crate) fn malformed(reason: impl ToString) -> Self {
        Self::Malformed {
            reason: reason.to_string(),
        }
    }
}
