//! The neutral model, into a `generateContent` request.

use std::collections::HashMap;

use crate::chat::joined_text;
use crate::json::{Text, Writer};
use crate::neutral::{
    Effort, Feature, Format, Origin, Part, Proof, Reasoning, Report, Request, Role, Source, Tool,
    ToolCall, ToolChoice, Turn,
};
use crate::prepare::Refusal;

pub(crate) fn write_request(
    request: &Request<'_>,
    model: &str,
    report: &mut Report,
) -> Result<String, Refusal> {
    let mut w = Writer::with_capacity(2048);
    let mut written = Ok(());
    w.object(|w| written = write_fields(w, request, model, report));
    written.map(|()| w.into_string())
}

/// A `countTokens` request: the whole request, inside.
pub(crate) fn write_count_request(
    request: &Request<'_>,
    model: &str,
    report: &mut Report,
) -> Result<String, Refusal> {
    let mut w = Writer::with_capacity(2048);
    let mut written = Ok(());
    w.object(|w| {
        w.put_object("generateContentRequest", |w| {
            w.put_str("model", &format!("models/{model}"));
            written = write_fields(w, request, model, report);
        });
    });
    written.map(|()| w.into_string())
}

fn write_fields(
    w: &mut Writer,
    request: &Request<'_>,
    model: &str,
    report: &mut Report,
) -> Result<(), Refusal> {
    write_system(w, &request.turns);
    let names = call_names(&request.turns);
    w.put_array("contents", |w| {
        write_turns(w, &request.turns, &names, report)
    });
    write_tools(w, request, report)?;
    if request.is_begun {
        report.lacks(Feature::Prefill)?;
    }
    if request.user.is_some() {
        report.bends(Feature::User);
    }
    let mut written = Ok(());
    w.put_object("generationConfig", |w| {
        written = write_config(w, request, model, report)
    });
    written
}

/// System prompts have one place, wherever they stood in the conversation.
fn write_system(w: &mut Writer, turns: &[Turn<'_>]) {
    let system = turns.iter().filter(|turn| turn.role == Role::System);
    let text = joined_text(system.flat_map(|turn| &turn.parts));
    if !text.is_empty() {
        w.put_object("systemInstruction", |w| {
            w.put_array("parts", |w| w.object(|w| w.put_text("text", &text)));
        });
    }
}

/// The name of each call, by its id: results are named here, not numbered.
fn call_names<'p, 'a>(turns: &'p [Turn<'a>]) -> HashMap<&'p str, &'p Text<'a>> {
    let parts = turns.iter().flat_map(|turn| &turn.parts);
    let calls = parts.filter_map(|part| match part {
        Part::ToolCall(call) => Some((call.id.as_escaped(), &call.name)),
        _ => None,
    });
    calls.collect()
}

type Names<'p, 'a> = HashMap<&'p str, &'p Text<'a>>;

