//! The rules that hold for a key, worked out when rules change and not when requests come.
//!
//! [`Rules`] is all there is; [`Rules::policy`] picks what holds for one place in the hierarchy. A
//! request walks its policy's slices: a handful of rules, however many there are altogether.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Debug;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use weir_limits::{
    BudgetCounter, BudgetSpec, BudgetUnit, LimitCounter, PeerBudgetUsage, RateSpec, Share, share,
};
use weir_schemas::event::Caller;

use super::record::{
    AccessRecord, BudgetRecord, Capture, Dimension, Kind, LimitRecord, PayloadRecord, Record,
    Scope, TeamRecord, UnboundedCalls, UnpricedCalls,
};
use super::rule_set::{KeyAttributes, RuleSet, narrowness};
use crate::caps::SUBJECTS_MAX;

/// Stands for the subjects that there was no room for.
const OTHERS: &str = "(others)";
/// Between the values of a subject. No value holds it: control characters are taken out.
const BETWEEN: char = '\u{1f}';

/// What of a request rules go by.
#[derive(Clone, Debug, Default)]
pub struct Subject<'a> {
    pub caller: Caller<'a>,
    pub model: &'a str,
}

impl<'a> Subject<'a> {
    fn value(&self, dimension: Dimension) -> Option<&'a str> {
        let caller = &self.caller;
        match dimension {
            Dimension::Organisation => caller.organisation,
            Dimension::Team => caller.team,
            Dimension::Project => caller.project,
            Dimension::User => caller.user,
            Dimension::Key => caller.key_id,
            Dimension::Environment => caller.environment,
            Dimension::Tier => caller.tier,
            Dimension::Model => Some(self.model),
            Dimension::Customer => caller.customer,
        }
    }

    fn named(&self, dimension: Dimension) -> &'a str {
        self.value(dimension).unwrap_or("-")
    }
}

/// Everything that holds for one place.
#[derive(Debug, Default)]
pub struct Policy {
    pub limits: Box<[BoundRule<LimitTerms>]>,
    pub budgets: Box<[BoundRule<BudgetTerms>]>,
    pub access: Box<[Arc<AccessRecord>]>,
    /// What is kept of payloads, if a rule says so.
    pub capture: Option<Capture>,
    /// Whom to ask when something is refused.
    pub contact: Option<Box<str>>,
    /// Names of the keys that the team brings, by provider.
    pub provider_keys: BTreeMap<String, String>,
}

impl Policy {
    /// Looks at everything that a request is about to lock, so that the processor filter for all that
    /// memory at once: locks make it wait for one after the other.
    pub fn fetch(&self) {
        self.limits.iter().for_each(BoundRule::fetch);
        self.budgets.iter().for_each(BoundRule::fetch);
    }
}

/// A rule as it holds for one place.
#[derive(Debug)]
pub struct BoundRule<T: Terms> {
    pub rule: Arc<Rule<T>>,
    /// Where all requests from the place are counted, once there was one; never set where that
    /// depends on the request.
    counter: OnceLock<Arc<T::Counter>>,
}

/// A limit or a budget, and what was counted under it.
#[derive(Debug)]
pub struct Rule<T: Terms> {
    pub id: Arc<str>,
    pub terms: T,
    filter: Option<Box<RequestFilter>>,
    pub counters: Arc<Counters<T::Counter>>,
}

pub type Limit = Rule<LimitTerms>;
pub type Budget = Rule<BudgetTerms>;

/// What a rule allows, and what counts it.
pub trait Terms: Debug {
    type Counter: Debug + Default;

    /// Gives a new counter its share, until the other gateways have heard of it.
    fn begin(&self, counter: &Self::Counter, share: Share);
}

#[derive(Debug)]
pub struct LimitTerms {
    pub requests: Option<RateSpec>,
    pub tokens: Option<RateSpec>,
    pub concurrency: Option<u64>,
}

impl Terms for LimitTerms {
    type Counter = LimitCounter;

    fn begin(&self, counter: &LimitCounter, share: Share) {
        if let Some(spec) = &self.requests {
            counter.requests.merge_peers(spec, 0, 0, share, 0);
        }
        if let Some(spec) = &self.tokens {
            counter.tokens.merge_peers(spec, 0, 0, share, 0);
        }
        if let Some(max) = self.concurrency {
            counter.slots.merge_peers(max, 0, share);
        }
    }
}

