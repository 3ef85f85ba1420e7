//! The quirks table: one row per vendor.
//!
//! A vendor that speaks another's dialect is only a row here. Code reads a row's properties and never
//! compares names. Each row cites the page that documents its differences.

use std::time::SystemTime;

use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, InvalidHeaderValue};

use crate::api::{ClientApi, ProviderDialect, UpstreamApi};
use crate::caps::RESPONSES_OUTPUT_TOKENS_MIN;
use crate::generations::{self, Generation, ModelConfig, WrongModel};
use crate::neutral::{CacheMarks, Effort};
use crate::upstream_error::{self, ErrorRow, UpstreamErrorFacts};

/// A vendor, or a self-hosted server.
#[derive(Debug)]
pub struct Vendor {
    /// Its name in the settings.
    pub name: &'static str,
    /// Other names for it.
    pub aliases: &'static [&'static str],
    pub dialect: ProviderDialect,
    /// The base URL, if all accounts share one.
    pub base_url: Option<&'static str>,
    pub auth: Auth,
    pub(crate) paths: Paths,
    pub(crate) chat: ChatQuirks,
    /// What its models take, in the order in which a name is looked up.
    pub(crate) generations: &'static [Generation],
    /// Whether `countTokens` wraps the request in another object.
    pub(crate) wraps_counts: bool,
    /// What its error codes mean that mean something else elsewhere.
    pub(crate) errors: &'static [ErrorRow],
    /// The page that documents its differences.
    pub source: &'static str,
}

/// How requests carry a provider key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// `authorization: Bearer KEY`
    Bearer,
    /// The bare key in a header of its own.
    Header(&'static str),
}

/// The paths of the APIs after the base URL. `{model}` becomes the model's name, `{version}` the API
/// version. `None` for an API that the vendor lacks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paths {
    chat: Option<&'static str>,
    embeddings: Option<&'static str>,
    responses: Option<&'static str>,
    messages: Option<&'static str>,
    count_tokens: Option<&'static str>,
    generate: Option<&'static str>,
    stream_generate: Option<&'static str>,
}

/// How a vendor's chat completions differ from OpenAI's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ChatQuirks {
    /// Whether it is OpenAI itself, with all fields.
    pub(crate) is_openai: bool,
    pub(crate) stream_usage: StreamUsage,
    /// The field that limits output tokens.
    pub(crate) max_tokens: &'static str,
    pub(crate) temperature_max: f64,
    pub(crate) top_k: bool,
    pub(crate) formats: Formats,
    pub(crate) tool_ids: ToolIds,
    /// Whether the name of a tool must begin with a letter or `_`.
    pub(crate) tool_names_begin_with_letter: bool,
    /// The `tool_choice` that requires a tool call.
    pub(crate) tool_required: &'static str,
    /// Whether a tool may have `strict`.
    pub(crate) strict_tools: bool,
    /// Whether it knows tools of free text (`custom`) and `tool_choice: allowed_tools`. Otherwise a
    /// request with them is translated, one of its responses API too.
    pub(crate) openai_tools: bool,
    /// The highest effort that the chat API takes, whatever the model does.
    pub(crate) effort_max: Effort,
    /// The field in which an assistant's message returns its reasoning.
    pub(crate) reasoning_back: Option<&'static str>,
    /// Whether an assistant's message returns OpenRouter's `reasoning_details`.
    pub(crate) reasoning_details: bool,
    /// Whether the vendor accepts unknown fields in an assistant's message, such as another vendor's
    /// reasoning.
    pub(crate) unknown_in_messages: bool,
    /// Whether messages may have the role `developer`. Otherwise it becomes `system`.
    pub(crate) developer_role: bool,
    /// Whether messages may have a `name`.
    pub(crate) message_names: bool,
    /// How to request that it continues the last message.
    pub(crate) prefill: Prefill,
    /// Where it takes `cache_control`.
    pub(crate) cache_marks: CacheMarks,
    /// Renamed fields, as (OpenAI's name, the vendor's).
    pub(crate) renamed: &'static [(&'static str, &'static str)],
    /// Fields that the vendor refuses and that change the answer.
    pub(crate) refused: &'static [&'static str],
    /// Fields that the vendor refuses and that do not change the answer.
    pub(crate) unwanted: &'static [&'static str],
}

