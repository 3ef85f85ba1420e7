//! The vendors that requests are checked for: one row each, from their own pages.

mod rules;

use super::shape::{Shape, TEXTS, ValueShape, nul, open, opt};
pub(super) use rules::VendorCall;
use rules::VendorRule;

/// What a vendor's chat completions do otherwise than OpenAI's.
#[derive(Debug)]
pub(super) struct StrictVendor {
    pub(super) name: &'static str,
    /// The page that documents it.
    pub(super) source: &'static str,
    /// Whether the API is OpenAI's own, with all its models.
    pub(super) is_openai: bool,
    /// Fields that have other values than at OpenAI.
    pub(super) own: &'static Shape,
    /// All fields that it takes; empty where others are ignored.
    pub(super) fields: &'static [&'static str],
    /// All fields of messages, by role; empty where others are ignored.
    pub(super) message_fields: &'static [(&'static str, &'static [&'static str])],
    /// Fields that it refuses by name.
    pub(super) refused: &'static [&'static str],
    /// The roles of messages; empty where they are not listed.
    pub(super) roles: &'static [&'static str],
    /// The kinds of tools; empty where they are not listed.
    pub(super) tool_kinds: &'static [&'static str],
    /// The kinds of tools of its Responses API; empty where they are OpenAI's.
    pub(super) response_tools: &'static [&'static str],
    /// What spans several values, or depends on the model.
    pub(super) rules: &'static [VendorRule],
}

const ROLES: &[&str] = &["system", "user", "assistant", "tool"];
const FUNCTIONS: &[&str] = &["function"];
// docs.rs/xai-openapi 0.1.1, ModelTool; reference.langchain.com, XAIResponsesTool (2026-11-30).
const XAI_RESPONSE_TOOLS: &[&str] = &[
    "function",
    "web_search",
    "x_search",
    "file_search",
    "code_interpreter",
    "mcp",
];
const OPENAI: &str = "https://platform.openai.com/docs/api-reference/chat/create";

/// A server that is not listed: only what all have in common.
const ANY: StrictVendor = StrictVendor {
    name: "openai-compatible",
    source: OPENAI,
    is_openai: false,
    own: &NOTHING,
    fields: &[],
    message_fields: &[],
    refused: &[],
    roles: &[],
    tool_kinds: &[],
    response_tools: &[],
    rules: &[],
};
static UNLISTED: StrictVendor = ANY;
static NOTHING: Shape = open(OPENAI, &[]);

static VENDORS: &[StrictVendor] = &[
    StrictVendor {
        name: "openai",
        is_openai: true,
        ..ANY
    },
    StrictVendor {
        name: "openai-responses",
        is_openai: true,
        ..ANY
    },
    StrictVendor {
        name: "azure",
        is_openai: true,
        ..ANY
    },
    StrictVendor {
        name: "azure-deployments",
        is_openai: true,
        ..ANY
    },
    ANY,
    StrictVendor {
        name: "deepseek",
        source: DEEPSEEK,
        own: &DEEPSEEK_OWN,
        roles: ROLES,
        tool_kinds: FUNCTIONS,
        rules: &[rules::reasoning_comes_back],
        ..ANY
    },
    StrictVendor {
        name: "qwen",
        source: QWEN,
        own: &QWEN_OWN,
        rules: &[rules::no_forced_tools_while_thinking, rules::json_word],
        ..ANY
    },
    StrictVendor {
        name: "kimi",
        source: KIMI,
        own: &KIMI_OWN,
        roles: ROLES,
        rules: &[
            rules::reasoning_comes_back,
            rules::no_forced_tools_while_thinking,
            rules::fixed_sampling,
        ],
        ..ANY
    },
    StrictVendor {
        name: "glm",
        source: GLM,
        own: &GLM_OWN,
        roles: ROLES,
        ..ANY
    },
    StrictVendor {
        name: "doubao",
        source: "https://www.volcengine.com/docs/82379/1494384",
        own: &DOUBAO_OWN,
        tool_kinds: FUNCTIONS,
        ..ANY
    },
    StrictVendor {
        name: "mistral",
        source: MISTRAL,
        own: &MISTRAL_OWN,
        fields: MISTRAL_FIELDS,
        message_fields: MISTRAL_MESSAGES,
        roles: ROLES,
        rules: &[rules::nine_letter_ids, rules::ends_with_the_user],
        ..ANY
    },
    StrictVendor {
        name: "groq",
        source: GROQ,
        own: &GROQ_OWN,
        fields: GROQ_FIELDS,
        message_fields: GROQ_MESSAGES,
        refused: &["logprobs", "logit_bias", "top_logprobs"],
        rules: &[rules::groq_efforts],
        ..ANY
    },
    StrictVendor {
        name: "xai",
        source: "https://docs.x.ai/docs/guides/reasoning",
        refused: &["logit_bias"],
        response_tools: XAI_RESPONSE_TOOLS,
        rules: &[rules::no_penalties_while_reasoning],
        ..ANY
    },
    StrictVendor {
        name: "together",
        source: "https://docs.together.ai/reference/chat-completions-1",
        ..ANY
    },
    StrictVendor {
        name: "openrouter",
        source: OPENROUTER,
        own: &OPENROUTER_OWN,
        rules: &[rules::one_reasoning_control],
        ..ANY
    },
    StrictVendor {
        name: "vllm",
        source: "https://docs.vllm.ai/en/stable/serving/openai_compatible_server",
        own: &VLLM_OWN,
        ..ANY
    },
    StrictVendor {
        name: "llamacpp",
        source: "https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md",
        ..ANY
    },
    StrictVendor {
        name: "ollama",
        source: "https://docs.ollama.com/api/openai-compatibility",
        ..ANY
    },
];

