//! Token counts as providers report them.

use serde::{Deserialize, Serialize};

/// Declares [`Usage`], and names its counts.
macro_rules! declare_usage {
    ($($(#[$doc:meta])* $count:ident,)*) => {
        /// What one call consumed. A count that was not reported is absent, which is not the same as
        /// zero.
        ///
        /// The counts of tokens nest the way OpenAI's do: `input_tokens` and `output_tokens` are the
        /// wholes and include their parts. Cached audio and cached images are parts of two parts. A
        /// provider that reports parts beside the whole (Anthropic) is brought into this form where
        /// its answer is read.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        pub struct Usage {
            $($(#[$doc])*
            #[serde(serialize_with = "crate::count::bounded_option")]
            pub $count: Option<u64>,)*
        }

        impl Usage {
            /// The names of all counts.
            pub const NAMES: [&str; [$(stringify!($count)),*].len()] = [$(stringify!($count)),*];

            /// Takes over each count that is larger. One call may be reported in several pieces, some of
            /// which hold placeholders: their order does not matter, and a zero never replaces a count.
            pub fn merge(&mut self, said: &Self) {
                $(self.$count = self.$count.max(said.$count);)*
            }

            /// The counts that are there, by their names.
            pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
                let counts = [$((stringify!($count), self.$count),)*];
                counts.into_iter().filter_map(|(name, count)| Some((name, count?)))
            }

            /// A count by its name, to be written.
            pub fn count_mut(&mut self, name: &str) -> Option<&mut Option<u64>> {
                match name {
                    $(stringify!($count) => Some(&mut self.$count),)*
                    _ => None,
                }
            }
        }
    };
}

declare_usage! {
    input_tokens,
    cached_input_tokens,
    /// Written to the cache for five minutes, or for a lifetime that the provider does not name.
    cache_write_5m_tokens,
    cache_write_30m_tokens,
    cache_write_1h_tokens,
    cache_write_12h_tokens,
    audio_input_tokens,
    /// Part of both the cached and the audio tokens.
    cached_audio_input_tokens,
    image_input_tokens,
    /// Part of both the cached and the image tokens.
    cached_image_input_tokens,
    video_input_tokens,
    output_tokens,
    reasoning_tokens,
    audio_output_tokens,
    image_output_tokens,
    video_output_tokens,
    citation_tokens,
    /// Calls of tools that run at the provider.
    web_searches,
    file_searches,
    code_executions,
    /// Length of the audio, where it is billed by that.
    audio_input_ms,
}

impl Usage {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds another call's counts. What neither has stays absent.
    pub fn add(&mut self, other: &Self) {
        for (name, count) in other.counts() {
            if let Some(own) = self.count_mut(name) {
                *own = Some(own.unwrap_or(0).saturating_add(count));
            }
        }
    }
}

/// What a call consumed at a model beside the one that answered, such as one that it asked for advice.
/// The call's own [`Usage`] does not include it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OtherModelUsage {
    pub model: String,
    pub usage: Usage,
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
