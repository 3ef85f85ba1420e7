//! The neutral model, into a responses request.

use crate::chat::joined_text;
use crate::json::{Text, Writer};
use crate::neutral::{
    Effort, Feature, Format, Origin, Part, Proof, Reasoning, Report, Request, Role, Source,
    Summary, Tool, ToolChoice, Turn, opaque_user, short_id,
};
use crate::prepare::Refusal;

/// The longest id of a call: "Expected a string with maximum length 64".
const CALL_ID_LENGTH_MAX: usize = 64;

pub(crate) fn write_request(
    request: &Request<'_>,
    model: &str,
    report: &mut Report,
) -> Result<String, Refusal> {
    let mut w = Writer::with_capacity(2048);
    let mut written = Ok(());
    w.object(|w| {
        w.put_str("model", model);
        written = write_fields(w, request, report);
    });
    written.map(|()| w.into_string())
}

fn write_fields(w: &mut Writer, request: &Request<'_>, report: &mut Report) -> Result<(), Refusal> {
    let mut written = Ok(());
    w.put_array("input", |w| {
        written = request
            .turns
            .iter()
            .try_for_each(|turn| write_turn(w, turn, report));
    });
    written?;
    if request.is_begun {
        report.lacks(Feature::Prefill)?;
    }
    // The conversation is the client's to keep.
    w.put_bool("store", false);
    if request.stream {
        w.put_bool("stream", true);
    }
    if let Some(tokens) = request.max_tokens {
        w.put_u64("max_output_tokens", tokens);
    }
    write_sampling(w, request, report)?;
    write_tools(w, request);
    write_text(w, request);
    for (key, raw) in &request.shared {
        w.put_raw(key, raw);
    }
    if let Some(reasoning) = &request.reasoning {
        write_reasoning(w, reasoning);
    }
    if let Some(user) = &request.user {
        w.put_text("user", &opaque_user(user, report));
    }
    Ok(())
}

