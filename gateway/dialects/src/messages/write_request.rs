//! The neutral model, into a messages request.
//!
//! Where Anthropic's rules differ, this follows Anthropic's own OpenAI-compatible API
//! (platform.claude.com/docs/en/api/openai-sdk): all system prompts move to the top, a temperature
//! above 1 becomes 1, and tools are not strict. The client's cache marks are kept.

use crate::json::{Text, Writer};
use crate::neutral::{
    Effort, Feature, Format, LossReport, MediaSource, Part, Reasoning, ReasoningSignature, Request,
    Role, SignatureOrigin, Tool, ToolCall, ToolChoice, Turn, joined_text, put_cache_control,
    with_marks,
};

/// Least budget for thinking that Anthropic accepts.
const BUDGET_TOKENS_MIN: u64 = 1024;

/// The limit on output tokens if the client sets none: Anthropic requires one. Every model since
/// Claude 3.5 allows this much.
const MAX_TOKENS: u64 = 8192;

pub(crate) fn write_request(request: &Request<'_>, model: &str, report: &mut LossReport) -> String {
    Writer::document(2048, |w| {
        w.put("model", model);
        write_fields(w, request, model, report);
    })
}

fn write_fields(w: &mut Writer, request: &Request<'_>, model: &str, report: &mut LossReport) {
    let thinking = Thinking::of(request, model, report);
    w.put("max_tokens", thinking.max_tokens(request.max_tokens));
    write_system(w, &request.turns);
    w.put_array("messages", |w| write_turns(w, &request.turns, report));
    if request.stream {
        w.put("stream", true);
    }
    w.put_list("stop_sequences", &request.stop);
    write_sampling(w, request, &thinking, report);
    write_tools(w, request, &thinking, report);
    write_output(w, request, &thinking, report);
    if let Some(user) = &request.user {
        w.put_object("metadata", |w| w.put("user_id", user));
    }
    put_cache_control(w, request.cache_control);
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
    let is_call = |part: &Part<'_>| matches!(part, Part::ToolCall(_));
    last.parts.iter().any(is_call) && !last.parts.iter().any(is_own_thinking)
}

fn is_own_thinking(part: &Part<'_>) -> bool {
    matches!(part, Part::Reasoning { signature: Some(signature), .. }
        if signature.origin == SignatureOrigin::Anthropic)
}

