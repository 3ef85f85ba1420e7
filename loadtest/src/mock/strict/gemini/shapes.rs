//! The fields of Google's requests.

use super::{COUNTING, EMBEDDINGS, GENERATE};
use crate::mock::strict::shape::{
    COUNT as NUMBER, MAP, POSITIVE, Shape, TEXTS, ValueShape, closed, open, opt, req,
};

const ANY_LENGTH: usize = usize::MAX;
const PARTS: ValueShape = ValueShape::List(&ValueShape::Object(&PART), 0, ANY_LENGTH);

pub(super) static REQUEST: Shape = closed(
    GENERATE,
    &[
        req("contents", CONTENTS),
        opt("model", ValueShape::Text),
        opt("systemInstruction", ValueShape::Object(&CONTENT)),
        opt("generationConfig", ValueShape::Object(&CONFIG)),
        opt(
            "tools",
            ValueShape::List(&ValueShape::Object(&TOOL), 0, ANY_LENGTH),
        ),
        opt("toolConfig", ValueShape::Object(&TOOL_CONFIG)),
        opt(
            "safetySettings",
            ValueShape::List(&ValueShape::Object(&SAFETY), 0, ANY_LENGTH),
        ),
        opt("cachedContent", ValueShape::Text),
        opt("labels", ValueShape::Map(&ValueShape::Text)),
        opt("serviceTier", ValueShape::Text),
        opt("store", ValueShape::Bool),
    ],
);
const CONTENTS: ValueShape = ValueShape::List(&ValueShape::Object(&CONTENT), 0, ANY_LENGTH);

pub(super) static COUNT: Shape = closed(
    COUNTING,
    &[
        opt("contents", CONTENTS),
        opt("generateContentRequest", ValueShape::Object(&REQUEST)),
        opt("model", ValueShape::Text),
    ],
);

pub(super) static EMBED: Shape = closed(
    EMBEDDINGS,
    &[
        req(
            "requests",
            ValueShape::List(&ValueShape::Object(&EMBED_ONE), 1, 100),
        ),
        opt("model", ValueShape::Text),
    ],
);
static EMBED_ONE: Shape = closed(
    EMBEDDINGS,
    &[
        req("model", ValueShape::Text),
        req("content", ValueShape::Object(&EMBED_CONTENT)),
        opt("taskType", ValueShape::Text),
        opt("title", ValueShape::Text),
        opt("outputDimensionality", POSITIVE),
    ],
);
static EMBED_CONTENT: Shape = closed(
    EMBEDDINGS,
    &[
        opt("role", ValueShape::Text),
        req(
            "parts",
            ValueShape::List(&ValueShape::Object(&PART), 1, ANY_LENGTH),
        ),
    ],
);

static CONTENT: Shape = closed(
    GENERATE,
    &[opt("role", ValueShape::Text), opt("parts", PARTS)],
);
static PART: Shape = closed(
    GENERATE,
    &[
        opt("text", ValueShape::Text),
        opt("thought", ValueShape::Bool),
        opt("thoughtSignature", ValueShape::Text),
        opt("inlineData", ValueShape::Object(&BLOB)),
        opt("fileData", ValueShape::Object(&FILE)),
        opt("functionCall", ValueShape::Object(&CALL)),
        opt("functionResponse", ValueShape::Object(&RESULT)),
        opt("executableCode", MAP),
        opt("codeExecutionResult", MAP),
        opt("toolCall", MAP),
        opt("toolResponse", MAP),
        opt("videoMetadata", MAP),
        opt("mediaResolution", MAP),
        opt("partMetadata", MAP),
        opt("mediaProcessing", MAP),
    ],
);
static BLOB: Shape = closed(
    GENERATE,
    &[
        req("mimeType", ValueShape::Sized(1, 256)),
        req("data", ValueShape::Sized(1, ANY_LENGTH)),
        opt("displayName", ValueShape::Text),
    ],
);
static FILE: Shape = closed(
    GENERATE,
    &[
        req("fileUri", ValueShape::Sized(1, ANY_LENGTH)),
        opt("mimeType", ValueShape::Text),
        opt("displayName", ValueShape::Text),
    ],
);
static CALL: Shape = closed(
    GENERATE,
    &[
        opt("id", ValueShape::Text),
        req("name", ValueShape::Text),
        opt("args", MAP),
    ],
);
static RESULT: Shape = closed(
    GENERATE,
    &[
        opt("id", ValueShape::Text),
        req("name", ValueShape::Text),
        req("response", MAP),
        opt("parts", ValueShape::List(&MAP, 0, ANY_LENGTH)),
        opt("willContinue", ValueShape::Bool),
        opt("scheduling", ValueShape::Text),
    ],
);

