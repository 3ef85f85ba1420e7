//! The fields of OpenAI's chat completions.

use super::CHAT;
use crate::mock::strict::shape::{
    Field, Kind, MAP, POSITIVE, Shape, closed, nul, open, opt, req, tag,
};

const ANY_LENGTH: usize = usize::MAX;
const EFFORTS: &[&str] = &["none", "minimal", "low", "medium", "high", "xhigh", "max"];
const SMALL_TO_LARGE: Kind = Kind::OneOf(&["low", "medium", "high"]);
/// At most 128 tools.
const TOOLS_MAX: usize = 128;

pub(super) static REQUEST: Shape = closed(
    CHAT,
    &[
        req("model", Kind::Text),
        req("messages", Kind::List(&MESSAGE, 1, ANY_LENGTH)),
        nul("audio", MAP),
        nul("frequency_penalty", Kind::Number(-2.0, 2.0)),
        opt("function_call", Kind::Either(&[Kind::Text, MAP])),
        opt("functions", Kind::List(&MAP, 1, TOOLS_MAX)),
        nul("logit_bias", Kind::Map(&Kind::Number(-100.0, 100.0))),
        nul("logprobs", Kind::Bool),
        nul("max_completion_tokens", POSITIVE),
        nul("max_tokens", POSITIVE),
        nul("metadata", METADATA),
        nul(
            "modalities",
            Kind::List(&Kind::OneOf(&["text", "audio"]), 0, 2),
        ),
        nul("moderation", MAP),
        nul("n", Kind::Whole(1, 128)),
        opt("parallel_tool_calls", Kind::Bool),
        nul("prediction", MAP),
        nul("presence_penalty", Kind::Number(-2.0, 2.0)),
        nul("prompt_cache_key", Kind::Sized(0, 64)),
        opt("prompt_cache_options", MAP),
        nul("prompt_cache_retention", Kind::OneOf(&["in_memory", "24h"])),
        nul("reasoning_effort", Kind::OneOf(EFFORTS)),
        opt("response_format", FORMAT),
        nul("safety_identifier", Kind::Sized(0, 128)),
        nul("seed", Kind::Whole(i64::MIN, i64::MAX)),
        nul(
            "service_tier",
            Kind::OneOf(&["auto", "default", "flex", "scale", "priority", "fast"]),
        ),
        nul(
            "stop",
            Kind::Either(&[Kind::Text, Kind::List(&Kind::Text, 1, 4)]),
        ),
        nul("store", Kind::Bool),
        nul("stream", Kind::Bool),
        nul("stream_options", Kind::Object(&STREAM_OPTIONS)),
        nul("temperature", Kind::Number(0.0, 2.0)),
        opt("tool_choice", TOOL_CHOICE),
        opt("tools", Kind::List(&TOOL, 1, TOOLS_MAX)),
        nul("top_logprobs", Kind::Whole(0, 20)),
        nul("top_p", Kind::Number(0.0, 1.0)),
        opt("user", Kind::Text),
        nul("verbosity", SMALL_TO_LARGE),
        opt("web_search_options", MAP),
    ],
);

