//! What routing must be able to do, as experiments with a threshold each.
//!
//! A trial plays a scene under Weir's routing, and beside it under what it is compared with, and
//! says whether the claim held. The tests of this module are the trials; `cargo run -p
//! weir-loadtest --example routing_lab --release` prints their figures.

use std::fmt::Write as _;
use std::time::Duration;

use weir_routing::{FailureKind, ObjectiveSpec, SpecError, StrategySpec};

use crate::chance;
use crate::lab::feedback::LabFeedback;
use crate::lab::policy::LabPolicy;
use crate::lab::run::{Figures, run};
use crate::lab::scene::{Scene, UpstreamChange};
use crate::lab::upstream::UpstreamBehaviour;
use crate::trace::TraceError;

/// A claim and the experiment that checks it.
#[derive(Clone, Copy, Debug)]
pub struct Trial {
    pub name: &'static str,
    pub claim: &'static str,
    play: fn(u64) -> Result<TrialVerdict, LabError>,
}

/// How a trial came out.
#[derive(Clone, Debug)]
pub struct TrialVerdict {
    pub held: bool,
    /// The figure that the claim is about.
    pub measured: String,
    /// One policy's figures each.
    pub rows: Vec<String>,
}

/// Why a trial could not be played.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    #[error("read the trace of call sizes: {0}")]
    Trace(#[from] TraceError),
    #[error("build the scene's routes: {0:?}")]
    Routes(Vec<SpecError>),
}

impl From<Vec<SpecError>> for LabError {
    fn from(errors: Vec<SpecError>) -> Self {
        Self::Routes(errors)
    }
}

impl Trial {
    pub const ALL: [Self; 13] = [
        Self {
            name: "one of ten is slow",
            claim: "with one of ten providers five times slower, p99 is at most half of round robin's",
            play: one_is_slow,
        },
        Self {
            name: "one refuses with 429",
            claim: "a provider that answers 429 in a millisecond has at most 2% one second later",
            play: |seed| one_refuses(FailureKind::RateLimited, seed),
        },
        Self {
            name: "one refuses with 503",
            claim: "a provider that answers 503 in a millisecond has at most 2% one second later",
            play: |seed| one_refuses(FailureKind::Overloaded, seed),
        },
        Self {
            name: "black hole",
            claim: "a provider that stops answering is out within 1 s and back within 10 s, and no \
                    client waits for its timeout",
            play: black_hole,
        },
        Self {
            name: "black hole at any traffic",
            claim: "one that answers fast is out within 1 s at 10 calls a second each, another one \
                    within 3 s",
            play: black_hole_at_any_traffic,
        },
        Self {
            name: "merely slow",
            claim: "of providers with heavy tails that become slower, one in 5000 calls at most \
                    finds one taken for a black hole",
            play: merely_slow,
        },
        Self {
            name: "recovery",
            claim: "a provider that comes back gets at most 20% more than its share",
            play: recovery,
        },
        Self {
            name: "feedback delay",
            claim: "with tables 0 to 60 s old, no share swings (CV < 0.2 between 10 s windows)",
            play: feedback_delay,
        },
        Self {
            name: "price doubles",
            claim: "the cost objective moves the share within two refreshes, and keeps its p95",
            play: price_doubles,
        },
        Self {
            name: "cheapest is small",
            claim: "a cheapest provider that cannot take all is used to its limit, without swinging",
            play: cheapest_is_small,
        },
        Self {
            name: "everything fails",
            claim: "when every attempt fails, providers see at most 1.2 times the clients' requests",
            play: everything_fails,
        },
        Self {
            name: "everything is flaky",
            claim: "when every provider drops 30% of calls, clients see less than 3% of errors",
            play: everything_is_flaky,
        },
        Self {
            name: "ingestor away",
            claim: "an hour without new tables costs no more than never having had one",
            play: ingestor_away,
        },
    ];

    /// The same seed, the same figures.
    pub fn play(&self, seed: u64) -> Result<TrialVerdict, LabError> {
        (self.play)(seed)
    }
}

/// Holds until a case does not.
impl Default for TrialVerdict {
    fn default() -> Self {
        Self {
            held: true,
            measured: String::new(),
            rows: Vec::new(),
        }
    }
}

impl TrialVerdict {
    fn row(&mut self, label: &str, figures: &Figures) {
        self.rows.push(row(label, figures));
    }
}