fn write_sampling(
    w: &mut Writer,
    request: &Request<'_>,
    report: &mut Report,
) -> Result<(), Refusal> {
    let sampling = &request.sampling;
    if let Some(temperature) = sampling.temperature {
        w.put_f64("temperature", temperature);
    }
    if let Some(top_p) = sampling.top_p {
        w.put_f64("top_p", top_p);
    }
    if sampling.top_k.is_some() {
        report.lacks(Feature::TopK)?;
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
    if !request.stop.is_empty() {
        report.lacks(Feature::Stop)?;
    }
    Ok(())
}

fn write_tools(w: &mut Writer, request: &Request<'_>) {
    if request.tools.is_empty() {
        return;
    }
    w.put_array("tools", |w| {
        request.tools.iter().for_each(|tool| write_tool(w, tool))
    });
    match &request.tool_choice {
        Some(ToolChoice::Auto) => w.put_str("tool_choice", "auto"),
        Some(ToolChoice::None) => w.put_str("tool_choice", "none"),
        Some(ToolChoice::Required) => w.put_str("tool_choice", "required"),
        Some(ToolChoice::Named(name)) => w.put_object("tool_choice", |w| {
            w.put_str("type", "function");
            w.put_text("name", name);
        }),
        None => {}
    }
    if let Some(parallel) = request.parallel_tools {
        w.put_bool("parallel_tool_calls", parallel);
    }
}

fn write_tool(w: &mut Writer, tool: &Tool<'_>) {
    w.object(|w| {
        w.put_str("type", "function");
        w.put_text("name", &tool.name);
        if let Some(description) = &tool.description {
            w.put_text("description", description);
        }
        w.put_raw("parameters", &tool.schema);
        // Here tools are strict unless it is said that they are not.
        w.put_bool("strict", tool.strict.unwrap_or(false));
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
        if let Some(verbosity) = &request.verbosity {
            w.put_text("verbosity", verbosity);
        }
    });
}

fn write_format(w: &mut Writer, format: &Format<'_>) {
    match format {
        Format::JsonObject => w.put_str("type", "json_object"),
        Format::JsonSchema {
            name,
            description,
            schema,
            strict,
        } => {
            w.put_str("type", "json_schema");
            w.put_text("name", name.as_ref().unwrap_or(&Text::escaped("answer")));
            if let Some(description) = description {
                w.put_text("description", description);
            }
            w.put_raw("schema", schema);
            if let Some(strict) = strict {
                w.put_bool("strict", *strict);
            }
        }
    }
}

fn write_reasoning(w: &mut Writer, reasoning: &Reasoning) {
    let summary = reasoning.summary.map(|summary| match summary {
        Summary::Auto => "auto",
        Summary::Concise => "concise",
        Summary::Detailed => "detailed",
    });
    let effort = reasoning.as_effort();
    if effort.is_some() || summary.is_some() {
        w.put_object("reasoning", |w| {
            if let Some(effort) = effort {
                w.put_str("effort", effort.min(Effort::XHigh).as_str());
            }
            if let Some(summary) = summary {
                w.put_str("summary", summary);
            }
        });
    }
    if reasoning.is_on() == Some(true) {
        // What is not stored there must be brought back, which takes the encrypted form.
        w.put_raw("include", r#"["reasoning.encrypted_content"]"#);
    }
}

/// Writes a turn as the items that it takes.
fn write_turn(w: &mut Writer, turn: &Turn<'_>, report: &mut Report) -> Result<(), Refusal> {
    match turn.role {
        Role::System => {
            w.object(|w| {
                w.put_str("role", "developer");
                w.put_text("content", &joined_text(&turn.parts));
            });
            Ok(())
        }
        Role::User => write_user(w, &turn.parts, report),
        Role::Assistant => {
            turn.parts
                .iter()
                .for_each(|part| write_assistant_item(w, part));
            Ok(())
        }
    }
}

fn write_user(w: &mut Writer, parts: &[Part<'_>], report: &mut Report) -> Result<(), Refusal> {
    let (results, rest): (Vec<&Part<'_>>, Vec<_>) = parts
        .iter()
        .partition(|part| matches!(part, Part::ToolResult { .. }));
    for part in results {
        if let Part::ToolResult {
            call_id,
            content,
            is_error,
        } = part
        {
            if *is_error {
                report.bends(Feature::ToolError);
            }
            write_result(w, call_id, content, report)?;
        }
    }
    match rest.as_slice() {
        [] => Ok(()),
        [Part::Text(text)] => {
            w.object(|w| {
                w.put_str("role", "user");
                w.put_text("content", text);
            });
            Ok(())
        }
        rest => {
            let mut written = Ok(());
            w.object(|w| {
                w.put_str("role", "user");
                w.put_array("content", |w| {
                    written = rest.iter().try_for_each(|part| write_part(w, part, report));
                });
            });
            written
        }
    }
}

fn write_result(
    w: &mut Writer,
    call_id: &Text<'_>,
    content: &[Part<'_>],
    report: &mut Report,
) -> Result<(), Refusal> {
    let mut written = Ok(());
    w.object(|w| {
        w.put_str("type", "function_call_output");
        w.put_text("call_id", &short_id(call_id, CALL_ID_LENGTH_MAX));
        if content.iter().all(|part| matches!(part, Part::Text(_))) {
            w.put_text("output", &joined_text(content));
        } else {
            w.put_array("output", |w| {
                written = content
                    .iter()
                    .try_for_each(|part| write_part(w, part, report));
            });
        }
    });
    written
}

fn write_part(w: &mut Writer, part: &Part<'_>, report: &mut Report) -> Result<(), Refusal> {
    match part {
        Part::Text(text) | Part::Refusal(text) => w.object(|w| {
            w.put_str("type", "input_text");
            w.put_text("text", text);
        }),
        Part::Image { source, detail } => w.object(|w| {
            w.put_str("type", "input_image");
            w.put_text("image_url", &source.to_url());
            if let Some(detail) = detail {
                w.put_text("detail", detail);
            }
        }),
        Part::File { source, name } => w.object(|w| {
            w.put_str("type", "input_file");
            match source {
                Source::Url(url) => w.put_text("file_url", url),
                Source::Data { .. } => {
                    w.put_text(
                        "filename",
                        name.as_ref().unwrap_or(&Text::escaped("document.pdf")),
                    );
                    w.put_text("file_data", &source.to_url());
                }
            }
        }),
        Part::Audio { .. } => report.lacks(Feature::Audio)?,
        Part::Reasoning { .. }
        | Part::ToolCall(_)
        | Part::ToolResult { .. }
        | Part::CacheMark(_) => {}
    }
    Ok(())
}

fn write_assistant_item(w: &mut Writer, part: &Part<'_>) {
    match part {
        Part::Text(text) => write_said(w, "output_text", "text", text),
        Part::Refusal(text) => write_said(w, "refusal", "refusal", text),
        Part::ToolCall(call) => w.object(|w| {
            w.put_str("type", "function_call");
            w.put_text("call_id", &short_id(&call.id, CALL_ID_LENGTH_MAX));
            w.put_text("name", &call.name);
            w.put_str("arguments", &call.arguments);
        }),
        Part::Reasoning {
            proof: Some(proof), ..
        } if proof.origin == Origin::OpenAiResponses => {
            write_reasoning_item(w, proof);
        }
        // Reasoning of others means nothing here.
        _ => {}
    }
}

fn write_said(w: &mut Writer, kind: &str, key: &str, text: &Text<'_>) {
    if text.is_empty() {
        return;
    }
    w.object(|w| {
        w.put_str("type", "message");
        w.put_str("role", "assistant");
        w.put_array("content", |w| {
            w.object(|w| {
                w.put_str("type", kind);
                w.put_text(key, text);
            });
        });
    });
}

/// The proof is the item's id and its encrypted content, with a colon between them.
fn write_reasoning_item(w: &mut Writer, proof: &Proof<'_>) {
    let Some((id, encrypted)) = proof.value.as_escaped().split_once(':') else {
        return;
    };
    w.object(|w| {
        w.put_str("type", "reasoning");
        w.put_text("id", &Text::escaped(id));
        w.put_array("summary", |_| {});
        w.put_text("encrypted_content", &Text::escaped(encrypted));
    });
}
