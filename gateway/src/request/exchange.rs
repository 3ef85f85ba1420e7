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
use weir_governance::thresholds::BudgetNotice;
use weir_limits::{Permit, ProviderPermit};

use crate::record::attempt::AttemptEnd;
use crate::record::context::RequestContext;
use crate::record::payload::{CapturedPayload, PayloadCapture};
use crate::record::trail::RequestRecord;
use crate::request::drain::ClientPresence;
use crate::request::settlement;
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
    /// Most tokens of an answer for which hard budgets have room.
    pub(crate) output_tokens_max: Option<u64>,
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
            output_tokens_max: None,
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
        let settling = self.provider_permits.settling();
        let totals = self.record.close(self.output_tokens_max, settling);
        for message in self.record.messages_mut() {
            self.worker.shared.payloads.clean(message);
        }
        let payload = self.payload.take();
        let payload = payload.map(|payload| payload.close(totals.is_complete));
        let payload = payload.as_ref();
        let telemetry = &self.worker.shared.telemetry;
        telemetry.metrics.in_flight.dec();
        telemetry.count(&self.context, &self.record);
        let (worker, permit) = (self.worker.clone(), self.permit.take());
        settlement::settle(
            &worker,
            permit,
            &self.context,
            &totals,
            |stream, notices| self.append(stream, payload, notices),
        )
    }

    /// Ends a call that is only counted: it reached no provider, and holds nothing.
    pub(crate) fn end_without_events(&mut self) {
        self.finished = true;
        let telemetry = &self.worker.shared.telemetry;
        telemetry.metrics.in_flight.dec();
        telemetry.count(&self.context, &self.record);
    }

    fn append(
        &self,
        stream: LockedStream<'_>,
        payload: Option<&CapturedPayload>,
        notices: &[BudgetNotice],
    ) -> Result<Appended, AppendError> {
        let payload = payload.map(|payload| payload.event(&self.context, &self.record));
        let mut events = self.record.events(&self.context, payload);
        let now_ms = Moment::now().unix_ms();
        events.extend(notices.iter().map(|notice| notice.event(now_ms)));
        stream.append(&events)
    }

    /// Reserves for an attempt after one that failed and may be billed. Where a budget has no room for
    /// it, the attempt is not made, and the record names the budget.
    pub(crate) fn reserve_again(&mut self) -> bool {
        let full = settlement::reserve_again(self.permit.as_mut(), &self.context);
        let fits = full.is_none();
        if !fits {
            self.record.admitted(full);
        }
        fits
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
