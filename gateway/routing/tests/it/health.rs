//! How health moves: stalls, keys, quotas, probes, hedges, reloads.

use weir_routing::{
    Attempt, AttemptKind, BreakerState, DeploymentId, EjectCause, Failure, FailureKind, HedgeSpec,
    InFlight, Next, Plan, Routes, RoutingFacts, ShadowSpec, StrategySpec, TargetStatus, Transition,
};

use crate::history::{NOW, S, Scene, even_spec};

const LATENCY: StrategySpec = StrategySpec::Latency {
    prefix_affinity: false,
};

impl Scene {
    fn plan_at(&self, now_us: u64, seed: u64) -> Plan {
        self.view()
            .plan(self.alias(), &RoutingFacts::default(), now_us, seed)
    }

    fn first_at(&self, now_us: u64, seed: u64) -> (Plan, Attempt) {
        let mut plan = self.plan_at(now_us, seed);
        match plan.next(self.view(), self.alias(), None, now_us) {
            Next::Attempt(attempt) => (plan, attempt),
            Next::GiveUp(reason) => panic!("{reason:?}"),
        }
    }

    fn send_at(&self, now_us: u64, seed: u64) -> (Plan, Attempt, InFlight) {
        let (plan, attempt) = self.first_at(now_us, seed);
        let flight = self.view().start(self.alias(), &plan, &attempt, now_us);
        (plan, attempt, flight)
    }

    fn state(&self, target: usize, now_us: u64) -> BreakerState {
        let deployment = self.alias().targets[target].deployment;
        self.routes.health(deployment, now_us).state
    }

    /// Answered requests until every target has some.
    fn warm_up(&self) {
        for number in 0..200 {
            let sent_us = NOW - 4 * S + number * 10_000;
            let (_, _, flight) = self.send_at(sent_us, number);
            let _ = flight.succeed(0, sent_us + 100_000);
        }
    }
}

#[test]
fn a_black_hole_is_ejected_long_before_its_timeouts() {
    let scene = Scene::new(&even_spec(StrategySpec::Chain, 1));
    scene.warm_up();
    let held: Vec<InFlight> = (0..10)
        .map(|n| scene.send_at(NOW + n * 20_000, n).2)
        .collect();
    let plan = scene.plan_at(NOW + 250_000, 1);
    assert!(plan.stalled.is_empty(), "a quarter of a second is no stall");
    let plan = scene.plan_at(NOW + 700_000, 1);
    assert_eq!(plan.stalled.iter().collect::<Vec<_>>(), [0]);
    assert_eq!(plan.last_resort, Some(TargetStatus::Ejected));
    let state = scene.state(0, NOW + 700_000);
    assert!(matches!(
        state,
        BreakerState::Open {
            cause: EjectCause::Stalled,
            ..
        }
    ));
    drop(held);
}

/// How many requests wait, and after how many milliseconds their silence is a stall, where first
/// tokens usually come within about 100 ms.
#[test]
fn fewer_waiting_requests_must_wait_longer_to_be_a_stall() {
    let silence_ms = |waiting: u64| {
        let scene = Scene::new(&even_spec(StrategySpec::Chain, 1));
        scene.warm_up();
        let mut held: Vec<(Plan, Attempt, InFlight)> =
            (0..waiting).map(|n| scene.send_at(NOW, n)).collect();
        let found = (1..5_000).step_by(25).find(|ms| {
            let now_us = NOW + ms * 1_000;
            // Newcomers do not judge by few.
            let newcomer = scene.plan_at(now_us, 1);
            assert!(waiting >= 3 || newcomer.stalled.is_empty());
            if let Some((plan, _, _)) = held.first_mut() {
                let _ = plan.hedge(scene.view(), scene.alias(), now_us);
            }
            !matches!(scene.state(0, now_us), BreakerState::Closed { .. })
        });
        drop(held);
        found
    };
    let [one, two, three] = [1, 2, 3].map(|waiting| silence_ms(waiting).unwrap());
    assert!(one > 1_500 && two < one / 2, "{one} {two} {three}");
    assert!(three <= two && three > 250, "{one} {two} {three}");
    assert_eq!(silence_ms(0), None);
}

