//! The neutral model, into a responses request.

use crate::caps::RESPONSES_CALL_ID_CHARS_MAX;
use crate::chat::write_schema;
use crate::json::{Text, Writer, word_of};
use crate::neutral::{
    Effort, Feature, Format, LossReport, MediaSource, Part, Reasoning, ReasoningSignature, Request,
    Role, SignatureOrigin, Summary, Tool, ToolChoice, Turn, joined_text, opaque_user, short_id,
};

pub(crate) fn write_request(request: &Request<'_>, model: &str, report: &mut LossReport) -> String {
    Writer::document(2048, |w| {
        w.put("model", model);
        write_fields(w, request, report);
    })
}

fn write_fields(w: &mut Writer, request: &Request<'_>, report: &mut LossReport) {
    w.put_array("input", |w| {
        request
            .turns
            .iter()
            .for_each(|turn| write_turn(w, turn, report));
    });
    if request.is_prefill {
        report.unsupported(Feature::Prefill);
    }
    // The client keeps the conversation.
    w.put("store", false);
    if request.stream {
        w.put("stream", true);
    }
    w.put_some("max_output_tokens", request.max_tokens);
    write_sampling(w, request, report);
    write_tools(w, request);
    write_text(w, request);
    for (key, raw) in &request.shared {
        w.put_raw(key, raw);
    }
    if let Some(reasoning) = &request.reasoning {
        write_reasoning(w, reasoning);
    }
    if let Some(user) = &request.user {
        w.put("user", opaque_user(user, report));
    }
}

fn write_sampling(w: &mut Writer, request: &Request<'_>, report: &mut LossReport) {
    let sampling = &request.sampling;
    w.put_some("temperature", sampling.temperature);
    w.put_some("top_p", sampling.top_p);
    if sampling.top_k.is_some() {
        report.unsupported(Feature::TopK);
    }
    if sampling.has_penalties() {
        report.unsupported(Feature::Penalties);
    }
    if sampling.seed.is_some() {
        report.unsupported(Feature::Seed);
    }
    if !request.stop.is_empty() {
        report.unsupported(Feature::Stop);
    }
}

fn write_tools(w: &mut Writer, request: &Request<'_>) {
    if request.tools.is_empty() {
        return;
    }
    w.put_array("tools", |w| {
        request.tools.iter().for_each(|tool| write_tool(w, tool))
    });
    match &request.tool_choice {
        Some(ToolChoice::Auto) => w.put("tool_choice", "auto"),
        Some(ToolChoice::None) => w.put("tool_choice", "none"),
        Some(ToolChoice::Required) => w.put("tool_choice", "required"),
        Some(ToolChoice::Named(name)) => w.put_object("tool_choice", |w| {
            w.put("type", "function");
            w.put("name", name);
        }),
        None => {}
    }
    w.put_some("parallel_tool_calls", request.parallel_tools);
}

fn write_tool(w: &mut Writer, tool: &Tool<'_>) {
    w.object(|w| {
        w.put("type", "function");
        w.put("name", &tool.name);
        w.put_some("description", tool.description.as_ref());
        w.put_raw("parameters", tool.schema);
        // Responses default to strict tools.
        w.put("strict", tool.strict.unwrap_or(false));
    });
}

fn write_text(w: &mut Writer, request: &Request<'_>) {
    if request.format.is_none() && request.verbosity.is_none() {
        return;
    }
    w.put_object("text", |w| {
        if let Some(format) = &request.format {
            w.put_object("format", |w| write_format(w, format));
        }
        w.put_some("verbosity", request.verbosity.as_ref());
    });
}

fn write_format(w: &mut Writer, format: &Format<'_>) {
    match format {
        Format::JsonObject => w.put("type", "json_object"),
        Format::JsonSchema(schema) => {
            w.put("type", "json_schema");
            write_schema(w, schema);
        }
    }
}

