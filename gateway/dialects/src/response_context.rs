//! What must be known of a request to read its answer.

use crate::api::{ClientApi, UpstreamApi};
use crate::json::Text;
use crate::neutral::StandIn;
use crate::upstream_error::ErrorRow;

/// What must be known of a request to read its answer.
#[derive(Clone, Debug)]
pub struct ResponseContext {
    pub(crate) api: ClientApi,
    pub(crate) upstream: UpstreamApi,
    pub(crate) provider: &'static str,
    /// What the vendor's error codes mean that mean something else elsewhere.
    pub(crate) errors: &'static [ErrorRow],
    /// Whether only the gateway asked for the usage chunk, which the client must not see.
    pub(crate) strips_usage: bool,
    /// Whether the client asked for a stream.
    pub(crate) wants_stream: bool,
    /// Whether the client asked for the usage chunk of a stream.
    pub(crate) wants_usage: bool,
    /// How many answers the provider was asked for.
    pub(crate) choices: u64,
    pub(crate) identity: AnswerIdentity,
    /// The client's tools that take free text.
    pub(crate) free_text_tools: Vec<String>,
    /// Names that stand for those of the client's tools.
    pub(crate) stand_ins: Vec<StandIn>,
    pub(crate) conversion: Option<Conversion>,
    /// Whether client and provider speak the same dialect, but the request was translated.
    pub(crate) is_rewritten: bool,
}

impl ResponseContext {
    /// The context of a plain request without anything special.
    pub(crate) fn new(api: ClientApi, upstream: UpstreamApi) -> Self {
        Self {
            api,
            upstream,
            provider: "",
            errors: &[],
            strips_usage: false,
            wants_stream: false,
            wants_usage: false,
            choices: 1,
            identity: AnswerIdentity::default(),
            free_text_tools: Vec::new(),
            stand_ins: Vec::new(),
            conversion: None,
            is_rewritten: false,
        }
    }

    /// Whether an answer of this form passes unchanged. A stream that the client did not ask for, or
    /// a plain answer where it asked for a stream, is translated into the form that it asked for.
    pub(crate) fn passes(&self, is_stream: bool) -> bool {
        let has_forms = !matches!(
            self.upstream,
            UpstreamApi::Embeddings | UpstreamApi::CountTokens
        );
        self.is_passthrough() && !(has_forms && is_stream != self.wants_stream)
    }

    /// Whether client and provider speak the same dialect, with the same tools.
    #[must_use]
    pub const fn is_passthrough(&self) -> bool {
        self.upstream.is_native_to(self.api) && !self.is_rewritten
    }
}

/// An answer that is not a conversation, and is converted as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Conversion {
    /// Gemini's embeddings into OpenAI's.
    Embeddings { base64: bool },
    /// Gemini's count of tokens into Anthropic's.
    Count,
}

/// The ids, model and time of an answer for which the provider gives none.
#[derive(Clone, Debug, Default)]
pub(crate) struct AnswerIdentity {
    pub(crate) request_id: String,
    /// Model that the provider was asked for.
    pub(crate) model: String,
    pub(crate) created_s: u64,
}

impl AnswerIdentity {
    /// The provider's id, or one made from the request's.
    pub(crate) fn answer_id(&self, given: Option<&Text<'_>>, prefix: &str) -> Text<'static> {
        match given {
            Some(id) if !id.is_empty() => id.clone().into_owned(),
            _ => Text::owned(format!("{prefix}{}", self.request_id)),
        }
    }

    pub(crate) fn model(&self, given: Option<&Text<'_>>) -> Text<'static> {
        match given {
            Some(model) if !model.is_empty() => model.clone().into_owned(),
            _ => Text::owned(self.model.clone()),
        }
    }

    /// The provider's id of a tool call, or one made from the request's. OpenAI, to which the
    /// conversation may move, takes ids of 40 characters, so there is no room for hyphens.
    pub(crate) fn call_id(&self, given: Option<&Text<'_>>, index: usize) -> Text<'static> {
        given.map_or_else(
            || {
                let request_id = self.request_id.replace('-', "");
                Text::owned(format!("call_{request_id}_{index}"))
            },
            |id| id.clone().into_owned(),
        )
    }
}
