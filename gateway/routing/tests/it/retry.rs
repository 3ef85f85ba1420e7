//! What happens after a failure: retry, fall back, wait, or give up.

use weir_routing::{
    AliasSpec, Attempt, AttemptKind, DeploymentSpec, Failure, FailureKind, GiveUp, Next, Plan,
    Priors, RetrySpec, Routes, RoutesSpec, RoutingFacts, RoutingView, TargetSpec, TargetStatus,
};

const S: u64 = 1_000_000;
const NOW: u64 = 1_700_000_000 * S;

fn spec(ranks: &[u8], retry: RetrySpec) -> RoutesSpec {
    let deployments = (0..ranks.len())
        .map(|i| DeploymentSpec {
            name: format!("d{i}"),
            ..DeploymentSpec::default()
        })
        .collect();
    let targets = ranks
        .iter()
        .enumerate()
        .map(|(deployment, rank)| TargetSpec {
            deployment,
            weight: 1.0,
            rank: *rank,
        })
        .collect();
    let alias = AliasSpec {
        name: "a".into(),
        targets,
        retry,
        ..AliasSpec::default()
    };
    RoutesSpec {
        deployments,
        aliases: vec![alias],
        ..RoutesSpec::default()
    }
}

struct Scene {
    routes: Routes,
    priors: Priors,
}

impl Scene {
    fn chain(ranks: &[u8]) -> Self {
        Self::new(spec(ranks, RetrySpec::default()))
    }

    fn new(spec: RoutesSpec) -> Self {
        Self {
            routes: Routes::build(&spec, None).unwrap(),
            priors: Priors::neutral(),
        }
    }

    fn view(&self) -> RoutingView<'_> {
        self.routes.view(&self.priors)
    }

    fn plan(&self, facts: &RoutingFacts) -> Plan {
        self.view()
            .plan(self.routes.alias("a").unwrap(), facts, NOW, 1)
    }

    fn next(&self, plan: &mut Plan, failure: Option<Failure>) -> Next {
        plan.next(
            self.view(),
            self.routes.alias("a").unwrap(),
            failure.as_ref(),
            NOW,
        )
    }

    /// The attempts of one request of which each fails with `kind`, and why it ends.
    fn all_failing(&self, failure: Failure) -> (Vec<Attempt>, GiveUp) {
        let mut plan = self.plan(&RoutingFacts::default());
        let mut attempts = Vec::new();
        let mut last = None;
        loop {
            match self.next(&mut plan, last) {
                Next::Attempt(attempt) => attempts.push(attempt),
                Next::GiveUp(reason) => return (attempts, reason),
            }
            last = Some(failure);
        }
    }

    fn start_and_fail(&self, plan: &Plan, attempt: &Attempt, failure: &Failure) {
        let alias = self.routes.alias("a").unwrap();
        self.view()
            .start(alias, plan, attempt, NOW)
            .fail(failure, NOW + 1_000);
    }
}

fn shape(attempts: &[Attempt]) -> Vec<(u8, AttemptKind)> {
    attempts.iter().map(|t| (t.target, t.kind)).collect()
}

use AttemptKind::{Fallback, First, Retry};

#[test]
fn a_chain_retries_its_step_and_then_falls_back() {
    let (attempts, reason) =
        Scene::chain(&[0, 1]).all_failing(Failure::new(FailureKind::ServerError));
    assert_eq!(
        shape(&attempts),
        [(0, First), (0, Retry), (1, Fallback), (1, Retry)]
    );
    assert_eq!(reason, GiveUp::AttemptsExhausted);
    assert!(attempts[1].delay_us <= 100_000);
    assert_eq!(attempts[2].delay_us, 0);
}

#[test]
fn pooled_keys_of_a_step_go_before_a_second_try_at_the_same_one() {
    let (attempts, _) =
        Scene::chain(&[0, 0, 1]).all_failing(Failure::new(FailureKind::ServerError));
    let (first, second) = (attempts[0].target, attempts[1].target);
    assert_eq!([first.min(second), first.max(second)], [0, 1]);
    assert_eq!(
        shape(&attempts[1..]),
        [(second, Fallback), (second, Retry), (2, Fallback)]
    );
}

#[test]
fn a_timeout_is_not_repeated_where_it_happened() {
    let (attempts, reason) =
        Scene::chain(&[0, 1]).all_failing(Failure::new(FailureKind::FirstTokenTimeout));
    assert_eq!(shape(&attempts), [(0, First), (1, Fallback)]);
    assert_eq!(reason, GiveUp::NoTargetLeft);
}

#[test]
fn a_wrong_request_is_wrong_everywhere() {
    for kind in [
        FailureKind::InvalidRequest,
        FailureKind::ContentFilter,
        FailureKind::ClientGone,
    ] {
        let (attempts, reason) = Scene::chain(&[0, 1]).all_failing(Failure::new(kind));
        assert_eq!(shape(&attempts), [(0, First)]);
        assert_eq!(reason, GiveUp::NotRetryable(kind));
    }
}