#[test]
fn a_long_answer_in_one_piece_is_no_stall() {
    let scene = Scene::new(&even_spec(StrategySpec::Chain, 1));
    scene.warm_up();
    let facts = RoutingFacts {
        in_one_piece: true,
        ..RoutingFacts::default()
    };
    let view = scene.view();
    let held: Vec<InFlight> = (0..5)
        .map(|seed| {
            let mut plan = view.plan(scene.alias(), &facts, NOW, seed);
            let Next::Attempt(attempt) = plan.next(view, scene.alias(), None, NOW) else {
                panic!("nothing to try");
            };
            view.start(scene.alias(), &plan, &attempt, NOW)
        })
        .collect();
    // First tokens take 0.1 s here, so a thousand tokens take some five seconds.
    assert!(scene.plan_at(NOW + 5 * S, 1).stalled.is_empty());
    assert!(!scene.plan_at(NOW + 60 * S, 1).stalled.is_empty());
    drop(held);
}

#[test]
fn a_stall_found_while_falling_back_is_told() {
    let scene = Scene::new(&even_spec(LATENCY, 3));
    scene.warm_up();
    let silent: Vec<(usize, InFlight)> = (0..400)
        .map(|n| scene.send_at(NOW, n))
        .map(|(_, attempt, flight)| (usize::from(attempt.target), flight))
        .collect();
    let (mut plan, attempt, flight) = {
        let (_, attempt, _) = scene.send_at(NOW, 1);
        let (plan, _) = scene.first_at(NOW, 1);
        let flight = scene.view().start(scene.alias(), &plan, &attempt, NOW);
        (plan, attempt, flight)
    };
    assert!(plan.take_stalled().is_empty());
    let failure = Failure::new(FailureKind::Cut);
    let _ = flight.fail(&failure, NOW + S);
    let _ = plan.next(scene.view(), scene.alias(), Some(&failure), NOW + S);
    let told = plan.take_stalled();
    for target in (0..3).filter(|target| *target != usize::from(attempt.target)) {
        let state = scene.state(target, NOW + S);
        assert_eq!(
            told.contains(target),
            matches!(state, BreakerState::Open { .. })
        );
        assert!(told.contains(target), "{target} of {told:?}");
    }
    drop(silent);
}

#[test]
fn one_answer_refutes_a_stall() {
    let scene = Scene::new(&even_spec(StrategySpec::Chain, 1));
    scene.warm_up();
    let mut held: Vec<InFlight> = (0..10)
        .map(|n| scene.send_at(NOW + n * 20_000, n).2)
        .collect();
    assert!(!scene.plan_at(NOW + S, 1).stalled.is_empty());
    assert_eq!(
        held[3].first_token(NOW + S + 1),
        Some(Transition::Recovered)
    );
    assert_eq!(
        scene.state(0, NOW + S + 1),
        BreakerState::Closed { ramp: 1.0 }
    );
}

#[test]
fn a_refused_key_takes_out_every_deployment_that_uses_it() {
    let mut spec = even_spec(StrategySpec::Weighted { sticky: false }, 3);
    for (deployment, key) in spec
        .deployments
        .iter_mut()
        .zip(["shared", "shared", "other"])
    {
        deployment.key = key.into();
    }
    let scene = Scene::new(&spec);
    let (_, _, flight) = (0..)
        .map(|seed| scene.send_at(NOW, seed))
        .find(|(_, attempt, _)| attempt.target == 0)
        .unwrap();
    let _ = flight.fail(&Failure::new(FailureKind::Auth), NOW + 1_000);
    for seed in 0..50 {
        assert_eq!(scene.first_at(NOW + S, seed).1.target, 2);
    }
    let state = scene.state(1, NOW + S);
    assert!(matches!(
        state,
        BreakerState::Open {
            cause: EjectCause::Key,
            ..
        }
    ));
    assert_eq!(scene.state(2, NOW + S), BreakerState::Closed { ramp: 1.0 });
}