#[derive(Debug)]
pub struct BudgetTerms {
    pub spec: BudgetSpec,
    /// Whether calls need a price, so that it can be kept.
    pub wants_prices: bool,
    /// Whether what they can be billed must be bounded.
    pub wants_bounds: bool,
}

impl Terms for BudgetTerms {
    type Counter = BudgetCounter;

    fn begin(&self, purse: &BudgetCounter, share: Share) {
        purse.merge_peers(&self.spec, PeerBudgetUsage::default(), share, 0);
    }
}

/// What a scope wants of a request. All else it wants of the place is looked at when policies are made.
#[derive(Debug)]
struct RequestFilter {
    model: Option<Box<str>>,
    customer: Option<Box<str>>,
}

impl RequestFilter {
    fn of(scope: &Scope) -> Option<Box<Self>> {
        let boxed = |text: &Option<String>| text.as_deref().map(Box::from);
        let filter = Self {
            model: boxed(&scope.model),
            customer: boxed(&scope.customer),
        };
        (filter.model.is_some() || filter.customer.is_some()).then(|| Box::new(filter))
    }

    fn matches(&self, subject: &Subject<'_>) -> bool {
        let model = self.model.as_deref().is_none_or(|m| m == subject.model);
        let customer = self.customer.as_deref();
        model && customer.is_none_or(|c| Some(c) == subject.caller.customer)
    }
}

/// The counters of one rule: one, or one for each subject that it counts apart. They outlive the
/// rule's changes.
#[derive(Debug)]
pub struct Counters<C> {
    sole: Arc<C>,
    group_by: Box<[Dimension]>,
    by_subject: Mutex<HashMap<Box<str>, Arc<C>>>,
    /// How many gateways count under the rules.
    gateways: Arc<AtomicU32>,
}

impl<C: Default> Counters<C> {
    /// `begin` is given each counter that is made while other gateways count, too, with its share.
    fn new(
        group_by: &[Dimension],
        gateways: Arc<AtomicU32>,
        begin: impl FnOnce(&C, Share),
    ) -> Self {
        let counters = Self {
            sole: Arc::default(),
            group_by: group_by.into(),
            by_subject: Mutex::default(),
            gateways,
        };
        counters.share(&counters.sole, begin);
        counters
    }

    fn share(&self, counter: &C, begin: impl FnOnce(&C, Share)) {
        let gateways = self.gateways.load(Ordering::Relaxed);
        if gateways > 1 {
            begin(counter, share::even(gateways));
        }
    }

    /// The counter of a subject by its name, which is empty where nothing is counted apart. One that
    /// is made here waits for its share.
    #[must_use]
    pub fn named(&self, subject: &str) -> Arc<C> {
        self.begun(subject, |_, _| {})
    }

    fn begun(&self, subject: &str, begin: impl FnOnce(&C, Share)) -> Arc<C> {
        if subject.is_empty() {
            return self.sole.clone();
        }
        let mut by_subject = self.by_subject.lock();
        if let Some(counter) = by_subject.get(subject) {
            return counter.clone();
        }
        let subject = if by_subject.len() < SUBJECTS_MAX {
            subject
        } else {
            OTHERS
        };
        let made = by_subject.entry(subject.into()).or_insert_with(|| {
            let counter = C::default();
            self.share(&counter, begin);
            Arc::new(counter)
        });
        made.clone()
    }

    fn of(&self, subject: &Subject<'_>, begin: impl FnOnce(&C, Share)) -> Arc<C> {
        match &*self.group_by {
            [] => self.sole.clone(),
            // Such a name need not be made.
            [dimension] => self.begun(subject.named(*dimension), begin),
            group_by => self.begun(&subject_name(group_by, subject), begin),
        }
    }

    /// Every counter with its subject's name.
    #[must_use]
    pub fn all(&self) -> Vec<(Box<str>, Arc<C>)> {
        if self.group_by.is_empty() {
            return vec![(Box::default(), self.sole.clone())];
        }
        let by_subject = self.by_subject.lock();
        by_subject
            .iter()
            .map(|(subject, counter)| (subject.clone(), counter.clone()))
            .collect()
    }

    /// Forgets counters that are as good as new, and that nobody holds.
    pub fn forget(&self, is_idle: impl Fn(&C) -> bool) {
        self.by_subject
            .lock()
            .retain(|_, counter| Arc::strong_count(counter) > 1 || !is_idle(counter));
    }
}