fn write_system(w: &mut Writer, turns: &[Turn<'_>]) {
    let system = turns.iter().filter(|turn| turn.role == Role::System);
    let parts: Vec<&Part<'_>> = system
        .flat_map(|turn| &turn.parts)
        .filter(|part| says_something(part))
        .collect();
    let is_marked = parts.iter().any(|part| matches!(part, Part::CacheMark(_)));
    if is_marked {
        w.put_array("system", |w| {
            for (part, mark) in with_marks(parts) {
                if let Part::Text(text) | Part::Refusal(text) = part {
                    write_text(w, text, mark);
                }
            }
        });
    } else if !parts.is_empty() {
        w.put("system", joined_text(parts));
    }
}

fn write_text(w: &mut Writer, text: &Text<'_>, mark: Option<&str>) {
    w.object(|w| {
        w.put("type", "text");
        w.put("text", text);
        put_cache_control(w, mark);
    });
}

/// Writes the turns. Consecutive turns of one role become one message, because results of parallel
/// calls must share one.
fn write_turns(w: &mut Writer, turns: &[Turn<'_>], report: &mut LossReport) {
    let spoken: Vec<&Turn<'_>> = turns
        .iter()
        .filter(|turn| turn.role != Role::System)
        .collect();
    for group in spoken.chunk_by(|a, b| a.role == b.role) {
        let Some(first) = group.first() else { continue };
        let parts = group.iter().flat_map(|turn| &turn.parts);
        let parts = with_marks(parts.filter(|part| says_something(part)));
        if parts.is_empty() {
            continue;
        }
        let is_user = first.role == Role::User;
        w.object(|w| {
            w.put("role", if is_user { "user" } else { "assistant" });
            write_content(w, &parts, report);
        });
    }
}

fn write_content(w: &mut Writer, parts: &[(&Part<'_>, Option<&str>)], report: &mut LossReport) {
    if let [(Part::Text(text), None)] = parts {
        w.put("content", text);
        return;
    }
    w.put_array("content", |w| {
        // Results come before the user's other content.
        let is_result = |part: &Part<'_>| matches!(part, Part::ToolResult { .. });
        let results = parts.iter().filter(|(part, _)| is_result(part));
        let rest = parts.iter().filter(|(part, _)| !is_result(part));
        results
            .chain(rest)
            .for_each(|(part, mark)| write_block(w, part, *mark, report));
    });
}

/// Whether Anthropic takes a part. It refuses empty text and the thinking of others.
fn says_something(part: &Part<'_>) -> bool {
    match part {
        Part::Text(text) | Part::Refusal(text) => !text.is_empty(),
        Part::Reasoning { .. } => is_own_thinking(part),
        _ => true,
    }
}

fn write_block(w: &mut Writer, part: &Part<'_>, mark: Option<&str>, report: &mut LossReport) {
    match part {
        Part::Text(text) | Part::Refusal(text) => write_text(w, text, mark),
        Part::Image { source, detail } => {
            if detail.as_ref().is_some_and(|detail| !detail.is("auto")) {
                report.approximated(Feature::ImageDetail);
            }
            w.object(|w| {
                w.put("type", "image");
                write_source(w, source);
                put_cache_control(w, mark);
            });
        }
        Part::File { source, name } => w.object(|w| {
            w.put("type", "document");
            write_source(w, source);
            w.put_some("title", name.as_ref());
            put_cache_control(w, mark);
        }),
        Part::Audio { .. } => report.unsupported(Feature::Audio),
        // Thinking cannot be marked.
        Part::Reasoning { text, signature } => write_thinking(w, text, signature.as_ref()),
        Part::CacheMark(_) => {}
        Part::ToolCall(call) => write_call(w, call, mark),
        Part::ToolResult {
            call_id,
            content,
            is_error,
        } => {
            w.object(|w| {
                w.put("type", "tool_result");
                w.put("tool_use_id", tool_id(call_id));
                let content = with_marks(content.iter().filter(|part| says_something(part)));
                write_content(w, &content, report);
                if *is_error {
                    w.put("is_error", true);
                }
                put_cache_control(w, mark);
            });
        }
    }
}

/// Writes thinking that Claude signed. Anthropic accepts no other.
fn write_thinking(w: &mut Writer, text: &Text<'_>, signature: Option<&ReasoningSignature<'_>>) {
    let own = signature.filter(|signature| signature.origin == SignatureOrigin::Anthropic);
    if let Some(signature) = own {
        w.object(|w| {
            if signature.is_encrypted {
                w.put("type", "redacted_thinking");
                w.put("data", &signature.value);
            } else {
                w.put("type", "thinking");
                w.put("thinking", text);
                w.put("signature", &signature.value);
            }
        });
    }
}

fn write_call(w: &mut Writer, call: &ToolCall<'_>, mark: Option<&str>) {
    w.object(|w| {
        w.put("type", "tool_use");
        w.put("id", tool_id(&call.id));
        w.put("name", &call.name);
        w.put_raw("input", &call.arguments);
        put_cache_control(w, mark);
    });
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

fn write_source(w: &mut Writer, source: &MediaSource<'_>) {
    w.put_object("source", |w| match source {
        MediaSource::Url(url) => {
            w.put("type", "url");
            w.put("url", url);
        }
        MediaSource::Data { media_type, data } => {
            w.put("type", "base64");
            w.put("media_type", media_type);
            w.put("data", data);
        }
    });
}

fn write_sampling(
    w: &mut Writer,
    request: &Request<'_>,
    thinking: &Thinking,
    report: &mut LossReport,
) {
    let sampling = &request.sampling;
    match sampling.temperature {
        // Thinking and temperature exclude each other.
        Some(_) if thinking.is_on() => report.approximated(Feature::Temperature),
        Some(temperature) => {
            if temperature > 1.0 {
                report.approximated(Feature::Temperature);
            }
            w.put("temperature", temperature.clamp(0.0, 1.0));
        }
        None => {}
    }
    match sampling.top_p {
        // Newer models refuse the two together.
        Some(_) if thinking.is_on() || sampling.temperature.is_some() => {
            report.approximated(Feature::TopP);
        }
        Some(top_p) => w.put("top_p", top_p),
        None => {}
    }
    match sampling.top_k {
        Some(_) if thinking.is_on() => report.approximated(Feature::TopK),
        Some(top_k) => w.put("top_k", top_k),
        None => {}
    }
    if sampling.has_penalties() {
        report.unsupported(Feature::Penalties);
    }
    if sampling.seed.is_some() {
        report.unsupported(Feature::Seed);
    }
}

fn write_tools(
    w: &mut Writer,
    request: &Request<'_>,
    thinking: &Thinking,
    report: &mut LossReport,
) {
    if request.tools.is_empty() {
        return;
    }
    if request.tools.iter().any(|tool| tool.strict == Some(true)) {
        report.approximated(Feature::StrictTools);
    }
    w.put_array("tools", |w| {
        request.tools.iter().for_each(|tool| write_tool(w, tool))
    });
    let mut choice = request.tool_choice.as_ref();
    if thinking.is_on() && matches!(choice, Some(ToolChoice::Required | ToolChoice::Named(_))) {
        // Thinking and a forced tool exclude each other.
        report.unsupported(Feature::ToolChoice);
        choice = None;
    }
    let one_at_a_time = request.parallel_tools == Some(false);
    if choice.is_none() && !one_at_a_time {
        return;
    }
    w.put_object("tool_choice", |w| {
        match choice {
            None | Some(ToolChoice::Auto) => w.put("type", "auto"),
            Some(ToolChoice::None) => w.put("type", "none"),
            Some(ToolChoice::Required) => w.put("type", "any"),
            Some(ToolChoice::Named(name)) => {
                w.put("type", "tool");
                w.put("name", name);
            }
        }
        if one_at_a_time && choice != Some(&ToolChoice::None) {
            w.put("disable_parallel_tool_use", true);
        }
    });
}

fn write_tool(w: &mut Writer, tool: &Tool<'_>) {
    w.object(|w| {
        w.put("name", &tool.name);
        w.put_some("description", tool.description.as_ref());
        w.put_raw("input_schema", tool.schema);
        put_cache_control(w, tool.cache_control);
    });
}

fn write_output(
    w: &mut Writer,
    request: &Request<'_>,
    thinking: &Thinking,
    report: &mut LossReport,
) {
    match thinking {
        Thinking::Unsaid => {}
        Thinking::Off => w.put_object("thinking", |w| w.put("type", "disabled")),
        Thinking::Adaptive(_) => w.put_object("thinking", |w| w.put("type", "adaptive")),
        Thinking::Budget(tokens) => w.put_object("thinking", |w| {
            w.put("type", "enabled");
            w.put("budget_tokens", *tokens);
        }),
    }
    let effort = match thinking {
        Thinking::Adaptive(effort) => *effort,
        _ => None,
    };
    let schema = match &request.format {
        Some(Format::JsonSchema(format)) => {
            if format.description.is_some() {
                report.approximated(Feature::FormatDescription);
            }
            Some(format.schema)
        }
        Some(Format::JsonObject) => {
            report.unsupported(Feature::Format);
            None
        }
        None => None,
    };
    if effort.is_none() && schema.is_none() {
        return;
    }
    w.put_object("output_config", |w| {
        if let Some(effort) = effort {
            w.put("effort", effort.max(Effort::Low).as_str());
        }
        if let Some(schema) = schema {
            w.put_object("format", |w| {
                w.put("type", "json_schema");
                w.put_raw("schema", schema);
            });
        }
    });
}
