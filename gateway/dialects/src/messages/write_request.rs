//! The neutral model, into a messages request.
//!
//! Where Anthropic's rules differ, this follows Anthropic's own OpenAI-compatible API
//! (platform.claude.com/docs/en/api/openai-sdk): all system prompts move to the top, and a
//! temperature above 1 becomes 1. The client's cache marks and strict tools are kept.

use super::structured::StructuredOutput;
use crate::generations::{
    Generation, ReasoningControl, ReasoningOff, ReasoningRules, SamplingRules,
};
use crate::json::Text;
use crate::neutral::{
    EMPTY_MESSAGE, Effort, Feature, LossReport, MediaSource, Part, Reasoning, ReasoningSignature,
    Request, RequestWriter, Role, Sampling, SignatureOrigin, ToolChoice, Turn, is_default,
    with_marks,
};

/// The limit on output tokens if the client sets none: Anthropic requires one.
const MAX_TOKENS: u64 = 8192;

pub(crate) fn write_request(
    request: &Request<'_>,
    model: &str,
    generation: &Generation,
    report: &mut LossReport,
) -> String {
    RequestWriter::reporting(2048, report).filled(|w| {
        w.put("model", model);
        let limit = w.token_limit(request.max_tokens, 0, generation.output_tokens_max);
        let breaks_off = || breaks_off_thinking(&request.turns);
        let asked = request.reasoning.as_ref();
        let thinking = Thinking::of(asked, limit, breaks_off, generation, w.report);
        let reasons = thinking.is_on(generation);
        w.put("max_tokens", thinking.max_tokens(limit, generation));
        let system = request.system_parts().filter(|part| says_something(part));
        if system.clone().any(|part| !is_mark(part)) {
            w.put_text("system", system);
        }
        w.put_array("messages", |w| write_turns(w, request, generation));
        if request.stream {
            w.put("stream", true);
        }
        w.put_stop("stop_sequences", &request.stop, generation.stop_max);
        write_sampling(w, &request.sampling, generation.sampling, reasons);
        let structured = StructuredOutput::of(request, generation, w.report);
        let can_force = generation.forced_tools.holds(reasons);
        write_tools(w, request, &structured, can_force);
        write_output(w, structured.format.as_deref(), &thinking);
        if let Some(user) = &request.user {
            w.put_object("metadata", |w| w.put("user_id", user));
        }
        w.put_cache_control(request.cache_control);
    })
}

/// How a model is told to think, which depends on its generation.
pub(super) enum Thinking {
    Unsaid,
    /// The word that switches it off.
    Off(&'static str),
    Budget(u64),
    /// The model decides; the effort sets how eagerly.
    Adaptive(Option<Effort>),
}

impl Thinking {
    /// `breaks_off` says whether the conversation is in the middle of calls without their thinking.
    pub(super) fn of(
        asked: Option<&Reasoning>,
        max_tokens: Option<u64>,
        breaks_off: impl FnOnce() -> bool,
        generation: &Generation,
        report: &mut LossReport,
    ) -> Self {
        let rules = &generation.reasoning;
        let asked = rules.fit(asked);
        let Some(is_on) = asked.is_on else {
            return Self::Unsaid;
        };
        if asked.is_bent {
            report.approximated(Feature::Reasoning);
        }
        match (is_on, rules.control) {
            (false, ReasoningControl::None) => Self::Unsaid,
            (false, _) if rules.off == ReasoningOff::BetweenTools => Self::Off("between_tools"),
            (false, _) => Self::Off("disabled"),
            (true, ReasoningControl::None) => {
                report.unsupported(Feature::Reasoning);
                Self::Unsaid
            }
            (true, ReasoningControl::Budget) => {
                let wanted = asked.budget_tokens;
                let wanted = wanted.unwrap_or_else(|| Effort::Medium.budget_tokens());
                // Anthropic refuses budgeted thinking in the middle of tool calls that were made
                // without it, or whose thinking the client did not return.
                let budget = budget_within(wanted, max_tokens, rules).filter(|_| !breaks_off());
                if budget != Some(wanted) {
                    report.approximated(Feature::Reasoning);
                }
                budget.map_or(Self::Unsaid, Self::Budget)
            }
            (true, _) => Self::Adaptive(asked.effort),
        }
    }

    /// Whether the model thinks.
    pub(super) const fn is_on(&self, generation: &Generation) -> bool {
        match self {
            Self::Budget(_) | Self::Adaptive(_) => true,
            Self::Unsaid => generation.reasoning.unasked,
            Self::Off(_) => false,
        }
    }

    /// The effort beside it.
    pub(super) const fn effort(&self) -> Option<Effort> {
        match self {
            Self::Adaptive(effort) => *effort,
            _ => None,
        }
    }

    /// Writes the field.
    pub(super) fn write(&self, w: &mut RequestWriter<'_>) {
        let (kind, tokens) = match self {
            Self::Unsaid => return,
            Self::Off(word) => (*word, None),
            Self::Adaptive(_) => ("adaptive", None),
            Self::Budget(tokens) => ("enabled", Some(*tokens)),
        };
        w.key("thinking");
        w.typed(kind, |w| w.put_some("budget_tokens", tokens));
    }