fn subject_name(group_by: &[Dimension], subject: &Subject<'_>) -> String {
    let mut name = String::with_capacity(48);
    for (number, dimension) in group_by.iter().enumerate() {
        if number > 0 {
            name.push(BETWEEN);
        }
        name.push_str(subject.named(*dimension));
    }
    name
}

/// A subject's name as people read it.
#[must_use]
pub fn shown(subject: &str) -> String {
    subject.replace(BETWEEN, "/")
}

impl<T: Terms> Rule<T> {
    /// Where a request is counted that the rule holds for.
    pub fn counter(&self, subject: &Subject<'_>) -> Arc<T::Counter> {
        self.counters.of(subject, |counter, share| {
            self.terms.begin(counter, share);
        })
    }

    /// What its counter of a request is called; nothing where nothing is counted apart.
    #[must_use]
    pub fn subject(&self, subject: &Subject<'_>) -> String {
        subject_name(&self.counters.group_by, subject)
    }

    /// The rule's name, with the subject that is counted apart.
    #[must_use]
    pub fn name(&self, subject: &Subject<'_>) -> String {
        self.name_of(&self.subject(subject))
    }

    /// The same, by what the subject's counter is called.
    #[must_use]
    pub fn name_of(&self, subject: &str) -> String {
        if subject.is_empty() {
            self.id.to_string()
        } else {
            format!("{} of {}", self.id, shown(subject))
        }
    }
}

impl<T: Terms> BoundRule<T> {
    fn new(rule: &Arc<Rule<T>>) -> Self {
        Self {
            rule: rule.clone(),
            counter: OnceLock::new(),
        }
    }

    fn fetch(&self) {
        let counter = self.counter.get().map_or(0, Arc::strong_count);
        std::hint::black_box((Arc::strong_count(&self.rule), counter));
    }

    /// The counter for a request, if the rule holds for it.
    #[must_use]
    pub fn counter(&self, subject: &Subject<'_>) -> Option<Arc<T::Counter>> {
        let filter = self.rule.filter.as_ref();
        if filter.is_some_and(|filter| !filter.matches(subject)) {
            return None;
        }
        if let Some(counter) = self.counter.get() {
            return Some(counter.clone());
        }
        let counter = self.rule.counter(subject);
        let mut group_by = self.rule.counters.group_by.iter();
        if group_by.all(|dimension| dimension.is_of_key()) {
            return Some(self.counter.get_or_init(|| counter).clone());
        }
        Some(counter)
    }
}

/// All rules there are.
#[derive(Debug, Default)]
pub struct Rules {
    pub limits: RuleSet<Limit>,
    pub budgets: RuleSet<Budget>,
    access: RuleSet<AccessRecord>,
    payloads: RuleSet<PayloadRecord>,
    pub(super) teams: HashMap<String, TeamRecord>,
    /// Users and keys that a scope names.
    pub(super) users: HashSet<String>,
    pub(super) keys: HashSet<String>,
    /// How many gateways count under these rules; 0 and 1 are the same.
    gateways: Arc<AtomicU32>,
}

impl Rules {
    /// Builds the rules; counters are taken over from the rules before.
    #[must_use]
    pub fn build(records: &BTreeMap<(Kind, String), Arc<Record>>, before: &Self) -> Self {
        let mut rules = Self {
            gateways: before.gateways.clone(),
            ..Self::default()
        };
        for record in records.values() {
            if let Some(scope) = record.scope() {
                rules.users.extend(scope.user.clone());
                rules.keys.extend(scope.key.clone());
            }
            match &**record {
                Record::Limit(limit) => rules.add_limit(limit, before.limits.get(&limit.id)),
                Record::Budget(budget) => rules.add_budget(budget, before.budgets.get(&budget.id)),
                Record::Access(access) => {
                    let rule = Arc::new(access.clone());
                    rules.access.add(&access.id, &access.scope, &[], rule);
                }
                Record::Payload(payload) => {
                    let rule = Arc::new(payload.clone());
                    rules.payloads.add(&payload.id, &payload.scope, &[], rule);
                }
                Record::Team(team) => {
                    rules.teams.insert(team.id.clone(), team.clone());
                }
                Record::Key(_) | Record::Token(_) | Record::Setting(_) => {}
            }
        }
        rules
    }

    fn add_limit(&mut self, record: &LimitRecord, before: Option<&Arc<Limit>>) {
        let terms = LimitTerms {
            requests: record.requests_per_minute.map(RateSpec::per_minute),
            tokens: record.tokens_per_minute.map(RateSpec::per_minute),
            concurrency: record.concurrency,
        };
        let limit = self.rule(&record.id, &record.scope, &record.per, terms, before);
        self.limits
            .add(&record.id, &record.scope, &record.overrides, limit);
    }

