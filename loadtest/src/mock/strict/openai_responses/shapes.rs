//! The fields of OpenAI's Responses API.

use super::RESPONSES;
use crate::mock::strict::shape::{
    Field, MAP, Shape, TEXTS, ValueShape, closed, nul, open, opt, req, tag,
};

const ANY_LENGTH: usize = usize::MAX;

pub(super) static REQUEST: Shape = closed(
    RESPONSES,
    &[
        opt("model", ValueShape::Text),
        nul(
            "input",
            ValueShape::Either(&[ValueShape::Text, ValueShape::List(&ITEM, 1, ANY_LENGTH)]),
        ),
        opt("access_programs", MAP),
        nul("background", ValueShape::Bool),
        opt("background_options", MAP),
        // In no document, but OpenAI's own Codex sends it (0.169.0).
        opt("client_metadata", ValueShape::Map(&ValueShape::Text)),
        nul("context_management", ValueShape::List(&MAP, 1, ANY_LENGTH)),
        nul("conversation", ValueShape::Either(&[ValueShape::Text, MAP])),
        opt("image", MAP),
        nul("include", ValueShape::List(&INCLUDED, 0, ANY_LENGTH)),
        nul("instructions", ValueShape::Text),
        nul("max_output_tokens", ValueShape::Whole(16, i64::MAX)),
        nul("max_tool_calls", ValueShape::Whole(1, i64::MAX)),
        nul("metadata", ValueShape::Map(&ValueShape::Sized(0, 512))),
        nul("moderation", MAP),
        nul("parallel_tool_calls", ValueShape::Bool),
        nul("previous_response_id", ValueShape::Text),
        nul("prompt", MAP),
        nul("prompt_cache_key", ValueShape::Sized(0, 64)),
        opt("prompt_cache_options", MAP),
        nul(
            "prompt_cache_retention",
            ValueShape::OneOf(&["in_memory", "24h"]),
        ),
        nul("reasoning", ValueShape::Object(&REASONING)),
        nul("safety_identifier", ValueShape::Sized(0, 128)),
        nul(
            "service_tier",
            ValueShape::OneOf(&[
                "auto",
                "default",
                "flex",
                "scale",
                "priority",
                "fast",
                "ultrafast",
            ]),
        ),
        nul("store", ValueShape::Bool),
        nul("stream", ValueShape::Bool),
        nul("stream_options", MAP),
        nul("temperature", ValueShape::Number(0.0, 2.0)),
        opt("text", ValueShape::Object(&TEXT_CONFIG)),
        opt("tool_choice", TOOL_CHOICE),
        opt("tools", ValueShape::List(&TOOL, 0, ANY_LENGTH)),
        nul("top_logprobs", ValueShape::Whole(0, 20)),
        nul("top_p", ValueShape::Number(0.0, 1.0)),
        nul("truncation", ValueShape::OneOf(&["auto", "disabled"])),
        opt("user", ValueShape::Text),
    ],
);

const INCLUDED: ValueShape = ValueShape::OneOf(&[
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
    "reasoning.encrypted_content",
    "message.output_text.logprobs",
]);

static REASONING: Shape = closed(
    RESPONSES,
    &[
        nul(
            "context",
            ValueShape::OneOf(&["auto", "current_turn", "all_turns"]),
        ),
        nul(
            "effort",
            ValueShape::OneOf(&["none", "minimal", "low", "medium", "high", "xhigh", "max"]),
        ),
        nul("generate_summary", SUMMARIES),
        nul("mode", ValueShape::Text),
        nul("summary", SUMMARIES),
    ],
);
const SUMMARIES: ValueShape = ValueShape::OneOf(&["auto", "concise", "detailed"]);

static TEXT_CONFIG: Shape = closed(
    RESPONSES,
    &[
        opt("format", FORMAT),
        nul("verbosity", ValueShape::OneOf(&["low", "medium", "high"])),
    ],
);
const FORMAT: ValueShape = ValueShape::Tagged(
    "type",
    &[
        ("text", &ONLY_TYPE),
        ("json_object", &ONLY_TYPE),
        ("json_schema", &FORMAT_SCHEMA),
    ],
);
static ONLY_TYPE: Shape = closed(RESPONSES, &[tag("type")]);
static FORMAT_SCHEMA: Shape = closed(
    RESPONSES,
    &[
        tag("type"),
        req("name", ValueShape::Name(64, "_-")),
        req("schema", MAP),
        opt("description", ValueShape::Text),
        nul("strict", ValueShape::Bool),
    ],
);

