//! What is between two dialects: one model of a request, one of an answer.
//!
//! A client's request is read into a [`Request`] and written out for the provider; a provider's
//! answer, plain or streamed, is read into a row of [`Event`]s, from which the client's answer,
//! plain or streamed, is written. So a dialect is read and written once, not once per pair.
//!
//! Text stays as it is escaped, schemas and arguments stay as the JSON they are.

use std::borrow::Cow;

use serde::de::IgnoredAny;
use weir_schemas::Usage;

use crate::api::ClientApi;
use crate::json::{Invalid, Object, Text};
use crate::prepare::{Refusal, Unsupported};
use crate::response::FinishReason;
use crate::upstream_error::UpstreamErrorFacts;

/// A request for an answer of one model.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Request<'a> {
    pub(crate) stream: bool,
    pub(crate) turns: Vec<Turn<'a>>,
    pub(crate) tools: Vec<Tool<'a>>,
    pub(crate) tool_choice: Option<ToolChoice<'a>>,
    pub(crate) parallel_tools: Option<bool>,
    pub(crate) format: Option<Format<'a>>,
    pub(crate) stop: Vec<Text<'a>>,
    pub(crate) max_tokens: Option<u64>,
    pub(crate) sampling: Sampling,
    pub(crate) reasoning: Option<Reasoning>,
    pub(crate) user: Option<Text<'a>>,
    /// Fields that OpenAI's chat and responses both have, with their values.
    pub(crate) shared: Vec<(&'static str, &'a str)>,
    pub(crate) verbosity: Option<Text<'a>>,
    /// The value of a `cache_control` that stands for the whole request.
    pub(crate) cache_control: Option<&'a str>,
    /// Whether the last turn is the beginning of the answer, which the model is to go on with.
    pub(crate) is_begun: bool,
}

impl Request<'_> {
    /// Where somebody must have said something: what stands there alone as a system prompt is the
    /// user's.
    pub(crate) fn let_user_speak(&mut self) {
        let is_alone = self.turns.iter().all(|turn| turn.role == Role::System);
        if let Some(last) = self.turns.last_mut().filter(|_| is_alone) {
            last.role = Role::User;
        }
    }
}

/// The longest name of an end user that OpenAI takes. Others take more, such as OpenRouter 128.
const USER_LENGTH_MAX: usize = 64;

/// The name of the end user for OpenAI's formats. Agents name more in it than fits (device, account
/// and session); such a name becomes a hash, the same one each time, as OpenAI recommends for all.
pub(crate) fn opaque_user<'a>(user: &'a Text<'_>, report: &mut Report) -> Text<'a> {
    if user.len() <= USER_LENGTH_MAX {
        return user.borrowed();
    }
    report.bends(Feature::User);
    Text::owned(format!("user_{:016x}", fnv_1a(user.as_escaped())))
}

/// The id of a call, or a shorter one that always stands for it.
pub(crate) fn short_id<'a>(id: &'a Text<'_>, length_max: usize) -> Text<'a> {
    if id.len() <= length_max {
        return id.borrowed();
    }
    Text::owned(format!("call_{:016x}", fnv_1a(id.as_escaped())))
}

/// FNV-1a, 64 bit: for ids that must not collide and that nobody attacks.
pub(crate) fn fnv_1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// How tokens are drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Sampling {
    pub(crate) temperature: Option<f64>,
    pub(crate) top_p: Option<f64>,
    pub(crate) top_k: Option<u64>,
    pub(crate) frequency_penalty: Option<f64>,
    pub(crate) presence_penalty: Option<f64>,
    pub(crate) seed: Option<i64>,
}

