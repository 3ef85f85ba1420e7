//! The fields of Google's requests.

use super::{COUNTING, EMBEDDINGS, GENERATE};
use crate::mock::strict::shape::{
    COUNT as NUMBER, Kind, MAP, POSITIVE, Shape, TEXTS, closed, open, opt, req,
};

const ANY_LENGTH: usize = usize::MAX;
const PARTS: Kind = Kind::List(&Kind::Object(&PART), 0, ANY_LENGTH);

pub(super) static REQUEST: Shape = closed(
    GENERATE,
    &[
        req("contents", CONTENTS),
        opt("model", Kind::Text),
        opt("systemInstruction", Kind::Object(&CONTENT)),
        opt("generationConfig", Kind::Object(&CONFIG)),
        opt("tools", Kind::List(&Kind::Object(&TOOL), 0, ANY_LENGTH)),
        opt("toolConfig", Kind::Object(&TOOL_CONFIG)),
        opt(
            "safetySettings",
            Kind::List(&Kind::Object(&SAFETY), 0, ANY_LENGTH),
        ),
        opt("cachedContent", Kind::Text),
        opt("labels", Kind::Map(&Kind::Text)),
        opt("serviceTier", Kind::Text),
        opt("store", Kind::Bool),
    ],
);
const CONTENTS: Kind = Kind::List(&Kind::Object(&CONTENT), 0, ANY_LENGTH);

pub(super) static COUNT: Shape = closed(
    COUNTING,
    &[
        opt("contents", CONTENTS),
        opt("generateContentRequest", Kind::Object(&REQUEST)),
        opt("model", Kind::Text),
    ],
);

pub(super) static EMBED: Shape = closed(
    EMBEDDINGS,
    &[
        req("requests", Kind::List(&Kind::Object(&EMBED_ONE), 1, 100)),
        opt("model", Kind::Text),
    ],
);
static EMBED_ONE: Shape = closed(
    EMBEDDINGS,
    &[
        req("model", Kind::Text),
        req("content", Kind::Object(&EMBED_CONTENT)),
        opt("taskType", Kind::Text),
        opt("title", Kind::Text),
        opt("outputDimensionality", POSITIVE),
    ],
);
static EMBED_CONTENT: Shape = closed(
    EMBEDDINGS,
    &[
        opt("role", Kind::Text),
        req("parts", Kind::List(&Kind::Object(&PART), 1, ANY_LENGTH)),
    ],
);

static CONTENT: Shape = closed(GENERATE, &[opt("role", Kind::Text), opt("parts", PARTS)]);
static PART: Shape = closed(
    GENERATE,
    &[
        opt("text", Kind::Text),
        opt("thought", Kind::Bool),
        opt("thoughtSignature", Kind::Text),
        opt("inlineData", Kind::Object(&BLOB)),
        opt("fileData", Kind::Object(&FILE)),
        opt("functionCall", Kind::Object(&CALL)),
        opt("functionResponse", Kind::Object(&RESULT)),
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
        req("mimeType", Kind::Sized(1, 256)),
        req("data", Kind::Sized(1, ANY_LENGTH)),
        opt("displayName", Kind::Text),
    ],
);
static FILE: Shape = closed(
    GENERATE,
    &[
        req("fileUri", Kind::Sized(1, ANY_LENGTH)),
        opt("mimeType", Kind::Text),
        opt("displayName", Kind::Text),
    ],
);
static CALL: Shape = closed(
    GENERATE,
    &[
        opt("id", Kind::Text),
        req("name", Kind::Text),
        opt("args", MAP),
    ],
);
static RESULT: Shape = closed(
    GENERATE,
    &[
        opt("id", Kind::Text),
        req("name", Kind::Text),
        req("response", MAP),
        opt("parts", Kind::List(&MAP, 0, ANY_LENGTH)),
        opt("willContinue", Kind::Bool),
        opt("scheduling", Kind::Text),
    ],
);

