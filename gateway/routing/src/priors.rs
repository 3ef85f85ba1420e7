//! What the published routing table says, resolved for one configuration.

use weir_schemas::table::{AliasTable, RoutingTable, TargetEntry};

use crate::alias::{Alias, AliasTarget};
use crate::routes::Routes;

/// Long-term measurements per alias and target, beside what this process sees itself. A gateway
/// keeps them until the next table, and resolves them again when its configuration changes.
#[derive(Debug, Clone, Default)]
pub struct Priors {
    table: Option<AdoptedTable>,
}

#[derive(Debug, Clone)]
struct AdoptedTable {
    /// Fingerprint of the routes that this was resolved for: positions mean nothing elsewhere.
    fingerprint: u64,
    version: u64,
    made_at_us: u64,
    trusted_us: Option<u64>,
    forgotten_us: u64,
    /// By the alias's position.
    aliases: Vec<AliasPriors>,
}

/// One alias's part.
#[derive(Debug, Clone, Default)]
pub(crate) struct AliasPriors {
    pub(crate) output_tokens_mean: Option<f32>,
    /// By the target's position; empty if the table does not know the alias.
    pub(crate) targets: Vec<TargetPrior>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct TargetPrior {
    pub(crate) weight: Option<f32>,
    pub(crate) ttft_us: Option<f32>,
    pub(crate) ttft_p95_us: Option<f32>,
    pub(crate) error_ratio: Option<f32>,
    pub(crate) picousd_per_token: Option<f32>,
}

/// One alias's priors as one request sees them.
#[derive(Clone, Copy, Default)]
pub(crate) struct TrustedPriors<'a> {
    /// 1 for a fresh table, 0 for none or one that is too old.
    pub(crate) belief: f32,
    pub(crate) version: u64,
    alias: Option<&'a AliasPriors>,
}

impl Priors {
    /// No table: every target is worth its configured weight.
    pub fn neutral() -> Self {
        Self::default()
    }

    /// Takes over a published table. What it says about aliases or deployments that these routes
    /// don't have is left out; what it does not say stays neutral.
    pub fn adopt(table: &RoutingTable, routes: &Routes) -> Self {
        let resolve = |alias: &Alias| {
            let entry = table.alias(&alias.name);
            let known = entry.map(|entry| alias_priors(entry, alias, routes));
            known.unwrap_or_default()
        };
        Self {
            table: Some(AdoptedTable {
                fingerprint: routes.fingerprint(),
                version: table.version,
                made_at_us: table.made_at_us,
                trusted_us: table.ages.then_some(table.trusted_us),
                forgotten_us: table.forgotten_us,
                aliases: routes.aliases().iter().map(resolve).collect(),
            }),
        }
    }

    /// The adopted table's version; 0 without one.
    pub fn version(&self) -> u64 {
        self.table.as_ref().map_or(0, |table| table.version)
    }

    /// How much the table still counts: 1 when fresh, 0 when too old or absent.
    pub fn belief(&self, now_us: u64) -> f32 {
        self.table
            .as_ref()
            .map_or(0.0, |table| table.belief(now_us))
    }

    /// What the table says about an alias of these routes.
    pub(crate) fn trusted(&self, routes: &Routes, alias: &Alias, now_us: u64) -> TrustedPriors<'_> {
        let made_for = |table: &&AdoptedTable| table.fingerprint == routes.fingerprint();
        let Some(table) = self.table.as_ref().filter(made_for) else {
            return TrustedPriors::default();
        };
        match table.belief(now_us) {
            belief if belief > 0.0 => TrustedPriors {
                belief,
                version: table.version,
                alias: table.aliases.get(alias.index),
            },
            _ => TrustedPriors::default(),
        }
    }
}

impl AdoptedTable {
    /// Full while the table is fresh, then less and less: while the ingestor is down, an old table
    /// must not stay in force.
    fn belief(&self, now_us: u64) -> f32 {
        let Some(trusted_us) = self.trusted_us else {
            return 1.0;
        };
        let age_us = now_us.saturating_sub(self.made_at_us);
        let fading_us = self.forgotten_us.saturating_sub(trusted_us).max(1);
        let past_us = age_us.saturating_sub(trusted_us);
        (1.0 - past_us as f32 / fading_us as f32).clamp(0.0, 1.0)
    }
}

impl TrustedPriors<'_> {
    pub(crate) fn target(&self, index: usize) -> TargetPrior {
        self.alias
            .and_then(|alias| alias.targets.get(index))
            .copied()
            .unwrap_or_default()
    }

    pub(crate) fn output_tokens_mean(&self) -> Option<f32> {
        self.alias.and_then(|alias| alias.output_tokens_mean)
    }
}

fn alias_priors(entry: &AliasTable, alias: &Alias, routes: &Routes) -> AliasPriors {
    let target = |target: &AliasTarget| {
        let name = &routes.deployment(target.deployment).name;
        entry.target(name).map(target_prior).unwrap_or_default()
    };
    AliasPriors {
        output_tokens_mean: entry.output_tokens_mean.and_then(sane),
        targets: alias.targets.iter().map(target).collect(),
    }
}

fn target_prior(entry: &TargetEntry) -> TargetPrior {
    TargetPrior {
        weight: sane(entry.weight),
        ttft_us: entry.ttft_us.and_then(sane),
        ttft_p95_us: entry.ttft_p95_us.and_then(sane),
        error_ratio: entry.error_ratio.map(|ratio| narrow(ratio.clamp(0.0, 1.0))),
        picousd_per_token: entry.picousd_per_token.and_then(sane),
    }
}

/// A table comes from another process: a number out of range counts as absent.
fn sane(value: f64) -> Option<f32> {
    let value = narrow(value);
    (value.is_finite() && value > 0.0).then_some(value)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "scores need no more than f32 holds"
)]
fn narrow(value: f64) -> f32 {
    value as f32
}