/// What one side said. Tool results are part of what the user's side said.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Turn<'a> {
    pub(crate) role: Role,
    pub(crate) parts: Vec<Part<'a>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// System or developer.
    System,
    User,
    Assistant,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Part<'a> {
    Text(Text<'a>),
    Refusal(Text<'a>),
    Image {
        source: Source<'a>,
        /// OpenAI's `detail`.
        detail: Option<Text<'a>>,
    },
    Audio {
        data: Text<'a>,
        /// `wav`, `mp3` …
        format: Text<'a>,
    },
    /// A document, such as a PDF.
    File {
        source: Source<'a>,
        name: Option<Text<'a>>,
    },
    Reasoning {
        text: Text<'a>,
        /// What the provider needs to recognise its reasoning.
        proof: Option<Proof<'a>>,
    },
    ToolCall(ToolCall<'a>),
    ToolResult {
        call_id: Text<'a>,
        /// Text, images and files.
        content: Vec<Self>,
        is_error: bool,
    },
    /// All up to here is to be cached: the value of Anthropic's `cache_control`.
    CacheMark(&'a str),
}

/// Sees to it that each side says only what other dialects have a place for on that side: images,
/// audio, files and results are the user's, calls and reasoning the assistant's.
pub(crate) fn keep_in_place(
    parts: &mut Vec<Part<'_>>,
    role: Role,
    report: &mut Report,
) -> Result<(), Refusal> {
    for part in parts.iter().filter(|part| !part.is_in_place(role)) {
        report.lacks(match part {
            Part::Image { .. } => Feature::Images,
            Part::Audio { .. } => Feature::Audio,
            Part::File { .. } => Feature::Files,
            _ => Feature::Misplaced,
        })?;
    }
    parts.retain(|part| part.is_in_place(role));
    Ok(())
}

impl Part<'_> {
    const fn is_in_place(&self, role: Role) -> bool {
        match self {
            Self::Text(_) | Self::Refusal(_) | Self::CacheMark(_) => true,
            Self::Reasoning { .. } | Self::ToolCall(_) => matches!(role, Role::Assistant),
            Self::Image { .. }
            | Self::Audio { .. }
            | Self::File { .. }
            | Self::ToolResult { .. } => matches!(role, Role::User),
        }
    }
}

/// Parts, each with the cache mark that stands behind it.
pub(crate) fn with_marks<'p, 'a: 'p>(
    parts: impl IntoIterator<Item = &'p Part<'a>>,
) -> Vec<(&'p Part<'a>, Option<&'p str>)> {
    let mut marked: Vec<(&Part<'a>, Option<&str>)> = Vec::new();
    for part in parts {
        match (part, marked.last_mut()) {
            (Part::CacheMark(mark), Some((_, last))) => *last = Some(mark),
            (Part::CacheMark(_), None) => {}
            (part, _) => marked.push((part, None)),
        }
    }
    marked
}

/// A tool's result. Marks in its content stand behind it: what is inside of one cannot be marked.
pub(crate) fn tool_result<'a>(
    call_id: Text<'a>,
    mut content: Vec<Part<'a>>,
    is_error: bool,
) -> Vec<Part<'a>> {
    let is_mark = |part: &mut Part<'_>| matches!(part, Part::CacheMark(_));
    let mark = content.extract_if(.., is_mark).last();
    let result = Part::ToolResult {
        call_id,
        content,
        is_error,
    };
    [Some(result), mark].into_iter().flatten().collect()
}

/// Where a target takes marks of what is to be cached. Elsewhere caching is automatic, and a mark
/// changes nothing about the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CacheMarks {
    Nowhere,
    /// In the content of messages.
    InMessages,
    /// In the content of messages, at tools and at the request.
    Everywhere,
}

impl CacheMarks {
    pub(crate) const fn in_messages(self) -> bool {
        !matches!(self, Self::Nowhere)
    }

    pub(crate) const fn everywhere(self) -> bool {
        matches!(self, Self::Everywhere)
    }
}

/// Takes the mark that a part or a tool carries: `cache_control`, as Anthropic and those that
/// followed call it, or OpenAI's `prompt_cache_breakpoint`.
pub(crate) fn take_mark<'a>(
    object: &mut Object<'a, '_>,
    is_taken: bool,
    report: &mut Report,
) -> Result<Option<&'a str>, Refusal> {
    let mut found = None;
    for key in ["cache_control", "prompt_cache_breakpoint"] {
        let Some(raw) = object.take(key) else {
            continue;
        };
        let path = object.path().key(key);
        let mut mark = Object::read(raw, path)?;
        if !is_taken {
            report.hint(path.general());
        } else if key == "cache_control" {
            found = Some(raw);
        } else {
            found = Some(cache_control_of(&mut mark, report)?);
        }
    }
    Ok(found)
}

