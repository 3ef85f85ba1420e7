//! The fields of Anthropic's requests.

use super::MESSAGES;
use crate::mock::strict::shape::{
    COUNT, Field, Kind, MAP, Shape, TEXTS, closed, nul, open, opt, req, tag,
};

const ANY_LENGTH: usize = usize::MAX;

macro_rules! request {
    ($name:ident, $make:ident, [$($more:expr),* $(,)?]) => {
        pub(super) static $name: Shape = $make(MESSAGES, &[
            req("model", Kind::Sized(1, 256)),
            req("messages", Kind::List(&MESSAGE, 0, 100_000)),
            opt("system", Kind::Either(&[Kind::Text, Kind::List(&TEXT_BLOCK, 0, ANY_LENGTH)])),
            nul("cache_control", MARK),
            opt("output_config", Kind::Object(&OUTPUT)),
            opt("thinking", THINKING),
            opt("tool_choice", TOOL_CHOICE),
            opt("tools", Kind::List(&TOOL, 0, ANY_LENGTH)),
            nul("speed", Kind::OneOf(&["fast", "standard"])),
            opt("user_profile_id", Kind::Text),
            opt("workspace_id", Kind::Text),
            $($more),*
        ]);
    };
}

macro_rules! generation {
    ($name:ident, $make:ident) => {
        request!(
            $name,
            $make,
            [
                req("max_tokens", COUNT),
                nul("container", Kind::Either(&[Kind::Text, MAP])),
                nul("diagnostics", MAP),
                nul("inference_geo", Kind::Text),
                opt("metadata", Kind::Object(&METADATA)),
                opt("service_tier", Kind::OneOf(&["auto", "standard_only"])),
                opt("stop_sequences", TEXTS),
                opt("stream", Kind::Bool),
                opt("temperature", Kind::Number(0.0, 1.0)),
                opt("top_p", Kind::Number(0.0, 1.0)),
                opt("top_k", COUNT),
            ]
        );
    };
}

// Betas add fields, too many to follow.
generation!(REQUEST, closed);
generation!(BETA_REQUEST, open);
request!(COUNT_TOKENS, closed, []);
request!(BETA_COUNT_TOKENS, open, []);

static METADATA: Shape = closed(MESSAGES, &[nul("user_id", Kind::Sized(0, 256))]);

static EPHEMERAL: Shape = closed(
    MESSAGES,
    &[tag("type"), opt("ttl", Kind::OneOf(&["5m", "1h"]))],
);
const MARK: Kind = Kind::Tagged("type", &[("ephemeral", &EPHEMERAL)]);

static OUTPUT: Shape = closed(
    MESSAGES,
    &[
        nul(
            "effort",
            Kind::OneOf(&["low", "medium", "high", "xhigh", "max"]),
        ),
        nul("format", Kind::Tagged("type", &[("json_schema", &FORMAT)])),
        nul("task_budget", MAP),
    ],
);
static FORMAT: Shape = closed(MESSAGES, &[tag("type"), req("schema", MAP)]);

const DISPLAY: Field = nul("display", Kind::OneOf(&["summarized", "omitted"]));
static ENABLED: Shape = closed(
    MESSAGES,
    &[
        tag("type"),
        req("budget_tokens", Kind::Whole(1024, i64::MAX)),
        DISPLAY,
    ],
);
static ADAPTIVE: Shape = closed(MESSAGES, &[tag("type"), DISPLAY]);
static ONLY_TYPE: Shape = closed(MESSAGES, &[tag("type")]);
const THINKING: Kind = Kind::Tagged(
    "type",
    &[
        ("enabled", &ENABLED),
        ("adaptive", &ADAPTIVE),
        ("disabled", &ONLY_TYPE),
        ("between_tools", &ONLY_TYPE),
    ],
);

