//! What goes wrong, and when.
//!
//! A rule says a kind and either `every` N calls or a `rate`; rules are tried in order and the first that fires wins, but every
//! rule counts every call that it applies to, so that `every = 10` means the tenth whatever stands before it.
//! A single call overrides the rules with the header `x-mock-fault: RULE` (`cut`, `cut:after_tokens=3`, or JSON), or with
//! `"metadata": {"mock_fault": "RULE"}` in its body, which passes through gateways that drop unknown headers.
//! The kind `none` protects a call from the rules.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::de::{IntoDeserializer as _, value};
use serde::{Deserialize, Serialize};

use crate::chance;

/// What a provider can do wrong.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// 429 with `retry-after`.
    RateLimit,
    /// 500.
    ServerError,
    /// 503; Anthropic says 529.
    Unavailable,
    /// Never answers; the connection stays open until the caller leaves.
    Timeout,
    /// Sends the status line and holds back the rest of the head.
    SlowHeaders,
    /// Resets the connection in the middle of the answer.
    Cut,
    /// A chunk that is not JSON in the middle of the stream (the stream goes on); a plain answer is half a document.
    MalformedChunk,
    /// An error event in the middle of the stream, which then ends; a plain call gets 500.
    StreamError,
    /// Stops in the middle of the answer with the connection open.
    Stall,
    /// 400 `context_length_exceeded`.
    ContextLength,
    /// No fault, whatever the rules say (only as an override).
    #[default]
    None,
}

impl FromStr for FaultKind {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        let name = match text {
            // The statuses are how people say these three.
            "429" => "rate_limit",
            "500" => "server_error",
            "503" | "529" => "unavailable",
            _ => text,
        };
        Self::deserialize(name.into_deserializer()).map_err(|_: value::Error| FaultError::Kind {
            text: text.to_owned(),
        })
    }
}

/// One rule: a kind, and how often. With neither `every` nor `rate` it strikes every call.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultRule {
    pub kind: FaultKind,
    /// Strikes call N, 2N, 3N …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<u64>,
    /// Strikes this share of the calls, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// Strikes at most so many times.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
    /// Applies to this model only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Applies to streams only, or to plain calls only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub streamed: Option<bool>,
    /// Faults within an answer: after so many tokens. Default: after half of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after_tokens: Option<u32>,
    /// `rate_limit`, `unavailable`: what `retry-after` says. Default 1 with `rate_limit`; with
    /// `unavailable` the header is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u32>,
    /// `slow_headers`, `stall`, `timeout`: goes on after this time. Default: 2 s for `slow_headers`, never for the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub for_ms: Option<u64>,
}

impl FaultRule {
    /// A rule that strikes every call; narrow it with struct update syntax.
    #[must_use]
    pub fn always(kind: FaultKind) -> Self {
        Self {
            kind,
            ..Self::default()
        }
    }

    #[must_use]
    pub fn every(kind: FaultKind, calls: u64) -> Self {
        Self {
            every: Some(calls),
            ..Self::always(kind)
        }
    }

    #[must_use]
    pub fn rate(kind: FaultKind, share: f64) -> Self {
        Self {
            rate: Some(share),
            ..Self::always(kind)
        }
    }

    fn checked(self, position: usize) -> Result<Self, FaultError> {
        let problem = match (self.every, self.rate) {
            (Some(_), Some(_)) => "has both `every` and `rate`; keep one",
            (Some(0), None) => "has `every = 0`; the smallest is 1 (every call)",
            (None, Some(rate)) if !(0.0..=1.0).contains(&rate) => "has a `rate` outside 0..1",
            _ if self.kind == FaultKind::None => "has kind `none`, which only overrides",
            _ => return Ok(self),
        };
        Err(FaultError::Rule { position, problem })
    }
}

