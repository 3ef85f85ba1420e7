//! What a plan decides: the next attempt, or why there is none.

use std::fmt;

use crate::failure::FailureKind;
use crate::spec::DeploymentId;

/// Why an attempt is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AttemptKind {
    First,
    /// At the same deployment again.
    Retry,
    /// At another deployment.
    Fallback,
    /// At another deployment, while the first one still waits.
    Hedge,
    /// A shadow request, whose answer is discarded.
    Shadow,
}

impl AttemptKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Retry => "retry",
            Self::Fallback => "fallback",
            Self::Hedge => "hedge",
            Self::Shadow => "shadow",
        }
    }

    pub(crate) fn is_extra(self) -> bool {
        matches!(self, Self::Retry | Self::Fallback)
    }
}

/// One attempt to make.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Attempt {
    /// Position in the alias.
    pub target: u8,
    pub deployment: DeploymentId,
    pub kind: AttemptKind,
    /// Wait this long before sending.
    pub delay_us: u64,
    /// Probability of this choice, given the attempts before it.
    pub propensity: f32,
    /// Whether it decides if an ejected deployment comes back.
    pub probe: bool,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Next {
    Attempt(Attempt),
    /// Answer the client with the failure at hand.
    GiveUp(GiveUp),
}

/// Why there is no further attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GiveUp {
    /// No target may be used by this caller.
    AllDenied,
    /// The failure would be the same anywhere, or the retry policy excludes it.
    NotRetryable(FailureKind),
    /// The client already has part of the answer.
    AnswerBegun,
    AttemptsExhausted,
    /// Every other target was attempted already, is ejected, or is unsuitable.
    NoTargetLeft,
    /// Too many extra attempts have failed lately.
    RetryBudgetEmpty,
    /// The only target left asks for a longer wait than the retry policy allows.
    RetryAfterTooLong {
        us: u64,
    },
    Deadline,
}

impl GiveUp {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AllDenied => "all_denied",
            Self::NotRetryable(_) => "not_retryable",
            Self::AnswerBegun => "answer_begun",
            Self::AttemptsExhausted => "tries_exhausted",
            Self::NoTargetLeft => "nobody_left",
            Self::RetryBudgetEmpty => "retry_budget_empty",
            Self::RetryAfterTooLong { .. } => "retry_after_too_long",
            Self::Deadline => "deadline",
        }
    }
}

impl fmt::Display for GiveUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AllDenied => "none of its targets is allowed to this caller",
            Self::NotRetryable(_) => "the failure is not one to retry",
            Self::AnswerBegun => "the answer has begun",
            Self::AttemptsExhausted => "all attempts are used up",
            Self::NoTargetLeft => "no other target is available",
            Self::RetryBudgetEmpty => "the retry budget is used up",
            Self::RetryAfterTooLong { .. } => "the provider asks for too long a wait",
            Self::Deadline => "its deadline has passed",
        })
    }
}