const PARALLEL: Field = opt("disable_parallel_tool_use", Kind::Bool);
static CHOICE: Shape = closed(MESSAGES, &[tag("type"), PARALLEL]);
static CHOICE_NAMED: Shape = closed(
    MESSAGES,
    &[tag("type"), req("name", Kind::Sized(1, 200)), PARALLEL],
);
const TOOL_CHOICE: Kind = Kind::Tagged(
    "type",
    &[
        ("auto", &CHOICE),
        ("any", &CHOICE),
        ("tool", &CHOICE_NAMED),
        ("none", &ONLY_TYPE),
    ],
);

/// A tool of any kind; the fields of those that run at the client are in [`CUSTOM_TOOL`].
static ANY_TOOL: Shape = open(
    MESSAGES,
    &[nul("type", Kind::Text), nul("cache_control", MARK)],
);
const TOOL: Kind = Kind::Object(&ANY_TOOL);
pub(super) static CUSTOM_TOOL: Shape = closed(
    MESSAGES,
    &[
        nul("type", Kind::Text),
        req("name", Kind::Name(128, "_-")),
        opt("description", Kind::Text),
        req("input_schema", Kind::Object(&INPUT_SCHEMA)),
        nul("cache_control", MARK),
        opt("strict", Kind::Bool),
        opt("defer_loading", Kind::Bool),
        nul("eager_input_streaming", Kind::Bool),
        opt("input_examples", Kind::List(&MAP, 0, ANY_LENGTH)),
        opt("allowed_callers", TEXTS),
    ],
);
static INPUT_SCHEMA: Shape = open(
    MESSAGES,
    &[
        req("type", Kind::OneOf(&["object"])),
        nul("properties", MAP),
        nul("required", TEXTS),
    ],
);
/// The beginnings of the types of tools that Anthropic defined.
pub(super) const DEFINED_TOOLS: [&str; 13] = [
    "advisor_",
    "bash_",
    "browser_toolset_",
    "code_execution_",
    "computer_",
    "custom",
    "mcp_toolset",
    "memory_",
    "text_editor_",
    "tool_search_tool_",
    "web_fetch_",
    "web_search_",
    "agent_toolset_",
];

static ANY_MESSAGE: Shape = closed(
    MESSAGES,
    &[
        req("role", Kind::OneOf(&["user", "assistant", "system"])),
        req(
            "content",
            Kind::Either(&[Kind::Text, Kind::List(&BLOCK, 0, ANY_LENGTH)]),
        ),
    ],
);
const MESSAGE: Kind = Kind::Object(&ANY_MESSAGE);

const MARKED: Field = nul("cache_control", MARK);
static TEXT: Shape = closed(
    MESSAGES,
    &[
        tag("type"),
        req("text", Kind::Text),
        MARKED,
        nul("citations", Kind::List(&MAP, 0, ANY_LENGTH)),
    ],
);
const TEXT_BLOCK: Kind = Kind::Tagged("type", &[("text", &TEXT)]);

static IMAGE: Shape = closed(
    MESSAGES,
    &[
        tag("type"),
        MARKED,
        nul("transformations", MAP),
        req(
            "source",
            Kind::Tagged(
                "type",
                &[
                    ("base64", &BASE64_IMAGE),
                    ("url", &URL_SOURCE),
                    ("file", &FILE_SOURCE),
                ],
            ),
        ),
    ],
);
static BASE64_IMAGE: Shape = closed(
    MESSAGES,
    &[
        tag("type"),
        req(
            "media_type",
            Kind::OneOf(&["image/jpeg", "image/png", "image/gif", "image/webp"]),
        ),
        req("data", Kind::Text),
    ],
);
static URL_SOURCE: Shape = closed(MESSAGES, &[tag("type"), req("url", Kind::Text)]);
static FILE_SOURCE: Shape = closed(MESSAGES, &[tag("type"), req("file_id", Kind::Text)]);

