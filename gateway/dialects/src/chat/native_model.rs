//! What a model does not take of a chat request that passes otherwise unchanged.

use crate::generations::{AskedReasoning, Generation, ReasoningControl, SamplingRules, When};
use crate::inspect::RequestFacts;
use crate::json::{self, Path, each, text_of};
use crate::neutral::{Effort, Feature, LossReport, Reasoning, is_default};
use crate::vendors::ChatQuirks;

/// What becomes of an entry of the body.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct EntryFate {
    pub(super) is_removed: bool,
    pub(super) key: Option<&'static str>,
    pub(super) value: Option<String>,
}

impl EntryFate {
    fn removed() -> Self {
        Self {
            is_removed: true,
            ..Self::default()
        }
    }

    fn value(value: impl Into<String>) -> Self {
        Self {
            value: Some(value.into()),
            ..Self::default()
        }
    }
}

/// What the model of a request takes, beside what the request asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct ModelRules<'a> {
    pub(super) generation: &'a Generation,
    quirks: &'a ChatQuirks,
    /// Whether the model reasons.
    pub(super) reasons: bool,
    /// Whether it may only reason without the tools that are there.
    clashes: bool,
}

impl<'a> ModelRules<'a> {
    pub(super) fn new(
        generation: &'a Generation,
        quirks: &'a ChatQuirks,
        facts: &RequestFacts,
    ) -> Self {
        let asked = asked(generation, facts.reasoning_effort);
        let reasons = generation.reasons(&asked);
        Self {
            generation,
            quirks,
            reasons,
            clashes: facts.has_tools && !generation.chat_tools.holds(reasons),
        }
    }

    /// Whether a body may hold what the model does not take.
    pub(super) fn needs_edits(&self, facts: &RequestFacts) -> bool {
        let (generation, rules) = (self.generation, &self.generation.reasoning);
        let has_effort = |effort| {
            rules.control == ReasoningControl::Effort
                && rules.efforts.contains(effort)
                && effort <= self.quirks.effort_max
        };
        let most = generation.output_tokens_max;
        self.clashes
            || generation.sampling != SamplingRules::FREE
            || generation.forced_tools != When::Always
            || (facts.has_stop && generation.stop_max < usize::MAX)
            || !generation.old_token_limit
            || !generation.schemas
            || (facts.has_verbosity && !generation.verbosity)
            || facts.choices > Some(generation.choices_max)
            || most.is_some() && facts.max_output_tokens > most
            || facts
                .reasoning_effort
                .is_some_and(|effort| !has_effort(effort))
    }

    /// Another control than `reasoning_effort` that the client set itself.
    pub(super) fn hear(&mut self, key: &str, raw: &str) {
        let is_off = match key {
            "thinking" => raw.contains("disabled"),
            "enable_thinking" => raw == "false",
            _ => return,
        };
        self.reasons = !is_off;
    }

    /// The effort that the tools leave, if they leave none, or that the client set is none of the
    /// model's.
    pub(super) fn effort(&self, report: &mut LossReport) -> Option<Effort> {
        if !self.clashes {
            return None;
        }
        if self.generation.reasoning.efforts.contains(Effort::None) {
            return Some(Effort::None);
        }
        report.unsupported_field("tools");
        None
    }

