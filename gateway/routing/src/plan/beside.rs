//! Attempts beside the first one: a hedge while its first token is late, or a shadow.

use weir_schemas::table::size;

use crate::alias::Alias;
use crate::attempt::{Attempt, AttemptKind};
use crate::breaker::BreakerState;
use crate::health::StallObserver;
use crate::plan::Plan;
use crate::random::SeededRng;
use crate::view::{AliasView, RoutingView};

/// Without a hedging policy, a late first token only makes the plan ask whether the deployment is
/// still in service. Bounds of "late": the latency known of an ejected deployment is old.
const RESCUE_US_MIN: f32 = 300_000.0;
const RESCUE_US_MAX: f32 = 3_000_000.0;

impl Plan {
    pub(super) fn prepare_hedge(&mut self, at: AliasView<'_>) {
        let Some(first) = self.first else { return };
        let deployment = at.view.routes.deployment(first.deployment);
        let p95 = deployment.health.ttft_p95(at.now_us);
        let late_us = p95.us * size::factor(self.awaited_tokens(), 0);
        self.hedge_after_us = Some(match &at.alias.hedge {
            Some(hedge) if p95.belief > 0.0 => {
                let least_us = hedge.spec.after_ms_min as f32 * 1_000.0;
                whole((late_us * hedge.spec.after_factor).max(least_us))
            }
            _ => whole(late_us.clamp(RESCUE_US_MIN, RESCUE_US_MAX)),
        });
    }

    /// A second attempt beside the one that is still waiting for its first token; at most one per
    /// request. After `None`, [`hedge_after_us`](Self#structfield.hedge_after_us) says when to ask again.
    ///
    /// There are three reasons for one. The alias hedges late answers, within its own budget. Or
    /// the first attempt is a probe: probes are few, and no client should wait out a timeout
    /// for the sake of others. Or the deployment was ejected after the attempt was sent, as a
    /// stalled one is: then the second attempt is the fallback that would follow the timeout, and draws
    /// on the same budget.
    ///
    /// When one of the two has its first token, cancel the other one and tell it so
    /// ([`InFlight::lose`](crate::InFlight::lose)); only when both have failed, ask for the
    /// [`next`](Self::next).
    pub fn hedge(&mut self, view: RoutingView<'_>, alias: &Alias, now_us: u64) -> Option<Attempt> {
        let asked_us = self.hedge_after_us.take()?;
        let first = self.last.filter(|last| last.kind == AttemptKind::First)?;
        // Seldom enough to cost nothing, often enough to beat any timeout.
        self.hedge_after_us =
            Some(asked_us.saturating_add((asked_us / 2).max(whole(RESCUE_US_MIN))));
        let at = view.at(alias, now_us);
        let kind = self.hedge_kind(at, first)?;
        let others = self.others(at, None, first);
        let rank = alias.lowest_rank(others)?;
        let attempt = self.another(at, alias.of_rank(others, rank), kind)?;
        let paid = match (kind, &alias.hedge) {
            (AttemptKind::Fallback, _) => alias.budget.try_take(now_us),
            (_, Some(hedge)) if !first.probe => hedge.budget.try_take(now_us),
            _ => true,
        };
        if !paid || self.attempts >= alias.retry.tries_max {
            return None;
        }
        self.hedge_after_us = None;
        self.begin(attempt);
        Some(attempt)
    }

    /// The kind of a second attempt, if there should be one.
    fn hedge_kind(&mut self, at: AliasView<'_>, first: Attempt) -> Option<AttemptKind> {
        if first.probe || at.alias.hedge.is_some() {
            return Some(AttemptKind::Hedge);
        }
        let AliasView { view, now_us, .. } = at;
        let deployment = view.routes.deployment(first.deployment);
        let spec = &view.routes.breaker;
        let stall = deployment
            .health
            .eject_if_stalled(spec, StallObserver::WaitingRequest, now_us);
        if stall.is_some() {
            self.stalled.insert(usize::from(first.target));
        }
        let in_service = matches!(
            deployment.breaker_state(spec, now_us),
            BreakerState::Closed { .. }
        );
        (!in_service).then_some(AttemptKind::Fallback)
    }

    pub(super) fn pick_shadow(&mut self, at: AliasView<'_>) {
        let Some(shadow) = &at.alias.shadow else {
            return;
        };
        // An own stream of draws, so that adding a shadow changes no other draw of a replayed request.
        let drawn = SeededRng::new(!self.seed).unit();
        let routes = at.view.routes;
        let deployment = routes.deployment(shadow.deployment);
        let closed = matches!(
            deployment.breaker_state(&routes.breaker, at.now_us),
            BreakerState::Closed { .. }
        );
        if drawn < shadow.share && closed {
            self.shadow = Some(Attempt {
                target: u8::MAX,
                deployment: shadow.deployment,
                kind: AttemptKind::Shadow,
                delay_us: 0,
                propensity: shadow.share,
                probe: false,
            });
        }
    }

    /// The shadow attempt, if this request is one of the share. Its answer is measured and discarded.
    /// Its target has no position in the alias: `target` is `u8::MAX`.
    pub fn shadow(&mut self) -> Option<Attempt> {
        self.shadow.take()
    }
}

/// Microseconds as a float, as an integer within a day.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to what fits"
)]
fn whole(us: f32) -> u64 {
    us.clamp(0.0, 86_400e6) as u64
}
