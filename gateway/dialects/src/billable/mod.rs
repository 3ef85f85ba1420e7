//! What of a request is billed, as far as its body tells.

mod scan;

/// What of a request's size can be seen in its body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Billable {
    pub(crate) body_bytes: u64,
    /// Of those, the ones that are images, audio or files, and no text.
    pub(crate) file_bytes: u64,
    pub(crate) images: u64,
    /// Audio, as Base64.
    pub(crate) audio_bytes: u64,
    /// What the prompt also holds that is not in the body, or not as text: the first thing found.
    pub(crate) outside: Option<&'static str>,
    /// What nothing bounds: the first thing found.
    pub(crate) unbounded: Option<&'static str>,
    pub(crate) tools: ProviderTools,
    /// Calls of provider's tools that the whole request allows.
    pub(crate) tool_calls_max: Option<u64>,
    /// Whether it offers tools, or asks for a format.
    pub(crate) has_preamble: bool,
    /// Whether audio may be answered.
    pub(crate) audio_output: bool,
    /// Whether it may ask for writes to the cache.
    pub(crate) cache_writes: bool,
    /// Whether these may have to live for an hour or longer.
    pub(crate) long_cache_writes: bool,
    /// Whether parts of a prediction that were rejected are billed as output.
    pub(crate) has_prediction: bool,
    /// Whether its limit on tokens is the older one of chat, `max_tokens`.
    pub(crate) has_old_limit: bool,
    /// The service tier that it asks for, unless it leaves the choice to the provider.
    pub(crate) tier: Option<Box<str>>,
}

/// Tools of a request that are not described in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ProviderTools {
    /// Those that the client runs and the provider describes.
    pub(crate) described: u64,
    /// Those that the provider runs.
    pub(crate) run: u64,
    /// How often it does, if each of them has a limit.
    pub(crate) max_uses: Option<u64>,
    pub(crate) web_search: bool,
    pub(crate) file_search: bool,
    pub(crate) code_execution: bool,
}

impl ProviderTools {
    fn add(&mut self, max_uses: Option<u64>) {
        let before = if self.run == 0 {
            Some(0)
        } else {
            self.max_uses
        };
        self.run += 1;
        let both = before.zip(max_uses);
        self.max_uses = both.map(|(before, more): (u64, u64)| before.saturating_add(more));
    }
}
