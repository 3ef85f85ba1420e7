//! The slow loop: what the simulated ingestor counts, and the tables that follow from it.

use std::collections::BTreeMap;
use std::time::Duration;

use weir_controller::{AliasOutcome, Cell, Measurements, TableController, TablePolicy};
use weir_schemas::table::{RoutingTable, TableRecord, size};

/// How often tables are made, and how old is what they are made from.
#[derive(Clone, Debug)]
pub struct LabFeedback {
    pub every: Duration,
    /// Until an event can be queried.
    pub delay: Duration,
    pub window: Duration,
    /// When the ingestor goes away for good.
    pub ends: Option<Duration>,
    pub policy: TablePolicy,
}

impl LabFeedback {
    #[must_use]
    pub fn every_s(seconds: u64, delay_s: u64) -> Self {
        Self {
            every: Duration::from_secs(seconds),
            delay: Duration::from_secs(delay_s),
            window: Duration::from_secs(30),
            ends: None,
            policy: TablePolicy::default(),
        }
    }
}

/// A finished attempt, as its event has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TryEvent {
    pub(crate) at_us: u64,
    pub(crate) upstream: usize,
    pub(crate) input_tokens: u32,
    pub(crate) output_tokens: u32,
    /// None if it failed.
    pub(crate) ttft_us: Option<u64>,
    pub(crate) cost_picousd: i64,
    pub(crate) table_version: u64,
}

/// The simulated ingestor.
#[derive(Debug)]
pub(crate) struct LabIngestor {
    feedback: LabFeedback,
    controller: TableController,
    events: Vec<TryEvent>,
}

pub(crate) const ALIAS: &str = "lab";

pub(crate) fn deployment_name(upstream: usize) -> String {
    format!("provider{upstream}/model")
}

impl LabIngestor {
    pub(crate) fn new(feedback: LabFeedback) -> Self {
        Self {
            feedback,
            controller: TableController::default(),
            events: Vec::new(),
        }
    }

    pub(crate) fn every_us(&self) -> u64 {
        micros(self.feedback.every)
    }

    pub(crate) fn is_there(&self, since_start_us: u64) -> bool {
        self.feedback
            .ends
            .is_none_or(|ends| since_start_us < micros(ends))
    }

    pub(crate) fn count(&mut self, event: TryEvent) {
        self.events.push(event);
    }

    pub(crate) fn refresh(&mut self, now_us: u64) -> Option<RoutingTable> {
        let to_us = now_us.saturating_sub(micros(self.feedback.delay));
        let from_us = to_us.saturating_sub(micros(self.feedback.window));
        self.events.retain(|event| event.at_us >= from_us);
        let measured = self.measure(from_us, to_us);
        let policy = &self.feedback.policy;
        let table = self.controller.refresh(&measured, policy, now_us)?;
        self.controller
            .replay(TableRecord::Published(table.clone()), policy);
        Some(table)
    }

    fn measure(&self, from_us: u64, to_us: u64) -> Measurements {
        let mut cells: BTreeMap<(usize, u8), Vec<&TryEvent>> = BTreeMap::new();
        let mut outcomes: BTreeMap<u64, Vec<&TryEvent>> = BTreeMap::new();
        for event in self.events.iter().filter(|event| event.at_us < to_us) {
            let class = size::class(u64::from(event.input_tokens));
            cells
                .entry((event.upstream, class))
                .or_default()
                .push(event);
            outcomes.entry(event.table_version).or_default().push(event);
        }
        Measurements {
            from_us,
            to_us,
            inputs: Vec::new(),
            cells: cells
                .iter()
                .map(|((upstream, class), events)| cell(*upstream, *class, events))
                .collect(),
            outcomes: outcomes
                .iter()
                .map(|(version, events)| outcome(*version, events))
                .collect(),
        }
    }
}

fn cell(upstream: usize, size_class: u8, events: &[&TryEvent]) -> Cell {
    let mut ttfts: Vec<u64> = events.iter().filter_map(|event| event.ttft_us).collect();
    ttfts.sort_unstable();
    let answered = || events.iter().filter(|event| event.ttft_us.is_some());
    let tokens = |of: fn(&TryEvent) -> u32| answered().map(|event| u64::from(of(event))).sum();
    let timed = ttfts.len() as u64;
    Cell {
        alias: ALIAS.to_owned(),
        deployment: deployment_name(upstream),
        size_class,
        attempts: events.len() as u64,
        failures: events.len() as u64 - timed,
        timed,
        ttft_us_p50: quantile(&ttfts, 50),
        ttft_us_p95: quantile(&ttfts, 95),
        output_tokens_per_s: None,
        priced_attempts: timed,
        input_tokens: tokens(|event| event.input_tokens),
        output_tokens: tokens(|event| event.output_tokens),
        cost_picousd: answered().map(|event| event.cost_picousd).sum(),
        waste_picousd: 0,
    }
}

fn outcome(table_version: u64, events: &[&TryEvent]) -> AliasOutcome {
    let times: Vec<f64> = events
        .iter()
        .filter_map(|e| Some(e.ttft_us? as f64 / f64::from(size::factor(e.input_tokens, 0))))
        .collect();
    AliasOutcome {
        alias: ALIAS.to_owned(),
        table_version,
        requests: events.len() as u64,
        errors: (events.len() - times.len()) as u64,
        ttft_us_mean: (!times.is_empty()).then(|| times.iter().sum::<f64>() / times.len() as f64),
        picousd_per_token: None,
    }
}

/// Of sorted values, by nearest rank.
pub(crate) fn quantile(sorted: &[u64], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).map(|value| *value as f64)
}

pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
