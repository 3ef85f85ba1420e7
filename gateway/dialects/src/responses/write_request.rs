//! The neutral model, into a responses request.

use crate::api::UpstreamApi;
use crate::caps::RESPONSES_CALL_ID_CHARS_MAX;
use crate::chat::{Nesting, write_format, write_function, write_tool_choice};
use crate::generations::{
    AskedReasoning, Generation, ReasoningControl, ReasoningRules, SamplingRules,
};
use crate::json::{Text, word_of};
use crate::neutral::{
    Effort, Feature, FreeTextTool, LossReport, MediaSource, Part, Reasoning, ReasoningSignature,
    Request, RequestWriter, Role, SignatureOrigin, Summary, Turn, joined_text, put_user, short_id,
};
use crate::vendors::Vendor;

pub(crate) fn write_request(
    request: &Request<'_>,
    model: &str,
    vendor: &Vendor,
    generation: &Generation,
    report: &mut LossReport,
) -> String {
    RequestWriter::reporting(2048, report).filled(|w| {
        w.put("model", model);
        let custom = custom_calls(request);
        w.put_each("input", &request.turns, |w, turn| {
            write_turn(w, turn, &custom);
        });
        w.unsupported_if(request.is_prefill, Feature::Prefill);
        // The client keeps the conversation.
        w.put("store", false);
        if request.stream {
            w.put("stream", true);
        }
        let least = vendor.output_tokens_min(UpstreamApi::Responses);
        let limit = w.token_limit(request.max_tokens, least, generation.output_tokens_max);
        w.put_some("max_output_tokens", limit);
        let asked = generation.reasoning.fit(request.reasoning.as_ref());
        let reasons = generation.reasons(&asked);
        write_sampling(w, request, generation.sampling, reasons);
        write_tools(w, request, generation.forced_tools.holds(reasons));
        let verbosity = w.verbosity(request.verbosity.as_ref(), generation.verbosity);
        write_text(w, request, verbosity);
        for (key, raw) in &request.shared {
            w.put_raw(key, raw);
        }
        if let Some(reasoning) = &request.reasoning {
            write_reasoning(w, reasoning, &asked, &generation.reasoning);
        }
        if let Some(user) = &request.user {
            put_user(w, user);
        }
    })
}

fn write_sampling(
    w: &mut RequestWriter<'_>,
    request: &Request<'_>,
    rules: SamplingRules,
    reasons: bool,
) {
    let sampling = &request.sampling;
    let is_taken = rules.temperature.holds(reasons);
    w.put_sampling(
        "temperature",
        sampling.temperature,
        is_taken,
        Feature::Temperature,
    );
    w.put_sampling(
        "top_p",
        sampling.top_p,
        rules.top_p.holds(reasons),
        Feature::TopP,
    );
    w.unsupported_if(sampling.top_k.is_some(), Feature::TopK);
    w.unsupported_if(sampling.has_penalties(), Feature::Penalties);
    w.unsupported_if(sampling.seed.is_some(), Feature::Seed);
    w.unsupported_if(!request.stop.is_empty(), Feature::Stop);
}

fn write_tools(w: &mut RequestWriter<'_>, request: &Request<'_>, can_force: bool) {
    if request.tools.is_empty() {
        return;
    }
    w.put_each("tools", &request.tools, |w, tool| {
        // Responses default to strict tools.
        let strict = Some(tool.strict.unwrap_or(false));
        w.object(|w| match &tool.free_text {
            Some(custom) => write_custom(w, &tool.name, custom),
            None => write_function(w, tool, strict, Nesting::Flat),
        });
    });
    write_tool_choice(w, request, "required", can_force, Nesting::Flat);
    w.put_some("parallel_tool_calls", request.parallel_tools);
}

fn write_custom(w: &mut RequestWriter<'_>, name: &Text<'_>, custom: &FreeTextTool<'_>) {
    w.put("type", "custom");
    w.put("name", name);
    w.put_some("description", custom.description.as_ref());
    if let Some((syntax, definition)) = &custom.grammar {
        w.put_object("format", |w| {
            w.put("type", "grammar");
            w.put("syntax", syntax);
            w.put("definition", definition);
        });
    }
}

fn write_text(w: &mut RequestWriter<'_>, request: &Request<'_>, verbosity: Option<&Text<'_>>) {
    if request.format.is_none() && verbosity.is_none() {
        return;
    }
    w.put_object("text", |w| {
        if let Some(format) = &request.format {
            w.put_object("format", |w| write_format(w, format, Nesting::Flat));
        }
        w.put_some("verbosity", verbosity);
    });
}

