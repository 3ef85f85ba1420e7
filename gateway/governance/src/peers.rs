//! Limits and budgets that several gateways share.
//!
//! Ten times a second every gateway tells the others, over a compacted topic, what changed of what it
//! took of each limit and spent of each budget, and hears the same of them. What is heard counts as
//! if it had been taken here; what is left is divided by demand until the next hearing
//! ([`weir_limits::share`]). So all of them together let through what one would, but for what moves
//! within a hearing: what that can come to is shown by `peers/simulation.rs`, which plays this very
//! code.
//!
//! A gateway is alive while its word is no older than ten seconds, by clocks that must agree to
//! about a second. What a dead one had in flight is free again; what it spent stays spent. While
//! Kafka is away, or slow, a gateway does not hear itself either: it goes on with its share of what
//! was left, and takes no other.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use weir_eventlog::{KafkaOptions, RecordLog, RecordReader, RecordSender, StoppableThread};
use weir_limits::{
    Bucket, BudgetCounter, LimitCounter, PeerBudgetUsage, RateSpec, SYNC_INTERVAL_US, Share, Spent,
    share,
};

use crate::clock::{self, Moment};
use crate::control::ControlHandle;
use crate::control::policy::{Budget, Limit, Rules};
use crate::thresholds::{NotificationLog, NotifiedThreshold};

/// A gateway whose last word is older is dead.
const ALIVE_MS: u64 = 10_000;
/// A gateway that has not heard itself for so long does not know how things stand.
const ECHO_MS: u64 = 3_000;
/// How long a start waits for what others said.
const FIRST_HEARING_MAX: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(20);
/// How long a gateway that stops waits for its last word to be in the log.
const LAST_WORD_MAX: Duration = Duration::from_secs(2);
const RETRY: Duration = Duration::from_secs(1);

