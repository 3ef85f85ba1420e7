//! What the real APIs refuse: [`check`] says whether a provider would take a request.
//!
//! A pure function over tables: [`shape`] holds fields, types and ranges; one file per API its shapes and the rules that span
//! several values; [`models`] what depends on the model, by name; [`vendors`] what compatible vendors do otherwise; [`schema`] the
//! schemas of tools and answers; [`answer`] the error that the real API gives. Each rule names the page that documents it.
//!
//! It is written from the providers' documentation and SDK types alone. It shares no table and no code with weir-dialects, whose
//! faults it must be able to find. What is not documented is not refused. A model that it does not know obeys the rules that hold
//! for all models.

mod answer;
mod anthropic;
mod gemini;
mod models;
mod openai_chat;
mod openai_embeddings;
mod openai_responses;
mod schema;
mod shape;
#[cfg(test)]
mod tests;
mod vendors;

use std::fmt;

use http::HeaderMap;
use serde_json::Value;

pub use vendors::vendor_names;

/// An API that requests are checked against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StrictApi {
    Chat,
    Responses,
    Embeddings,
    Messages,
    CountTokens,
    GenerateContent,
    StreamGenerateContent,
    GeminiCountTokens,
    BatchEmbedContents,
}

impl StrictApi {
    /// The API behind the path of a request.
    #[must_use]
    pub fn of_path(path: &str) -> Option<Self> {
        const BY_ENDING: [(&str, StrictApi); 9] = [
            ("/chat/completions", StrictApi::Chat),
            ("/responses", StrictApi::Responses),
            ("/embeddings", StrictApi::Embeddings),
            ("/messages", StrictApi::Messages),
            ("/messages/count_tokens", StrictApi::CountTokens),
            (":generateContent", StrictApi::GenerateContent),
            (":streamGenerateContent", StrictApi::StreamGenerateContent),
            (":countTokens", StrictApi::GeminiCountTokens),
            (":batchEmbedContents", StrictApi::BatchEmbedContents),
        ];
        let path = path.split('?').next().unwrap_or(path);
        let found = BY_ENDING.iter().find(|(ending, _)| path.ends_with(ending));
        found.map(|(_, api)| *api)
    }

    /// Who defined it.
    fn owner(self) -> &'static str {
        match self {
            Self::Chat | Self::Responses | Self::Embeddings => "openai",
            Self::Messages | Self::CountTokens => "anthropic",
            Self::GenerateContent
            | Self::StreamGenerateContent
            | Self::GeminiCountTokens
            | Self::BatchEmbedContents => "gemini",
        }
    }
}

/// What is asked, and of whom.
#[derive(Debug)]
pub struct StrictRequest<'a> {
    /// A vendor of [`vendor_names`]; empty for the company that defined the API.
    pub vendor: &'a str,
    pub api: StrictApi,
    /// The model: of the body, or of the path where an API puts it there.
    pub model: &'a str,
    pub headers: &'a HeaderMap,
    pub body: &'a [u8],
}

/// Says why the real API would refuse a request.
pub fn check(request: &StrictRequest<'_>) -> Result<(), Violation> {
    let body: Value = serde_json::from_slice(request.body).map_err(|error| {
        const JSON: ApiRule = ApiRule {
            name: "json",
            source: "https://www.rfc-editor.org/rfc/rfc8259",
        };
        Violation::new(
            JSON,
            FieldPath::default(),
            Complaint::Value(error.to_string()),
        )
    })?;
    let vendor = match request.vendor {
        "" => request.api.owner(),
        vendor => vendor,
    };
    match request.api {
        StrictApi::Chat => openai_chat::check(vendors::find(vendor), request.model, &body),
        StrictApi::Messages => anthropic::check(request.model, request.headers, &body),
        StrictApi::CountTokens => anthropic::check_count(request.model, request.headers, &body),
        StrictApi::GenerateContent => gemini::check(vendor, request.model, &body),
        StrictApi::StreamGenerateContent => gemini::check_stream(vendor, request.model, &body),
        StrictApi::GeminiCountTokens => gemini::check_count(vendor, request.model, &body),
        StrictApi::BatchEmbedContents => gemini::check_embed(request.model, &body),
        StrictApi::Responses => {
            openai_responses::check(vendors::find(vendor), request.model, &body)
        }
        StrictApi::Embeddings => openai_embeddings::check(&body),
    }
}

