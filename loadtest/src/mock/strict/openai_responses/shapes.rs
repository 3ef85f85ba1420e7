//! The fields of OpenAI's Responses API.

use super::RESPONSES;
use crate::mock::strict::shape::{
    Field, Kind, MAP, Shape, TEXTS, closed, nul, open, opt, req, tag,
};

const ANY_LENGTH: usize = usize::MAX;

pub(super) static REQUEST: Shape = closed(
    RESPONSES,
    &[
        opt("model", Kind::Text),
        nul(
            "input",
            Kind::Either(&[Kind::Text, Kind::List(&ITEM, 1, ANY_LENGTH)]),
        ),
        opt("access_programs", MAP),
        nul("background", Kind::Bool),
        opt("background_options", MAP),
        nul("context_management", Kind::List(&MAP, 1, ANY_LENGTH)),
        nul("conversation", Kind::Either(&[Kind::Text, MAP])),
        opt("image", MAP),
        nul("include", Kind::List(&INCLUDED, 0, ANY_LENGTH)),
        nul("instructions", Kind::Text),
        nul("max_output_tokens", Kind::Whole(16, i64::MAX)),
        nul("max_tool_calls", Kind::Whole(1, i64::MAX)),
        nul("metadata", Kind::Map(&Kind::Sized(0, 512))),
        nul("moderation", MAP),
        nul("parallel_tool_calls", Kind::Bool),
        nul("previous_response_id", Kind::Text),
        nul("prompt", MAP),
        nul("prompt_cache_key", Kind::Sized(0, 64)),
        opt("prompt_cache_options", MAP),
        nul("prompt_cache_retention", Kind::OneOf(&["in_memory", "24h"])),
        nul("reasoning", Kind::Object(&REASONING)),
        nul("safety_identifier", Kind::Sized(0, 128)),
        nul(
            "service_tier",
            Kind::OneOf(&[
                "auto",
                "default",
                "flex",
                "scale",
                "priority",
                "fast",
                "ultrafast",
            ]),
        ),
        nul("store", Kind::Bool),
        nul("stream", Kind::Bool),
        nul("stream_options", MAP),
        nul("temperature", Kind::Number(0.0, 2.0)),
        opt("text", Kind::Object(&TEXT_CONFIG)),
        opt("tool_choice", TOOL_CHOICE),
        opt("tools", Kind::List(&TOOL, 0, ANY_LENGTH)),
        nul("top_logprobs", Kind::Whole(0, 20)),
        nul("top_p", Kind::Number(0.0, 1.0)),
        nul("truncation", Kind::OneOf(&["auto", "disabled"])),
        opt("user", Kind::Text),
    ],
);

const INCLUDED: Kind = Kind::OneOf(&[
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
            Kind::OneOf(&["auto", "current_turn", "all_turns"]),
        ),
        nul(
            "effort",
            Kind::OneOf(&["none", "minimal", "low", "medium", "high", "xhigh", "max"]),
        ),
        nul("generate_summary", SUMMARIES),
        nul("mode", Kind::Text),
        nul("summary", SUMMARIES),
    ],
);
const SUMMARIES: Kind = Kind::OneOf(&["auto", "concise", "detailed"]);

static TEXT_CONFIG: Shape = closed(
    RESPONSES,
    &[
        opt("format", FORMAT),
        nul("verbosity", Kind::OneOf(&["low", "medium", "high"])),
    ],
);
const FORMAT: Kind = Kind::Tagged(
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
        req("name", Kind::Name(64, "_-")),
        req("schema", MAP),
        opt("description", Kind::Text),
        nul("strict", Kind::Bool),
    ],
);

