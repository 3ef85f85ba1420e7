//! Limits and budgets that several gateways share.
//!
//! Ten times a second each gateway publishes, to a compacted topic, what changed in its usage of each
//! limit and budget, and merges what the others published as if it had been taken here. What is left is
//! divided by demand until the next exchange ([`weir_limits::share`]). So all gateways together admit what
//! one would, up to what moves within an exchange: `peers/simulation.rs` plays this very code and shows
//! how much that is.
//!
//! A gateway is alive while its last message is no older than ten seconds, by clocks that agree to
//! about a second. What a dead gateway had in flight is free again; what it spent stays spent. While
//! Kafka is away or slow, a gateway does not see its own messages either: it goes on with its share of what
//! was left, and takes no other.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use weir_eventlog::{
    KafkaOptions, PartHandle, RecordLog, RecordReader, RecordSender, StoppableThread,
};
use weir_limits::{
    Bucket, BucketUsage, BudgetCounter, LimitCounter, PeerBudgetUsage, RateSpec, SYNC_INTERVAL_US,
    Share, Spent, share,
};

use crate::caps::{PEERS_FIRST_READ_MAX, PEERS_LAST_FLUSH_MAX};
use crate::clock::{self, Moment};
use crate::control::ControlHandle;
use crate::control::policy::{Budget, Limit, LimitTerms, Rules};
use crate::thresholds::{NotificationLog, NotifiedThreshold};

/// A gateway whose last message is older is dead.
const ALIVE_MS: u64 = 10_000;
/// A gateway that has not seen a message of its own for so long does not know the current state.
const LOOPBACK_MS: u64 = 3_000;
const LOOK: Duration = Duration::from_millis(20);
const RETRY: Duration = Duration::from_secs(1);

