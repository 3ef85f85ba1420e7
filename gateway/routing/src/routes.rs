//! All deployments and aliases of one configuration.

use std::collections::HashMap;

use crate::alias::Alias;
use crate::check::{SpecError, check};
use crate::deployment::RoutedDeployment;
use crate::health::HealthSnapshot;
use crate::random::{hash, mix};
use crate::spec::{BreakerSpec, DeploymentId, RoutesSpec};

/// A configuration's routes. Built whole, never changed; a reload builds the next one, which takes
/// over the health of the deployments that it still has.
#[derive(Debug)]
pub struct Routes {
    pub(crate) deployments: Vec<RoutedDeployment>,
    aliases: Vec<Alias>,
    by_name: HashMap<Box<str>, usize>,
    pub(crate) breaker: BreakerSpec,
    fingerprint: u64,
}

impl Routes {
    /// Builds the routes of a configuration, or reports everything that is wrong with it. `carry` is
    /// the configuration in force before: its health lives on.
    pub fn build(spec: &RoutesSpec, carry: Option<&Self>) -> Result<Self, Vec<SpecError>> {
        check(spec)?;
        let before = carry.map_or(&[][..], |routes| &routes.deployments);
        let aliases = spec.aliases.iter().enumerate().map(|(index, alias)| {
            let carried = carry.and_then(|routes| routes.alias(&alias.name));
            Alias::build(alias, index, &spec.deployments, carried)
        });
        let names = spec.aliases.iter().map(|alias| alias.name.as_str().into());
        Ok(Self {
            deployments: RoutedDeployment::build_all(&spec.deployments, before),
            aliases: aliases.collect(),
            by_name: names.zip(0..).collect(),
            breaker: spec.breaker,
            fingerprint: fingerprint(spec),
        })
    }

    pub fn alias(&self, name: &str) -> Option<&Alias> {
        self.by_name.get(name).map(|index| &self.aliases[*index])
    }

    pub fn aliases(&self) -> &[Alias] {
        &self.aliases
    }

    pub fn deployments(&self) -> &[RoutedDeployment] {
        &self.deployments
    }

    pub fn ids(&self) -> impl Iterator<Item = DeploymentId> {
        (0..self.deployments.len()).map(DeploymentId::new)
    }

    pub fn deployment(&self, id: DeploymentId) -> &RoutedDeployment {
        &self.deployments[id.index()]
    }

    /// What this process has seen of a deployment.
    pub fn health(&self, id: DeploymentId, now_us: u64) -> HealthSnapshot {
        let deployment = self.deployment(id);
        let state = deployment.breaker_state(&self.breaker, now_us);
        deployment.health.snapshot(state, now_us)
    }

    /// The provider key behind a deployment was replaced. If the provider refused the old one, the
    /// next request probes with the new one.
    pub fn half_open(&self, id: DeploymentId, now_us: u64) {
        let deployment = self.deployment(id);
        deployment.health.breaker().half_open(now_us);
        if let Some(key) = &deployment.key {
            key.breaker.half_open(now_us);
        }
    }

    /// Differs between configurations in which positions mean different things.
    pub(crate) fn fingerprint(&self) -> u64 {
        self.fingerprint
    }
}

/// A hash of the names in their order: equal for equal positions, in every process.
fn fingerprint(spec: &RoutesSpec) -> u64 {
    let mut sum = 0;
    for alias in &spec.aliases {
        sum = mix(sum ^ hash(&alias.name));
        for target in &alias.targets {
            sum = mix(sum ^ hash(&spec.deployments[target.deployment].name));
        }
    }
    sum
}
