//! What a request, or a shadow, has used, in the place of what it had reserved.
//!
//! Budgets are charged with what all attempts cost, in the figures of their events: a budget is a sum
//! of `weir.attempts`.

use weir_eventlog::LockedStream;
use weir_governance::admission::ReservedBudget;
use weir_governance::clock::Moment;
use weir_governance::control::policy::Subject;
use weir_governance::thresholds::BudgetNotice;
use weir_limits::{Actual, BudgetAmount, Permit};

use crate::record::context::RequestContext;
use crate::record::telemetry::RequestMetrics;
use crate::record::trail::RequestTotals;
use crate::request::worker::Worker;

/// Settles a permit, and lets `append` write the events while their places in the stream are held. With
/// a charge, a line in the ledger comes first: a kill in between leaves a line that does not count.
pub(crate) fn settle<R>(
    worker: &Worker,
    permit: Option<Permit<ReservedBudget>>,
    context: &RequestContext,
    totals: &RequestTotals,
    append: impl FnOnce(LockedStream<'_>, &[BudgetNotice]) -> R,
) -> R {
    let (Some(permit), Some(subject)) = (permit, context.subject()) else {
        return append(worker.stream.lock(), &[]);
    };
    let actual = actual(totals, context);
    let charges = permit.budgets();
    let charges = charges.filter_map(|(budget, held)| budget.charge(&subject, &actual, held));
    let charges: Vec<_> = charges.collect();
    let metrics = &worker.shared.telemetry.metrics;
    if charges.is_empty() {
        let notices = end(permit, &subject, &actual, metrics);
        return append(worker.stream.lock(), &notices);
    }
    let ledger = &worker.shared.ledger;
    ledger.charge(&worker.stream, charges, |stream| {
        let notices = end(permit, &subject, &actual, metrics);
        append(stream, &notices)
    })
}

/// Reserves for an attempt beside or after one that may be billed. Returns the budget that has no room
/// for it, if there is one.
pub(crate) fn reserve_again(
    permit: Option<&mut Permit<ReservedBudget>>,
    context: &RequestContext,
) -> Option<String> {
    let (permit, subject) = (permit?, context.subject()?);
    let full = permit.reserve_again(Moment::now().unix_us).err()?;
    let (budget, request_id) = (full.name(&subject), context.id);
    tracing::info!(budget, %request_id, "a further attempt is not made: the budget has no room for it");
    Some(budget)
}

fn end(
    permit: Permit<ReservedBudget>,
    subject: &Subject<'_>,
    actual: &Actual,
    metrics: &RequestMetrics,
) -> Vec<BudgetNotice> {
    let mut notices = Vec::new();
    permit.settle(actual, Moment::now().unix_us, |budget, settled| {
        if let Some(crossing) = &settled.crossing {
            notices.push(BudgetNotice::threshold(budget, subject, crossing));
        }
        if settled.charged > settled.reserved && budget.is_hard() {
            metrics.budget_overspent.inc();
            let notice = BudgetNotice::overspent(budget, subject, &settled);
            tracing::error!(
                facts = notice.json(),
                "a provider billed more than was reserved of a hard budget"
            );
            notices.push(notice);
        }
    });
    notices
}

fn actual(totals: &RequestTotals, context: &RequestContext) -> Actual {
    Actual {
        tokens: totals.tokens,
        billed_tokens: totals.billed_tokens,
        pico_usd: BudgetAmount::from(totals.billed.0.unsigned_abs()),
        is_partly_unknown: totals.is_partly_unknown,
        at_ms: context.arrived.unix_ms(),
    }
}
