//! Whether a target may serve a request, and why not.

use crate::breaker::BreakerState;
use crate::deployment::RoutedDeployment;
use crate::facts::RoutingFacts;
use crate::health::StallObserver;
use crate::spec::BreakerSpec;

/// Whether a target is a candidate, and why not; in the order in which a last resort prefers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TargetStatus {
    Available,
    /// Half open, and this request may be the one that probes it.
    Probe,
    /// Half open, and another request is probing it.
    Probing,
    /// Ejected by its breaker.
    Ejected,
    /// The provider sent `Retry-After`, or refuses the key.
    ToldToWait,
    Throttled,
    /// The prompt does not fit its context window, by the estimate.
    TooSmall,
    Denied,
}

impl TargetStatus {
    pub(crate) const COUNT: usize = Self::Denied as usize + 1;
    const ALL: [Self; Self::COUNT] = [
        Self::Available,
        Self::Probe,
        Self::Probing,
        Self::Ejected,
        Self::ToldToWait,
        Self::Throttled,
        Self::TooSmall,
        Self::Denied,
    ];

    /// The name used in events.
    pub fn code(self) -> &'static str {
        match self {
            Self::Available => "available",
            Self::Probe => "probe",
            Self::Probing => "probing",
            Self::Ejected => "ejected",
            Self::ToldToWait => "told_to_wait",
            Self::Throttled => "over_limit",
            Self::TooSmall => "too_small",
            Self::Denied => "denied",
        }
    }

    /// The status of this [`code`](Self::code).
    pub fn of_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.code() == code)
    }

    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Available => "available",
            Self::Probe => "half open, due for a probe",
            Self::Probing => "half open, being probed by another request",
            Self::Ejected => "ejected",
            Self::ToldToWait => "told to wait",
            Self::Throttled => "throttled",
            Self::TooSmall => "context window too small for the prompt",
            Self::Denied => "denied to this caller",
        }
    }
}

/// Status of a target, and whether this check found it stalled. `ramp` becomes the share of its weight
/// while it comes back.
pub(crate) fn status(
    deployment: &RoutedDeployment,
    spec: &BreakerSpec,
    facts: &RoutingFacts,
    index: usize,
    now_us: u64,
    ramp: &mut f32,
) -> (TargetStatus, bool) {
    if facts.denied.contains(index) {
        return (TargetStatus::Denied, false);
    }
    let needed = u64::from(facts.input_tokens) + u64::from(facts.output_tokens_max.unwrap_or(0));
    if deployment
        .context_window_tokens
        .is_some_and(|window| needed > u64::from(window))
    {
        return (TargetStatus::TooSmall, false);
    }
    if facts.throttled.contains(index) {
        return (TargetStatus::Throttled, false);
    }
    let stalled = deployment
        .health
        .eject_if_stalled(spec, StallObserver::NewRequest, now_us)
        .is_some();
    let status = match deployment.breaker_state(spec, now_us) {
        BreakerState::Closed { ramp: share } => {
            *ramp = share;
            TargetStatus::Available
        }
        BreakerState::HalfOpen { probe_due: true } => TargetStatus::Probe,
        BreakerState::HalfOpen { probe_due: false } => TargetStatus::Probing,
        BreakerState::Open { cause, .. } if cause.was_told() => TargetStatus::ToldToWait,
        BreakerState::Open { .. } => TargetStatus::Ejected,
    };
    (status, stalled)
}
