//! The probabilities in a plan are the ones with which it chooses: summing to one, matched by what
//! is drawn, and never on a target that must not be used.

use proptest::prelude::*;
use weir_routing::{
    AttemptKind, Next, ObjectiveSpec, Plan, RoutingFacts, StrategySpec, TargetSet, TargetStatus,
};

use crate::history::{NOW, Random, S, Scene, even_spec, random_spec};

fn strategies() -> Vec<StrategySpec> {
    vec![
        StrategySpec::Chain,
        StrategySpec::Weighted { sticky: false },
        StrategySpec::Weighted { sticky: true },
        StrategySpec::Latency {
            prefix_affinity: false,
        },
        StrategySpec::Latency {
            prefix_affinity: true,
        },
        StrategySpec::Cost,
        StrategySpec::Objective(ObjectiveSpec::Limits {
            ttft_p95_ms: 900,
            error_ratio: 0.01,
        }),
        StrategySpec::Objective(ObjectiveSpec::Weights {
            cost: 1.0,
            latency: 2.0,
            errors: 3.0,
        }),
    ]
}

fn random_facts(random: &mut Random, targets: u64) -> RoutingFacts {
    let mut set = |share: f64| -> TargetSet {
        (0..targets)
            .filter(|_| random.chance(share))
            .map(|i| i as usize)
            .collect()
    };
    RoutingFacts {
        denied: set(0.1),
        throttled: set(0.1),
        input_tokens: random.below(8_000) as u32,
        sticky: random.chance(0.5).then(|| random.next()),
        prefix: random.chance(0.7).then(|| random.next()),
        ..RoutingFacts::default()
    }
}

fn first(scene: &Scene, plan: &mut Plan, now_us: u64) -> Option<usize> {
    match plan.next(scene.view(), scene.alias(), None, now_us) {
        Next::Attempt(attempt) => {
            assert_eq!(attempt.kind, AttemptKind::First);
            Some(usize::from(attempt.target))
        }
        Next::GiveUp(_) => None,
    }
}

/// Pearson's statistic, and its value for one in a million chances (Wilson and Hilferty).
fn check_frequencies(counts: &[u64], propensity: &[f64], context: &str) {
    let rng: u64 = counts.iter().sum();
    let mut statistic = 0.0;
    let mut cells = 0.0;
    for (count, p) in counts.iter().zip(propensity) {
        let expected = p * rng as f64;
        if *p <= 0.0 {
            assert_eq!(
                *count, 0,
                "{context}: a target with probability 0 was drawn"
            );
        } else if expected >= 5.0 {
            statistic += (*count as f64 - expected).powi(2) / expected;
            cells += 1.0;
        }
    }
    let freedom: f64 = (cells - 1.0_f64).max(1.0);
    let spread = 2.0 / (9.0 * freedom);
    let limit = freedom * (1.0 - spread + 4.75 * spread.sqrt()).powi(3);
    assert!(
        statistic <= limit,
        "{context}: chi² {statistic:.1} > {limit:.1}; {counts:?} drawn for {propensity:?}"
    );
}

fn by_target(plan: &Plan, targets: usize) -> Vec<f64> {
    let mut propensity = vec![0.0; targets];
    for candidate in plan.candidates() {
        propensity[usize::from(candidate.target)] = f64::from(candidate.propensity);
    }
    propensity
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_plan_sums_to_one_keeps_out_who_must_stay_out_and_repeats(
        seed in any::<u64>(), targets in 1_usize..=32, requests in 0_u64..300, later_s in 0_u64..30,
    ) {
        let mut random = Random(seed);
        let strategies = strategies();
        let strategy = strategies[random.below(strategies.len() as u64) as usize].clone();
        let scene = Scene::new(&random_spec(&mut random, strategy, targets));
        scene.live(&mut random, requests);
        let facts = random_facts(&mut random, targets as u64);
        let (now_us, draw) = (NOW + later_s * S, random.next());
        let mut plan = scene.view().plan(scene.alias(), &facts, now_us, draw);

        let sum: f64 = by_target(&plan, targets).iter().sum();
        let all_denied = (0..targets).all(|i| facts.denied.contains(i));
        prop_assert_eq!(plan.candidates().is_empty(), all_denied);
        prop_assert!(all_denied || (sum - 1.0).abs() < 1e-4, "sum {}", sum);
        for candidate in plan.candidates() {
            let target = usize::from(candidate.target);
            prop_assert!(candidate.propensity >= 0.0);
            prop_assert!(!facts.denied.contains(target), "denied");
            let status = plan.status(target);
            match plan.last_resort {
                Some(least_bad) => prop_assert_eq!(status, least_bad),
                None => prop_assert!(
                    matches!(status, TargetStatus::Available | TargetStatus::Probe),
                    "{:?}", status
                ),
            }
            prop_assert!(plan.last_resort.is_some() || !facts.throttled.contains(target));
        }

        let mut again = scene.view().plan(scene.alias(), &facts, now_us, draw);
        // Debug text, because an unscored candidate holds a NaN, which is not equal to itself.
        prop_assert_eq!(format!("{plan:?}"), format!("{again:?}"));
        prop_assert_eq!(first(&scene, &mut plan, now_us), first(&scene, &mut again, now_us));
    }

}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, ..ProptestConfig::default() })]

    #[test]
    fn what_is_drawn_matches_what_is_said(seed in any::<u64>(), targets in 2_usize..=16) {
        let mut random = Random(seed);
        for strategy in strategies() {
            let scene = Scene::new(&random_spec(&mut random, strategy.clone(), targets));
            scene.live(&mut random, 200);
            let facts = RoutingFacts { sticky: None, ..random_facts(&mut random, targets as u64) };
            let sticky = matches!(strategy, StrategySpec::Weighted { sticky: true });
            let mut counts = vec![0; targets];
            let mut said = vec![0.0; targets];
            for _ in 0..2_000 {
                // Sticky draws are over keys, the others over seeds.
                let facts = RoutingFacts { sticky: sticky.then(|| random.next()), ..facts };
                let mut plan = scene.view().plan(scene.alias(), &facts, NOW + S, random.next());
                said = by_target(&plan, targets);
                if let Some(target) = first(&scene, &mut plan, NOW + S) {
                    counts[target] += 1;
                }
            }
            check_frequencies(&counts, &said, &format!("{strategy:?}, seed {seed}"));
        }
    }
}