/// When a stream reports usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamUsage {
    /// If `stream_options.include_usage` is set.
    OnRequest,
    /// Always; `stream_options` is not sent.
    Always,
}

/// The values of `response_format` that a vendor takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Formats {
    Schema,
    /// `json_object`, but no schema.
    ObjectOnly,
}

/// The ids of tool calls that a vendor takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ToolIds {
    Any,
    /// At most [`CHAT_CALL_ID_CHARS_MAX`](crate::caps::CHAT_CALL_ID_CHARS_MAX) characters.
    Short,
    NineAlphanumeric,
}

/// What a vendor does with an assistant's message at the end of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prefill {
    /// It starts a new answer.
    None,
    /// It continues the message.
    AsItIs,
    /// It continues the message if this field of it is true.
    Marked(&'static str),
    /// It continues the message if this field of it is true, and refuses it otherwise.
    Required(&'static str),
}

const NO_PATHS: Paths = Paths {
    chat: None,
    embeddings: None,
    responses: None,
    messages: None,
    count_tokens: None,
    generate: None,
    stream_generate: None,
};

const CHAT_WITHOUT_EMBEDDINGS: Paths = Paths {
    chat: Some("/chat/completions"),
    ..NO_PATHS
};

const CHAT_PATHS: Paths = Paths {
    embeddings: Some("/embeddings"),
    ..CHAT_WITHOUT_EMBEDDINGS
};

const GEMINI_PATHS: Paths = Paths {
    embeddings: Some("/models/{model}:batchEmbedContents"),
    count_tokens: Some("/models/{model}:countTokens"),
    generate: Some("/models/{model}:generateContent"),
    stream_generate: Some("/models/{model}:streamGenerateContent?alt=sse"),
    ..NO_PATHS
};

const OPENAI_CHAT: ChatQuirks = ChatQuirks {
    is_openai: true,
    stream_usage: StreamUsage::OnRequest,
    max_tokens: "max_completion_tokens",
    temperature_max: 2.0,
    top_k: false,
    formats: Formats::Schema,
    tool_ids: ToolIds::Short,
    tool_names_begin_with_letter: false,
    tool_required: "required",
    strict_tools: true,
    openai_tools: true,
    effort_max: Effort::XHigh,
    reasoning_back: None,
    reasoning_details: false,
    unknown_in_messages: false,
    developer_role: true,
    message_names: true,
    prefill: Prefill::None,
    cache_marks: CacheMarks::Nowhere,
    renamed: &[],
    refused: &[],
    unwanted: &[],
};

/// The common quirks of compatible vendors: the older name of the token limit, no developer role,
/// reasoning as text.
const COMPATIBLE_CHAT: ChatQuirks = ChatQuirks {
    is_openai: false,
    openai_tools: false,
    effort_max: Effort::Max,
    tool_ids: ToolIds::Any,
    max_tokens: "max_tokens",
    reasoning_back: Some("reasoning_content"),
    unknown_in_messages: true,
    developer_role: false,
    renamed: &[("max_completion_tokens", "max_tokens")],
    ..OPENAI_CHAT
};

const OPENAI: Vendor = Vendor {
    name: "openai",
    aliases: &[],
    dialect: ProviderDialect::OpenAi,
    base_url: Some("https://api.openai.com/v1"),
    auth: Auth::Bearer,
    paths: Paths {
        responses: Some("/responses"),
        ..CHAT_PATHS
    },
    chat: OPENAI_CHAT,
    generations: generations::OPENAI,
    wraps_counts: false,
    errors: &[],
    source: "https://platform.openai.com/docs/api-reference/chat",
};

const COMPATIBLE: Vendor = Vendor {
    name: "openai-compatible",
    aliases: &[],
    base_url: None,
    paths: CHAT_PATHS,
    chat: ChatQuirks {
        // An unknown server gets OpenAI's fields under their older names.
        tool_ids: ToolIds::Short,
        developer_role: true,
        renamed: &[],
        reasoning_back: None,
        ..COMPATIBLE_CHAT
    },
    generations: generations::ANY,
    ..OPENAI
};

static VENDORS: &[Vendor] = &[
    OPENAI,
    Vendor {
        // The same account, but chat uses the responses API too.
        name: "openai-responses",
        dialect: ProviderDialect::OpenAiResponses,
        paths: Paths {
            chat: None,
            ..OPENAI.paths
        },
        source: "https://platform.openai.com/docs/api-reference/responses",
        ..OPENAI
    },
    Vendor {
        // The v1 API: model names are deployment names, no version in the URL.
        name: "azure",
        aliases: &["azure-openai"],
        base_url: None,
        auth: Auth::Header("api-key"),
        source: "https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle",
        ..OPENAI
    },
    Vendor {
        // The API of dated versions, with the deployment in the path.
        name: "azure-deployments",
        base_url: None,
        auth: Auth::Header("api-key"),
        paths: Paths {
            chat: Some("/deployments/{model}/chat/completions?api-version={version}"),
            embeddings: Some("/deployments/{model}/embeddings?api-version={version}"),
            ..NO_PATHS
        },
        source: "https://learn.microsoft.com/azure/ai-foundry/openai/reference",
        ..OPENAI
    },
    Vendor {
        name: "anthropic",
        aliases: &["claude"],
        dialect: ProviderDialect::Anthropic,
        base_url: Some("https://api.anthropic.com/v1"),
        auth: Auth::Header("x-api-key"),
        paths: Paths {
            messages: Some("/messages"),
            count_tokens: Some("/messages/count_tokens"),
            ..NO_PATHS
        },
        generations: generations::CLAUDE,
        source: "https://platform.claude.com/docs/en/api/messages",
        ..OPENAI
    },
    Vendor {
        name: "gemini",
        aliases: &["google"],
        dialect: ProviderDialect::Gemini,
        base_url: Some("https://generativelanguage.googleapis.com/v1beta"),
        auth: Auth::Header("x-goog-api-key"),
        paths: GEMINI_PATHS,
        wraps_counts: true,
        generations: generations::GEMINI,
        source: "https://ai.google.dev/api/generate-content",
        ..OPENAI
    },
    Vendor {
        // The base URL ends in `/publishers/google`; the key is an access token.
        name: "vertex",
        dialect: ProviderDialect::Gemini,
        base_url: None,
        paths: Paths {
            embeddings: None,
            ..GEMINI_PATHS
        },
        generations: generations::VERTEX,
        source: "https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/inference",
        ..OPENAI
    },
    Vendor {
        name: "deepseek",
        base_url: Some("https://api.deepseek.com/v1"),
        paths: CHAT_WITHOUT_EMBEDDINGS,
        chat: ChatQuirks {
            formats: Formats::ObjectOnly,
            refused: &["logit_bias", "n", "seed"],
            unwanted: &["parallel_tool_calls"],
            ..COMPATIBLE_CHAT
        },
        generations: generations::DEEPSEEK,
        source: "https://api-docs.deepseek.com/guides/thinking_mode",
        ..COMPATIBLE
    },
    Vendor {
        name: "qwen",
        aliases: &["dashscope"],
        base_url: Some("https://dashscope.aliyuncs.com/compatible-mode/v1"),
        chat: ChatQuirks {
            top_k: true,
            // "required is not supported"; auto, none and named tools are.
            tool_required: "auto",
            // alibabacloud.com/help/en/model-studio/partial-mode
            prefill: Prefill::Marked("partial"),
            // alibabacloud.com/help/en/model-studio/context-cache
            cache_marks: CacheMarks::InMessages,
            ..COMPATIBLE_CHAT
        },
        generations: generations::QWEN,
        source: "https://www.alibabacloud.com/help/en/model-studio/qwen-api-via-openai-chat-completions",
        ..COMPATIBLE
    },
    Vendor {
        name: "kimi",
        aliases: &["moonshot"],
        base_url: Some("https://api.moonshot.ai/v1"),
        paths: CHAT_WITHOUT_EMBEDDINGS,
        chat: ChatQuirks {
            max_tokens: "max_completion_tokens",
            temperature_max: 1.0,
            // platform.kimi.ai/docs/api/tool-use: "^[a-zA-Z_][a-zA-Z0-9-_]{2,63}$"
            tool_names_begin_with_letter: true,
            // A forced tool is refused while thinking is on, the default.
            tool_required: "auto",
            strict_tools: false,
            // platform.kimi.ai/docs/guide/use-partial-mode-feature-of-kimi-api
            prefill: Prefill::Marked("partial"),
            renamed: &[],
            refused: &["logit_bias", "logprobs", "top_logprobs", "seed"],
            unwanted: &["parallel_tool_calls"],
            ..COMPATIBLE_CHAT
        },
        generations: generations::KIMI,
        source: "https://platform.kimi.ai/docs/api/chat",
        ..COMPATIBLE
    },
    Vendor {
        name: "glm",
        aliases: &["zhipu", "zai"],
        base_url: Some("https://api.z.ai/api/paas/v4"),
        chat: ChatQuirks {
            stream_usage: StreamUsage::Always,
            temperature_max: 1.0,
            formats: Formats::ObjectOnly,
            // "Currently only auto is supported."
            tool_required: "auto",
            strict_tools: false,
            message_names: false,
            refused: &[
                "frequency_penalty",
                "presence_penalty",
                "logit_bias",
                "logprobs",
                "top_logprobs",
                "n",
                "seed",
            ],
            unwanted: &["parallel_tool_calls", "user"],
            ..COMPATIBLE_CHAT
        },
        generations: generations::GLM,
        errors: upstream_error::GLM,
        source: "https://docs.z.ai/api-reference/llm/chat-completion",
        ..COMPATIBLE
    },
    Vendor {
        name: "doubao",
        aliases: &["ark", "volcengine"],
        base_url: Some("https://ark.cn-beijing.volces.com/api/v3"),
        chat: ChatQuirks {
            max_tokens: "max_completion_tokens",
            renamed: &[],
            refused: &["n", "seed"],
            unwanted: &["user"],
            ..COMPATIBLE_CHAT
        },
        generations: generations::DOUBAO,
        source: "https://www.volcengine.com/docs/82379/1494384",
        ..COMPATIBLE
    },
    Vendor {
        name: "vllm",
        base_url: None,
        chat: ChatQuirks {
            top_k: true,
            reasoning_back: Some("reasoning"),
            developer_role: true,
            renamed: &[],
            ..COMPATIBLE_CHAT
        },
        generations: generations::VLLM,
        source: "https://docs.vllm.ai/en/stable/serving/openai_compatible_server",
        ..COMPATIBLE
    },
    Vendor {
        name: "llamacpp",
        aliases: &["llama.cpp", "llama-cpp"],
        base_url: Some("http://127.0.0.1:8080/v1"),
        chat: ChatQuirks {
            top_k: true,
            // Unless it was started with --no-prefill-assistant.
            prefill: Prefill::AsItIs,
            ..COMPATIBLE_CHAT
        },
        generations: generations::LLAMA_CPP,
        source: "https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md",
        ..COMPATIBLE
    },
    Vendor {
        name: "ollama",
        base_url: Some("http://127.0.0.1:11434/v1"),
        chat: ChatQuirks {
            reasoning_back: Some("reasoning"),
            refused: &["logit_bias", "n"],
            unwanted: &["user", "parallel_tool_calls"],
            ..COMPATIBLE_CHAT
        },
        generations: generations::OLLAMA,
        source: "https://docs.ollama.com/api/openai-compatibility",
        ..COMPATIBLE
    },
    Vendor {
        name: "openrouter",
        base_url: Some("https://openrouter.ai/api/v1"),
        chat: ChatQuirks {
            top_k: true,
            // OpenAI may be the one that answers.
            tool_ids: ToolIds::Short,
            // openrouter.ai/docs/api-reference/overview
            prefill: Prefill::AsItIs,
            // openrouter.ai/docs/guides/best-practices/prompt-caching
            cache_marks: CacheMarks::Everywhere,
            reasoning_back: Some("reasoning"),
            // openrouter.ai/docs/guides/best-practices/reasoning-tokens
            reasoning_details: true,
            developer_role: true,
            renamed: &[],
            ..COMPATIBLE_CHAT
        },
        generations: generations::OPENROUTER,
        source: "https://openrouter.ai/docs/api-reference/parameters",
        ..COMPATIBLE
    },
    Vendor {
        name: "mistral",
        base_url: Some("https://api.mistral.ai/v1"),
        chat: ChatQuirks {
            // Unknown fields are answered 422: client/models of PyPI `mistralai` 3.7.0 list those of
            // messages, without `function_call` and marks of what is to be cached.
            stream_usage: StreamUsage::Always,
            temperature_max: 1.5,
            tool_ids: ToolIds::NineAlphanumeric,
            tool_required: "any",
            // docs.mistral.ai/capabilities/completion/usage (prefix)
            prefill: Prefill::Required("prefix"),
            // Its own types of messages have none.
            message_names: false,
            reasoning_back: None,
            unknown_in_messages: false,
            renamed: &[
                ("max_completion_tokens", "max_tokens"),
                ("seed", "random_seed"),
            ],
            refused: &[
                "audio",
                "logit_bias",
                "logprobs",
                "modalities",
                "top_logprobs",
                "web_search_options",
                "functions",
                "function_call",
            ],
            unwanted: &[
                "moderation",
                "prompt_cache_key",
                "prompt_cache_options",
                "prompt_cache_retention",
                "safety_identifier",
                "service_tier",
                "store",
                "user",
                "verbosity",
            ],
            ..COMPATIBLE_CHAT
        },
        generations: generations::MISTRAL,
        source: "https://docs.mistral.ai/api/endpoint/chat",
        ..COMPATIBLE
    },
    Vendor {
        name: "groq",
        base_url: Some("https://api.groq.com/openai/v1"),
        paths: CHAT_WITHOUT_EMBEDDINGS,
        chat: ChatQuirks {
            max_tokens: "max_completion_tokens",
            reasoning_back: Some("reasoning"),
            unknown_in_messages: false,
            renamed: &[],
            message_names: false,
            // "Will result in a 400 error (yikes) if they are supplied", and `n` other than 1.
            refused: &[
                "audio",
                "logit_bias",
                "logprobs",
                "modalities",
                "n",
                "top_logprobs",
                "web_search_options",
            ],
            // Other fields are answered 400: "property 'x' is unsupported".
            unwanted: &[
                "moderation",
                "prediction",
                "prompt_cache_key",
                "prompt_cache_options",
                "prompt_cache_retention",
                "safety_identifier",
                "verbosity",
            ],
            ..COMPATIBLE_CHAT
        },
        generations: generations::GROQ,
        source: "https://console.groq.com/docs/openai",
        ..COMPATIBLE
    },
    Vendor {
        name: "xai",
        aliases: &["grok"],
        base_url: Some("https://api.x.ai/v1"),
        paths: Paths {
            responses: Some("/responses"),
            ..CHAT_PATHS
        },
        chat: ChatQuirks {
            max_tokens: "max_completion_tokens",
            renamed: &[],
            refused: &["logit_bias"],
            ..COMPATIBLE_CHAT
        },
        generations: generations::XAI,
        // Its responses take function, web_search, x_search, file_search, code_interpreter and mcp
        // (reference.langchain.com/javascript/types/_langchain_xai.XAIResponsesTool).
        source: "https://docs.x.ai/docs/api-reference",
        ..COMPATIBLE
    },
    Vendor {
        name: "together",
        base_url: Some("https://api.together.xyz/v1"),
        chat: ChatQuirks {
            top_k: true,
            reasoning_back: Some("reasoning"),
            ..COMPATIBLE_CHAT
        },
        generations: generations::TOGETHER,
        source: "https://docs.together.ai/reference/chat-completions-1",
        ..COMPATIBLE
    },
    COMPATIBLE,
];

/// All rows, in the order of the table.
#[must_use]
pub fn all() -> &'static [Vendor] {
    VENDORS
}

