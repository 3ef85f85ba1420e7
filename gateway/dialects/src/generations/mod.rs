//! What each generation of models takes: one row per family and generation.
//!
//! A vendor decides how a field is called; the model decides whether it takes it. So the rows here
//! hold what changes from one model to the next: sampling parameters, efforts and budgets of
//! reasoning, tools beside it, limits. Writers read a row's properties and never compare names.
//!
//! The rows of a vendor stand in order, and the first one that fits a model's name counts. The last
//! rows of a family take what no other row knows: such a model is treated like the newest of its
//! family ([`Match::Newest`]). `[[model]]` of the configuration says what a newer model is like.

mod anthropic;
mod efforts;
mod google;
mod openai;
mod others;
mod own;
mod rules;

pub(crate) use anthropic::CLAUDE;
pub(crate) use efforts::Efforts;
pub(crate) use google::{GEMINI, VERTEX};
pub(crate) use openai::{OPENAI, XAI};
pub(crate) use others::{
    ANY, DEEPSEEK, DOUBAO, GLM, GROQ, KIMI, LLAMA_CPP, MISTRAL, OLLAMA, OPENROUTER, QWEN, TOGETHER,
    VLLM,
};
pub use own::{ModelConfig, WrongModel};
pub use rules::When;
pub(crate) use rules::{
    AskedReasoning, BudgetRange, Preamble, ReasoningControl, ReasoningLimit, ReasoningOff,
    ReasoningReturn, ReasoningRules, SamplingRules,
};

/// What the models of one generation take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Generation {
    /// How the names of its models begin, without the maker's name in front.
    pub(crate) names: &'static [&'static str],
    pub(crate) matches: Match,
    /// Whether the vendor's chat API serves it at all.
    pub(crate) has_chat: bool,
    /// When the chat API takes function tools. Otherwise the responses API does.
    pub(crate) chat_tools: When,
    /// Whether the chat API takes the older name of the limit on tokens, `max_tokens`.
    pub(crate) old_token_limit: bool,
    pub(crate) sampling: SamplingRules,
    pub(crate) reasoning: ReasoningRules,
    /// When a `tool_choice` may force a call: any tool, or one by name.
    pub(crate) forced_tools: When,
    /// Whether it takes another `verbosity` than `medium`.
    pub(crate) verbosity: bool,
    /// Whether tools may be strict.
    pub(crate) strict_tools: bool,
    /// Whether the answer's format may be a JSON schema.
    pub(crate) schemas: bool,
    /// Whether the answer's format may be JSON while there are tools.
    pub(crate) formats_beside_tools: bool,
    /// Whether the model continues an assistant's message at the end.
    pub(crate) prefill: bool,
    pub(crate) tool_name_chars_max: usize,
    /// How many stop sequences it takes.
    pub(crate) stop_max: usize,
    /// How many answers it gives at once (`n`).
    pub(crate) choices_max: u64,
    /// Most tokens of an answer, its reasoning included; a higher limit is refused.
    pub(crate) output_tokens_max: Option<u64>,
    /// Tokens of prompt and answer together.
    pub(crate) context_tokens: Option<u64>,
    /// Most tokens of an image; without it, one may fill the window.
    pub(crate) image_tokens_max: Option<u64>,
    /// Tokens that the provider adds to a prompt.
    pub(crate) preamble: Preamble,
    /// Whether the limit on an answer's tokens counts its reasoning.
    pub(crate) reasoning_limit: ReasoningLimit,
    /// The page that says so.
    pub(crate) source: &'static str,
    /// When it said so.
    pub(crate) date: &'static str,
}

/// How sure a row is about a model's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// It names the generation, with or without a date or a variant behind.
    Known,
    /// It is of the family but of no generation that this build knows: the newest one's rules hold.
    Newest,
    /// It is of no family that this build knows: what a client asks for is passed on.
    Foreign,
}

impl Generation {
    /// How sure it is that a model of this name takes this.
    #[must_use]
    pub const fn matches(&self) -> Match {
        self.matches
    }

    /// Tokens of prompt and answer together, if known.
    #[must_use]
    pub const fn context_tokens(&self) -> Option<u64> {
        self.context_tokens
    }

    /// The page that says what its models take, and when it said so.
    #[must_use]
    pub const fn source(&self) -> (&'static str, &'static str) {
        (self.source, self.date)
    }

    pub(crate) fn name(&self) -> &'static str {
        self.names.first().copied().unwrap_or_default()
    }

    /// Whether both take the same.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        let same = Self {
            names: other.names,
            matches: other.matches,
            ..*self
        };
        same == *other
    }
}

/// What an operator should know of a model that no row names; `None` where all rows take the same, and for
/// models of embeddings, which take no field that a row decides on.
pub(crate) fn warning(rows: &'static [Generation], model: &str) -> Option<String> {
    if model.contains("embed") {
        return None;
    }
    let row = find(rows, model);
    let same = |known: &&Generation| known.matches == Match::Known && known.is_like(row);
    match row.matches {
        Match::Known => None,
        Match::Newest => {
            let like = rows.iter().find(same)?.name();
            Some(format!(
                "this build does not know \"{model}\" and treats it like \"{like}\""
            ))
        }
        Match::Foreign => rows
            .iter()
            .any(|row| row.matches == Match::Newest)
            .then(|| {
                format!("this build does not know \"{model}\" and passes on what clients ask of it")
            }),
    }
}

/// The first row whose names fit.
pub(crate) fn find(rows: &'static [Generation], model: &str) -> &'static Generation {
    let name = bare_name(model);
    rows.iter()
        .find(|row| row.fits(name))
        .unwrap_or(&others::UNLIMITED)
}

impl Generation {
    fn fits(&self, name: &str) -> bool {
        self.names.iter().any(|start| {
            let Some((head, rest)) = name.split_at_checked(start.len()) else {
                return false;
            };
            head.eq_ignore_ascii_case(start)
                && (self.matches != Match::Known || is_same_version(rest))
        })
    }
}

/// A model's name without what stands before it: a path (`models/…`, `openai/…`), the maker's name as
/// Amazon writes it, or the mark of a fine-tuned model.
fn bare_name(model: &str) -> &str {
    let name = model.rsplit('/').next().unwrap_or(model);
    let name = name
        .rsplit_once("anthropic.")
        .map_or(name, |(_, name)| name);
    name.strip_prefix("ft:").unwrap_or(name)
}

/// Whether what follows a name is a date or a variant, and not another part of its version.
/// `claude-opus-5-7` is no `claude-opus-5`, and `gpt-5.9` is no `gpt-5`.
fn is_same_version(rest: &str) -> bool {
    let bytes = rest.as_bytes();
    match bytes.first() {
        None | Some(b'@' | b':') => true,
        Some(b'-') => {
            let digits = bytes[1..]
                .iter()
                .take_while(|byte| byte.is_ascii_digit())
                .count();
            let is_followed = bytes.get(1 + digits).is_some_and(u8::is_ascii_alphabetic);
            !(1..=2).contains(&digits) || is_followed
        }
        Some(_) => false,
    }
}
