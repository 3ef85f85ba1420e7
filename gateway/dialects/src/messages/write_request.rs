//! The neutral model, into a messages request.
//!
//! Where Anthropic's rules differ, this follows Anthropic's own OpenAI-compatible API
//! (platform.claude.com/docs/en/api/openai-sdk): all system prompts move to the top, a temperature
//! above 1 becomes 1, and tools are not strict. The client's cache marks are kept.

use crate::json::Text;
use crate::neutral::{
    Effort, Feature, Format, LossReport, MediaSource, Part, Reasoning, ReasoningSignature, Request,
    RequestWriter, Role, SignatureOrigin, ToolChoice, Turn, with_marks,
};

/// Least budget for thinking that Anthropic accepts.
const BUDGET_TOKENS_MIN: u64 = 1024;

/// The limit on output tokens if the client sets none: Anthropic requires one. Every model since
/// Claude 3.5 allows this much.
const MAX_TOKENS: u64 = 8192;

pub(crate) fn write_request(request: &Request<'_>, model: &str, report: &mut LossReport) -> String {
    RequestWriter::reporting(2048, report).filled(|w| {
        w.put("model", model);
        let thinking = Thinking::of(request, model, w.report);
        w.put("max_tokens", thinking.max_tokens(request.max_tokens));
        let system = request.system_parts().filter(|part| says_something(part));
        if system.clone().any(|part| !is_mark(part)) {
            w.put_text("system", system);
        }
        w.put_array("messages", |w| write_turns(w, request));
        if request.stream {
            w.put("stream", true);
        }
        w.put_list("stop_sequences", &request.stop);
        write_sampling(w, request, &thinking);
        write_tools(w, request, &thinking);
        write_output(w, request, &thinking);
        if let Some(user) = &request.user {
            w.put_object("metadata", |w| w.put("user_id", user));
        }
        w.put_cache_control(request.cache_control);
    })
}

/// How a model is told to think, which depends on its generation.
enum Thinking {
    Unsaid,
    Off,
    Budget(u64),
    /// The model decides; the effort sets how eagerly.
    Adaptive(Option<Effort>),
}

/// Prefixes of models that take a budget. Newer ones decide themselves
/// (platform.claude.com/docs/en/build-with-claude/adaptive-thinking).
const BUDGET_MODELS: [&str; 8] = [
    "claude-3-7",
    "claude-opus-4-0",
    "claude-opus-4-1",
    "claude-opus-4-2",
    "claude-opus-4-5",
    "claude-sonnet-4-0",
    "claude-sonnet-4-2",
    "claude-sonnet-4-5",
];

impl Thinking {
    fn of(request: &Request<'_>, model: &str, report: &mut LossReport) -> Self {
        let Some(reasoning) = &request.reasoning else {
            return Self::Unsaid;
        };
        let by_budget = model.starts_with("claude-haiku-4-5")
            || BUDGET_MODELS.iter().any(|start| model.starts_with(start));
        match reasoning.is_on() {
            None => Self::Unsaid,
            Some(false) => Self::Off,
            Some(true) if !by_budget => Self::Adaptive(reasoning.as_effort()),
            Some(true) if breaks_off_thinking(&request.turns) => {
                // Anthropic refuses budgeted thinking in the middle of tool calls that were made
                // without it, or whose thinking the client did not return.
                report.approximated(Feature::Reasoning);
                Self::Unsaid
            }
            Some(true) => match budget_within(reasoning, request.max_tokens) {
                Some(tokens) => Self::Budget(tokens),
                None => {
                    report.approximated(Feature::Reasoning);
                    Self::Unsaid
                }
            },
        }
    }

    const fn is_on(&self) -> bool {
        matches!(self, Self::Budget(_) | Self::Adaptive(_))
    }

    /// The limit on thinking and answer together.
    fn max_tokens(&self, asked: Option<u64>) -> u64 {
        match (self, asked) {
            (Self::Budget(budget), None) => budget.saturating_add(MAX_TOKENS),
            (_, asked) => asked.unwrap_or(MAX_TOKENS),
        }
    }
}

/// The budget, which must be less than the limit. `None` if the limit leaves no room to think.
fn budget_within(reasoning: &Reasoning, max_tokens: Option<u64>) -> Option<u64> {
    let wanted = reasoning
        .as_budget()
        .unwrap_or_else(|| Effort::Medium.budget_tokens());
    let most = max_tokens.map_or(u64::MAX, |limit| limit.saturating_sub(1));
    (most >= BUDGET_TOKENS_MIN).then(|| wanted.clamp(BUDGET_TOKENS_MIN, most))
}

