//! Thresholds of budgets: which are reached, and which of them the webhook was notified of.
//!
//! Pending notifications are computed, not queued: how far each budget has come is compared with
//! [`NotificationLog`]. So what was pending when the gateway was killed is pending when it is back. Of
//! several thresholds that were passed at once, only the highest is pending.
//!
//! The log is kept in `spend/said.json`, and gateways of a cluster tell it each other
//! ([`peers`](crate::peers)); of those that hear each other only one speaks. Each threshold is
//! notified once in each window, and a second time if the gateway dies between a post and saving the
//! log, or if two that do not hear each other both speak.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::json;
use weir_eventlog::{Fsync, replace_file};
use weir_limits::{BudgetAmount, BudgetCounter, BudgetUnit, Crossing, SettledBudget};
use weir_schemas::event::Event;

use crate::admission::ReservedBudget;
use crate::caps::PENDING_MAX;
use crate::control::change::{Act, control_event};
use crate::control::policy::{Budget, Rules, Subject};
use crate::control::record::{Kind, Usd};

/// How far a budget had come when somebody was told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotifiedThreshold {
    pub budget: String,
    /// Whose budget it is, where it is counted apart.
    pub subject: String,
    /// Beginning of the window; 0 for a rolling one.
    pub start_ms: u64,
    pub percent: u8,
}

/// What was said of all budgets, and whether it is ours to speak.
#[derive(Debug)]
pub struct NotificationLog {
    path: PathBuf,
    marks: Mutex<HashMap<(String, String), NotifiedThreshold>>,
    /// Another gateway speaks.
    is_silent: AtomicBool,
}

impl NotificationLog {
    /// Reads what was said before. A file that cannot be read is as good as none: too much is said
    /// then, and not too little.
    pub fn open(spend_dir: &Path) -> Self {
        let path = spend_dir.join("said.json");
        let marks = match fs::read(&path) {
            Ok(json) => serde_json::from_slice(&json).unwrap_or_else(|error| {
                tracing::warn!(%error, path = %path.display(), "failed to read the log of notified thresholds; they may be notified again");
                Vec::new()
            }),
            Err(_) => Vec::new(),
        };
        let said = Self {
            path,
            marks: Mutex::default(),
            is_silent: AtomicBool::new(false),
        };
        marks.into_iter().for_each(|mark| said.note(mark));
        said
    }

    /// Notes what was said, here or elsewhere. The latest window counts, and in it the highest
    /// threshold.
    pub fn note(&self, mark: NotifiedThreshold) {
        let mut marks = self.marks.lock();
        let place = (mark.budget.clone(), mark.subject.clone());
        let known = marks.get(&place);
        let is_news = known
            .is_none_or(|known| (known.start_ms, known.percent) < (mark.start_ms, mark.percent));
        if is_news {
            marks.insert(place, mark);
        }
    }

    /// Everything that was said.
    pub fn marks(&self) -> Vec<NotifiedThreshold> {
        self.marks.lock().values().cloned().collect()
    }

    /// Whether another gateway speaks.
    pub fn is_silent(&self) -> bool {
        self.is_silent.load(Ordering::Relaxed)
    }

    /// Leaves it to another gateway to speak, or takes over.
    pub fn set_silent(&self, silent: bool) {
        self.is_silent.store(silent, Ordering::Relaxed);
    }

    /// Forgets budgets that are gone and windows that are over, and takes back what a rolling window
    /// has left behind, or a raised limit.
    pub fn prune(&self, rules: &Rules, now_us: u64) {
        self.marks.lock().retain(|_, mark| {
            let Some(budget) = rules.budgets.get(&mark.budget) else {
                return false;
            };
            let purse = budget.counters.named(&mark.subject);
            let (start_ms, reached) = purse.reached(&budget.terms.spec, now_us);
            // Another gateway's clock may be ahead.
            if start_ms < mark.start_ms {
                return true;
            }
            mark.percent = reached.map_or(0, |reached| reached.percent.min(mark.percent));
            start_ms == mark.start_ms && mark.percent > 0
        });
    }

    pub fn save(&self) -> io::Result<()> {
        let marks = self.marks();
        replace_file(&self.path, Fsync::File, |file| {
            Ok(serde_json::to_writer(file, &marks)?)
        })?;
        Ok(())
    }
}

