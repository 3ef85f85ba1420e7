//! Scores the targets of one rank, and turns scores into probabilities.
//!
//! A strategy never draws; it says with which probability each target should be chosen, exactly.
//! One draw then picks. So the propensities in the event are those that decided: no strategy can
//! differ from what it reports.

use crate::alias::Alias;
use crate::approx::{exp, ln};
use crate::measure::{Column, Members, normalise};
use crate::random::{mix, unit};
use crate::spec::{ObjectiveSpec, StrategySpec};
use crate::target_set::{TARGETS_MAX, TargetSet};
use crate::view::Choice;

/// Scores (lower is better) and probabilities, by the target's position.
#[derive(Default)]
pub(crate) struct TargetScores {
    pub(crate) score: Column,
    pub(crate) propensity: Column,
}

/// How sharply shares fall with cost. A share is exp(-16 ln(cost ratio)): a tenth dearer is a fifth as
/// likely (1.1^-16 = 0.22), and twice as dear is left to exploration (2^-16).
const SHARPNESS: f32 = 16.0;

impl Choice<'_> {
    /// Weighs the targets of `set`, which are all of one rank. Their probabilities sum to 1.
    pub(crate) fn weigh(&self, set: TargetSet, ramp: &Column, scores: &mut TargetScores) {
        if set.is_empty() {
            return;
        }
        let alias = self.at.alias;
        let mut members = Members::gather(self, set, ramp);
        let mut score = if let StrategySpec::Weighted { .. } = alias.strategy {
            [f32::NAN; TARGETS_MAX]
        } else {
            members.expect_latency(self);
            members.latency_ms
        };
        let mut chance = [0.0; TARGETS_MAX];
        match &alias.strategy {
            StrategySpec::Weighted { .. } => chance = members.weight,
            StrategySpec::Chain => two_choices(&members, &mut chance),
            StrategySpec::Latency { prefix_affinity } => match self.facts.prefix {
                Some(prefix) if *prefix_affinity => {
                    self.home_or_other(&members, set, prefix, &mut chance);
                }
                _ => two_choices(&members, &mut chance),
            },
            StrategySpec::Cost => {
                let weights = ObjectiveSpec::Weights {
                    cost: 0.8,
                    latency: 0.2,
                    errors: 0.0,
                };
                self.trade_off(&members, &weights, &mut score, &mut chance);
            }
            StrategySpec::Objective(objective) => {
                self.trade_off(&members, objective, &mut score, &mut chance);
            }
        }
        self.explore(&mut chance[..members.len]);
        for i in 0..members.len {
            let target = usize::from(members.target[i]);
            scores.score[target] = score[i];
            scores.propensity[target] = chance[i];
        }
    }

    fn explore(&self, chance: &mut [f32]) {
        let alias = self.at.alias;
        if !alias.strategy.is_adaptive() {
            return;
        }
        let share = alias.exploration;
        let each = share / chance.len() as f32;
        chance
            .iter_mut()
            .for_each(|c| *c = *c * (1.0 - share) + each);
    }

    /// Two choices of which the first is the prompt prefix's home: another target, drawn by weight,
    /// must be clearly faster to be worth reading the whole prompt again.
    fn home_or_other(&self, members: &Members, set: TargetSet, prefix: u64, chance: &mut Column) {
        const CLEARLY: f32 = 0.6;
        let mut weights = [0.0; TARGETS_MAX];
        for i in 0..members.len {
            weights[usize::from(members.target[i])] = members.weight[i];
        }
        let home = rendezvous(self.at.alias, set, &weights, prefix);
        let is_home = |i: usize| Some(usize::from(members.target[i])) == home;
        let Some(home) = (0..members.len).find(|i| is_home(*i)) else {
            return;
        };
        let others = 1.0 - members.weight[home];
        let mut stays = 1.0;
        for i in (0..members.len).filter(|i| *i != home) {
            if members.latency_ms[i] < CLEARLY * members.latency_ms[home] {
                chance[i] = members.weight[i] / others;
                stays -= chance[i];
            }
        }
        chance[home] = stays.max(0.0);
        normalise(&mut chance[..members.len]);
    }

    /// The share of each target is its weight times exp(best score - its score), so a small
    /// difference moves a small share: many gateways with the same table do not all jump to the same
    /// target, as they would to the best one.
    fn trade_off(
        &self,
        members: &Members,
        objective: &ObjectiveSpec,
        score: &mut Column,
        chance: &mut Column,
    ) {
        *score = match *objective {
            ObjectiveSpec::Weights {
                cost,
                latency,
                errors,
            } => self.score_by_weights(members, cost, latency, errors),
            ObjectiveSpec::Limits { error_ratio, .. } => self.score_by_limits(members, error_ratio),
        };
        let n = members.len;
        let best = least(&score[..n]);
        let mut weight = [0.0; TARGETS_MAX];
        for i in 0..n {
            weight[i] = members.weight[i] * exp(best - score[i]);
        }
        normalise(&mut weight[..n]);
        spread_equals(
            &weight[..n],
            &score[..n],
            &members.latency_ms[..n],
            &mut chance[..n],
        );
    }

    // With c, l, e the objective's weights, S = SHARPNESS, and `least` over the targets compared:
    //
    //   score = S·c/(c+l+e)          · ln(cost / least cost)
    //         + max(S·l/(c+l+e), 1)  · ln(ttft / least ttft)
    //         + S·e/(c+l+e)          · 10 · error ratio
    //
    // Latency counts at least once: targets at one price would else be drawn by weight alone.
    fn score_by_weights(&self, members: &Members, cost: f32, latency: f32, errors: f32) -> Column {
        let n = members.len;
        let unit = SHARPNESS / (cost + latency + errors);
        let by_cost = unit * cost;
        let by_latency = (unit * latency).max(1.0);
        let by_errors = unit * errors * ERRORS_WEIGHT;
        let paid = members.cost_picousd(self);
        let dearer = ratios(&paid, n);
        let slower = ratios(&members.ttft_ms, n);
        let failing = if errors > 0.0 {
            members.error_ratio(self, &members.recent(self))
        } else {
            [0.0; TARGETS_MAX]
        };
        let mut score = [0.0; TARGETS_MAX];
        for i in 0..n {
            score[i] = by_cost * dearer[i] + by_latency * slower[i] + by_errors * failing[i];
        }
        score
    }

    // With S = SHARPNESS, and `least cost` over the targets that keep both limits:
    //
    //   score = penalty(latency limit used) + penalty(error ratio / its limit)
    //         + S · ln(max(cost / least cost, 1))
    //         + ln(ttft / least ttft)
    //
    // A target below the least cost gains nothing by it. Where none keeps the limits, cost does not
    // count.
    fn score_by_limits(&self, members: &Members, error_ratio_max: f32) -> Column {
        let n = members.len;
        let paid = members.cost_picousd(self);
        let slower = ratios(&members.ttft_ms, n);
        let recent = members.recent(self);
        let failing = members.error_ratio(self, &recent);
        let used = members.latency_limit_used(self, &recent);
        let mut over = [0.0; TARGETS_MAX];
        let scale = 1.0 / error_ratio_max;
        for i in 0..n {
            over[i] = limit_penalty(used[i]) + limit_penalty(failing[i] * scale);
        }
        let kept = (0..n).filter(|i| over[*i] < AT_LIMIT).map(|i| paid[i]);
        // None: 1 / infinity is 0, and nothing is dearer than anything.
        let scale = 1.0 / kept.fold(f32::INFINITY, f32::min);
        let mut score = [0.0; TARGETS_MAX];
        for i in 0..n {
            let dearer = (paid[i] * scale).max(1.0);
            score[i] = over[i] + SHARPNESS * ln(dearer) + slower[i];
        }
        score
    }
}