/// Whether the conversation is in the middle of tool calls without their thinking.
fn breaks_off_thinking(turns: &[Turn<'_>]) -> bool {
    let Some(last) = turns.iter().rev().find(|turn| turn.role == Role::Assistant) else {
        return false;
    };
    last.parts.iter().any(|part| part.as_call().is_some())
        && !last.parts.iter().any(is_own_thinking)
}

fn is_own_thinking(part: &Part<'_>) -> bool {
    matches!(part, Part::Reasoning { signature: Some(signature), .. }
        if signature.origin == SignatureOrigin::Anthropic)
}

/// What the user says in a turn of white space, which Anthropic refuses. Without the turn, the
/// assistant's before it would begin the answer.
const BLANK_TURN: &str = "(empty message)";

/// Writes the turns. Consecutive turns of one role become one message, because results of parallel
/// calls must share one.
fn write_turns(w: &mut RequestWriter<'_>, request: &Request<'_>) {
    let mut turns = request.spoken();
    let spoken = turns.len();
    let is_said = |turn: &Turn<'_>| {
        turn.parts
            .iter()
            .any(|part| says_something(part) && !is_mark(part))
    };
    turns.retain(|turn| turn.role == Role::User || is_said(turn));
    w.approximated_if(turns.len() < spoken, Feature::Blank);
    let mut left = turns.len();
    for group in turns.chunk_by(|a, b| a.role == b.role) {
        left -= group.len();
        let is_user = group.iter().any(|turn| turn.role == Role::User);
        let parts = group.iter().flat_map(|turn| &turn.parts);
        let parts = with_marks(parts.filter(|part| says_something(part)));
        w.object(|w| {
            w.put("role", if is_user { "user" } else { "assistant" });
            match parts.split_last() {
                None => {
                    w.report.approximated(Feature::Blank);
                    w.put("content", BLANK_TURN);
                }
                Some(((Part::Text(text), mark), before)) if !is_user && left == 0 => {
                    let end = Part::Text(trimmed_prefill(text, w.report));
                    write_content(w, &[before, &[(&end, *mark)]].concat());
                }
                Some(_) => write_content(w, &parts),
            }
        });
    }
}

/// The beginning of the answer, which must not end in white space.
fn trimmed_prefill<'t>(text: &'t Text<'_>, report: &mut LossReport) -> Text<'t> {
    let trimmed = text.trimmed_end();
    report.approximated_if(trimmed.len() < text.len(), Feature::PrefillEnd);
    trimmed
}

const fn is_mark(part: &Part<'_>) -> bool {
    matches!(part, Part::CacheMark(_))
}

fn write_content(w: &mut RequestWriter<'_>, parts: &[(&Part<'_>, Option<&str>)]) {
    if let [(Part::Text(text), None)] = parts {
        w.put("content", text);
        return;
    }
    // Results come before the user's other content.
    let is_result = |part: &Part<'_>| matches!(part, Part::ToolResult { .. });
    let results = parts.iter().filter(|(part, _)| is_result(part));
    let rest = parts.iter().filter(|(part, _)| !is_result(part));
    w.put_each("content", results.chain(rest), |w, (part, mark)| {
        write_block(w, part, *mark);
    });
}

/// Whether Anthropic takes a part. It refuses blank text and the thinking of others.
fn says_something(part: &Part<'_>) -> bool {
    match part {
        Part::Text(text)
        | Part::Refusal(text)
        | Part::File {
            source: MediaSource::Text(text),
            ..
        } => !text.is_blank(),
        Part::Reasoning { .. } => is_own_thinking(part),
        _ => true,
    }
}

fn write_block(w: &mut RequestWriter<'_>, part: &Part<'_>, mark: Option<&str>) {
    match part {
        Part::Text(text) | Part::Refusal(text) => w.text_block(text, mark),
        Part::Image { source, detail } => {
            let is_detailed = detail.as_ref().is_some_and(|detail| !detail.is("auto"));
            w.approximated_if(is_detailed, Feature::ImageDetail);
            w.typed("image", |w| {
                write_source(w, source);
                w.put_cache_control(mark);
            });
        }
        Part::File { source, name } => w.typed("document", |w| {
            write_source(w, source);
            w.put_some("title", name.as_ref());
            w.put_cache_control(mark);
        }),
        Part::Audio { .. } => w.report.unsupported(Feature::Audio),
        // Thinking cannot be marked.
        Part::Reasoning { text, signature } => write_thinking(w, text, signature.as_ref()),
        Part::CacheMark(_) => {}
        Part::ToolCall(call) => w.typed("tool_use", |w| {
            w.put("id", tool_id(&call.id));
            w.put("name", &call.name);
            w.put_raw("input", &call.arguments);
            w.put_cache_control(mark);
        }),
        Part::ToolResult {
            call_id,
            content,
            is_error,
        } => w.typed("tool_result", |w| {
            w.put("tool_use_id", tool_id(call_id));
            let content = with_marks(content.iter().filter(|part| says_something(part)));
            write_content(w, &content);
            if *is_error {
                w.put("is_error", true);
            }
            w.put_cache_control(mark);
        }),
    }
}

