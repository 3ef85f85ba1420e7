//! The neutral model, into a `generateContent` request.

use std::collections::HashMap;

use crate::generations::{AskedReasoning, Generation, ReasoningControl, ReasoningRules};
use crate::json::Text;
use crate::neutral::{
    EMPTY_MESSAGE, Effort, Feature, Format, LossReport, MediaSource, Part, ReasoningSignature,
    Request, RequestWriter, Role, SignatureOrigin, ToolCall, ToolChoice, joined_text,
    media_type_of_name,
};

pub(crate) fn write_request(
    request: &Request<'_>,
    generation: &Generation,
    report: &mut LossReport,
) -> String {
    RequestWriter::reporting(2048, report).filled(|w| write_fields(w, request, generation))
}

/// A `countTokens` request, which may wrap the whole request.
pub(crate) fn write_count_request(
    request: &Request<'_>,
    model: &str,
    generation: &Generation,
    wraps: bool,
    report: &mut LossReport,
) -> String {
    if !wraps {
        return write_request(request, generation, report);
    }
    RequestWriter::reporting(2048, report).filled(|w| {
        w.put_object("generateContentRequest", |w| {
            w.put("model", &*format!("models/{model}"));
            write_fields(w, request, generation);
        });
    })
}

fn write_fields(w: &mut RequestWriter<'_>, request: &Request<'_>, generation: &Generation) {
    let system = joined_text(request.system_parts());
    if !system.is_empty() {
        w.put_object("systemInstruction", |w| {
            w.put_array("parts", |w| w.object(|w| w.put("text", system)));
        });
    }
    let names = call_names(request);
    w.put_array("contents", |w| write_turns(w, request, &names));
    let asked = generation.reasoning.fit(request.reasoning.as_ref());
    let reasons = generation.reasons(&asked);
    write_tools(w, request, generation.forced_tools.holds(reasons));
    w.unsupported_if(request.is_prefill, Feature::Prefill);
    w.approximated_if(request.user.is_some(), Feature::User);
    w.put_object("generationConfig", |w| {
        write_config(w, request, generation, reasons);
        let is_wanted = request.reasoning.and_then(|reasoning| reasoning.is_on());
        write_thinking(w, is_wanted, &asked, &generation.reasoning);
    });
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
    let mut begun = false;
    for group in request.spoken().chunk_by(|a, b| a.role == b.role) {
        let parts = group.iter().flat_map(|turn| &turn.parts);
        let parts: Vec<&Part<'_>> = parts.filter(|part| says_something(part)).collect();
        let is_user = group.iter().any(|turn| turn.role == Role::User);
        if parts.is_empty() && !is_user {
            continue;
        }
        if parts.is_empty() {
            // A call must follow a turn of the user's.
            w.report.approximated(Feature::Blank);
            write_empty_message(w);
            begun = true;
            continue;
        }
        if !begun && !is_user {
            w.report.approximated(Feature::FirstMessage);
            write_empty_message(w);
        }
        begun = true;
        w.object(|w| {
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

/// A turn of the user's where there must be one.
fn write_empty_message(w: &mut RequestWriter<'_>) {
    w.object(|w| {
        w.put("role", "user");
        w.put_array("parts", |w| w.object(|w| w.put("text", EMPTY_MESSAGE)));
    });
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

fn write_tools(w: &mut RequestWriter<'_>, request: &Request<'_>, can_force: bool) {
    if request.tools.is_empty() {
        return;
    }
    w.put_array("tools", |w| {
        w.object(|w| {
            w.put_each("functionDeclarations", &request.tools, |w, tool| {
                w.object(|w| {
                    w.put("name", &tool.name);
                    w.put_some("description", tool.description.as_ref());
                    w.put_raw("parametersJsonSchema", &tool.schema);
                });
            });
        });
    });
    w.approximated_if(request.has_strict_tools(), Feature::StrictTools);
    let one_at_a_time = request.parallel_tools == Some(false);
    w.unsupported_if(one_at_a_time, Feature::ParallelTools);
    let (mode, name) = match &request.tool_choice {
        None => return,
        Some(ToolChoice::Required | ToolChoice::Named(_)) if !can_force => {
            w.report.unsupported(Feature::ToolChoice);
            ("AUTO", None)
        }
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

fn write_config(
    w: &mut RequestWriter<'_>,
    request: &Request<'_>,
    generation: &Generation,
    reasons: bool,
) {
    let limit = w.token_limit(request.max_tokens, 0, generation.output_tokens_max);
    w.put_some("maxOutputTokens", limit);
    let (sampling, rules) = (&request.sampling, generation.sampling);
    let is_taken = rules.temperature.holds(reasons);
    w.put_sampling(
        "temperature",
        sampling.temperature,
        is_taken,
        Feature::Temperature,
    );
    w.put_sampling(
        "topP",
        sampling.top_p,
        rules.top_p.holds(reasons),
        Feature::TopP,
    );
    for (name, penalty) in [
        ("frequencyPenalty", sampling.frequency_penalty),
        ("presencePenalty", sampling.presence_penalty),
    ] {
        w.put_supported(
            name,
            penalty,
            rules.penalties.holds(reasons),
            Feature::Penalties,
        );
    }
    w.put_supported(
        "topK",
        sampling.top_k,
        rules.top_k.holds(reasons),
        Feature::TopK,
    );
    let seed = sampling.seed.map(short_seed);
    w.approximated_if(seed != sampling.seed, Feature::Seed);
    w.put_some("seed", seed);
    w.put_some("candidateCount", request.choices.filter(|count| *count > 1));
    w.put_stop("stopSequences", &request.stop, generation.stop_max);
    write_format(w, request, generation);
}

/// A seed of 32 bits, as Google takes them: "Invalid value at 'generation_config.seed' (TYPE_INT32)". Any
/// seed will do that is the same in every request.
fn short_seed(seed: i64) -> i64 {
    match i32::try_from(seed) {
        Ok(_) => seed,
        Err(_) => (seed ^ (seed >> 32)) & i64::from(i32::MAX),
    }
}

fn write_format(w: &mut RequestWriter<'_>, request: &Request<'_>, generation: &Generation) {
    let Some(format) = &request.format else {
        return;
    };
    if !generation.formats_beside_tools && !request.tools.is_empty() {
        // "Function calling with a response mime type: 'application/json' is unsupported"
        return w.report.unsupported_kind(Feature::Format, "beside tools");
    }
    w.put("responseMimeType", "application/json");
    if let Format::JsonSchema(format) = format {
        let is_described = format.description.is_some();
        w.approximated_if(is_described, Feature::FormatDescription);
        w.put_raw("responseJsonSchema", format.schema);
    }
}

/// Writes how much to think: a level or a budget (ai.google.dev/gemini-api/docs/thinking).
fn write_thinking(
    w: &mut RequestWriter<'_>,
    is_wanted: Option<bool>,
    asked: &AskedReasoning,
    rules: &ReasoningRules,
) {
    let Some(is_wanted) = is_wanted else {
        return;
    };
    if rules.control == ReasoningControl::None {
        return w.unsupported_if(is_wanted, Feature::Reasoning);
    }
    w.approximated_if(asked.is_bent, Feature::Reasoning);
    w.put_object("thinkingConfig", |w| {
        if is_wanted {
            w.put("includeThoughts", true);
        }
        if rules.control == ReasoningControl::Budget {
            w.put_some("thinkingBudget", asked.budget_tokens);
        } else {
            w.put_some("thinkingLevel", asked.effort.map(Effort::as_str));
        }
    });
}
