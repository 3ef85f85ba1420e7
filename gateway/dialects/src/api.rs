//! The APIs of clients and of providers.

/// An API that clients call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientApi {
    /// OpenAI `POST /v1/chat/completions`.
    ChatCompletions,
    /// OpenAI `POST /v1/embeddings`.
    Embeddings,
    /// OpenAI `POST /v1/responses`.
    Responses,
    /// Anthropic `POST /v1/messages`.
    Messages,
    /// Anthropic `POST /v1/messages/count_tokens`.
    CountTokens,
}

impl ClientApi {
    pub const ALL: [Self; 5] = [
        Self::ChatCompletions,
        Self::Embeddings,
        Self::Responses,
        Self::Messages,
        Self::CountTokens,
    ];

    /// The API at a path, if any.
    #[must_use]
    pub fn from_path(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|api| api.path() == path)
    }

    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::ChatCompletions => "/v1/chat/completions",
            Self::Embeddings => "/v1/embeddings",
            Self::Responses => "/v1/responses",
            Self::Messages => "/v1/messages",
            Self::CountTokens => "/v1/messages/count_tokens",
        }
    }

    /// The name that events, metrics and settings carry.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ChatCompletions => "openai.chat",
            Self::Embeddings => "openai.embeddings",
            Self::Responses => "openai.responses",
            Self::Messages => "anthropic.messages",
            Self::CountTokens => "anthropic.count_tokens",
        }
    }

    /// The shape of its answers.
    pub(crate) const fn answer_format(self) -> AnswerFormat {
        match self {
            Self::ChatCompletions | Self::Embeddings => AnswerFormat::Chat,
            Self::Messages | Self::CountTokens => AnswerFormat::Messages,
            Self::Responses => AnswerFormat::Responses,
        }
    }

    /// Whose conventions its errors and headers follow.
    #[must_use]
    pub const fn family(self) -> Family {
        match self {
            Self::ChatCompletions | Self::Embeddings | Self::Responses => Family::OpenAi,
            Self::Messages | Self::CountTokens => Family::Anthropic,
        }
    }
}

/// The shape of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AnswerFormat {
    Chat,
    Messages,
    Responses,
}

/// Whose conventions a client expects: envelope of errors, shape of the models list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    OpenAi,
    Anthropic,
}

impl Family {
    /// The family of a client on a shared path: Anthropic clients always send their version.
    #[must_use]
    pub fn from_headers(headers: &http::HeaderMap) -> Self {
        if headers.contains_key("anthropic-version") {
            Self::Anthropic
        } else {
            Self::OpenAi
        }
    }
}

/// A wire format that providers speak. Vendors of one format are rows of [`crate::vendors`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProviderDialect {
    /// OpenAI chat completions and embeddings; many vendors speak it.
    OpenAi,
    /// OpenAI responses.
    OpenAiResponses,
    /// Anthropic messages.
    Anthropic,
    /// Google Gemini `generateContent` and `streamGenerateContent`.
    Gemini,
}

/// An API of a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UpstreamApi {
    ChatCompletions,
    Embeddings,
    Responses,
    Messages,
    CountTokens,
    GenerateContent,
    GeminiCountTokens,
    BatchEmbedContents,
}

impl UpstreamApi {
    /// Whether a conversation needs a turn besides the system prompt.
    pub(crate) const fn wants_user_turn(self) -> bool {
        matches!(
            self,
            Self::Messages | Self::CountTokens | Self::GenerateContent | Self::GeminiCountTokens
        )
    }

    pub(crate) const fn is_claude(self) -> bool {
        matches!(self, Self::Messages | Self::CountTokens)
    }

    /// Whether it is the client's own API, so that bytes can pass unchanged.
    #[must_use]
    pub const fn is_native_to(self, api: ClientApi) -> bool {
        matches!(
            (self, api),
            (Self::ChatCompletions, ClientApi::ChatCompletions)
                | (Self::Embeddings, ClientApi::Embeddings)
                | (Self::Responses, ClientApi::Responses)
                | (Self::Messages, ClientApi::Messages)
                | (Self::CountTokens, ClientApi::CountTokens)
        )
    }
}
