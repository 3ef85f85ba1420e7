//! What is done beside the requests: expired reservations, counters that nobody needs, the ledger,
//! when keys were last used.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use weir_eventlog::StoppableThread;
use weir_limits::{Bucket, LimitCounter, RateSpec};

use crate::request::worker::GatewayState;
use weir_governance::clock::Moment;
use weir_governance::control::policy::{Limit, Rules, shown};
use weir_governance::thresholds::shown_amount;

const PAUSE: Duration = Duration::from_secs(1);
/// Counters are looked through in every so many rounds.
const FORGET_ROUNDS: u64 = 30;
/// When keys were last used is written down in every so many rounds.
const LAST_USED_ROUNDS: u64 = 60;

/// Starts the thread that does it. When it is stopped, everything that was spent is written down.
pub(crate) fn start(shared: Arc<GatewayState>) -> io::Result<StoppableThread> {
    let part = shared.parts.add("upkeep");
    part.keep_running(move |stop| {
        let mut round = 0;
        while stop.sleep(PAUSE) {
            round += 1;
            once(&shared, round);
        }
        let control = shared.control.load();
        let now_us = Moment::now().unix_us;
        shared.ledger.keep(control.rules(), now_us, true);
        shared.control.keep_last_used();
        Ok(())
    })
}

fn once(shared: &GatewayState, round: u64) {
    let control = shared.control.load_full();
    let rules = control.rules();
    let now_us = Moment::now().unix_us;
    shared.ledger.keep(rules, now_us, false);
    if round.is_multiple_of(LAST_USED_ROUNDS) {
        shared.control.keep_last_used();
    }
    if round.is_multiple_of(FORGET_ROUNDS) {
        expire(rules, now_us);
        forget(rules, now_us);
    }
}

fn expire(rules: &Rules, now_us: u64) {
    for budget in rules.budgets.iter() {
        for (subject, purse) in budget.counters.all() {
            let expired = purse.expire(now_us);
            if expired > 0 {
                tracing::warn!(
                    budget = &*budget.id,
                    subject = shown(&subject),
                    expired = shown_amount(budget.terms.spec.unit, expired),
                    "reservations expired that no request ended"
                );
            }
        }
    }
}

fn forget(rules: &Rules, now_us: u64) {
    for limit in rules.limits.iter() {
        limit
            .counters
            .forget(|counter| limit_is_idle(limit, counter, now_us));
    }
    for budget in rules.budgets.iter() {
        budget
            .counters
            .forget(|purse| purse.is_idle(&budget.terms.spec, now_us));
    }
}

fn limit_is_idle(limit: &Limit, counter: &LimitCounter, now_us: u64) -> bool {
    let idle = |spec: &Option<RateSpec>, bucket: &Bucket| {
        spec.as_ref()
            .is_none_or(|spec| bucket.is_idle(spec, now_us))
    };
    idle(&limit.terms.requests, &counter.requests)
        && idle(&limit.terms.tokens, &counter.tokens)
        && counter.slots.read().0 == 0
}