    fn add_budget(&mut self, record: &BudgetRecord, before: Option<&Arc<Budget>>) {
        // What is in the log was checked before it was written there.
        let Ok(spec) = record.spec() else { return };
        // Another unit or window counts something else.
        let before = before.filter(|before| {
            let before = &before.terms.spec;
            before.unit == spec.unit && before.window == spec.window
        });
        let terms = BudgetTerms {
            wants_prices: spec.unit == BudgetUnit::PicoUsd
                && spec.hard
                && record.unpriced == UnpricedCalls::Refuse,
            wants_bounds: spec.hard && record.unbounded == UnboundedCalls::Refuse,
            spec,
        };
        let budget = self.rule(&record.id, &record.scope, &record.per, terms, before);
        self.budgets
            .add(&record.id, &record.scope, &record.overrides, budget);
    }

    fn rule<T: Terms>(
        &self,
        id: &str,
        scope: &Scope,
        per: &[Dimension],
        terms: T,
        before: Option<&Arc<Rule<T>>>,
    ) -> Arc<Rule<T>> {
        let before = before.filter(|before| *before.counters.group_by == *per);
        let counters = before.map_or_else(
            || {
                let begin = |counter: &_, share| terms.begin(counter, share);
                Arc::new(Counters::new(per, self.gateways.clone(), begin))
            },
            |before| before.counters.clone(),
        );
        Arc::new(Rule {
            id: id.into(),
            terms,
            filter: RequestFilter::of(scope),
            counters,
        })
    }

    /// What is kept where several rules apply: the narrowest decides, then the one that keeps less.
    fn capture(&self, key: &KeyAttributes) -> Option<Capture> {
        let narrowest = self.payloads.applying(key).max_by_key(|rule| {
            let share = Reverse(rule.share);
            (narrowness(&rule.scope), Reverse(rule.capture), share)
        })?;
        // What is in the log was checked before it was written there.
        Capture::new(narrowest.capture, narrowest.share).ok()
    }

    /// Says how many gateways there are, for counters that are made from now on.
    pub fn share_among(&self, gateways: u32) {
        self.gateways.store(gateways, Ordering::Relaxed);
    }

