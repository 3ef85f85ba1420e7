//! The neutral model, into a chat request as a vendor wants it.

use super::Nesting;
use super::reasoning_details::write_details;
use super::write_answer::put_google_signature;
use crate::caps;
use crate::generations::{
    Generation, ReasoningControl, ReasoningReturn, ReasoningRules, SamplingRules,
};
use crate::json::Text;
use crate::neutral::{
    Effort, Feature, Format, LossReport, MediaSource, Part, Reasoning, Request, RequestWriter,
    Role, Tool, ToolCall, ToolChoice, Turn, fnv_1a, joined_text, put_user, short_id, with_marks,
};
use crate::vendors::{ChatQuirks, Formats, Prefill, StreamUsage, ToolIds};

pub(crate) fn write_request(
    request: &Request<'_>,
    model: &str,
    quirks: &ChatQuirks,
    generation: &Generation,
    report: &mut LossReport,
) -> String {
    let reasoning = reasoning_beside_tools(request, generation, report);
    let asked = generation.reasoning.fit(reasoning.as_ref());
    let reasons = generation.reasons(&asked);
    RequestWriter::reporting(2048, report).filled(|w| {
        w.put("model", model);
        w.put_array("messages", |w| {
            let wants_text = reasons && generation.reasoning.back == ReasoningReturn::Text;
            write_turns(w, request, quirks, wants_text);
        });
        let is_lost = request.is_prefill && quirks.prefill == Prefill::None;
        w.unsupported_if(is_lost, Feature::Prefill);
        if request.stream {
            w.put("stream", true);
            if quirks.stream_usage == StreamUsage::OnRequest {
                w.put_object("stream_options", |w| w.put("include_usage", true));
            }
        }
        let limit = w.token_limit(request.max_tokens, 0, generation.output_tokens_max);
        w.put_some(quirks.max_tokens, limit);
        write_sampling(w, request, quirks, generation.sampling, reasons);
        w.put_stop("stop", &request.stop, generation.stop_max);
        if generation.chat_tools.holds(reasons) {
            write_tools(w, request, quirks, generation.forced_tools.holds(reasons));
        }
        write_response_format(w, request, quirks, generation);
        if let Some(reasoning) = &reasoning {
            write_reasoning(w, reasoning, quirks, &generation.reasoning);
        }
        match &request.user {
            Some(_) if quirks.refuses("user") => w.report.approximated(Feature::User),
            Some(user) => put_user(w, user),
            None => {}
        }
        let verbosity = w.verbosity(request.verbosity.as_ref(), generation.verbosity);
        w.put_some("verbosity", verbosity);
        for (key, raw) in &request.shared {
            w.put_raw(key, raw);
        }
        w.put_cache_control(request.cache_control);
    })
}

/// The client's wishes. Where chat takes no tools beside reasoning and the vendor has no other API,
/// reasoning is switched off, or else the tools are left out.
fn reasoning_beside_tools(
    request: &Request<'_>,
    generation: &Generation,
    report: &mut LossReport,
) -> Option<Reasoning> {
    let asked = generation.reasoning.fit(request.reasoning.as_ref());
    let reasons = generation.reasons(&asked);
    if request.tools.is_empty() || generation.chat_tools.holds(reasons) {
        return request.reasoning;
    }
    if !generation.reasoning.efforts.contains(Effort::None) {
        report.unsupported_field("tools");
        return request.reasoning;
    }
    if asked.is_on.is_some() {
        report.unsupported(Feature::Reasoning);
    } else {
        report.approximated(Feature::Reasoning);
    }
    Some(Reasoning {
        enabled: Some(false),
        ..Reasoning::default()
    })
}

fn write_sampling(
    w: &mut RequestWriter<'_>,
    request: &Request<'_>,
    quirks: &ChatQuirks,
    rules: SamplingRules,
    reasons: bool,
) {
    let (sampling, hottest) = (&request.sampling, quirks.temperature_max);
    let is_hotter = sampling.temperature.is_some_and(|asked| asked > hottest);
    w.approximated_if(is_hotter, Feature::Temperature);
    let temperature = sampling.temperature.map(|asked| asked.min(hottest));
    let is_taken = rules.temperature.holds(reasons);
    w.put_sampling("temperature", temperature, is_taken, Feature::Temperature);
    w.put_sampling(
        "top_p",
        sampling.top_p,
        rules.top_p.holds(reasons),
        Feature::TopP,
    );
    let has_top_k = quirks.top_k && rules.top_k.holds(reasons);
    w.put_supported("top_k", sampling.top_k, has_top_k, Feature::TopK);
    for (name, penalty) in [
        ("frequency_penalty", sampling.frequency_penalty),
        ("presence_penalty", sampling.presence_penalty),
    ] {
        let is_taken = rules.penalties.holds(reasons) && !quirks.refuses(name);
        w.put_supported(name, penalty, is_taken, Feature::Penalties);
    }
    let has_seed = !quirks.refuses("seed");
    w.put_supported(
        quirks.name_of("seed"),
        sampling.seed,
        has_seed,
        Feature::Seed,
    );
}