/// The row of a vendor; an unknown one is like any other compatible server.
pub(super) fn find(name: &str) -> &'static StrictVendor {
    VENDORS
        .iter()
        .find(|vendor| vendor.name == name)
        .unwrap_or(&UNLISTED)
}

/// The names that a mock provider can be given.
pub fn vendor_names() -> impl Iterator<Item = &'static str> {
    ["anthropic", "gemini", "vertex"]
        .into_iter()
        .chain(VENDORS.iter().map(|vendor| vendor.name))
}

static ONLY_TYPE: Shape = open(OPENAI, &[]);
const TEXT_OR_OBJECT: ValueShape =
    ValueShape::Tagged("type", &[("text", &ONLY_TYPE), ("json_object", &ONLY_TYPE)]);
const ON_OR_OFF: ValueShape =
    ValueShape::Tagged("type", &[("enabled", &ONLY_TYPE), ("disabled", &ONLY_TYPE)]);
const NAMED: ValueShape = ValueShape::Tagged("type", &[("function", &ONLY_TYPE)]);

// 2026-11: "Possible values: [text, json_object]"; efforts are mapped to low, high and max.
const DEEPSEEK: &str = "https://api-docs.deepseek.com/api/create-chat-completion";
static DEEPSEEK_OWN: Shape = open(
    DEEPSEEK,
    &[
        nul("response_format", TEXT_OR_OBJECT),
        nul("thinking", ON_OR_OFF),
        nul(
            "reasoning_effort",
            ValueShape::OneOf(&["minimal", "low", "medium", "high", "xhigh", "max"]),
        ),
        nul(
            "stop",
            ValueShape::Either(&[ValueShape::Text, ValueShape::List(&ValueShape::Text, 0, 16)]),
        ),
        nul(
            "tool_choice",
            ValueShape::Either(&[ValueShape::OneOf(&["none", "auto", "required"]), NAMED]),
        ),
        nul("top_logprobs", ValueShape::Whole(0, 20)),
    ],
);

const QWEN: &str = "https://www.alibabacloud.com/help/en/model-studio/qwen-api-reference";
static QWEN_OWN: Shape = open(
    QWEN,
    &[
        // "required" is none of the values.
        opt(
            "tool_choice",
            ValueShape::Either(&[ValueShape::OneOf(&["auto", "none"]), NAMED]),
        ),
        opt("enable_thinking", ValueShape::Bool),
        opt("thinking_budget", ValueShape::Whole(0, i64::MAX)),
        opt("n", ValueShape::Whole(1, 4)),
        opt("top_logprobs", ValueShape::Whole(0, 5)),
    ],
);

const KIMI: &str = "https://platform.kimi.ai/docs/api/chat";
static KIMI_OWN: Shape = open(
    KIMI,
    &[
        opt("thinking", ON_OR_OFF),
        // "required" is none of the values.
        opt(
            "tool_choice",
            ValueShape::Either(&[ValueShape::OneOf(&["auto", "none"]), NAMED]),
        ),
        opt("n", ValueShape::Whole(1, 5)),
        opt(
            "stop",
            ValueShape::Either(&[ValueShape::Text, ValueShape::List(&ValueShape::Text, 0, 5)]),
        ),
        opt("tools", ValueShape::List(&ValueShape::Any, 0, 128)),
    ],
);

// "Currently only auto is supported."
const GLM: &str = "https://docs.z.ai/api-reference/llm/chat-completion";
static GLM_OWN: Shape = open(
    GLM,
    &[
        opt("tool_choice", ValueShape::OneOf(&["auto"])),
        opt("response_format", TEXT_OR_OBJECT),
        opt("temperature", ValueShape::Number(0.0, 1.0)),
        opt("top_p", ValueShape::Number(0.01, 1.0)),
        opt("thinking", ON_OR_OFF),
        opt(
            "stop",
            ValueShape::Either(&[ValueShape::Text, ValueShape::List(&ValueShape::Text, 0, 4)]),
        ),
    ],
);

static DOUBAO_OWN: Shape = open(
    "https://www.volcengine.com/docs/82379/1494384",
    &[
        nul(
            "thinking",
            ValueShape::Tagged(
                "type",
                &[
                    ("enabled", &ONLY_TYPE),
                    ("disabled", &ONLY_TYPE),
                    ("auto", &ONLY_TYPE),
                ],
            ),
        ),
        nul(
            "reasoning_effort",
            ValueShape::OneOf(&["minimal", "low", "medium", "high"]),
        ),
        nul(
            "stop",
            ValueShape::Either(&[ValueShape::Text, ValueShape::List(&ValueShape::Text, 0, 4)]),
        ),
    ],
);