#[test]
fn learning_strategies_keep_trying_everybody() {
    for strategy in strategies().into_iter().skip(3) {
        let scene = Scene::new(&even_spec(strategy, 10));
        scene.live(&mut Random(7), 500);
        let plan = scene
            .view()
            .plan(scene.alias(), &RoutingFacts::default(), NOW, 1);
        for candidate in plan.candidates() {
            assert!(candidate.propensity >= 0.000_99, "{candidate:?}");
        }
    }
}

#[test]
fn a_sticky_key_stays_and_only_the_keys_of_a_lost_target_move() {
    let scene = Scene::new(&even_spec(StrategySpec::Weighted { sticky: true }, 5));
    let home = |key: u64, denied: TargetSet, seed: u64| {
        let facts = RoutingFacts {
            sticky: Some(key),
            denied,
            ..RoutingFacts::default()
        };
        let mut plan = scene.view().plan(scene.alias(), &facts, NOW, seed);
        first(&scene, &mut plan, NOW).unwrap()
    };
    let mut moved = 0;
    for key in 0..1_000 {
        let before = home(key, TargetSet::EMPTY, key);
        assert_eq!(before, home(key, TargetSet::EMPTY, !key));
        let after = home(key, [2].into_iter().collect(), key);
        assert!(after == before || before == 2);
        moved += u32::from(after != before);
    }
    assert!((150..250).contains(&moved), "{moved}");
}

#[test]
fn a_prefix_comes_home_unless_another_target_is_clearly_faster() {
    let scene = Scene::new(&even_spec(
        StrategySpec::Latency {
            prefix_affinity: true,
        },
        4,
    ));
    let facts = |prefix| RoutingFacts {
        prefix: Some(prefix),
        ..RoutingFacts::default()
    };
    for prefix in 0..100 {
        let plan = scene
            .view()
            .plan(scene.alias(), &facts(prefix), NOW, prefix);
        let home = plan
            .candidates()
            .iter()
            .max_by(|a, b| a.propensity.total_cmp(&b.propensity));
        assert!(home.unwrap().propensity > 0.98);
    }
    // Load every target but one: the prefixes at home elsewhere leave, his own stay.
    let mut held = Vec::new();
    let weight = |denied: TargetSet| RoutingFacts {
        denied,
        ..RoutingFacts::default()
    };
    for target in 1..4 {
        let others: TargetSet = (0..4).filter(|i| *i != target).collect();
        for _ in 0..10 {
            let mut plan = scene.view().plan(scene.alias(), &weight(others), NOW, 1);
            if let Next::Attempt(attempt) = plan.next(scene.view(), scene.alias(), None, NOW) {
                held.push(scene.view().start(scene.alias(), &plan, &attempt, NOW));
            }
        }
    }
    for prefix in 0..100 {
        let plan = scene
            .view()
            .plan(scene.alias(), &facts(prefix), NOW, prefix);
        let idle = plan.candidates().iter().find(|c| c.target == 0).unwrap();
        assert!(idle.propensity > 0.3, "{:?}", plan.candidates());
    }
    drop(held);
}
