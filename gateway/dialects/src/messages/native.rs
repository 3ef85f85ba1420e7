//! A messages request for another Claude than the client wrote for: the client's bytes, edited where
//! the model takes something else.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::read_request::thinking_of;
use super::write_request::{Thinking, taken_sampling};
use crate::entries::{Mender, text_in};
use crate::generations::{Generation, ReasoningControl, ReasoningOff, ReasoningRules};
use crate::inspect::RequestFacts;
use crate::json::{self, Object, Path, Text, each, value_of};
use crate::neutral::{
    Effort, Feature, LossReport, Reasoning, RequestWriter, SIGNATURE_MARK, Sampling,
};
use crate::splice::Edit;

pub(crate) fn edits(
    body: &str,
    facts: &RequestFacts,
    generation: &Generation,
    report: &mut LossReport,
) -> json::Result<Vec<Edit>> {
    let has_strict = !generation.strict_tools && facts.has_tools && holds_strict(body);
    let has_prefill = !generation.prefill && ends_with_assistant(body);
    let most = generation.output_tokens_max;
    let is_long = most.is_some() && facts.max_output_tokens > most;
    if !facts.has_wishes && !is_long && !has_prefill && !has_strict {
        return Ok(Vec::new());
    }
    let mut mender = Mender::new(body);
    let limit = report.token_limit(facts.max_output_tokens, 0, most);
    mender.settle("max_tokens", facts.max_output_tokens, limit);
    let mut w = RequestWriter::reporting(0, report);
    let reasons = mend_thinking(&mut mender, (limit, is_long), generation, &mut w)?;
    let sampling = Sampling {
        temperature: mender.number("temperature"),
        top_p: mender.number("top_p"),
        top_k: mender.number("top_k"),
        ..Sampling::default()
    };
    let taken = taken_sampling(&sampling, generation.sampling, reasons, w.report);
    mender.settle("temperature", sampling.temperature, taken.temperature);
    mender.settle("top_p", sampling.top_p, taken.top_p);
    mender.settle("top_k", sampling.top_k, taken.top_k);
    let can_force = generation.forced_tools.holds(reasons);
    mend_choice(&mut mender, can_force, w.report);
    if has_strict {
        mend_strict(&mut mender, w.report)?;
    }
    if has_prefill {
        mend_prefill(&mut mender, w.report)?;
    }
    Ok(mender.finish(&w.into_string()))
}

/// Whether a tool may be strict.
fn holds_strict(body: &str) -> bool {
    static STRICT: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"strict\""));
    STRICT.find(body.as_bytes()).is_some()
}

/// Whether the last role in the body is the assistant's. Inside of text, quotes are escaped.
fn ends_with_assistant(body: &str) -> bool {
    static ROLE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"role\""));
    let mut is_assistant = false;
    for at in ROLE.find_iter(body.as_bytes()) {
        let value = body[at + ROLE.needle().len()..].trim_ascii_start();
        let Some(value) = value.strip_prefix(':').map(str::trim_ascii_start) else {
            continue;
        };
        if value.starts_with("\"assistant\"") {
            is_assistant = true;
        } else if value.starts_with("\"user\"") {
            is_assistant = false;
        }
    }
    is_assistant
}

/// Makes thinking and effort the model's. Returns whether it thinks.
fn mend_thinking(
    mender: &mut Mender<'_>,
    (limit, is_lowered): (Option<u64>, bool),
    generation: &Generation,
    w: &mut RequestWriter<'_>,
) -> json::Result<bool> {
    let (thinking, config) = (mender.get("thinking"), mender.get("output_config"));
    let kind = text_in(thinking, "type");
    let effort = text_in(config, "effort").and_then(|word| value_of(&Effort::WORDS, &word));
    let asked = asked_thinking(thinking, kind.as_ref(), effort);
    // A lower limit than the client's may leave its budget no room.
    let is_too_much = |asked: &Reasoning| asked.budget_tokens >= limit;
    let has_room = !is_lowered || !asked.as_ref().is_some_and(is_too_much);
    let drops_format = !generation.schemas && config.is_some_and(|raw| holds_object(raw, "format"));
    if drops_format {
        w.report.unsupported(Feature::Format);
    }
    let mut unwanted = Vec::new();
    if drops_format {
        unwanted.push("format");
    }
    let rules = &generation.reasoning;
    let is_taken = kind.as_ref().is_none_or(|kind| takes_kind(rules, kind))
        && effort.is_none_or(|effort| rules.efforts.contains(effort))
        && has_room;
    let Some(asked) = asked.filter(|_| !is_taken) else {
        mender.remove_inside("output_config", &unwanted);
        let is_on = kind.map(|kind| kind.is("adaptive") || kind.is("enabled"));
        return Ok(is_on.unwrap_or(rules.unasked));
    };
    let breaks_off = breaks_off_thinking(mender.get("messages"))?;
    let fitted = Thinking::of(Some(&asked), limit, || breaks_off, generation, w.report);
    w.report.approximated(Feature::Reasoning);
    mender.remove("thinking");
    fitted.write(w);
    let told = fitted.effort();
    match (config.filter(|_| effort.is_some()), told) {
        (Some(_), None) => unwanted.push("effort"),
        (Some(config), Some(told)) => mender.replace_inside(config, "effort", told.as_str()),
        (None, Some(told)) if config.is_none() => {
            w.put_object("output_config", |w| w.put("effort", told.as_str()));
        }
        (None, _) => {}
    }
    mender.remove_inside("output_config", &unwanted);
    Ok(fitted.is_on(generation))
}

