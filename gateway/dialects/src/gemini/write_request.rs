//! The neutral model, into a `generateContent` request.

use std::collections::HashMap;

use crate::json::Text;
use crate::neutral::{
    Effort, Feature, Format, LossReport, MediaSource, Part, Reasoning, ReasoningSignature, Request,
    RequestWriter, Role, SignatureOrigin, ToolCall, ToolChoice, joined_text, media_type_of_name,
};

pub(crate) fn write_request(request: &Request<'_>, model: &str, report: &mut LossReport) -> String {
    RequestWriter::reporting(2048, report).filled(|w| write_fields(w, request, model))
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
    RequestWriter::reporting(2048, report).filled(|w| {
        w.put_object("generateContentRequest", |w| {
            w.put("model", &*format!("models/{model}"));
            write_fields(w, request, model);
        });
    })
}

fn write_fields(w: &mut RequestWriter<'_>, request: &Request<'_>, model: &str) {
    let system = joined_text(request.system_parts());
    if !system.is_empty() {
        w.put_object("systemInstruction", |w| {
            w.put_array("parts", |w| w.object(|w| w.put("text", system)));
        });
    }
    let names = call_names(request);
    w.put_array("contents", |w| write_turns(w, request, &names));
    write_tools(w, request);
    w.unsupported_if(request.is_prefill, Feature::Prefill);
    w.approximated_if(request.user.is_some(), Feature::User);
    w.put_object("generationConfig", |w| write_config(w, request, model));
}

type Names<'p, 'a> = HashMap<&'p str, &'p Text<'a>>;

/// The name of each call by its id. Gemini's results carry names, not ids.
fn call_names<'p, 'a>(request: &'p Request<'a>) -> Names<'p, 'a> {
    let parts = request.turns.iter().flat_map(|turn| &turn.parts);
    let calls = parts.filter_map(Part::as_call);
    calls
        .map(|call| (call.id.as_escaped(), &call.name))
        .collect()
}

fn write_turns(w: &mut RequestWriter<'_>, request: &Request<'_>, names: &Names<'_, '_>) {
    for group in request.spoken().chunk_by(|a, b| a.role == b.role) {
        let parts = group.iter().flat_map(|turn| &turn.parts);
        let parts: Vec<&Part<'_>> = parts.filter(|part| says_something(part)).collect();
        if parts.is_empty() {
            continue;
        }
        w.object(|w| {
            let is_user = group.iter().any(|turn| turn.role == Role::User);
            w.put("role", if is_user { "user" } else { "model" });
            let mut had_call = false;
            w.put_each("parts", parts, |w, part| match part {
                Part::ToolCall(call) => {
                    write_call(w, call, !had_call);
                    had_call = true;
                }
                part => write_part(w, part, names),
            });
        });
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

fn write_part(w: &mut RequestWriter<'_>, part: &Part<'_>, names: &Names<'_, '_>) {
    match part {
        Part::Text(text) | Part::Refusal(text) => w.object(|w| w.put("text", text)),
        Part::Image { source, detail } => {
            let is_detailed = detail.as_ref().is_some_and(|detail| !detail.is("auto"));
            w.approximated_if(is_detailed, Feature::ImageDetail);
            write_source(w, source, "image/jpeg");
        }
        Part::File { source, name } => {
            w.approximated_if(name.is_some(), Feature::FileName);
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
            shown.for_each(|part| write_part(w, part, names));
        }
    }
}

fn write_source(w: &mut RequestWriter<'_>, source: &MediaSource<'_>, otherwise: &str) {
    w.object(|w| match source {
        MediaSource::Data { media_type, data } => w.put_object("inlineData", |w| {
            w.put("mimeType", media_type);
            w.put("data", data);
        }),
        MediaSource::Text(text) => w.put("text", text),
        MediaSource::Url(url) => w.put_object("fileData", |w| {
            let known = media_type_of_name(url.as_escaped());
            w.put("mimeType", known.unwrap_or(otherwise));
            w.put("fileUri", url);
        }),
    });
}

/// The value that Google documents for calls of other models and for lost signatures
/// (ai.google.dev/gemini-api/docs/thought-signatures). Without it Gemini 3 refuses the request.
const NO_SIGNATURE: &str = "skip_thought_signature_validator";

/// Writes a call. Of parallel calls, the first is signed.
fn write_call(w: &mut RequestWriter<'_>, call: &ToolCall<'_>, is_first: bool) {
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
fn write_result(w: &mut RequestWriter<'_>, name: &Text<'_>, content: &[Part<'_>], is_error: bool) {
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

fn write_tools(w: &mut RequestWriter<'_>, request: &Request<'_>) {
    if request.tools.is_empty() {
        return;
    }
    w.put_array("tools", |w| {
        w.object(|w| {
            w.put_each("functionDeclarations", &request.tools, |w, tool| {
                w.object(|w| {
                    w.put("name", &tool.name);
                    w.put_some("description", tool.description.as_ref());
                    w.put_raw("parametersJsonSchema", tool.schema);
                });
            });
        });
    });
    w.approximated_if(request.has_strict_tools(), Feature::StrictTools);
    let one_at_a_time = request.parallel_tools == Some(false);
    w.unsupported_if(one_at_a_time, Feature::ParallelTools);
    let (mode, name) = match &request.tool_choice {
        None => return,
        Some(ToolChoice::Auto) => ("AUTO", None),
        Some(ToolChoice::None) => ("NONE", None),
        Some(ToolChoice::Required) => ("ANY", None),
        Some(ToolChoice::Named(name)) => ("ANY", Some(name)),
    };
    w.put_object("toolConfig", |w| {
        w.put_object("functionCallingConfig", |w| {
            w.put("mode", mode);
            if let Some(name) = name {
                w.put_array("allowedFunctionNames", |w| w.value(name));
            }
        });
    });
}

fn write_config(w: &mut RequestWriter<'_>, request: &Request<'_>, model: &str) {
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
        let is_described = format.description.is_some();
        w.approximated_if(is_described, Feature::FormatDescription);
        w.put_raw("responseJsonSchema", format.schema);
    }
    if let Some(reasoning) = &request.reasoning {
        write_thinking(w, reasoning, model);
    }
}

/// Writes how much to think: a level for Gemini 3, a budget for its predecessors
/// (ai.google.dev/gemini-api/docs/thinking).
fn write_thinking(w: &mut RequestWriter<'_>, reasoning: &Reasoning, model: &str) {
    let Some(is_on) = reasoning.is_on() else {
        return;
    };
    let by_budget = model.starts_with("gemini-2") || model.starts_with("gemini-1");
    // The lowest level: thinking cannot be switched off.
    w.approximated_if(!by_budget && !is_on, Feature::Reasoning);
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