/// What all compatible servers have in common; each adds fields and values of its own.
pub(super) static COMPATIBLE: Shape = open(
    CHAT,
    &[
        req("model", Kind::Text),
        req("messages", Kind::List(&ANY_MESSAGE, 1, ANY_LENGTH)),
        opt("max_completion_tokens", POSITIVE),
        opt("max_tokens", POSITIVE),
        opt("temperature", Kind::Number(0.0, 2.0)),
        opt("top_p", Kind::Number(0.0, 1.0)),
        opt(
            "stop",
            Kind::Either(&[Kind::Text, Kind::List(&Kind::Text, 0, ANY_LENGTH)]),
        ),
        opt("stream", Kind::Bool),
        opt("stream_options", MAP),
        opt("tools", Kind::List(&ANY_TOOL, 0, ANY_LENGTH)),
        opt("tool_choice", Kind::Either(&[Kind::Text, MAP])),
        opt("response_format", Kind::Object(&ONLY_TYPE_OPEN)),
    ],
);
static ONLY_TYPE_OPEN: Shape = open(CHAT, &[tag("type")]);
const ANY_TOOL: Kind = Kind::Object(&ANY_FUNCTION_TOOL);
static ANY_FUNCTION_TOOL: Shape = open(
    CHAT,
    &[tag("type"), opt("function", Kind::Object(&ANY_FUNCTION))],
);
static ANY_FUNCTION: Shape = open(
    CHAT,
    &[
        req("name", Kind::Sized(1, ANY_LENGTH)),
        opt("description", Kind::Text),
        opt("parameters", MAP),
    ],
);
static ANY_MESSAGE_OBJECT: Shape = open(
    CHAT,
    &[
        req("role", Kind::Text),
        opt(
            "content",
            Kind::Either(&[Kind::Text, Kind::List(&PART_OF_ANY_KIND, 1, ANY_LENGTH)]),
        ),
        opt("tool_calls", Kind::List(&ANY_CALL, 0, ANY_LENGTH)),
        opt("tool_call_id", Kind::Text),
    ],
);
const ANY_MESSAGE: Kind = Kind::Object(&ANY_MESSAGE_OBJECT);
const PART_OF_ANY_KIND: Kind = Kind::Object(&ONLY_TYPE_OPEN);
const ANY_CALL: Kind = Kind::Object(&ANY_CALL_OBJECT);
static ANY_CALL_OBJECT: Shape = open(
    CHAT,
    &[
        req("id", Kind::Text),
        req("function", Kind::Object(&ANY_CALLED)),
    ],
);
static ANY_CALLED: Shape = open(
    CHAT,
    &[req("name", Kind::Text), req("arguments", Kind::Text)],
);

pub(super) const METADATA: Kind = Kind::Map(&Kind::Sized(0, 512));

static STREAM_OPTIONS: Shape = closed(
    CHAT,
    &[
        opt("include_obfuscation", Kind::Bool),
        opt("include_usage", Kind::Bool),
    ],
);

