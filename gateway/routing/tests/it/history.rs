//! Routes with a past: made from a seed, so that a failing case can be had again.

use weir_routing::{
    Alias, AliasSpec, BreakerSpec, DeploymentSpec, Failure, FailureKind, Next, PriceSpec, Priors,
    Routes, RoutesSpec, RoutingFacts, RoutingView, StrategySpec, TargetSpec,
};

pub(crate) const S: u64 = 1_000_000;
pub(crate) const NOW: u64 = 1_700_000_000 * S;

/// Failures that are the deployment's fault.
const KINDS: [FailureKind; 10] = [
    FailureKind::Connect,
    FailureKind::ConnectTimeout,
    FailureKind::FirstTokenTimeout,
    FailureKind::Stalled,
    FailureKind::TotalTimeout,
    FailureKind::Cut,
    FailureKind::Malformed,
    FailureKind::RateLimited,
    FailureKind::Overloaded,
    FailureKind::ServerError,
];

/// SplitMix64, as the crate's own draws.
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / 9_007_199_254_740_992.0
    }

    pub(crate) fn chance(&mut self, share: f64) -> bool {
        self.unit() < share
    }
}

pub(crate) struct Scene {
    pub(crate) routes: Routes,
    pub(crate) priors: Priors,
}

impl Scene {
    pub(crate) fn new(spec: &RoutesSpec) -> Self {
        Self {
            routes: Routes::build(spec, None).unwrap(),
            priors: Priors::neutral(),
        }
    }

    pub(crate) fn view(&self) -> RoutingView<'_> {
        self.routes.view(&self.priors)
    }

    pub(crate) fn alias(&self) -> &Alias {
        self.routes.alias("a").unwrap()
    }

    /// Plays requests in which each target has its own latency and failure ratio.
    pub(crate) fn live(&self, random: &mut Random, requests: u64) {
        let targets = self.alias().targets.len();
        let latency_us: Vec<u64> = (0..targets).map(|_| 50_000 + random.below(2 * S)).collect();
        let failing: Vec<f64> = (0..targets)
            .map(|_| {
                if random.chance(0.2) {
                    random.unit()
                } else {
                    0.0
                }
            })
            .collect();
        for number in 0..requests {
            let sent_us = NOW - (requests - number) * 20_000;
            let facts = RoutingFacts {
                input_tokens: 1_000,
                ..RoutingFacts::default()
            };
            let mut plan = self
                .view()
                .plan(self.alias(), &facts, sent_us, random.next());
            let mut failure = None;
            while let Next::Attempt(attempt) =
                plan.next(self.view(), self.alias(), failure.as_ref(), sent_us)
            {
                let flight = self.view().start(self.alias(), &plan, &attempt, sent_us);
                let target = usize::from(attempt.target);
                if !random.chance(failing[target]) {
                    let _ = flight.succeed(20, sent_us + latency_us[target]);
                    break;
                }
                let kind = KINDS[random.below(10) as usize];
                let failed = Failure {
                    retry_after_us: random.chance(0.1).then(|| random.below(5) * S),
                    ..Failure::new(kind)
                };
                let _ = flight.fail(&failed, sent_us + 1_000);
                failure = Some(failed);
            }
        }
    }
}

/// `targets` deployments with random weights, ranks, windows, prices and keys.
pub(crate) fn random_spec(
    random: &mut Random,
    strategy: StrategySpec,
    targets: usize,
) -> RoutesSpec {
    let ranks = if random.chance(0.5) { 1 } else { 3 };
    let deployments = (0..targets)
        .map(|i| DeploymentSpec {
            name: format!("provider{i}/model"),
            key: format!("key{}", random.below(targets as u64)),
            context_window_tokens: random
                .chance(0.3)
                .then(|| 1_000 + random.below(9_000) as u32),
            price: random.chance(0.8).then(|| PriceSpec {
                input_picousd: random.below(1_000_000),
                output_picousd: random.below(4_000_000),
            }),
            ..DeploymentSpec::default()
        })
        .collect();
    let mut targets: Vec<TargetSpec> = (0..targets)
        .map(|deployment| TargetSpec {
            deployment,
            weight: random.below(10) as f32,
            rank: random.below(ranks) as u8,
        })
        .collect();
    targets[0].weight += 1.0;
    let alias = AliasSpec {
        name: "a".into(),
        strategy,
        targets,
        ..AliasSpec::default()
    };
    RoutesSpec {
        deployments,
        aliases: vec![alias],
        breaker: BreakerSpec::default(),
    }
}

/// Equal targets, one rank.
pub(crate) fn even_spec(strategy: StrategySpec, targets: usize) -> RoutesSpec {
    let deployments = (0..targets)
        .map(|i| DeploymentSpec {
            name: format!("provider{i}/model"),
            ..DeploymentSpec::default()
        })
        .collect();
    let targets = (0..targets)
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
    RoutesSpec {
        deployments,
        aliases: vec![alias],
        breaker: BreakerSpec::default(),
    }
}
