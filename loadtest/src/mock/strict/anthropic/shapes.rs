//! The fields of Anthropic's requests.

use super::MESSAGES;
use crate::mock::strict::shape::{
    COUNT, Field, MAP, Shape, TEXTS, ValueShape, closed, nul, open, opt, req, tag,
};

const ANY_LENGTH: usize = usize::MAX;

macro_rules! request {
    ($name:ident, $make:ident, [$($more:expr),* $(,)?]) => {
        pub(super) static $name: Shape = $make(MESSAGES, &[
            req("model", ValueShape::Sized(1, 256)),
            req("messages", ValueShape::List(&MESSAGE, 0, 100_000)),
            opt("system", ValueShape::Either(&[ValueShape::Text, ValueShape::List(&TEXT_BLOCK, 0, ANY_LENGTH)])),
            nul("cache_control", MARK),
            opt("output_config", ValueShape::Object(&OUTPUT)),
            opt("thinking", THINKING),
            opt("tool_choice", TOOL_CHOICE),
            opt("tools", ValueShape::List(&TOOL, 0, ANY_LENGTH)),
            nul("speed", ValueShape::OneOf(&["fast", "standard"])),
            opt("user_profile_id", ValueShape::Text),
            opt("workspace_id", ValueShape::Text),
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
                nul("container", ValueShape::Either(&[ValueShape::Text, MAP])),
                nul("diagnostics", MAP),
                nul("inference_geo", ValueShape::Text),
                opt("metadata", ValueShape::Object(&METADATA)),
                opt(
                    "service_tier",
                    ValueShape::OneOf(&["auto", "standard_only"])
                ),
                opt("stop_sequences", TEXTS),
                opt("stream", ValueShape::Bool),
                opt("temperature", ValueShape::Number(0.0, 1.0)),
                opt("top_p", ValueShape::Number(0.0, 1.0)),
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

static METADATA: Shape = closed(MESSAGES, &[nul("user_id", ValueShape::Sized(0, 256))]);

static EPHEMERAL: Shape = closed(
    MESSAGES,
    &[tag("type"), opt("ttl", ValueShape::OneOf(&["5m", "1h"]))],
);
const MARK: ValueShape = ValueShape::Tagged("type", &[("ephemeral", &EPHEMERAL)]);

static OUTPUT: Shape = closed(
    MESSAGES,
    &[
        nul(
            "effort",
            ValueShape::OneOf(&["low", "medium", "high", "xhigh", "max"]),
        ),
        nul(
            "format",
            ValueShape::Tagged("type", &[("json_schema", &FORMAT)]),
        ),
        nul("task_budget", MAP),
    ],
);
static FORMAT: Shape = closed(MESSAGES, &[tag("type"), req("schema", MAP)]);

const DISPLAY: Field = nul("display", ValueShape::OneOf(&["summarized", "omitted"]));
static ENABLED: Shape = closed(
    MESSAGES,
    &[
        tag("type"),
        req("budget_tokens", ValueShape::Whole(1024, i64::MAX)),
        DISPLAY,
    ],
);
static ADAPTIVE: Shape = closed(MESSAGES, &[tag("type"), DISPLAY]);
static ONLY_TYPE: Shape = closed(MESSAGES, &[tag("type")]);
const THINKING: ValueShape = ValueShape::Tagged(
    "type",
    &[
        ("enabled", &ENABLED),
        ("adaptive", &ADAPTIVE),
        ("disabled", &ONLY_TYPE),
        ("between_tools", &ONLY_TYPE),
    ],
);

const PARALLEL: Field = opt("disable_parallel_tool_use", ValueShape::Bool);
static CHOICE: Shape = closed(MESSAGES, &[tag("type"), PARALLEL]);
static CHOICE_NAMED: Shape = closed(
    MESSAGES,
    &[
        tag("type"),
        req("name", ValueShape::Sized(1, 200)),
        PARALLEL,
    ],
);
const TOOL_CHOICE: ValueShape = ValueShape::Tagged(
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
    &[nul("type", ValueShape::Text), nul("cache_control", MARK)],
);
const TOOL: ValueShape = ValueShape::Object(&ANY_TOOL);
pub(super) static CUSTOM_TOOL: Shape = closed(
    MESSAGES,
    &[
        nul("type", ValueShape::Text),
        req("name", ValueShape::Name(128, "_-")),
        opt("description", ValueShape::Text),
        req("input_schema", ValueShape::Object(&INPUT_SCHEMA)),
        nul("cache_control", MARK),
        opt("strict", ValueShape::Bool),
        opt("defer_loading", ValueShape::Bool),
        nul("eager_input_streaming", ValueShape::Bool),
        opt("input_examples", ValueShape::List(&MAP, 0, ANY_LENGTH)),
        opt("allowed_callers", TEXTS),
    ],
);
static INPUT_SCHEMA: Shape = open(
    MESSAGES,
    &[
        req("type", ValueShape::OneOf(&["object"])),
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
        req("role", ValueShape::OneOf(&["user", "assistant", "system"])),
        req(
            "content",
            ValueShape::Either(&[ValueShape::Text, ValueShape::List(&BLOCK, 0, ANY_LENGTH)]),
        ),
    ],
);
const MESSAGE: ValueShape = ValueShape::Object(&ANY_MESSAGE);

const MARKED: Field = nul("cache_control", MARK);
static TEXT: Shape = closed(
    MESSAGES,
    &[
        tag("type"),
        req("text", ValueShape::Text),
        MARKED,
        nul("citations", ValueShape::List(&MAP, 0, ANY_LENGTH)),
    ],
);
const TEXT_BLOCK: ValueShape = ValueShape::Tagged("type", &[("text", &TEXT)]);

static IMAGE: Shape = closed(
    MESSAGES,
    &[
        tag("type"),
        MARKED,
        nul("transformations", MAP),
        req(
            "source",
            ValueShape::Tagged(
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
            ValueShape::OneOf(&["image/jpeg", "image/png", "image/gif", "image/webp"]),
        ),
        req("data", ValueShape::Text),
    ],
);
static URL_SOURCE: Shape = closed(MESSAGES, &[tag("type"), req("url", ValueShape::Text)]);
static FILE_SOURCE: Shape = closed(MESSAGES, &[tag("type"), req("file_id", ValueShape::Text)]);

static DOCUMENT: Shape = closed(
    MESSAGES,
    &[
        tag("type"),
        MARKED,
        nul("title", ValueShape::Sized(1, 500)),
        nul("context", ValueShape::Text),
        nul("citations", MAP),
        req(
            "source",
            ValueShape::Tagged(
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
        req("media_type", ValueShape::OneOf(&["application/pdf"])),
        req("data", ValueShape::Text),
    ],
);
static TEXT_SOURCE: Shape = closed(
    MESSAGES,
    &[
        tag("type"),
        req("media_type", ValueShape::OneOf(&["text/plain"])),
        req("data", ValueShape::Text),
    ],
);
static CONTENT_SOURCE: Shape = closed(
    MESSAGES,
    &[
        tag("type"),
        req(
            "content",
            ValueShape::Either(&[
                ValueShape::Text,
                ValueShape::List(
                    &ValueShape::Tagged("type", &[("text", &TEXT), ("image", &IMAGE)]),
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
        req("id", ValueShape::Name(256, "_-")),
        req("name", ValueShape::Sized(1, 200)),
        req("input", MAP),
        MARKED,
        opt("caller", MAP),
        nul("toolset_name", ValueShape::Text),
    ],
);
static TOOL_RESULT: Shape = closed(
    MESSAGES,
    &[
        tag("type"),
        req("tool_use_id", ValueShape::Name(256, "_-")),
        opt(
            "content",
            ValueShape::Either(&[
                ValueShape::Text,
                ValueShape::List(&RESULT_BLOCK, 0, ANY_LENGTH),
            ]),
        ),
        opt("is_error", ValueShape::Bool),
        MARKED,
        nul("toolset_name", ValueShape::Text),
    ],
);
const RESULT_BLOCK: ValueShape = ValueShape::Tagged(
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
        req("thinking", ValueShape::Text),
        req("signature", ValueShape::Text),
    ],
);
static HIDDEN_THOUGHT: Shape = closed(MESSAGES, &[tag("type"), req("data", ValueShape::Text)]);
/// What tools that run at Anthropic leave behind; it comes back as it was.
static OTHER: Shape = open(MESSAGES, &[tag("type")]);
const BLOCK: ValueShape = ValueShape::Tagged(
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
