//! Token counts as providers report them.

use serde::{Deserialize, Serialize};

/// What one call consumed. A count that was not reported is absent, which is not the same as zero.
///
/// The counts nest the way OpenAI's do: `input_tokens` includes the cached, cache-write and audio
/// input tokens, `output_tokens` includes the reasoning and audio output tokens. A provider that
/// reports them side by side (Anthropic) is brought into this form where its answer is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    pub input_tokens: Option<u64>,
    pub cached_input_tokens: Option<u64>,
    pub cache_write_5m_tokens: Option<u64>,
    pub cache_write_1h_tokens: Option<u64>,
    pub audio_input_tokens: Option<u64>,
    pub output_tokens: Option<u64>,
    pub reasoning_tokens: Option<u64>,
    pub audio_output_tokens: Option<u64>,
}

impl Usage {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Where a [`Usage`] came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UsageSource {
    /// The provider said so while the client was listening.
    Reported,
    /// The provider said so after the client had left: the gateway read the stream to its end.
    Drained,
    /// Counted by the gateway, because the provider said nothing.
    Estimated,
    /// Not reported, or there was nothing to report (a refused request).
    #[default]
    None,
}

impl UsageSource {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reported => "reported",
            Self::Drained => "drained",
            Self::Estimated => "estimated",
            Self::None => "none",
        }
    }
}
