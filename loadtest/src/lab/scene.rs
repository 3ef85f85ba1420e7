//! What is played: callers, providers, events.

use std::time::Duration;

use weir_routing::{RetrySpec, StrategySpec};

use crate::chance;
use crate::lab::feedback::LabFeedback;
use crate::lab::upstream::{UpstreamBehaviour, UpstreamSpec};
use crate::trace::{Trace, TraceError, TraceName, TracedCall};

/// One experiment.
#[derive(Clone, Debug)]
pub struct Scene {
    pub calls: Vec<TracedCall>,
    pub upstreams: Vec<UpstreamSpec>,
    pub changes: Vec<UpstreamChange>,
    /// Gateways that share the calls. Each sees only its own; all use the same tables.
    pub gateways: usize,
    pub strategy: StrategySpec,
    pub retry: RetrySpec,
    /// Without it no tables are published.
    pub feedback: Option<LabFeedback>,
    /// A call without a first token by then has failed.
    pub first_token_timeout: Duration,
    /// Length of the windows in which shares are counted.
    pub window: Duration,
    pub seed: u64,
}

/// Something that happens to a provider.
#[derive(Clone, Copy, Debug)]
pub struct UpstreamChange {
    pub at: Duration,
    pub upstream: usize,
    pub to: UpstreamBehaviour,
    /// A new price in picodollars per input token.
    pub picousd_per_token: Option<i64>,
}

impl UpstreamChange {
    #[must_use]
    pub fn at_s(seconds: u64, upstream: usize, to: UpstreamBehaviour) -> Self {
        Self {
            at: Duration::from_secs(seconds),
            upstream,
            to,
            picousd_per_token: None,
        }
    }
}

impl Scene {
    /// Lets a provider behave so from a time on.
    pub fn change(&mut self, at_s: u64, upstream: usize, to: UpstreamBehaviour) {
        self.changes.push(UpstreamChange::at_s(at_s, upstream, to));
    }

    /// Calls of the size that recorded conversations have, arriving at random at a mean rate, at
    /// `upstreams` equal providers.
    pub fn new(
        rate_per_s: f64,
        seconds: u64,
        upstreams: usize,
        seed: u64,
    ) -> Result<Self, TraceError> {
        let sizes = Trace::named(TraceName::AzureConv, SIZES_MAX, seed)?;
        Ok(Self {
            calls: arrivals(&sizes.calls, rate_per_s, seconds, seed),
            upstreams: vec![UpstreamSpec::default(); upstreams],
            changes: Vec::new(),
            gateways: 1,
            strategy: StrategySpec::Latency {
                prefix_affinity: false,
            },
            retry: RetrySpec::default(),
            feedback: None,
            first_token_timeout: Duration::from_secs(10),
            window: Duration::from_secs(1),
            seed,
        })
    }
}

const SIZES_MAX: usize = 20_000;

/// A Poisson process of calls drawn from the recorded ones. Not in their order: their sizes drift
/// over the hour, and with them how much a provider can take, and a scene is to have no events but
/// its own. Nor at their times: those give five calls a second, too few to load ten providers.
fn arrivals(sizes: &[TracedCall], rate_per_s: f64, seconds: u64, seed: u64) -> Vec<TracedCall> {
    let end_s = Duration::from_secs(seconds).as_secs_f64();
    let mut at_s = 0.0;
    (0..)
        .map_while(|number| {
            at_s -= (1.0 - chance::unit(seed, number)).ln() / rate_per_s;
            let any = chance::mix(!seed, number) % sizes.len().max(1) as u64;
            let size = sizes.get(usize::try_from(any).ok()?)?;
            (at_s < end_s).then(|| TracedCall {
                at: Duration::from_secs_f64(at_s),
                ..*size
            })
        })
        .collect()
}
