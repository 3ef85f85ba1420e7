//! The neutral model, into a `generateContent` request.

use std::collections::HashMap;

use crate::json::{Text, Writer};
use crate::neutral::{
    Effort, Feature, Format, LossReport, MediaSource, Part, Reasoning, ReasoningSignature, Request,
    Role, SignatureOrigin, Tool, ToolCall, ToolChoice, Turn, joined_text,
};

pub(crate) fn write_request(request: &Request<'_>, model: &str, report: &mut LossReport) -> String {
    Writer::document(2048, |w| write_fields(w, request, model, report))
}

/// A `countTokens` request, which may wrap the whole request.
pub(crate) fn write_count_request(
    request: &Request<'_>,
    model: &str,
    wraps: bool,
    report: &mut LossReport,
) -> String {
    if !wraps {
        return write_request(request, model, report);
    }
    Writer::document(2048, |w| {
        w.put_object("generateContentRequest", |w| {
            w.put("model", &*format!("models/{model}"));
            write_fields(w, request, model, report);
        });
    })
}

fn write_fields(w: &mut Writer, request: &Request<'_>, model: &str, report: &mut LossReport) {
    write_system(w, &request.turns);
    let names = call_names(&request.turns);
    w.put_array("contents", |w| {
        write_turns(w, &request.turns, &names, report)
    });
    write_tools(w, request, report);
    if request.is_prefill {
        report.unsupported(Feature::Prefill);
    }
    if request.user.is_some() {
        report.approximated(Feature::User);
    }
    w.put_object("generationConfig", |w| {
        write_config(w, request, model, report)
    });
}

/// Writes the system prompts, which have one place wherever they stood in the conversation.
fn write_system(w: &mut Writer, turns: &[Turn<'_>]) {
    let system = turns.iter().filter(|turn| turn.role == Role::System);
    let text = joined_text(system.flat_map(|turn| &turn.parts));
    if !text.is_empty() {
        w.put_object("systemInstruction", |w| {
            w.put_array("parts", |w| w.object(|w| w.put("text", text)));
        });
    }
}

/// The name of each call by its id. Gemini's results carry names, not ids.
fn call_names<'p, 'a>(turns: &'p [Turn<'a>]) -> HashMap<&'p str, &'p Text<'a>> {
    let parts = turns.iter().flat_map(|turn| &turn.parts);
    let calls = parts.filter_map(|part| match part {
        Part::ToolCall(call) => Some((call.id.as_escaped(), &call.name)),
        _ => None,
    });
    calls.collect()
}

type Names<'p, 'a> = HashMap<&'p str, &'p Text<'a>>;

fn write_turns(w: &mut Writer, turns: &[Turn<'_>], names: &Names<'_, '_>, report: &mut LossReport) {
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
        let is_user = first.role == Role::User;
        w.object(|w| {
            w.put("role", if is_user { "user" } else { "model" });
            w.put_array("parts", |w| write_parts(w, &parts, names, report));
        });
    }
}

