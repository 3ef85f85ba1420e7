//! A request for an answer of one model.

use std::borrow::Cow;

use serde::de::IgnoredAny;

use super::{Feature, LossReport, ReasoningSignature};
use crate::json::{Text, word_of};

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
    /// How many answers are asked for at once.
    pub(crate) choices: Option<u64>,
    pub(crate) sampling: Sampling,
    pub(crate) reasoning: Option<Reasoning>,
    pub(crate) user: Option<Text<'a>>,
    /// Fields that OpenAI's chat and responses both have, with their values.
    pub(crate) shared: Vec<(&'static str, &'a str)>,
    pub(crate) verbosity: Option<Text<'a>>,
    /// The value of a `cache_control` that stands for the whole request.
    pub(crate) cache_control: Option<&'a str>,
    /// Whether the last turn begins the answer that the model is to continue.
    pub(crate) is_prefill: bool,
}

impl<'a> Request<'a> {
    /// The system prompts, wherever they stand in the conversation.
    pub(crate) fn system_parts(&self) -> impl Iterator<Item = &Part<'a>> + Clone {
        let system = self.turns.iter().filter(|turn| turn.role == Role::System);
        system.flat_map(|turn| &turn.parts)
    }

    /// The turns of user and assistant.
    pub(crate) fn spoken(&self) -> Vec<&Turn<'a>> {
        let turns = self.turns.iter();
        turns.filter(|turn| turn.role != Role::System).collect()
    }

    /// Leaves out Claude Code's note of what is billed, which begins its system prompt and differs in
    /// every request: it is meant for Anthropic, and whatever else caches prompts by their beginning
    /// would never find one again.
    pub(crate) fn leave_out_billing_notes(&mut self) {
        for turn in self
            .turns
            .iter_mut()
            .filter(|turn| turn.role == Role::System)
        {
            turn.parts.retain_mut(|part| match part {
                Part::Text(text) => without_billing_note(text),
                _ => true,
            });
        }
        let says_something = |turn: &Turn<'_>| turn.role != Role::System || !turn.parts.is_empty();
        self.turns.retain(says_something);
    }

    pub(crate) fn has_strict_tools(&self) -> bool {
        self.tools.iter().any(|tool| tool.strict == Some(true))
    }

    /// Makes the last of a conversation's turns the user's if all are system prompts, for APIs that
    /// require a user turn.
    pub(crate) fn promote_lone_system_prompt(&mut self) {
        let is_alone = self.turns.iter().all(|turn| turn.role == Role::System);
        if let Some(last) = self.turns.last_mut().filter(|_| is_alone) {
            last.role = Role::User;
        }
    }
}

/// What stands for a message of which nothing is left, or which says nothing, where there must be one.
pub(crate) const EMPTY_MESSAGE: &str = "(empty message)";

/// Cuts the note off a text. Returns whether anything else is left.
fn without_billing_note(text: &mut Text<'_>) -> bool {
    let Some(note) = text.strip_prefix("x-anthropic-billing-header:") else {
        return true;
    };
    let Some((_, rest)) = note.as_escaped().split_once("\\n") else {
        return false;
    };
    let rest = Text::escaped(rest.trim_start_matches("\\n")).into_owned();
    *text = rest;
    !text.is_blank()
}

/// Sampling parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Sampling {
    pub(crate) temperature: Option<f64>,
    pub(crate) top_p: Option<f64>,
    pub(crate) top_k: Option<u64>,
    pub(crate) frequency_penalty: Option<f64>,
    pub(crate) presence_penalty: Option<f64>,
    pub(crate) seed: Option<i64>,
}

impl Sampling {
    pub(crate) fn has_penalties(&self) -> bool {
        self.frequency_penalty.or(self.presence_penalty).is_some()
    }
}

/// The content of one side's turn. Tool results belong to the user's.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Turn<'a> {
    pub(crate) role: Role,
    pub(crate) parts: Vec<Part<'a>>,
}

impl<'a> Turn<'a> {
    /// Without the parts that other dialects do not allow on that side: images, audio, files and
    /// results are the user's, calls and reasoning the assistant's.
    pub(crate) fn new(role: Role, mut parts: Vec<Part<'a>>, report: &mut LossReport) -> Self {
        parts.retain(|part| {
            let fits = part.is_in_place(role);
            if !fits {
                report.unsupported(match part {
                    Part::Image { .. } => Feature::Images,
                    Part::Audio { .. } => Feature::Audio,
                    Part::File { .. } => Feature::Files,
                    _ => Feature::Misplaced,
                });
            }
            fits
        });
        Self { role, parts }
    }

