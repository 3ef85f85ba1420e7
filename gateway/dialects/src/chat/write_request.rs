//! The neutral model, into a chat request as a vendor wants it.

use crate::json::{Text, Writer};
use crate::neutral::{
    Feature, Format, Part, Proof, Reasoning, Report, Request, Role, Source, Tool, ToolCall,
    ToolChoice, Turn, fnv_1a, opaque_user, short_id, with_marks,
};
use crate::prepare::Refusal;
use crate::vendors::{
    CALL_ID_LENGTH_MAX, ChatQuirks, Formats, Prefill, ReasoningControl, StreamUsage, ToolIds,
    nearest_effort,
};

pub(crate) fn write_request(
    request: &Request<'_>,
    model: &str,
    quirks: &ChatQuirks,
    report: &mut Report,
) -> Result<String, Refusal> {
    let mut w = Writer::with_capacity(2048);
    let mut written = Ok(());
    w.object(|w| {
        w.put_str("model", model);
        written = write_fields(w, request, model, quirks, report);
    });
    written.map(|()| w.into_string())
}

fn write_fields(
    w: &mut Writer,
    request: &Request<'_>,
    model: &str,
    quirks: &ChatQuirks,
    report: &mut Report,
) -> Result<(), Refusal> {
    let mut written = Ok(());
    w.put_array("messages", |w| {
        written = write_turns(w, request, quirks, report);
    });
    written?;
    if request.is_begun && quirks.prefill == Prefill::None {
        report.lacks(Feature::Prefill)?;
    }
    if request.stream {
        w.put_bool("stream", true);
        if quirks.stream_usage == StreamUsage::OnRequest {
            w.put_object("stream_options", |w| w.put_bool("include_usage", true));
        }
    }
    if let Some(tokens) = request.max_tokens {
        w.put_u64(quirks.max_tokens, tokens);
    }
    write_sampling(w, request, quirks, report)?;
    if !request.stop.is_empty() {
        w.put_array("stop", |w| {
            request.stop.iter().for_each(|stop| w.text(stop))
        });
    }
    write_tools(w, request, quirks, report)?;
    if let Some(format) = &request.format {
        write_format(w, format, quirks, report)?;
    }
    if let Some(reasoning) = &request.reasoning {
        write_reasoning(w, reasoning, quirks.reasoning_control(model), report)?;
    }
    match &request.user {
        Some(_) if quirks.refuses("user") => report.bends(Feature::User),
        Some(user) => w.put_text("user", &opaque_user(user, report)),
        None => {}
    }
    if let Some(verbosity) = &request.verbosity {
        w.put_text("verbosity", verbosity);
    }
    for (key, raw) in &request.shared {
        w.put_raw(key, raw);
    }
    put_mark(w, request.cache_control);
    Ok(())
}

fn write_sampling(
    w: &mut Writer,
    request: &Request<'_>,
    quirks: &ChatQuirks,
    report: &mut Report,
) -> Result<(), Refusal> {
    let sampling = &request.sampling;
    if let Some(temperature) = sampling.temperature {
        let most = quirks.temperature_max;
        if temperature > most {
            report.bends(Feature::Temperature);
        }
        w.put_f64("temperature", temperature.min(most));
    }
    if let Some(top_p) = sampling.top_p {
        w.put_f64("top_p", top_p);
    }
    match sampling.top_k {
        Some(top_k) if quirks.top_k => w.put_u64("top_k", top_k),
        Some(_) => report.lacks(Feature::TopK)?,
        None => {}
    }
    for (name, penalty) in [
        ("frequency_penalty", sampling.frequency_penalty),
        ("presence_penalty", sampling.presence_penalty),
    ] {
        match penalty {
            Some(_) if quirks.refuses(name) => report.lacks(Feature::Penalties)?,
            Some(penalty) => w.put_f64(name, penalty),
            None => {}
        }
    }
    match sampling.seed {
        Some(_) if quirks.refuses("seed") => report.lacks(Feature::Seed)?,
        Some(seed) => w.put_i64(quirks.name_of("seed"), seed),
        None => {}
    }
    Ok(())
}

