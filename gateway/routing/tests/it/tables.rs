//! What a published table changes, and when it stops to.

use weir_routing::{Priors, Routes, RoutingFacts, StrategySpec};
use weir_schemas::table::{AliasTable, Origin, RoutingTable, TargetEntry, WeightChange};

use crate::history::{NOW, S, Scene, even_spec};

const LATENCY: StrategySpec = StrategySpec::Latency {
    prefix_affinity: false,
};

fn entry(target: usize) -> TargetEntry {
    TargetEntry {
        deployment: format!("provider{target}/model"),
        weight: 1.0,
        ttft_us: None,
        ttft_p95_us: None,
        error_ratio: None,
        output_tokens_per_s: None,
        picousd_per_token: None,
        tries: 100,
        change: WeightChange::Measured,
    }
}

fn table(targets: Vec<TargetEntry>) -> RoutingTable {
    RoutingTable {
        version: 7,
        made_at_us: NOW,
        origin: Origin::Measured,
        trusted_us: 100 * S,
        forgotten_us: 200 * S,
        aliases: vec![AliasTable {
            alias: "a".into(),
            output_tokens_mean: None,
            targets,
        }],
        ..RoutingTable::none()
    }
}

fn adopted(strategy: StrategySpec, table: &RoutingTable) -> Scene {
    let mut scene = Scene::new(&even_spec(strategy, 4));
    scene.priors = Priors::adopt(table, &scene.routes);
    scene
}

fn share(scene: &Scene, target: usize, now_us: u64) -> f32 {
    let plan = scene
        .view()
        .plan(scene.alias(), &RoutingFacts::default(), now_us, 1);
    plan.candidates()[target].propensity
}

#[test]
fn the_table_is_what_a_stranger_goes_by() {
    let slow = TargetEntry {
        ttft_us: Some(3e6),
        ..entry(1)
    };
    let fast = TargetEntry {
        ttft_us: Some(2e5),
        ..entry(2)
    };
    let scene = adopted(LATENCY, &table(vec![slow, fast]));
    assert!(share(&scene, 1, NOW) < 0.01);
    assert!(share(&scene, 2, NOW) > 0.4);
    let plan = scene
        .view()
        .plan(scene.alias(), &RoutingFacts::default(), NOW, 1);
    assert_eq!(plan.table_version, 7);
}

#[test]
fn an_old_table_fades_and_is_forgotten() {
    let slow = TargetEntry {
        ttft_us: Some(3e6),
        weight: 0.25,
        ..entry(1)
    };
    let scene = adopted(
        LATENCY,
        &table(vec![
            slow,
            TargetEntry {
                ttft_us: Some(2e5),
                ..entry(2)
            },
        ]),
    );
    assert!(share(&scene, 1, NOW + 99 * S) < 0.01);
    let forgotten = share(&scene, 1, NOW + 200 * S);
    assert!((forgotten - 0.25).abs() < 1e-3, "{forgotten}");
    let plan = scene
        .view()
        .plan(scene.alias(), &RoutingFacts::default(), NOW + 200 * S, 1);
    assert_eq!(plan.table_version, 0, "it did not decide");
    let frozen = RoutingTable {
        ages: false,
        ..table(vec![entry(1)])
    };
    let scene = adopted(LATENCY, &frozen);
    assert!((scene.priors.belief(NOW + 3_600 * S) - 1.0).abs() < f32::EPSILON);
}

#[test]
fn what_was_really_paid_goes_before_the_price_list() {
    let dear = TargetEntry {
        picousd_per_token: Some(9e5),
        ..entry(0)
    };
    let cheap = TargetEntry {
        picousd_per_token: Some(3e5),
        ..entry(3)
    };
    let scene = adopted(StrategySpec::Cost, &table(vec![dear, cheap]));
    assert!(share(&scene, 3, NOW) > 0.97);
    assert!(share(&scene, 1, NOW) < 0.01, "unpriced is never free");
}

#[test]
fn configured_splits_are_not_the_tables_business() {
    let light = TargetEntry {
        weight: 0.25,
        ttft_us: Some(9e6),
        ..entry(1)
    };
    let scene = adopted(
        StrategySpec::Weighted { sticky: false },
        &table(vec![light]),
    );
    assert!((share(&scene, 1, NOW) - 0.25).abs() < 1e-6);
}

#[test]
fn a_table_for_other_routes_counts_for_nothing() {
    let slow = TargetEntry {
        ttft_us: Some(3e6),
        ..entry(1)
    };
    let mut scene = adopted(LATENCY, &table(vec![slow, entry(2)]));
    let mut spec = even_spec(LATENCY, 4);
    spec.aliases[0].targets.swap(0, 1);
    scene.routes = Routes::build(&spec, Some(&scene.routes)).unwrap();
    assert!((share(&scene, 1, NOW) - 0.25).abs() < 1e-3);
}

#[test]
fn a_table_that_makes_no_sense_is_as_good_as_none() {
    for bad in [f64::NAN, f64::INFINITY, -1.0, 0.0, 1e300] {
        let mad = TargetEntry {
            weight: bad,
            ttft_us: Some(bad),
            ttft_p95_us: Some(bad),
            error_ratio: Some(bad),
            picousd_per_token: Some(bad),
            ..entry(1)
        };
        for strategy in [LATENCY, StrategySpec::Cost] {
            let scene = adopted(strategy, &table(vec![mad.clone()]));
            let shares: Vec<f32> = (0..4).map(|target| share(&scene, target, NOW)).collect();
            assert!(
                (shares.iter().sum::<f32>() - 1.0).abs() < 1e-4,
                "{bad}: {shares:?}"
            );
        }
    }
}