/// `KIND`, `KIND:every=10`, `KIND:rate=0.05,after_tokens=3,model=gpt-4o`, or the rule as JSON.
impl FromStr for FaultRule {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        let unreadable = |problem: String| FaultError::Unreadable {
            text: text.to_owned(),
            problem,
        };
        if text.trim_start().starts_with('{') {
            return serde_json::from_str(text).map_err(|error| unreadable(error.to_string()));
        }
        let (kind, settings) = text.split_once(':').unwrap_or((text, ""));
        let kind: FaultKind = kind.trim().parse()?;
        let mut fields = serde_json::Map::new();
        fields.insert("kind".to_owned(), serde_json::json!(kind));
        for setting in settings
            .split(',')
            .filter(|setting| !setting.trim().is_empty())
        {
            let (name, value) = setting
                .split_once('=')
                .ok_or_else(|| unreadable(format!("{setting:?} is not NAME=VALUE")))?;
            // Numbers and booleans as such, anything else as text.
            let value = serde_json::from_str(value.trim()).unwrap_or_else(|_| value.trim().into());
            fields.insert(name.trim().to_owned(), value);
        }
        serde_json::from_value(fields.into()).map_err(|error| unreadable(error.to_string()))
    }
}

/// Why a set of rules, or an override, was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    #[error("rule {position} {problem}")]
    Rule {
        position: usize,
        problem: &'static str,
    },
    #[error(
        "unknown fault {text:?}; known are rate_limit (429), server_error (500), unavailable (503, 529), timeout, slow_headers, cut, malformed_chunk, stream_error, stall, context_length, none"
    )]
    Kind { text: String },
    #[error(
        "cannot read the fault rule {text:?}: {problem}; write KIND, KIND:every=10 or KIND:rate=0.05"
    )]
    Unreadable { text: String, problem: String },
}

/// The rules in force with their counters.
#[derive(Clone, Debug)]
pub(super) struct FaultPlan {
    rules: Arc<[CountedRule]>,
    seed: u64,
}

#[derive(Debug)]
struct CountedRule {
    rule: Arc<FaultRule>,
    seen: AtomicU64,
    struck: AtomicU64,
}

impl FaultPlan {
    pub(super) fn new(rules: Vec<FaultRule>, seed: u64) -> Result<Self, FaultError> {
        let rules = rules
            .into_iter()
            .enumerate()
            .map(|(at, rule)| {
                Ok(CountedRule {
                    rule: Arc::new(rule.checked(at + 1)?),
                    seen: AtomicU64::new(0),
                    struck: AtomicU64::new(0),
                })
            })
            .collect::<Result<_, FaultError>>()?;
        Ok(Self { rules, seed })
    }

    pub(super) fn rules(&self) -> Vec<&FaultRule> {
        self.rules.iter().map(|counted| &*counted.rule).collect()
    }

    /// What goes wrong with this call.
    pub(super) fn decide(&self, model: &str, streamed: bool) -> Option<Arc<FaultRule>> {
        let mut chosen = None;
        for (position, counted) in (0u64..).zip(self.rules.iter()) {
            if counted.applies(model, streamed) {
                let strikes = counted.strikes(chance::mix(self.seed, position));
                if strikes && chosen.is_none() && counted.has_times_left() {
                    chosen = Some(Arc::clone(&counted.rule));
                }
            }
        }
        chosen
    }
}

impl CountedRule {
    fn applies(&self, model: &str, streamed: bool) -> bool {
        self.rule.model.as_deref().is_none_or(|only| only == model)
            && self.rule.streamed.is_none_or(|only| only == streamed)
    }

    fn strikes(&self, seed: u64) -> bool {
        let call = self.seen.fetch_add(1, Ordering::Relaxed) + 1;
        match (self.rule.every, self.rule.rate) {
            (Some(every), _) => call.is_multiple_of(every),
            (None, Some(rate)) => chance::unit(seed, call) < rate,
            (None, None) => true,
        }
    }

    fn has_times_left(&self) -> bool {
        let before = self.struck.fetch_add(1, Ordering::Relaxed);
        self.rule.times.is_none_or(|times| before < times)
    }
}

/// A fault within an answer, ready to be played.
#[derive(Clone, Copy, Debug)]
pub(super) struct Midway {
    pub(super) kind: FaultKind,
    pub(super) after_tokens: u32,
    pub(super) for_time: Option<Duration>,
}