fn write_tools(
    w: &mut Writer,
    request: &Request<'_>,
    quirks: &ChatQuirks,
    report: &mut Report,
) -> Result<(), Refusal> {
    if request.tools.is_empty() {
        return Ok(());
    }
    if !quirks.strict_tools && request.tools.iter().any(|tool| tool.strict == Some(true)) {
        report.bends(Feature::StrictTools);
    }
    w.put_array("tools", |w| {
        request
            .tools
            .iter()
            .for_each(|tool| write_tool(w, tool, quirks))
    });
    if let Some(choice) = &request.tool_choice {
        write_tool_choice(w, choice, quirks, report)?;
    }
    match request.parallel_tools {
        Some(parallel) if !quirks.refuses("parallel_tool_calls") => {
            w.put_bool("parallel_tool_calls", parallel);
        }
        Some(false) => report.lacks(Feature::ParallelTools)?,
        _ => {}
    }
    Ok(())
}

fn write_tool_choice(
    w: &mut Writer,
    choice: &ToolChoice<'_>,
    quirks: &ChatQuirks,
    report: &mut Report,
) -> Result<(), Refusal> {
    match choice {
        ToolChoice::Auto => w.put_str("tool_choice", "auto"),
        ToolChoice::None => w.put_str("tool_choice", "none"),
        ToolChoice::Required if quirks.tool_required == "auto" => {
            report.lacks(Feature::ToolChoice)?;
        }
        ToolChoice::Required => w.put_str("tool_choice", quirks.tool_required),
        ToolChoice::Named(name) => w.put_object("tool_choice", |w| {
            w.put_str("type", "function");
            w.put_object("function", |w| w.put_text("name", name));
        }),
    }
    Ok(())
}

fn write_tool(w: &mut Writer, tool: &Tool<'_>, quirks: &ChatQuirks) {
    w.object(|w| {
        w.put_str("type", "function");
        w.put_object("function", |w| {
            w.put_text("name", &tool.name);
            if let Some(description) = &tool.description {
                w.put_text("description", description);
            }
            w.put_raw("parameters", &tool.schema);
            if let (Some(strict), true) = (tool.strict, quirks.strict_tools) {
                w.put_bool("strict", strict);
            }
        });
        put_mark(w, tool.cache_control);
    });
}

fn write_format(
    w: &mut Writer,
    format: &Format<'_>,
    quirks: &ChatQuirks,
    report: &mut Report,
) -> Result<(), Refusal> {
    match (format, quirks.formats) {
        (Format::JsonObject, _) => {
            w.put_object("response_format", |w| w.put_str("type", "json_object"));
        }
        (Format::JsonSchema { .. }, Formats::ObjectOnly) => report.lacks(Feature::Format)?,
        (
            Format::JsonSchema {
                name,
                description,
                schema,
                strict,
            },
            Formats::Schema,
        ) => {
            w.put_object("response_format", |w| {
                w.put_str("type", "json_schema");
                w.put_object("json_schema", |w| {
                    w.put_text("name", name.as_ref().unwrap_or(&Text::escaped("answer")));
                    if let Some(description) = description {
                        w.put_text("description", description);
                    }
                    w.put_raw("schema", schema);
                    if let Some(strict) = strict {
                        w.put_bool("strict", *strict);
                    }
                });
            });
        }
    }
    Ok(())
}

pub(super) fn write_reasoning(
    w: &mut Writer,
    reasoning: &Reasoning,
    control: ReasoningControl,
    report: &mut Report,
) -> Result<(), Refusal> {
    let Some(is_on) = reasoning.is_on() else {
        return Ok(());
    };
    let effort = reasoning.as_effort();
    match control {
        ReasoningControl::Effort(allowed) => match effort.map(|e| nearest_effort(e, allowed)) {
            Some(Some(effort)) => w.put_str("reasoning_effort", effort.as_str()),
            Some(None) => report.lacks(Feature::Reasoning)?,
            // It is to think, but nobody says how much: as much as it does by itself.
            None => {}
        },
        ReasoningControl::Thinking(allowed) => {
            w.put_object("thinking", |w| {
                w.put_str("type", if is_on { "enabled" } else { "disabled" });
            });
            if let (true, Some(effort)) = (is_on, effort.and_then(|e| nearest_effort(e, allowed))) {
                w.put_str("reasoning_effort", effort.as_str());
            }
        }
        ReasoningControl::EnableThinking => {
            w.put_bool("enable_thinking", is_on);
            if let (true, Some(tokens)) = (is_on, reasoning.as_budget()) {
                w.put_u64("thinking_budget", tokens);
            }
        }
        ReasoningControl::OpenRouter => w.put_object("reasoning", |w| {
            match (reasoning.effort, reasoning.budget_tokens) {
                (_, Some(tokens)) if is_on => w.put_u64("max_tokens", tokens),
                (Some(effort), _) if is_on => w.put_str("effort", effort.as_str()),
                _ => w.put_bool("enabled", is_on),
            }
        }),
        ReasoningControl::ChatTemplate => w.put_object("chat_template_kwargs", |w| {
            w.put_bool("enable_thinking", is_on);
        }),
        ReasoningControl::None if is_on => report.lacks(Feature::Reasoning)?,
        ReasoningControl::None => {}
    }
    Ok(())
}

