//! The neutral model, into a chat request as a vendor wants it.

use crate::caps;
use crate::json::{Text, Writer};
use crate::neutral::{
    Feature, Format, JsonSchema, LossReport, MediaSource, Part, Reasoning, Request, Role, Tool,
    ToolCall, ToolChoice, Turn, fnv_1a, joined_text, opaque_user, put_cache_control, short_id,
    with_marks,
};
use crate::vendors::{
    ChatQuirks, Formats, Prefill, ReasoningControl, StreamUsage, ToolIds, nearest_effort,
};

pub(crate) fn write_request(
    request: &Request<'_>,
    model: &str,
    quirks: &ChatQuirks,
    report: &mut LossReport,
) -> String {
    Writer::document(2048, |w| {
        w.put("model", model);
        write_fields(w, request, model, quirks, report);
    })
}

fn write_fields(
    w: &mut Writer,
    request: &Request<'_>,
    model: &str,
    quirks: &ChatQuirks,
    report: &mut LossReport,
) {
    w.put_array("messages", |w| {
        write_turns(w, request, quirks, report);
    });
    if request.is_prefill && quirks.prefill == Prefill::None {
        report.unsupported(Feature::Prefill);
    }
    if request.stream {
        w.put("stream", true);
        if quirks.stream_usage == StreamUsage::OnRequest {
            w.put_object("stream_options", |w| w.put("include_usage", true));
        }
    }
    w.put_some(quirks.max_tokens, request.max_tokens);
    write_sampling(w, request, quirks, report);
    w.put_list("stop", &request.stop);
    write_tools(w, request, quirks, report);
    if let Some(format) = &request.format {
        write_format(w, format, quirks, report);
    }
    if let Some(reasoning) = &request.reasoning {
        write_reasoning(w, reasoning, quirks.reasoning_control(model), report);
    }
    match &request.user {
        Some(_) if quirks.refuses("user") => report.approximated(Feature::User),
        Some(user) => w.put("user", opaque_user(user, report)),
        None => {}
    }
    w.put_some("verbosity", request.verbosity.as_ref());
    for (key, raw) in &request.shared {
        w.put_raw(key, raw);
    }
    put_cache_control(w, request.cache_control);
}

fn write_sampling(
    w: &mut Writer,
    request: &Request<'_>,
    quirks: &ChatQuirks,
    report: &mut LossReport,
) {
    let sampling = &request.sampling;
    if let Some(temperature) = sampling.temperature {
        let most = quirks.temperature_max;
        if temperature > most {
            report.approximated(Feature::Temperature);
        }
        w.put("temperature", temperature.min(most));
    }
    w.put_some("top_p", sampling.top_p);
    match sampling.top_k {
        Some(top_k) if quirks.top_k => w.put("top_k", top_k),
        Some(_) => report.unsupported(Feature::TopK),
        None => {}
    }
    for (name, penalty) in [
        ("frequency_penalty", sampling.frequency_penalty),
        ("presence_penalty", sampling.presence_penalty),
    ] {
        match penalty {
            Some(_) if quirks.refuses(name) => report.unsupported(Feature::Penalties),
            Some(penalty) => w.put(name, penalty),
            None => {}
        }
    }
    match sampling.seed {
        Some(_) if quirks.refuses("seed") => report.unsupported(Feature::Seed),
        Some(seed) => w.put(quirks.name_of("seed"), seed),
        None => {}
    }
}

fn write_tools(
    w: &mut Writer,
    request: &Request<'_>,
    quirks: &ChatQuirks,
    report: &mut LossReport,
) {
    if request.tools.is_empty() {
        return;
    }
    if !quirks.strict_tools && request.tools.iter().any(|tool| tool.strict == Some(true)) {
        report.approximated(Feature::StrictTools);
    }
    w.put_array("tools", |w| {
        let tools = request.tools.iter();
        tools.for_each(|tool| write_tool(w, tool, quirks));
    });
    if let Some(choice) = &request.tool_choice {
        write_tool_choice(w, choice, quirks, report);
    }
    match request.parallel_tools {
        Some(parallel) if !quirks.refuses("parallel_tool_calls") => {
            w.put("parallel_tool_calls", parallel);
        }
        Some(false) => report.unsupported(Feature::ParallelTools),
        _ => {}
    }
}

fn write_tool_choice(
    w: &mut Writer,
    choice: &ToolChoice<'_>,
    quirks: &ChatQuirks,
    report: &mut LossReport,
) {
    match choice {
        ToolChoice::Auto => w.put("tool_choice", "auto"),
        ToolChoice::None => w.put("tool_choice", "none"),
        ToolChoice::Required if quirks.tool_required == "auto" => {
            report.unsupported(Feature::ToolChoice);
        }
        ToolChoice::Required => w.put("tool_choice", quirks.tool_required),
        ToolChoice::Named(name) => w.put_object("tool_choice", |w| {
            w.put("type", "function");
            w.put_object("function", |w| w.put("name", name));
        }),
    }
}