fn row(label: &str, figures: &Figures) -> String {
    let failed_percent = figures.failed as f64 / figures.requests.max(1) as f64 * 100.0;
    format!(
        "{label:<18} {:>8.0} {:>8.0} {:>8.0} {failed_percent:>8.2} {:>8.3}",
        figures.ttft_ms(50),
        figures.ttft_ms(95),
        figures.ttft_ms(99),
        figures.amplification()
    )
}

/// Plays every trial and writes the figures as a table.
pub fn report(seed: u64) -> Result<String, LabError> {
    let mut text = String::new();
    for trial in Trial::ALL {
        let verdict = trial.play(seed)?;
        let word = if verdict.held { "held" } else { "BROKEN" };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{}: {}\n  {word}: {}",
            trial.name, trial.claim, verdict.measured
        );
        let _ = writeln!(
            text,
            "  {:<18} {:>8} {:>8} {:>8} {:>8} {:>8}",
            "", "p50 ms", "p95 ms", "p99 ms", "failed %", "tries"
        );
        for row in &verdict.rows {
            let _ = writeln!(text, "  {row}");
        }
        text.push('\n');
    }
    Ok(text)
}

/// The provider to which things happen.
const ODD: usize = 3;

/// Weir's figures, and a row for it and each of the others.
fn compare(scene: &Scene) -> Result<(Figures, Vec<Figures>, Vec<String>), LabError> {
    let weir = run(scene, LabPolicy::Weir)?;
    let mut rows = vec![row(LabPolicy::Weir.name(), &weir)];
    let mut others = Vec::new();
    for policy in LabPolicy::OTHERS {
        let figures = run(scene, policy)?;
        rows.push(row(policy.name(), &figures));
        others.push(figures);
    }
    Ok((weir, others, rows))
}

fn one_is_slow(seed: u64) -> Result<TrialVerdict, LabError> {
    let mut scene = Scene::new(100.0, 120, 10, seed)?;
    scene.change(0, ODD, UpstreamBehaviour::Slow(5.0));
    let (weir, others, rows) = compare(&scene)?;
    let factor = others[0].ttft_ms(99) / weir.ttft_ms(99);
    let share = weir.share(ODD, 10, 120) * 100.0;
    Ok(TrialVerdict {
        held: factor >= 2.0,
        measured: format!("p99 {factor:.2} times better; the slow one's share {share:.2}%"),
        rows,
    })
}

fn one_refuses(kind: FailureKind, seed: u64) -> Result<TrialVerdict, LabError> {
    let mut scene = Scene::new(100.0, 60, 10, seed)?;
    let refuses = UpstreamBehaviour::Refuses(kind);
    scene.change(20, ODD, refuses);
    let (weir, _, rows) = compare(&scene)?;
    let worst = (21..57)
        .map(|w| weir.share(ODD, w, w + 3))
        .fold(0.0, f64::max);
    let share = weir.share(ODD, 21, 60);
    Ok(TrialVerdict {
        held: worst <= 0.02 && weir.failed == 0,
        measured: format!(
            "share {:.2}% (worst three seconds {:.2}%), {} requests failed",
            share * 100.0,
            worst * 100.0,
            weir.failed
        ),
        rows,
    })
}

fn black_hole(seed: u64) -> Result<TrialVerdict, LabError> {
    let mut scene = Scene::new(200.0, 90, 10, seed)?;
    scene.change(30, ODD, UpstreamBehaviour::BlackHole);
    scene.change(50, ODD, UpstreamBehaviour::Normal);
    let (weir, _, rows) = compare(&scene)?;
    let out = weir.share(ODD, 31, 50);
    let back =
        (50..90).find(|w| weir.share(ODD, *w, w + 1) > 0.0 && weir.share(ODD, w + 1, w + 3) > 0.01);
    let back_s = back.map_or(u64::MAX, |window| window as u64 - 50);
    let slowest_ms = weir.ttft_us.last().map_or(0, |us| us / 1_000);
    Ok(TrialVerdict {
        held: out <= 0.02 && back_s <= 10 && weir.failed == 0 && slowest_ms < 8_000,
        measured: format!(
            "share {:.2}% from the second second on, back after {back_s} s, {} failed, slowest \
             first token {slowest_ms} ms",
            out * 100.0,
            weir.failed
        ),
        rows,
    })
}