fn write_turns(w: &mut Writer, turns: &[Turn<'_>], names: &Names<'_, '_>, report: &mut Report) {
    let spoken: Vec<&Turn<'_>> = turns
        .iter()
        .filter(|turn| turn.role != Role::System)
        .collect();
    for group in spoken.chunk_by(|a, b| a.role == b.role) {
        let Some(first) = group.first() else { continue };
        let parts = group.iter().flat_map(|turn| &turn.parts);
        let parts: Vec<&Part<'_>> = parts.filter(|part| says_something(part)).collect();
        if parts.is_empty() {
            continue;
        }
        w.object(|w| {
            w.put_str(
                "role",
                if first.role == Role::User {
                    "user"
                } else {
                    "model"
                },
            );
            w.put_array("parts", |w| write_parts(w, &parts, names, report));
        });
    }
}

fn write_parts(w: &mut Writer, parts: &[&Part<'_>], names: &Names<'_, '_>, report: &mut Report) {
    let mut had_call = false;
    for part in parts {
        if let Part::ToolCall(call) = part {
            write_call(w, call, !had_call);
            had_call = true;
        } else {
            write_part(w, part, names, report);
        }
    }
}

/// Reasoning is not brought back; its signatures stand at the calls.
fn says_something(part: &Part<'_>) -> bool {
    match part {
        Part::Text(text) | Part::Refusal(text) => !text.is_empty(),
        Part::Reasoning { .. } | Part::CacheMark(_) => false,
        _ => true,
    }
}

fn write_part(w: &mut Writer, part: &Part<'_>, names: &Names<'_, '_>, report: &mut Report) {
    match part {
        Part::Text(text) | Part::Refusal(text) => w.object(|w| w.put_text("text", text)),
        Part::Image { source, detail } => {
            if detail.as_ref().is_some_and(|detail| !detail.is("auto")) {
                report.bends(Feature::ImageDetail);
            }
            write_source(w, source, "image/jpeg");
        }
        Part::File { source, name } => {
            if name.is_some() {
                report.bends(Feature::FileName);
            }
            write_source(w, source, "application/pdf");
        }
        Part::Audio { data, format } => w.object(|w| {
            w.put_object("inlineData", |w| {
                w.put_str("mimeType", &format!("audio/{}", format.as_escaped()));
                w.put_text("data", data);
            });
        }),
        Part::Reasoning { .. } | Part::ToolCall(_) | Part::CacheMark(_) => {}
        Part::ToolResult {
            call_id,
            content,
            is_error,
        } => {
            let name = names.get(call_id.as_escaped()).copied().unwrap_or(call_id);
            write_result(w, name, content, *is_error);
            // What a result shows beside text stands next to it.
            let shown = content.iter().filter(|part| !matches!(part, Part::Text(_)));
            shown
                .into_iter()
                .for_each(|part| write_part(w, part, names, report));
        }
    }
}

fn write_source(w: &mut Writer, source: &Source<'_>, otherwise: &str) {
    w.object(|w| match source {
        Source::Data { media_type, data } => w.put_object("inlineData", |w| {
            w.put_text("mimeType", media_type);
            w.put_text("data", data);
        }),
        Source::Url(url) => w.put_object("fileData", |w| {
            w.put_str(
                "mimeType",
                media_type_of(url.as_escaped()).unwrap_or(otherwise),
            );
            w.put_text("fileUri", url);
        }),
    });
}

/// The media type that a URL's ending stands for.
fn media_type_of(url: &str) -> Option<&'static str> {
    let path = url.split(['?', '#']).next().unwrap_or(url);
    let (_, ending) = path.rsplit_once('.')?;
    Some(match ending.to_ascii_lowercase().as_str() {
        "jpg" | "jpeg" => "image/jpeg",
        "png" => "image/png",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "heic" => "image/heic",
        "pdf" => "application/pdf",
        _ => return None,
    })
}

/// What Google documents for calls that were not made by Gemini, or whose signature was lost
/// (ai.google.dev/gemini-api/docs/thought-signatures). Without it Gemini 3 refuses the request.
const NO_SIGNATURE: &str = "skip_thought_signature_validator";

/// Of calls made together, the first is signed.
fn write_call(w: &mut Writer, call: &ToolCall<'_>, is_first: bool) {
    w.object(|w| {
        w.put_object("functionCall", |w| {
            w.put_text("name", &call.name);
            w.put_raw("args", &call.arguments);
        });
        match &call.proof {
            Some(Proof {
                origin: Origin::Gemini,
                value,
                ..
            }) => {
                w.put_text("thoughtSignature", value);
            }
            _ if is_first => w.put_str("thoughtSignature", NO_SIGNATURE),
            _ => {}
        }
    });
}

/// A response is an object: the text under `output`, or under `error`.
fn write_result(w: &mut Writer, name: &Text<'_>, content: &[Part<'_>], is_error: bool) {
    w.object(|w| {
        w.put_object("functionResponse", |w| {
            w.put_text("name", name);
            w.put_object("response", |w| {
                w.put_text(
                    if is_error { "error" } else { "output" },
                    &joined_text(content),
                );
            });
        });
    });
}

