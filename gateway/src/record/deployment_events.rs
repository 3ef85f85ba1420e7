//! State changes of circuit breakers, as events and in the log.

use std::sync::Arc;

use weir_eventlog::StreamWriter;
use weir_routing::{BreakerState, Failure, InFlight, Transition};
use weir_schemas::event::{DeploymentStateChanged, Event};

use crate::setup::directory::Deployment;
use weir_governance::clock::Moment;

/// An attempt, of which its deployment's health is told how it goes, and once how it ends. What
/// changes by that is recorded.
pub(crate) struct TrackedAttempt {
    pub(crate) deployment: Arc<Deployment>,
    /// `None` once the end is told.
    in_flight: Option<InFlight>,
}

impl TrackedAttempt {
    pub(crate) fn new(deployment: Arc<Deployment>, in_flight: InFlight) -> Self {
        let in_flight = Some(in_flight);
        Self {
            deployment,
            in_flight,
        }
    }

    pub(crate) fn first_token(&mut self, stream: &StreamWriter) {
        if let Some(in_flight) = &mut self.in_flight {
            let transition = in_flight.first_token(Moment::now().unix_us);
            note_transition(stream, &self.deployment, transition);
        }
    }

    pub(crate) fn succeed(&mut self, stream: &StreamWriter, output_tokens: Option<u64>) {
        let tokens = u32::try_from(output_tokens.unwrap_or(0)).unwrap_or(u32::MAX);
        self.end(stream, |it, now_us| it.succeed(tokens, now_us));
    }

    pub(crate) fn fail(&mut self, stream: &StreamWriter, failure: &Failure) {
        self.end(stream, |it, now_us| it.fail(failure, now_us));
    }

    /// Another attempt was faster.
    pub(crate) fn lose(&mut self, stream: &StreamWriter) {
        self.end(stream, InFlight::lose);
    }

    fn end(
        &mut self,
        stream: &StreamWriter,
        tell: impl FnOnce(InFlight, u64) -> Option<Transition>,
    ) {
        if let Some(in_flight) = self.in_flight.take() {
            let transition = tell(in_flight, Moment::now().unix_us);
            note_transition(stream, &self.deployment, transition);
        }
    }
}

/// Records that a deployment was ejected, or came back.
fn note_transition(stream: &StreamWriter, deployment: &Deployment, transition: Option<Transition>) {
    match transition {
        None => {}
        Some(Transition::Recovered) => note(stream, deployment, "recovered", None),
        Some(Transition::Ejected { cause, until_us }) => {
            note(
                stream,
                deployment,
                "ejected",
                Some((cause.as_str(), until_us)),
            );
        }
    }
}

/// Records a deployment that was found out of service.
pub(crate) fn note_state(stream: &StreamWriter, deployment: &Deployment, state: BreakerState) {
    if let BreakerState::Open { until_us, cause } = state {
        note(
            stream,
            deployment,
            "ejected",
            Some((cause.as_str(), until_us)),
        );
    }
}

fn note(
    stream: &StreamWriter,
    deployment: &Deployment,
    state: &'static str,
    ejected: Option<(&'static str, u64)>,
) {
    let (cause, until_us) = ejected.unzip();
    tracing::warn!(
        deployment = deployment.name,
        state,
        cause,
        "deployment changed state"
    );
    let event = DeploymentStateChanged {
        ts_us: Moment::now().unix_us.into(),
        deployment: &deployment.name,
        provider: &deployment.provider.name,
        model: &deployment.model,
        provider_key: deployment.key_name.as_deref(),
        state,
        cause,
        until_us: until_us.map(Into::into),
    };
    let appended = stream.append(&[Event::DeploymentStateChanged(event)]);
    if let Err(error) = appended {
        tracing::error!(%error, "failed to write a deployment state event");
    }
}