fn write_tools(
    w: &mut RequestWriter<'_>,
    request: &Request<'_>,
    quirks: &ChatQuirks,
    can_force: bool,
) {
    if request.tools.is_empty() {
        return;
    }
    let is_laxer = !quirks.strict_tools && request.has_strict_tools();
    w.approximated_if(is_laxer, Feature::StrictTools);
    w.put_each("tools", &request.tools, |w, tool| {
        w.object(|w| {
            let strict = tool.strict.filter(|_| quirks.strict_tools);
            write_function(w, tool, strict, Nesting::Wrapped);
            w.put_cache_control(tool.cache_control);
        });
    });
    write_tool_choice(
        w,
        request,
        quirks.tool_required,
        can_force,
        Nesting::Wrapped,
    );
    match request.parallel_tools {
        Some(parallel) if !quirks.refuses("parallel_tool_calls") => {
            w.put("parallel_tool_calls", parallel);
        }
        Some(false) => w.report.unsupported(Feature::ParallelTools),
        _ => {}
    }
}

/// Writes the choice of tools, with the vendor's word for any tool.
pub(crate) fn write_tool_choice(
    w: &mut RequestWriter<'_>,
    request: &Request<'_>,
    required: &str,
    can_force: bool,
    nesting: Nesting,
) {
    let word = match &request.tool_choice {
        None => return,
        Some(ToolChoice::Auto) => "auto",
        Some(ToolChoice::None) => "none",
        Some(ToolChoice::Required) if required == "auto" => {
            w.report.unsupported(Feature::ToolChoice);
            "auto"
        }
        Some(ToolChoice::Required | ToolChoice::Named(_))
            if !w.report.tool_choice(true, can_force) =>
        {
            "auto"
        }
        Some(ToolChoice::Required) => required,
        Some(ToolChoice::Named(name)) => {
            // Only the responses API is sent tools of free text.
            let is_custom = |tool: &Tool<'_>| tool.name == *name && tool.free_text.is_some();
            let kind = match nesting {
                Nesting::Flat if request.tools.iter().any(is_custom) => "custom",
                _ => "function",
            };
            return w.put_object("tool_choice", |w| {
                nesting.put(w, kind, |w| w.put("name", name));
            });
        }
    };
    w.put("tool_choice", word);
}

pub(crate) fn write_function(
    w: &mut RequestWriter<'_>,
    tool: &Tool<'_>,
    strict: Option<bool>,
    nesting: Nesting,
) {
    nesting.put(w, "function", |w| {
        w.put("name", &tool.name);
        w.put_some("description", tool.description.as_ref());
        w.put_raw("parameters", &tool.schema);
        w.put_some("strict", strict);
    });
}

fn write_response_format(
    w: &mut RequestWriter<'_>,
    request: &Request<'_>,
    quirks: &ChatQuirks,
    generation: &Generation,
) {
    let has_schemas = quirks.formats == Formats::Schema && generation.schemas;
    match &request.format {
        None => {}
        Some(Format::JsonSchema(_)) if !has_schemas => {
            w.report.unsupported(Feature::Format);
        }
        Some(format) => w.put_object("response_format", |w| {
            write_format(w, format, Nesting::Wrapped);
        }),
    }
}

pub(crate) fn write_format(w: &mut RequestWriter<'_>, format: &Format<'_>, nesting: Nesting) {
    let schema = match format {
        Format::JsonObject => return w.put("type", "json_object"),
        Format::JsonSchema(schema) => schema,
    };
    nesting.put(w, "json_schema", |w| {
        let name = schema.name.as_ref();
        w.put("name", name.unwrap_or(&Text::escaped("answer")));
        w.put_some("description", schema.description.as_ref());
        w.put_raw("schema", schema.schema);
        w.put_some("strict", schema.strict);
    });
}