impl Midway {
    /// The part of `rule` that strikes within an answer of `tokens` tokens, if it does.
    pub(super) fn of(rule: Option<&FaultRule>, tokens: u32) -> Option<Self> {
        use FaultKind::{Cut, MalformedChunk, Stall, StreamError};
        let rule = rule?;
        matches!(rule.kind, Cut | MalformedChunk | StreamError | Stall).then(|| Self {
            kind: rule.kind,
            // Never past the end: a fault that was counted must be seen.
            after_tokens: rule.after_tokens.unwrap_or(tokens / 2).min(tokens),
            for_time: rule.for_ms.map(Duration::from_millis),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn struck(rules: Vec<FaultRule>, calls: u32) -> Vec<Option<FaultKind>> {
        let plan = FaultPlan::new(rules, 42).unwrap();
        (0..calls)
            .map(|_| plan.decide("m", false).map(|rule| rule.kind))
            .collect()
    }

    #[test]
    fn every_nth_counts_all_calls_even_when_an_earlier_rule_wins() {
        let got = struck(
            vec![
                FaultRule::every(FaultKind::Timeout, 4),
                FaultRule::every(FaultKind::ServerError, 2),
            ],
            8,
        );
        let (t, e) = (Some(FaultKind::Timeout), Some(FaultKind::ServerError));
        assert_eq!(got, [None, e, None, t, None, e, None, t]);
    }

    #[test]
    fn a_rate_is_kept_and_reproducible() {
        let rules = || vec![FaultRule::rate(FaultKind::Cut, 0.1)];
        let first = struck(rules(), 20_000);
        let hits = first.iter().flatten().count();
        assert!((1_850..2_150).contains(&hits), "{hits} of 20000 at 10%");
        assert_eq!(first, struck(rules(), 20_000));
    }

    #[test]
    fn times_ends_a_rule() {
        let rule = FaultRule {
            times: Some(2),
            ..FaultRule::always(FaultKind::Stall)
        };
        assert_eq!(struck(vec![rule], 4).iter().flatten().count(), 2);
    }

    #[test]
    fn a_rule_keeps_to_its_model_and_shape() {
        let rule = FaultRule {
            model: Some("a".to_owned()),
            streamed: Some(true),
            ..FaultRule::always(FaultKind::Cut)
        };
        let plan = FaultPlan::new(vec![rule], 1).unwrap();
        assert!(plan.decide("a", true).is_some());
        assert!(plan.decide("a", false).is_none());
        assert!(plan.decide("b", true).is_none());
    }

    #[test]
    fn bad_rules_are_refused_with_their_position() {
        let both = FaultRule {
            rate: Some(0.5),
            ..FaultRule::every(FaultKind::Cut, 3)
        };
        let good = FaultRule::always(FaultKind::Cut);
        let error = FaultPlan::new(vec![good, both], 1).unwrap_err();
        assert_eq!(
            error.to_string(),
            "rule 2 has both `every` and `rate`; keep one"
        );
        assert!(FaultPlan::new(vec![FaultRule::rate(FaultKind::Cut, 1.5)], 1).is_err());
        assert!(FaultPlan::new(vec![FaultRule::every(FaultKind::Cut, 0)], 1).is_err());
    }

    #[test]
    fn a_rule_is_written_in_one_word_or_as_json() {
        let read = |text: &str| text.parse::<FaultRule>();
        assert_eq!(
            read("429").unwrap(),
            FaultRule::always(FaultKind::RateLimit)
        );
        assert_eq!(
            read("server_error:every=10").unwrap(),
            FaultRule::every(FaultKind::ServerError, 10)
        );
        let long = FaultRule {
            after_tokens: Some(3),
            model: Some("gpt-4o".to_owned()),
            streamed: Some(true),
            ..FaultRule::rate(FaultKind::Cut, 0.05)
        };
        assert_eq!(
            read("cut:rate=0.05,after_tokens=3,model=gpt-4o,streamed=true").unwrap(),
            long
        );
        assert_eq!(read(&serde_json::to_string(&long).unwrap()).unwrap(), long);
        for (text, problem) in [
            ("explode", "known are rate_limit (429)"),
            ("cut:often", "not NAME=VALUE"),
            ("cut:offen=3", "unknown field `offen`"),
            ("cut:every=-1", "-1"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(problem), "{text}: {error}");
        }
    }
}
