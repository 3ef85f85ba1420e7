//! The rules that hold for a key, worked out when rules change and not when requests come.
//!
//! [`Rules`] is all there is; [`Rules::policy`] picks what holds for one place in the hierarchy. A
//! request walks its policy's slices: a handful of rules, however many there are altogether.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use weir_limits::{
    BudgetCounter, BudgetSpec, BudgetUnit, LimitCounter, PeerBudgetUsage, RateSpec, Share, share,
};

use super::record::{
    AccessRecord, BudgetRecord, Capture, Dimension, Kind, LimitRecord, PayloadRecord, Record,
    Scope, TeamRecord, Unpriced,
};

/// Subjects of one rule that are counted apart; further ones share a counter.
const SUBJECTS_MAX: usize = 100_000;
/// Stands for the subjects that there was no room for.
const OTHERS: &str = "(others)";
/// Between the values of a subject. No value holds it: control characters are taken out.
const BETWEEN: char = '\u{1f}';

/// Where a key stands in the hierarchy, and what else rules go by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Place {
    pub organisation: Option<Box<str>>,
    pub team: Option<Box<str>>,
    pub project: Option<Box<str>>,
    pub environment: Option<Box<str>>,
    pub tier: Option<Box<str>>,
    /// Only where a rule speaks of this user, so that other users share what holds for them.
    pub user: Option<Box<str>>,
    /// Only where a rule speaks of this key.
    pub key: Option<Box<str>>,
}

/// What of a request rules go by, beside its key.
#[derive(Clone, Copy, Debug, Default)]
pub struct Subject<'a> {
    pub organisation: Option<&'a str>,
    pub team: Option<&'a str>,
    pub project: Option<&'a str>,
    pub environment: Option<&'a str>,
    pub tier: Option<&'a str>,
    pub user: Option<&'a str>,
    pub key: &'a str,
    pub model: &'a str,
    pub customer: Option<&'a str>,
}

impl<'a> Subject<'a> {
    fn value(&self, dimension: Dimension) -> Option<&'a str> {
        match dimension {
            Dimension::Organisation => self.organisation,
            Dimension::Team => self.team,
            Dimension::Project => self.project,
            Dimension::User => self.user,
            Dimension::Key => Some(self.key),
            Dimension::Environment => self.environment,
            Dimension::Tier => self.tier,
            Dimension::Model => Some(self.model),
            Dimension::Customer => self.customer,
        }
    }

    fn named(&self, dimension: Dimension) -> &'a str {
        self.value(dimension).unwrap_or("-")
    }
}

/// Everything that holds for one place.
#[derive(Debug, Default)]
pub struct Policy {
    pub limits: Box<[Placed<Limit, LimitCounter>]>,
    pub budgets: Box<[Placed<Budget, BudgetCounter>]>,
    pub access: Box<[Arc<AccessRecord>]>,
    /// What is kept of payloads, if a rule says so.
    pub capture: Option<Capture>,
    /// Whom to ask when something is refused.
    pub contact: Option<Box<str>>,
    /// Names of the keys that the team brings, by provider.
    pub provider_keys: BTreeMap<String, String>,
}

impl Policy {
    /// Looks at everything that a request is about to lock, so that the processor asks for all that
    /// memory at once: locks make it wait for one after the other.
    pub fn fetch(&self) {
        self.limits.iter().for_each(Placed::fetch);
        self.budgets.iter().for_each(Placed::fetch);
    }
}

/// A rule as it holds for one place.
#[derive(Debug)]
pub struct Placed<R, C> {
    pub rule: Arc<R>,
    /// Where all requests from the place are counted, once there was one; never set where that
    /// depends on the request.
    counter: OnceLock<Arc<C>>,
}

/// A limit and what was taken under it.
#[derive(Debug)]
pub struct Limit {
    pub id: Arc<str>,
    pub requests: Option<RateSpec>,
    pub tokens: Option<RateSpec>,
    pub concurrency: Option<u64>,
    asks: Option<Box<Asks>>,
    per: Box<[Dimension]>,
    pub counters: Arc<Counters<LimitCounter>>,
}