/// The model that a request asks for: Gemini's stands in the path, others in the body.
#[must_use]
pub fn model(path: &str, body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct BodyModel {
        model: String,
    }
    let in_path = path
        .rsplit_once("/models/")
        .and_then(|(_, rest)| rest.rsplit_once(':'));
    match in_path {
        Some((model, _)) => model.to_owned(),
        None => serde_json::from_slice(body)
            .map_or_else(|_| "-".to_owned(), |asked: BodyModel| asked.model),
    }
}

/// A documented rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ApiRule {
    pub(super) name: &'static str,
    pub(super) source: &'static str,
}

/// A request that a provider refuses, and where and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    rule: ApiRule,
    path: FieldPath,
    problem: Complaint,
}

/// What is wrong with a value.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Complaint {
    /// The field does not exist.
    Unknown,
    Missing,
    Type {
        expected: &'static str,
        found: &'static str,
    },
    Value(String),
}

impl Violation {
    fn new(rule: ApiRule, path: FieldPath, problem: Complaint) -> Self {
        Self {
            rule,
            path,
            problem,
        }
    }

    /// The name of the rule that was broken.
    #[must_use]
    pub fn rule(&self) -> &'static str {
        self.rule.name
    }

    /// The page that documents it.
    #[must_use]
    pub fn source(&self) -> &'static str {
        self.rule.source
    }

    /// Where in the body, as `messages[0].content`.
    #[must_use]
    pub fn place(&self) -> String {
        self.path.bracketed()
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ApiRule { name, source } = self.rule;
        write!(f, "{}: {} [{name}, {source}]", self.place(), self.problem)
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("unknown field"),
            Self::Missing => f.write_str("required, but absent"),
            Self::Type { expected, found } => write!(f, "expected {expected}, but got {found}"),
            Self::Value(problem) => f.write_str(problem),
        }
    }
}

impl std::error::Error for Violation {}

/// Where a value stands in a body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct FieldPath(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    At(usize),
}

impl FieldPath {
    fn of(key: &str) -> Self {
        Self::default().key(key)
    }

    fn key(&self, key: &str) -> Self {
        self.then(Step::Key(key.to_owned()))
    }

    fn at(&self, index: usize) -> Self {
        self.then(Step::At(index))
    }

    fn then(&self, step: Step) -> Self {
        let mut path = self.clone();
        path.0.push(step);
        path
    }

    /// `messages[0].content`, as OpenAI and Google write it.
    fn bracketed(&self) -> String {
        let mut text = String::new();
        for step in &self.0 {
            match step {
                Step::Key(key) if text.is_empty() => text.push_str(key),
                Step::Key(key) => text.extend([".", key]),
                Step::At(index) => text.push_str(&format!("[{index}]")),
            }
        }
        text
    }

    /// `messages.0.content`, as Anthropic writes it.
    fn dotted(&self) -> String {
        let steps = self.0.iter().map(|step| match step {
            Step::Key(key) => key.clone(),
            Step::At(index) => index.to_string(),
        });
        steps.collect::<Vec<_>>().join(".")
    }
}

/// A violation of a rule that spans values.
fn broken(rule: ApiRule, path: FieldPath, problem: impl Into<String>) -> Result<(), Violation> {
    Err(Violation::new(rule, path, Complaint::Value(problem.into())))
}

/// The items of an array; of anything else none.
fn items(value: &Value) -> impl Iterator<Item = (usize, &Value)> {
    value.as_array().into_iter().flatten().enumerate()
}

/// Whether a text has nothing to read.
fn is_blank(text: &str) -> bool {
    text.trim().is_empty()
}
