//! What is known about each member of a rank, side by side: the numbers that strategies compare.

use weir_schemas::table::size;

use crate::deployment::RoutedDeployment;
use crate::health::LatencyEstimate;
use crate::priors::TargetPrior;
use crate::target_set::{TARGETS_MAX, TargetSet, position};
use crate::view::{AliasView, Choice};

/// One number per member.
pub(crate) type Column = [f32; TARGETS_MAX];

/// The targets among which a choice is made.
#[derive(Default)]
pub(crate) struct Members {
    pub(crate) len: usize,
    /// Position in the alias.
    pub(crate) target: [u8; TARGETS_MAX],
    /// Shares of the configured weights, as the table and a slow start change them. Sum to 1.
    pub(crate) weight: Column,
    /// Expected milliseconds to the first token, given failures …
    pub(crate) ttft_ms: Column,
    /// … and given load too.
    pub(crate) latency_ms: Column,
}

/// Attempts and failures of about the last minute, by member.
#[derive(Default)]
pub(crate) struct RecentCounts {
    attempts: Column,
    failures: Column,
}

/// Latency assumed of deployments when none of them was ever measured.
const NEUTRAL_TTFT_US: f32 = 500_000.0;

impl Members {
    pub(crate) fn gather(choice: &Choice<'_>, set: TargetSet, ramp: &Column) -> Self {
        let (alias, priors) = (choice.at.alias, choice.priors);
        let mut members = Self::default();
        for index in set.iter() {
            let i = members.len;
            let factor = match (alias.strategy.is_adaptive(), priors.target(index).weight) {
                (true, Some(weight)) => 1.0 + (weight - 1.0) * priors.belief,
                _ => 1.0,
            };
            members.target[i] = position(index);
            members.weight[i] = alias.targets[index].weight * ramp[index] * factor;
            members.len += 1;
        }
        normalise(&mut members.weight[..members.len]);
        members
    }