fn write_reasoning(w: &mut Writer, reasoning: &Reasoning) {
    let summary = reasoning
        .summary
        .map(|summary| word_of(&Summary::WORDS, &summary));
    let effort = reasoning.as_effort();
    if effort.is_some() || summary.is_some() {
        w.put_object("reasoning", |w| {
            let effort = effort.map(|effort| effort.min(Effort::XHigh).as_str());
            w.put_some("effort", effort);
            w.put_some("summary", summary.as_ref());
        });
    }
    if reasoning.is_on() == Some(true) {
        // OpenAI stores nothing, so the client must return the encrypted form.
        w.put_raw("include", r#"["reasoning.encrypted_content"]"#);
    }
}

/// Writes a turn as the items that it takes.
fn write_turn(w: &mut Writer, turn: &Turn<'_>, report: &mut LossReport) {
    match turn.role {
        Role::System => w.object(|w| {
            w.put("role", "developer");
            w.put("content", joined_text(&turn.parts));
        }),
        Role::User => write_user(w, &turn.parts, report),
        Role::Assistant => {
            let parts = turn.parts.iter();
            parts.for_each(|part| write_assistant_item(w, part));
        }
    }
}

fn write_user(w: &mut Writer, parts: &[Part<'_>], report: &mut LossReport) {
    let mut rest = Vec::new();
    for part in parts {
        match part {
            Part::ToolResult {
                call_id,
                content,
                is_error,
            } => {
                if *is_error {
                    report.approximated(Feature::ToolError);
                }
                write_result(w, call_id, content, report);
            }
            part => rest.push(part),
        }
    }
    if rest.is_empty() {
        return;
    }
    w.object(|w| {
        w.put("role", "user");
        match rest.as_slice() {
            [Part::Text(text)] => w.put("content", text),
            rest => w.put_array("content", |w| {
                rest.iter().for_each(|part| write_part(w, part, report));
            }),
        }
    });
}

fn write_result(w: &mut Writer, call_id: &Text<'_>, content: &[Part<'_>], report: &mut LossReport) {
    w.object(|w| {
        w.put("type", "function_call_output");
        w.put("call_id", short_id(call_id, RESPONSES_CALL_ID_CHARS_MAX));
        if content.iter().all(|part| matches!(part, Part::Text(_))) {
            w.put("output", joined_text(content));
        } else {
            w.put_array("output", |w| {
                content.iter().for_each(|part| write_part(w, part, report));
            });
        }
    });
}

fn write_part(w: &mut Writer, part: &Part<'_>, report: &mut LossReport) {
    match part {
        Part::Text(text) | Part::Refusal(text) => w.object(|w| {
            w.put("type", "input_text");
            w.put("text", text);
        }),
        Part::Image { source, detail } => w.object(|w| {
            w.put("type", "input_image");
            w.put("image_url", source.to_url());
            w.put_some("detail", detail.as_ref());
        }),
        Part::File { source, name } => w.object(|w| {
            w.put("type", "input_file");
            match source {
                MediaSource::Url(url) => w.put("file_url", url),
                MediaSource::Data { .. } => {
                    let name = name.as_ref();
                    w.put("filename", name.unwrap_or(&Text::escaped("document.pdf")));
                    w.put("file_data", source.to_url());
                }
            }
        }),
        Part::Audio { .. } => report.unsupported(Feature::Audio),
        Part::Reasoning { .. }
        | Part::ToolCall(_)
        | Part::ToolResult { .. }
        | Part::CacheMark(_) => {}
    }
}

fn write_assistant_item(w: &mut Writer, part: &Part<'_>) {
    match part {
        Part::Text(text) => write_message(w, "output_text", "text", text),
        Part::Refusal(text) => write_message(w, "refusal", "refusal", text),
        Part::ToolCall(call) => w.object(|w| {
            w.put("type", "function_call");
            w.put("call_id", short_id(&call.id, RESPONSES_CALL_ID_CHARS_MAX));
            w.put("name", &call.name);
            w.put("arguments", &*call.arguments);
        }),
        Part::Reasoning {
            signature: Some(signature),
            ..
        } if signature.origin == SignatureOrigin::OpenAiResponses => {
            write_reasoning_item(w, signature);
        }
        // OpenAI cannot use the reasoning of others.
        _ => {}
    }
}

fn write_message(w: &mut Writer, kind: &str, key: &str, text: &Text<'_>) {
    if text.is_empty() {
        return;
    }
    w.object(|w| {
        w.put("type", "message");
        w.put("role", "assistant");
        w.put_array("content", |w| {
            w.object(|w| {
                w.put("type", kind);
                w.put(key, text);
            });
        });
    });
}

/// The signature is the item's id and its encrypted content, with a colon between them.
fn write_reasoning_item(w: &mut Writer, signature: &ReasoningSignature<'_>) {
    let Some((id, encrypted)) = signature.value.as_escaped().split_once(':') else {
        return;
    };
    w.object(|w| {
        w.put("type", "reasoning");
        w.put("id", Text::escaped(id));
        w.put_array("summary", |_| {});
        w.put("encrypted_content", Text::escaped(encrypted));
    });
}
