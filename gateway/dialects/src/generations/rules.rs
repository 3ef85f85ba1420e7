//! The rules that a row is made of, and what they make of a client's wishes.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Efforts, Generation};
use crate::neutral::{Effort, Reasoning};

/// When a model takes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum When {
    Always,
    /// Only while it does not reason.
    WithoutReasoning,
    Never,
}

impl When {
    pub(crate) const fn holds(self, reasons: bool) -> bool {
        match self {
            Self::Always => true,
            Self::WithoutReasoning => !reasons,
            Self::Never => false,
        }
    }
}

/// The sampling parameters that a model takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SamplingRules {
    pub(crate) temperature: When,
    pub(crate) top_p: When,
    pub(crate) top_k: When,
    /// Penalties for frequency and presence.
    pub(crate) penalties: When,
    /// Whether temperature and `top_p` may stand together.
    pub(crate) together: bool,
}

impl SamplingRules {
    pub(crate) const FREE: Self = Self::all(When::Always);

    /// The same rule for all of them.
    pub(crate) const fn all(when: When) -> Self {
        Self {
            temperature: when,
            top_p: when,
            top_k: when,
            penalties: when,
            together: true,
        }
    }
}

/// How a model is told to reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReasoningRules {
    pub(crate) control: ReasoningControl,
    /// The efforts that it takes; with none of them, no amount can be told by effort.
    pub(crate) efforts: Efforts,
    /// The budgets that it takes, if it takes any.
    pub(crate) budget: Option<BudgetRange>,
    pub(crate) off: ReasoningOff,
    /// Whether it reasons if the request says nothing.
    pub(crate) unasked: bool,
    pub(crate) back: ReasoningReturn,
}

/// The field that controls reasoning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReasoningControl {
    /// None: the model does not reason, or nobody can say how much.
    None,
    /// `reasoning_effort` of chat, `reasoning.effort` of responses.
    Effort,
    /// `thinking: {type: enabled | disabled}`, and `reasoning_effort` if there are efforts.
    Thinking,
    /// `enable_thinking` and `thinking_budget`.
    EnableThinking,
    /// `chat_template_kwargs: {enable_thinking}`, which the model's template reads.
    ChatTemplate,
    /// `reasoning: {effort | max_tokens | enabled}`.
    OpenRouter,
    /// Anthropic's `thinking: {type: enabled, budget_tokens}`, Google's `thinkingBudget`.
    Budget,
    /// Anthropic's `thinking: {type: adaptive}` and `output_config.effort`.
    Adaptive,
    /// The same, or the budget that it replaces.
    AdaptiveOrBudget,
    /// Google's `thinkingLevel`.
    Level,
}

/// Budgets for reasoning, in tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BudgetRange {
    pub(crate) min: u64,
    pub(crate) max: u64,
}

/// How reasoning is switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReasoningOff {
    /// By its own field: `disabled`, `none`, `false` or a budget of 0.
    Switch,
    /// By Anthropic's `thinking: {type: between_tools}`.
    BetweenTools,
    /// Not at all; the least that it can do stands for it.
    Impossible,
}

/// What must come back with a call of a tool in the next request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReasoningReturn {
    Nothing,
    /// The reasoning's text, if only an empty one, while the model reasons.
    Text,
    /// The signature that came with it.
    Signature,
}

/// Whether the limit on an answer's tokens counts its reasoning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReasoningLimit {
    Inside,
    /// Chat's newer limit, `max_completion_tokens`, does; the older one does not.
    OutsideOldLimit,
    Outside,
}

/// Most tokens that a provider adds to a prompt by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Preamble {
    pub(crate) always: u64,
    /// Where there are tools, or a format is asked for.
    pub(crate) beside_tools: u64,
}

impl Preamble {
    pub(crate) const fn of(always: u64, beside_tools: u64) -> Self {
        Self {
            always,
            beside_tools,
        }
    }
}

/// A client's wishes as a model takes them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct AskedReasoning {
    /// On or off; `None` if the client says nothing.
    pub(crate) is_on: Option<bool>,
    /// The effort, of those that the model takes.
    pub(crate) effort: Option<Effort>,
    /// The budget, in the range that the model takes.
    pub(crate) budget_tokens: Option<u64>,
    /// Whether something else was asked for.
    pub(crate) is_bent: bool,
}

impl ReasoningRules {
    /// A model that does not reason.
    pub(crate) const NEVER: Self = Self {
        control: ReasoningControl::None,
        efforts: Efforts::NONE,
        budget: None,
        off: ReasoningOff::Switch,
        unasked: false,
        back: ReasoningReturn::Nothing,
    };

    /// Whether its control takes no amount, so that none can be bent.
    const fn is_silent(&self) -> bool {
        matches!(
            self.control,
            ReasoningControl::EnableThinking | ReasoningControl::OpenRouter
        )
    }

    /// What becomes of a client's wishes.
    pub(crate) fn fit(&self, asked: Option<&Reasoning>) -> AskedReasoning {
        let Some((asked, is_on)) = asked.and_then(|asked| Some((asked, asked.is_on()?))) else {
            return AskedReasoning::default();
        };
        if !is_on && self.off != ReasoningOff::Impossible {
            return AskedReasoning {
                is_on: Some(false),
                effort: Some(Effort::None),
                budget_tokens: Some(0),
                is_bent: false,
            };
        }
        if !is_on {
            return AskedReasoning {
                is_on: Some(true),
                effort: self.efforts.lowest(),
                budget_tokens: self.budget.map(|range| range.min),
                is_bent: true,
            };
        }
        let (effort, budget) = (asked.as_effort(), asked.as_budget());
        let near = match effort {
            _ if self.control == ReasoningControl::None => None,
            Some(effort) => self.efforts.nearest(effort),
            // What does not reason unasked must be told to.
            None if !self.unasked && self.efforts.contains(Effort::None) => {
                self.efforts.nearest(Effort::Medium)
            }
            None => None,
        };
        let within = budget.map(|tokens| match self.budget {
            Some(range) => tokens.clamp(range.min, range.max),
            None => tokens,
        });
        let is_bent = match self.budget {
            Some(_) => within != budget,
            None => effort.is_some() && near != effort && !self.is_silent(),
        };
        AskedReasoning {
            is_on: Some(true),
            effort: near,
            budget_tokens: within,
            is_bent,
        }
    }
}

impl Generation {
    /// Whether the chat API takes tools beside this effort.
    pub(crate) fn takes_chat_tools(&self, effort: Option<Effort>) -> bool {
        let asked = Reasoning {
            effort,
            ..Reasoning::default()
        };
        let asked = self.reasoning.fit(Some(&asked));
        self.chat_tools.holds(self.reasons(&asked))
    }

    /// Whether the model reasons if it is asked so.
    pub(crate) fn reasons(&self, asked: &AskedReasoning) -> bool {
        asked.is_on.unwrap_or(self.reasoning.unasked)
    }
}