/// Lifetimes of OpenAI's are half an hour and more, or unsaid; of Anthropic's, five minutes or an
/// hour.
fn cache_control_of(
    breakpoint: &mut Object<'_, '_>,
    report: &mut Report,
) -> Result<&'static str, Refusal> {
    breakpoint.take("mode");
    let lives_long = breakpoint.take("ttl").is_some();
    report.rest(breakpoint, &[])?;
    Ok(if lives_long {
        r#"{"type":"ephemeral","ttl":"1h"}"#
    } else {
        r#"{"type":"ephemeral"}"#
    })
}

/// Where an image or document is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Source<'a> {
    Url(Text<'a>),
    /// Base64.
    Data {
        media_type: Text<'a>,
        data: Text<'a>,
    },
}

impl<'a> Source<'a> {
    /// From a URL, which may hold the data itself.
    pub(crate) fn from_url(url: &Text<'a>) -> Self {
        Self::from_data_url(url).unwrap_or_else(|| Self::Url(url.clone()))
    }

    /// `data:image/png;base64,…`
    fn from_data_url(url: &Text<'a>) -> Option<Self> {
        let (head, data) = url.as_escaped().strip_prefix("data:")?.split_once(',')?;
        let media_type = head.strip_suffix(";base64")?;
        // A parameter such as `;charset=utf-8` is no part of the type that others want.
        let media_type = media_type.split(';').next().unwrap_or(media_type);
        Some(Self::Data {
            media_type: Text::owned(media_type.to_owned()),
            data: Text::owned(data.to_owned()),
        })
    }

    /// The form of OpenAI's `image_url` and `file_data`.
    pub(crate) fn to_url(&self) -> Text<'_> {
        match self {
            Self::Url(url) => url.borrowed(),
            Self::Data { media_type, data } => {
                let mut url = Text::owned(format!("data:{}", media_type.as_escaped()));
                url.push(&Text::plain(";base64,"));
                url.push(data);
                url
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ToolCall<'a> {
    pub(crate) id: Text<'a>,
    pub(crate) name: Text<'a>,
    /// A JSON object.
    pub(crate) arguments: Cow<'a, str>,
    /// Gemini's thought signature.
    pub(crate) proof: Option<Proof<'a>>,
}

/// What a provider gives out with its reasoning and wants back unchanged: a signature, or the
/// reasoning itself, encrypted.
///
/// Clients of other dialects keep it in a field of their own dialect, marked with where it came
/// from. A provider is never shown another's proof, which it would refuse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proof<'a> {
    pub(crate) origin: Origin,
    pub(crate) value: Text<'a>,
    /// Whether the value is the reasoning itself, and there is no text.
    pub(crate) is_encrypted: bool,
}

/// Whose reasoning it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Anthropic,
    Gemini,
    OpenAiResponses,
    /// A provider without proofs; its clients may still want a value.
    Unsigned,
}

impl Origin {
    const ALL: [Self; 4] = [
        Self::Anthropic,
        Self::Gemini,
        Self::OpenAiResponses,
        Self::Unsigned,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::OpenAiResponses => "responses",
            Self::Unsigned => "unsigned",
        }
    }
}

/// How values begin that this gateway marked. Base64 has no full stop, so that no provider's own
/// value begins like this.
pub(crate) const PROOF_MARK: &str = "weir.";

impl<'a> Proof<'a> {
    pub(crate) const fn signature(origin: Origin, value: Text<'a>) -> Self {
        Self {
            origin,
            value,
            is_encrypted: false,
        }
    }

    pub(crate) const fn encrypted(origin: Origin, value: Text<'a>) -> Self {
        Self {
            origin,
            value,
            is_encrypted: true,
        }
    }