// Types of PyPI `mistralai` 3.7.0; other fields are answered 422.
const MISTRAL: &str = "https://docs.mistral.ai/api/endpoint/chat";
const MISTRAL_FIELDS: &[&str] = &[
    "model",
    "messages",
    "temperature",
    "top_p",
    "max_tokens",
    "stream",
    "stop",
    "random_seed",
    "metadata",
    "response_format",
    "tools",
    "tool_choice",
    "presence_penalty",
    "frequency_penalty",
    "min_tokens",
    "repetition_penalty",
    "top_k",
    "logprobs",
    "top_logprobs",
    "prompt_logprobs",
    "top_prompt_logprobs",
    "n",
    "prediction",
    "parallel_tool_calls",
    "reasoning_effort",
    "prompt_mode",
    "guardrails",
    "safe_prompt",
];
const MISTRAL_MESSAGES: &[(&str, &[&str])] = &[
    ("system", &["role", "content"]),
    ("user", &["role", "content"]),
    ("assistant", &["role", "content", "tool_calls", "prefix"]),
    ("tool", &["role", "content", "tool_call_id", "name"]),
];
static MISTRAL_OWN: Shape = open(
    MISTRAL,
    &[
        nul("temperature", ValueShape::Number(0.0, 1.5)),
        nul("max_tokens", ValueShape::Whole(0, i64::MAX)),
        opt(
            "tool_choice",
            ValueShape::Either(&[
                ValueShape::OneOf(&["auto", "none", "any", "required"]),
                NAMED,
            ]),
        ),
        nul("reasoning_effort", ValueShape::OneOf(&["none", "high"])),
        nul("presence_penalty", ValueShape::Number(-2.0, 2.0)),
        nul("frequency_penalty", ValueShape::Number(-2.0, 2.0)),
    ],
);

// Types of PyPI `groq` 1.7.0; "property 'x' is unsupported".
const GROQ: &str = "https://console.groq.com/docs/openai";
const GROQ_FIELDS: &[&str] = &[
    "model",
    "messages",
    "citation_options",
    "compound_custom",
    "disable_tool_validation",
    "documents",
    "exclude_domains",
    "frequency_penalty",
    "function_call",
    "functions",
    "include_domains",
    "include_reasoning",
    "max_completion_tokens",
    "max_tokens",
    "metadata",
    "n",
    "parallel_tool_calls",
    "presence_penalty",
    "reasoning_effort",
    "reasoning_format",
    "response_format",
    "search_settings",
    "seed",
    "service_tier",
    "stop",
    "store",
    "stream",
    "stream_options",
    "temperature",
    "tool_choice",
    "tools",
    "top_p",
    "user",
];
const GROQ_MESSAGES: &[(&str, &[&str])] = &[
    ("system", &["role", "content"]),
    ("developer", &["role", "content"]),
    ("user", &["role", "content"]),
    (
        "assistant",
        &[
            "role",
            "content",
            "tool_calls",
            "function_call",
            "reasoning",
        ],
    ),
    ("tool", &["role", "content", "tool_call_id"]),
    ("function", &["role", "content", "name"]),
];
static GROQ_OWN: Shape = open(
    GROQ,
    &[
        // "If N is supplied, it must be equal to 1."
        nul("n", ValueShape::Whole(1, 1)),
        nul(
            "service_tier",
            ValueShape::OneOf(&["auto", "on_demand", "flex", "performance"]),
        ),
        nul(
            "tool_choice",
            ValueShape::Either(&[ValueShape::OneOf(&["none", "auto", "required"]), NAMED]),
        ),
        nul(
            "stop",
            ValueShape::Either(&[ValueShape::Text, ValueShape::List(&ValueShape::Text, 0, 4)]),
        ),
    ],
);

const OPENROUTER: &str = "https://openrouter.ai/docs/use-cases/reasoning-tokens";
static OPENROUTER_OWN: Shape = open(
    OPENROUTER,
    &[nul("reasoning", ValueShape::Object(&OPENROUTER_REASONING))],
);
static OPENROUTER_REASONING: Shape = open(
    OPENROUTER,
    &[
        nul(
            "effort",
            ValueShape::OneOf(&["none", "minimal", "low", "medium", "high", "xhigh", "max"]),
        ),
        nul("max_tokens", ValueShape::Whole(0, i64::MAX)),
        nul("enabled", ValueShape::Bool),
        nul("exclude", ValueShape::Bool),
    ],
);

static VLLM_OWN: Shape = open(
    "https://docs.vllm.ai/en/stable/serving/openai_compatible_server",
    &[
        nul("chat_template_kwargs", ValueShape::Map(&ValueShape::Any)),
        nul(
            "stop_token_ids",
            ValueShape::List(&ValueShape::Whole(0, i64::MAX), 0, usize::MAX),
        ),
        nul("bad_words", TEXTS),
    ],
);
