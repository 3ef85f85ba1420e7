//! One routing decision over 16 candidates whose health is known, and what it must not do: take a
//! microsecond.

#![expect(clippy::unwrap_used, reason = "a benchmark has nobody to tell")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use weir_routing::{
    AliasSpec, DeploymentSpec, Next, ObjectiveSpec, PriceSpec, Priors, Routes, RoutesSpec,
    RoutingFacts, StrategySpec, TargetSpec,
};

const NOW: u64 = 1_700_000_000_000_000;
const TARGETS: usize = 16;

fn routes(strategy: StrategySpec) -> Routes {
    let deployments = (0..TARGETS)
        .map(|i| DeploymentSpec {
            name: format!("provider{i}/model"),
            context_window_tokens: Some(128_000),
            key: format!("provider{i}#1"),
            price: Some(PriceSpec {
                input_picousd: 1_000 + i as u64,
                output_picousd: 4_000,
            }),
            ..DeploymentSpec::default()
        })
        .collect();
    let targets = (0..TARGETS)
        .map(|deployment| TargetSpec {
            deployment,
            weight: 1.0,
            rank: 0,
        })
        .collect();
    let alias = AliasSpec {
        name: "a".into(),
        strategy,
        targets,
        ..AliasSpec::default()
    };
    let spec = RoutesSpec {
        deployments,
        aliases: vec![alias],
        ..RoutesSpec::default()
    };
    Routes::build(&spec, None).unwrap()
}

/// A few hundred answered requests, so that nothing is at its initial value.
fn warm(routes: &Routes, priors: &Priors) {
    let alias = routes.alias("a").unwrap();
    let view = routes.view(priors);
    for number in 0..800 {
        let sent_us = NOW - 8_000_000 + number * 10_000;
        let mut plan = view.plan(alias, &RoutingFacts::default(), sent_us, number);
        let Next::Attempt(attempt) = plan.next(view, alias, None, sent_us) else {
            continue;
        };
        let flight = view.start(alias, &plan, &attempt, sent_us);
        let _ = flight.succeed(100, sent_us + 200_000 + number * 100);
    }
}

fn decision(c: &mut Criterion) {
    let mut group = c.benchmark_group("decision over 16 candidates");
    let limits = ObjectiveSpec::Limits {
        ttft_p95_ms: 2_000,
        error_ratio: 0.01,
    };
    for (name, strategy) in [
        ("chain", StrategySpec::Chain),
        ("weighted", StrategySpec::Weighted { sticky: false }),
        ("weighted, sticky", StrategySpec::Weighted { sticky: true }),
        (
            "latency",
            StrategySpec::Latency {
                prefix_affinity: false,
            },
        ),
        (
            "latency, prefix affinity",
            StrategySpec::Latency {
                prefix_affinity: true,
            },
        ),
        ("cost", StrategySpec::Cost),
        ("objective", StrategySpec::Objective(limits)),
    ] {
        let routes = routes(strategy);
        let priors = Priors::neutral();
        warm(&routes, &priors);
        let alias = routes.alias("a").unwrap();
        let facts = RoutingFacts {
            input_tokens: 1_200,
            sticky: Some(7),
            prefix: Some(9),
            ..RoutingFacts::default()
        };
        let mut seed = 0_u64;
        group.bench_function(name, |b| {
            b.iter(|| {
                seed += 1;
                let view = routes.view(black_box(&priors));
                let mut plan = view.plan(alias, black_box(&facts), NOW, seed);
                plan.next(view, alias, None, NOW)
            });
        });
    }
    group.finish();
}

/// The decision, and all that is reported of an attempt that succeeds.
fn whole_attempt(c: &mut Criterion) {
    let routes = routes(StrategySpec::Latency {
        prefix_affinity: false,
    });
    let priors = Priors::neutral();
    warm(&routes, &priors);
    let alias = routes.alias("a").unwrap();
    let mut number = 0_u64;
    c.bench_function("decision, start, first token, end", |b| {
        b.iter(|| {
            number += 1;
            let now_us = NOW + number * 100;
            let view = routes.view(black_box(&priors));
            let mut plan = view.plan(alias, &RoutingFacts::default(), now_us, number);
            if let Next::Attempt(attempt) = plan.next(view, alias, None, now_us) {
                let mut flight = view.start(alias, &plan, &attempt, now_us);
                let _ = flight.first_token(now_us + 200_000);
                let _ = flight.succeed(100, now_us + 900_000);
            }
        });
    });
}

criterion_group!(benches, decision, whole_attempt);
criterion_main!(benches);