fn write_tools(w: &mut Writer, request: &Request<'_>, report: &mut Report) -> Result<(), Refusal> {
    if request.tools.is_empty() {
        return Ok(());
    }
    w.put_array("tools", |w| {
        w.object(|w| {
            w.put_array("functionDeclarations", |w| {
                request.tools.iter().for_each(|tool| write_tool(w, tool));
            });
        });
    });
    if request.tools.iter().any(|tool| tool.strict == Some(true)) {
        report.bends(Feature::StrictTools);
    }
    if request.parallel_tools == Some(false) {
        report.lacks(Feature::ParallelTools)?;
    }
    if let Some(choice) = &request.tool_choice {
        w.put_object("toolConfig", |w| {
            w.put_object("functionCallingConfig", |w| match choice {
                ToolChoice::Auto => w.put_str("mode", "AUTO"),
                ToolChoice::None => w.put_str("mode", "NONE"),
                ToolChoice::Required => w.put_str("mode", "ANY"),
                ToolChoice::Named(name) => {
                    w.put_str("mode", "ANY");
                    w.put_array("allowedFunctionNames", |w| w.text(name));
                }
            });
        });
    }
    Ok(())
}

fn write_tool(w: &mut Writer, tool: &Tool<'_>) {
    w.object(|w| {
        w.put_text("name", &tool.name);
        if let Some(description) = &tool.description {
            w.put_text("description", description);
        }
        w.put_raw("parametersJsonSchema", &tool.schema);
    });
}

fn write_config(
    w: &mut Writer,
    request: &Request<'_>,
    model: &str,
    report: &mut Report,
) -> Result<(), Refusal> {
    if let Some(tokens) = request.max_tokens {
        w.put_u64("maxOutputTokens", tokens);
    }
    let sampling = &request.sampling;
    for (name, value) in [
        ("temperature", sampling.temperature),
        ("topP", sampling.top_p),
        ("frequencyPenalty", sampling.frequency_penalty),
        ("presencePenalty", sampling.presence_penalty),
    ] {
        if let Some(value) = value {
            w.put_f64(name, value);
        }
    }
    if let Some(top_k) = sampling.top_k {
        w.put_u64("topK", top_k);
    }
    if let Some(seed) = sampling.seed {
        w.put_i64("seed", seed);
    }
    if !request.stop.is_empty() {
        w.put_array("stopSequences", |w| {
            request.stop.iter().for_each(|stop| w.text(stop))
        });
    }
    match &request.format {
        None => {}
        Some(Format::JsonObject) => w.put_str("responseMimeType", "application/json"),
        Some(Format::JsonSchema {
            schema,
            description,
            ..
        }) => {
            if description.is_some() {
                report.bends(Feature::FormatDescription);
            }
            w.put_str("responseMimeType", "application/json");
            w.put_raw("responseJsonSchema", schema);
        }
    }
    if let Some(reasoning) = &request.reasoning {
        write_thinking(w, reasoning, model, report)?;
    }
    Ok(())
}

/// Gemini 3 is told a level, its predecessors a budget
/// (ai.google.dev/gemini-api/docs/thinking). Its thoughts are asked for, since the client asked
/// for thinking.
fn write_thinking(
    w: &mut Writer,
    reasoning: &Reasoning,
    model: &str,
    report: &mut Report,
) -> Result<(), Refusal> {
    let Some(is_on) = reasoning.is_on() else {
        return Ok(());
    };
    let by_budget = model.starts_with("gemini-2") || model.starts_with("gemini-1");
    if !by_budget && !is_on {
        // The least that there is; thinking cannot be switched off.
        report.bends(Feature::Reasoning);
    }
    w.put_object("thinkingConfig", |w| {
        if is_on {
            w.put_bool("includeThoughts", true);
        }
        match (by_budget, reasoning.as_budget(), reasoning.as_effort()) {
            (true, Some(tokens), _) => w.put_u64("thinkingBudget", tokens),
            (false, _, Some(effort)) => w.put_str("thinkingLevel", level(effort)),
            (_, _, _) => {}
        }
    });
    Ok(())
}

const fn level(effort: Effort) -> &'static str {
    match effort {
        Effort::None | Effort::Minimal => "minimal",
        Effort::Low => "low",
        Effort::Medium => "medium",
        Effort::High | Effort::XHigh | Effort::Max => "high",
    }
}
