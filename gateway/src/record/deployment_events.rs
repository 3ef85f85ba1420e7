//! State changes of circuit breakers, as events and in the log.

use weir_eventlog::StreamWriter;
use weir_routing::{BreakerState, Transition};
use weir_schemas::event::{DeploymentStateChanged, Event};

use crate::setup::directory::Deployment;
use weir_governance::clock::Moment;

/// Records that a deployment was ejected, or came back.
pub(crate) fn note_transition(
    stream: &StreamWriter,
    deployment: &Deployment,
    transition: Option<Transition>,
) {
    match transition {
        None => {}
        Some(Transition::Recovered) => note(stream, deployment, "recovered", None, None),
        Some(Transition::Ejected { cause, until_us }) => {
            note(
                stream,
                deployment,
                "ejected",
                Some(cause.as_str()),
                Some(until_us),
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
            Some(cause.as_str()),
            Some(until_us),
        );
    }
}

fn note(
    stream: &StreamWriter,
    deployment: &Deployment,
    state: &'static str,
    cause: Option<&'static str>,
    until_us: Option<u64>,
) {
    tracing::warn!(
        deployment = deployment.name,
        state,
        cause,
        "deployment changed state"
    );
    let event = DeploymentStateChanged {
        ts_us: Moment::now().unix_us,
        deployment: &deployment.name,
        provider: &deployment.provider.name,
        model: &deployment.model,
        provider_key: deployment.key_name.as_deref(),
        state,
        cause,
        until_us,
    };
    let appended = stream.append(&[Event::DeploymentStateChanged(event)]);
    if let Err(error) = appended {
        tracing::error!(%error, "failed to write a deployment state event");
    }
}