static CONFIG: Shape = closed(
    GENERATE,
    &[
        opt("stopSequences", ValueShape::List(&ValueShape::Text, 0, 5)),
        opt(
            "responseMimeType",
            ValueShape::OneOf(&[
                "text/plain",
                "application/json",
                "application/xml",
                "application/yaml",
                "text/x.enum",
            ]),
        ),
        opt("responseSchema", ValueShape::Object(&SCHEMA)),
        opt("responseJsonSchema", ValueShape::Any),
        opt("responseFormat", ValueShape::Any),
        opt("responseModalities", TEXTS),
        opt("candidateCount", ValueShape::Whole(1, 8)),
        opt("maxOutputTokens", POSITIVE),
        opt("temperature", ValueShape::Number(0.0, 2.0)),
        opt("topP", ValueShape::Number(0.0, 1.0)),
        opt("topK", ValueShape::Number(1.0, f64::MAX)),
        opt("seed", ValueShape::Whole(i32::MIN as i64, i32::MAX as i64)),
        opt("presencePenalty", ValueShape::Number(-2.0, 2.0)),
        opt("frequencyPenalty", ValueShape::Number(-2.0, 2.0)),
        opt("responseLogprobs", ValueShape::Bool),
        opt("logprobs", ValueShape::Whole(0, 20)),
        opt("speechConfig", MAP),
        opt("imageConfig", MAP),
        opt("translationConfig", MAP),
        opt("thinkingConfig", ValueShape::Object(&THINKING)),
        opt("mediaResolution", ValueShape::Text),
        opt("audioTimestamp", ValueShape::Bool),
        opt("routingConfig", MAP),
        opt("modelSelectionConfig", MAP),
        opt("enableEnhancedCivicAnswers", ValueShape::Bool),
        opt("enableAffectiveDialog", ValueShape::Bool),
    ],
);
static THINKING: Shape = closed(
    GENERATE,
    &[
        opt("includeThoughts", ValueShape::Bool),
        opt("thinkingBudget", ValueShape::Whole(-1, i32::MAX as i64)),
        opt("thinkingLevel", ValueShape::Text),
    ],
);

static TOOL: Shape = closed(
    GENERATE,
    &[
        opt(
            "functionDeclarations",
            ValueShape::List(&ValueShape::Object(&FUNCTION), 0, ANY_LENGTH),
        ),
        opt("googleSearch", MAP),
        opt("googleSearchRetrieval", MAP),
        opt("codeExecution", MAP),
        opt("urlContext", MAP),
        opt("computerUse", MAP),
        opt("fileSearch", MAP),
        opt("googleMaps", MAP),
        opt("retrieval", MAP),
        opt("enterpriseWebSearch", MAP),
        opt("mcpServers", ValueShape::Any),
        opt("parallelAiSearch", MAP),
        opt("exaAiSearch", MAP),
    ],
);
static FUNCTION: Shape = closed(
    GENERATE,
    &[
        req("name", ValueShape::Text),
        opt("description", ValueShape::Text),
        opt("parameters", ValueShape::Object(&SCHEMA)),
        opt("parametersJsonSchema", ValueShape::Any),
        opt("response", MAP),
        opt("responseJsonSchema", ValueShape::Any),
        opt("behavior", ValueShape::Text),
    ],
);
static TOOL_CONFIG: Shape = closed(
    GENERATE,
    &[
        opt("functionCallingConfig", ValueShape::Object(&CALLING_CONFIG)),
        opt("retrievalConfig", MAP),
        opt("includeServerSideToolInvocations", ValueShape::Bool),
    ],
);
static CALLING_CONFIG: Shape = closed(
    GENERATE,
    &[
        opt(
            "mode",
            ValueShape::OneOf(&["MODE_UNSPECIFIED", "AUTO", "ANY", "NONE", "VALIDATED"]),
        ),
        opt("allowedFunctionNames", TEXTS),
        opt("streamFunctionCallArguments", ValueShape::Bool),
    ],
);
static SAFETY: Shape = open(
    GENERATE,
    &[
        req("category", ValueShape::Text),
        req("threshold", ValueShape::Text),
    ],
);

/// Google's form of schemas; the SDK of 2026-11 knows `additionalProperties`, `$ref` and `$defs` too.
static SCHEMA: Shape = closed(
    GENERATE,
    &[
        opt("type", ValueShape::Text),
        opt("format", ValueShape::Text),
        opt("title", ValueShape::Text),
        opt("description", ValueShape::Text),
        opt("nullable", ValueShape::Bool),
        opt("enum", TEXTS),
        opt("items", ValueShape::Object(&SCHEMA)),
        opt("maxItems", NUMBER),
        opt("minItems", NUMBER),
        opt("properties", ValueShape::Map(&ValueShape::Object(&SCHEMA))),
        opt("required", TEXTS),
        opt("minProperties", NUMBER),
        opt("maxProperties", NUMBER),
        opt("minLength", NUMBER),
        opt("maxLength", NUMBER),
        opt("pattern", ValueShape::Text),
        opt("example", ValueShape::Any),
        opt(
            "anyOf",
            ValueShape::List(&ValueShape::Object(&SCHEMA), 0, ANY_LENGTH),
        ),
        opt("propertyOrdering", TEXTS),
        opt("default", ValueShape::Any),
        opt("minimum", ValueShape::Number(f64::MIN, f64::MAX)),
        opt("maximum", ValueShape::Number(f64::MIN, f64::MAX)),
        opt("additionalProperties", ValueShape::Any),
        opt("$ref", ValueShape::Text),
        opt("$defs", MAP),
    ],
);