/// Writes thinking that Claude signed. Anthropic accepts no other.
fn write_thinking(
    w: &mut RequestWriter<'_>,
    text: &Text<'_>,
    signature: Option<&ReasoningSignature<'_>>,
) {
    match signature.filter(|signature| signature.origin == SignatureOrigin::Anthropic) {
        None => {}
        Some(signature) if signature.is_encrypted => w.typed("redacted_thinking", |w| {
            w.put("data", &signature.value);
        }),
        Some(signature) => w.typed("thinking", |w| {
            w.put("thinking", text);
            w.put("signature", &signature.value);
        }),
    }
}

/// An id of letters, digits, `_` and `-`; other characters become `_`.
fn tool_id<'a>(id: &'a Text<'_>) -> Text<'a> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if id.as_escaped().bytes().all(fits) {
        return id.borrowed();
    }
    let fitting = |byte: u8| if fits(byte) { char::from(byte) } else { '_' };
    Text::owned(id.as_escaped().bytes().map(fitting).collect())
}

fn write_source(w: &mut RequestWriter<'_>, source: &MediaSource<'_>) {
    w.key("source");
    match source {
        MediaSource::Url(url) => w.typed("url", |w| w.put("url", url)),
        MediaSource::Text(text) => w.typed("text", |w| {
            w.put("media_type", "text/plain");
            w.put("data", text);
        }),
        MediaSource::Data { media_type, data } => w.typed("base64", |w| {
            w.put("media_type", media_type);
            w.put("data", data);
        }),
    }
}

fn write_sampling(w: &mut RequestWriter<'_>, request: &Request<'_>, thinking: &Thinking) {
    let sampling = &request.sampling;
    // Thinking excludes the three.
    let is_free = !thinking.is_on();
    let is_hot = sampling.temperature.is_some_and(|asked| asked > 1.0);
    w.approximated_if(is_hot, Feature::Temperature);
    let temperature = sampling.temperature.map(|asked| asked.clamp(0.0, 1.0));
    w.put_fitting("temperature", temperature, is_free, Feature::Temperature);
    // Newer models refuse the two together.
    let is_alone = is_free && temperature.is_none();
    w.put_fitting("top_p", sampling.top_p, is_alone, Feature::TopP);
    w.put_fitting("top_k", sampling.top_k, is_free, Feature::TopK);
    w.unsupported_if(sampling.has_penalties(), Feature::Penalties);
    w.unsupported_if(sampling.seed.is_some(), Feature::Seed);
}

fn write_tools(w: &mut RequestWriter<'_>, request: &Request<'_>, thinking: &Thinking) {
    if request.tools.is_empty() {
        return;
    }
    w.approximated_if(request.has_strict_tools(), Feature::StrictTools);
    w.put_each("tools", &request.tools, |w, tool| {
        w.object(|w| {
            w.put("name", &tool.name);
            w.put_some("description", tool.description.as_ref());
            w.put_raw("input_schema", tool.schema);
            w.put_cache_control(tool.cache_control);
        });
    });
    let mut choice = request.tool_choice.as_ref();
    if thinking.is_on() && matches!(choice, Some(ToolChoice::Required | ToolChoice::Named(_))) {
        // Thinking and a forced tool exclude each other.
        w.report.unsupported(Feature::ToolChoice);
        choice = None;
    }
    let one_at_a_time = request.parallel_tools == Some(false);
    if choice.is_none() && !one_at_a_time {
        return;
    }
    let (kind, name) = match choice {
        None | Some(ToolChoice::Auto) => ("auto", None),
        Some(ToolChoice::None) => ("none", None),
        Some(ToolChoice::Required) => ("any", None),
        Some(ToolChoice::Named(name)) => ("tool", Some(name)),
    };
    w.key("tool_choice");
    w.typed(kind, |w| {
        w.put_some("name", name);
        if one_at_a_time && choice != Some(&ToolChoice::None) {
            w.put("disable_parallel_tool_use", true);
        }
    });
}

fn write_output(w: &mut RequestWriter<'_>, request: &Request<'_>, thinking: &Thinking) {
    let mode = match thinking {
        Thinking::Unsaid => None,
        Thinking::Off => Some(("disabled", None)),
        Thinking::Adaptive(_) => Some(("adaptive", None)),
        Thinking::Budget(tokens) => Some(("enabled", Some(*tokens))),
    };
    if let Some((kind, tokens)) = mode {
        w.key("thinking");
        w.typed(kind, |w| w.put_some("budget_tokens", tokens));
    }
    let effort = match thinking {
        Thinking::Adaptive(effort) => *effort,
        _ => None,
    };
    let schema = match &request.format {
        Some(Format::JsonSchema(format)) => {
            let is_described = format.description.is_some();
            w.approximated_if(is_described, Feature::FormatDescription);
            Some(format.schema)
        }
        Some(Format::JsonObject) => {
            w.report.unsupported(Feature::Format);
            None
        }
        None => None,
    };
    if effort.is_none() && schema.is_none() {
        return;
    }
    w.put_object("output_config", |w| {
        w.put_some(
            "effort",
            effort.map(|effort| effort.max(Effort::Low).as_str()),
        );
        if let Some(schema) = schema {
            w.key("format");
            w.typed("json_schema", |w| w.put_raw("schema", schema));
        }
    });
}
