//! The neutral model, into a messages request.
//!
//! Where Anthropic's rules differ from what others allow, this does as Anthropic's own
//! OpenAI-compatible API does (platform.claude.com/docs/en/api/openai-sdk): all system prompts are
//! put together at the top, a temperature above 1 becomes 1, and tools are not strict. What is to
//! be cached is marked as the client marked it.

use crate::json::{Text, Writer};
use crate::neutral::{
    Effort, Feature, Format, Origin, Part, Proof, Reasoning, Report, Request, Role, Source, Tool,
    ToolCall, ToolChoice, Turn, with_marks,
};
use crate::prepare::Refusal;

/// Least budget for thinking that Anthropic accepts.
const BUDGET_TOKENS_MIN: u64 = 1024;

/// What the model may say where the client sets no limit, which Anthropic wants set. Every model
/// since Claude 3.5 allows as much.
const MAX_TOKENS: u64 = 8192;

pub(crate) fn write_request(
    request: &Request<'_>,
    model: &str,
    report: &mut Report,
) -> Result<String, Refusal> {
    let mut w = Writer::with_capacity(2048);
    let mut written = Ok(());
    w.object(|w| {
        w.put_str("model", model);
        written = write_fields(w, request, model, report);
    });
    written.map(|()| w.into_string())
}

fn write_fields(
    w: &mut Writer,
    request: &Request<'_>,
    model: &str,
    report: &mut Report,
) -> Result<(), Refusal> {
    let thinking = Thinking::of(request, model, report);
    w.put_u64("max_tokens", thinking.max_tokens(request.max_tokens));
    write_system(w, &request.turns);
    let mut written = Ok(());
    w.put_array("messages", |w| {
        written = write_turns(w, &request.turns, report)
    });
    written?;
    if request.stream {
        w.put_bool("stream", true);
    }
    if !request.stop.is_empty() {
        w.put_array("stop_sequences", |w| {
            request.stop.iter().for_each(|stop| w.text(stop))
        });
    }
    write_sampling(w, request, &thinking, report)?;
    write_tools(w, request, &thinking, report)?;
    write_output(w, request, &thinking, report)?;
    if let Some(user) = &request.user {
        w.put_object("metadata", |w| w.put_text("user_id", user));
    }
    put_mark(w, request.cache_control);
    Ok(())
}

/// How a model is told to think. Which way it understands depends on its generation.
enum Thinking {
    Unsaid,
    Off,
    Budget(u64),
    /// It decides itself; the effort says how eagerly.
    Adaptive(Option<Effort>),
}

/// Models, by how their names begin, that are given a budget. Newer ones decide themselves
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
    fn of(request: &Request<'_>, model: &str, report: &mut Report) -> Self {
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
                // without it, or whose thinking the client did not bring back.
                report.bends(Feature::Reasoning);
                Self::Unsaid
            }
            Some(true) => match budget_within(reasoning, request.max_tokens) {
                Some(tokens) => Self::Budget(tokens),
                None => {
                    report.bends(Feature::Reasoning);
                    Self::Unsaid
                }
            },
        }
    }

    const fn is_on(&self) -> bool {
        matches!(self, Self::Budget(_) | Self::Adaptive(_))
    }

    /// The limit covers what is thought and what is said.
    fn max_tokens(&self, asked: Option<u64>) -> u64 {
        match (self, asked) {
            (Self::Budget(budget), None) => budget.saturating_add(MAX_TOKENS),
            (_, asked) => asked.unwrap_or(MAX_TOKENS),
        }
    }
}

/// The budget, which must leave something of the limit. `None` if the limit is too small to think.
fn budget_within(reasoning: &Reasoning, max_tokens: Option<u64>) -> Option<u64> {
    let wanted = reasoning
        .as_budget()
        .unwrap_or_else(|| Effort::Medium.budget_tokens());
    let most = max_tokens.map_or(u64::MAX, |limit| limit.saturating_sub(1));
    (most >= BUDGET_TOKENS_MIN).then(|| wanted.clamp(BUDGET_TOKENS_MIN, most))
}

/// Whether the conversation stands in the middle of tool calls without their thinking.
fn breaks_off_thinking(turns: &[Turn<'_>]) -> bool {
    let Some(last) = turns.iter().rev().find(|turn| turn.role == Role::Assistant) else {
        return false;
    };
    let calls = last
        .parts
        .iter()
        .any(|part| matches!(part, Part::ToolCall(_)));
    calls && !last.parts.iter().any(is_own_thinking)
}

fn is_own_thinking(part: &Part<'_>) -> bool {
    matches!(
        part,
        Part::Reasoning {
            proof: Some(Proof {
                origin: Origin::Anthropic,
                ..
            }),
            ..
        }
    )
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
        w.put_text("system", &crate::chat::joined_text(parts));
    }
}

fn write_text(w: &mut Writer, text: &Text<'_>, mark: Option<&str>) {
    w.object(|w| {
        w.put_str("type", "text");
        w.put_text("text", text);
        put_mark(w, mark);
    });
}