/// What one gateway tells the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct GossipMessage {
    from: String,
    /// Different after each start of the gateway, whose counts start at zero then.
    boot: u64,
    sent_ms: u64,
    #[serde(flatten)]
    about: Update,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Update {
    Alive(bool),
    Limit(LimitReport),
    Budget(BudgetReport),
    /// A threshold that the webhook was notified of.
    #[serde(rename = "said")]
    Notified(NotifiedThreshold),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct LimitReport {
    id: String,
    subject: String,
    requests: BucketUsage,
    tokens: BucketUsage,
    running: u64,
    running_asked: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct BudgetReport {
    id: String,
    subject: String,
    /// Beginning of a stretch of time, and the amount as text.
    spent: Vec<(u64, String)>,
    /// What requests have reserved.
    outstanding: String,
    /// What may be reserved before the next exchange.
    #[serde(default)]
    claimed: String,
    asked: String,
}

impl Update {
    fn name(&self) -> CounterName {
        let (kind, id, subject) = match self {
            Self::Alive(_) => ("alive", "", ""),
            Self::Limit(limit) => ("limit", limit.id.as_str(), limit.subject.as_str()),
            Self::Budget(budget) => ("budget", budget.id.as_str(), budget.subject.as_str()),
            Self::Notified(mark) => ("said", mark.budget.as_str(), mark.subject.as_str()),
        };
        (kind, id.to_owned(), subject.to_owned())
    }
}

/// Names a counter, or what else is told.
type CounterName = (&'static str, String, String);

/// What is known of another gateway.
#[derive(Debug, Default)]
struct Peer {
    boot: u64,
    sent_ms: u64,
    limits: HashMap<CounterName, LimitReport>,
    budgets: HashMap<CounterName, BudgetReport>,
}

/// The other gateways that are alive.
struct Alive {
    names: Vec<String>,
    /// Whether all of them published since shares were taken last.
    all_published: bool,
}

/// How much was asked of one gateway lately: each exchange weighs a tenth less than the next.
#[derive(Clone, Copy, Debug, Default)]
struct Demand {
    asked: u128,
    lately: u128,
}

impl Demand {
    fn note(&mut self, asked: u128) {
        let new = asked.saturating_sub(self.asked);
        self.lately = self.lately * 9 / 10 + new * 1000;
        self.asked = asked;
    }
}

/// Starts the thread that exchanges usage with the other gateways. It has read what they published
/// before, if Kafka answers, when this returns.
pub fn start(
    control: ControlHandle,
    notified: Arc<NotificationLog>,
    topic: KafkaOptions,
    instance: String,
    part: PartHandle,
) -> io::Result<StoppableThread> {
    let mut transport = GossipTransport {
        reader: RecordLog::Topic(topic.clone()).reader(),
        sender: None,
        topic,
        state: PeerState::new(instance, notified),
    };
    transport.read_all(&control);
    part.keep_running(move |stop| {
        while stop.sleep(transport.exchange(&control)) {}
        transport.publish_last(control.load().rules());
        Ok(())
    })
}

/// Reads and writes the topic.
struct GossipTransport {
    topic: KafkaOptions,
    reader: RecordReader,
    /// Opened when Kafka answers.
    sender: Option<RecordSender>,
    state: PeerState,
}

/// What one gateway knows of the others, and does about it. Whoever holds it passes on what it tells.
struct PeerState {
    instance: String,
    boot: u64,
    notified: Arc<NotificationLog>,
    peers: HashMap<String, Peer>,
    /// What others took since the last exchange, of requests and of tokens.
    taken: HashMap<CounterName, (UsageDelta, UsageDelta)>,
    demand: HashMap<(String, CounterName), Demand>,
    published: HashMap<CounterName, Update>,
    /// When shares were taken last.
    shared_ms: u64,
    /// When the last message of our own that came back was sent.
    loopback_ms: u64,
}

impl GossipTransport {
    /// Merges everything that was published before, if Kafka answers.
    fn read_all(&mut self, control: &ControlHandle) {
        let control = control.load_full();
        let deadline = clock::now() + PEERS_FIRST_READ_MAX;
        while clock::now() < deadline {
            match self.reader.read(LOOK) {
                Ok(news) => {
                    let now = Moment::now();
                    self.state.merge_all(control.rules(), &news.records, now);
                    if news.is_whole {
                        return self.state.settle(control.rules(), now);
                    }
                }
                Err(error) => {
                    return tracing::warn!(%error, "limits and budgets start without the other gateways' usage");
                }
            }
        }
        tracing::warn!("limits and budgets start without all of the other gateways' usage");
    }

    /// Reads, merges and publishes once. Returns the pause until the next exchange.
    fn exchange(&mut self, control: &ControlHandle) -> Duration {
        let control = control.load_full();
        let rules = control.rules();
        if self.sender.is_none() {
            self.sender = RecordSender::open(&self.topic)
                .inspect_err(
                    |error| tracing::debug!(%error, "failed to connect for publishing usage"),
                )
                .ok();
        }
        let news = match self.reader.read(LOOK) {
            Ok(news) => news.records,
            Err(error) => {
                tracing::debug!(%error, "failed to read the other gateways' usage");
                return RETRY;
            }
        };
        let now = Moment::now();
        self.state.merge_all(rules, &news, now);
        self.state.settle(rules, now);
        self.publish(rules, now);
        Duration::from_micros(SYNC_INTERVAL_US)
    }

    /// Publishes the usage since the last exchange: the others count with it until we are back.
    fn publish_last(&mut self, rules: &Rules) {
        self.publish(rules, Moment::now());
        if let Some(sender) = &self.sender
            && let Err(error) = sender.flush(PEERS_LAST_FLUSH_MAX)
        {
            tracing::warn!(%error, "the other gateways may not know the last of what was spent here");
        }
    }

    fn publish(&mut self, rules: &Rules, now: Moment) {
        let sender = self.sender.as_ref();
        self.state.publish(rules, now, |key, json| {
            sender.is_some_and(|sender| sender.send(key, json))
        });
    }
}

impl PeerState {
    fn new(instance: String, notified: Arc<NotificationLog>) -> Self {
        Self {
            notified,
            instance,
            boot: rand::random(),
            peers: HashMap::new(),
            taken: HashMap::new(),
            demand: HashMap::new(),
            published: HashMap::new(),
            shared_ms: 0,
            loopback_ms: 0,
        }
    }

    fn merge_all(&mut self, rules: &Rules, records: &[String], now: Moment) {
        for report in records
            .iter()
            .filter_map(|json| serde_json::from_str(json).ok())
        {
            self.merge(rules, report, now);
        }
    }

    fn merge(&mut self, rules: &Rules, report: GossipMessage, now: Moment) {
        if report.from == self.instance {
            if report.boot == self.boot {
                self.loopback_ms = self.loopback_ms.max(report.sent_ms);
            }
            return;
        }
        let peer = self.peers.entry(report.from.clone()).or_default();
        if peer.boot != report.boot {
            // Its buckets were reset; what it spent was not.
            peer.boot = report.boot;
            peer.limits.clear();
        }
        let is_alive = now.unix_ms().saturating_sub(report.sent_ms) < ALIVE_MS;
        let name = report.about.name();
        match report.about {
            Update::Alive(_) => peer.sent_ms = peer.sent_ms.max(report.sent_ms),
            Update::Notified(mark) => self.notified.note(mark),
            Update::Budget(budget) => {
                // Made now, so that a first request here finds what was spent elsewhere.
                if let Some(rule) = rules.budgets.get(&budget.id) {
                    let _: Arc<BudgetCounter> = rule.counters.named(&budget.subject);
                }
                peer.budgets.insert(name, budget);
            }
            Update::Limit(limit) => {
                let before = peer.limits.insert(name.clone(), limit.clone());
                if let (Some(rule), true) = (rules.limits.get(&limit.id), is_alive) {
                    // Made now, so that a first request here finds what was taken elsewhere.
                    let _: Arc<LimitCounter> = rule.counters.named(&limit.subject);
                    let before = before.as_ref();
                    let (requests, tokens) = self.taken.entry(name).or_default();
                    requests.merge(before.map(|before| before.requests), limit.requests);
                    tokens.merge(before.map(|before| before.tokens), limit.tokens);
                }
            }
        }
    }

    /// Applies what was merged to every counter, and takes our share of the rest.
    fn settle(&mut self, rules: &Rules, now: Moment) {
        let now_ms = now.unix_ms();
        let is_current = now_ms.saturating_sub(self.loopback_ms) < LOOPBACK_MS;
        if !is_current && self.loopback_ms > 0 {
            return;
        }
        self.peers.retain(|_, peer| {
            // What a dead gateway took of a rate has leaked out by then.
            !peer.budgets.is_empty() || now_ms.saturating_sub(peer.sent_ms) < 20 * ALIVE_MS
        });
        let peers = self.peers.iter();
        let alive: Vec<_> = peers
            .filter(|(_, peer)| now_ms.saturating_sub(peer.sent_ms) < ALIVE_MS)
            .collect();
        let alive = Alive {
            all_published: alive.iter().all(|(_, peer)| peer.sent_ms > self.shared_ms),
            names: alive.into_iter().map(|(from, _)| from.clone()).collect(),
        };
        if alive.all_published {
            self.shared_ms = now_ms;
        }
        rules.share_among(u32::try_from(alive.names.len() + 1).unwrap_or(u32::MAX));
        // Of those that are alive the first by name speaks.
        self.notified
            .set_silent(alive.names.iter().any(|from| *from < self.instance));
        for limit in rules.limits.iter() {
            for (subject, counter) in limit.counters.all() {
                self.settle_limit(limit, &subject, &counter, &alive, now.unix_us);
            }
        }
        for budget in rules.budgets.iter() {
            for (subject, purse) in budget.counters.all() {
                self.settle_budget(budget, &subject, &purse, &alive, now.unix_us);
            }
        }
        self.taken.clear();
        self.demand
            .retain(|(from, _), _| *from == self.instance || alive.names.contains(from));
    }

    fn settle_limit(
        &mut self,
        limit: &Limit,
        subject: &str,
        counter: &LimitCounter,
        alive: &Alive,
        now_us: u64,
    ) {
        let name = ("limit", limit.id.to_string(), subject.to_owned());
        let (requests, tokens) = self.taken.get(&name).copied().unwrap_or_default();
        let elsewhere: u64 = self
            .reports(alive, |peer| peer.limits.get(&name))
            .map(|(_, report)| report.running)
            .sum();
        let asked = |report: &LimitReport| {
            u128::from(report.requests.asked)
                + u128::from(report.tokens.asked)
                + u128::from(report.running_asked)
        };
        let of_peers: Vec<(String, u128)> = self
            .reports(alive, |peer| peer.limits.get(&name))
            .map(|(from, report)| (from.clone(), asked(report)))
            .collect();
        let own = asked(&limit_report(limit, subject, counter, now_us));
        let share = self.share(name.clone(), own, of_peers, alive);
        let merge = |spec: &Option<RateSpec>,
                     bucket: &Bucket,
                     taken: UsageDelta,
                     of: fn(&LimitReport) -> BucketUsage| {
            if let Some(spec) = spec {
                let claimed = self.claimed(alive, &name, spec, of);
                let taken = taken.units(spec, bucket, now_us);
                bucket.merge_peers(spec, taken, claimed, share, now_us);
            }
        };
        let LimitTerms {
            requests: of_requests,
            tokens: of_tokens,
            concurrency,
        } = &limit.terms;
        merge(of_requests, &counter.requests, requests, |of| of.requests);
        merge(of_tokens, &counter.tokens, tokens, |of| of.tokens);
        if let Some(max) = *concurrency {
            counter.slots.merge_peers(max, elsewhere, share);
        }
    }

    fn settle_budget(
        &mut self,
        budget: &Budget,
        subject: &str,
        purse: &BudgetCounter,
        alive: &Alive,
        now_us: u64,
    ) {
        let name = ("budget", budget.id.to_string(), subject.to_owned());
        let number = |text: &str| text.parse::<u128>().unwrap_or(0);
        let reports = self
            .peers
            .values()
            .filter_map(|peer| peer.budgets.get(&name));
        let spent = reports.flat_map(|report| &report.spent);
        let spent = spent.map(|(start_ms, amount)| Spent {
            start_ms: *start_ms,
            amount: number(amount),
        });
        let spent: Vec<Spent> = spent.collect();
        let alive_say = |of: fn(&BudgetReport) -> &str| -> Vec<u128> {
            let reports = self.reports(alive, |peer| peer.budgets.get(&name));
            reports.map(|(_, report)| number(of(report))).collect()
        };
        let claims = alive_say(|report| &report.claimed);
        // A gateway that has not published it yet starts with an even share.
        let unpublished = alive.names.len() - claims.len();
        let even = budget.terms.spec.limit / (alive.names.len() as u128 + 1);
        let others = PeerBudgetUsage {
            spent,
            outstanding: alive_say(|report| &report.outstanding).iter().sum(),
            claimed: claims
                .iter()
                .sum::<u128>()
                .saturating_add(even.saturating_mul(unpublished as u128)),
        };
        let of_peers: Vec<(String, u128)> = self
            .reports(alive, |peer| peer.budgets.get(&name))
            .map(|(from, report)| (from.clone(), number(&report.asked)))
            .collect();
        let own = purse.read(&budget.terms.spec, now_us).asked;
        let share = self.share(name, own, of_peers, alive);
        purse.merge_peers(&budget.terms.spec, others, share, now_us);
    }

    /// What the others may still take. A gateway that has not published the limit yet
    /// starts with an even share.
    fn claimed(
        &self,
        alive: &Alive,
        name: &CounterName,
        spec: &RateSpec,
        of: fn(&LimitReport) -> BucketUsage,
    ) -> u64 {
        let even = spec.burst() / (alive.names.len() as u64 + 1);
        let claims = alive.names.iter().map(|from| {
            let report = self.peers.get(from).and_then(|peer| peer.limits.get(name));
            report.map_or(even, |report| of(report).claimed)
        });
        claims.fold(0, u64::saturating_add)
    }

    /// What those that are alive say of one counter, if they do.
    fn reports<'a, R: 'a>(
        &'a self,
        alive: &'a Alive,
        report: impl Fn(&'a Peer) -> Option<&'a R> + 'a,
    ) -> impl Iterator<Item = (&'a String, &'a R)> {
        let names = alive.names.iter();
        names.filter_map(move |from| Some((from, report(self.peers.get(from)?)?)))
    }

    /// Our share, by what was asked of each lately.
    fn share(
        &mut self,
        name: CounterName,
        own: u128,
        of_peers: Vec<(String, u128)>,
        alive: &Alive,
    ) -> Share {
        let mut share = Share {
            ppm: share::WHOLE_PPM,
            is_new: alive.all_published,
        };
        if alive.names.is_empty() {
            return share;
        }
        let mut note = |from: String, asked: u128| {
            let demand = self.demand.entry((from, name.clone())).or_default();
            demand.note(asked);
            demand.lately
        };
        let own = note(self.instance.clone(), own);
        let others: u128 = of_peers
            .into_iter()
            .map(|(from, asked)| note(from, asked))
            .sum();
        // Amounts of money are large: their relation is all that counts.
        let all = own.saturating_add(others);
        let scale = (all >> 40).max(1);
        let small = |value: u128| u64::try_from(value / scale).unwrap_or(u64::MAX);
        let gateways = u32::try_from(alive.names.len() + 1).unwrap_or(u32::MAX);
        share.ppm = share::ppm(small(own), small(all), gateways);
        share
    }

    /// Publishes what changed since the last time. What could not be sent is published again.
    fn publish(&mut self, rules: &Rules, now: Moment, send: impl Fn(&str, &str) -> bool) {
        let mut updates = Vec::new();
        for limit in rules.limits.iter() {
            for (subject, counter) in limit.counters.all() {
                let report = limit_report(limit, &subject, &counter, now.unix_us);
                updates.push(Update::Limit(report));
            }
        }
        for budget in rules.budgets.iter() {
            for (subject, purse) in budget.counters.all() {
                let report = budget_report(budget, &subject, &purse, now.unix_us);
                updates.push(Update::Budget(report));
            }
        }
        updates.extend(self.notified.marks().into_iter().map(Update::Notified));
        // Last: who has read it has read all the rest.
        updates.push(Update::Alive(true));
        for about in updates {
            let name = about.name();
            if !self.is_new(&name, &about) {
                continue;
            }
            let key = format!("{}/{}/{}/{}", self.instance, name.0, name.1, name.2);
            let report = GossipMessage {
                from: self.instance.clone(),
                boot: self.boot,
                sent_ms: now.unix_ms(),
                about,
            };
            let json = serde_json::to_string(&report);
            if json.is_ok_and(|json| send(&key, &json)) {
                self.published.insert(name, report.about);
            }
        }
    }

    /// Whether others would do something else if they knew. A bucket that only leaks is none.
    fn is_new(&self, name: &CounterName, about: &Update) -> bool {
        match (self.published.get(name), about) {
            (_, Update::Alive(_)) | (None, Update::Notified(_)) => true,
            (None, Update::Limit(new)) => {
                let claims = new.requests.claimed + new.tokens.claimed;
                claims + new.requests.asked + new.tokens.asked + new.running_asked > 0
            }
            (None, Update::Budget(new)) => {
                !new.spent.is_empty() || new.outstanding != "0" || new.claimed != "0"
            }
            (Some(Update::Limit(published)), Update::Limit(new)) => {
                let same = |published: BucketUsage, new: BucketUsage| {
                    (published.taken, published.asked, published.claimed)
                        == (new.taken, new.asked, new.claimed)
                };
                !(same(published.requests, new.requests)
                    && same(published.tokens, new.tokens)
                    && (published.running, published.running_asked)
                        == (new.running, new.running_asked))
            }
            (Some(published), new) => published != new,
        }
    }
}

fn limit_report(limit: &Limit, subject: &str, counter: &LimitCounter, now_us: u64) -> LimitReport {
    let taken = |spec: &Option<RateSpec>, bucket: &Bucket| {
        let spec = spec.as_ref();
        spec.map_or_else(BucketUsage::default, |spec| bucket.state(spec, now_us))
    };
    let (running, running_asked) = counter.slots.read();
    LimitReport {
        id: limit.id.to_string(),
        subject: subject.to_owned(),
        requests: taken(&limit.terms.requests, &counter.requests),
        tokens: taken(&limit.terms.tokens, &counter.tokens),
        running,
        running_asked,
    }
}

fn budget_report(
    budget: &Budget,
    subject: &str,
    purse: &BudgetCounter,
    now_us: u64,
) -> BudgetReport {
    let state = purse.read(&budget.terms.spec, now_us);
    let spent = state.spent.iter();
    BudgetReport {
        id: budget.id.to_string(),
        subject: subject.to_owned(),
        spent: spent
            .map(|part| (part.start_ms, part.amount.to_string()))
            .collect(),
        outstanding: state.outstanding.to_string(),
        claimed: state.claimed.to_string(),
        asked: state.asked.to_string(),
    }
}

/// What others took of a rate, as far as it is new here.
#[derive(Clone, Copy, Debug, Default)]
struct UsageDelta {
    /// Taken since the last exchange by gateways that were known before.
    since: i64,
    /// Taken by gateways that are new here, and still in the bucket.
    of_new: u64,
    /// The most that one of these has in its bucket, which is what it knows of all: of us before
    /// our restart, too.
    level: u64,
}

impl UsageDelta {
    fn merge(&mut self, before: Option<BucketUsage>, now: BucketUsage) {
        let signed = |units: u64| i64::try_from(units).unwrap_or(i64::MAX);
        match before {
            Some(before) => {
                let since = signed(now.taken).saturating_sub(signed(before.taken));
                self.since = self.since.saturating_add(since);
            }
            None => {
                self.of_new = self.of_new.saturating_add(now.own);
                self.level = self.level.max(now.level);
            }
        }
    }

    /// Units that are to be added to our bucket.
    fn units(&self, spec: &RateSpec, bucket: &Bucket, now_us: u64) -> i64 {
        let here = bucket.state(spec, now_us).level;
        let new = self.of_new.max(self.level.saturating_sub(here));
        self.since
            .saturating_add(i64::try_from(new).unwrap_or(i64::MAX))
    }
}

#[cfg(test)]
mod simulation;