    pub(super) fn fate(
        &self,
        key: &str,
        raw: &str,
        report: &mut LossReport,
    ) -> json::Result<EntryFate> {
        let rules = self.generation.sampling;
        Ok(match key {
            _ if raw == "null" => EntryFate::default(),
            "temperature" => {
                self.sampling(rules.temperature, raw, 1.0, Feature::Temperature, report)
            }
            "top_p" => self.sampling(rules.top_p, raw, 1.0, Feature::TopP, report),
            "top_k" => self.sampling(rules.top_k, raw, f64::NAN, Feature::TopK, report),
            "frequency_penalty" | "presence_penalty" => {
                self.sampling(rules.penalties, raw, 0.0, Feature::Penalties, report)
            }
            "logprobs" | "top_logprobs" | "logit_bias" if self.quirks.is_openai => {
                self.extra(key, raw, report)
            }
            "max_tokens" | "max_completion_tokens" => self.token_limit(key, raw, report),
            "stop" => self.stop(raw, report)?,
            "n" => self.choices(raw, report),
            "verbosity" if !self.generation.verbosity && raw != r#""medium""# => {
                report.approximated(Feature::Verbosity);
                EntryFate::removed()
            }
            "tool_choice" => self.tool_choice(raw, report),
            "tools" | "parallel_tool_calls" if self.clashes && !self.can_be_off() => {
                EntryFate::removed()
            }
            _ => EntryFate::default(),
        })
    }

    const fn can_be_off(&self) -> bool {
        self.generation.reasoning.efforts.contains(Effort::None)
    }

    /// Whether the model reasons, once the tools had their say.
    const fn reasons(&self) -> bool {
        self.reasons && !(self.clashes && self.can_be_off())
    }

    fn sampling(
        &self,
        when: When,
        raw: &str,
        default: f64,
        feature: Feature,
        report: &mut LossReport,
    ) -> EntryFate {
        if when.holds(self.reasons()) {
            return EntryFate::default();
        }
        let says_nothing = match raw.parse::<f64>() {
            Ok(value) if default == 0.0 => value == 0.0,
            Ok(value) => !default.is_nan() && is_default(value),
            Err(_) => false,
        };
        if says_nothing {
            report.approximated(feature);
        } else {
            report.unsupported(feature);
        }
        EntryFate::removed()
    }

    /// What OpenAI's reasoning models refuse beside sampling parameters.
    fn extra(&self, key: &str, raw: &str, report: &mut LossReport) -> EntryFate {
        if self.generation.sampling.penalties.holds(self.reasons()) {
            return EntryFate::default();
        }
        if super::read_request::is_default(key, raw) {
            report.ignored(key);
        } else {
            report.unsupported_field(key);
        }
        EntryFate::removed()
    }

    /// Reasoning models only know the newer name of the limit.
    fn token_limit(&self, key: &str, raw: &str, report: &mut LossReport) -> EntryFate {
        let most = self.generation.output_tokens_max;
        let asked = json::non_negative_integer(raw.as_bytes());
        let value = most.filter(|most| asked.is_some_and(|asked| asked > *most));
        if value.is_some() {
            report.approximated(Feature::TokenLimit);
        }
        let is_old = key == "max_tokens" && !self.generation.old_token_limit;
        EntryFate {
            key: is_old.then_some("max_completion_tokens"),
            value: value.map(|most| most.to_string()),
            is_removed: false,
        }
    }

    fn stop(&self, raw: &str, report: &mut LossReport) -> json::Result<EntryFate> {
        let most = self.generation.stop_max;
        let mut all = Vec::new();
        if raw.starts_with('[') {
            each(raw, &Path::ROOT.key("stop"), |raw, _| {
                all.push(raw);
                Ok(())
            })?;
        } else {
            all.push(raw);
        }
        if all.len() <= most {
            return Ok(EntryFate::default());
        }
        report.unsupported(Feature::Stop);
        if most == 0 {
            return Ok(EntryFate::removed());
        }
        Ok(EntryFate::value(format!("[{}]", all[..most].join(","))))
    }

    fn choices(&self, raw: &str, report: &mut LossReport) -> EntryFate {
        let asked = json::non_negative_integer(raw.as_bytes());
        if asked.is_none_or(|asked| asked <= self.generation.choices_max) {
            return EntryFate::default();
        }
        report.unsupported_field("n");
        EntryFate::removed()
    }

    fn tool_choice(&self, raw: &str, report: &mut LossReport) -> EntryFate {
        let is_forced =
            raw.starts_with('{') || text_of(raw).is_some_and(|word| word.is("required"));
        if self.clashes && !self.can_be_off() {
            return EntryFate::removed();
        }
        if !is_forced || self.generation.forced_tools.holds(self.reasons()) {
            return EntryFate::default();
        }
        report.unsupported(Feature::ToolChoice);
        EntryFate::value(r#""auto""#)
    }
}

fn asked(generation: &Generation, effort: Option<Effort>) -> AskedReasoning {
    let asked = Reasoning {
        effort,
        ..Reasoning::default()
    };
    generation.reasoning.fit(Some(&asked))
}