    pub(crate) fn to_owned(&self) -> Proof<'static> {
        let Self {
            origin,
            value,
            is_encrypted,
        } = self.clone();
        Proof {
            origin,
            value: value.into_owned(),
            is_encrypted,
        }
    }

    /// The value as a client of another dialect keeps it: `weir.anthropic.s.VALUE`.
    pub(crate) fn marked(&self) -> Text<'static> {
        let kind = if self.is_encrypted { 'e' } else { 's' };
        let mut text = Text::owned(format!("{PROOF_MARK}{}.{kind}.", self.origin.as_str()));
        text.push(&self.value);
        text
    }

    /// Reads a value that a client brought back. `None` if this gateway did not mark it.
    pub(crate) fn from_marked(text: &Text<'_>) -> Option<Proof<'static>> {
        let rest = text.strip_prefix(PROOF_MARK)?;
        Origin::ALL.into_iter().find_map(|origin| {
            let rest = rest.strip_prefix(origin.as_str())?;
            let signature = rest.strip_prefix(".s.");
            let is_encrypted = signature.is_none();
            let value = match signature {
                Some(value) => value.into_owned(),
                None => rest.strip_prefix(".e.")?.into_owned(),
            };
            Some(Proof {
                origin,
                value,
                is_encrypted,
            })
        })
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tool<'a> {
    pub(crate) name: Text<'a>,
    pub(crate) description: Option<Text<'a>>,
    /// JSON schema of the arguments.
    pub(crate) schema: Cow<'a, str>,
    pub(crate) strict: Option<bool>,
    /// Whether the client's tool takes free text, which stands in [`FREE_TEXT_SCHEMA`]'s field.
    pub(crate) is_free_text: bool,
    /// The value of its `cache_control`.
    pub(crate) cache_control: Option<&'a str>,
}

/// Schema that stands for a tool which takes free text: OpenAI's custom tools.
pub(crate) const FREE_TEXT_SCHEMA: &str =
    r#"{"type":"object","properties":{"input":{"type":"string"}},"required":["input"]}"#;

/// Reads OpenAI's custom tool: `{name, description, format}`. A grammar cannot be enforced by
/// others, so it becomes part of the description.
pub(crate) fn free_text_tool<'a>(
    mut object: Object<'a, '_>,
    report: &mut Report,
) -> Result<Tool<'a>, Refusal> {
    object.take("type");
    let name = object.required_text("name")?;
    let mut description = object.text("description")?.unwrap_or_default();
    object.object("format", |mut format| {
        if !format.required_text("type")?.is("grammar") {
            return report.rest(&format, &[]);
        }
        // Chat has one object more around it than responses have.
        match format.object("grammar", |grammar| {
            describe_grammar(grammar, &mut description, report)
        })? {
            Some(()) => report.rest(&format, &[]),
            None => describe_grammar(format, &mut description, report),
        }
    })?;
    let cache_control = take_mark(&mut object, report.cache_marks.everywhere(), report)?;
    report.rest(&object, &["defer_loading"])?;
    Ok(Tool {
        name,
        description: (!description.is_empty()).then_some(description),
        schema: Cow::Borrowed(FREE_TEXT_SCHEMA),
        strict: None,
        is_free_text: true,
        cache_control,
    })
}

fn describe_grammar(
    mut grammar: Object<'_, '_>,
    description: &mut Text<'_>,
    report: &mut Report,
) -> Result<(), Refusal> {
    let syntax = grammar.text("syntax")?.unwrap_or_default();
    let definition = grammar.required_text("definition")?;
    description.push(&Text::plain("\n\nThe input must follow this grammar ("));
    description.push(&syntax);
    description.push(&Text::plain("):\n"));
    description.push(&definition);
    report.rest(&grammar, &[])
}