/// How soon a black hole is called one: by the calls that wait in it, and how long calls usually do.
fn black_hole_at_any_traffic(seed: u64) -> Result<TrialVerdict, LabError> {
    let mut verdict = TrialVerdict::default();
    // Calls a second at each, milliseconds to the first token, and the bound for nine in ten.
    for (rate, base_ms, bound_ms) in [
        (50.0, 10.0, 1_000),
        (10.0, 10.0, 1_000),
        (1.0, 10.0, 5_000),
        (50.0, 250.0, 2_000),
        (10.0, 250.0, 3_000),
    ] {
        let mut took_ms = Vec::new();
        for round in 0..10 {
            let mut scene = Scene::new(2.0 * rate, 40, 2, chance::mix(seed, round))?;
            for upstream in &mut scene.upstreams {
                upstream.base_ms = base_ms;
                upstream.prefill_ms *= base_ms / 250.0;
            }
            scene.change(30, 1, UpstreamBehaviour::BlackHole);
            let weir = run(&scene, LabPolicy::Weir)?;
            let took = weir.stalled_after(1, Duration::from_secs(30));
            took_ms.push(took.map_or(u128::MAX, |took| took.as_millis()));
        }
        took_ms.sort_unstable();
        let (median, most) = (took_ms[5], took_ms[8]);
        verdict.held &= most <= bound_ms;
        verdict.measured +=
            &format!("{rate}/s, {base_ms} ms: {median} ms, nine in ten {most} ms; ");
    }
    Ok(verdict)
}

/// Slowness is no stall: neither a heavy tail, nor everything taking several times as long at once.
fn merely_slow(seed: u64) -> Result<TrialVerdict, LabError> {
    let mut verdict = TrialVerdict::default();
    for (rate, seconds, upstreams, sigma, slower) in [
        (100.0, 200, 10, 0.4, 5.0),
        (20.0, 1_000, 10, 0.8, 3.0),
        (5.0, 4_000, 2, 0.8, 3.0),
        (1.0, 20_000, 2, 0.4, 5.0),
    ] {
        let mut scene = Scene::new(rate, seconds, upstreams, seed)?;
        for upstream in &mut scene.upstreams {
            upstream.sigma = sigma;
        }
        let slow = UpstreamBehaviour::Slow(slower);
        scene.change(seconds / 2, 1, slow);
        let weir = run(&scene, LabPolicy::Weir)?;
        let (stalls, calls) = (weir.stalls.len() as u64, weir.requests);
        verdict.held &= stalls * 5_000 <= calls && weir.failed == 0;
        verdict.measured +=
            &format!("{rate}/s, spread {sigma}, then {slower} times slower: {stalls} of {calls}; ");
        verdict.row(&format!("{rate}/s, {slower} x"), &weir);
    }
    Ok(verdict)
}

fn recovery(seed: u64) -> Result<TrialVerdict, LabError> {
    let mut verdict = TrialVerdict::default();
    for (label, behaviour) in [
        (
            "refuses",
            UpstreamBehaviour::Refuses(FailureKind::Overloaded),
        ),
        ("black hole", UpstreamBehaviour::BlackHole),
        ("slow", UpstreamBehaviour::Slow(5.0)),
    ] {
        let mut scene = Scene::new(400.0, 120, 10, seed)?;
        for upstream in &mut scene.upstreams {
            upstream.slots = 800;
        }
        scene.change(20, ODD, behaviour);
        scene.change(50, ODD, UpstreamBehaviour::Normal);
        let weir = run(&scene, LabPolicy::Weir)?;
        let most = (50..110)
            .step_by(10)
            .map(|w| weir.share(ODD, w, w + 10))
            .fold(0.0, f64::max);
        let over = most / 0.1 - 1.0;
        verdict.held &= over <= 0.2 && weir.share(ODD, 80, 110) > 0.08;
        verdict.measured += &format!("{label}: {:+.0}% of its share at most; ", over * 100.0);
        verdict.row(label, &weir);
    }
    Ok(verdict)
}

/// Ten providers of different speed, four gateways, tables every ten seconds.
fn uneven(delay_s: u64, seed: u64) -> Result<Scene, LabError> {
    let mut scene = Scene::new(200.0, 300, 10, seed)?;
    scene.gateways = 4;
    scene.window = Duration::from_secs(10);
    for (number, upstream) in scene.upstreams.iter_mut().enumerate() {
        upstream.base_ms = 150.0 + 30.0 * number as f64;
    }
    scene.feedback = Some(LabFeedback::every_s(10, delay_s));
    Ok(scene)
}