fn write_reasoning(
    w: &mut RequestWriter<'_>,
    reasoning: &Reasoning,
    asked: &AskedReasoning,
    rules: &ReasoningRules,
) {
    let Some(effort) = told_effort(reasoning, asked, rules, w.report) else {
        return;
    };
    if effort.is_some() || reasoning.summary.is_some() {
        w.put_object("reasoning", |w| {
            w.put_some("effort", effort.map(Effort::as_str));
            let word = |summary| word_of(&Summary::WORDS, &summary);
            w.put_some("summary", reasoning.summary.map(word));
        });
    }
    if reasoning.is_on() == Some(true) {
        // OpenAI stores nothing, so the client must return the encrypted form.
        w.put_raw("include", r#"["reasoning.encrypted_content"]"#);
    }
}

/// The effort that the model is told. `None` if it takes no `reasoning` at all.
pub(super) fn told_effort(
    reasoning: &Reasoning,
    asked: &AskedReasoning,
    rules: &ReasoningRules,
    report: &mut LossReport,
) -> Option<Option<Effort>> {
    let has_effort = rules.control != ReasoningControl::None;
    if !has_effort && !rules.unasked {
        if reasoning.is_on() == Some(true) {
            report.unsupported(Feature::Reasoning);
        }
        return None;
    }
    report.approximated_if(asked.is_bent, Feature::Reasoning);
    Some(asked.effort.filter(|_| has_effort))
}

/// The ids of the calls of custom tools, whose results have a type of their own.
fn custom_calls<'p>(request: &'p Request<'_>) -> Vec<&'p str> {
    let parts = request.turns.iter().flat_map(|turn| &turn.parts);
    let calls = parts.filter_map(Part::as_call);
    let custom = calls.filter(|call| call.free_text.is_some());
    custom.map(|call| call.id.as_escaped()).collect()
}

/// Writes a turn as the items that it takes.
fn write_turn(w: &mut RequestWriter<'_>, turn: &Turn<'_>, custom: &[&str]) {
    match turn.role {
        Role::System => w.object(|w| {
            w.put("role", "developer");
            w.put("content", joined_text(&turn.parts));
        }),
        Role::User => write_user(w, &turn.parts, custom),
        Role::Assistant => {
            let parts = turn.parts.iter();
            parts.for_each(|part| write_assistant_item(w, part));
        }
    }
}

fn write_user(w: &mut RequestWriter<'_>, parts: &[Part<'_>], custom: &[&str]) {
    let mut rest = Vec::new();
    for part in parts {
        let Part::ToolResult {
            call_id,
            content,
            is_error,
        } = part
        else {
            rest.push(part);
            continue;
        };
        w.approximated_if(*is_error, Feature::ToolError);
        let kind = match custom.contains(&call_id.as_escaped()) {
            true => "custom_tool_call_output",
            false => "function_call_output",
        };
        w.typed(kind, |w| {
            w.put("call_id", short_id(call_id, RESPONSES_CALL_ID_CHARS_MAX));
            if content.iter().all(|part| matches!(part, Part::Text(_))) {
                w.put("output", joined_text(content));
            } else {
                w.put_each("output", content, write_part);
            }
        });
    }
    if rest.is_empty() {
        return;
    }
    w.object(|w| {
        w.put("role", "user");
        match rest.as_slice() {
            [Part::Text(text)] => w.put("content", text),
            _ => w.put_each("content", rest, write_part),
        }
    });
}

fn write_part(w: &mut RequestWriter<'_>, part: &Part<'_>) {
    match part {
        Part::Text(text) | Part::Refusal(text) => w.typed("input_text", |w| w.put("text", text)),
        Part::Image { source, detail } => w.typed("input_image", |w| {
            w.put("image_url", source.to_url());
            w.put_some("detail", detail.as_ref());
        }),
        Part::File { source, name } => w.typed("input_file", |w| match source {
            MediaSource::Url(url) => w.put("file_url", url),
            MediaSource::Data { .. } | MediaSource::Text(_) => {
                let name = name.as_ref();
                w.put("filename", name.unwrap_or(&Text::escaped("document.pdf")));
                w.put("file_data", source.to_url());
            }
        }),
        Part::Audio { .. } => w.report.unsupported(Feature::Audio),
        Part::Reasoning { .. }
        | Part::ToolCall(_)
        | Part::ToolResult { .. }
        | Part::CacheMark(_) => {}
    }
}

fn write_assistant_item(w: &mut RequestWriter<'_>, part: &Part<'_>) {
    match part {
        Part::Text(text) => write_message(w, "output_text", "text", text),
        Part::Refusal(text) => write_message(w, "refusal", "refusal", text),
        Part::ToolCall(call) => {
            let kind = match call.free_text {
                Some(_) => "custom_tool_call",
                None => "function_call",
            };
            w.typed(kind, |w| {
                w.put("call_id", short_id(&call.id, RESPONSES_CALL_ID_CHARS_MAX));
                w.put("name", &call.name);
                match &call.free_text {
                    Some(input) => w.put("input", input),
                    None => w.put("arguments", &*call.arguments),
                }
            });
        }
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

fn write_message(w: &mut RequestWriter<'_>, kind: &str, key: &str, text: &Text<'_>) {
    if text.is_empty() {
        return;
    }
    w.typed("message", |w| {
        w.put("role", "assistant");
        w.put_array("content", |w| w.typed(kind, |w| w.put(key, text)));
    });
}

/// The signature is the item's id and its encrypted content, with a colon between them.
fn write_reasoning_item(w: &mut RequestWriter<'_>, signature: &ReasoningSignature<'_>) {
    let Some((id, encrypted)) = signature.value.as_escaped().split_once(':') else {
        return;
    };
    w.typed("reasoning", |w| {
        w.put("id", Text::escaped(id));
        w.put_array("summary", |_| {});
        w.put("encrypted_content", Text::escaped(encrypted));
    });
}