pub(super) fn write_reasoning(
    w: &mut RequestWriter<'_>,
    reasoning: &Reasoning,
    quirks: &ChatQuirks,
    rules: &ReasoningRules,
) {
    let Some(is_wanted) = reasoning.is_on() else {
        return;
    };
    let asked = rules.fit(Some(reasoning));
    let is_on = asked.is_on == Some(true);
    let effort = asked.effort.map(|effort| effort.min(quirks.effort_max));
    w.approximated_if(asked.is_bent || effort != asked.effort, Feature::Reasoning);
    match rules.control {
        ReasoningControl::Effort => w.put_some("reasoning_effort", effort.map(Effort::as_str)),
        ReasoningControl::Thinking => {
            w.put_object("thinking", |w| {
                w.put("type", if is_on { "enabled" } else { "disabled" });
            });
            let effort = effort.filter(|effort| *effort != Effort::None);
            w.put_some("reasoning_effort", effort.map(Effort::as_str));
        }
        ReasoningControl::EnableThinking => {
            w.put("enable_thinking", is_on);
            if is_on {
                w.put_some("thinking_budget", asked.budget_tokens);
            }
        }
        ReasoningControl::OpenRouter => w.put_object("reasoning", |w| {
            match (reasoning.effort, reasoning.budget_tokens) {
                (_, Some(tokens)) if is_on => w.put("max_tokens", tokens),
                (Some(effort), _) if is_on => w.put("effort", effort.as_str()),
                _ => w.put("enabled", is_on),
            }
        }),
        ReasoningControl::ChatTemplate => w.put_object("chat_template_kwargs", |w| {
            w.put("enable_thinking", is_on);
        }),
        // It reasons anyway, as much as it likes.
        _ if rules.unasked => {}
        _ => w.unsupported_if(is_wanted, Feature::Reasoning),
    }
}

/// Writes each turn as messages: one for each tool result, one for the rest. Consecutive system
/// prompts become one, since some models accept only one.
fn write_turns(
    w: &mut RequestWriter<'_>,
    request: &Request<'_>,
    quirks: &ChatQuirks,
    wants_text: bool,
) {
    let together = |a: &Turn<'_>, b: &Turn<'_>| a.role == Role::System && b.role == Role::System;
    let mut left = request.turns.len();
    for group in request.turns.chunk_by(together) {
        left -= group.len();
        let Some(turn) = group.first() else { continue };
        match turn.role {
            Role::Assistant => w.object(|w| {
                write_assistant(w, &turn.parts, quirks, wants_text);
                let is_last = left == 0;
                match quirks.prefill {
                    Prefill::Marked(key) if is_last && request.is_prefill => w.put(key, true),
                    Prefill::Required(key) if is_last && turn.begins_answer() => {
                        w.approximated_if(!request.is_prefill, Feature::Prefill);
                        w.put(key, true);
                    }
                    _ => {}
                }
            }),
            Role::User => write_user(w, &turn.parts, quirks),
            Role::System => w.object(|w| {
                w.put("role", "system");
                w.put_text("content", group.iter().flat_map(|turn| &turn.parts));
            }),
        }
    }
}