fn put_mark(w: &mut Writer, mark: Option<&str>) {
    if let Some(mark) = mark {
        w.put_raw("cache_control", mark);
    }
}

/// Writes the turns. Neighbours of one role become one message: results of parallel calls must
/// stand together.
fn write_turns(w: &mut Writer, turns: &[Turn<'_>], report: &mut Report) -> Result<(), Refusal> {
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
        let mut written = Ok(());
        w.object(|w| {
            w.put_str(
                "role",
                if first.role == Role::User {
                    "user"
                } else {
                    "assistant"
                },
            );
            written = write_content(w, &parts, report);
        });
        written?;
    }
    Ok(())
}

fn write_content(
    w: &mut Writer,
    parts: &[(&Part<'_>, Option<&str>)],
    report: &mut Report,
) -> Result<(), Refusal> {
    if let [(Part::Text(text), None)] = parts {
        w.put_text("content", text);
        return Ok(());
    }
    let mut written = Ok(());
    w.put_array("content", |w| {
        // Results come before what the user says beside them.
        let is_result = |part: &Part<'_>| matches!(part, Part::ToolResult { .. });
        let results = parts.iter().filter(|(part, _)| is_result(part));
        let rest = parts.iter().filter(|(part, _)| !is_result(part));
        written = results
            .chain(rest)
            .try_for_each(|(part, mark)| write_block(w, part, *mark, report));
    });
    written
}

/// Whether Anthropic is shown a part at all. It refuses empty text, and thinking that is not its
/// own.
fn says_something(part: &Part<'_>) -> bool {
    match part {
        Part::Text(text) | Part::Refusal(text) => !text.is_empty(),
        Part::Reasoning { .. } => is_own_thinking(part),
        _ => true,
    }
}

fn write_block(
    w: &mut Writer,
    part: &Part<'_>,
    mark: Option<&str>,
    report: &mut Report,
) -> Result<(), Refusal> {
    match part {
        Part::Text(text) | Part::Refusal(text) => write_text(w, text, mark),
        Part::Image { source, detail } => {
            if detail.as_ref().is_some_and(|detail| !detail.is("auto")) {
                report.bends(Feature::ImageDetail);
            }
            w.object(|w| {
                w.put_str("type", "image");
                write_source(w, source);
                put_mark(w, mark);
            });
        }
        Part::File { source, name } => w.object(|w| {
            w.put_str("type", "document");
            write_source(w, source);
            if let Some(name) = name {
                w.put_text("title", name);
            }
            put_mark(w, mark);
        }),
        Part::Audio { .. } => report.lacks(Feature::Audio)?,
        // Thinking cannot be marked, and a mark stands in no list of its own.
        Part::Reasoning { text, proof } => write_thinking(w, text, proof.as_ref()),
        Part::CacheMark(_) => {}
        Part::ToolCall(call) => write_call(w, call, mark),
        Part::ToolResult {
            call_id,
            content,
            is_error,
        } => {
            let mut written = Ok(());
            w.object(|w| {
                w.put_str("type", "tool_result");
                w.put_text("tool_use_id", &tool_id(call_id));
                let content = with_marks(content.iter().filter(|part| says_something(part)));
                written = write_content(w, &content, report);
                if *is_error {
                    w.put_bool("is_error", true);
                }
                put_mark(w, mark);
            });
            written?;
        }
    }
    Ok(())
}

/// Thinking is only shown to Anthropic with the proof that it is Claude's.
fn write_thinking(w: &mut Writer, text: &Text<'_>, proof: Option<&Proof<'_>>) {
    match proof {
        Some(Proof {
            origin: Origin::Anthropic,
            value,
            is_encrypted: false,
        }) => w.object(|w| {
            w.put_str("type", "thinking");
            w.put_text("thinking", text);
            w.put_text("signature", value);
        }),
        Some(Proof {
            origin: Origin::Anthropic,
            value,
            is_encrypted: true,
        }) => w.object(|w| {
            w.put_str("type", "redacted_thinking");
            w.put_text("data", value);
        }),
        _ => {}
    }
}

fn write_call(w: &mut Writer, call: &ToolCall<'_>, mark: Option<&str>) {
    w.object(|w| {
        w.put_str("type", "tool_use");
        w.put_text("id", &tool_id(&call.id));
        w.put_text("name", &call.name);
        w.put_raw("input", &call.arguments);
        put_mark(w, mark);
    });
}

/// Ids may hold letters, digits, `_` and `-`; others become `_`.
fn tool_id<'a>(id: &'a Text<'_>) -> Text<'a> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if id.as_escaped().bytes().all(fits) {
        return id.borrowed();
    }
    let id = id
        .as_escaped()
        .bytes()
        .map(|byte| if fits(byte) { char::from(byte) } else { '_' });
    Text::owned(id.collect())
}

fn write_source(w: &mut Writer, source: &Source<'_>) {
    w.put_object("source", |w| match source {
        Source::Url(url) => {
            w.put_str("type", "url");
            w.put_text("url", url);
        }
        Source::Data { media_type, data } => {
            w.put_str("type", "base64");
            w.put_text("media_type", media_type);
            w.put_text("data", data);
        }
    });
}

fn write_sampling(
    w: &mut Writer,
    request: &Request<'_>,
    thinking: &Thinking,
    report: &mut Report,
) -> Result<(), Refusal> {
    let sampling = &request.sampling;
    match sampling.temperature {
        // Thinking and temperature exclude each other.
        Some(_) if thinking.is_on() => report.bends(Feature::Temperature),
        Some(temperature) => {
            if temperature > 1.0 {
                report.bends(Feature::Temperature);
            }
            w.put_f64("temperature", temperature.clamp(0.0, 1.0));
        }
        None => {}
    }
    match sampling.top_p {
        // Newer models refuse the two together.
        Some(_) if thinking.is_on() || sampling.temperature.is_some() => {
            report.bends(Feature::TopP);
        }
        Some(top_p) => w.put_f64("top_p", top_p),
        None => {}
    }
    match sampling.top_k {
        Some(_) if thinking.is_on() => report.bends(Feature::TopK),
        Some(top_k) => w.put_u64("top_k", top_k),
        None => {}
    }
    if sampling
        .frequency_penalty
        .or(sampling.presence_penalty)
        .is_some()
    {
        report.lacks(Feature::Penalties)?;
    }
    if sampling.seed.is_some() {
        report.lacks(Feature::Seed)?;
    }
    Ok(())
}

fn write_tools(
    w: &mut Writer,
    request: &Request<'_>,
    thinking: &Thinking,
    report: &mut Report,
) -> Result<(), Refusal> {
    if request.tools.is_empty() {
        return Ok(());
    }
    if request.tools.iter().any(|tool| tool.strict == Some(true)) {
        report.bends(Feature::StrictTools);
    }
    w.put_array("tools", |w| {
        request.tools.iter().for_each(|tool| write_tool(w, tool))
    });
    let mut choice = request.tool_choice.as_ref();
    if thinking.is_on() && matches!(choice, Some(ToolChoice::Required | ToolChoice::Named(_))) {
        // Thinking and a forced tool exclude each other.
        report.lacks(Feature::ToolChoice)?;
        choice = None;
    }
    let one_at_a_time = request.parallel_tools == Some(false);
    if choice.is_none() && !one_at_a_time {
        return Ok(());
    }
    w.put_object("tool_choice", |w| {
        match choice {
            None | Some(ToolChoice::Auto) => w.put_str("type", "auto"),
            Some(ToolChoice::None) => w.put_str("type", "none"),
            Some(ToolChoice::Required) => w.put_str("type", "any"),
            Some(ToolChoice::Named(name)) => {
                w.put_str("type", "tool");
                w.put_text("name", name);
            }
        }
        if one_at_a_time && choice != Some(&ToolChoice::None) {
            w.put_bool("disable_parallel_tool_use", true);
        }
    });
    Ok(())
}

fn write_tool(w: &mut Writer, tool: &Tool<'_>) {
    w.object(|w| {
        w.put_text("name", &tool.name);
        if let Some(description) = &tool.description {
            w.put_text("description", description);
        }
        w.put_raw("input_schema", &tool.schema);
        put_mark(w, tool.cache_control);
    });
}

fn write_output(
    w: &mut Writer,
    request: &Request<'_>,
    thinking: &Thinking,
    report: &mut Report,
) -> Result<(), Refusal> {
    match thinking {
        Thinking::Unsaid => {}
        Thinking::Off => w.put_object("thinking", |w| w.put_str("type", "disabled")),
        Thinking::Adaptive(_) => w.put_object("thinking", |w| w.put_str("type", "adaptive")),
        Thinking::Budget(tokens) => w.put_object("thinking", |w| {
            w.put_str("type", "enabled");
            w.put_u64("budget_tokens", *tokens);
        }),
    }
    let effort = match thinking {
        Thinking::Adaptive(effort) => *effort,
        _ => None,
    };
    let schema = match &request.format {
        Some(Format::JsonSchema {
            schema,
            description,
            ..
        }) => {
            if description.is_some() {
                report.bends(Feature::FormatDescription);
            }
            Some(*schema)
        }
        Some(Format::JsonObject) => {
            report.lacks(Feature::Format)?;
            None
        }
        None => None,
    };
    if effort.is_none() && schema.is_none() {
        return Ok(());
    }
    w.put_object("output_config", |w| {
        if let Some(effort) = effort {
            w.put_str("effort", effort.max(Effort::Low).as_str());
        }
        if let Some(schema) = schema {
            w.put_object("format", |w| {
                w.put_str("type", "json_schema");
                w.put_raw("schema", schema);
            });
        }
    });
    Ok(())
}
