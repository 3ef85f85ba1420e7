//! All deployments and aliases of one configuration, and the view a request takes of them.

use std::collections::HashMap;
use std::sync::Arc;

use thiserror::Error;

use crate::alias::Alias;
use crate::breaker::{Breaker, BreakerState};
use crate::health::{Entry, Health, HealthSnapshot, InFlight, WindowRef};
use crate::plan::{Plan, RequestFacts, Try};
use crate::priors::Priors;
use crate::random::{hash, mix};
use crate::spec::{BreakerSpec, DeploymentSpec, PriceSpec, RoutesSpec};

/// Names a deployment: its position in [`RoutesSpec::deployments`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeploymentId(u16);

impl DeploymentId {
    pub fn new(index: usize) -> Self {
        Self(u16::try_from(index).unwrap_or(u16::MAX))
    }

    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// One place a request can be sent, and what is known about it.
#[derive(Debug)]
pub struct Deployment {
    pub name: Box<str>,
    pub provider: Box<str>,
    pub model: Box<str>,
    pub context_window_tokens: Option<u32>,
    pub price: Option<PriceSpec>,
    pub(crate) health: Arc<Health>,
    key: Option<Key>,
}

/// A provider key's own breaker, shared by the deployments that use the key.
#[derive(Debug, Clone)]
struct Key {
    name: Box<str>,
    breaker: Arc<Breaker>,
}

impl Deployment {
    pub(crate) fn breaker_state(&self, spec: &BreakerSpec, now_us: u64) -> BreakerState {
        let own = self.health.breaker().state(spec, now_us);
        match &self.key {
            None => own,
            Some(key) => own.worse(key.breaker.state(spec, now_us)),
        }
    }
}

/// A configuration's routes. Built whole, never changed; a reload builds the next one, which takes
/// over the health of the deployments that it still has.
#[derive(Debug)]
pub struct Routes {
    pub(crate) deployments: Vec<Deployment>,
    aliases: Vec<Alias>,
    by_name: HashMap<Box<str>, usize>,
    pub(crate) breaker: BreakerSpec,
    fingerprint: u64,
}

/// Why a configuration's routes cannot run.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}{problem}", alias.as_ref().map(|a| format!("alias \"{a}\": ")).unwrap_or_default())]
pub struct SpecError {
    pub alias: Option<String>,
    pub problem: String,
}

impl Routes {
    /// Checks a configuration. `carry` is the one in force before, whose health lives on.
    pub fn build(spec: &RoutesSpec, carry: Option<&Self>) -> Result<Self, Vec<SpecError>> {
        let mut errors = Vec::new();
        check_deployments(&spec.deployments, &mut errors);
        check_breaker(&spec.breaker, &mut errors);
        let mut aliases = Vec::with_capacity(spec.aliases.len());
        let mut by_name = HashMap::with_capacity(spec.aliases.len());
        for alias in &spec.aliases {
            let carried = carry.and_then(|routes| routes.alias(&alias.name));
            match Alias::build(alias, aliases.len(), &spec.deployments, carried) {
                Ok(built) => {
                    if by_name
                        .insert(alias.name.as_str().into(), aliases.len())
                        .is_some()
                    {
                        let problem = "it is defined twice: rename one of the two".into();
                        errors.push(SpecError {
                            alias: Some(alias.name.clone()),
                            problem,
                        });
                    }
                    aliases.push(built);
                }
                Err(error) => errors.push(error),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let mut keys = HashMap::new();
        let deployments = spec
            .deployments
            .iter()
            .map(|d| deployment(d, carry, &mut keys))
            .collect();
        let fingerprint = fingerprint(spec);
        Ok(Self {
            deployments,
            aliases,
            by_name,
            breaker: spec.breaker,
            fingerprint,
        })
    }

    pub fn alias(&self, name: &str) -> Option<&Alias> {
        self.by_name.get(name).map(|index| &self.aliases[*index])
    }

    pub fn aliases(&self) -> &[Alias] {
        &self.aliases
    }

    pub fn deployments(&self) -> &[Deployment] {
        &self.deployments
    }

    pub fn ids(&self) -> impl Iterator<Item = DeploymentId> {
        (0..self.deployments.len()).map(DeploymentId::new)
    }

    pub fn deployment(&self, id: DeploymentId) -> &Deployment {
        &self.deployments[id.index()]
    }

    /// What this process has seen of a deployment.
    pub fn health(&self, id: DeploymentId, now_us: u64) -> HealthSnapshot {
        let deployment = self.deployment(id);
        let state = deployment.breaker_state(&self.breaker, now_us);
        deployment.health.snapshot(state, now_us)
    }

    /// The provider key behind a deployment is another one than before. If the old one was refused,
    /// the next request finds out about the new one.
    pub fn look_again(&self, id: DeploymentId, now_us: u64) {
        let deployment = self.deployment(id);
        deployment.health.breaker().look_again(now_us);
        if let Some(key) = &deployment.key {
            key.breaker.look_again(now_us);
        }
    }

    /// Tells configurations apart in which positions mean different things.
    pub(crate) fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// The view that one request keeps from its plan to its last try.
    pub fn view<'a>(&'a self, priors: &'a Priors) -> View<'a> {
        View {
            routes: self,
            priors,
        }
    }
}

/// One configuration and one table, as one request sees them.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    pub(crate) routes: &'a Routes,
    pub(crate) priors: &'a Priors,
}

impl View<'_> {
    /// Weighs the alias's targets for one request.
    pub fn plan(self, alias: &Alias, facts: &RequestFacts, now_us: u64, seed: u64) -> Plan {
        Plan::make(self, alias, facts, now_us, seed)
    }