/// The row of a name or alias.
#[must_use]
pub fn find(name: &str) -> Option<&'static Vendor> {
    VENDORS
        .iter()
        .find(|vendor| vendor.name == name || vendor.aliases.contains(&name))
}

impl Vendor {
    /// What a model takes here.
    #[must_use]
    pub fn generation(&self, model: &str) -> &'static Generation {
        generations::find(self.generations, model)
    }

    /// What an operator should know of a model that no row names; `None` where all take the same.
    #[must_use]
    pub fn model_warning(&self, model: &str) -> Option<String> {
        generations::warning(self.generations, model)
    }

    /// What a model takes here of which the configuration says what it is like.
    ///
    /// # Errors
    ///
    /// When `like` is no model that the build knows here, or what is set does not fit it.
    pub fn own_generation(&self, own: &ModelConfig) -> Result<Generation, WrongModel> {
        own.generation(self.generations, self.name)
    }

    /// The vendor's API that serves a client's API, if any.
    #[must_use]
    pub fn upstream_api(&self, api: ClientApi) -> Option<UpstreamApi> {
        let upstream = match (api, self.dialect) {
            (ClientApi::Embeddings, ProviderDialect::Gemini) => UpstreamApi::BatchEmbedContents,
            (ClientApi::Embeddings, _) => UpstreamApi::Embeddings,
            (ClientApi::CountTokens, ProviderDialect::Anthropic) => UpstreamApi::CountTokens,
            (ClientApi::CountTokens, ProviderDialect::Gemini) => UpstreamApi::GeminiCountTokens,
            (ClientApi::CountTokens, _) => return None,
            (ClientApi::Responses, _) if self.paths.responses.is_some() => UpstreamApi::Responses,
            (_, ProviderDialect::OpenAi) => UpstreamApi::ChatCompletions,
            (_, ProviderDialect::OpenAiResponses) => UpstreamApi::Responses,
            (_, ProviderDialect::Anthropic) => UpstreamApi::Messages,
            (_, ProviderDialect::Gemini) => UpstreamApi::GenerateContent,
        };
        self.path(upstream, false).map(|_| upstream)
    }

    /// The header with a provider key, marked as sensitive.
    ///
    /// # Errors
    ///
    /// When the key holds bytes that no header may hold, such as a line feed.
    pub fn auth_header(&self, key: &str) -> Result<(HeaderName, HeaderValue), InvalidHeaderValue> {
        let (name, mut value) = match self.auth {
            Auth::Bearer => (
                AUTHORIZATION,
                HeaderValue::try_from(format!("Bearer {key}"))?,
            ),
            Auth::Header(name) => (HeaderName::from_static(name), HeaderValue::try_from(key)?),
        };
        value.set_sensitive(true);
        Ok((name, value))
    }

    /// Reads an answer with an error status. `now` resolves a `retry-after` that is a date.
    #[must_use]
    pub fn classify_error(
        &self,
        status: u16,
        headers: &HeaderMap,
        body: &[u8],
        now: SystemTime,
    ) -> UpstreamErrorFacts {
        upstream_error::classify(self.errors, status, headers, body, now)
    }

    /// Whether calls need an API version from the settings.
    #[must_use]
    pub fn wants_api_version(&self) -> bool {
        self.paths
            .chat
            .is_some_and(|path| path.contains("{version}"))
    }

    /// Whether one of its APIs is OpenAI's own.
    pub(crate) const fn is_openai(&self, api: UpstreamApi) -> bool {
        match api {
            UpstreamApi::ChatCompletions => self.chat.is_openai,
            UpstreamApi::Responses => true,
            _ => false,
        }
    }

    /// The least limit on an answer's tokens that one of its APIs takes.
    pub(crate) const fn output_tokens_min(&self, api: UpstreamApi) -> u64 {
        match api {
            UpstreamApi::Responses if self.chat.is_openai => RESPONSES_OUTPUT_TOKENS_MIN,
            _ => 0,
        }
    }

    /// Whether it is OpenAI, or Azure with its models.
    pub(crate) const fn is_openai_itself(&self) -> bool {
        use ProviderDialect::{OpenAi, OpenAiResponses};
        self.chat.is_openai && matches!(self.dialect, OpenAi | OpenAiResponses)
    }

    /// Whether it has a responses API.
    pub(crate) const fn has_responses(&self) -> bool {
        self.paths.responses.is_some()
    }

    /// Where its requests take cache marks.
    pub(crate) const fn cache_marks(&self, api: UpstreamApi) -> CacheMarks {
        match api {
            UpstreamApi::Messages | UpstreamApi::CountTokens => CacheMarks::Everywhere,
            UpstreamApi::ChatCompletions => self.chat.cache_marks,
            _ => CacheMarks::Nowhere,
        }
    }

    pub(crate) fn path(&self, api: UpstreamApi, stream: bool) -> Option<&'static str> {
        let paths = &self.paths;
        match api {
            UpstreamApi::ChatCompletions => paths.chat,
            UpstreamApi::Embeddings | UpstreamApi::BatchEmbedContents => paths.embeddings,
            UpstreamApi::Responses => paths.responses,
            UpstreamApi::Messages => paths.messages,
            UpstreamApi::CountTokens | UpstreamApi::GeminiCountTokens => paths.count_tokens,
            UpstreamApi::GenerateContent if stream => paths.stream_generate,
            UpstreamApi::GenerateContent => paths.generate,
        }
    }
}