/// A threshold of a budget that a request reached.
#[derive(Debug, Serialize)]
pub struct ThresholdCrossing {
    /// Whose budget it is, where each subject has its own.
    #[serde(rename = "budget")]
    pub name: String,
    pub percent: u8,
    pub spent: String,
    pub limit: String,
    pub resets: Option<String>,
    pub hard: bool,
}

impl ThresholdCrossing {
    fn of(budget: &Budget, name: String, crossing: &Crossing) -> Self {
        let shown = |amount| shown_amount(budget.terms.spec.unit, amount);
        Self {
            name,
            percent: crossing.percent,
            spent: shown(crossing.spent),
            limit: shown(crossing.limit),
            resets: crossing.resets_ms.map(weir_limits::rfc3339),
            hard: budget.terms.spec.hard,
        }
    }

    #[must_use]
    pub fn facts(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

/// What is to be said of a budget after a request: an event, which follows those of the request.
#[derive(Debug)]
pub struct BudgetNotice {
    action: &'static str,
    budget: Arc<str>,
    json: String,
}

impl BudgetNotice {
    /// The request made it reach a threshold.
    #[must_use]
    pub fn threshold(
        ReservedBudget(budget): &ReservedBudget,
        subject: &Subject<'_>,
        crossing: &Crossing,
    ) -> Self {
        let crossing = ThresholdCrossing::of(budget, budget.name(subject), crossing);
        Self {
            action: "threshold",
            budget: budget.id.clone(),
            json: crossing.facts().to_string(),
        }
    }

    /// The request was billed more than it had reserved.
    #[must_use]
    pub fn overspent(
        ReservedBudget(budget): &ReservedBudget,
        subject: &Subject<'_>,
        settled: &SettledBudget,
    ) -> Self {
        let shown = |amount| shown_amount(budget.terms.spec.unit, amount);
        let facts = json!({
            "budget": budget.name(subject),
            "reserved": shown(settled.reserved),
            "charged": shown(settled.charged),
        });
        Self {
            action: "overspent",
            budget: budget.id.clone(),
            json: facts.to_string(),
        }
    }

    /// What is said.
    #[must_use]
    pub fn json(&self) -> &str {
        &self.json
    }

    #[must_use]
    pub fn event(&self, now_ms: u64) -> Event<'_> {
        let act = Act {
            actor: "gateway",
            action: self.action,
            now_ms,
        };
        let kind = Kind::Budget.as_str();
        Event::ControlChanged(control_event(
            &act,
            kind,
            &self.budget,
            None,
            Some(&self.json),
        ))
    }
}

/// A threshold that the webhook is to be notified of.
#[derive(Debug)]
pub struct PendingNotification {
    pub mark: NotifiedThreshold,
    pub crossing: ThresholdCrossing,
}

/// Thresholds that are reached and not yet notified, budget by budget; at most 100.
#[must_use]
pub fn pending(rules: &Rules, log: &NotificationLog, now_us: u64) -> Vec<PendingNotification> {
    let marks = log.marks.lock();
    let mut pending = Vec::new();
    for budget in rules.budgets.iter() {
        for (subject, purse) in budget.counters.all() {
            let Some(reached) = reached(budget, &subject, &purse, now_us) else {
                continue;
            };
            let place = (reached.mark.budget.clone(), reached.mark.subject.clone());
            let told = marks
                .get(&place)
                .filter(|told| told.start_ms == reached.mark.start_ms);
            if told.is_none_or(|told| told.percent < reached.mark.percent) {
                pending.push(reached);
            }
            if pending.len() == PENDING_MAX {
                return pending;
            }
        }
    }
    pending
}

fn reached(
    budget: &Budget,
    subject: &str,
    purse: &BudgetCounter,
    now_us: u64,
) -> Option<PendingNotification> {
    let (start_ms, crossing) = purse.reached(&budget.terms.spec, now_us);
    let crossing = crossing?;
    Some(PendingNotification {
        mark: NotifiedThreshold {
            budget: budget.id.to_string(),
            subject: subject.to_owned(),
            start_ms,
            percent: crossing.percent,
        },
        crossing: ThresholdCrossing::of(budget, budget.name_of(subject), &crossing),
    })
}

#[must_use]
pub fn shown_amount(unit: BudgetUnit, amount: BudgetAmount) -> String {
    match unit {
        BudgetUnit::PicoUsd => format!("{} USD", Usd(amount)),
        BudgetUnit::Tokens => format!("{amount} tokens"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::control::record::{Kind, Record};

    const HOUR_US: u64 = 3_600_000_000;

    fn rules(json: &str) -> Rules {
        let record = Record::parse(Kind::Budget, json).unwrap();
        let records = BTreeMap::from([((Kind::Budget, record.id()), Arc::new(record))]);
        Rules::build(&records, &Rules::default())
    }

    fn spend(rules: &Rules, subject: &str, amount: u128, now_us: u64) {
        let budget = rules.budgets.iter().next().unwrap();
        let purse = budget.counters.named(subject);
        purse.restore(&budget.terms.spec, now_us / 1000, amount, now_us);
    }

    /// What is log now, as subject and percent; it counts as log afterwards.
    fn notified_now(rules: &Rules, log: &NotificationLog, now_us: u64) -> Vec<(String, u8)> {
        log.prune(rules, now_us);
        let due = pending(rules, log, now_us);
        due.iter().for_each(|due| log.note(due.mark.clone()));
        let mut told: Vec<_> = due
            .iter()
            .map(|due| (due.mark.subject.clone(), due.mark.percent))
            .collect();
        told.sort();
        told
    }

    fn one(subject: &str, percent: u8) -> Vec<(String, u8)> {
        vec![(subject.to_owned(), percent)]
    }

    #[test]
    fn each_threshold_is_said_once_in_each_window_over_restarts_too() {
        let dir = tempfile::tempdir().unwrap();
        let rules = rules(r#"{"id":"b","tokens":100,"window":"hour","per":["user"]}"#);
        let log = NotificationLog::open(dir.path());
        let now_us = 100 * HOUR_US;
        assert!(notified_now(&rules, &log, now_us).is_empty());
        spend(&rules, "ana", 49, now_us);
        assert!(notified_now(&rules, &log, now_us).is_empty());
        spend(&rules, "ana", 40, now_us);
        assert_eq!(
            notified_now(&rules, &log, now_us),
            one("ana", 80),
            "not 50, too"
        );
        assert!(notified_now(&rules, &log, now_us).is_empty());
        spend(&rules, "ben", 50, now_us);
        assert_eq!(notified_now(&rules, &log, now_us), one("ben", 50));
        log.save().unwrap();

        let log = NotificationLog::open(dir.path());
        assert!(notified_now(&rules, &log, now_us).is_empty());
        spend(&rules, "ana", 11, now_us);
        assert_eq!(notified_now(&rules, &log, now_us), one("ana", 100));
        spend(&rules, "ana", 60, now_us + HOUR_US);
        assert_eq!(notified_now(&rules, &log, now_us + HOUR_US), one("ana", 50));
    }

    #[test]
    fn what_a_rolling_window_left_behind_is_said_again_when_it_is_reached_again() {
        let dir = tempfile::tempdir().unwrap();
        let rules = rules(r#"{"id":"b","tokens":100,"window":"1h"}"#);
        let log = NotificationLog::open(dir.path());
        let now_us = 100 * HOUR_US;
        spend(&rules, "", 60, now_us);
        assert_eq!(notified_now(&rules, &log, now_us), one("", 50));
        let later_us = now_us + 2 * HOUR_US;
        assert!(notified_now(&rules, &log, later_us).is_empty());
        spend(&rules, "", 60, later_us);
        assert_eq!(notified_now(&rules, &log, later_us), one("", 50));
    }

    #[test]
    fn an_older_or_lower_mark_from_elsewhere_takes_nothing_back() {
        let dir = tempfile::tempdir().unwrap();
        let log = NotificationLog::open(dir.path());
        let mark = |start_ms, percent| NotifiedThreshold {
            budget: "b".into(),
            subject: String::new(),
            start_ms,
            percent,
        };
        for told in [mark(10, 80), mark(10, 50), mark(5, 100)] {
            log.note(told);
        }
        assert_eq!(log.marks(), [mark(10, 80)]);
        log.note(mark(20, 50));
        assert_eq!(log.marks(), [mark(20, 50)]);
    }
}