/// Writes each turn as the messages that it takes: one for each tool result, one for the rest.
/// System prompts that follow each other become one, since some models want just one.
fn write_turns(
    w: &mut Writer,
    request: &Request<'_>,
    quirks: &ChatQuirks,
    report: &mut Report,
) -> Result<(), Refusal> {
    let together = |a: &Turn<'_>, b: &Turn<'_>| a.role == Role::System && b.role == Role::System;
    let mut left = request.turns.len();
    for group in request.turns.chunk_by(together) {
        left -= group.len();
        match group {
            [
                Turn {
                    role: Role::Assistant,
                    parts,
                },
            ] => w.object(|w| {
                write_assistant(w, parts, quirks, report);
                if let (true, 0, Prefill::Marked(key)) = (request.is_begun, left, quirks.prefill) {
                    w.put_bool(key, true);
                }
            }),
            [
                Turn {
                    role: Role::User,
                    parts,
                },
            ] => write_user(w, parts, quirks, report)?,
            systems => w.object(|w| {
                w.put_str("role", "system");
                put_text(w, systems.iter().flat_map(|turn| &turn.parts));
            }),
        }
    }
    Ok(())
}

/// The text of a message: one string, or parts if something in it is marked.
fn put_text<'p, 'a: 'p>(w: &mut Writer, parts: impl Iterator<Item = &'p Part<'a>> + Clone) {
    if !parts.clone().any(|part| matches!(part, Part::CacheMark(_))) {
        return w.put_text("content", &joined_text(parts));
    }
    let says =
        |part: &&Part<'_>| matches!(part, Part::Text(_) | Part::Refusal(_) | Part::CacheMark(_));
    w.put_array("content", |w| {
        for (part, mark) in with_marks(parts.filter(says)) {
            if let Part::Text(text) | Part::Refusal(text) = part {
                write_text_part(w, text, mark);
            }
        }
    });
}

fn put_mark(w: &mut Writer, mark: Option<&str>) {
    if let Some(mark) = mark {
        w.put_raw("cache_control", mark);
    }
}

fn write_user(
    w: &mut Writer,
    parts: &[Part<'_>],
    quirks: &ChatQuirks,
    report: &mut Report,
) -> Result<(), Refusal> {
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
            report.bends(Feature::ToolError);
        }
        w.object(|w| {
            w.put_str("role", "tool");
            w.put_text("tool_call_id", &tool_id(call_id, quirks.tool_ids));
            let text = joined_text(content);
            match mark {
                None => w.put_text("content", &text),
                mark => w.put_array("content", |w| write_text_part(w, &text, mark)),
            }
        });
        // A tool message is text; what a tool shows beside that is shown by the user.
        let shown = content.iter().filter(|part| !matches!(part, Part::Text(_)));
        rest.extend(shown.map(|part| (part, None)));
    }
    if rest.is_empty() {
        return Ok(());
    }
    let mut written = Ok(());
    w.object(|w| {
        w.put_str("role", "user");
        if rest.iter().all(is_plain_text) {
            w.put_text("content", &joined_text(rest.iter().map(|(part, _)| *part)));
        } else {
            w.put_array("content", |w| {
                written = rest
                    .iter()
                    .try_for_each(|(part, mark)| write_part(w, part, *mark, report));
            });
        }
    });
    written
}

