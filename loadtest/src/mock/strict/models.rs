//! What depends on the model, read from its name.
//!
//! Sources, 2026-11-30: platform.claude.com/docs (about-claude/models/overview, migration-guide, build-with-claude/effort,
//! models/opus-5-5/whats-new-opus-5-5, models/haiku-5-5/whats-new-haiku-5-5), developers.openai.com/api/docs (guides/reasoning,
//! guides/latest-model, models).

/// A version of a family: major and minor.
pub(super) type ModelVersion = (u32, u32);

/// What a Claude model takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claude {
    pub(super) sampling: SamplingRule,
    pub(super) prefill: bool,
    /// `thinking.type` values.
    pub(super) thinking: &'static [&'static str],
    /// Whether `disabled` needs an effort of at most `high`.
    pub(super) off_up_to_high: bool,
    pub(super) efforts: &'static [&'static str],
    /// Whether `tool_choice` may force a call.
    pub(super) forced_tools: bool,
    pub(super) max_tokens: i64,
    /// Whether it takes schemas of answers and `strict` tools.
    pub(super) schemas: bool,
}

/// What a Claude model takes of `temperature`, `top_p` and `top_k`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SamplingRule {
    /// All of them.
    Any,
    /// Temperature or `top_p`.
    OneOfTwo,
    /// Only the defaults.
    Defaults,
    None,
}

const LOW_TO_HIGH: &[&str] = &["low", "medium", "high"];
const LOW_TO_MAX: &[&str] = &["low", "medium", "high", "max"];
const ALL_EFFORTS: &[&str] = &["low", "medium", "high", "xhigh", "max"];

impl Claude {
    /// What is known of a model; `None` for a name that is not Anthropic's.
    pub(super) fn of(model: &str) -> Option<Self> {
        let (tier, version) = claude_name(model)?;
        let since = |major, minor| version >= (major, minor);
        let always_thinks = match tier {
            "opus" => since(5, 5),
            "fable" | "mythos" => since(5, 0),
            _ => false,
        };
        let thinking: &[&str] = match version {
            _ if always_thinks => &["adaptive"],
            _ if tier == "sonnet" && since(5, 5) => &["adaptive", "between_tools"],
            _ if since(4, 7) => &["adaptive", "disabled"],
            (4, 6) => &["adaptive", "enabled", "disabled"],
            _ if since(3, 7) => &["enabled", "disabled"],
            _ => &["disabled"],
        };
        let efforts = match version {
            _ if since(4, 7) => ALL_EFFORTS,
            (4, 6) => LOW_TO_MAX,
            (4, 5) if tier == "opus" => LOW_TO_HIGH,
            _ => &[],
        };
        Some(Self {
            sampling: match version {
                _ if since(5, 0) => SamplingRule::Defaults,
                _ if since(4, 7) => SamplingRule::None,
                _ if since(4, 1) => SamplingRule::OneOfTwo,
                _ => SamplingRule::Any,
            },
            prefill: !since(4, 6),
            thinking,
            off_up_to_high: matches!((tier, version), ("opus", (5, 0)) | ("haiku", (5, 5))),
            efforts,
            forced_tools: !(always_thinks && since(5, 1)),
            max_tokens: match version {
                _ if since(4, 6) => 128_000,
                _ if since(4, 5) => 64_000,
                _ if tier == "opus" && since(4, 0) => 32_000,
                _ if since(3, 7) => 64_000,
                (3, 5) => 8_192,
                _ => 4_096,
            },
            schemas: since(4, 5),
        })
    }
}

/// Tier and version: `claude-opus-4-5-20251101`, `claude-3-5-haiku-latest`, `anthropic.claude-opus-4-7-v1:0`.
fn claude_name(model: &str) -> Option<(&str, ModelVersion)> {
    let name = &model[model.find("claude-")? + "claude-".len()..];
    let words: Vec<_> = name.split(['-', '@', '.']).collect();
    let tier = *words
        .iter()
        .find(|word| ["opus", "sonnet", "haiku", "fable", "mythos"].contains(word))?;
    let numbers: Vec<u32> = words
        .iter()
        // Dates have eight digits.
        .filter(|word| word.len() <= 2)
        .filter_map(|word| word.parse().ok())
        .collect();
    match numbers.as_slice() {
        // claude-mythos-preview
        [] => (tier == "mythos").then_some((tier, (5, 0))),
        [major] => Some((tier, (*major, 0))),
        [major, minor, ..] => Some((tier, (*major, *minor))),
    }
}

/// What a model of OpenAI's takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct OpenAi {
    /// Empty for a model that does not reason.
    pub(super) efforts: &'static [&'static str],
    /// What it does where a request does not say.
    pub(super) effort: &'static str,
    /// Whether `/v1/chat/completions` serves it at all.
    pub(super) chat: bool,
    /// Whether `/v1/chat/completions` takes function tools while it reasons.
    pub(super) chat_tools_reasoning: bool,
    /// Whether it takes `stop`, and calls in parallel.
    pub(super) stop: bool,
    pub(super) parallel_calls: bool,
    /// Whether it takes sampling parameters at effort `none`.
    pub(super) samples_at_none: bool,
    pub(super) verbosity: bool,
    pub(super) max_tokens: i64,
}

const PLAIN: OpenAi = OpenAi {
    efforts: &[],
    effort: "none",
    chat: true,
    chat_tools_reasoning: true,
    stop: true,
    parallel_calls: true,
    samples_at_none: true,
    verbosity: false,
    max_tokens: i64::MAX,
};