    /// Opens a try that [`Plan::next`], [`Plan::hedge`] or [`Plan::shadow`] gave, at the moment its
    /// request is sent.
    pub fn start(self, alias: &Alias, plan: &Plan, this: &Try, now_us: u64) -> InFlight {
        let deployment = self.routes.deployment(this.deployment);
        let state = deployment.breaker_state(&self.routes.breaker, now_us);
        let entry = Entry {
            health: Arc::clone(&deployment.health),
            key: deployment.key.as_ref().map(|key| Arc::clone(&key.breaker)),
            breaker: self.routes.breaker,
            budget: this
                .kind
                .draws_on_budget()
                .then(|| Arc::clone(&alias.budget)),
            window: window(alias, this),
            input_tokens: plan.input_tokens(),
            awaited_tokens: plan.awaited_tokens(),
            // A last resort is a probe too: its answer tells as much.
            probe: this.probe || !matches!(state, BreakerState::Closed { .. }),
        };
        InFlight::enter(entry, now_us)
    }
}

fn window(alias: &Alias, this: &Try) -> Option<WindowRef> {
    let windows = Arc::clone(alias.windows.as_ref()?);
    let ttft_ms_max = alias.strategy.ttft_ms_max()?;
    Some(WindowRef {
        windows,
        target: usize::from(this.target),
        ttft_ms_max,
    })
}

fn deployment(
    spec: &DeploymentSpec,
    carry: Option<&Routes>,
    keys: &mut HashMap<String, Arc<Breaker>>,
) -> Deployment {
    let before = carry.map_or(&[][..], |routes| &routes.deployments);
    let same = before.iter().find(|before| *before.name == *spec.name);
    let same_key = || {
        let key = before
            .iter()
            .filter_map(|d| d.key.as_ref())
            .find(|key| *key.name == *spec.key);
        key.map_or_else(
            || Arc::new(Breaker::closed()),
            |key| Arc::clone(&key.breaker),
        )
    };
    let key = (!spec.key.is_empty()).then(|| Key {
        name: spec.key.as_str().into(),
        breaker: Arc::clone(keys.entry(spec.key.clone()).or_insert_with(same_key)),
    });
    Deployment {
        name: spec.name.as_str().into(),
        provider: spec.provider.as_str().into(),
        model: spec.model.as_str().into(),
        context_window_tokens: spec.context_window_tokens,
        price: spec.price,
        health: same.map_or_else(|| Arc::new(Health::new()), |d| Arc::clone(&d.health)),
        key,
    }
}

/// Of the names in their order: it is equal for equal positions, in every process.
fn fingerprint(spec: &RoutesSpec) -> u64 {
    let mut sum = 0;
    for alias in &spec.aliases {
        sum = mix(sum ^ hash(&alias.name));
        for target in &alias.targets {
            sum = mix(sum
                ^ spec
                    .deployments
                    .get(target.deployment)
                    .map_or(0, |d| hash(&d.name)));
        }
    }
    sum
}

fn check_deployments(specs: &[DeploymentSpec], errors: &mut Vec<SpecError>) {
    let mut problem = |problem: String| {
        errors.push(SpecError {
            alias: None,
            problem,
        })
    };
    if specs.len() > usize::from(u16::MAX) {
        problem(format!(
            "{} deployments are too many; {} are the most",
            specs.len(),
            u16::MAX
        ));
    }
    let mut names = std::collections::HashSet::with_capacity(specs.len());
    for spec in specs {
        if !names.insert(spec.name.as_str()) {
            problem(format!("deployment \"{}\" exists twice", spec.name));
        }
    }
}

fn check_breaker(spec: &BreakerSpec, errors: &mut Vec<SpecError>) {
    let mut problem = |problem: String| {
        errors.push(SpecError {
            alias: None,
            problem,
        })
    };
    if spec.consecutive_failures == 0 {
        problem("breaker.consecutive_failures is 0, which would eject every deployment".into());
    }
    if !(spec.failure_ratio > 0.0 && spec.failure_ratio <= 1.0) {
        problem(format!(
            "breaker.failure_ratio is {}; it must be above 0 and at most 1",
            spec.failure_ratio
        ));
    }
    if spec.open_ms == 0 || spec.open_ms > spec.open_ms_max {
        problem(format!(
            "breaker.open_ms is {}; it must be at least 1 and at most open_ms_max ({})",
            spec.open_ms, spec.open_ms_max
        ));
    }
    if spec.stall_waiting_min == 0 || spec.stall_factor.is_nan() || spec.stall_factor < 1.0 {
        problem("breaker.stall_waiting_min and breaker.stall_factor must be at least 1".into());
    }
}