fn feedback_delay(seed: u64) -> Result<TrialVerdict, LabError> {
    let mut verdict = TrialVerdict::default();
    for delay_s in [0, 5, 15, 30, 60] {
        let weir = run(&uneven(delay_s, seed)?, LabPolicy::Weir)?;
        let swing = (0..10)
            .map(|u| weir.share_cv(u, 10, 30))
            .fold(0.0, f64::max);
        verdict.held &= swing < 0.2 && weir.tables >= 20;
        verdict.measured += &format!("{delay_s} s: CV {swing:.2}; ");
        verdict.row(&format!("weir, {delay_s} s old"), &weir);
    }
    let argmin = run(&uneven(0, seed)?, LabPolicy::ArgminLatency)?;
    verdict.row("argmin latency", &argmin);
    Ok(verdict)
}

const LIMIT_MS: u32 = 1_500;

/// One cheap provider among dear ones, under "cheapest with p95 below 1.5 s".
fn priced(seed: u64) -> Result<Scene, LabError> {
    let mut scene = Scene::new(100.0, 240, 10, seed)?;
    scene.strategy = StrategySpec::Objective(ObjectiveSpec::Limits {
        ttft_p95_ms: LIMIT_MS,
        error_ratio: 0.01,
    });
    scene.upstreams[0].picousd_per_token = 600_000;
    scene.upstreams[0].slots = 400;
    scene.window = Duration::from_secs(10);
    scene.feedback = Some(LabFeedback::every_s(10, 0));
    Ok(scene)
}

fn price_doubles(seed: u64) -> Result<TrialVerdict, LabError> {
    let mut scene = priced(seed)?;
    scene.changes.push(UpstreamChange {
        picousd_per_token: Some(1_200_000),
        ..UpstreamChange::at_s(120, 0, UpstreamBehaviour::Normal)
    });
    let (weir, _, rows) = compare(&scene)?;
    let before = weir.share(0, 6, 12);
    // Refreshes at 130 s and 140 s; the window after the second begins at 140 s.
    let after = weir.share(0, 14, 15);
    let p95_ms = weir.ttft_ms(95);
    Ok(TrialVerdict {
        held: before > 0.9 && after < before / 4.0 && p95_ms < f64::from(LIMIT_MS),
        measured: format!(
            "share {:.1}% before, {:.1}% two refreshes after; p95 {p95_ms:.0} ms",
            before * 100.0,
            after * 100.0
        ),
        rows,
    })
}

fn cheapest_is_small(seed: u64) -> Result<TrialVerdict, LabError> {
    let mut verdict = TrialVerdict::default();
    for delay_s in [0, 30, 60] {
        let mut scene = priced(seed)?;
        scene.gateways = 4;
        scene.upstreams[0].slots = 100;
        scene.feedback = Some(LabFeedback::every_s(10, delay_s));
        let weir = run(&scene, LabPolicy::Weir)?;
        let (share, swing) = (weir.share(0, 6, 24), weir.share_cv(0, 6, 24));
        let p95_ms = weir.ttft_ms(95);
        verdict.held &= share > 0.3 && swing < 0.2 && p95_ms < f64::from(LIMIT_MS);
        verdict.measured += &format!(
            "{delay_s} s: share {:.0}%, CV {swing:.2}, p95 {p95_ms:.0} ms; ",
            share * 100.0
        );
        verdict.row(&format!("weir, {delay_s} s old"), &weir);
    }
    Ok(verdict)
}

fn everything_fails(seed: u64) -> Result<TrialVerdict, LabError> {
    let mut verdict = TrialVerdict::default();
    for (label, behaviour) in [
        (
            "refused",
            UpstreamBehaviour::Refuses(FailureKind::ServerError),
        ),
        (
            "errors",
            UpstreamBehaviour::Errors {
                share: 1.0,
                kind: FailureKind::Overloaded,
            },
        ),
        ("no answers", UpstreamBehaviour::BlackHole),
    ] {
        let mut scene = Scene::new(100.0, 90, 10, seed)?;
        scene.changes = (0..10)
            .map(|u| UpstreamChange::at_s(30, u, behaviour))
            .collect();
        let weir = run(&scene, LabPolicy::Weir)?;
        let sum = |windows: &[Vec<u32>]| f64::from(windows.iter().flatten().sum::<u32>());
        let during = sum(&weir.loads[30..]) / sum(&weir.shares[30..]);
        verdict.held &= during <= 1.2;
        verdict.measured += &format!("{label}: {during:.3}; ");
        verdict.row(label, &weir);
    }
    Ok(verdict)
}