    /// The limit on thinking and answer together.
    fn max_tokens(&self, asked: Option<u64>, generation: &Generation) -> u64 {
        let room = match self {
            Self::Budget(budget) => *budget,
            _ if self.is_on(generation) => Effort::High.budget_tokens(),
            _ => 0,
        };
        let most = generation.output_tokens_max.unwrap_or(u64::MAX);
        asked.unwrap_or_else(|| room.saturating_add(MAX_TOKENS).min(most))
    }
}

/// The budget, which must be less than the limit. `None` if the limit leaves no room to think.
fn budget_within(wanted: u64, max_tokens: Option<u64>, rules: &ReasoningRules) -> Option<u64> {
    let least = rules.budget.map_or(0, |range| range.min);
    let most = max_tokens.map_or(u64::MAX, |limit| limit.saturating_sub(1));
    (most >= least).then(|| wanted.min(most))
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

/// Writes the turns. Consecutive turns of one role become one message, because results of parallel
/// calls must share one.
fn write_turns(w: &mut RequestWriter<'_>, request: &Request<'_>, generation: &Generation) {
    let mut turns = request.spoken();
    let spoken = turns.len();
    let is_said = |turn: &Turn<'_>| {
        turn.parts
            .iter()
            .any(|part| says_something(part) && !is_mark(part))
    };
    turns.retain(|turn| turn.role == Role::User || is_said(turn));
    w.approximated_if(turns.len() < spoken, Feature::Blank);
    // What stands last would be continued.
    while !generation.prefill && turns.last().is_some_and(|turn| turn.begins_answer()) {
        w.report.unsupported(Feature::Prefill);
        turns.pop();
    }
    if spoken > 0 && turns.first().is_none_or(|turn| turn.role != Role::User) {
        // The first message must be the user's.
        w.report.approximated(Feature::FirstMessage);
        w.object(|w| {
            w.put("role", "user");
            w.put("content", EMPTY_MESSAGE);
        });
    }
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
                    // Without the turn, the assistant's before it would begin the answer.
                    w.put("content", EMPTY_MESSAGE);
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

fn write_sampling(
    w: &mut RequestWriter<'_>,
    asked: &Sampling,
    rules: SamplingRules,
    reasons: bool,
) {
    let taken = taken_sampling(asked, rules, reasons, w.report);
    w.put_some("temperature", taken.temperature);
    w.put_some("top_p", taken.top_p);
    w.put_some("top_k", taken.top_k);
    w.unsupported_if(asked.has_penalties(), Feature::Penalties);
    w.unsupported_if(asked.seed.is_some(), Feature::Seed);
}

/// What a model takes of the sampling parameters that Claude knows.
pub(super) fn taken_sampling(
    asked: &Sampling,
    rules: SamplingRules,
    reasons: bool,
    report: &mut LossReport,
) -> Sampling {
    let is_hot = asked.temperature.is_some_and(|asked| asked > 1.0);
    report.approximated_if(is_hot, Feature::Temperature);
    let temperature = asked.temperature.map(|asked| asked.clamp(0.0, 1.0));
    // Of the two, what has its default value gives way to the other.
    let says = |value: Option<f64>| value.is_some_and(|value| !is_default(value));
    let gives_way = !rules.together && says(asked.top_p) && !says(temperature);
    let is_taken = rules.temperature.holds(reasons) && !gives_way;
    let taken = report.sampling(temperature, is_taken, Feature::Temperature);
    let is_alone = rules.together || temperature.is_none() || gives_way;
    report.approximated_if(!is_alone && asked.top_p.is_some(), Feature::TopP);
    let top_p = asked.top_p.filter(|_| is_alone);
    Sampling {
        temperature: taken,
        top_p: report.sampling(top_p, rules.top_p.holds(reasons), Feature::TopP),
        top_k: report.supported(asked.top_k, rules.top_k.holds(reasons), Feature::TopK),
        ..Sampling::default()
    }
}

fn write_tools(
    w: &mut RequestWriter<'_>,
    request: &Request<'_>,
    structured: &StructuredOutput,
    can_force: bool,
) {
    if request.tools.is_empty() {
        return;
    }
    w.put_each(
        "tools",
        request.tools.iter().enumerate(),
        |w, (index, tool)| {
            w.object(|w| {
                w.put("name", &tool.name);
                w.put_some("description", tool.description.as_ref());
                let strict = structured.of_tool(index);
                w.put_raw("input_schema", strict.unwrap_or(&tool.schema));
                w.put_some("strict", strict.map(|_| true));
                w.put_cache_control(tool.cache_control);
            });
        },
    );
    let choice = request.tool_choice.as_ref();
    let is_forced = matches!(choice, Some(ToolChoice::Required | ToolChoice::Named(_)));
    let choice = choice.filter(|_| w.report.tool_choice(is_forced, can_force));
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

fn write_output(w: &mut RequestWriter<'_>, format: Option<&str>, thinking: &Thinking) {
    thinking.write(w);
    let effort = thinking.effort();
    if effort.is_none() && format.is_none() {
        return;
    }
    w.put_object("output_config", |w| {
        w.put_some("effort", effort.map(Effort::as_str));
        if let Some(schema) = format {
            w.key("format");
            w.typed("json_schema", |w| w.put_raw("schema", schema));
        }
    });
}