    /// The rules that apply to a key.
    #[must_use]
    pub fn policy(&self, key: &KeyAttributes) -> Policy {
        let team = key.team.as_deref().and_then(|team| self.teams.get(team));
        Policy {
            limits: self.limits.applying(key).map(BoundRule::new).collect(),
            budgets: self.budgets.applying(key).map(BoundRule::new).collect(),
            access: self.access.applying(key).cloned().collect(),
            capture: self.capture(key),
            contact: team.and_then(|team| team.contact.as_deref().map(Box::from)),
            provider_keys: team.map_or_else(BTreeMap::new, |team| team.provider_keys.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(limits: &[&str]) -> Rules {
        let parse = |json: &&str| {
            let record = Record::parse(Kind::Limit, json).unwrap();
            ((Kind::Limit, record.id()), Arc::new(record))
        };
        Rules::build(&limits.iter().map(parse).collect(), &Rules::default())
    }

    fn names(rules: &Rules, place: &KeyAttributes) -> Vec<String> {
        let policy = rules.policy(place);
        policy
            .limits
            .iter()
            .map(|limit| limit.rule.id.to_string())
            .collect()
    }

    fn place(team: &str, tier: &str) -> KeyAttributes {
        KeyAttributes {
            organisation: Some("acme".into()),
            team: Some(team.into()),
            tier: Some(tier.into()),
            ..KeyAttributes::default()
        }
    }

    #[test]
    fn rules_are_inherited_combined_and_overridden() {
        let rules = rules(&[
            r#"{"id":"all","concurrency":100}"#,
            r#"{"id":"free","scope":{"tier":"free"},"concurrency":1}"#,
            r#"{"id":"growth","scope":{"team":"growth"},"concurrency":9,"overrides":["free"]}"#,
            r#"{"id":"growth-free-prod","scope":{"team":"growth","environment":"prod"},"concurrency":9}"#,
            r#"{"id":"org","scope":{"organisation":"acme"},"concurrency":9}"#,
            r#"{"id":"slow-model","scope":{"model":"slow"},"concurrency":2}"#,
        ]);
        assert_eq!(
            names(&rules, &place("growth", "free")),
            ["all", "growth", "org", "slow-model"]
        );
        assert_eq!(
            names(&rules, &place("other", "free")),
            ["all", "free", "org", "slow-model"]
        );
        assert_eq!(
            names(&rules, &place("other", "paid")),
            ["all", "org", "slow-model"]
        );
        let policy = rules.policy(&place("other", "paid"));
        let filter = |model| {
            policy.limits[2].counter(&Subject {
                model,
                ..Subject::default()
            })
        };
        assert!(filter("slow").is_some() && filter("fast").is_none());
    }

    #[test]
    fn of_the_rules_on_payloads_the_narrowest_decides() {
        let parse = |json: &&str| {
            let record = Record::parse(Kind::Payload, json).unwrap();
            record.check().unwrap();
            ((Kind::Payload, record.id()), Arc::new(record))
        };
        let records = [
            r#"{"id":"all","capture":"metadata"}"#,
            r#"{"id":"free","scope":{"tier":"free"},"capture":"full"}"#,
            r#"{"id":"org","scope":{"organisation":"acme"},"capture":"off"}"#,
            r#"{"id":"growth","scope":{"team":"growth"},"capture":"sampled","share":0.25}"#,
            r#"{"id":"growth-more","scope":{"team":"growth"},"capture":"full"}"#,
            r#"{"id":"key","scope":{"key":"key_1"},"capture":"full"}"#,
        ];
        let rules = Rules::build(&records.iter().map(parse).collect(), &Rules::default());
        let kept = |place: &KeyAttributes| {
            let capture = rules.policy(place).capture.unwrap();
            (capture.mode.as_str(), f64::from(capture.share))
        };
        assert_eq!(kept(&KeyAttributes::default()), ("metadata", 1.0));
        assert_eq!(kept(&place("other", "free")), ("off", 1.0));
        assert_eq!(kept(&place("growth", "free")), ("sampled", 0.25));
        let key = KeyAttributes {
            key: Some("key_1".into()),
            ..place("growth", "free")
        };
        assert_eq!(kept(&key), ("full", 1.0));
        let none = Rules::default().policy(&KeyAttributes::default());
        assert_eq!(none.capture, None);
    }

    #[test]
    fn subjects_are_counted_apart_and_are_bounded() {
        let rules = rules(&[r#"{"id":"each","per":["team","customer"],"concurrency":1}"#]);
        let policy = rules.policy(&KeyAttributes::default());
        let of = |customer| Subject {
            caller: Caller {
                team: Some("growth"),
                customer,
                ..Caller::default()
            },
            ..Subject::default()
        };
        let counter = |customer| policy.limits[0].counter(&of(customer)).unwrap();
        assert!(Arc::ptr_eq(&counter(Some("a")), &counter(Some("a"))));
        assert!(!Arc::ptr_eq(&counter(Some("a")), &counter(Some("b"))));
        let limit = &policy.limits[0].rule;
        assert_eq!(limit.name(&of(Some("a"))), "each of growth/a");
        for number in 0..SUBJECTS_MAX {
            let _ = limit.counters.named(&number.to_string());
        }
        assert!(Arc::ptr_eq(&counter(Some("x")), &counter(Some("y"))));
        assert!(limit.counters.all().len() <= SUBJECTS_MAX + 1);
        limit.counters.forget(|_| true);
        assert!(limit.counters.all().is_empty());
    }

    #[test]
    fn a_changed_rule_keeps_what_was_counted() {
        let record = |json| {
            let record = Record::parse(Kind::Budget, json).unwrap();
            BTreeMap::from([((Kind::Budget, record.id()), Arc::new(record))])
        };
        let first = Rules::build(
            &record(r#"{"id":"b","tokens":10,"window":"day"}"#),
            &Rules::default(),
        );
        let raised = Rules::build(&record(r#"{"id":"b","tokens":99,"window":"day"}"#), &first);
        let other = Rules::build(
            &record(r#"{"id":"b","tokens":99,"window":"week"}"#),
            &raised,
        );
        assert!(Arc::ptr_eq(
            &first.budgets.iter().next().unwrap().counters,
            &raised.budgets.iter().next().unwrap().counters
        ));
        assert!(!Arc::ptr_eq(
            &raised.budgets.iter().next().unwrap().counters,
            &other.budgets.iter().next().unwrap().counters
        ));
    }
}
