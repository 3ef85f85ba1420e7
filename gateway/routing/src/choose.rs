//! Scores and probabilities: how much each target is wanted.
//!
//! A strategy never draws; it says with which probability each target should be chosen, exactly.
//! One draw then picks. So the propensities in the event are the ones that decided, and no strategy
//! can differ from what it reports.

use crate::TARGETS_MAX;
use crate::alias::{Alias, Strategy};
use crate::plan::{TargetSet, position};
use crate::random::{mix, unit};
use crate::routes::View;

/// Scores (lower is better) and probabilities per target.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) score: [f32; TARGETS_MAX],
    pub(crate) propensity: [f32; TARGETS_MAX],
}

impl Wanted {
    pub(crate) fn none() -> Self {
        Self {
            score: [0.0; TARGETS_MAX],
            propensity: [0.0; TARGETS_MAX],
        }
    }
}

/// The members of one rank, gathered: position, weight and score side by side.
struct Members {
    len: usize,
    target: [u8; TARGETS_MAX],
    weight: [f32; TARGETS_MAX],
    score: [f32; TARGETS_MAX],
}

/// Weighs the targets of `set`, which are all of one rank. Probabilities sum to 1 if it has any.
pub(crate) fn weigh(
    view: View<'_>,
    alias: &Alias,
    set: TargetSet,
    ramp: &[f32; TARGETS_MAX],
    now_us: u64,
    wanted: &mut Wanted,
) {
    let mut members = gather(view, alias, set, ramp, now_us);
    if members.len == 0 {
        return;
    }
    normalise(&mut members.weight[..members.len]);
    let mut chance = [0.0; TARGETS_MAX];
    match alias.strategy {
        Strategy::Weighted { .. } => chance = members.weight,
        _ => two_choices(&members, &mut chance),
    }
    for i in 0..members.len {
        let target = usize::from(members.target[i]);
        wanted.score[target] = members.score[i];
        wanted.propensity[target] = chance[i];
    }
}

fn gather(
    view: View<'_>,
    alias: &Alias,
    set: TargetSet,
    ramp: &[f32; TARGETS_MAX],
    now_us: u64,
) -> Members {
    let mut members = Members {
        len: 0,
        target: [0; TARGETS_MAX],
        weight: [0.0; TARGETS_MAX],
        score: [0.0; TARGETS_MAX],
    };
    let mut latency = [(0.0, 0.0); TARGETS_MAX];
    for index in set.iter() {
        let target = &alias.targets[index];
        let health = &view.routes.deployment(target.deployment).health;
        let i = members.len;
        members.target[i] = position(index);
        members.weight[i] = target.weight * ramp[index];
        latency[i] = health.ttft_us(now_us).unwrap_or((0.0, 0.0));
        members.score[i] =
            (health.in_flight() + 1) as f32 / fourth_power(health.success_ratio(now_us));
        members.len += 1;
    }
    let neutral = believed_mean(&latency[..members.len]);
    for (score, (ttft_us, belief)) in members.score.iter_mut().zip(latency).take(members.len) {
        *score *= (neutral + (ttft_us - neutral) * belief) / 1_000.0;
    }
    members
}

/// The latency assumed where nothing is known, or what is known is old: that of the others. A
/// stranger is neither shunned nor rushed at.
fn believed_mean(latency: &[(f32, f32)]) -> f32 {
    let (sum, beliefs) = latency
        .iter()
        .fold((0.0, 0.0), |(sum, beliefs), (ttft, belief)| {
            (sum + ttft * belief, beliefs + belief)
        });
    if beliefs > 0.0 {
        sum / beliefs
    } else {
        NEUTRAL_TTFT_US
    }
}

const NEUTRAL_TTFT_US: f32 = 500_000.0;

/// A deployment that fails one try in ten counts as half again as slow, one that fails every other
/// one as sixteen times as slow: an error costs the caller far more than its own (short) time.
fn fourth_power(success_ratio: f32) -> f32 {
    let floor = success_ratio.max(0.05);
    floor * floor * floor * floor
}

/// Makes weights sum to 1; equal ones if all are 0.
fn normalise(weights: &mut [f32]) {
    let sum: f32 = weights.iter().sum();
    let even = 1.0 / weights.len() as f32;
    for weight in weights {
        *weight = if sum > 0.0 { *weight / sum } else { even };
    }
}

/// Power of two choices: draw one target by weight, then another one by weight, and take the
/// second only if its score is lower. This computes with which probability each one comes out.
fn two_choices(members: &Members, chance: &mut [f32; TARGETS_MAX]) {
    let n = members.len;
    if n == 1 {
        chance[0] = 1.0;
        return;
    }
    // weight / (1 - weight): drawn first, and then something else of this weight's share.
    let mut then_other = [0.0; TARGETS_MAX];
    for i in 0..n {
        then_other[i] = members.weight[i] / (1.0 - members.weight[i]).max(f32::MIN_POSITIVE);
    }
    let (weight, score) = (&members.weight[..n], &members.score[..n]);
    for i in 0..n {
        if weight[i] >= 1.0 {
            chance[i] = 1.0;
            return;
        }
        let mut beaten_second = 0.0;
        let mut beaten_first = 0.0;
        for j in 0..n {
            if j != i && score[j] >= score[i] {
                beaten_second += weight[j];
            }
            if score[j] > score[i] {
                beaten_first += then_other[j];
            }
        }
        chance[i] = then_other[i] * beaten_second + weight[i] * beaten_first;
    }
    normalise(&mut chance[..n]);
}

/// Draws a target of `set` by probability; the last one with any if rounding leaves a rest.
pub(crate) fn draw(set: TargetSet, propensity: &[f32; TARGETS_MAX], unit: f32) -> Option<usize> {
    let mut rest = unit * set.iter().map(|i| propensity[i]).sum::<f32>();
    let mut last = None;
    for index in set.iter() {
        if propensity[index] <= 0.0 {
            continue;
        }
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
    propensity: &[f32; TARGETS_MAX],
    key: u64,
) -> Option<usize> {
    let time = |index: usize| {
        let deployment = alias.targets[index].deployment.index() as u64;
        let even = unit(mix(key ^ mix(deployment.wrapping_add(1))));
        -(1.0 - even).ln() / propensity[index]
    };
    set.iter()
        .filter(|index| propensity[*index] > 0.0)
        .min_by(|a, b| time(*a).total_cmp(&time(*b)))
}
