//! A simulated provider: how long it takes, how much it takes at once, and how it fails.

use std::collections::VecDeque;

use weir_routing::FailureKind;

use crate::chance;
use crate::dist::normal;
use crate::trace::TracedCall;

/// What a provider is like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UpstreamSpec {
    /// Time to first token without a prompt.
    pub base_ms: f64,
    /// Reading one prompt token.
    pub prefill_ms: f64,
    /// Writing one token.
    pub decode_ms: f64,
    /// Spread of all times: the standard deviation of their logarithm.
    pub sigma: f64,
    /// Calls served at once; further ones wait.
    pub slots: usize,
    /// Picodollars per input token; an output token costs four times as much.
    pub picousd_per_token: i64,
}

impl Default for UpstreamSpec {
    fn default() -> Self {
        Self {
            base_ms: 250.0,
            prefill_ms: 0.1,
            decode_ms: 10.0,
            sigma: 0.4,
            slots: 200,
            picousd_per_token: 1_000_000,
        }
    }
}

/// What happens to calls at the moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum UpstreamBehaviour {
    Normal,
    /// Everything takes this many times as long.
    Slow(f64),
    /// Every call is refused after a millisecond.
    Refuses(FailureKind),
    /// This share of calls is refused, after half the time to first token.
    Errors {
        share: f64,
        kind: FailureKind,
    },
    /// Calls are accepted and never answered.
    BlackHole,
}

/// What one call will see.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum CallOutcome {
    Answer { ttft_us: u64, rest_us: u64 },
    Failure { kind: FailureKind, after_us: u64 },
    Nothing,
}

/// A provider at work.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) spec: UpstreamSpec,
    pub(crate) behaviour: UpstreamBehaviour,
    pub(crate) busy: usize,
    /// Flights that wait for a slot.
    pub(crate) queue: VecDeque<usize>,
}

impl Upstream {
    pub(crate) fn new(spec: UpstreamSpec) -> Self {
        Self {
            spec,
            behaviour: UpstreamBehaviour::Normal,
            busy: 0,
            queue: VecDeque::new(),
        }
    }

    /// What a call sees that is served now. `luck` is the call's own, the same under any policy.
    pub(crate) fn fate(&self, call: &TracedCall, luck: u64) -> CallOutcome {
        let slow = match self.behaviour {
            UpstreamBehaviour::Slow(factor) => factor,
            _ => 1.0,
        };
        let mut rng = chance::rng(luck, 1);
        let spread = |z: f64| (self.spec.sigma * z).exp();
        let ttft_ms = (self.spec.base_ms + self.spec.prefill_ms * f64::from(call.input_tokens))
            * slow
            * spread(normal(&mut rng));
        let rest_ms = self.spec.decode_ms
            * f64::from(call.output_tokens)
            * slow
            * spread(0.5 * normal(&mut rng));
        match self.behaviour {
            UpstreamBehaviour::Refuses(kind) => CallOutcome::Failure {
                kind,
                after_us: 1_000,
            },
            UpstreamBehaviour::Errors { share, kind } if chance::unit(luck, 2) < share => {
                CallOutcome::Failure {
                    kind,
                    after_us: us(ttft_ms / 2.0),
                }
            }
            UpstreamBehaviour::BlackHole => CallOutcome::Nothing,
            _ => CallOutcome::Answer {
                ttft_us: us(ttft_ms),
                rest_us: us(rest_ms),
            },
        }
    }

    pub(crate) fn cost_picousd(&self, call: &TracedCall) -> i64 {
        let tokens = i64::from(call.input_tokens) + 4 * i64::from(call.output_tokens);
        tokens * self.spec.picousd_per_token
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "simulated times are positive and below a day"
)]
fn us(ms: f64) -> u64 {
    (ms * 1_000.0) as u64
}
