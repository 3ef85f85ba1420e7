//! The fields of OpenAI's chat completions.

use super::CHAT;
use crate::mock::strict::shape::{
    Field, MAP, POSITIVE, Shape, ValueShape, closed, nul, open, opt, req, tag,
};

const ANY_LENGTH: usize = usize::MAX;
const EFFORTS: &[&str] = &["none", "minimal", "low", "medium", "high", "xhigh", "max"];
const SMALL_TO_LARGE: ValueShape = ValueShape::OneOf(&["low", "medium", "high"]);
/// At most 128 tools.
const TOOLS_MAX: usize = 128;

pub(super) static REQUEST: Shape = closed(
    CHAT,
    &[
        req("model", ValueShape::Text),
        req("messages", ValueShape::List(&MESSAGE, 1, ANY_LENGTH)),
        nul("audio", MAP),
        nul("frequency_penalty", ValueShape::Number(-2.0, 2.0)),
        opt(
            "function_call",
            ValueShape::Either(&[ValueShape::Text, MAP]),
        ),
        opt("functions", ValueShape::List(&MAP, 1, TOOLS_MAX)),
        nul(
            "logit_bias",
            ValueShape::Map(&ValueShape::Number(-100.0, 100.0)),
        ),
        nul("logprobs", ValueShape::Bool),
        nul("max_completion_tokens", POSITIVE),
        nul("max_tokens", POSITIVE),
        nul("metadata", METADATA),
        nul(
            "modalities",
            ValueShape::List(&ValueShape::OneOf(&["text", "audio"]), 0, 2),
        ),
        nul("moderation", MAP),
        nul("n", ValueShape::Whole(1, 128)),
        opt("parallel_tool_calls", ValueShape::Bool),
        nul("prediction", MAP),
        nul("presence_penalty", ValueShape::Number(-2.0, 2.0)),
        nul("prompt_cache_key", ValueShape::Sized(0, 64)),
        opt("prompt_cache_options", MAP),
        nul(
            "prompt_cache_retention",
            ValueShape::OneOf(&["in_memory", "24h"]),
        ),
        nul("reasoning_effort", ValueShape::OneOf(EFFORTS)),
        opt("response_format", FORMAT),
        nul("safety_identifier", ValueShape::Sized(0, 128)),
        nul("seed", ValueShape::Whole(i64::MIN, i64::MAX)),
        nul(
            "service_tier",
            ValueShape::OneOf(&["auto", "default", "flex", "scale", "priority", "fast"]),
        ),
        nul(
            "stop",
            ValueShape::Either(&[ValueShape::Text, ValueShape::List(&ValueShape::Text, 1, 4)]),
        ),
        nul("store", ValueShape::Bool),
        nul("stream", ValueShape::Bool),
        nul("stream_options", ValueShape::Object(&STREAM_OPTIONS)),
        nul("temperature", ValueShape::Number(0.0, 2.0)),
        opt("tool_choice", TOOL_CHOICE),
        opt("tools", ValueShape::List(&TOOL, 1, TOOLS_MAX)),
        nul("top_logprobs", ValueShape::Whole(0, 20)),
        nul("top_p", ValueShape::Number(0.0, 1.0)),
        opt("user", ValueShape::Text),
        nul("verbosity", SMALL_TO_LARGE),
        opt("web_search_options", MAP),
    ],
);

/// What all compatible servers have in common; each adds fields and values of its own.
pub(super) static COMPATIBLE: Shape = open(
    CHAT,
    &[
        req("model", ValueShape::Text),
        req("messages", ValueShape::List(&ANY_MESSAGE, 1, ANY_LENGTH)),
        opt("max_completion_tokens", POSITIVE),
        opt("max_tokens", POSITIVE),
        opt("temperature", ValueShape::Number(0.0, 2.0)),
        opt("top_p", ValueShape::Number(0.0, 1.0)),
        opt(
            "stop",
            ValueShape::Either(&[
                ValueShape::Text,
                ValueShape::List(&ValueShape::Text, 0, ANY_LENGTH),
            ]),
        ),
        opt("stream", ValueShape::Bool),
        opt("stream_options", MAP),
        opt("tools", ValueShape::List(&ANY_TOOL, 0, ANY_LENGTH)),
        opt("tool_choice", ValueShape::Either(&[ValueShape::Text, MAP])),
        opt("response_format", ValueShape::Object(&ONLY_TYPE_OPEN)),
    ],
);
static ONLY_TYPE_OPEN: Shape = open(CHAT, &[tag("type")]);
const ANY_TOOL: ValueShape = ValueShape::Object(&ANY_FUNCTION_TOOL);
static ANY_FUNCTION_TOOL: Shape = open(
    CHAT,
    &[
        tag("type"),
        opt("function", ValueShape::Object(&ANY_FUNCTION)),
    ],
);
static ANY_FUNCTION: Shape = open(
    CHAT,
    &[
        req("name", ValueShape::Sized(1, ANY_LENGTH)),
        opt("description", ValueShape::Text),
        opt("parameters", MAP),
    ],
);
static ANY_MESSAGE_OBJECT: Shape = open(
    CHAT,
    &[
        req("role", ValueShape::Text),
        opt(
            "content",
            ValueShape::Either(&[
                ValueShape::Text,
                ValueShape::List(&PART_OF_ANY_KIND, 1, ANY_LENGTH),
            ]),
        ),
        opt("tool_calls", ValueShape::List(&ANY_CALL, 0, ANY_LENGTH)),
        opt("tool_call_id", ValueShape::Text),
    ],
);
const ANY_MESSAGE: ValueShape = ValueShape::Object(&ANY_MESSAGE_OBJECT);
const PART_OF_ANY_KIND: ValueShape = ValueShape::Object(&ONLY_TYPE_OPEN);
const ANY_CALL: ValueShape = ValueShape::Object(&ANY_CALL_OBJECT);
static ANY_CALL_OBJECT: Shape = open(
    CHAT,
    &[
        req("id", ValueShape::Text),
        req("function", ValueShape::Object(&ANY_CALLED)),
    ],
);
static ANY_CALLED: Shape = open(
    CHAT,
    &[
        req("name", ValueShape::Text),
        req("arguments", ValueShape::Text),
    ],
);