#[test]
fn a_failure_that_is_not_the_keys_leaves_the_key_in_service() {
    let permission = Failure {
        spares_key: true,
        ..Failure::new(FailureKind::Auth)
    };
    let harmless = [
        permission,
        Failure::new(FailureKind::Place),
        Failure::new(FailureKind::ContentFilter),
        Failure::new(FailureKind::ModelNotFound),
        Failure::new(FailureKind::RequestTooLarge),
    ];
    for failure in harmless {
        let mut spec = even_spec(StrategySpec::Weighted { sticky: false }, 2);
        for deployment in &mut spec.deployments {
            deployment.key = "shared".into();
        }
        let scene = Scene::new(&spec);
        let (_, _, flight) = scene.send_at(NOW, 1);
        let _ = flight.fail(&failure, NOW + 1_000);
        for target in 0..2 {
            let state = scene.state(target, NOW + S);
            assert_eq!(state, BreakerState::Closed { ramp: 1.0 }, "{failure:?}");
        }
    }
}

#[test]
fn a_used_up_limit_keeps_requests_away_while_there_is_another_target() {
    let scene = Scene::new(&even_spec(StrategySpec::Chain, 2));
    let plan = |over: &[usize]| {
        let facts = RoutingFacts {
            throttled: over.iter().copied().collect(),
            ..RoutingFacts::default()
        };
        scene.view().plan(scene.alias(), &facts, NOW, 1)
    };
    let mut first = plan(&[0]);
    assert_eq!(first.last_resort, None);
    let Next::Attempt(attempt) = first.next(scene.view(), scene.alias(), None, NOW) else {
        panic!("no attempt")
    };
    assert_eq!(attempt.target, 1);
    // The other one's limit is used up by the time that this one fails.
    first.set_throttled([0, 1].into_iter().collect());
    let failure = Failure::new(FailureKind::RateLimited);
    let next = first.next(scene.view(), scene.alias(), Some(&failure), NOW + 1);
    assert!(matches!(next, Next::GiveUp(_)), "{next:?}");
    assert_eq!(plan(&[0, 1]).last_resort, Some(TargetStatus::Throttled));
}

#[test]
fn a_fast_refusal_is_never_attractive() {
    let scene = Scene::new(&even_spec(LATENCY, 2));
    scene.warm_up();
    let failure = Failure::new(FailureKind::RateLimited);
    // Every request of target 0 is refused within a millisecond.
    let mut shares = [0_u32; 2];
    for number in 0..1_000 {
        let now_us = NOW + number * 10_000;
        let (_, attempt, flight) = scene.send_at(now_us, number);
        shares[usize::from(attempt.target)] += 1;
        let _ = match attempt.target {
            0 => flight.fail(&failure, now_us + 1_000),
            _ => flight.succeed(0, now_us + 100_000),
        };
    }
    assert!(shares[0] <= 20, "{shares:?}");
}

#[test]
fn a_target_that_fails_often_and_fast_gets_little_even_while_in_service() {
    let scene = Scene::new(&even_spec(LATENCY, 2));
    scene.warm_up();
    let mut shares = [0_u32; 2];
    for number in 0..2_000_u64 {
        let now_us = NOW + number * 10_000;
        let (_, attempt, flight) = scene.send_at(now_us, number);
        shares[usize::from(attempt.target)] += 1;
        let _ = match (attempt.target, number % 3) {
            (0, 0) => flight.fail(&Failure::new(FailureKind::Overloaded), now_us + 1_000),
            _ => flight.succeed(0, now_us + 100_000),
        };
    }
    assert!(shares[0] < 400, "{shares:?}");
}

