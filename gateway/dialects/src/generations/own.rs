//! `[[model]]`: what the operator says of models that are newer than the build, or that are called
//! otherwise.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{BudgetRange, Efforts, Generation, Match, ReasoningOff, When};
use crate::neutral::Effort;

/// `[[model]]`: what a model takes that is newer than the build, or that has a name of its own, as
/// deployments at Azure have.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Name of the model as the provider knows it; `*` at either end stands for anything.
    pub name: String,
    /// A model that the build knows, and that this one is like. What is not set below is as there, or as of
    /// any model at the dialect.
    #[serde(default)]
    pub like: Option<String>,
    /// Name of the `[[provider]]`; every provider unless set.
    #[serde(default)]
    pub provider: Option<String>,
    /// Whether chat completions serve it; otherwise requests go to responses.
    #[serde(default)]
    pub chat: Option<bool>,
    /// When chat completions take function tools; otherwise requests go to responses.
    #[serde(default)]
    pub chat_tools: Option<When>,
    /// When it takes `temperature`.
    #[serde(default)]
    pub temperature: Option<When>,
    /// When it takes `top_p`.
    #[serde(default)]
    pub top_p: Option<When>,
    /// When it takes `top_k`.
    #[serde(default)]
    pub top_k: Option<When>,
    /// When it takes `frequency_penalty` and `presence_penalty`.
    #[serde(default)]
    pub penalties: Option<When>,
    /// Efforts of reasoning that it takes.
    #[serde(default)]
    pub efforts: Option<Vec<Effort>>,
    /// Least budget for reasoning, where the model takes budgets.
    #[serde(default)]
    pub budget_tokens_min: Option<u64>,
    /// Largest budget for reasoning.
    #[serde(default)]
    pub budget_tokens_max: Option<u64>,
    /// Whether its reasoning can be switched off.
    #[serde(default)]
    pub reasoning_can_be_off: Option<bool>,
    /// Whether it reasons if a request says nothing about it.
    #[serde(default)]
    pub reasons_by_default: Option<bool>,
    /// When `tool_choice` may force a call.
    #[serde(default)]
    pub forced_tools: Option<When>,
    /// Whether tools may be strict.
    #[serde(default)]
    pub strict_tools: Option<bool>,
    /// Whether the answer's format may be a JSON schema.
    #[serde(default)]
    pub json_schema: Option<bool>,
    /// Whether it continues an answer that the client began.
    #[serde(default)]
    pub prefill: Option<bool>,
    /// Longest name of a tool, in characters.
    #[serde(default)]
    pub tool_name_chars_max: Option<usize>,
    /// How many stop sequences it takes.
    #[serde(default)]
    pub stop_sequences_max: Option<usize>,
    /// How many answers it gives at once (`n`).
    #[serde(default)]
    pub answers_max: Option<u64>,
    /// Most tokens of an answer.
    #[serde(default)]
    pub output_tokens_max: Option<u64>,
    /// Tokens of prompt and answer together. What is not in a request itself (kept conversations, files,
    /// what searches find) is bounded by it.
    #[serde(default)]
    pub context_window_tokens: Option<u64>,
    /// Most tokens of an image.
    #[serde(default)]
    pub image_tokens_max: Option<u64>,
}

/// Which setting of a `[[model]]` is wrong, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrongModel {
    pub setting: &'static str,
    pub message: String,
}

impl WrongModel {
    fn new(setting: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { setting, message }
    }
}