fn is_plain_text((part, mark): &(&Part<'_>, Option<&str>)) -> bool {
    matches!(part, Part::Text(_)) && mark.is_none()
}

fn write_text_part(w: &mut Writer, text: &Text<'_>, mark: Option<&str>) {
    w.object(|w| {
        w.put_str("type", "text");
        w.put_text("text", text);
        put_mark(w, mark);
    });
}

fn write_part(
    w: &mut Writer,
    part: &Part<'_>,
    mark: Option<&str>,
    report: &mut Report,
) -> Result<(), Refusal> {
    match part {
        Part::Text(text) | Part::Refusal(text) => write_text_part(w, text, mark),
        Part::Image { source, detail } => w.object(|w| {
            w.put_str("type", "image_url");
            w.put_object("image_url", |w| {
                w.put_text("url", &source.to_url());
                if let Some(detail) = detail {
                    w.put_text("detail", detail);
                }
            });
            put_mark(w, mark);
        }),
        Part::Audio { data, format } => w.object(|w| {
            w.put_str("type", "input_audio");
            w.put_object("input_audio", |w| {
                w.put_text("data", data);
                w.put_text("format", format);
            });
            put_mark(w, mark);
        }),
        Part::File {
            source: Source::Url(_),
            ..
        } => report.lacks(Feature::FileUrls)?,
        Part::File { source, name } => w.object(|w| {
            w.put_str("type", "file");
            w.put_object("file", |w| {
                w.put_text(
                    "filename",
                    name.as_ref().unwrap_or(&Text::escaped("document.pdf")),
                );
                w.put_text("file_data", &source.to_url());
            });
            put_mark(w, mark);
        }),
        Part::Reasoning { .. }
        | Part::ToolCall(_)
        | Part::ToolResult { .. }
        | Part::CacheMark(_) => {}
    }
    Ok(())
}

/// Writes the inside of an assistant's message.
fn write_assistant(w: &mut Writer, parts: &[Part<'_>], quirks: &ChatQuirks, report: &mut Report) {
    let marks_call =
        |(part, mark): &(&Part<'_>, Option<&str>)| as_call(part).is_some() && mark.is_some();
    if with_marks(parts).iter().any(marks_call) {
        report.hint("messages[].tool_calls[].cache_control");
    }
    w.put_str("role", "assistant");
    let text = joined_text(parts);
    let calls: Vec<&ToolCall<'_>> = parts.iter().filter_map(as_call).collect();
    if text.is_empty() && !calls.is_empty() {
        w.put_null("content");
    } else {
        put_text(w, parts.iter());
    }
    if let (Some(field), Some(reasoning)) = (quirks.reasoning_back, reasoning_text(parts)) {
        w.put_text(field, &reasoning);
    }
    if !calls.is_empty() {
        w.put_array("tool_calls", |w| {
            calls
                .iter()
                .for_each(|call| write_call(w, call, quirks.tool_ids));
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
        w.put_text("id", &tool_id(&call.id, ids));
        w.put_str("type", "function");
        w.put_object("function", |w| {
            w.put_text("name", &call.name);
            w.put_str("arguments", &call.arguments);
        });
        if let Some(Proof { value, .. }) = &call.proof {
            w.put_object("extra_content", |w| {
                w.put_object("google", |w| w.put_text("thought_signature", value));
            });
        }
    });
}

fn reasoning_text<'a>(parts: &[Part<'a>]) -> Option<Text<'a>> {
    let mut joined: Option<Text<'a>> = None;
    for part in parts {
        if let Part::Reasoning { text, .. } = part
            && !text.is_empty()
        {
            joined.get_or_insert_default().push(text);
        }
    }
    joined
}

/// All text of some parts, with an empty line between them.
pub(crate) fn joined_text<'p, 'a: 'p>(parts: impl IntoIterator<Item = &'p Part<'a>>) -> Text<'p> {
    let mut joined: Option<Text<'p>> = None;
    for part in parts {
        if let Part::Text(text) | Part::Refusal(text) = part {
            match &mut joined {
                None => joined = Some(text.borrowed()),
                Some(joined) => {
                    joined.push(&Text::escaped("\\n\\n"));
                    joined.push(text);
                }
            }
        }
    }
    joined.unwrap_or_default()
}

/// The id of a tool call as the vendor accepts it. The same id always becomes the same.
pub(super) fn tool_id<'a>(id: &'a Text<'_>, ids: ToolIds) -> Text<'a> {
    match ids {
        ToolIds::Any => id.borrowed(),
        ToolIds::Short => short_id(id, CALL_ID_LENGTH_MAX),
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
