//! Targets of one alias: sets of them, and where each one stands.

use crate::TARGETS_MAX;
use crate::alias::Alias;
use crate::breaker::BreakerState;
use crate::health::Look;
use crate::plan::RequestFacts;
use crate::routes::View;

/// A set of targets of one alias, by position.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TargetSet(u32);

impl TargetSet {
    pub const EMPTY: Self = Self(0);

    pub fn insert(&mut self, index: usize) {
        self.0 |= bit(index);
    }

    pub fn remove(&mut self, index: usize) {
        self.0 &= !bit(index);
    }

    pub fn contains(self, index: usize) -> bool {
        self.0 & bit(index) != 0
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn len(self) -> usize {
        self.iter().count()
    }

    pub fn iter(self) -> impl Iterator<Item = usize> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let index = rest.trailing_zeros() as usize;
            rest &= rest.wrapping_sub(1);
            (index < TARGETS_MAX).then_some(index)
        })
    }
}

impl TargetSet {
    pub(crate) fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(crate) fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) fn or_if_empty(self, other: Self) -> Self {
        if self.is_empty() { other } else { self }
    }
}

impl FromIterator<usize> for TargetSet {
    fn from_iter<I: IntoIterator<Item = usize>>(indexes: I) -> Self {
        let mut set = Self::EMPTY;
        indexes.into_iter().for_each(|index| set.insert(index));
        set
    }
}

fn bit(index: usize) -> u32 {
    u32::try_from(index)
        .ok()
        .and_then(|i| 1_u32.checked_shl(i))
        .unwrap_or(0)
}

pub(crate) fn position(index: usize) -> u8 {
    u8::try_from(index).unwrap_or(u8::MAX)
}

pub(crate) fn lowest_rank(alias: &Alias, set: TargetSet) -> Option<u8> {
    set.iter().map(|i| alias.targets[i].rank).min()
}

pub(crate) fn of_rank(alias: &Alias, set: TargetSet, rank: u8) -> TargetSet {
    set.iter()
        .filter(|i| alias.targets[*i].rank == rank)
        .collect()
}

/// Why a target is, or is not, among the candidates. In the order in which a last resort prefers
/// them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    Available,
    /// Half open, and this request may be the one that probes it.
    Probe,
    /// Half open, and another request is probing it.
    Probing,
    /// Ejected by its breaker.
    Ejected,
    /// The provider said when to come back.
    ToldToWait,
    OverLimit,
    /// The prompt does not fit its context window, by the estimate.
    TooSmall,
    Denied,
}

impl Standing {
    pub(crate) const COUNT: usize = Self::Denied as usize + 1;
}

/// Where a target stands, and whether this look found it stalled. `ramp` becomes the share of its
/// weight that it may have while it comes back.
pub(crate) fn standing(
    view: View<'_>,
    alias: &Alias,
    facts: &RequestFacts,
    index: usize,
    now_us: u64,
    ramp: &mut f32,
) -> (Standing, bool) {
    let deployment = view.routes.deployment(alias.targets[index].deployment);
    if facts.denied.contains(index) {
        return (Standing::Denied, false);
    }
    let needed = u64::from(facts.input_tokens) + u64::from(facts.output_tokens_max.unwrap_or(0));
    if deployment
        .context_window_tokens
        .is_some_and(|window| needed > u64::from(window))
    {
        return (Standing::TooSmall, false);
    }
    if facts.over_limit.contains(index) {
        return (Standing::OverLimit, false);
    }
    let spec = &view.routes.breaker;
    let stalled = deployment
        .health
        .eject_if_stalled(spec, Look::OfANewcomer, now_us)
        .is_some();
    let standing = match deployment.breaker_state(spec, now_us) {
        BreakerState::Closed { ramp: share } => {
            *ramp = share;
            Standing::Available
        }
        BreakerState::HalfOpen { probe_due: true } => Standing::Probe,
        BreakerState::HalfOpen { probe_due: false } => Standing::Probing,
        BreakerState::Open { cause, .. } if cause.was_told() => Standing::ToldToWait,
        BreakerState::Open { .. } => Standing::Ejected,
    };
    (standing, stalled)
}