#[test]
fn a_pause_that_is_asked_for_is_no_reason_to_repeat_what_stays_wrong() {
    for kind in [
        FailureKind::InvalidRequest,
        FailureKind::ContentFilter,
        FailureKind::ContextWindow,
        FailureKind::RequestTooLarge,
        FailureKind::Auth,
        FailureKind::QuotaExhausted,
        FailureKind::Place,
        FailureKind::ModelNotFound,
    ] {
        let failure = Failure {
            retry_after_us: Some(S),
            ..Failure::new(kind)
        };
        let (attempts, _) = Scene::chain(&[0]).all_failing(failure);
        assert_eq!(shape(&attempts), [(0, First)], "{kind:?}");
    }
}

#[test]
fn a_newer_kind_falls_back_where_the_one_that_it_was_split_from_does() {
    for (kind, listed, falls_back) in [
        (FailureKind::Place, FailureKind::Auth, true),
        (FailureKind::Place, FailureKind::Place, true),
        (FailureKind::Place, FailureKind::ContextWindow, false),
        (
            FailureKind::RequestTooLarge,
            FailureKind::ContextWindow,
            true,
        ),
        (FailureKind::RequestTooLarge, FailureKind::Auth, false),
    ] {
        let retry = RetrySpec {
            fallback_on: vec![listed],
            ..RetrySpec::default()
        };
        let (attempts, _) = Scene::new(spec(&[0, 1], retry)).all_failing(Failure::new(kind));
        assert_eq!(attempts.len() == 2, falls_back, "{kind:?} {listed:?}");
    }
}

#[test]
fn after_the_first_byte_nothing_replaces_the_answer() {
    let cut = Failure {
        relayed: true,
        ..Failure::new(FailureKind::Cut)
    };
    let (attempts, reason) = Scene::chain(&[0, 1]).all_failing(cut);
    assert_eq!(attempts.len(), 1);
    assert_eq!(reason, GiveUp::AnswerBegun);
}

#[test]
fn retry_after_is_honoured_when_there_is_nobody_else() {
    let limited = |us| Failure {
        retry_after_us: Some(us),
        ..Failure::new(FailureKind::RateLimited)
    };
    let (attempts, _) = Scene::chain(&[0]).all_failing(limited(S));
    assert_eq!(shape(&attempts), [(0, First), (0, Retry)]);
    assert_eq!(attempts[1].delay_us, S);

    let (attempts, reason) = Scene::chain(&[0]).all_failing(limited(30 * S));
    assert_eq!(attempts.len(), 1);
    assert_eq!(reason, GiveUp::RetryAfterTooLong { us: 30 * S });

    let (attempts, _) = Scene::chain(&[0, 1]).all_failing(limited(S));
    assert_eq!(shape(&attempts)[..2], [(0, First), (1, Fallback)]);
}

#[test]
fn context_overflow_goes_only_to_a_longer_window() {
    let mut spec = spec(&[0, 1, 2], RetrySpec::default());
    for (deployment, window) in spec.deployments.iter_mut().zip([8_000, 4_000, 128_000]) {
        deployment.context_window_tokens = Some(window);
    }
    let scene = Scene::new(spec);
    let (attempts, reason) = scene.all_failing(Failure::new(FailureKind::ContextWindow));
    assert_eq!(shape(&attempts), [(0, First), (2, Fallback)]);
    assert_eq!(reason, GiveUp::NoTargetLeft);

    let long = RoutingFacts {
        input_tokens: 9_000,
        ..RoutingFacts::default()
    };
    let mut plan = scene.plan(&long);
    assert!(matches!(
        scene.next(&mut plan, None),
        Next::Attempt(Attempt {
            target: 2,
            kind: First,
            ..
        })
    ));
}

#[test]
fn a_prompt_that_fits_nowhere_goes_to_the_longest_window_as_a_last_resort() {
    let mut spec = spec(&[0, 0, 1], RetrySpec::default());
    for (deployment, window) in spec.deployments.iter_mut().zip([8_000, 4_000, 32_000]) {
        deployment.context_window_tokens = Some(window);
    }
    let scene = Scene::new(spec);
    let huge = RoutingFacts {
        input_tokens: 100_000,
        ..RoutingFacts::default()
    };
    let mut plan = scene.plan(&huge);
    assert_eq!(plan.last_resort, Some(TargetStatus::TooSmall));
    assert!(matches!(
        scene.next(&mut plan, None),
        Next::Attempt(Attempt { target: 2, .. })
    ));
}

#[test]
fn no_try_begins_after_the_deadline() {
    let scene = Scene::chain(&[0, 1]);
    let facts = RoutingFacts {
        deadline_us: Some(NOW),
        ..RoutingFacts::default()
    };
    let mut plan = scene.plan(&facts);
    assert_eq!(scene.next(&mut plan, None), Next::GiveUp(GiveUp::Deadline));
}