#[test]
fn a_slow_start_lets_a_recovered_target_grow_into_its_share() {
    let scene = Scene::new(&even_spec(StrategySpec::Weighted { sticky: false }, 2));
    let failure = Failure::new(FailureKind::Connect);
    let mut seed = 0;
    while matches!(scene.state(0, NOW), BreakerState::Closed { .. }) {
        let (_, attempt, flight) = scene.send_at(NOW, seed);
        seed += 1;
        if attempt.target == 0 {
            let _ = flight.fail(&failure, NOW);
        }
    }
    let probed_us = NOW + 2 * S;
    let (_, probe, flight) = (0..)
        .map(|seed| (seed, scene.first_at(probed_us, seed)))
        .find(|(_, (_, attempt))| attempt.target == 0)
        .map(|(seed, _)| scene.send_at(probed_us, seed))
        .unwrap();
    assert!(probe.probe);
    assert_eq!(
        flight.succeed(1, probed_us + 1_000),
        Some(Transition::Recovered)
    );
    let share = |at_us| scene.plan_at(at_us, 1).candidates()[0].propensity;
    let shares: Vec<f32> = (0..=10).map(|s| share(probed_us + s * S + 1_000)).collect();
    assert!(shares[0] < 0.1, "{shares:?}");
    assert!(
        shares.windows(2).all(|pair| pair[0] <= pair[1]),
        "{shares:?}"
    );
    assert!((shares[10] - 0.5).abs() < 0.01, "{shares:?}");
}

#[test]
fn a_late_first_token_is_hedged_once_and_within_the_budget() {
    let mut spec = even_spec(LATENCY, 3);
    spec.aliases[0].hedge = Some(HedgeSpec {
        budget_ratio: 0.05,
        ..HedgeSpec::default()
    });
    let scene = Scene::new(&spec);
    scene.warm_up();
    let (view, alias) = (scene.view(), scene.alias());
    let (mut plan, first) = scene.first_at(NOW, 1);
    let after_us = plan.hedge_after_us.unwrap();
    assert!((200_000..1_000_000).contains(&after_us), "{after_us}");
    let hedge = plan.hedge(view, alias, NOW + after_us).unwrap();
    assert_eq!(hedge.kind, AttemptKind::Hedge);
    assert_ne!(hedge.target, first.target);
    assert_eq!(plan.hedge(view, alias, NOW + after_us), None);

    let hedges = (0..2_000).filter(|n| {
        let (mut plan, _) = scene.first_at(NOW, *n);
        plan.hedge(view, alias, NOW).is_some()
    });
    assert!(hedges.count() <= 2_000 / 20 + 25);
}

#[test]
fn without_a_hedge_policy_a_late_answer_is_waited_for_until_its_silence_is_a_stall() {
    let scene = Scene::new(&even_spec(LATENCY, 2));
    scene.warm_up();
    let (mut plan, first, _flight) = scene.send_at(NOW, 1);
    let mut asked_us = 0;
    let second = loop {
        let ask_us = plan.hedge_after_us.unwrap();
        assert!(ask_us > asked_us);
        asked_us = ask_us;
        if let Some(second) = plan.hedge(scene.view(), scene.alias(), NOW + asked_us) {
            break second;
        }
    };
    assert!(asked_us > 10 * 100_000, "after {asked_us} us");
    assert_eq!(second.kind, AttemptKind::Fallback);
    assert_ne!(second.target, first.target);
    let stalled: Vec<usize> = plan.stalled.iter().collect();
    assert_eq!(stalled, [usize::from(first.target)]);
}

#[test]
fn requests_caught_in_a_black_hole_fall_back_without_waiting_for_their_timeouts() {
    let mut spec = even_spec(StrategySpec::Chain, 2);
    spec.aliases[0].targets[1].rank = 1;
    let scene = Scene::new(&spec);
    scene.warm_up();
    let mut caught: Vec<_> = (0..10).map(|n| scene.send_at(NOW, n)).collect();
    let late_us = caught[0].0.hedge_after_us.unwrap();
    for (plan, _, _) in &mut caught {
        let fallback = plan
            .hedge(scene.view(), scene.alias(), NOW + late_us)
            .unwrap();
        assert_eq!((fallback.kind, fallback.target), (AttemptKind::Fallback, 1));
        assert_eq!(plan.hedge_after_us, None);
    }
}

#[test]
fn a_probe_that_is_overtaken_has_failed() {
    let mut spec = even_spec(StrategySpec::Chain, 2);
    spec.aliases[0].targets[1].rank = 1;
    let scene = Scene::new(&spec);
    for seed in 0..5 {
        let (_, _, flight) = scene.send_at(NOW, seed);
        let _ = flight.fail(&Failure::new(FailureKind::FirstTokenTimeout), NOW);
    }
    let now_us = NOW + 2 * S;
    let (mut plan, probe, flight) = scene.send_at(now_us, 9);
    assert!(probe.probe && probe.target == 0);
    let late_us = now_us + plan.hedge_after_us.unwrap();
    let hedge = plan.hedge(scene.view(), scene.alias(), late_us).unwrap();
    assert_eq!(hedge.target, 1);
    let lost = flight.lose(late_us + 100_000);
    assert!(matches!(
        lost,
        Some(Transition::Ejected {
            cause: EjectCause::ProbeFailed,
            ..
        })
    ));
}