pub(super) const METADATA: ValueShape = ValueShape::Map(&ValueShape::Sized(0, 512));

static STREAM_OPTIONS: Shape = closed(
    CHAT,
    &[
        opt("include_obfuscation", ValueShape::Bool),
        opt("include_usage", ValueShape::Bool),
    ],
);

static ONLY_TYPE: Shape = closed(CHAT, &[tag("type")]);
static FORMAT_SCHEMA: Shape = closed(
    CHAT,
    &[
        tag("type"),
        req("json_schema", ValueShape::Object(&ANSWER_SCHEMA)),
    ],
);
static ANSWER_SCHEMA: Shape = closed(
    CHAT,
    &[
        req("name", ValueShape::Name(64, "_-")),
        opt("description", ValueShape::Text),
        opt("schema", MAP),
        nul("strict", ValueShape::Bool),
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

static NAMED: Shape = closed(CHAT, &[req("name", ValueShape::Name(64, "_-"))]);
static CHOICE_FUNCTION: Shape = closed(
    CHAT,
    &[tag("type"), req("function", ValueShape::Object(&NAMED))],
);
static CHOICE_CUSTOM: Shape = closed(
    CHAT,
    &[tag("type"), req("custom", ValueShape::Object(&NAMED))],
);
static CHOICE_ALLOWED: Shape = closed(
    CHAT,
    &[
        tag("type"),
        req("allowed_tools", ValueShape::Object(&ALLOWED)),
    ],
);
static ALLOWED: Shape = closed(
    CHAT,
    &[
        req("mode", ValueShape::OneOf(&["auto", "required"])),
        req("tools", ValueShape::List(&MAP, 1, ANY_LENGTH)),
    ],
);
const TOOL_CHOICE: ValueShape = ValueShape::Either(&[
    ValueShape::OneOf(&["none", "auto", "required"]),
    ValueShape::Tagged(
        "type",
        &[
            ("function", &CHOICE_FUNCTION),
            ("custom", &CHOICE_CUSTOM),
            ("allowed_tools", &CHOICE_ALLOWED),
        ],
    ),
]);

static TOOL_FUNCTION: Shape = closed(
    CHAT,
    &[tag("type"), req("function", ValueShape::Object(&FUNCTION))],
);
static FUNCTION: Shape = closed(
    CHAT,
    &[
        req("name", ValueShape::Name(64, "_-")),
        opt("description", ValueShape::Text),
        opt("parameters", MAP),
        nul("strict", ValueShape::Bool),
    ],
);
static TOOL_CUSTOM: Shape = closed(
    CHAT,
    &[tag("type"), req("custom", ValueShape::Object(&CUSTOM))],
);
static CUSTOM: Shape = closed(
    CHAT,
    &[
        req("name", ValueShape::Name(64, "_-")),
        opt("description", ValueShape::Text),
        opt("format", MAP),
    ],
);
const TOOL: ValueShape = ValueShape::Tagged(
    "type",
    &[("function", &TOOL_FUNCTION), ("custom", &TOOL_CUSTOM)],
);

const NAME: Field = opt("name", ValueShape::Sized(1, 64));
const BREAKPOINT: Field = opt("prompt_cache_breakpoint", MAP);
static SYSTEM: Shape = closed(CHAT, &[tag("role"), req("content", TEXT_OR_TEXTS), NAME]);
static USER: Shape = closed(
    CHAT,
    &[
        tag("role"),
        req(
            "content",
            ValueShape::Either(&[ValueShape::Text, ValueShape::List(&PART, 1, ANY_LENGTH)]),
        ),
        NAME,
    ],
);
static ASSISTANT: Shape = closed(
    CHAT,
    &[
        tag("role"),
        // The function calling guide appends the answer's message as it is.
        nul("annotations", ValueShape::List(&MAP, 0, ANY_LENGTH)),
        nul("audio", MAP),
        nul(
            "content",
            ValueShape::Either(&[
                ValueShape::Text,
                ValueShape::List(&SAID_PART, 1, ANY_LENGTH),
            ]),
        ),
        nul("function_call", MAP),
        NAME,
        nul("refusal", ValueShape::Text),
        opt("tool_calls", ValueShape::List(&CALL, 1, TOOLS_MAX)),
    ],
);
static TOOL_RESULT: Shape = closed(
    CHAT,
    &[
        tag("role"),
        req("content", TEXT_OR_TEXTS),
        req("tool_call_id", CALL_ID),
    ],
);
static FUNCTION_RESULT: Shape = closed(
    CHAT,
    &[
        tag("role"),
        nul("content", ValueShape::Text),
        req("name", ValueShape::Text),
    ],
);
const MESSAGE: ValueShape = ValueShape::Tagged(
    "role",
    &[
        ("developer", &SYSTEM),
        ("system", &SYSTEM),
        ("user", &USER),
        ("assistant", &ASSISTANT),
        ("tool", &TOOL_RESULT),
        ("function", &FUNCTION_RESULT),
    ],
);

/// OpenAI's error for a longer one: "string too long. Expected a string with maximum length 40".
const CALL_ID: ValueShape = ValueShape::Sized(1, 40);
static CALL_FUNCTION: Shape = closed(
    CHAT,
    &[
        tag("type"),
        req("id", CALL_ID),
        req("function", ValueShape::Object(&CALLED)),
    ],
);
static CALLED: Shape = closed(
    CHAT,
    &[
        req("name", ValueShape::Name(64, "_-")),
        req("arguments", ValueShape::Text),
    ],
);
static CALL_CUSTOM: Shape = closed(
    CHAT,
    &[
        tag("type"),
        req("id", CALL_ID),
        req("custom", ValueShape::Object(&CALLED_CUSTOM)),
    ],
);
static CALLED_CUSTOM: Shape = closed(
    CHAT,
    &[
        req("name", ValueShape::Name(64, "_-")),
        req("input", ValueShape::Text),
    ],
);
const CALL: ValueShape = ValueShape::Tagged(
    "type",
    &[("function", &CALL_FUNCTION), ("custom", &CALL_CUSTOM)],
);

static TEXT: Shape = closed(
    CHAT,
    &[tag("type"), req("text", ValueShape::Text), BREAKPOINT],
);
const TEXT_OR_TEXTS: ValueShape = ValueShape::Either(&[
    ValueShape::Text,
    ValueShape::List(
        &ValueShape::Tagged("type", &[("text", &TEXT)]),
        1,
        ANY_LENGTH,
    ),
]);
static IMAGE: Shape = closed(
    CHAT,
    &[
        tag("type"),
        req("image_url", ValueShape::Object(&IMAGE_URL)),
        BREAKPOINT,
    ],
);
static IMAGE_URL: Shape = closed(
    CHAT,
    &[
        req("url", ValueShape::Text),
        opt(
            "detail",
            ValueShape::OneOf(&["auto", "low", "high", "original"]),
        ),
    ],
);
static AUDIO: Shape = closed(
    CHAT,
    &[
        tag("type"),
        req("input_audio", ValueShape::Object(&AUDIO_DATA)),
        BREAKPOINT,
    ],
);
static AUDIO_DATA: Shape = closed(
    CHAT,
    &[
        req("data", ValueShape::Text),
        req("format", ValueShape::OneOf(&["wav", "mp3"])),
    ],
);
static FILE: Shape = closed(
    CHAT,
    &[
        tag("type"),
        req("file", ValueShape::Object(&FILE_DATA)),
        BREAKPOINT,
    ],
);
static FILE_DATA: Shape = closed(
    CHAT,
    &[
        opt("file_data", ValueShape::Text),
        opt("file_id", ValueShape::Text),
        opt("filename", ValueShape::Text),
    ],
);
static REFUSAL: Shape = closed(CHAT, &[tag("type"), req("refusal", ValueShape::Text)]);
const PART: ValueShape = ValueShape::Tagged(
    "type",
    &[
        ("text", &TEXT),
        ("image_url", &IMAGE),
        ("input_audio", &AUDIO),
        ("file", &FILE),
    ],
);
const SAID_PART: ValueShape = ValueShape::Tagged("type", &[("text", &TEXT), ("refusal", &REFUSAL)]);