static CONFIG: Shape = closed(
    GENERATE,
    &[
        opt("stopSequences", Kind::List(&Kind::Text, 0, 5)),
        opt(
            "responseMimeType",
            Kind::OneOf(&[
                "text/plain",
                "application/json",
                "application/xml",
                "application/yaml",
                "text/x.enum",
            ]),
        ),
        opt("responseSchema", Kind::Object(&SCHEMA)),
        opt("responseJsonSchema", Kind::Any),
        opt("responseFormat", Kind::Any),
        opt("responseModalities", TEXTS),
        opt("candidateCount", Kind::Whole(1, 8)),
        opt("maxOutputTokens", POSITIVE),
        opt("temperature", Kind::Number(0.0, 2.0)),
        opt("topP", Kind::Number(0.0, 1.0)),
        opt("topK", Kind::Number(1.0, f64::MAX)),
        opt("seed", Kind::Whole(i32::MIN as i64, i32::MAX as i64)),
        opt("presencePenalty", Kind::Number(-2.0, 2.0)),
        opt("frequencyPenalty", Kind::Number(-2.0, 2.0)),
        opt("responseLogprobs", Kind::Bool),
        opt("logprobs", Kind::Whole(0, 20)),
        opt("speechConfig", MAP),
        opt("imageConfig", MAP),
        opt("translationConfig", MAP),
        opt("thinkingConfig", Kind::Object(&THINKING)),
        opt("mediaResolution", Kind::Text),
        opt("audioTimestamp", Kind::Bool),
        opt("routingConfig", MAP),
        opt("modelSelectionConfig", MAP),
        opt("enableEnhancedCivicAnswers", Kind::Bool),
        opt("enableAffectiveDialog", Kind::Bool),
    ],
);
static THINKING: Shape = closed(
    GENERATE,
    &[
        opt("includeThoughts", Kind::Bool),
        opt("thinkingBudget", Kind::Whole(-1, i32::MAX as i64)),
        opt("thinkingLevel", Kind::Text),
    ],
);

static TOOL: Shape = closed(
    GENERATE,
    &[
        opt(
            "functionDeclarations",
            Kind::List(&Kind::Object(&FUNCTION), 0, ANY_LENGTH),
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
        opt("mcpServers", Kind::Any),
        opt("parallelAiSearch", MAP),
        opt("exaAiSearch", MAP),
    ],
);
static FUNCTION: Shape = closed(
    GENERATE,
    &[
        req("name", Kind::Text),
        opt("description", Kind::Text),
        opt("parameters", Kind::Object(&SCHEMA)),
        opt("parametersJsonSchema", Kind::Any),
        opt("response", MAP),
        opt("responseJsonSchema", Kind::Any),
        opt("behavior", Kind::Text),
    ],
);
static TOOL_CONFIG: Shape = closed(
    GENERATE,
    &[
        opt("functionCallingConfig", Kind::Object(&CALLING_CONFIG)),
        opt("retrievalConfig", MAP),
        opt("includeServerSideToolInvocations", Kind::Bool),
    ],
);
static CALLING_CONFIG: Shape = closed(
    GENERATE,
    &[
        opt(
            "mode",
            Kind::OneOf(&["MODE_UNSPECIFIED", "AUTO", "ANY", "NONE", "VALIDATED"]),
        ),
        opt("allowedFunctionNames", TEXTS),
        opt("streamFunctionCallArguments", Kind::Bool),
    ],
);
static SAFETY: Shape = open(
    GENERATE,
    &[req("category", Kind::Text), req("threshold", Kind::Text)],
);

/// Google's form of schemas; the SDK of 2026-11 knows `additionalProperties`, `$ref` and `$defs` too.
static SCHEMA: Shape = closed(
    GENERATE,
    &[
        opt("type", Kind::Text),
        opt("format", Kind::Text),
        opt("title", Kind::Text),
        opt("description", Kind::Text),
        opt("nullable", Kind::Bool),
        opt("enum", TEXTS),
        opt("items", Kind::Object(&SCHEMA)),
        opt("maxItems", NUMBER),
        opt("minItems", NUMBER),
        opt("properties", Kind::Map(&Kind::Object(&SCHEMA))),
        opt("required", TEXTS),
        opt("minProperties", NUMBER),
        opt("maxProperties", NUMBER),
        opt("minLength", NUMBER),
        opt("maxLength", NUMBER),
        opt("pattern", Kind::Text),
        opt("example", Kind::Any),
        opt("anyOf", Kind::List(&Kind::Object(&SCHEMA), 0, ANY_LENGTH)),
        opt("propertyOrdering", TEXTS),
        opt("default", Kind::Any),
        opt("minimum", Kind::Number(f64::MIN, f64::MAX)),
        opt("maximum", Kind::Number(f64::MIN, f64::MAX)),
        opt("additionalProperties", Kind::Any),
        opt("$ref", Kind::Text),
        opt("$defs", MAP),
    ],
);