impl ChatQuirks {
    /// Whether a request in OpenAI's words may need edits.
    pub(crate) fn needs_edits(&self) -> bool {
        // What is not named here needs edits, so that a new quirk cannot be forgotten.
        let without = Self {
            // The caller looks for reasoning in the body.
            reasoning_back: self.reasoning_back,
            unknown_in_messages: self.unknown_in_messages,
            // These only concern translated requests.
            is_openai: self.is_openai,
            max_tokens: self.max_tokens,
            top_k: self.top_k,
            strict_tools: self.strict_tools,
            // The caller translates.
            openai_tools: self.openai_tools,
            effort_max: self.effort_max,
            tool_names_begin_with_letter: self.tool_names_begin_with_letter,
            reasoning_details: self.reasoning_details,
            prefill: self.prefill,
            cache_marks: self.cache_marks,
            // OpenAI's own ids are short enough for either.
            tool_ids: self.tool_ids,
            ..OPENAI_CHAT
        };
        *self != without || self.tool_ids == ToolIds::NineAlphanumeric
    }

    pub(crate) fn refuses(&self, field: &str) -> bool {
        self.refused.contains(&field) || self.unwanted.contains(&field)
    }

    /// The vendor's name for a field of OpenAI's.
    pub(crate) fn name_of(&self, field: &'static str) -> &'static str {
        let renamed = self.renamed.iter().find(|(from, _)| *from == field);
        renamed.map_or(field, |(_, to)| to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        let mut seen = std::collections::HashSet::new();
        for vendor in all() {
            for name in vendor.aliases.iter().chain([&vendor.name]) {
                assert!(seen.insert(*name), "{name} appears twice");
                assert_eq!(find(name).unwrap().name, vendor.name);
            }
        }
    }

    #[test]
    fn every_row_answers_chat_and_names_its_source() {
        for vendor in all() {
            for api in [
                ClientApi::ChatCompletions,
                ClientApi::Responses,
                ClientApi::Messages,
            ] {
                assert!(
                    vendor.upstream_api(api).is_some(),
                    "{} {api:?}",
                    vendor.name
                );
            }
            assert!(vendor.source.starts_with("https://"), "{}", vendor.name);
        }
    }

    #[test]
    fn keys_are_shown_as_the_vendor_wants_and_marked_secret() {
        let shown = |vendor: &str, key| find(vendor).unwrap().auth_header(key);
        let (name, value) = shown("openai", "sk-1").unwrap();
        assert_eq!(
            (name.as_str(), value.as_bytes()),
            ("authorization", b"Bearer sk-1".as_slice())
        );
        assert!(value.is_sensitive());
        let (name, value) = shown("anthropic", "sk-2").unwrap();
        assert_eq!(
            (name.as_str(), value.as_bytes()),
            ("x-api-key", b"sk-2".as_slice())
        );
        assert!(shown("gemini", "with\nline feed").is_err());
    }
}