/// A budget and what was spent of it.
#[derive(Debug)]
pub struct Budget {
    pub id: Arc<str>,
    pub spec: BudgetSpec,
    /// Whether calls need a price, so that it can be kept.
    pub wants_prices: bool,
    asks: Option<Box<Asks>>,
    per: Box<[Dimension]>,
    pub counters: Arc<Counters<BudgetCounter>>,
}

/// What a scope wants of a request. All else it wants of the place is looked at when policies are made.
#[derive(Debug)]
struct Asks {
    model: Option<Box<str>>,
    customer: Option<Box<str>>,
}

impl Asks {
    fn of(scope: &Scope) -> Option<Box<Self>> {
        let boxed = |text: &Option<String>| text.as_deref().map(Box::from);
        let asks = Self {
            model: boxed(&scope.model),
            customer: boxed(&scope.customer),
        };
        (asks.model.is_some() || asks.customer.is_some()).then(|| Box::new(asks))
    }

    fn are_met(&self, subject: &Subject<'_>) -> bool {
        let model = self.model.as_deref().is_none_or(|m| m == subject.model);
        let customer = self.customer.as_deref();
        model && customer.is_none_or(|c| Some(c) == subject.customer)
    }
}

/// The counters of one rule: one, or one for each subject that it counts apart. They outlive the
/// rule's changes.
#[derive(Debug)]
pub struct Counters<C> {
    sole: Arc<C>,
    per: Box<[Dimension]>,
    by_subject: Mutex<HashMap<Box<str>, Arc<C>>>,
    /// How many gateways count under the rules.
    gateways: Arc<AtomicU32>,
}