fn write_tool(w: &mut Writer, tool: &Tool<'_>, quirks: &ChatQuirks) {
    w.object(|w| {
        w.put("type", "function");
        w.put_object("function", |w| {
            w.put("name", &tool.name);
            w.put_some("description", tool.description.as_ref());
            w.put_raw("parameters", tool.schema);
            w.put_some("strict", tool.strict.filter(|_| quirks.strict_tools));
        });
        put_cache_control(w, tool.cache_control);
    });
}

fn write_format(w: &mut Writer, format: &Format<'_>, quirks: &ChatQuirks, report: &mut LossReport) {
    match (format, quirks.formats) {
        (Format::JsonObject, _) => {
            w.put_object("response_format", |w| w.put("type", "json_object"));
        }
        (Format::JsonSchema(_), Formats::ObjectOnly) => report.unsupported(Feature::Format),
        (Format::JsonSchema(schema), Formats::Schema) => w.put_object("response_format", |w| {
            w.put("type", "json_schema");
            w.put_object("json_schema", |w| write_schema(w, schema));
        }),
    }
}

/// Writes the fields of OpenAI's `{name, description, schema, strict}`.
pub(crate) fn write_schema(w: &mut Writer, schema: &JsonSchema<'_>) {
    w.put(
        "name",
        schema.name.as_ref().unwrap_or(&Text::escaped("answer")),
    );
    w.put_some("description", schema.description.as_ref());
    w.put_raw("schema", schema.schema);
    w.put_some("strict", schema.strict);
}