const TOOL_CHOICE: Kind = Kind::Either(&[
    Kind::OneOf(&["none", "auto", "required"]),
    Kind::Tagged(
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
    &[tag("type"), req("name", Kind::Name(128, "_-"))],
);
static ALLOWED: Shape = closed(
    RESPONSES,
    &[
        tag("type"),
        req("mode", Kind::OneOf(&["auto", "required"])),
        req("tools", Kind::List(&MAP, 1, ANY_LENGTH)),
    ],
);

/// What no rule here is about.
static OTHER: Shape = open(RESPONSES, &[tag("type")]);
static FUNCTION: Shape = closed(
    RESPONSES,
    &[
        tag("type"),
        req("name", Kind::Name(64, "_-")),
        nul("description", Kind::Text),
        nul("parameters", MAP),
        nul("strict", Kind::Bool),
        nul("output_schema", MAP),
        opt("defer_loading", Kind::Bool),
        nul("allowed_callers", TEXTS),
        opt("async", Kind::Bool),
    ],
);
static CUSTOM: Shape = closed(
    RESPONSES,
    &[
        tag("type"),
        req("name", Kind::Name(64, "_-")),
        opt("description", Kind::Text),
        opt("format", MAP),
        opt("defer_loading", Kind::Bool),
        nul("allowed_callers", TEXTS),
        opt("async", Kind::Bool),
    ],
);
const TOOL: Kind = Kind::Tagged(
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
    Kind::OneOf(&["in_progress", "completed", "incomplete"]),
);
const ID: Field = nul("id", Kind::Text);
const CALL_ID: Kind = Kind::Sized(1, 64);

static MESSAGE: Shape = closed(
    RESPONSES,
    &[
        opt("type", Kind::Text),
        ID,
        req(
            "role",
            Kind::OneOf(&["user", "assistant", "system", "developer"]),
        ),
        req(
            "content",
            Kind::Either(&[Kind::Text, Kind::List(&PART, 1, ANY_LENGTH)]),
        ),
        STATUS,
        nul("phase", Kind::OneOf(&["commentary", "final_answer"])),
    ],
);
const BREAKPOINT: Field = nul("prompt_cache_breakpoint", MAP);
const DETAIL: Field = nul("detail", Kind::OneOf(&["low", "high", "auto", "original"]));
static INPUT_TEXT: Shape = closed(
    RESPONSES,
    &[tag("type"), req("text", Kind::Text), BREAKPOINT],
);
static INPUT_IMAGE: Shape = closed(
    RESPONSES,
    &[
        tag("type"),
        DETAIL,
        nul("file_id", Kind::Text),
        nul("image_url", Kind::Text),
        BREAKPOINT,
    ],
);
static INPUT_FILE: Shape = closed(
    RESPONSES,
    &[
        tag("type"),
        DETAIL,
        nul("file_data", Kind::Text),
        nul("file_id", Kind::Text),
        nul("file_url", Kind::Text),
        nul("filename", Kind::Text),
        BREAKPOINT,
    ],
);
static OUTPUT_TEXT: Shape = closed(
    RESPONSES,
    &[
        tag("type"),
        req("text", Kind::Text),
        opt("annotations", Kind::List(&MAP, 0, ANY_LENGTH)),
        opt("logprobs", Kind::List(&MAP, 0, ANY_LENGTH)),
    ],
);
static REFUSAL: Shape = closed(RESPONSES, &[tag("type"), req("refusal", Kind::Text)]);
const PART: Kind = Kind::Tagged(
    "type",
    &[
        ("input_text", &INPUT_TEXT),
        ("input_image", &INPUT_IMAGE),
        ("input_file", &INPUT_FILE),
        ("output_text", &OUTPUT_TEXT),
        ("refusal", &REFUSAL),
    ],
);
const RESULT_PART: Kind = Kind::Tagged(
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
        req("name", Kind::Name(128, "_-")),
        req("arguments", Kind::Text),
        STATUS,
        nul("caller", MAP),
        opt("namespace", Kind::Text),
        opt("async", Kind::Bool),
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
            Kind::Either(&[Kind::Text, Kind::List(&RESULT_PART, 0, ANY_LENGTH)]),
        ),
        STATUS,
        nul("caller", MAP),
        nul("name", Kind::Text),
        nul("namespace", Kind::Text),
    ],
);
static CUSTOM_CALL: Shape = closed(
    RESPONSES,
    &[
        tag("type"),
        ID,
        req("call_id", CALL_ID),
        req("name", Kind::Name(128, "_-")),
        req("input", Kind::Text),
        STATUS,
        nul("caller", MAP),
        opt("namespace", Kind::Text),
        opt("async", Kind::Bool),
    ],
);
static REASONING_ITEM: Shape = closed(
    RESPONSES,
    &[
        tag("type"),
        // Codex CLI leaves it out, and is answered.
        ID,
        req("summary", Kind::List(&MAP, 0, ANY_LENGTH)),
        nul("content", Kind::List(&MAP, 0, ANY_LENGTH)),
        nul("encrypted_content", Kind::Text),
        STATUS,
    ],
);
/// An item of any kind: a message may leave its kind out.
const ITEM: Kind = Kind::TaggedOr("type", "message", ITEMS);
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