fn write_user(w: &mut RequestWriter<'_>, parts: &[Part<'_>], quirks: &ChatQuirks) {
    let mut rest: Vec<(&Part<'_>, Option<&str>)> = Vec::new();
    for (part, mark) in with_marks(parts) {
        let Part::ToolResult {
            call_id,
            content,
            is_error,
        } = part
        else {
            rest.push((part, mark));
            continue;
        };
        w.approximated_if(*is_error, Feature::ToolError);
        w.object(|w| {
            w.put("role", "tool");
            w.put("tool_call_id", tool_id(call_id, quirks.tool_ids));
            let text = joined_text(content);
            match mark {
                None => w.put("content", text),
                mark => w.put_array("content", |w| w.text_block(&text, mark)),
            }
        });
        // A tool message is text; images and files of a result move to a user message.
        let shown = content.iter().filter(|part| !matches!(part, Part::Text(_)));
        rest.extend(shown.map(|part| (part, None)));
    }
    if rest.is_empty() {
        return;
    }
    w.object(|w| {
        w.put("role", "user");
        let is_plain = |(part, mark): &(&Part<'_>, Option<&str>)| {
            matches!(part, Part::Text(_)) && mark.is_none()
        };
        if rest.iter().all(is_plain) {
            w.put("content", joined_text(rest.iter().map(|(part, _)| *part)));
        } else {
            w.put_each("content", rest, |w, (part, mark)| write_part(w, part, mark));
        }
    });
}

fn write_part(w: &mut RequestWriter<'_>, part: &Part<'_>, mark: Option<&str>) {
    match part {
        Part::Text(text) | Part::Refusal(text) => w.text_block(text, mark),
        Part::Image { source, detail } => write_media(w, "image_url", mark, |w| {
            w.put("url", source.to_url());
            w.put_some("detail", detail.as_ref());
        }),
        Part::Audio { data, format } => write_media(w, "input_audio", mark, |w| {
            w.put("data", data);
            w.put("format", format);
        }),
        Part::File {
            source: MediaSource::Url(_),
            ..
        } => w.report.unsupported(Feature::FileUrls),
        Part::File { source, name } => write_media(w, "file", mark, |w| {
            let name = name.as_ref();
            w.put("filename", name.unwrap_or(&Text::escaped("document.pdf")));
            w.put("file_data", source.to_url());
        }),
        Part::Reasoning { .. }
        | Part::ToolCall(_)
        | Part::ToolResult { .. }
        | Part::CacheMark(_) => {}
    }
}

fn write_media<'r>(
    w: &mut RequestWriter<'r>,
    kind: &str,
    mark: Option<&str>,
    fill: impl FnOnce(&mut RequestWriter<'r>),
) {
    w.object(|w| {
        Nesting::Wrapped.put(w, kind, fill);
        w.put_cache_control(mark);
    });
}

/// Writes the fields of an assistant's message.
fn write_assistant(
    w: &mut RequestWriter<'_>,
    parts: &[Part<'_>],
    quirks: &ChatQuirks,
    wants_text: bool,
) {
    let mut marked = with_marks(parts).into_iter();
    if marked.any(|(part, mark)| part.as_call().is_some() && mark.is_some()) {
        w.report.ignored("messages[].tool_calls[].cache_control");
    }
    w.put("role", "assistant");
    let calls: Vec<&ToolCall<'_>> = parts.iter().filter_map(Part::as_call).collect();
    if joined_text(parts).is_empty() && !calls.is_empty() {
        w.put_null("content");
    } else {
        w.put_text("content", parts.iter());
    }
    let has_details = quirks.reasoning_details && write_details(w, parts);
    if let Some(field) = quirks.reasoning_back.filter(|_| !has_details) {
        let text = reasoning_text(parts);
        // A call whose reasoning is lost, or another model's, has an empty one.
        let empty = (wants_text && !calls.is_empty()).then_some(Text::EMPTY);
        w.put_some(field, text.or(empty));
    }
    if !calls.is_empty() {
        w.put_each("tool_calls", calls, |w, call| write_call(w, call, quirks));
    }
}

fn write_call(w: &mut RequestWriter<'_>, call: &ToolCall<'_>, quirks: &ChatQuirks) {
    w.object(|w| {
        w.put("id", tool_id(&call.id, quirks.tool_ids));
        w.put("type", "function");
        w.put_object("function", |w| {
            w.put("name", &call.name);
            w.put("arguments", &*call.arguments);
        });
        let signature = call.signature.as_ref();
        put_google_signature(w, signature.filter(|_| quirks.unknown_in_messages));
    });
}

fn reasoning_text<'a>(parts: &[Part<'a>]) -> Option<Text<'a>> {
    let texts = parts.iter().filter_map(|part| match part {
        Part::Reasoning { text, .. } if !text.is_empty() => Some(text.clone()),
        _ => None,
    });
    texts.reduce(|mut joined, text| {
        joined.push(&text);
        joined
    })
}

/// The id of a tool call as the vendor accepts it. The same id always becomes the same.
pub(super) fn tool_id<'a>(id: &'a Text<'_>, ids: ToolIds) -> Text<'a> {
    match ids {
        ToolIds::Any => id.borrowed(),
        ToolIds::Short => short_id(id, caps::CHAT_CALL_ID_CHARS_MAX),
        ToolIds::NineAlphanumeric => Text::owned(nine_alphanumeric(id.as_escaped())),
    }
}

fn nine_alphanumeric(id: &str) -> String {
    if id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return id.to_owned();
    }
    let mut hash = fnv_1a(id);
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut text = String::with_capacity(9);
    for _ in 0..9 {
        text.push(char::from(DIGITS[usize::try_from(hash % 62).unwrap_or(0)]));
        hash /= 62;
    }
    text
}
