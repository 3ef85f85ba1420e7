//! One place a request can be sent: a model of a provider, called with one key.

use std::collections::HashMap;
use std::sync::Arc;

use crate::breaker::{Breaker, BreakerState};
use crate::health::Health;
use crate::spec::{BreakerSpec, DeploymentSpec, PriceSpec};

/// A deployment and what this process knows about it.
#[derive(Debug)]
pub struct RoutedDeployment {
    pub name: Box<str>,
    pub provider: Box<str>,
    pub model: Box<str>,
    pub context_window_tokens: Option<u32>,
    pub price: Option<PriceSpec>,
    pub(crate) health: Arc<Health>,
    pub(crate) key: Option<KeyBreaker>,
}

/// A provider key's own breaker, shared by the deployments that use the key.
#[derive(Debug, Clone)]
pub(crate) struct KeyBreaker {
    name: Box<str>,
    pub(crate) breaker: Arc<Breaker>,
}

impl RoutedDeployment {
    /// Builds all deployments. Those that `before` knows by name keep their health, and keys their
    /// breaker.
    pub(crate) fn build_all(specs: &[DeploymentSpec], before: &[Self]) -> Vec<Self> {
        let keys_before = before
            .iter()
            .filter_map(|deployment| deployment.key.as_ref());
        let mut keys: HashMap<Box<str>, Arc<Breaker>> = keys_before
            .map(|key| (key.name.clone(), Arc::clone(&key.breaker)))
            .collect();
        let mut key = |name: &str| KeyBreaker {
            name: name.into(),
            breaker: Arc::clone(keys.entry(name.into()).or_default()),
        };
        let health = |name: &str| {
            let same = before.iter().find(|deployment| *deployment.name == *name);
            same.map(|same| Arc::clone(&same.health))
                .unwrap_or_default()
        };
        let build = |spec: &DeploymentSpec| Self {
            name: spec.name.as_str().into(),
            provider: spec.provider.as_str().into(),
            model: spec.model.as_str().into(),
            context_window_tokens: spec.context_window_tokens,
            price: spec.price,
            health: health(&spec.name),
            key: (!spec.key.is_empty()).then(|| key(&spec.key)),
        };
        specs.iter().map(build).collect()
    }

    pub(crate) fn breaker_state(&self, spec: &BreakerSpec, now_us: u64) -> BreakerState {
        let own = self.health.breaker().state(spec, now_us);
        match &self.key {
            None => own,
            Some(key) => own.worse(key.breaker.state(spec, now_us)),
        }
    }
}