impl<C: Default> Counters<C> {
    /// `begin` is given each counter that is made while other gateways count, too, with its share.
    fn new(per: &[Dimension], gateways: Arc<AtomicU32>, begin: impl FnOnce(&C, Share)) -> Self {
        let counters = Self {
            sole: Arc::default(),
            per: per.into(),
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
        match &*self.per {
            [] => self.sole.clone(),
            // Such a name need not be made.
            [dimension] => self.begun(subject.named(*dimension), begin),
            per => self.begun(&subject_name(per, subject), begin),
        }
    }

    /// Every counter with its subject's name.
    #[must_use]
    pub fn all(&self) -> Vec<(Box<str>, Arc<C>)> {
        if self.per.is_empty() {
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

fn subject_name(per: &[Dimension], subject: &Subject<'_>) -> String {
    let mut name = String::with_capacity(48);
    for (number, dimension) in per.iter().enumerate() {
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

impl Limit {
    /// Where a request is counted that the limit holds for.
    pub fn counter(&self, subject: &Subject<'_>) -> Arc<LimitCounter> {
        self.counters.of(subject, |counter, share| {
            begin_limit(
                [&self.requests, &self.tokens],
                self.concurrency,
                counter,
                share,
            );
        })
    }

    /// The limit's name, with the subject that is counted apart.
    #[must_use]
    pub fn name(&self, subject: &Subject<'_>) -> String {
        rule_name(&self.id, &self.per, subject)
    }
}

impl Budget {
    /// What its counter of a request is called; nothing where nothing is counted apart.
    #[must_use]
    pub fn subject(&self, subject: &Subject<'_>) -> String {
        subject_name(&self.per, subject)
    }

    /// The budget's name, with a subject that is counted apart, by what its counter is called.
    #[must_use]
    pub fn name_of(&self, subject: &str) -> String {
        if subject.is_empty() {
            self.id.to_string()
        } else {
            format!("{} of {}", self.id, shown(subject))
        }
    }

    /// Where a request is counted that the budget holds for.
    pub fn counter(&self, subject: &Subject<'_>) -> Arc<BudgetCounter> {
        self.counters.of(subject, |purse, share| {
            begin_budget(&self.spec, purse, share);
        })
    }

    #[must_use]
    pub fn name(&self, subject: &Subject<'_>) -> String {
        rule_name(&self.id, &self.per, subject)
    }
}

impl Placed<Limit, LimitCounter> {
    /// The counter for a request, if the limit holds for it.
    #[must_use]
    pub fn counter(&self, subject: &Subject<'_>) -> Option<Arc<LimitCounter>> {
        let Limit { asks, per, .. } = &*self.rule;
        self.counted(asks.as_deref(), per, subject, || self.rule.counter(subject))
    }
}

impl Placed<Budget, BudgetCounter> {
    /// The purse for a request, if the budget holds for it.
    #[must_use]
    pub fn counter(&self, subject: &Subject<'_>) -> Option<Arc<BudgetCounter>> {
        let Budget { asks, per, .. } = &*self.rule;
        self.counted(asks.as_deref(), per, subject, || self.rule.counter(subject))
    }
}

impl<R, C> Placed<R, C> {
    const fn new(rule: Arc<R>) -> Self {
        Self {
            rule,
            counter: OnceLock::new(),
        }
    }

    fn fetch(&self) {
        let counter = self.counter.get().map_or(0, Arc::strong_count);
        std::hint::black_box((Arc::strong_count(&self.rule), counter));
    }

    fn counted(
        &self,
        asks: Option<&Asks>,
        per: &[Dimension],
        subject: &Subject<'_>,
        find: impl FnOnce() -> Arc<C>,
    ) -> Option<Arc<C>> {
        if asks.is_some_and(|asks| !asks.are_met(subject)) {
            return None;
        }
        if let Some(counter) = self.counter.get() {
            return Some(counter.clone());
        }
        let counter = find();
        if per.iter().all(|dimension| dimension.is_of_place()) {
            return Some(self.counter.get_or_init(|| counter).clone());
        }
        Some(counter)
    }
}

/// Gives a new counter its share, until the other gateways have heard of it.
fn begin_limit(
    [requests, tokens]: [&Option<RateSpec>; 2],
    concurrency: Option<u64>,
    counter: &LimitCounter,
    share: Share,
) {
    if let Some(spec) = requests {
        counter.requests.merge_peers(spec, 0, 0, share, 0);
    }
    if let Some(spec) = tokens {
        counter.tokens.merge_peers(spec, 0, 0, share, 0);
    }
    if let Some(max) = concurrency {
        counter.slots.merge_peers(max, 0, share);
    }
}

fn begin_budget(spec: &BudgetSpec, purse: &BudgetCounter, share: Share) {
    purse.merge_peers(spec, PeerBudgetUsage::default(), share, 0);
}

fn rule_name(id: &str, per: &[Dimension], subject: &Subject<'_>) -> String {
    let mut name = id.to_owned();
    if !per.is_empty() {
        // Writing to a string cannot fail.
        let _ = write!(name, " of {}", shown(&subject_name(per, subject)));
    }
    name
}

/// All rules there are, found by what they speak of.
#[derive(Debug, Default)]
pub struct Rules {
    limits: Vec<Arc<Limit>>,
    budgets: Vec<Arc<Budget>>,
    access: Vec<Arc<AccessRecord>>,
    payloads: Vec<PayloadRecord>,
    limits_by_id: HashMap<String, usize>,
    budgets_by_id: HashMap<String, usize>,
    /// For whom each of the limits and budgets holds, and which other ones it takes the place of.
    limit_terms: Vec<Terms>,
    budget_terms: Vec<Terms>,
    index: Index,
    teams: HashMap<String, TeamRecord>,
    /// How many gateways count under these rules; 0 and 1 are the same.
    gateways: Arc<AtomicU32>,
}

#[derive(Debug)]
struct Terms {
    scope: Scope,
    overrides: Vec<String>,
}

/// Where in the lists the rules are that speak first of all of one value.
#[derive(Debug, Default)]
struct Index {
    limits: HashMap<(Dimension, String), Vec<usize>>,
    budgets: HashMap<(Dimension, String), Vec<usize>>,
    access: HashMap<(Dimension, String), Vec<usize>>,
    payloads: HashMap<(Dimension, String), Vec<usize>>,
    users: HashSet<String>,
    keys: HashSet<String>,
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
            match &**record {
                Record::Limit(limit) => {
                    let before = before.limit(&limit.id);
                    rules.add_limit(limit, before.map(|limit| &limit.counters));
                }
                Record::Budget(budget) => {
                    rules.add_budget(budget, before.budget(&budget.id));
                }
                Record::Access(access) => rules.add_access(access),
                Record::Payload(payload) => rules.add_payload(payload),
                Record::Team(team) => {
                    rules.teams.insert(team.id.clone(), team.clone());
                }
                Record::Key(_) | Record::Token(_) | Record::Setting(_) => {}
            }
        }
        rules
    }

    fn add_limit(&mut self, record: &LimitRecord, before: Option<&Arc<Counters<LimitCounter>>>) {
        let place = self.limits.len();
        self.limits_by_id.insert(record.id.clone(), place);
        self.index
            .note(&record.scope, place, |index| &mut index.limits);
        self.limit_terms.push(Terms {
            scope: record.scope.clone(),
            overrides: record.overrides.clone(),
        });
        self.limits.push(Arc::new(Limit {
            id: record.id.as_str().into(),
            requests: record.requests(),
            tokens: record.tokens(),
            concurrency: record.concurrency,
            asks: Asks::of(&record.scope),
            per: record.per.as_slice().into(),
            counters: taken_over(before, &record.per, &self.gateways, |counter, share| {
                let rates = [&record.requests(), &record.tokens()];
                begin_limit(rates, record.concurrency, counter, share);
            }),
        }));
    }

    fn add_budget(&mut self, record: &BudgetRecord, before: Option<&Arc<Budget>>) {
        // What is in the log was checked before it was written there.
        let Ok(spec) = record.spec() else { return };
        let place = self.budgets.len();
        self.budgets_by_id.insert(record.id.clone(), place);
        self.index
            .note(&record.scope, place, |index| &mut index.budgets);
        self.budget_terms.push(Terms {
            scope: record.scope.clone(),
            overrides: record.overrides.clone(),
        });
        // Another unit or window counts something else.
        let before = before
            .filter(|before| before.spec.unit == spec.unit && before.spec.window == spec.window);
        let before = before.map(|budget| &budget.counters);
        let counters = taken_over(before, &record.per, &self.gateways, |purse, share| {
            begin_budget(&spec, purse, share);
        });
        self.budgets.push(Arc::new(Budget {
            id: record.id.as_str().into(),
            wants_prices: spec.unit == BudgetUnit::PicoUsd
                && spec.hard
                && record.unpriced == Unpriced::Refuse,
            spec,
            asks: Asks::of(&record.scope),
            per: record.per.as_slice().into(),
            counters,
        }));
    }

    fn add_access(&mut self, record: &AccessRecord) {
        let place = self.access.len();
        self.index
            .note(&record.scope, place, |index| &mut index.access);
        self.access.push(Arc::new(record.clone()));
    }

    fn add_payload(&mut self, record: &PayloadRecord) {
        let place = self.payloads.len();
        self.index
            .note(&record.scope, place, |index| &mut index.payloads);
        self.payloads.push(record.clone());
    }

    /// What is kept where several rules may hold: the narrowest decides, then the one that keeps less.
    fn capture(&self, place: &Place) -> Option<Capture> {
        let rules = found(&self.index.payloads, place, |at| &self.payloads[at].scope);
        let rules = rules.into_iter().map(|at| &self.payloads[at]);
        let narrowest = rules.max_by_key(|rule| {
            let share = std::cmp::Reverse(rule.share);
            (
                narrowness(&rule.scope),
                std::cmp::Reverse(rule.capture),
                share,
            )
        })?;
        // What is in the log was checked before it was written there.
        Capture::new(narrowest.capture, narrowest.share).ok()
    }

    #[must_use]
    pub fn team(&self, name: &str) -> Option<&TeamRecord> {
        self.teams.get(name)
    }

    #[must_use]
    pub fn speak_of_user(&self, user: &str) -> bool {
        self.index.users.contains(user)
    }

    #[must_use]
    pub fn speak_of_key(&self, key: &str) -> bool {
        self.index.keys.contains(key)
    }

    #[must_use]
    pub fn limit(&self, id: &str) -> Option<&Arc<Limit>> {
        self.limits_by_id.get(id).map(|at| &self.limits[*at])
    }

    #[must_use]
    pub fn budget(&self, id: &str) -> Option<&Arc<Budget>> {
        self.budgets_by_id.get(id).map(|at| &self.budgets[*at])
    }

    pub fn limits(&self) -> impl Iterator<Item = &Arc<Limit>> {
        self.limits.iter()
    }

    pub fn budgets(&self) -> impl Iterator<Item = &Arc<Budget>> {
        self.budgets.iter()
    }

    /// Says how many gateways there are, for counters that are made from now on.
    pub fn share_among(&self, gateways: u32) {
        self.gateways.store(gateways, Ordering::Relaxed);
    }

    /// What holds for a place.
    #[must_use]
    pub fn policy(&self, place: &Place) -> Policy {
        let limits = found(&self.index.limits, place, |at| &self.limit_terms[at].scope);
        let budgets = found(&self.index.budgets, place, |at| {
            &self.budget_terms[at].scope
        });
        let access = found(&self.index.access, place, |at| &self.access[at].scope);
        let overridden = |places: &[usize], terms: &[Terms]| -> HashSet<String> {
            places
                .iter()
                .flat_map(|at| terms[*at].overrides.clone())
                .collect()
        };
        let without = overridden(&limits, &self.limit_terms);
        let limits = limits.into_iter().map(|at| &self.limits[at]);
        let limits = limits.filter(|limit| !without.contains(&*limit.id));
        let without = overridden(&budgets, &self.budget_terms);
        let budgets = budgets.into_iter().map(|at| &self.budgets[at]);
        let budgets = budgets.filter(|budget| !without.contains(&*budget.id));
        let team = place.team.as_deref().and_then(|team| self.team(team));
        Policy {
            limits: limits.cloned().map(Placed::new).collect(),
            budgets: budgets.cloned().map(Placed::new).collect(),
            access: access
                .into_iter()
                .map(|at| self.access[at].clone())
                .collect(),
            capture: self.capture(place),
            contact: team.and_then(|team| team.contact.as_deref().map(Box::from)),
            provider_keys: team.map_or_else(BTreeMap::new, |team| team.provider_keys.clone()),
        }
    }
}

fn taken_over<C: Default>(
    before: Option<&Arc<Counters<C>>>,
    per: &[Dimension],
    gateways: &Arc<AtomicU32>,
    begin: impl FnOnce(&C, Share),
) -> Arc<Counters<C>> {
    match before {
        Some(counters) if *counters.per == *per => counters.clone(),
        _ => Arc::new(Counters::new(per, gateways.clone(), begin)),
    }
}

impl Index {
    fn note(
        &mut self,
        scope: &Scope,
        place: usize,
        list: impl FnOnce(&mut Self) -> &mut HashMap<(Dimension, String), Vec<usize>>,
    ) {
        self.users.extend(scope.user.clone());
        self.keys.extend(scope.key.clone());
        list(self)
            .entry(first_of_all(scope))
            .or_default()
            .push(place);
    }
}

/// The narrowest thing that a scope speaks of. A scope that speaks of nothing static holds for all.
fn first_of_all(scope: &Scope) -> (Dimension, String) {
    let by_narrowness = [
        (Dimension::Key, &scope.key),
        (Dimension::User, &scope.user),
        (Dimension::Project, &scope.project),
        (Dimension::Team, &scope.team),
        (Dimension::Organisation, &scope.organisation),
        (Dimension::Environment, &scope.environment),
        (Dimension::Tier, &scope.tier),
    ];
    let narrowest = by_narrowness
        .into_iter()
        .find_map(|(dimension, value)| Some((dimension, value.clone()?)));
    // A model or a customer is looked at when a request comes.
    narrowest.unwrap_or((Dimension::Model, String::new()))
}

/// The rules that hold for a place, in the order in which they were named.
fn found<'a>(
    index: &HashMap<(Dimension, String), Vec<usize>>,
    place: &Place,
    scope: impl Fn(usize) -> &'a Scope,
) -> Vec<usize> {
    let values = [
        (Dimension::Key, &place.key),
        (Dimension::User, &place.user),
        (Dimension::Project, &place.project),
        (Dimension::Team, &place.team),
        (Dimension::Organisation, &place.organisation),
        (Dimension::Environment, &place.environment),
        (Dimension::Tier, &place.tier),
    ];
    let spoken_of = values
        .iter()
        .filter_map(|(dimension, value)| Some((*dimension, value.as_deref()?.to_owned())));
    let mut places: Vec<usize> = spoken_of
        .chain([(Dimension::Model, String::new())])
        .filter_map(|named| index.get(&named))
        .flatten()
        .copied()
        .filter(|at| holds_for_place(scope(*at), place))
        .collect();
    places.sort_unstable();
    places
}

/// The fields of a scope as a number: one that counts more than all behind it together for each.
fn narrowness(scope: &Scope) -> u32 {
    let by_narrowness = [
        &scope.key,
        &scope.user,
        &scope.project,
        &scope.team,
        &scope.organisation,
        &scope.environment,
        &scope.tier,
    ];
    let said = by_narrowness.iter().map(|value| u32::from(value.is_some()));
    said.fold(0, |number, said| number << 1 | said)
}

fn holds_for_place(scope: &Scope, place: &Place) -> bool {
    let pairs = [
        (&scope.organisation, &place.organisation),
        (&scope.team, &place.team),
        (&scope.project, &place.project),
        (&scope.user, &place.user),
        (&scope.key, &place.key),
        (&scope.environment, &place.environment),
        (&scope.tier, &place.tier),
    ];
    pairs
        .iter()
        .all(|(wanted, is)| wanted.is_none() || wanted.as_deref() == is.as_deref())
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

    fn names(rules: &Rules, place: &Place) -> Vec<String> {
        let policy = rules.policy(place);
        policy
            .limits
            .iter()
            .map(|limit| limit.rule.id.to_string())
            .collect()
    }

    fn place(team: &str, tier: &str) -> Place {
        Place {
            organisation: Some("acme".into()),
            team: Some(team.into()),
            tier: Some(tier.into()),
            ..Place::default()
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
        let asks = |model| {
            policy.limits[2].counter(&Subject {
                model,
                ..Subject::default()
            })
        };
        assert!(asks("slow").is_some() && asks("fast").is_none());
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
        let kept = |place: &Place| {
            let capture = rules.policy(place).capture.unwrap();
            (capture.mode.as_str(), capture.share.as_f64())
        };
        assert_eq!(kept(&Place::default()), ("metadata", 1.0));
        assert_eq!(kept(&place("other", "free")), ("off", 1.0));
        assert_eq!(kept(&place("growth", "free")), ("sampled", 0.25));
        let key = Place {
            key: Some("key_1".into()),
            ..place("growth", "free")
        };
        assert_eq!(kept(&key), ("full", 1.0));
        let none = Rules::default().policy(&Place::default());
        assert_eq!(none.capture, None);
    }

    #[test]
    fn subjects_are_counted_apart_and_are_bounded() {
        let rules = rules(&[r#"{"id":"each","per":["team","customer"],"concurrency":1}"#]);
        let policy = rules.policy(&Place::default());
        let of = |customer| Subject {
            team: Some("growth"),
            customer,
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
            &first.budgets[0].counters,
            &raised.budgets[0].counters
        ));
        assert!(!Arc::ptr_eq(
            &raised.budgets[0].counters,
            &other.budgets[0].counters
        ));
    }
}
