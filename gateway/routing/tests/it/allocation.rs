//! A decision lives on the stack.

use weir_routing::{Failure, FailureKind, ObjectiveSpec, RoutingFacts, StrategySpec};

use crate::history::{NOW, Random, S, Scene, even_spec};

#[test]
fn a_decision_over_sixteen_candidates_allocates_nothing() {
    let limits = ObjectiveSpec::Limits {
        ttft_p95_ms: 900,
        error_ratio: 0.01,
    };
    for strategy in [
        StrategySpec::Chain,
        StrategySpec::Weighted { sticky: true },
        StrategySpec::Latency {
            prefix_affinity: true,
        },
        StrategySpec::Cost,
        StrategySpec::Objective(limits),
    ] {
        let scene = Scene::new(&even_spec(strategy.clone(), 16));
        scene.live(&mut Random(3), 500);
        let (view, alias) = (scene.view(), scene.alias());
        let facts = RoutingFacts {
            sticky: Some(1),
            prefix: Some(2),
            ..RoutingFacts::default()
        };
        let failure = Failure::new(FailureKind::ServerError);
        let counted = allocation_counter::measure(|| {
            for seed in 0..100 {
                let mut plan = view.plan(alias, &facts, NOW + S, seed);
                let _ = plan.next(view, alias, None, NOW + S);
                let _ = plan.next(view, alias, Some(&failure), NOW + S);
                let _ = plan.hedge(view, alias, NOW + S);
            }
        });
        assert_eq!(counted.count_total, 0, "{strategy:?}");
    }
}

#[test]
fn a_try_allocates_nothing_either() {
    let scene = Scene::new(&even_spec(StrategySpec::Chain, 4));
    let (view, alias) = (scene.view(), scene.alias());
    let counted = allocation_counter::measure(|| {
        let mut plan = view.plan(alias, &RoutingFacts::default(), NOW, 1);
        if let weir_routing::Next::Attempt(attempt) = plan.next(view, alias, None, NOW) {
            let mut flight = view.start(alias, &plan, &attempt, NOW);
            let _ = flight.first_token(NOW + S);
            let _ = flight.succeed(10, NOW + 2 * S);
        }
    });
    assert_eq!(counted.count_total, 0);
}