#[test]
fn a_shadow_gets_its_share_and_changes_nothing_else() {
    let mut spec = even_spec(StrategySpec::Weighted { sticky: false }, 3);
    let plain = Scene::new(&spec);
    spec.deployments.push(weir_routing::DeploymentSpec {
        name: "candidate/model".into(),
        ..weir_routing::DeploymentSpec::default()
    });
    spec.aliases[0].shadow = Some(ShadowSpec {
        deployment: DeploymentId::new(3),
        share: 0.2,
    });
    let shadowed = Scene::new(&spec);
    let mut shadows = 0;
    for seed in 0..5_000 {
        let (mut plan, attempt) = shadowed.first_at(NOW, seed);
        assert_eq!(attempt, plain.first_at(NOW, seed).1);
        if let Some(shadow) = plan.shadow() {
            assert_eq!(
                (shadow.kind, shadow.deployment.index()),
                (AttemptKind::Shadow, 3)
            );
            shadows += 1;
        }
        assert_eq!(plan.shadow(), None, "at most one");
    }
    assert!((900..1_100).contains(&shadows), "{shadows}");
}

#[test]
fn a_reload_keeps_what_is_known_of_the_deployments_that_stay() {
    let mut spec = even_spec(StrategySpec::Chain, 2);
    spec.aliases[0].targets[1].rank = 1;
    let mut scene = Scene::new(&spec);
    for seed in 0..5 {
        let (_, _, flight) = scene.send_at(NOW, seed);
        let _ = flight.fail(&Failure::new(FailureKind::Connect), NOW);
    }
    let (_, _, held) = scene.send_at(NOW, 6);
    spec.deployments.swap(0, 1);
    spec.aliases[0].targets.swap(0, 1);
    scene.routes = Routes::build(&spec, Some(&scene.routes)).unwrap();
    let state = |name: &str| {
        let index = scene
            .routes
            .deployments()
            .iter()
            .position(|d| &*d.name == name)
            .unwrap();
        let id = scene
            .alias()
            .targets
            .iter()
            .map(|t| t.deployment)
            .find(|d| d.index() == index);
        scene.routes.health(id.unwrap(), NOW)
    };
    assert!(matches!(
        state("provider0/model").state,
        BreakerState::Open { .. }
    ));
    assert_eq!(state("provider1/model").in_flight, 1);
    drop(held);
    assert_eq!(state("provider1/model").in_flight, 0);
}

#[test]
fn threads_that_meet_at_a_deployment_leave_nothing_behind() {
    let scene = Scene::new(&even_spec(LATENCY, 3));
    std::thread::scope(|threads| {
        for thread in 0..4_u64 {
            let scene = &scene;
            threads.spawn(move || {
                for number in 0..5_000_u64 {
                    let now_us = NOW + number * 1_000;
                    let (_, _, mut flight) = scene.send_at(now_us, thread * 10_000 + number);
                    let _ = match number % 7 {
                        0 => flight.fail(&Failure::new(FailureKind::ServerError), now_us + 500),
                        1 | 2 => None,
                        3 => flight.first_token(now_us + 500),
                        _ => flight.succeed(5, now_us + 900),
                    };
                }
            });
        }
    });
    let mut attempts = 0;
    for target in &scene.alias().targets {
        let seen = scene.routes.health(target.deployment, NOW + 10 * S);
        assert_eq!((seen.in_flight, seen.waiting), (0, 0));
        attempts += seen.attempts;
    }
    // The others were dropped.
    let verdicts = (0..5_000).filter(|n| !matches!(n % 7, 1..=3)).count() as u64;
    assert_eq!(attempts, 4 * verdicts);
}