const REASONING: OpenAi = OpenAi {
    efforts: LOW_TO_HIGH,
    effort: "medium",
    stop: false,
    samples_at_none: false,
    max_tokens: 128_000,
    ..PLAIN
};

impl OpenAi {
    /// What is known of a model; `None` for a name that is not OpenAI's.
    pub(super) fn of(model: &str) -> Option<Self> {
        // Fine-tuned models are called ft:MODEL:…
        let name = model.strip_prefix("ft:").unwrap_or(model);
        let name = name.split(':').next().unwrap_or(name);
        if let Some(known) = before_gpt_5(name) {
            return Some(known);
        }
        let rest = name.strip_prefix("gpt-")?;
        let digits = rest.split('-').next()?;
        let mut numbers = digits.split('.').map(str::parse::<u32>);
        let version = match (numbers.next(), numbers.next()) {
            (Some(Ok(major)), None) => (major, 0),
            (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
            _ => return None,
        };
        let is = |word: &str| rest.split('-').any(|part| part == word);
        if is("chat") {
            return Some(PLAIN);
        }
        Some(Self {
            efforts: efforts_since_gpt_5(version, is("pro"), is("codex")),
            effort: match version {
                _ if is("pro") || is("codex") => "medium",
                (5, 1..=4) => "none",
                _ => "medium",
            },
            chat: !is("pro") && !is("codex"),
            chat_tools_reasoning: version < (5, 4),
            samples_at_none: version >= (5, 1),
            verbosity: true,
            ..REASONING
        })
    }
}

fn before_gpt_5(name: &str) -> Option<OpenAi> {
    let is_old =
        name.starts_with("gpt-4") || name.starts_with("gpt-3.5") || name.starts_with("chatgpt-4");
    if is_old {
        return Some(PLAIN);
    }
    let number = name.strip_prefix('o')?;
    if !number.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    Some(OpenAi {
        parallel_calls: false,
        chat: !number.contains("pro") && !number.contains("deep-research"),
        max_tokens: 100_000,
        ..REASONING
    })
}

fn efforts_since_gpt_5(version: ModelVersion, pro: bool, codex: bool) -> &'static [&'static str] {
    match version {
        (5, 0) if pro => &["high"],
        (5, 0) if codex => LOW_TO_HIGH,
        (5, 0) => &["minimal", "low", "medium", "high"],
        _ if pro => &["medium", "high", "xhigh"],
        (5, _) if codex => &["low", "medium", "high", "xhigh"],
        (5, 1) => &["none", "low", "medium", "high"],
        (5, 2..=5) => &["none", "low", "medium", "high", "xhigh"],
        _ => &["none", "low", "medium", "high", "xhigh", "max"],
    }
}

/// A generation of Gemini.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GeminiSeries {
    /// Up to 2.5.
    Two,
    Three,
    Four,
}

/// Where a Gemini model takes `frequencyPenalty` and `presencePenalty`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PenaltyRule {
    Everywhere,
    AtVertex,
    Nowhere,
}

/// What a Gemini model takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct GeminiModel {
    pub(super) level: GeminiSeries,
    /// Least and largest budget, and whether 0 turns thinking off; `None` where no range is documented.
    pub(super) budget: Option<(i64, i64, bool)>,
    pub(super) levels: &'static [&'static str],
    pub(super) sampling: bool,
    /// Whether it takes penalties.
    pub(super) penalties: PenaltyRule,
    /// Whether calls must come back with their signatures.
    pub(super) signatures: bool,
    /// Whether it answers with images.
    pub(super) draws: bool,
}

impl GeminiModel {
    /// What is known of a model; `None` for a name that is not Google's.
    pub(super) fn of(model: &str) -> Option<Self> {
        let rest = model.strip_prefix("gemini-")?;
        let is = |word: &str| rest.split('-').any(|part| part == word);
        let mut numbers = rest.split('-').next()?.split('.').map(str::parse::<u32>);
        let version = match (numbers.next(), numbers.next()) {
            (Some(Ok(major)), None) => (major, 0),
            (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
            _ => return None,
        };
        let old = Self {
            level: GeminiSeries::Two,
            budget: None,
            levels: &[],
            sampling: true,
            penalties: match version {
                (0..=1, _) | (2, 0..=4) => PenaltyRule::Everywhere,
                (2, _) => PenaltyRule::AtVertex,
                _ => PenaltyRule::Nowhere,
            },
            signatures: false,
            draws: is("image"),
        };
        let budget = match is("pro") {
            true => (128, 32_768, false),
            false if is("lite") => (512, 24_576, true),
            false => (0, 24_576, true),
        };
        Some(match version {
            (0..=1, _) | (2, 0..=4) => old,
            (2, _) => Self {
                budget: Some(budget),
                ..old
            },
            (3, minor) => Self {
                level: GeminiSeries::Three,
                levels: match is("pro") {
                    true if minor == 0 => &["low", "high"],
                    true => LOW_TO_HIGH,
                    false => &["minimal", "low", "medium", "high"],
                },
                signatures: !is("image"),
                ..old
            },
            _ => Self {
                level: GeminiSeries::Four,
                levels: match is("hydrogen") {
                    true => &["low", "medium", "high", "xhigh"],
                    false => LOW_TO_HIGH,
                },
                sampling: !is("hydrogen"),
                signatures: true,
                ..old
            },
        })
    }
}