fn write_parts(
    w: &mut Writer,
    parts: &[&Part<'_>],
    names: &Names<'_, '_>,
    report: &mut LossReport,
) {
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

/// Whether Gemini takes a part. Reasoning is not returned; its signatures stand at the calls.
fn says_something(part: &Part<'_>) -> bool {
    match part {
        Part::Text(text) | Part::Refusal(text) => !text.is_empty(),
        Part::Reasoning { .. } | Part::CacheMark(_) => false,
        _ => true,
    }
}

fn write_part(w: &mut Writer, part: &Part<'_>, names: &Names<'_, '_>, report: &mut LossReport) {
    match part {
        Part::Text(text) | Part::Refusal(text) => w.object(|w| w.put("text", text)),
        Part::Image { source, detail } => {
            if detail.as_ref().is_some_and(|detail| !detail.is("auto")) {
                report.approximated(Feature::ImageDetail);
            }
            write_source(w, source, "image/jpeg");
        }
        Part::File { source, name } => {
            if name.is_some() {
                report.approximated(Feature::FileName);
            }
            write_source(w, source, "application/pdf");
        }
        Part::Audio { data, format } => w.object(|w| {
            w.put_object("inlineData", |w| {
                w.put("mimeType", &*format!("audio/{}", format.as_escaped()));
                w.put("data", data);
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
            // Images and files of a result stand next to it.
            let shown = content.iter().filter(|part| !matches!(part, Part::Text(_)));
            shown.for_each(|part| write_part(w, part, names, report));
        }
    }
}

fn write_source(w: &mut Writer, source: &MediaSource<'_>, otherwise: &str) {
    w.object(|w| match source {
        MediaSource::Data { media_type, data } => w.put_object("inlineData", |w| {
            w.put("mimeType", media_type);
            w.put("data", data);
        }),
        MediaSource::Url(url) => w.put_object("fileData", |w| {
            let known = media_type_of(url.as_escaped());
            w.put("mimeType", known.unwrap_or(otherwise));
            w.put("fileUri", url);
        }),
    });
}

/// The media type of a URL's extension.
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

/// The value that Google documents for calls of other models and for lost signatures
/// (ai.google.dev/gemini-api/docs/thought-signatures). Without it Gemini 3 refuses the request.
const NO_SIGNATURE: &str = "skip_thought_signature_validator";

/// Writes a call. Of parallel calls, the first is signed.
fn write_call(w: &mut Writer, call: &ToolCall<'_>, is_first: bool) {
    w.object(|w| {
        w.put_object("functionCall", |w| {
            w.put("name", &call.name);
            w.put_raw("args", &call.arguments);
        });
        let is_own = |signed: &&ReasoningSignature<'_>| signed.origin == SignatureOrigin::Gemini;
        match call.signature.as_ref().filter(is_own) {
            Some(signature) => w.put("thoughtSignature", &signature.value),
            None if is_first => w.put("thoughtSignature", NO_SIGNATURE),
            None => {}
        }
    });
}

/// Writes a result, which is an object: the text under `output` or `error`.
fn write_result(w: &mut Writer, name: &Text<'_>, content: &[Part<'_>], is_error: bool) {
    w.object(|w| {
        w.put_object("functionResponse", |w| {
            w.put("name", name);
            w.put_object("response", |w| {
                let key = if is_error { "error" } else { "output" };
                w.put(key, joined_text(content));
            });
        });
    });
}

fn write_tools(w: &mut Writer, request: &Request<'_>, report: &mut LossReport) {
    if request.tools.is_empty() {
        return;
    }
    w.put_array("tools", |w| {
        w.object(|w| {
            w.put_array("functionDeclarations", |w| {
                request.tools.iter().for_each(|tool| write_tool(w, tool));
            });
        });
    });
    if request.tools.iter().any(|tool| tool.strict == Some(true)) {
        report.approximated(Feature::StrictTools);
    }
    if request.parallel_tools == Some(false) {
        report.unsupported(Feature::ParallelTools);
    }
    if let Some(choice) = &request.tool_choice {
        w.put_object("toolConfig", |w| {
            w.put_object("functionCallingConfig", |w| match choice {
                ToolChoice::Auto => w.put("mode", "AUTO"),
                ToolChoice::None => w.put("mode", "NONE"),
                ToolChoice::Required => w.put("mode", "ANY"),
                ToolChoice::Named(name) => {
                    w.put("mode", "ANY");
                    w.put_array("allowedFunctionNames", |w| w.value(name));
                }
            });
        });
    }
}

fn write_tool(w: &mut Writer, tool: &Tool<'_>) {
    w.object(|w| {
        w.put("name", &tool.name);
        w.put_some("description", tool.description.as_ref());
        w.put_raw("parametersJsonSchema", tool.schema);
    });
}

fn write_config(w: &mut Writer, request: &Request<'_>, model: &str, report: &mut LossReport) {
    w.put_some("maxOutputTokens", request.max_tokens);
    let sampling = &request.sampling;
    w.put_some("temperature", sampling.temperature);
    w.put_some("topP", sampling.top_p);
    w.put_some("frequencyPenalty", sampling.frequency_penalty);
    w.put_some("presencePenalty", sampling.presence_penalty);
    w.put_some("topK", sampling.top_k);
    w.put_some("seed", sampling.seed);
    w.put_list("stopSequences", &request.stop);
    if request.format.is_some() {
        w.put("responseMimeType", "application/json");
    }
    if let Some(Format::JsonSchema(format)) = &request.format {
        if format.description.is_some() {
            report.approximated(Feature::FormatDescription);
        }
        w.put_raw("responseJsonSchema", format.schema);
    }
    if let Some(reasoning) = &request.reasoning {
        write_thinking(w, reasoning, model, report);
    }
}

/// Writes how much to think: a level for Gemini 3, a budget for its predecessors
/// (ai.google.dev/gemini-api/docs/thinking).
fn write_thinking(w: &mut Writer, reasoning: &Reasoning, model: &str, report: &mut LossReport) {
    let Some(is_on) = reasoning.is_on() else {
        return;
    };
    let by_budget = model.starts_with("gemini-2") || model.starts_with("gemini-1");
    if !by_budget && !is_on {
        // The lowest level: thinking cannot be switched off.
        report.approximated(Feature::Reasoning);
    }
    w.put_object("thinkingConfig", |w| {
        if is_on {
            w.put("includeThoughts", true);
        }
        match (by_budget, reasoning.as_budget(), reasoning.as_effort()) {
            (true, Some(tokens), _) => w.put("thinkingBudget", tokens),
            (false, _, Some(effort)) => w.put("thinkingLevel", level(effort)),
            (_, _, _) => {}
        }
    });
}

const fn level(effort: Effort) -> &'static str {
    match effort {
        Effort::None | Effort::Minimal => "minimal",
        Effort::Low => "low",
        Effort::Medium => "medium",
        Effort::High | Effort::XHigh | Effort::Max => "high",
    }
}