static DOCUMENT: Shape = closed(
    MESSAGES,
    &[
        tag("type"),
        MARKED,
        nul("title", Kind::Sized(1, 500)),
        nul("context", Kind::Text),
        nul("citations", MAP),
        req(
            "source",
            Kind::Tagged(
                "type",
                &[
                    ("base64", &BASE64_PDF),
                    ("text", &TEXT_SOURCE),
                    ("content", &CONTENT_SOURCE),
                    ("url", &URL_SOURCE),
                    ("file", &FILE_SOURCE),
                ],
            ),
        ),
    ],
);
static BASE64_PDF: Shape = closed(
    MESSAGES,
    &[
        tag("type"),
        req("media_type", Kind::OneOf(&["application/pdf"])),
        req("data", Kind::Text),
    ],
);
static TEXT_SOURCE: Shape = closed(
    MESSAGES,
    &[
        tag("type"),
        req("media_type", Kind::OneOf(&["text/plain"])),
        req("data", Kind::Text),
    ],
);
static CONTENT_SOURCE: Shape = closed(
    MESSAGES,
    &[
        tag("type"),
        req(
            "content",
            Kind::Either(&[
                Kind::Text,
                Kind::List(
                    &Kind::Tagged("type", &[("text", &TEXT), ("image", &IMAGE)]),
                    0,
                    ANY_LENGTH,
                ),
            ]),
        ),
    ],
);

static TOOL_USE: Shape = closed(
    MESSAGES,
    &[
        tag("type"),
        req("id", Kind::Name(256, "_-")),
        req("name", Kind::Sized(1, 200)),
        req("input", MAP),
        MARKED,
        opt("caller", MAP),
        nul("toolset_name", Kind::Text),
    ],
);
static TOOL_RESULT: Shape = closed(
    MESSAGES,
    &[
        tag("type"),
        req("tool_use_id", Kind::Name(256, "_-")),
        opt(
            "content",
            Kind::Either(&[Kind::Text, Kind::List(&RESULT_BLOCK, 0, ANY_LENGTH)]),
        ),
        opt("is_error", Kind::Bool),
        MARKED,
        nul("toolset_name", Kind::Text),
    ],
);
const RESULT_BLOCK: Kind = Kind::Tagged(
    "type",
    &[
        ("text", &TEXT),
        ("image", &IMAGE),
        ("document", &DOCUMENT),
        ("search_result", &OTHER),
        ("tool_reference", &OTHER),
        ("browser_state", &OTHER),
    ],
);
static THOUGHT: Shape = closed(
    MESSAGES,
    &[
        tag("type"),
        req("thinking", Kind::Text),
        req("signature", Kind::Text),
    ],
);
static HIDDEN_THOUGHT: Shape = closed(MESSAGES, &[tag("type"), req("data", Kind::Text)]);
/// What tools that run at Anthropic leave behind; it comes back as it was.
static OTHER: Shape = open(MESSAGES, &[tag("type")]);
const BLOCK: Kind = Kind::Tagged(
    "type",
    &[
        ("text", &TEXT),
        ("image", &IMAGE),
        ("document", &DOCUMENT),
        ("search_result", &OTHER),
        ("thinking", &THOUGHT),
        ("redacted_thinking", &HIDDEN_THOUGHT),
        ("tool_use", &TOOL_USE),
        ("tool_result", &TOOL_RESULT),
        ("server_tool_use", &OTHER),
        ("web_search_tool_result", &OTHER),
        ("web_fetch_tool_result", &OTHER),
        ("advisor_tool_result", &OTHER),
        ("code_execution_tool_result", &OTHER),
        ("bash_code_execution_tool_result", &OTHER),
        ("text_editor_code_execution_tool_result", &OTHER),
        ("tool_search_tool_result", &OTHER),
        ("mcp_tool_use", &OTHER),
        ("mcp_tool_result", &OTHER),
        ("mcp_tool_listing", &OTHER),
        ("container_upload", &OTHER),
        ("compaction", &OTHER),
        ("tool_addition", &OTHER),
        ("tool_removal", &OTHER),
        ("fallback", &OTHER),
    ],
);