    fn deployment<'a>(&self, at: AliasView<'a>, i: usize) -> &'a RoutedDeployment {
        at.deployment(usize::from(self.target[i]))
    }

    /// Time to first token, times the load, over the fourth power of the success ratio. A target
    /// that fails one attempt in ten counts as half again as slow, one that fails every other as
    /// sixteen times as slow: an error costs the caller far more than its own (short) time, so a
    /// fast refusal never looks like a fast answer.
    pub(crate) fn expect_latency(&mut self, choice: &Choice<'_>) {
        let at = choice.at;
        let now_us = at.now_us;
        let mut seen = [LatencyEstimate::default(); TARGETS_MAX];
        for (i, seen) in seen.iter_mut().enumerate().take(self.len) {
            let health = &self.deployment(at, i).health;
            *seen = health.ttft(now_us);
            let fair_share = self.weight[i] * self.len as f32;
            let load = health.in_flight() as f32 / fair_share.max(0.01);
            let success = health.success_ratio(now_us).max(0.05);
            let squared = success * success;
            self.ttft_ms[i] = 1.0 / (squared * squared);
            self.latency_ms[i] = 1.0 + load;
        }
        self.blend(choice, &mut seen, |prior| prior.ttft_us);
        for (i, seen) in seen.iter().enumerate().take(self.len) {
            self.ttft_ms[i] *= seen.us / 1_000.0;
            self.latency_ms[i] *= self.ttft_ms[i];
        }
    }

    /// Replaces each estimate by a blend: what this process saw, weighted by its freshness; for the
    /// rest the table's value; for the rest the mean of the others. So an unknown target is neither
    /// shunned nor flooded, and one that was slow long ago gets requests again.
    fn blend(
        &self,
        choice: &Choice<'_>,
        seen: &mut [LatencyEstimate; TARGETS_MAX],
        prior: impl Fn(TargetPrior) -> Option<f32>,
    ) {
        let priors = choice.priors;
        let mut table = [LatencyEstimate::default(); TARGETS_MAX];
        if priors.belief > 0.0 {
            for (i, table) in table.iter_mut().enumerate().take(self.len) {
                if let Some(us) = prior(priors.target(usize::from(self.target[i]))) {
                    *table = LatencyEstimate {
                        us,
                        belief: priors.belief,
                    };
                }
            }
        }
        let (mut sum, mut beliefs) = (0.0, 0.0);
        for i in 0..self.len {
            let known = seen[i].over(table[i]);
            sum += known.us * known.belief;
            beliefs += known.belief;
            seen[i] = known;
        }
        let neutral = if beliefs > 0.0 {
            sum / beliefs
        } else {
            NEUTRAL_TTFT_US
        };
        for known in &mut seen[..self.len] {
            known.us = neutral + (known.us - neutral) * known.belief;
        }
    }

    /// 95th percentile of the time to first token of a request of this size, in milliseconds.
    fn ttft_p95_ms(&self, choice: &Choice<'_>) -> Column {
        let at = choice.at;
        let mut seen = [LatencyEstimate::default(); TARGETS_MAX];
        for (i, seen) in seen.iter_mut().enumerate().take(self.len) {
            let deployment = self.deployment(at, i);
            *seen = deployment.health.ttft_p95(at.now_us);
        }
        self.blend(choice, &mut seen, |prior| prior.ttft_p95_us);
        let factor = size::factor(choice.facts.input_tokens, 0) / 1_000.0;
        seen.map(|seen| seen.us * factor)
    }

    /// How far a target is from breaking its latency limit: 0 far, 1 at it. By calls in flight
    /// where its window says how many it takes; by what is known of its latency where its load has
    /// nothing to do with it, because there is hardly any.
    pub(crate) fn latency_limit_used(&self, choice: &Choice<'_>, recent: &RecentCounts) -> Column {
        let at = choice.at;
        let alias = at.alias;
        let p95 = self.ttft_p95_ms(choice);
        let limit_ms = alias.strategy.ttft_ms_max().unwrap_or(u32::MAX) as f32;
        let mut used = [0.0; TARGETS_MAX];
        for (i, used) in used.iter_mut().enumerate().take(self.len) {
            let index = usize::from(self.target[i]);
            let health = &at.deployment(index).health;
            let window = alias
                .windows
                .as_ref()
                .and_then(|w| w.get(index)?.limit(at.now_us));
            let by_load = match window {
                Some(calls) => 1.0 - 1.0 / calls,
                None => (recent.attempts[i] / ATTEMPTS_KNOWN).min(1.0),
            };
            let in_flight = (health.in_flight() as f32 + 1.0) / window.unwrap_or(f32::INFINITY);
            *used = in_flight.min(2.0) * by_load + p95[i] / limit_ms * (1.0 - by_load);
        }
        used
    }

    pub(crate) fn recent(&self, choice: &Choice<'_>) -> RecentCounts {
        let at = choice.at;
        let mut recent = RecentCounts::default();
        for i in 0..self.len {
            let health = &self.deployment(at, i).health;
            (recent.attempts[i], recent.failures[i]) = health.recent(at.now_us);
        }
        recent
    }

    /// Share of attempts that fail. The table's value counts as so many attempts of this process, so
    /// that one failure on a quiet gateway does not break a limit of one percent.
    pub(crate) fn error_ratio(&self, choice: &Choice<'_>, recent: &RecentCounts) -> Column {
        const ASSUMED_ATTEMPTS: f32 = 200.0;
        let priors = choice.priors;
        let mut ratios = [0.0; TARGETS_MAX];
        for (i, ratio) in ratios.iter_mut().enumerate().take(self.len) {
            let prior = priors.target(usize::from(self.target[i]));
            let assumed = prior.error_ratio.unwrap_or(0.0) * priors.belief;
            *ratio = (recent.failures[i] + assumed * ASSUMED_ATTEMPTS)
                / (recent.attempts[i] + ASSUMED_ATTEMPTS);
        }
        ratios
    }

    /// Expected cost of this request in picodollars. Measured cost goes before the price
    /// list; a target without either counts as the dearest: unpriced is never free.
    pub(crate) fn cost_picousd(&self, choice: &Choice<'_>) -> Column {
        let (at, priors) = (choice.at, choice.priors);
        let input = choice.facts.input_tokens as f32;
        let output_tokens = expected_output(choice);
        let mut costs = [0.0; TARGETS_MAX];
        let mut dearest: f32 = 0.0;
        for (i, cost) in costs.iter_mut().enumerate().take(self.len) {
            let index = usize::from(self.target[i]);
            let paid = priors.target(index).picousd_per_token;
            *cost = match (paid, at.deployment(index).price) {
                (Some(paid), _) => paid * (input + size::PRICED_PER_OUTPUT_TOKEN * output_tokens),
                (None, Some(price)) => {
                    input * price.input_picousd as f32 + output_tokens * price.output_picousd as f32
                }
                (None, None) => 0.0,
            };
            dearest = dearest.max(*cost);
        }
        for cost in &mut costs[..self.len] {
            if *cost <= 0.0 {
                *cost = dearest.max(1.0);
            }
        }
        costs
    }
}

/// Attempts without a late answer after which a target's latency is no argument against it.
const ATTEMPTS_KNOWN: f32 = 50.0;

impl LatencyEstimate {
    /// This estimate, and for the part that is no longer trusted the other.
    fn over(self, there: Self) -> Self {
        let rest = (1.0 - self.belief) * there.belief;
        if rest <= 0.0 {
            return self;
        }
        let belief = self.belief + rest;
        Self {
            us: (self.us * self.belief + there.us * rest) / belief,
            belief,
        }
    }
}

/// Size of the answer: the alias's mean, but no more than the client allows.
fn expected_output(choice: &Choice<'_>) -> f32 {
    const USUAL: f32 = 250.0;
    let mean = choice.priors.output_tokens_mean().unwrap_or(USUAL);
    let most = choice.facts.output_tokens_max;
    most.map_or(mean, |most| mean.min(most as f32))
}

/// Makes numbers sum to 1; equal ones if all are 0.
pub(crate) fn normalise(values: &mut [f32]) {
    let sum: f32 = values.iter().sum();
    if sum > 0.0 {
        let scale = 1.0 / sum;
        values.iter_mut().for_each(|value| *value *= scale);
    } else {
        values.fill(1.0 / values.len() as f32);
    }
}