#[test]
fn denied_targets_are_never_tried_even_when_nothing_else_is_left() {
    let scene = Scene::chain(&[0, 1]);
    let facts = RoutingFacts {
        denied: [0, 1].into_iter().collect(),
        ..RoutingFacts::default()
    };
    let mut plan = scene.plan(&facts);
    assert!(plan.candidates().is_empty());
    assert_eq!(scene.next(&mut plan, None), Next::GiveUp(GiveUp::AllDenied));

    let facts = RoutingFacts {
        denied: [0].into_iter().collect(),
        ..RoutingFacts::default()
    };
    let mut plan = scene.plan(&facts);
    assert!(matches!(
        scene.next(&mut plan, None),
        Next::Attempt(Attempt { target: 1, .. })
    ));
    let failed = Failure::new(FailureKind::RateLimited);
    assert_eq!(
        scene.next(&mut plan, Some(failed)),
        Next::GiveUp(GiveUp::NoTargetLeft)
    );
}

#[test]
fn when_everything_fails_extra_tries_stop() {
    let scene = Scene::chain(&[0, 1, 2]);
    let failure = Failure::new(FailureKind::ServerError);
    let (requests, mut attempts) = (2_000, 0);
    for _ in 0..requests {
        let mut plan = scene.plan(&RoutingFacts::default());
        let mut last = None;
        while let Next::Attempt(attempt) = scene.next(&mut plan, last) {
            attempts += 1;
            scene.start_and_fail(&plan, &attempt, &failure);
            last = Some(failure);
        }
    }
    assert!(attempts >= requests);
    assert!(
        attempts * 100 <= requests * 120,
        "{attempts} attempts for {requests} requests"
    );
}

/// Attempts of `requests` requests of which every attempt fails at once, over 32 targets of one rank.
fn tries_when_all_fail(requests: usize, retry: RetrySpec) -> usize {
    let scene = Scene::new(spec(&[0; 32], retry));
    let failure = Failure::new(FailureKind::ServerError);
    let mut attempts = 0;
    for _ in 0..requests {
        let mut plan = scene.plan(&RoutingFacts::default());
        let mut last = None;
        while let Next::Attempt(attempt) = scene.next(&mut plan, last) {
            attempts += 1;
            scene.start_and_fail(&plan, &attempt, &failure);
            last = Some(failure);
        }
    }
    attempts
}

#[test]
fn the_aliass_budget_bounds_extra_tries_before_its_many_targets_are_known_to_fail() {
    let attempts = tries_when_all_fail(100, RetrySpec::default());
    assert!((110..=126).contains(&attempts), "{attempts}");
}

#[test]
fn failing_targets_take_no_extra_tries_however_large_the_budget() {
    let generous = RetrySpec {
        budget_ratio: 10.0,
        ..RetrySpec::default()
    };
    let attempts = tries_when_all_fail(2_000, generous);
    assert!(attempts <= 2_000 + 32 * 10, "{attempts}");
}

#[test]
fn a_healthy_second_step_serves_everything_the_first_one_drops() {
    let scene = Scene::new(spec(
        &[0, 1],
        RetrySpec {
            tries_per_target: 1,
            ..RetrySpec::default()
        },
    ));
    let alias = scene.routes.alias("a").unwrap();
    let failure = Failure::new(FailureKind::ServerError);
    for request in 0..1_000 {
        let now_us = NOW + request * 10_000;
        let mut plan = scene
            .view()
            .plan(alias, &RoutingFacts::default(), now_us, request);
        let mut last = None;
        let served = loop {
            match plan.next(scene.view(), alias, last.as_ref(), now_us) {
                Next::Attempt(attempt) => {
                    let flight = scene.view().start(alias, &plan, &attempt, now_us);
                    // The first step drops two of five: too few to eject it.
                    if attempt.target == 0 && request % 5 < 2 {
                        flight.fail(&failure, now_us);
                        last = Some(failure);
                    } else {
                        flight.succeed(10, now_us + 1_000);
                        break true;
                    }
                }
                Next::GiveUp(_) => break false,
            }
        };
        assert!(served, "request {request}");
    }
}

#[test]
fn an_ejected_step_is_skipped_and_probed_when_its_time_is_over() {
    let scene = Scene::chain(&[0, 1]);
    let alias = scene.routes.alias("a").unwrap();
    let failure = Failure::new(FailureKind::Connect);
    let first_at = |now_us, seed| {
        let mut plan = scene
            .view()
            .plan(alias, &RoutingFacts::default(), now_us, seed);
        match plan.next(scene.view(), alias, None, now_us) {
            Next::Attempt(attempt) => (plan, attempt),
            Next::GiveUp(reason) => panic!("{reason:?}"),
        }
    };
    for seed in 0..5 {
        let (plan, attempt) = first_at(NOW, seed);
        assert_eq!(attempt.target, 0);
        scene.start_and_fail(&plan, &attempt, &failure);
    }
    assert_eq!(first_at(NOW + S / 2, 6).1.target, 1);

    let later = NOW + 2 * S;
    let (plan, probe) = first_at(later, 7);
    assert!(probe.probe && probe.target == 0);
    let flight = scene.view().start(alias, &plan, &probe, later);
    assert_eq!(first_at(later, 8).1.target, 1, "one probe at a time");
    flight.succeed(10, later + 1_000);
    assert_eq!(first_at(later + 2_000, 9).1.target, 0);
}