impl ModelConfig {
    /// A model that is like another one in everything.
    #[must_use]
    pub fn new(name: impl Into<String>, like: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            like: Some(like.into()),
            ..Self::default()
        }
    }

    /// Whether it speaks of a model at a provider.
    #[must_use]
    pub fn is_for(&self, provider: &str, model: &str) -> bool {
        let is_its = self.provider.as_deref().is_none_or(|its| its == provider);
        is_its
            && match (self.name.strip_prefix('*'), self.name.strip_suffix('*')) {
                (Some(end), None) => model.ends_with(end),
                (None, Some(start)) => model.starts_with(start),
                (Some(end), Some(_)) => {
                    let middle = end.strip_suffix('*').unwrap_or_default();
                    model.contains(middle)
                }
                (None, None) => model == self.name,
            }
    }

    /// The model that it is like.
    fn like_name(&self) -> &str {
        self.like.as_deref().unwrap_or(&self.name)
    }

    /// What the model takes at a vendor with these rows.
    pub(crate) fn generation(
        &self,
        rows: &'static [Generation],
        dialect: &str,
    ) -> Result<Generation, WrongModel> {
        let mut own = *super::find(rows, self.like_name());
        if let Some(like) = &self.like
            && own.matches != Match::Known
        {
            return Err(WrongModel::new("like", unknown(like, rows, dialect)));
        }
        own.matches = Match::Known;
        self.change_limits(&mut own)?;
        self.change_reasoning(&mut own)?;
        Ok(own)
    }

    fn change_limits(&self, own: &mut Generation) -> Result<(), WrongModel> {
        let sampling = &mut own.sampling;
        for (rule, set) in [
            (&mut own.chat_tools, self.chat_tools),
            (&mut own.forced_tools, self.forced_tools),
            (&mut sampling.temperature, self.temperature),
            (&mut sampling.top_p, self.top_p),
            (&mut sampling.top_k, self.top_k),
            (&mut sampling.penalties, self.penalties),
        ] {
            *rule = set.unwrap_or(*rule);
        }
        for (rule, set) in [
            (&mut own.has_chat, self.chat),
            (&mut own.strict_tools, self.strict_tools),
            (&mut own.schemas, self.json_schema),
            (&mut own.prefill, self.prefill),
        ] {
            *rule = set.unwrap_or(*rule);
        }
        own.stop_max = self.stop_sequences_max.unwrap_or(own.stop_max);
        own.tool_name_chars_max = self.tool_name_chars_max.unwrap_or(own.tool_name_chars_max);
        own.choices_max = self.answers_max.unwrap_or(own.choices_max);
        own.output_tokens_max = self.output_tokens_max.or(own.output_tokens_max);
        own.context_tokens = self.context_window_tokens.or(own.context_tokens);
        own.image_tokens_max = self.image_tokens_max.or(own.image_tokens_max);
        for (setting, is_zero) in [
            ("tool_name_chars_max", own.tool_name_chars_max == 0),
            ("answers_max", own.choices_max == 0),
            ("output_tokens_max", own.output_tokens_max == Some(0)),
            ("context_window_tokens", own.context_tokens == Some(0)),
        ] {
            if is_zero {
                return Err(WrongModel::new(setting, "must be at least 1"));
            }
        }
        Ok(())
    }

    fn change_reasoning(&self, own: &mut Generation) -> Result<(), WrongModel> {
        let rules = &mut own.reasoning;
        if let Some(efforts) = &self.efforts {
            if rules.efforts.is_empty() {
                let message = format!(
                    "\"{}\" is not told an effort; leave it out",
                    self.like_name()
                );
                return Err(WrongModel::new("efforts", message));
            }
            rules.efforts = Efforts::of(efforts);
            if rules.efforts.is_empty() {
                return Err(WrongModel::new("efforts", "must hold at least one effort"));
            }
            let is_off = rules.efforts.contains(Effort::None);
            rules.off = if is_off {
                ReasoningOff::Switch
            } else {
                rules.off
            };
        }
        let (min, max) = (self.budget_tokens_min, self.budget_tokens_max);
        if min.or(max).is_some() {
            rules.budget = Some(self.budget(rules.budget)?);
        }
        rules.off = match self.reasoning_can_be_off {
            None => rules.off,
            Some(false) => ReasoningOff::Impossible,
            Some(true) if rules.off == ReasoningOff::Impossible => ReasoningOff::Switch,
            Some(true) => rules.off,
        };
        rules.unasked = self.reasons_by_default.unwrap_or(rules.unasked);
        Ok(())
    }

    fn budget(&self, like: Option<BudgetRange>) -> Result<BudgetRange, WrongModel> {
        let setting = match self.budget_tokens_max {
            Some(_) => "budget_tokens_max",
            None => "budget_tokens_min",
        };
        let Some(range) = like else {
            let message = format!(
                "\"{}\" is not told a budget; leave it out",
                self.like_name()
            );
            return Err(WrongModel::new(setting, message));
        };
        let (min, max) = (
            self.budget_tokens_min.unwrap_or(range.min),
            self.budget_tokens_max.unwrap_or(range.max),
        );
        if min > max {
            let message = format!("the range {min} to {max} holds no budget");
            return Err(WrongModel::new(setting, message));
        }
        Ok(BudgetRange { min, max })
    }
}

fn unknown(like: &str, rows: &[Generation], dialect: &str) -> String {
    let known = rows.iter();
    let known = known.filter(|row| row.matches == Match::Known);
    let names: Vec<&str> = known.map(Generation::name).take(4).collect();
    if names.is_empty() {
        return format!("no model is known at dialect \"{dialect}\", so none can be like one");
    }
    format!(
        "\"{like}\" is no model that this build knows at dialect \"{dialect}\"; it knows \"{}\" and \
         others",
        names.join("\", \"")
    )
}