/// Two draws by weight; if they score about the same, the less loaded one of the two, otherwise
/// the first. So several keys of the cheapest model share its load as well as it can be shared.
fn spread_equals(weight: &[f32], score: &[f32], latency: &[f32], chance: &mut [f32]) {
    const ABOUT: f32 = 0.5;
    for ((weight_j, score_j), latency_j) in weight.iter().zip(score).zip(latency) {
        for ((chance_i, score_i), latency_i) in chance.iter_mut().zip(score).zip(latency) {
            let alike = one_if((score_i - score_j).abs() < ABOUT);
            let first = one_if(latency_i < latency_j) - one_if(latency_i > latency_j);
            *chance_i += weight_j * (1.0 + alike * first);
        }
    }
    for (chance, weight) in chance.iter_mut().zip(weight) {
        *chance *= weight;
    }
    normalise(chance);
}

/// With equal weights, one percent of errors weighs as much as ten percent of cost.
const ERRORS_WEIGHT: f32 = 10.0;
/// Penalty of a target that has reached a limit: exp(-8), a share of one in three thousand.
const AT_LIMIT: f32 = 8.0;

/// Nothing up to four fifths of a limit, then rising to [`AT_LIMIT`] at the limit and further: the
/// share shrinks while the limit comes near, instead of breaking off when it is passed.
fn limit_penalty(used: f32) -> f32 {
    const NEAR: f32 = 0.8;
    (AT_LIMIT * (used - NEAR) / (1.0 - NEAR)).max(0.0)
}