const TOOL_CHOICE: ValueShape = ValueShape::Either(&[
    ValueShape::OneOf(&["none", "auto", "required"]),
    ValueShape::Tagged(
        "type",
        &[
            ("function", &NAMED),
            ("custom", &NAMED),
            ("allowed_tools", &ALLOWED),
            ("mcp", &OTHER),
            ("file_search", &ONLY_TYPE),
            ("web_search", &ONLY_TYPE),
            ("web_search_preview", &ONLY_TYPE),
            ("computer", &ONLY_TYPE),
            ("computer_use", &ONLY_TYPE),
            ("computer_use_preview", &ONLY_TYPE),
            ("code_interpreter", &ONLY_TYPE),
            ("image_generation", &ONLY_TYPE),
            ("apply_patch", &ONLY_TYPE),
            ("shell", &ONLY_TYPE),
            ("programmatic_tool_calling", &ONLY_TYPE),
        ],
    ),
]);
static NAMED: Shape = closed(
    RESPONSES,
    &[tag("type"), req("name", ValueShape::Name(128, "_-"))],
);
static ALLOWED: Shape = closed(
    RESPONSES,
    &[
        tag("type"),
        req("mode", ValueShape::OneOf(&["auto", "required"])),
        req("tools", ValueShape::List(&MAP, 1, ANY_LENGTH)),
    ],
);

/// What no rule here is about.
static OTHER: Shape = open(RESPONSES, &[tag("type")]);
static FUNCTION: Shape = closed(
    RESPONSES,
    &[
        tag("type"),
        req("name", ValueShape::Name(64, "_-")),
        nul("description", ValueShape::Text),
        nul("parameters", MAP),
        nul("strict", ValueShape::Bool),
        nul("output_schema", MAP),
        opt("defer_loading", ValueShape::Bool),
        nul("allowed_callers", TEXTS),
        opt("async", ValueShape::Bool),
    ],
);
static CUSTOM: Shape = closed(
    RESPONSES,
    &[
        tag("type"),
        req("name", ValueShape::Name(64, "_-")),
        opt("description", ValueShape::Text),
        opt("format", MAP),
        opt("defer_loading", ValueShape::Bool),
        nul("allowed_callers", TEXTS),
        opt("async", ValueShape::Bool),
    ],
);
const TOOL: ValueShape = ValueShape::Tagged(
    "type",
    &[
        ("function", &FUNCTION),
        ("custom", &CUSTOM),
        ("file_search", &OTHER),
        ("computer", &OTHER),
        ("computer_use_preview", &OTHER),
        ("web_search", &OTHER),
        ("web_search_2025_08_26", &OTHER),
        ("web_search_preview", &OTHER),
        ("web_search_preview_2025_03_11", &OTHER),
        ("mcp", &OTHER),
        ("code_interpreter", &OTHER),
        ("programmatic_tool_calling", &OTHER),
        ("image_generation", &OTHER),
        ("local_shell", &OTHER),
        ("shell", &OTHER),
        ("namespace", &OTHER),
        ("tool_search", &OTHER),
        ("apply_patch", &OTHER),
    ],
);

const STATUS: Field = nul(
    "status",
    ValueShape::OneOf(&["in_progress", "completed", "incomplete"]),
);
const ID: Field = nul("id", ValueShape::Text);
const CALL_ID: ValueShape = ValueShape::Sized(1, 64);