pub(super) fn write_reasoning(
    w: &mut Writer,
    reasoning: &Reasoning,
    control: ReasoningControl,
    report: &mut LossReport,
) {
    let Some(is_on) = reasoning.is_on() else {
        return;
    };
    let effort = reasoning.as_effort();
    match control {
        ReasoningControl::Effort(allowed) => match effort.map(|e| nearest_effort(e, allowed)) {
            Some(Some(effort)) => w.put("reasoning_effort", effort.as_str()),
            Some(None) => report.unsupported(Feature::Reasoning),
            // Reasoning without an amount: the vendor's default.
            None => {}
        },
        ReasoningControl::Thinking(allowed) => {
            w.put_object("thinking", |w| {
                w.put("type", if is_on { "enabled" } else { "disabled" });
            });
            if let (true, Some(effort)) = (is_on, effort.and_then(|e| nearest_effort(e, allowed))) {
                w.put("reasoning_effort", effort.as_str());
            }
        }
        ReasoningControl::EnableThinking => {
            w.put("enable_thinking", is_on);
            if let (true, Some(tokens)) = (is_on, reasoning.as_budget()) {
                w.put("thinking_budget", tokens);
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
        ReasoningControl::None if is_on => report.unsupported(Feature::Reasoning),
        ReasoningControl::None => {}
    }
}

/// Writes each turn as messages: one for each tool result, one for the rest. Consecutive system
/// prompts become one, since some models accept only one.
fn write_turns(
    w: &mut Writer,
    request: &Request<'_>,
    quirks: &ChatQuirks,
    report: &mut LossReport,
) {
    let together = |a: &Turn<'_>, b: &Turn<'_>| a.role == Role::System && b.role == Role::System;
    let mut left = request.turns.len();
    for group in request.turns.chunk_by(together) {
        left -= group.len();
        let Some(turn) = group.first() else { continue };
        match turn.role {
            Role::Assistant => w.object(|w| {
                write_assistant(w, &turn.parts, quirks, report);
                let is_prefill = request.is_prefill && left == 0;
                if let (true, Prefill::Marked(key)) = (is_prefill, quirks.prefill) {
                    w.put(key, true);
                }
            }),
            Role::User => write_user(w, &turn.parts, quirks, report),
            Role::System => w.object(|w| {
                w.put("role", "system");
                put_text(w, group.iter().flat_map(|turn| &turn.parts));
            }),
        }
    }
}

/// The text of a message: one string, or parts if something in it is marked.
fn put_text<'p, 'a: 'p>(w: &mut Writer, parts: impl Iterator<Item = &'p Part<'a>> + Clone) {
    if !parts.clone().any(|part| matches!(part, Part::CacheMark(_))) {
        return w.put("content", joined_text(parts));
    }
    let is_text =
        |part: &&Part<'_>| matches!(part, Part::Text(_) | Part::Refusal(_) | Part::CacheMark(_));
    w.put_array("content", |w| {
        for (part, mark) in with_marks(parts.filter(is_text)) {
            if let Part::Text(text) | Part::Refusal(text) = part {
                write_text_part(w, text, mark);
            }
        }
    });
}

fn write_user(w: &mut Writer, parts: &[Part<'_>], quirks: &ChatQuirks, report: &mut LossReport) {
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
        if *is_error {
            report.approximated(Feature::ToolError);
        }
        w.object(|w| {
            w.put("role", "tool");
            w.put("tool_call_id", tool_id(call_id, quirks.tool_ids));
            let text = joined_text(content);
            match mark {
                None => w.put("content", text),
                mark => w.put_array("content", |w| write_text_part(w, &text, mark)),
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
        if rest.iter().all(is_plain_text) {
            w.put("content", joined_text(rest.iter().map(|(part, _)| *part)));
        } else {
            w.put_array("content", |w| {
                rest.iter()
                    .for_each(|(part, mark)| write_part(w, part, *mark, report));
            });
        }
    });
}

fn is_plain_text((part, mark): &(&Part<'_>, Option<&str>)) -> bool {
    matches!(part, Part::Text(_)) && mark.is_none()
}

fn write_text_part(w: &mut Writer, text: &Text<'_>, mark: Option<&str>) {
    w.object(|w| {
        w.put("type", "text");
        w.put("text", text);
        put_cache_control(w, mark);
    });
}

fn write_part(w: &mut Writer, part: &Part<'_>, mark: Option<&str>, report: &mut LossReport) {
    match part {
        Part::Text(text) | Part::Refusal(text) => write_text_part(w, text, mark),
        Part::Image { source, detail } => w.object(|w| {
            w.put("type", "image_url");
            w.put_object("image_url", |w| {
                w.put("url", source.to_url());
                w.put_some("detail", detail.as_ref());
            });
            put_cache_control(w, mark);
        }),
        Part::Audio { data, format } => w.object(|w| {
            w.put("type", "input_audio");
            w.put_object("input_audio", |w| {
                w.put("data", data);
                w.put("format", format);
            });
            put_cache_control(w, mark);
        }),
        Part::File {
            source: MediaSource::Url(_),
            ..
        } => report.unsupported(Feature::FileUrls),
        Part::File { source, name } => w.object(|w| {
            w.put("type", "file");
            w.put_object("file", |w| {
                let name = name.as_ref();
                w.put("filename", name.unwrap_or(&Text::escaped("document.pdf")));
                w.put("file_data", source.to_url());
            });
            put_cache_control(w, mark);
        }),
        Part::Reasoning { .. }
        | Part::ToolCall(_)
        | Part::ToolResult { .. }
        | Part::CacheMark(_) => {}
    }
}

/// Writes the fields of an assistant's message.
fn write_assistant(
    w: &mut Writer,
    parts: &[Part<'_>],
    quirks: &ChatQuirks,
    report: &mut LossReport,
) {
    let marks_call =
        |(part, mark): &(&Part<'_>, Option<&str>)| as_call(part).is_some() && mark.is_some();
    if with_marks(parts).iter().any(marks_call) {
        report.ignored("messages[].tool_calls[].cache_control");
    }
    w.put("role", "assistant");
    let text = joined_text(parts);
    let calls: Vec<&ToolCall<'_>> = parts.iter().filter_map(as_call).collect();
    if text.is_empty() && !calls.is_empty() {
        w.put_null("content");
    } else {
        put_text(w, parts.iter());
    }
    if let (Some(field), Some(reasoning)) = (quirks.reasoning_back, reasoning_text(parts)) {
        w.put(field, &reasoning);
    }
    if !calls.is_empty() {
        w.put_array("tool_calls", |w| {
            let calls = calls.iter();
            calls.for_each(|call| write_call(w, call, quirks.tool_ids));
        });
    }
}

fn as_call<'p, 'a>(part: &'p Part<'a>) -> Option<&'p ToolCall<'a>> {
    match part {
        Part::ToolCall(call) => Some(call),
        _ => None,
    }
}

fn write_call(w: &mut Writer, call: &ToolCall<'_>, ids: ToolIds) {
    w.object(|w| {
        w.put("id", tool_id(&call.id, ids));
        w.put("type", "function");
        w.put_object("function", |w| {
            w.put("name", &call.name);
            w.put("arguments", &*call.arguments);
        });
        if let Some(signature) = &call.signature {
            w.put_object("extra_content", |w| {
                w.put_object("google", |w| w.put("thought_signature", &signature.value));
            });
        }
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