/// What the client asks for. `None` for what only the provider can judge.
fn asked_thinking(
    thinking: Option<&str>,
    kind: Option<&Text<'_>>,
    effort: Option<Effort>,
) -> Option<Reasoning> {
    let mut asked = match (thinking, kind) {
        (None, _) => Reasoning::default(),
        (Some(_), None) => return None,
        (Some(raw), Some(kind)) => {
            let budget = Object::read(raw, Path::ROOT).ok()?.count("budget_tokens");
            thinking_of(kind, budget.ok()?)?
        }
    };
    asked.effort = effort.or(asked.effort);
    Some(asked)
}

/// Whether a model knows a type of thinking.
fn takes_kind(rules: &ReasoningRules, kind: &Text<'_>) -> bool {
    use ReasoningControl::{Adaptive, AdaptiveOrBudget, Budget};
    match kind.as_escaped() {
        "enabled" => matches!(rules.control, Budget | AdaptiveOrBudget),
        "adaptive" => matches!(rules.control, Adaptive | AdaptiveOrBudget),
        "disabled" => rules.off == ReasoningOff::Switch,
        "between_tools" => rules.off == ReasoningOff::BetweenTools,
        _ => true,
    }
}

fn holds_object(object: &str, key: &str) -> bool {
    let object = Some(object).filter(|raw| raw.starts_with('{'));
    let object = object.and_then(|raw| Object::read(raw, Path::ROOT).ok());
    object.is_some_and(|object| object.starts_with(key, '{'))
}

/// Whether the conversation is in the middle of tool calls without their thinking.
fn breaks_off_thinking(messages: Option<&str>) -> json::Result<bool> {
    let mut breaks_off = false;
    for raw in elements(messages)? {
        if text_in(Some(raw), "role").is_some_and(|role| role.is("assistant")) {
            let (mut calls, mut thinks) = (false, false);
            for block in blocks(raw)? {
                let kind = text_in(Some(block), "type");
                let kind = kind.as_ref().map_or("", Text::as_escaped);
                calls |= kind == "tool_use";
                thinks |= matches!(kind, "thinking" | "redacted_thinking")
                    && !["signature", "data"].into_iter().any(|key| {
                        text_in(Some(block), key)
                            .is_some_and(|text| text.as_escaped().starts_with(SIGNATURE_MARK))
                    });
            }
            breaks_off = calls && !thinks;
        }
    }
    Ok(breaks_off)
}

fn elements(list: Option<&str>) -> json::Result<Vec<&str>> {
    let mut elements = Vec::new();
    if let Some(list) = list.filter(|raw| raw.starts_with('[')) {
        each(list, &Path::ROOT, |raw, _| {
            elements.push(raw);
            Ok(())
        })?;
    }
    Ok(elements)
}

/// The blocks of a message; none if its content is text.
fn blocks(message: &str) -> json::Result<Vec<&str>> {
    elements(Object::read(message, Path::ROOT)?.take("content"))
}

fn mend_choice(mender: &mut Mender<'_>, can_force: bool, report: &mut LossReport) {
    let Some(choice) = mender.get("tool_choice") else {
        return;
    };
    let kind = text_in(Some(choice), "type");
    let is_forced = kind.is_some_and(|kind| kind.is("any") || kind.is("tool"));
    if report.tool_choice(is_forced, can_force) {
        return;
    }
    let mut choice_fields = Object::read(choice, Path::ROOT).ok();
    let one = choice_fields
        .as_mut()
        .and_then(|fields| fields.flag("disable_parallel_tool_use").ok().flatten());
    let with = match one {
        Some(true) => r#"{"type":"auto","disable_parallel_tool_use":true}"#,
        _ => r#"{"type":"auto"}"#,
    };
    mender.replace(choice, with);
}

fn mend_strict(mender: &mut Mender<'_>, report: &mut LossReport) -> json::Result<()> {
    for tool in elements(mender.get("tools"))? {
        let strict = Some(tool).filter(|raw| raw.starts_with('{'));
        let strict = strict.and_then(|raw| Object::read(raw, Path::ROOT).ok()?.take("strict"));
        if strict == Some("true") {
            report.unsupported(Feature::StrictTools);
        }
        if strict.is_some() {
            mender.remove_entries(tool, &["strict"]);
        }
    }
    Ok(())
}

/// Removes the beginning of the answer. A turn of the provider's own tools is no such beginning: the
/// model goes on after it.
fn mend_prefill(mender: &mut Mender<'_>, report: &mut LossReport) -> json::Result<()> {
    let messages = elements(mender.get("messages"))?;
    let mut kept = messages.len();
    while kept > 1 && is_prefill(messages[kept - 1])? {
        kept -= 1;
    }
    if kept < messages.len() {
        report.unsupported(Feature::Prefill);
        let removed: Vec<bool> = (0..messages.len()).map(|index| index >= kept).collect();
        mender.remove_elements(&messages, &removed);
    }
    Ok(())
}

fn is_prefill(message: &str) -> json::Result<bool> {
    if !text_in(Some(message), "role").is_some_and(|role| role.is("assistant")) {
        return Ok(false);
    }
    let is_call = |block: &&str| {
        text_in(Some(block), "type").is_some_and(|kind| kind.as_escaped().ends_with("tool_use"))
    };
    Ok(!blocks(message)?.iter().any(is_call))
}