static MESSAGE: Shape = closed(
    RESPONSES,
    &[
        opt("type", ValueShape::Text),
        ID,
        req(
            "role",
            ValueShape::OneOf(&["user", "assistant", "system", "developer"]),
        ),
        req(
            "content",
            ValueShape::Either(&[ValueShape::Text, ValueShape::List(&PART, 1, ANY_LENGTH)]),
        ),
        STATUS,
        nul("phase", ValueShape::OneOf(&["commentary", "final_answer"])),
    ],
);
const BREAKPOINT: Field = nul("prompt_cache_breakpoint", MAP);
const DETAIL: Field = nul(
    "detail",
    ValueShape::OneOf(&["low", "high", "auto", "original"]),
);
static INPUT_TEXT: Shape = closed(
    RESPONSES,
    &[tag("type"), req("text", ValueShape::Text), BREAKPOINT],
);
static INPUT_IMAGE: Shape = closed(
    RESPONSES,
    &[
        tag("type"),
        DETAIL,
        nul("file_id", ValueShape::Text),
        nul("image_url", ValueShape::Text),
        BREAKPOINT,
    ],
);
static INPUT_FILE: Shape = closed(
    RESPONSES,
    &[
        tag("type"),
        DETAIL,
        nul("file_data", ValueShape::Text),
        nul("file_id", ValueShape::Text),
        nul("file_url", ValueShape::Text),
        nul("filename", ValueShape::Text),
        BREAKPOINT,
    ],
);
static OUTPUT_TEXT: Shape = closed(
    RESPONSES,
    &[
        tag("type"),
        req("text", ValueShape::Text),
        opt("annotations", ValueShape::List(&MAP, 0, ANY_LENGTH)),
        opt("logprobs", ValueShape::List(&MAP, 0, ANY_LENGTH)),
    ],
);
static REFUSAL: Shape = closed(RESPONSES, &[tag("type"), req("refusal", ValueShape::Text)]);
const PART: ValueShape = ValueShape::Tagged(
    "type",
    &[
        ("input_text", &INPUT_TEXT),
        ("input_image", &INPUT_IMAGE),
        ("input_file", &INPUT_FILE),
        ("output_text", &OUTPUT_TEXT),
        ("refusal", &REFUSAL),
    ],
);
const RESULT_PART: ValueShape = ValueShape::Tagged(
    "type",
    &[
        ("input_text", &INPUT_TEXT),
        ("input_image", &INPUT_IMAGE),
        ("input_file", &INPUT_FILE),
    ],
);

static CALL: Shape = closed(
    RESPONSES,
    &[
        tag("type"),
        ID,
        req("call_id", CALL_ID),
        req("name", ValueShape::Name(128, "_-")),
        req("arguments", ValueShape::Text),
        STATUS,
        nul("caller", MAP),
        opt("namespace", ValueShape::Text),
        opt("async", ValueShape::Bool),
    ],
);
static CALL_OUTPUT: Shape = closed(
    RESPONSES,
    &[
        tag("type"),
        ID,
        req("call_id", CALL_ID),
        req(
            "output",
            ValueShape::Either(&[
                ValueShape::Text,
                ValueShape::List(&RESULT_PART, 0, ANY_LENGTH),
            ]),
        ),
        STATUS,
        nul("caller", MAP),
        nul("name", ValueShape::Text),
        nul("namespace", ValueShape::Text),
    ],
);
static CUSTOM_CALL: Shape = closed(
    RESPONSES,
    &[
        tag("type"),
        ID,
        req("call_id", CALL_ID),
        req("name", ValueShape::Name(128, "_-")),
        req("input", ValueShape::Text),
        STATUS,
        nul("caller", MAP),
        opt("namespace", ValueShape::Text),
        opt("async", ValueShape::Bool),
    ],
);
static REASONING_ITEM: Shape = closed(
    RESPONSES,
    &[
        tag("type"),
        // Codex CLI leaves it out, and is answered.
        ID,
        req("summary", ValueShape::List(&MAP, 0, ANY_LENGTH)),
        nul("content", ValueShape::List(&MAP, 0, ANY_LENGTH)),
        nul("encrypted_content", ValueShape::Text),
        STATUS,
    ],
);
/// An item of any kind: a message may leave its kind out.
const ITEM: ValueShape = ValueShape::TaggedOr("type", "message", ITEMS);
const ITEMS: &[(&str, &Shape)] = &[
    ("message", &MESSAGE),
    ("function_call", &CALL),
    ("function_call_output", &CALL_OUTPUT),
    ("custom_tool_call", &CUSTOM_CALL),
    ("custom_tool_call_output", &CALL_OUTPUT),
    ("reasoning", &REASONING_ITEM),
    ("item_reference", &OTHER),
    ("file_search_call", &OTHER),
    ("computer_call", &OTHER),
    ("computer_call_output", &OTHER),
    ("web_search_call", &OTHER),
    ("tool_search_call", &OTHER),
    ("tool_search_output", &OTHER),
    ("image_generation_call", &OTHER),
    ("code_interpreter_call", &OTHER),
    ("local_shell_call", &OTHER),
    ("local_shell_call_output", &OTHER),
    ("shell_call", &OTHER),
    ("shell_call_output", &OTHER),
    ("apply_patch_call", &OTHER),
    ("apply_patch_call_output", &OTHER),
    ("mcp_list_tools", &OTHER),
    ("mcp_approval_request", &OTHER),
    ("mcp_approval_response", &OTHER),
    ("mcp_call", &OTHER),
    ("compaction", &OTHER),
    ("compaction_trigger", &OTHER),
    ("program", &OTHER),
    ("configuration_update", &OTHER),
    ("program_output", &OTHER),
    ("additional_tools", &OTHER),
];