fn everything_is_flaky(seed: u64) -> Result<TrialVerdict, LabError> {
    let mut scene = Scene::new(100.0, 120, 10, seed)?;
    let flaky = UpstreamBehaviour::Errors {
        share: 0.3,
        kind: FailureKind::ServerError,
    };
    scene.changes = (0..10)
        .map(|upstream| UpstreamChange::at_s(0, upstream, flaky))
        .collect();
    let (weir, _, rows) = compare(&scene)?;
    let failed = weir.failed as f64 / weir.requests as f64;
    Ok(TrialVerdict {
        held: failed < 0.03,
        measured: format!("{:.2}% of requests failed", failed * 100.0),
        rows,
    })
}

/// The table knows one provider as slow; the ingestor dies; then another one becomes the slow one.
fn ingestor_away(seed: u64) -> Result<TrialVerdict, LabError> {
    let scene = |feedback| -> Result<Scene, LabError> {
        let mut scene = Scene::new(30.0, 4_200, 10, seed)?;
        scene.change(0, ODD, UpstreamBehaviour::Slow(5.0));
        scene.change(1_800, ODD, UpstreamBehaviour::Normal);
        scene.change(1_800, 5, UpstreamBehaviour::Slow(5.0));
        scene.feedback = feedback;
        Ok(scene)
    };
    let away = LabFeedback {
        ends: Some(Duration::from_secs(600)),
        ..LabFeedback::every_s(10, 5)
    };
    let with = run(&scene(Some(away))?, LabPolicy::Weir)?;
    let without = run(&scene(None)?, LabPolicy::Weir)?;
    let (with_ms, without_ms) = (with.ttft_ms(99), without.ttft_ms(99));
    let returned = with.share(ODD, 2_400, 4_200);
    Ok(TrialVerdict {
        held: with_ms < 1.1 * without_ms && returned > 0.07,
        measured: format!(
            "p99 {with_ms:.0} ms against {without_ms:.0} ms without tables; the once slow one has \
             {:.1}% again",
            returned * 100.0
        ),
        rows: vec![row("ingestor away", &with), row("never a table", &without)],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str) {
        let trial = Trial::ALL.iter().find(|trial| trial.name == name).unwrap();
        let verdict = trial.play(1).unwrap();
        assert!(
            verdict.held,
            "{}: {}\n{}",
            trial.claim,
            verdict.measured,
            verdict.rows.join("\n")
        );
    }

    #[test]
    fn one_of_ten_five_times_slower_leaves_p99_twice_as_good_as_round_robin() {
        check("one of ten is slow");
    }

    #[test]
    fn a_fast_429_loses_its_share_within_a_second() {
        check("one refuses with 429");
    }

    #[test]
    fn a_fast_503_loses_its_share_within_a_second() {
        check("one refuses with 503");
    }

    #[test]
    fn a_black_hole_is_out_within_a_second_and_back_within_ten() {
        check("black hole");
    }

    #[test]
    fn a_black_hole_is_found_at_any_traffic() {
        check("black hole at any traffic");
    }

    #[test]
    fn slowness_is_not_taken_for_a_black_hole() {
        check("merely slow");
    }

    #[test]
    fn a_recovered_provider_does_not_overshoot() {
        check("recovery");
    }

    #[test]
    fn old_tables_do_not_make_shares_swing() {
        check("feedback delay");
    }

    #[test]
    fn a_doubled_price_moves_the_share_within_two_refreshes() {
        check("price doubles");
    }

    #[test]
    fn a_small_cheapest_provider_is_used_to_its_limit() {
        check("cheapest is small");
    }

    #[test]
    fn when_everything_fails_load_stays_below_one_and_a_fifth() {
        check("everything fails");
    }

    #[test]
    fn flaky_providers_are_hidden_from_clients() {
        check("everything is flaky");
    }

    #[test]
    fn an_ingestor_away_for_an_hour_is_as_if_it_had_never_been() {
        check("ingestor away");
    }

    #[test]
    fn a_scene_played_twice_is_the_same() {
        let mut scene = Scene::new(100.0, 30, 10, 1).unwrap();
        scene.change(10, ODD, UpstreamBehaviour::BlackHole);
        scene.feedback = Some(LabFeedback::every_s(5, 1));
        assert_eq!(
            run(&scene, LabPolicy::Weir).unwrap(),
            run(&scene, LabPolicy::Weir).unwrap()
        );
        let other = Scene {
            seed: 2,
            ..scene.clone()
        };
        assert_ne!(
            run(&scene, LabPolicy::Weir).unwrap(),
            run(&other, LabPolicy::Weir).unwrap()
        );
    }
}