fn least(values: &[f32]) -> f32 {
    values.iter().copied().fold(f32::INFINITY, f32::min)
}

/// How many times worse than the best, as logarithms.
fn ratios(values: &Column, n: usize) -> Column {
    let scale = 1.0 / least(&values[..n]);
    let mut ratios = [0.0; TARGETS_MAX];
    for (ratio, value) in ratios.iter_mut().zip(&values[..n]) {
        *ratio = ln(value * scale);
    }
    ratios
}

/// Power of two choices: draw one target by weight, then another one by weight, and take the
/// second only if its expected latency is lower. This says with which probability each comes out.
fn two_choices(members: &Members, chance: &mut Column) {
    let n = members.len;
    let (weight, latency, chance) = (
        &members.weight[..n],
        &members.latency_ms[..n],
        &mut chance[..n],
    );
    if let Some(only) = weight.iter().position(|w| *w >= 1.0) {
        chance[only] = 1.0;
        return;
    }
    // Of the members that each one beats: as the first of the two (a tie goes to the first), and
    // as the second. Column by column instead of one sum per member, for these loops then run in
    // vector registers.
    let mut as_first = [0.0; TARGETS_MAX];
    let mut as_second = [0.0; TARGETS_MAX];
    let (as_first, as_second) = (&mut as_first[..n], &mut as_second[..n]);
    for (weight_j, latency_j) in weight.iter().zip(latency) {
        // Drawn first, and then something of the others' weight.
        let then_other = weight_j / (1.0 - weight_j);
        for (as_first, latency_i) in as_first.iter_mut().zip(latency) {
            *as_first += weight_j * one_if(latency_j >= latency_i);
        }
        for (as_second, latency_i) in as_second.iter_mut().zip(latency) {
            *as_second += then_other * one_if(latency_j > latency_i);
        }
    }
    for i in 0..n {
        // Its own weight is among those it beats as first, but it is not drawn twice.
        let first = weight[i] / (1.0 - weight[i]) * (as_first[i] - weight[i]);
        chance[i] = first + weight[i] * as_second[i];
    }
    normalise(chance);
}

fn one_if(condition: bool) -> f32 {
    if condition { 1.0 } else { 0.0 }
}

/// Draws a target of `set` by probability; the last one with any if rounding leaves a rest.
pub(crate) fn draw(set: TargetSet, propensity: &Column, unit: f32) -> Option<usize> {
    let mut rest = unit * set.iter().map(|i| propensity[i]).sum::<f32>();
    let mut last = None;
    for index in set.iter().filter(|i| propensity[*i] > 0.0) {
        last = Some(index);
        rest -= propensity[index];
        if rest < 0.0 {
            break;
        }
    }
    last
}

