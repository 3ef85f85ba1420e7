//! What is done beside the requests: expired reservations, counters that nobody needs, the ledger,
//! when keys were last used.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use weir_limits::{LimitCounter, RateSpec, Slots};

use crate::request::worker::Shared;
use weir_governance::clock::Moment;
use weir_governance::control::policy::{Limit, Rules};
use weir_governance::thresholds::shown_amount;

const PAUSE: Duration = Duration::from_secs(1);
/// Counters are looked through in every so many rounds.
const FORGET_ROUNDS: u64 = 30;
/// When keys were last used is written down in every so many rounds.
const LAST_USED_ROUNDS: u64 = 60;

/// The thread that does it.
#[derive(Debug)]
pub(crate) struct Upkeep {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Upkeep {
    pub(crate) fn start(shared: Arc<Shared>) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let run = move || {
            let mut round = 0;
            while !stopped.load(Ordering::Relaxed) {
                std::thread::park_timeout(PAUSE);
                round += 1;
                once(&shared, round);
            }
            let control = shared.control.load();
            shared
                .ledger
                .keep(control.rules(), Moment::now().unix_us, true);
            shared.control.keep_last_used();
        };
        let thread = std::thread::Builder::new()
            .name("upkeep".into())
            .spawn(run)?;
        Ok(Self { stop, thread })
    }

    /// Ends the thread, once everything that was spent is written down.
    pub(crate) fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        if self.thread.join().is_err() {
            tracing::error!("the upkeep thread panicked");
        }
    }
}

fn once(shared: &Shared, round: u64) {
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
    for budget in rules.budgets() {
        for (subject, purse) in budget.counters.all() {
            let expired = purse.expire(now_us);
            if expired > 0 {
                tracing::warn!(
                    budget = &*budget.id,
                    subject = weir_governance::control::policy::shown(&subject),
                    expired = shown_amount(budget.spec.unit, expired),
                    "reservations expired that no request ended"
                );
            }
        }
    }
}

fn forget(rules: &Rules, now_us: u64) {
    for limit in rules.limits() {
        limit
            .counters
            .forget(|counter| limit_is_idle(limit, counter, now_us));
    }
    for budget in rules.budgets() {
        budget
            .counters
            .forget(|purse| purse.is_idle(&budget.spec, now_us));
    }
}

fn limit_is_idle(limit: &Limit, counter: &LimitCounter, now_us: u64) -> bool {
    let idle = |spec: &Option<RateSpec>, bucket: &weir_limits::Bucket| {
        spec.as_ref()
            .is_none_or(|spec| bucket.is_idle(spec, now_us))
    };
    idle(&limit.requests, &counter.requests)
        && idle(&limit.tokens, &counter.tokens)
        && is_free(&counter.slots)
}

fn is_free(slots: &Slots) -> bool {
    slots.read().0 == 0
}
