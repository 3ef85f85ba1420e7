//! A responses request for another model than the client wrote for: the client's bytes, edited where
//! the model takes something else.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::write_request::told_effort;
use crate::entries::{Mender, entries_of, text_in};
use crate::generations::Generation;
use crate::inspect::RequestFacts;
use crate::json::{self, Object, Path, Text, each, text_of, value_of};
use crate::neutral::{Effort, Feature, LossReport, Reasoning};
use crate::splice::Edit;
use crate::target::Target;

/// Whether a body has tools of free text, their calls, or results of those.
pub(crate) fn holds_free_text(body: &str) -> json::Result<bool> {
    static CUSTOM: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"custom"));
    if CUSTOM.find(body.as_bytes()).is_none() {
        return Ok(false);
    }
    let is_it = |raw: &str| {
        text_in(Some(raw), "type").is_some_and(|kind| {
            let kind = kind.as_escaped();
            matches!(
                kind,
                "custom" | "custom_tool_call" | "custom_tool_call_output"
            )
        })
    };
    let mut found = false;
    for entry in entries_of(body, body) {
        let raw = &body[entry.value];
        match entry.key {
            "tool_choice" => found |= is_it(raw),
            "tools" | "input" if raw.starts_with('[') => each(raw, &Path::ROOT, |raw, _| {
                found |= is_it(raw);
                Ok(())
            })?,
            _ => {}
        }
    }
    Ok(found)
}

/// What asks for the log probabilities of the answer.
const LOGPROBS: &str = "message.output_text.logprobs";

pub(crate) fn edits(
    body: &str,
    facts: &RequestFacts,
    target: &Target<'_>,
    report: &mut LossReport,
) -> json::Result<Vec<Edit>> {
    let generation = target.generation;
    let most = generation.output_tokens_max;
    let is_long = most.is_some() && facts.max_output_tokens > most;
    if !facts.has_wishes && !is_long {
        return Ok(Vec::new());
    }
    let mut mender = Mender::new(body);
    let limit = report.token_limit(facts.max_output_tokens, 0, most);
    mender.settle("max_output_tokens", facts.max_output_tokens, limit);
    let (reasons, takes_reasoning) = mend_reasoning(&mut mender, generation, report);
    let rules = generation.sampling;
    // OpenAI's reasoning models refuse log probabilities where they refuse penalties.
    let has_logprobs = !target.vendor.chat.is_openai || rules.penalties.holds(reasons);
    mend_include(&mut mender, takes_reasoning, has_logprobs, report)?;
    for (key, when, feature) in [
        ("temperature", rules.temperature, Feature::Temperature),
        ("top_p", rules.top_p, Feature::TopP),
    ] {
        let asked = mender.number(key);
        let taken = report.sampling(asked, when.holds(reasons), feature);
        mender.settle(key, asked, taken);
    }
    let can_force = generation.forced_tools.holds(reasons);
    if let Some(choice) = mender.get("tool_choice")
        && !report.tool_choice(is_forced(choice), can_force)
    {
        mender.replace(choice, r#""auto""#);
    }
    mend_text(&mut mender, generation, report);
    Ok(mender.finish(""))
}

/// Makes the effort the model's. Returns whether it reasons, and whether it can.
fn mend_reasoning(
    mender: &mut Mender<'_>,
    generation: &Generation,
    report: &mut LossReport,
) -> (bool, bool) {
    let rules = &generation.reasoning;
    let field = mender.get("reasoning");
    let word = text_in(field, "effort");
    let effort = word
        .as_ref()
        .and_then(|word| value_of(&Effort::WORDS, word));
    let reasoning = Reasoning {
        effort,
        ..Reasoning::default()
    };
    let asked = rules.fit(Some(&reasoning));
    let told = told_effort(&reasoning, &asked, rules, report);
    match (field, told) {
        (field, None) => {
            list_settings(field.unwrap_or_default(), report);
            mender.remove("reasoning");
        }
        (Some(field), Some(Some(told))) if effort.is_some_and(|effort| effort != told) => {
            mender.replace_inside(field, "effort", told.as_str());
        }
        (Some(_), Some(None)) if effort.is_some() => {
            mender.remove_inside("reasoning", &["effort"]);
        }
        _ => {}
    }
    (generation.reasons(&asked), told.is_some())
}

/// Lists what is left out with the reasoning. The effort is judged apart, and a summary is of nothing
/// where nothing is reasoned.
fn list_settings(reasoning: &str, report: &mut LossReport) {
    for entry in entries_of(reasoning, reasoning) {
        let says_nothing = &reasoning[entry.value] == "null";
        if !says_nothing && !matches!(entry.key, "effort" | "summary" | "generate_summary") {
            report.ignored(format!("reasoning.{}", entry.key));
        }
    }
}

/// Leaves out what a model refuses to add to its answer: encrypted reasoning if it has none, log
/// probabilities while it reasons.
fn mend_include(
    mender: &mut Mender<'_>,
    takes_reasoning: bool,
    has_logprobs: bool,
    report: &mut LossReport,
) -> json::Result<()> {
    if let Some(count) = mender.get("top_logprobs").filter(|_| !has_logprobs) {
        match count {
            "0" => report.ignored("top_logprobs"),
            _ => report.unsupported_field("top_logprobs"),
        }
        mender.remove("top_logprobs");
    }
    let Some(include) = mender.get("include").filter(|raw| raw.starts_with('[')) else {
        return Ok(());
    };
    let (mut elements, mut removed) = (Vec::new(), Vec::new());
    each(include, &Path::ROOT.key("include"), |raw, _| {
        let word = text_of(raw);
        let word = word.as_ref().map_or("", Text::as_escaped);
        let is_logprobs = !has_logprobs && word == LOGPROBS;
        if is_logprobs {
            report.unsupported_field(format!("include ({LOGPROBS})"));
        }
        elements.push(raw);
        removed.push(is_logprobs || !takes_reasoning && word == "reasoning.encrypted_content");
        Ok(())
    })?;
    mender.remove_elements(&elements, &removed);
    Ok(())
}

/// Whether a choice forces a call: of any tool, or of one by name.
fn is_forced(choice: &str) -> bool {
    text_of(choice).is_some_and(|word| word.is("required"))
        || text_in(Some(choice), "type").is_some_and(|kind| !kind.is("allowed_tools"))
}

fn mend_text(mender: &mut Mender<'_>, generation: &Generation, report: &mut LossReport) {
    let Some(text) = mender.get("text").filter(|raw| raw.starts_with('{')) else {
        return;
    };
    let mut unwanted = Vec::new();
    if text_in(Some(text), "verbosity")
        .is_some_and(|word| !generation.verbosity && !word.is("medium"))
    {
        report.approximated(Feature::Verbosity);
        unwanted.push("verbosity");
    }
    let format = Object::read(text, Path::ROOT)
        .ok()
        .and_then(|mut text| text.take("format"));
    if !generation.schemas && text_in(format, "type").is_some_and(|kind| kind.is("json_schema")) {
        report.unsupported(Feature::Format);
        unwanted.push("format");
    }
    mender.remove_inside("text", &unwanted);
}