/// The arguments that stand for a custom tool's free text.
pub(crate) fn free_text_arguments(input: &Text<'_>) -> Cow<'static, str> {
    Cow::Owned(format!(r#"{{"input":"{}"}}"#, input.as_escaped()))
}

/// Arguments as the object that they should be. `text` is the same, still escaped; what is no
/// object is quoted in one.
pub(crate) fn arguments_object(arguments: &str, text: &Text<'_>) -> String {
    let arguments = arguments.trim_ascii();
    match serde_json::from_str::<IgnoredAny>(arguments) {
        Ok(_) if arguments.starts_with('{') => arguments.to_owned(),
        _ if arguments.is_empty() => "{}".to_owned(),
        _ => format!(r#"{{"_malformed":"{}"}}"#, text.as_escaped()),
    }
}

/// Schema of a tool without arguments.
pub(crate) const EMPTY_SCHEMA: &str = r#"{"type":"object","properties":{}}"#;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ToolChoice<'a> {
    Auto,
    None,
    /// Some tool, whichever.
    Required,
    Named(Text<'a>),
}

/// The form that the answer's text must have.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Format<'a> {
    JsonObject,
    JsonSchema {
        name: Option<Text<'a>>,
        description: Option<Text<'a>>,
        schema: &'a str,
        strict: Option<bool>,
    },
}

/// How much the model is to think before it answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reasoning {
    /// On or off, where the client says so.
    pub(crate) enabled: Option<bool>,
    pub(crate) effort: Option<Effort>,
    pub(crate) budget_tokens: Option<u64>,
    /// Whether the client wants to see it.
    pub(crate) summary: Option<Summary>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Effort {
    None,
    Minimal,
    Low,
    Medium,
    High,
    XHigh,
    Max,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Summary {
    Auto,
    Concise,
    Detailed,
}

impl Effort {
    pub(crate) fn named(word: &str) -> Option<Self> {
        Some(match word {
            "none" => Self::None,
            "minimal" => Self::Minimal,
            "low" => Self::Low,
            "medium" => Self::Medium,
            "high" => Self::High,
            "xhigh" => Self::XHigh,
            "max" => Self::Max,
            _ => return None,
        })
    }

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Minimal => "minimal",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::XHigh => "xhigh",
            Self::Max => "max",
        }
    }

    /// The budget that stands for it where budgets are wanted: Google's own table for its
    /// OpenAI-compatible API (ai.google.dev/gemini-api/docs/openai), continued upwards.
    pub(crate) const fn budget_tokens(self) -> u64 {
        match self {
            Self::None => 0,
            Self::Minimal | Self::Low => 1024,
            Self::Medium => 8192,
            Self::High => 24_576,
            Self::XHigh | Self::Max => 32_768,
        }
    }

    /// The effort whose budget comes nearest from above.
    pub(crate) const fn of_budget(tokens: u64) -> Self {
        match tokens {
            0 => Self::None,
            1..=1024 => Self::Low,
            1025..=8192 => Self::Medium,
            _ => Self::High,
        }
    }
}

impl Reasoning {
    /// What all that was said comes to, as an effort. `None` if nothing was said of how much.
    pub(crate) fn as_effort(&self) -> Option<Effort> {
        match (self.enabled, self.effort, self.budget_tokens) {
            (Some(false), _, _) => Some(Effort::None),
            (_, Some(effort), _) => Some(effort),
            (_, None, Some(tokens)) => Some(Effort::of_budget(tokens)),
            (_, None, None) => None,
        }
    }

    /// The same, as a budget.
    pub(crate) fn as_budget(&self) -> Option<u64> {
        match (self.enabled, self.budget_tokens, self.effort) {
            (Some(false), _, _) => Some(0),
            (_, Some(tokens), _) => Some(tokens),
            (_, None, Some(effort)) => Some(effort.budget_tokens()),
            (_, None, None) => None,
        }
    }

    /// Whether it is to think at all, if anything was said.
    pub(crate) fn is_on(&self) -> Option<bool> {
        match (self.enabled, self.as_budget()) {
            (Some(enabled), _) => Some(enabled),
            (None, Some(tokens)) => Some(tokens > 0),
            (None, None) => None,
        }
    }
}

/// One thing that happens in an answer. A plain answer is the same row of events, all at once.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Event<'a> {
    Start {
        id: Option<Text<'a>>,
        model: Option<Text<'a>>,
    },
    Text(Text<'a>),
    Refusal(Text<'a>),
    Reasoning(Text<'a>),
    /// Proof of the reasoning since the last proof; encrypted reasoning stands for itself.
    Proof(Proof<'a>),
    /// A tool call begins. Calls count from 0.
    ToolCall {
        index: usize,
        id: Option<Text<'a>>,
        name: Text<'a>,
        proof: Option<Proof<'a>>,
    },
    /// A piece of a call's arguments: of the text of a JSON object, so it is escaped twice.
    Arguments {
        index: usize,
        part: Text<'a>,
    },
    /// A whole call of a tool that takes free text.
    FreeTextCall {
        index: usize,
        id: Option<Text<'a>>,
        name: Text<'a>,
        input: Text<'a>,
    },
    Usage(Usage),
    /// Service tier that the answer was served in.
    ServiceTier(Text<'a>),
    Finish {
        reason: FinishReason,
        stop_sequence: Option<Text<'a>>,
    },
    /// The provider reports an error. Nothing comes after it.
    Failed(UpstreamErrorFacts),
    /// The provider is still there.
    Alive,
    /// The answer is complete.
    End,
}

impl Event<'_> {
    /// Text, reasoning or arguments that the event adds to the answer.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &Text<'_>> {
        let (first, second) = match self {
            Self::Text(text) | Self::Refusal(text) | Self::Reasoning(text) => (Some(text), None),
            Self::Proof(proof) => (Some(&proof.value), None),
            Self::ToolCall { name, .. } => (Some(name), None),
            Self::Arguments { part, .. } => (Some(part), None),
            Self::FreeTextCall { name, input, .. } => (Some(name), Some(input)),
            _ => (None, None),
        };
        first.into_iter().chain(second)
    }
}

/// What a target may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Feature {
    Format,
    StrictTools,
    ToolChoice,
    ParallelTools,
    Stop,
    Temperature,
    TopP,
    TopK,
    Penalties,
    Seed,
    Reasoning,
    Images,
    Audio,
    Files,
    FileUrls,
    /// The name of a file.
    FileName,
    /// How closely an image is looked at.
    ImageDetail,
    /// What the form that the answer must have is for.
    FormatDescription,
    /// Whether a tool's result is an error.
    ToolError,
    /// Something that one side says and only the other can say.
    Misplaced,
    /// An answer that is begun and is to be gone on with.
    Prefill,
    User,
}

impl Feature {
    /// What a client calls it.
    const fn field(self, api: ClientApi) -> &'static str {
        use ClientApi::{CountTokens, Messages, Responses};
        match (self, api) {
            (Self::Format, Messages | CountTokens) => "output_config.format",
            (Self::Format, Responses) => "text.format",
            (Self::Format, _) => "response_format",
            (Self::StrictTools, Messages | CountTokens | Responses) => "tools[].strict",
            (Self::StrictTools, _) => "tools[].function.strict",
            (Self::ToolChoice, _) => "tool_choice",
            (Self::ParallelTools, Messages | CountTokens) => {
                "tool_choice.disable_parallel_tool_use"
            }
            (Self::ParallelTools, _) => "parallel_tool_calls",
            (Self::Stop, Messages | CountTokens) => "stop_sequences",
            (Self::Stop, _) => "stop",
            (Self::Temperature, _) => "temperature",
            (Self::TopP, _) => "top_p",
            (Self::TopK, _) => "top_k",
            (Self::Penalties, _) => "frequency_penalty, presence_penalty",
            (Self::Seed, _) => "seed",
            (Self::Reasoning, Messages | CountTokens) => "thinking",
            (Self::Reasoning, Responses) => "reasoning",
            (Self::Reasoning, _) => "reasoning_effort",
            (Self::Images, Responses) => "input[].content[].input_image",
            (Self::Images, Messages | CountTokens) => "messages[].content[].image",
            (Self::Images, _) => "messages[].content[].image_url",
            (Self::Audio, Responses) => "input[].content[].input_audio",
            (Self::Audio, _) => "messages[].content[].input_audio",
            (Self::Files, Responses) => "input[].content[].input_file",
            (Self::Files, Messages | CountTokens) => "messages[].content[].document",
            (Self::Files, _) => "messages[].content[].file",
            (Self::FileName, Responses) => "input[].content[].filename",
            (Self::FileName, Messages | CountTokens) => "messages[].content[].title",
            (Self::FileName, _) => "messages[].content[].file.filename",
            (Self::ImageDetail, Responses) => "input[].content[].detail",
            (Self::ImageDetail, _) => "messages[].content[].image_url.detail",
            (Self::FormatDescription, Responses) => "text.format.description",
            (Self::FormatDescription, _) => "response_format.json_schema.description",
            (Self::ToolError, _) => "messages[].content[].is_error",
            (Self::Misplaced, Responses) => "input[].content[]",
            (Self::Misplaced, _) => "messages[].content[]",
            (Self::Prefill, _) => "messages[] (an answer to go on with)",
            (Self::User, Messages | CountTokens) => "metadata.user_id",
            (Self::User, _) => "user",
            (Self::FileUrls, Responses) => "input[].content[].input_file.file_url",
            (Self::FileUrls, _) => "messages[].content[].source.url",
        }
    }
}

/// What becomes of fields that the target does not get. Gathers them on the way.
#[derive(Debug)]
pub(crate) struct Report {
    policy: Unsupported,
    api: ClientApi,
    target: &'static str,
    pub(crate) cache_marks: CacheMarks,
    /// Whether client and target both speak an API of OpenAI's, so that [`SHARED`] is carried.
    shares: bool,
    pub(crate) dropped: Vec<String>,
}

/// Fields that OpenAI's chat and responses have under one name. They change cost, speed or
/// bookkeeping, so others do without them.
const SHARED: [&str; 4] = [
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
];

impl Report {
    pub(crate) const fn new(
        policy: Unsupported,
        api: ClientApi,
        target: &'static str,
        cache_marks: CacheMarks,
        shares: bool,
    ) -> Self {
        Self {
            policy,
            api,
            target,
            cache_marks,
            shares,
            dropped: Vec::new(),
        }
    }

    /// Something that was asked for and that the target cannot do.
    pub(crate) fn lacks(&mut self, feature: Feature) -> Result<(), Refusal> {
        self.unsupported(feature.field(self.api))
    }

    /// Something that was asked for and that the target does in its own way.
    pub(crate) fn bends(&mut self, feature: Feature) {
        self.hint(feature.field(self.api));
    }

    /// A field that would change the answer and that the target cannot express.
    pub(crate) fn unsupported(&mut self, field: impl Into<String>) -> Result<(), Refusal> {
        let field = field.into();
        match self.policy {
            Unsupported::Drop => self.hint(field),
            Unsupported::Refuse => {
                return Err(Refusal::Unsupported {
                    field,
                    target: self.target,
                });
            }
        }
        Ok(())
    }

    /// A field that the target does without: it changes cost, speed or bookkeeping, not what is
    /// asked. Left out whatever the policy, and listed once.
    pub(crate) fn hint(&mut self, field: impl Into<String>) {
        let field = field.into();
        if !self.dropped.contains(&field) {
            self.dropped.push(field);
        }
    }

    /// Takes the fields that OpenAI's chat and responses share, or lists them.
    pub(crate) fn take_shared<'a>(
        &mut self,
        object: &mut Object<'a, '_>,
    ) -> Vec<(&'static str, &'a str)> {
        let mut shared = Vec::new();
        for key in SHARED {
            match object.take(key) {
                Some(raw) if self.shares => shared.push((key, raw)),
                Some(_) => self.hint(key),
                None => {}
            }
        }
        shared
    }

    /// The same for how much the model is to say, which the two have in different places.
    pub(crate) fn take_verbosity<'a>(
        &mut self,
        object: &mut Object<'a, '_>,
    ) -> Result<Option<Text<'a>>, Invalid> {
        let verbosity = object.text("verbosity")?;
        if verbosity.is_some() && !self.shares {
            self.hint(object.path().key("verbosity").general());
            return Ok(None);
        }
        Ok(verbosity)
    }

    /// Deals with what is left of an object: hints are hints, anything else is unsupported.
    pub(crate) fn rest(&mut self, object: &Object<'_, '_>, hints: &[&str]) -> Result<(), Refusal> {
        for key in object.rest() {
            let path = object.path().key(key);
            if hints.contains(&key) {
                self.hint(path.general());
            } else {
                self.unsupported(path.to_string())?;
            }
        }
        Ok(())
    }

    /// The same for an object that only keeps books, where nothing that is left can matter.
    pub(crate) fn rest_is_bookkeeping(&mut self, object: &Object<'_, '_>) {
        for key in object.rest() {
            self.hint(object.path().key(key).general());
        }
    }
}
