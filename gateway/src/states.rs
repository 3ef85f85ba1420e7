//! What breakers do, told to whoever looks: as events, in the log, in the metrics.

use weir_routing::{BreakerState, Transition};
use weir_schemas::StreamId;
use weir_schemas::event::{DeploymentStateChanged, Event};

use crate::clock::Moment;
use crate::directory::Deployment;
use crate::pipeline::Worker;

/// Stands where the journal will write the stream.
const UNSTAMPED: StreamId = StreamId::from_bytes([0; 16]);

impl Worker {
    /// A deployment that was ejected, or came back, is news for whoever is on call.
    pub(crate) fn note_transition(&self, deployment: &Deployment, transition: Option<Transition>) {
        match transition {
            None => {}
            Some(Transition::Recovered) => self.note(deployment, "recovered", None, None),
            Some(Transition::Ejected { cause, until_us }) => {
                self.note(deployment, "ejected", Some(cause.as_str()), Some(until_us));
            }
        }
    }

    /// The same for one that was found out of service.
    pub(crate) fn note_state(&self, deployment: &Deployment, state: BreakerState) {
        if let BreakerState::Open { until_us, cause } = state {
            self.note(deployment, "ejected", Some(cause.as_str()), Some(until_us));
        }
    }

    fn note(
        &self,
        deployment: &Deployment,
        state: &'static str,
        cause: Option<&'static str>,
        until_us: Option<u64>,
    ) {
        tracing::warn!(
            deployment = deployment.name,
            state,
            cause,
            "a deployment changed its state"
        );
        let event = DeploymentStateChanged {
            stream: UNSTAMPED,
            seq: 0,
            ts_us: Moment::now().unix_us,
            deployment: &deployment.name,
            provider: &deployment.provider.name,
            model: &deployment.model,
            provider_key: deployment.key_name.as_deref(),
            state,
            cause,
            until_us,
        };
        let appended = self
            .stream
            .append(&mut [Event::DeploymentStateChanged(event)]);
        if let Err(error) = appended {
            tracing::error!(%error, "write the event of a deployment's state");
        }
    }
}