static ONLY_TYPE: Shape = closed(CHAT, &[tag("type")]);
static FORMAT_SCHEMA: Shape = closed(
    CHAT,
    &[
        tag("type"),
        req("json_schema", Kind::Object(&ANSWER_SCHEMA)),
    ],
);
static ANSWER_SCHEMA: Shape = closed(
    CHAT,
    &[
        req("name", Kind::Name(64, "_-")),
        opt("description", Kind::Text),
        opt("schema", MAP),
        nul("strict", Kind::Bool),
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

static NAMED: Shape = closed(CHAT, &[req("name", Kind::Name(64, "_-"))]);
static CHOICE_FUNCTION: Shape = closed(CHAT, &[tag("type"), req("function", Kind::Object(&NAMED))]);
static CHOICE_CUSTOM: Shape = closed(CHAT, &[tag("type"), req("custom", Kind::Object(&NAMED))]);
static CHOICE_ALLOWED: Shape = closed(
    CHAT,
    &[tag("type"), req("allowed_tools", Kind::Object(&ALLOWED))],
);
static ALLOWED: Shape = closed(
    CHAT,
    &[
        req("mode", Kind::OneOf(&["auto", "required"])),
        req("tools", Kind::List(&MAP, 1, ANY_LENGTH)),
    ],
);
const TOOL_CHOICE: Kind = Kind::Either(&[
    Kind::OneOf(&["none", "auto", "required"]),
    Kind::Tagged(
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
    &[tag("type"), req("function", Kind::Object(&FUNCTION))],
);
static FUNCTION: Shape = closed(
    CHAT,
    &[
        req("name", Kind::Name(64, "_-")),
        opt("description", Kind::Text),
        opt("parameters", MAP),
        nul("strict", Kind::Bool),
    ],
);
static TOOL_CUSTOM: Shape = closed(CHAT, &[tag("type"), req("custom", Kind::Object(&CUSTOM))]);
static CUSTOM: Shape = closed(
    CHAT,
    &[
        req("name", Kind::Name(64, "_-")),
        opt("description", Kind::Text),
        opt("format", MAP),
    ],
);
const TOOL: Kind = Kind::Tagged(
    "type",
    &[("function", &TOOL_FUNCTION), ("custom", &TOOL_CUSTOM)],
);

const NAME: Field = opt("name", Kind::Sized(1, 64));
const BREAKPOINT: Field = opt("prompt_cache_breakpoint", MAP);
static SYSTEM: Shape = closed(CHAT, &[tag("role"), req("content", TEXT_OR_TEXTS), NAME]);
static USER: Shape = closed(
    CHAT,
    &[
        tag("role"),
        req(
            "content",
            Kind::Either(&[Kind::Text, Kind::List(&PART, 1, ANY_LENGTH)]),
        ),
        NAME,
    ],
);
static ASSISTANT: Shape = closed(
    CHAT,
    &[
        tag("role"),
        // The function calling guide appends the answer's message as it is.
        nul("annotations", Kind::List(&MAP, 0, ANY_LENGTH)),
        nul("audio", MAP),
        nul(
            "content",
            Kind::Either(&[Kind::Text, Kind::List(&SAID_PART, 1, ANY_LENGTH)]),
        ),
        nul("function_call", MAP),
        NAME,
        nul("refusal", Kind::Text),
        opt("tool_calls", Kind::List(&CALL, 1, TOOLS_MAX)),
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
        nul("content", Kind::Text),
        req("name", Kind::Text),
    ],
);
const MESSAGE: Kind = Kind::Tagged(
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
const CALL_ID: Kind = Kind::Sized(1, 40);
static CALL_FUNCTION: Shape = closed(
    CHAT,
    &[
        tag("type"),
        req("id", CALL_ID),
        req("function", Kind::Object(&CALLED)),
    ],
);
static CALLED: Shape = closed(
    CHAT,
    &[
        req("name", Kind::Name(64, "_-")),
        req("arguments", Kind::Text),
    ],
);
static CALL_CUSTOM: Shape = closed(
    CHAT,
    &[
        tag("type"),
        req("id", CALL_ID),
        req("custom", Kind::Object(&CALLED_CUSTOM)),
    ],
);
static CALLED_CUSTOM: Shape = closed(
    CHAT,
    &[req("name", Kind::Name(64, "_-")), req("input", Kind::Text)],
);
const CALL: Kind = Kind::Tagged(
    "type",
    &[("function", &CALL_FUNCTION), ("custom", &CALL_CUSTOM)],
);

static TEXT: Shape = closed(CHAT, &[tag("type"), req("text", Kind::Text), BREAKPOINT]);
const TEXT_OR_TEXTS: Kind = Kind::Either(&[
    Kind::Text,
    Kind::List(&Kind::Tagged("type", &[("text", &TEXT)]), 1, ANY_LENGTH),
]);
static IMAGE: Shape = closed(
    CHAT,
    &[
        tag("type"),
        req("image_url", Kind::Object(&IMAGE_URL)),
        BREAKPOINT,
    ],
);
static IMAGE_URL: Shape = closed(
    CHAT,
    &[
        req("url", Kind::Text),
        opt("detail", Kind::OneOf(&["auto", "low", "high", "original"])),
    ],
);
static AUDIO: Shape = closed(
    CHAT,
    &[
        tag("type"),
        req("input_audio", Kind::Object(&AUDIO_DATA)),
        BREAKPOINT,
    ],
);
static AUDIO_DATA: Shape = closed(
    CHAT,
    &[
        req("data", Kind::Text),
        req("format", Kind::OneOf(&["wav", "mp3"])),
    ],
);
static FILE: Shape = closed(
    CHAT,
    &[
        tag("type"),
        req("file", Kind::Object(&FILE_DATA)),
        BREAKPOINT,
    ],
);
static FILE_DATA: Shape = closed(
    CHAT,
    &[
        opt("file_data", Kind::Text),
        opt("file_id", Kind::Text),
        opt("filename", Kind::Text),
    ],
);
static REFUSAL: Shape = closed(CHAT, &[tag("type"), req("refusal", Kind::Text)]);
const PART: Kind = Kind::Tagged(
    "type",
    &[
        ("text", &TEXT),
        ("image_url", &IMAGE),
        ("input_audio", &AUDIO),
        ("file", &FILE),
    ],
);
const SAID_PART: Kind = Kind::Tagged("type", &[("text", &TEXT), ("refusal", &REFUSAL)]);