/// What one gateway tells the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Report {
    from: String,
    /// Another one each time the gateway starts: counts begin anew then.
    boot: u64,
    sent_ms: u64,
    #[serde(flatten)]
    about: About,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum About {
    Alive(bool),
    Limit(LimitReport),
    Budget(BudgetReport),
    /// What the webhook was told.
    Said(NotifiedThreshold),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct LimitReport {
    id: String,
    subject: String,
    requests: Taken,
    tokens: Taken,
    running: u64,
    running_asked: u64,
}

/// What was taken of a rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Taken {
    taken: u64,
    asked: u64,
    /// What is in the bucket, and the part of it that was taken by whoever says so.
    level: u64,
    #[serde(default)]
    own: u64,
    /// What may be taken before the others are heard again.
    claimed: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct BudgetReport {
    id: String,
    subject: String,
    /// Beginning of a stretch of time, and the amount as text.
    spent: Vec<(u64, String)>,
    /// What requests have reserved.
    outstanding: String,
    /// What may be reserved before the others are heard again.
    #[serde(default)]
    claimed: String,
    asked: String,
}

/// Names a counter.
type Name = (&'static str, String, String);

/// What is known of another gateway.
#[derive(Debug, Default)]
struct Peer {
    boot: u64,
    sent_ms: u64,
    limits: HashMap<Name, LimitReport>,
    budgets: HashMap<Name, BudgetReport>,
}

/// How much was asked of one gateway lately: each hearing weighs a tenth less than the next.
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
) -> io::Result<StoppableThread> {
    let mut link = Link {
        reader: RecordLog::Topic(topic.clone()).reader(),
        sender: None,
        topic,
        hearing: Hearing::new(instance, notified),
    };
    link.first(&control);
    StoppableThread::start("peers", move |stop| {
        while stop.sleep(link.once(&control)) {}
        link.tell_last(control.load().rules());
    })
}

/// The topic, and what is heard and told over it.
struct Link {
    topic: KafkaOptions,
    reader: RecordReader,
    /// Opened when Kafka answers.
    sender: Option<RecordSender>,
    hearing: Hearing,
}

/// What one gateway knows of the others, and does about it. Whoever holds it passes on what it tells.
struct Hearing {
    instance: String,
    boot: u64,
    said: Arc<NotificationLog>,
    peers: HashMap<String, Peer>,
    /// What others took since the last hearing, of requests and of tokens.
    taken: HashMap<Name, (News, News)>,
    demand: HashMap<(String, Name), Demand>,
    told: HashMap<Name, About>,
    /// When shares were taken last.
    shared_ms: u64,
    /// When the last word of our own was sent that came back.
    echo_ms: u64,
}

impl Link {
    /// Hears everything that was said before, if Kafka answers.
    fn first(&mut self, control: &ControlHandle) {
        let control = control.load_full();
        let deadline = clock::now() + FIRST_HEARING_MAX;
        while clock::now() < deadline {
            match self.reader.read(LOOK) {
                Ok(news) => {
                    let now = Moment::now();
                    self.hearing.hear_all(control.rules(), &news.records, now);
                    if news.is_whole {
                        return self.hearing.settle(control.rules(), now);
                    }
                }
                Err(error) => {
                    return tracing::warn!(%error, "limits and budgets begin without the other gateways");
                }
            }
        }
        tracing::warn!("limits and budgets begin without all of what the other gateways said");
    }

    /// One hearing. Returns the pause until the next.
    fn once(&mut self, control: &ControlHandle) -> Duration {
        let control = control.load_full();
        let rules = control.rules();
        if self.sender.is_none() {
            self.sender = RecordSender::open(&self.topic)
                .inspect_err(|error| tracing::debug!(%error, "tell other gateways"))
                .ok();
        }
        let news = match self.reader.read(LOOK) {
            Ok(news) => news.records,
            Err(error) => {
                tracing::debug!(%error, "hear other gateways");
                return RETRY;
            }
        };
        let now = Moment::now();
        self.hearing.hear_all(rules, &news, now);
        self.hearing.settle(rules, now);
        self.tell(rules, now);
        Duration::from_micros(SYNC_INTERVAL_US)
    }

    /// What was spent and said since the last hearing: the others go by it until we are back.
    fn tell_last(&mut self, rules: &Rules) {
        self.tell(rules, Moment::now());
        if let Some(sender) = &self.sender
            && let Err(error) = sender.flush(LAST_WORD_MAX)
        {
            tracing::warn!(%error, "the other gateways may not know the last of what was spent here");
        }
    }

    fn tell(&mut self, rules: &Rules, now: Moment) {
        let sender = self.sender.as_ref();
        self.hearing.tell(rules, now, |key, json| {
            sender.is_some_and(|sender| sender.send(key, json))
        });
    }
}

impl Hearing {
    fn new(instance: String, said: Arc<NotificationLog>) -> Self {
        Self {
            said,
            instance,
            boot: rand::random(),
            peers: HashMap::new(),
            taken: HashMap::new(),
            demand: HashMap::new(),
            told: HashMap::new(),
            shared_ms: 0,
            echo_ms: 0,
        }
    }

    fn hear_all(&mut self, rules: &Rules, records: &[String], now: Moment) {
        for report in records
            .iter()
            .filter_map(|json| serde_json::from_str(json).ok())
        {
            self.hear(rules, report, now);
        }
    }

    fn hear(&mut self, rules: &Rules, report: Report, now: Moment) {
        if report.from == self.instance {
            if report.boot == self.boot {
                self.echo_ms = self.echo_ms.max(report.sent_ms);
            }
            return;
        }
        let peer = self.peers.entry(report.from.clone()).or_default();
        if peer.boot != report.boot {
            // Its buckets began anew; what it spent did not.
            peer.boot = report.boot;
            peer.limits.clear();
        }
        let is_alive = now.unix_ms().saturating_sub(report.sent_ms) < ALIVE_MS;
        match report.about {
            About::Alive(_) => peer.sent_ms = peer.sent_ms.max(report.sent_ms),
            About::Said(mark) => self.said.note(mark),
            About::Budget(budget) => {
                // Made now, so that a first request here finds what was spent elsewhere.
                if let Some(rule) = rules.budget(&budget.id) {
                    let _: Arc<BudgetCounter> = rule.counters.named(&budget.subject);
                }
                let name = ("budget", budget.id.clone(), budget.subject.clone());
                peer.budgets.insert(name, budget);
            }
            About::Limit(limit) => {
                let name = ("limit", limit.id.clone(), limit.subject.clone());
                let before = peer.limits.insert(name.clone(), limit.clone());
                if let (Some(rule), true) = (rules.limit(&limit.id), is_alive) {
                    // Made now, so that a first request here finds what was taken elsewhere.
                    let _: Arc<LimitCounter> = rule.counters.named(&limit.subject);
                    let before = before.as_ref();
                    let (requests, tokens) = self.taken.entry(name).or_default();
                    requests.hear(before.map(|before| before.requests), limit.requests);
                    tokens.hear(before.map(|before| before.tokens), limit.tokens);
                }
            }
        }
    }

    /// Brings every counter to what was heard, and takes our share of the rest.
    fn settle(&mut self, rules: &Rules, now: Moment) {
        let now_ms = now.unix_ms();
        let hears = now_ms.saturating_sub(self.echo_ms) < ECHO_MS;
        if !hears && self.echo_ms > 0 {
            return;
        }
        self.peers.retain(|_, peer| {
            // What a dead gateway took of a rate has leaked out by then.
            !peer.budgets.is_empty() || now_ms.saturating_sub(peer.sent_ms) < 20 * ALIVE_MS
        });
        let alive: Vec<String> = self
            .peers
            .iter()
            .filter(|(_, peer)| now_ms.saturating_sub(peer.sent_ms) < ALIVE_MS)
            .map(|(from, _)| from.clone())
            .collect();
        let all_heard = alive.iter().all(|from| {
            let peer = self.peers.get(from);
            peer.is_some_and(|peer| peer.sent_ms > self.shared_ms)
        });
        if all_heard {
            self.shared_ms = now_ms;
        }
        rules.share_among(u32::try_from(alive.len() + 1).unwrap_or(u32::MAX));
        // Of those that are alive the first by name speaks.
        self.said
            .set_silent(alive.iter().any(|from| *from < self.instance));
        for limit in rules.limits() {
            for (subject, counter) in limit.counters.all() {
                let heard = (alive.as_slice(), all_heard);
                self.settle_limit(limit, &subject, &counter, heard, now.unix_us);
            }
        }
        for budget in rules.budgets() {
            for (subject, purse) in budget.counters.all() {
                let heard = (alive.as_slice(), all_heard);
                self.settle_budget(budget, &subject, &purse, heard, now.unix_us);
            }
        }
        self.taken.clear();
        self.demand
            .retain(|(from, _), _| *from == self.instance || alive.contains(from));
    }

    fn settle_limit(
        &mut self,
        limit: &Limit,
        subject: &str,
        counter: &LimitCounter,
        (alive, all_heard): (&[String], bool),
        now_us: u64,
    ) {
        let name = ("limit", limit.id.to_string(), subject.to_owned());
        let (requests, tokens) = self.taken.get(&name).copied().unwrap_or_default();
        let elsewhere: u64 = self
            .reports(alive, |peer| peer.limits.get(&name))
            .map(|report| report.running)
            .sum();
        let asked = |report: &LimitReport| {
            u128::from(report.requests.asked)
                + u128::from(report.tokens.asked)
                + u128::from(report.running_asked)
        };
        let of_peers: Vec<(String, u128)> = alive
            .iter()
            .filter_map(|from| {
                Some((
                    from.clone(),
                    asked(self.peers.get(from)?.limits.get(&name)?),
                ))
            })
            .collect();
        let own = asked(&limit_report(limit, subject, counter, now_us));
        let share = Share {
            ppm: self.share(name.clone(), own, of_peers, alive.len()),
            is_new: all_heard || alive.is_empty(),
        };
        if let Some(spec) = &limit.requests {
            let claimed = self.claimed(alive, &name, spec, |report| report.requests);
            let taken = requests.units(spec, &counter.requests, now_us);
            counter
                .requests
                .merge_peers(spec, taken, claimed, share, now_us);
        }
        if let Some(spec) = &limit.tokens {
            let claimed = self.claimed(alive, &name, spec, |report| report.tokens);
            let taken = tokens.units(spec, &counter.tokens, now_us);
            counter
                .tokens
                .merge_peers(spec, taken, claimed, share, now_us);
        }
        if let Some(max) = limit.concurrency {
            counter.slots.merge_peers(max, elsewhere, share);
        }
    }

    fn settle_budget(
        &mut self,
        budget: &Budget,
        subject: &str,
        purse: &BudgetCounter,
        (alive, all_heard): (&[String], bool),
        now_us: u64,
    ) {
        let name = ("budget", budget.id.to_string(), subject.to_owned());
        let number = |text: &str| text.parse::<u128>().unwrap_or(0);
        let everybody = self
            .peers
            .values()
            .filter_map(|peer| peer.budgets.get(&name));
        let spent = everybody.flat_map(|report| &report.spent);
        let spent = spent.map(|(start_ms, amount)| Spent {
            start_ms: *start_ms,
            amount: number(amount),
        });
        let spent: Vec<Spent> = spent.collect();
        let alive_say = |of: fn(&BudgetReport) -> &str| -> Vec<u128> {
            let reports = self.reports(alive, |peer| peer.budgets.get(&name));
            reports.map(|report| number(of(report))).collect()
        };
        let claims = alive_say(|report| &report.claimed);
        // Whoever has not heard of it yet begins with an even share.
        let unheard = alive.len() - claims.len();
        let even = budget.spec.limit / (alive.len() as u128 + 1);
        let others = PeerBudgetUsage {
            spent,
            outstanding: alive_say(|report| &report.outstanding).iter().sum(),
            claimed: claims
                .iter()
                .sum::<u128>()
                .saturating_add(even.saturating_mul(unheard as u128)),
        };
        let of_peers: Vec<(String, u128)> = alive
            .iter()
            .filter_map(|from| {
                let report = self.peers.get(from)?.budgets.get(&name)?;
                Some((from.clone(), number(&report.asked)))
            })
            .collect();
        let own = purse.read(&budget.spec, now_us).asked;
        let ppm = self.share(name, own, of_peers, alive.len());
        let share = Share {
            ppm,
            is_new: all_heard || alive.is_empty(),
        };
        purse.merge_peers(&budget.spec, others, share, now_us);
    }

    /// What the others may still take. Whoever has not heard of the limit yet begins with an even
    /// share.
    fn claimed(
        &self,
        alive: &[String],
        name: &Name,
        spec: &RateSpec,
        of: fn(&LimitReport) -> Taken,
    ) -> u64 {
        let even = spec.burst() / (alive.len() as u64 + 1);
        let claims = alive.iter().map(|from| {
            let report = self.peers.get(from).and_then(|peer| peer.limits.get(name));
            report.map_or(even, |report| of(report).claimed)
        });
        claims.fold(0, u64::saturating_add)
    }

    fn reports<'a, R: 'a>(
        &'a self,
        alive: &'a [String],
        report: impl Fn(&'a Peer) -> Option<&'a R> + 'a,
    ) -> impl Iterator<Item = &'a R> {
        alive
            .iter()
            .filter_map(move |from| report(self.peers.get(from)?))
    }

    /// Our share, by what was asked of each lately.
    fn share(&mut self, name: Name, own: u128, of_peers: Vec<(String, u128)>, alive: usize) -> u64 {
        if alive == 0 {
            return share::WHOLE_PPM;
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
        let gateways = u32::try_from(alive + 1).unwrap_or(u32::MAX);
        share::ppm(small(own), small(all), gateways)
    }

    /// Tells what changed since the last time. What could not be sent is told again.
    fn tell(&mut self, rules: &Rules, now: Moment, send: impl Fn(&str, &str) -> bool) {
        let mut about: Vec<(Name, About)> = Vec::new();
        for limit in rules.limits() {
            for (subject, counter) in limit.counters.all() {
                let report = limit_report(limit, &subject, &counter, now.unix_us);
                let name = ("limit", limit.id.to_string(), subject.into());
                about.push((name, About::Limit(report)));
            }
        }
        for budget in rules.budgets() {
            for (subject, purse) in budget.counters.all() {
                let state = purse.read(&budget.spec, now.unix_us);
                let spent = state.spent.iter();
                let report = BudgetReport {
                    id: budget.id.to_string(),
                    subject: subject.to_string(),
                    spent: spent
                        .map(|part| (part.start_ms, part.amount.to_string()))
                        .collect(),
                    outstanding: state.outstanding.to_string(),
                    claimed: state.claimed.to_string(),
                    asked: state.asked.to_string(),
                };
                let name = ("budget", budget.id.to_string(), subject.into());
                about.push((name, About::Budget(report)));
            }
        }
        for mark in self.said.marks() {
            let name = ("said", mark.budget.clone(), mark.subject.clone());
            about.push((name, About::Said(mark)));
        }
        // Last: whoever hears it has heard all the rest.
        let alive = ("alive", String::new(), String::new());
        about.push((alive, About::Alive(true)));
        for (name, about) in about {
            let is_new = matches!(about, About::Alive(_)) || self.is_news(&name, &about);
            if !is_new {
                continue;
            }
            let key = format!("{}/{}/{}/{}", self.instance, name.0, name.1, name.2);
            let report = Report {
                from: self.instance.clone(),
                boot: self.boot,
                sent_ms: now.unix_ms(),
                about,
            };
            let json = serde_json::to_string(&report);
            if json.is_ok_and(|json| send(&key, &json)) {
                self.told.insert(name, report.about);
            }
        }
    }

    /// Whether others would do something else if they knew. A bucket that only leaks is none.
    fn is_news(&self, name: &Name, about: &About) -> bool {
        match (self.told.get(name), about) {
            (None, About::Limit(new)) => {
                let claims = new.requests.claimed + new.tokens.claimed;
                claims + new.requests.asked + new.tokens.asked + new.running_asked > 0
            }
            (None, About::Budget(new)) => {
                !new.spent.is_empty() || new.outstanding != "0" || new.claimed != "0"
            }
            (Some(About::Limit(told)), About::Limit(new)) => {
                let same = |told: Taken, new: Taken| {
                    (told.taken, told.asked, told.claimed) == (new.taken, new.asked, new.claimed)
                };
                !(same(told.requests, new.requests)
                    && same(told.tokens, new.tokens)
                    && (told.running, told.running_asked) == (new.running, new.running_asked))
            }
            (Some(told), new) => told != new,
            (None, About::Alive(_) | About::Said(_)) => true,
        }
    }
}

fn limit_report(limit: &Limit, subject: &str, counter: &LimitCounter, now_us: u64) -> LimitReport {
    let taken = |spec: &Option<RateSpec>, bucket: &Bucket| {
        spec.as_ref().map_or_else(Taken::default, |spec| {
            let state = bucket.state(spec, now_us);
            Taken {
                taken: state.taken,
                asked: state.asked,
                level: state.level,
                own: state.own,
                claimed: state.claimed,
            }
        })
    };
    let (running, running_asked) = counter.slots.read();
    LimitReport {
        id: limit.id.to_string(),
        subject: subject.to_owned(),
        requests: taken(&limit.requests, &counter.requests),
        tokens: taken(&limit.tokens, &counter.tokens),
        running,
        running_asked,
    }
}

/// What others took of a rate, as far as it is new here.
#[derive(Clone, Copy, Debug, Default)]
struct News {
    /// Taken since the last time by those that were heard before.
    since: i64,
    /// Taken by those that are heard for the first time, and still in the bucket.
    of_new: u64,
    /// The most that one of these has in its bucket, which is what it knows of everybody: of us before
    /// we were started anew, too.
    level: u64,
}

impl News {
    fn hear(&mut self, before: Option<Taken>, now: Taken) {
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
