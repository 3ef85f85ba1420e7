//! One request from its arrival to its event.
//!
//! The holder of the exchange is answering the request. However that ends, by the last byte, by a
//! client that disconnects, or by a bug, the request gets its events exactly once: an exchange that is
//! dropped before it is finished is a client that has disconnected.

use std::sync::Arc;

use http::HeaderMap;
use weir_eventlog::{AppendError, Appended, LockedStream};
use weir_governance::admission::ReservedBudget;
use weir_governance::clock::Moment;
use weir_governance::ledger::Charge;
use weir_governance::thresholds::ThresholdCrossing;
use weir_limits::{Actual, BudgetAmount, Permit, ProviderPermit};

use crate::record::attempt::AttemptEnd;
use crate::record::context::RequestContext;
use crate::record::payload::{CapturedPayload, PayloadCapture};
use crate::record::trail::{RequestRecord, RequestTotals};
use crate::request::drain::ClientPresence;
use crate::request::worker::Worker;
use crate::setup::directory::Deployment;

pub(crate) struct Exchange {
    pub(crate) worker: Arc<Worker>,
    pub(crate) context: RequestContext,
    pub(crate) record: RequestRecord,
    /// What the request's attempts hold of their providers' limits.
    pub(crate) provider_permits: ProviderPermits,
    /// What the request holds of limits and budgets.
    pub(crate) permit: Option<Permit<ReservedBudget>>,
    /// What is kept of what the client sends and gets, if anything is.
    pub(crate) payload: Option<Box<PayloadCapture>>,
    /// Response headers about the client's limits.
    pub(crate) limit_headers: HeaderMap,
    /// Whether the client is still there, if its answer is read on without it.
    pub(crate) client: Option<Arc<ClientPresence>>,
    finished: bool,
}

impl Exchange {
    pub(crate) fn begin(
        worker: Arc<Worker>,
        context: RequestContext,
        record: RequestRecord,
    ) -> Self {
        worker.shared.telemetry.metrics.in_flight.inc();
        Self {
            worker,
            context,
            record,
            provider_permits: ProviderPermits::default(),
            permit: None,
            payload: None,
            limit_headers: HeaderMap::new(),
            client: None,
            finished: false,
        }
    }

    /// Writes the events. Must happen before the last byte of the response is handed to the client,
    /// so that no answer is ever complete without them.
    pub(crate) fn finish(&mut self) -> Result<Appended, AppendError> {
        self.finished = true;
        let totals = self.record.close(self.provider_permits.settling());
        for message in self.record.messages_mut() {
            self.worker.shared.payloads.clean(message);
        }
        let payload = self.payload.take();
        let payload = payload.map(|payload| payload.close(totals.is_complete));
        let payload = payload.as_ref();
        let telemetry = &self.worker.shared.telemetry;
        telemetry.metrics.in_flight.dec();
        telemetry.count(&self.context, &self.record);
        let actual = actual(&totals, &self.context);
        let worker = self.worker.clone();
        let Some((permit, charges)) = self.charges(&actual) else {
            return self.append(worker.stream.lock(), payload, &[]);
        };
        if charges.is_empty() {
            let reached = self.settle(permit, &actual);
            return self.append(worker.stream.lock(), payload, &reached);
        }
        // A line in the ledger, then the events: a kill in between leaves a line that does not count.
        let ledger = &worker.shared.ledger;
        ledger.charge(&worker.stream, charges, |stream| {
            let reached = self.settle(permit, &actual);
            self.append(stream, payload, &reached)
        })
    }

    fn append(
        &self,
        stream: LockedStream<'_>,
        payload: Option<&CapturedPayload>,
        reached: &[ThresholdCrossing],
    ) -> Result<Appended, AppendError> {
        let texts: Vec<String> = reached.iter().map(ThresholdCrossing::json).collect();
        let payload = payload.map(|payload| payload.event(&self.context, &self.record));
        let mut events = self.record.events(&self.context, payload);
        let now_ms = Moment::now().unix_ms();
        let pairs = reached.iter().zip(&texts);
        events.extend(pairs.map(|(reached, text)| reached.event(text, now_ms)));
        stream.append(&events)
    }

    /// What the request holds, and what each of its budgets is charged.
    fn charges(&mut self, actual: &Actual) -> Option<(Permit<ReservedBudget>, Vec<Charge>)> {
        let permit = self.permit.take()?;
        let subject = self.context.subject()?;
        let charges = permit.budgets();
        let charges =
            charges.filter_map(|(account, reserved)| account.charge(&subject, actual, reserved));
        let charges = charges.collect();
        Some((permit, charges))
    }

    /// Puts what the request used in the place of what it had reserved.
    fn settle(&self, permit: Permit<ReservedBudget>, actual: &Actual) -> Vec<ThresholdCrossing> {
        let mut reached = Vec::new();
        let Some(subject) = self.context.subject() else {
            return reached;
        };
        permit.settle(actual, Moment::now().unix_us, |budget, crossing| {
            reached.push(ThresholdCrossing::new(&budget, &subject, &crossing));
        });
        reached
    }

    /// Whether the client has disconnected from an answer that goes on all the same.
    pub(crate) fn has_client_left(&self) -> bool {
        self.client.as_ref().is_some_and(|client| client.has_left())
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.finished
    }

    fn abandon(&mut self) {
        let end = if std::thread::panicking() {
            AttemptEnd::Internal
        } else if *self.worker.shared.stopped.borrow() {
            AttemptEnd::Shutdown
        } else {
            AttemptEnd::ClientGone
        };
        self.record.abandon(end);
        if let Err(error) = self.finish() {
            tracing::error!(%error, request_id = %self.context.id, "failed to write request events");
        }
    }
}

/// What the attempts of a request hold of their providers' limits, in the order of their numbers. It
/// is settled when the request ends: only then is it known what each has used.
#[derive(Debug, Default)]
pub(crate) struct ProviderPermits(Vec<(Arc<Deployment>, ProviderPermit)>);

impl ProviderPermits {
    pub(crate) fn hold(&mut self, deployment: Arc<Deployment>, permit: ProviderPermit) {
        self.0.push((deployment, permit));
    }

    /// A function of an attempt's number, and of the tokens that it used.
    fn settling(&self) -> impl FnMut(u16, u64) {
        let now_us = Moment::now().unix_us;
        move |number, tokens| {
            let held = self.0.get(usize::from(number.saturating_sub(1)));
            if let Some((deployment, permit)) = held {
                deployment.limits.settle(permit, tokens, now_us);
            }
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if !self.finished {
            self.abandon();
        }
    }
}

/// What the request used, in the figures of its events, which SQL sums up.
fn actual(totals: &RequestTotals, context: &RequestContext) -> Actual {
    Actual {
        tokens: totals.tokens,
        pico_usd: totals
            .cost
            .map(|cost| BudgetAmount::from(cost.0.unsigned_abs())),
        at_ms: context.arrived.unix_ms(),
    }
}