    /// Whether a model that continues answers would continue this one, if it stands last.
    pub(crate) fn begins_answer(&self) -> bool {
        self.role == Role::Assistant && !self.parts.iter().any(|part| part.as_call().is_some())
    }
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
        source: MediaSource<'a>,
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
        source: MediaSource<'a>,
        name: Option<Text<'a>>,
    },
    Reasoning {
        text: Text<'a>,
        signature: Option<ReasoningSignature<'a>>,
    },
    ToolCall(ToolCall<'a>),
    ToolResult {
        call_id: Text<'a>,
        /// Text, images and files.
        content: Vec<Self>,
        is_error: bool,
    },
    /// Everything up to here is to be cached. The value of Anthropic's `cache_control`.
    CacheMark(&'a str),
}

impl<'a> Part<'a> {
    pub(crate) const fn as_text(&self) -> Option<&Text<'a>> {
        match self {
            Self::Text(text) | Self::Refusal(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) const fn as_call(&self) -> Option<&ToolCall<'a>> {
        match self {
            Self::ToolCall(call) => Some(call),
            _ => None,
        }
    }

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

/// A tool's result, followed by the cache mark of its content: a result's inside cannot be marked.
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

/// The data of an image or document, or where it is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum MediaSource<'a> {
    Url(Text<'a>),
    /// The text of a document, for a target that takes it so.
    Text(Text<'a>),
    /// Base64.
    Data {
        media_type: Text<'a>,
        data: Text<'a>,
    },
}

impl<'a> MediaSource<'a> {
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
            Self::Url(text) | Self::Text(text) => text.borrowed(),
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
    /// The input of a call of a custom tool, which is in `arguments` too.
    pub(crate) free_text: Option<Text<'a>>,
    /// Gemini's thought signature.
    pub(crate) signature: Option<ReasoningSignature<'a>>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tool<'a> {
    pub(crate) name: Text<'a>,
    pub(crate) description: Option<Text<'a>>,
    /// JSON schema of the arguments, which is one of an object with `type` and `properties`.
    pub(crate) schema: Cow<'a, str>,
    pub(crate) strict: Option<bool>,
    /// What the client's tool of free text is. Elsewhere the text becomes the argument `input`.
    pub(crate) free_text: Option<FreeTextTool<'a>>,
    /// The value of its `cache_control`.
    pub(crate) cache_control: Option<&'a str>,
}

/// One of OpenAI's custom tools.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FreeTextTool<'a> {
    pub(crate) description: Option<Text<'a>>,
    /// Syntax and definition of the grammar that the text follows.
    pub(crate) grammar: Option<(Text<'a>, Text<'a>)>,
}

/// Arguments as a JSON object. `text` is the same, still escaped: anything but an object is quoted
/// in one.
pub(crate) fn arguments_object(arguments: &str, text: &Text<'_>) -> String {
    let arguments = arguments.trim_ascii();
    match serde_json::from_str::<IgnoredAny>(arguments) {
        Ok(_) if arguments.starts_with('{') => arguments.to_owned(),
        _ if arguments.is_empty() => "{}".to_owned(),
        _ => format!(r#"{{"_malformed":"{}"}}"#, text.as_escaped()),
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ToolChoice<'a> {
    Auto,
    None,
    /// Any tool.
    Required,
    Named(Text<'a>),
}

/// The format of the answer's text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Format<'a> {
    JsonObject,
    JsonSchema(JsonSchema<'a>),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct JsonSchema<'a> {
    pub(crate) name: Option<Text<'a>>,
    pub(crate) description: Option<Text<'a>>,
    pub(crate) schema: &'a str,
    pub(crate) strict: Option<bool>,
}

/// How much the model is to reason before it answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reasoning {
    /// On or off, if the client says.
    pub(crate) enabled: Option<bool>,
    pub(crate) effort: Option<Effort>,
    pub(crate) budget_tokens: Option<u64>,
    /// The summary that the client asks for.
    pub(crate) summary: Option<Summary>,
}

/// How much a model is to reason.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Effort {
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

impl Summary {
    pub(crate) const WORDS: [(Self, &'static str); 3] = [
        (Self::Auto, "auto"),
        (Self::Concise, "concise"),
        (Self::Detailed, "detailed"),
    ];
}

impl Effort {
    pub(crate) const WORDS: [(Self, &'static str); 7] = [
        (Self::None, "none"),
        (Self::Minimal, "minimal"),
        (Self::Low, "low"),
        (Self::Medium, "medium"),
        (Self::High, "high"),
        (Self::XHigh, "xhigh"),
        (Self::Max, "max"),
    ];

    pub(crate) fn as_str(self) -> &'static str {
        word_of(&Self::WORDS, &self)
    }

    /// The equivalent budget: Google's table for its OpenAI-compatible API
    /// (ai.google.dev/gemini-api/docs/openai), continued upwards.
    pub(crate) const fn budget_tokens(self) -> u64 {
        match self {
            Self::None => 0,
            Self::Minimal | Self::Low => 1024,
            Self::Medium => 8192,
            Self::High => 24_576,
            Self::XHigh | Self::Max => 32_768,
        }
    }

    /// The lowest effort whose budget is enough.
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
    /// The client's settings as an effort. `None` if they set no amount.
    pub(crate) fn as_effort(&self) -> Option<Effort> {
        if self.enabled == Some(false) {
            return Some(Effort::None);
        }
        let of_budget = || self.budget_tokens.map(Effort::of_budget);
        self.effort.or_else(of_budget)
    }

    /// The client's settings as a budget.
    pub(crate) fn as_budget(&self) -> Option<u64> {
        if self.enabled == Some(false) {
            return Some(0);
        }
        let of_effort = || self.effort.map(Effort::budget_tokens);
        self.budget_tokens.or_else(of_effort)
    }

    /// Whether to reason at all, if the client says.
    pub(crate) fn is_on(&self) -> Option<bool> {
        let has_budget = || Some(self.as_budget()? > 0);
        self.enabled.or_else(has_budget)
    }
}

/// All text of some parts, with an empty line between them.
pub(crate) fn joined_text<'p, 'a: 'p>(parts: impl IntoIterator<Item = &'p Part<'a>>) -> Text<'p> {
    let texts = parts.into_iter().filter_map(Part::as_text);
    let joined = texts.map(Text::borrowed).reduce(|mut joined, text| {
        joined.push(&Text::escaped("\\n\\n"));
        joined.push(&text);
        joined
    });
    joined.unwrap_or_default()
}