/// Weighted rendezvous: the target on which this key's exponential race is won. Each key always
/// comes out at the same target, over all keys each target wins its weight's share, and when one
/// goes only its own keys move.
pub(crate) fn rendezvous(
    alias: &Alias,
    set: TargetSet,
    propensity: &Column,
    key: u64,
) -> Option<usize> {
    let time = |index: usize| {
        let even = unit(mix(key ^ alias.targets[index].name_hash));
        -(1.0 - even).ln() / propensity[index]
    };
    set.iter()
        .filter(|index| propensity[*index] > 0.0)
        .min_by(|a, b| time(*a).total_cmp(&time(*b)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SeededRng;

    fn members(rng: &mut SeededRng, len: usize) -> Members {
        let mut members = Members {
            len,
            ..Members::default()
        };
        for i in 0..len {
            members.weight[i] = rng.unit() + 0.01;
            // Few values, so that ties occur.
            members.latency_ms[i] = (rng.unit() * 5.0).floor() + 1.0;
        }
        normalise(&mut members.weight[..len]);
        members
    }

    fn pick(rng: &mut SeededRng, weight: &[f32], without: Option<usize>) -> usize {
        let set = (0..weight.len()).filter(|i| Some(*i) != without).collect();
        let mut column = [0.0; TARGETS_MAX];
        column[..weight.len()].copy_from_slice(weight);
        draw(set, &column, rng.unit()).unwrap()
    }

    /// Plays a procedure many times and compares how often each member comes out.
    fn check(chance: &[f32], mut play: impl FnMut() -> usize) {
        const PLAYS: u32 = 40_000;
        let mut counts = vec![0_u32; chance.len()];
        for _ in 0..PLAYS {
            counts[play()] += 1;
        }
        assert!((chance.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        for (count, chance) in counts.iter().zip(chance) {
            let expected = chance * PLAYS as f32;
            let deviation = (expected * (1.0 - chance)).sqrt().max(1.0);
            let off = (*count as f32 - expected).abs() / deviation;
            assert!(off < 5.0, "{counts:?} played for {chance:?}");
        }
    }

    #[test]
    fn two_choices_come_out_as_if_they_were_drawn() {
        let mut rng = SeededRng::new(1);
        for len in [2, 3, 5, 16] {
            let members = members(&mut rng, len);
            let mut chance = [0.0; TARGETS_MAX];
            two_choices(&members, &mut chance);
            let weight = &members.weight[..len];
            check(&chance[..len], || {
                let first = pick(&mut rng, weight, None);
                let second = pick(&mut rng, weight, Some(first));
                let better = members.latency_ms[second] < members.latency_ms[first];
                if better { second } else { first }
            });
        }
    }

    #[test]
    fn equals_share_load_as_if_two_were_drawn() {
        let mut rng = SeededRng::new(2);
        for len in [1, 2, 5, 16] {
            let members = members(&mut rng, len);
            let score: Vec<f32> = (0..len).map(|_| rng.unit() * 3.0).collect();
            let (weight, latency) = (&members.weight[..len], &members.latency_ms[..len]);
            let mut chance = vec![0.0; len];
            spread_equals(weight, &score, latency, &mut chance);
            check(&chance, || {
                let first = pick(&mut rng, weight, None);
                let second = pick(&mut rng, weight, None);
                let alike = (score[first] - score[second]).abs() < 0.5;
                if alike && latency[second] < latency[first] {
                    second
                } else {
                    first
                }
            });
        }
    }

    #[test]
    fn the_worst_of_two_choices_is_never_chosen_and_a_lone_target_always() {
        let mut worst = Members {
            len: 3,
            ..Members::default()
        };
        worst.weight[..3].copy_from_slice(&[0.2, 0.5, 0.3]);
        worst.latency_ms[..3].copy_from_slice(&[1.0, 9.0, 2.0]);
        let mut chance = [0.0; TARGETS_MAX];
        two_choices(&worst, &mut chance);
        assert!(chance[1].abs() < 1e-6);

        let mut lone = Members {
            len: 2,
            ..Members::default()
        };
        lone.weight[1] = 1.0;
        let mut chance = [0.0; TARGETS_MAX];
        two_choices(&lone, &mut chance);
        assert!((chance[1] - 1.0).abs() < 1e-6);
    }
}
