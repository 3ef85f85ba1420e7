//! Several gateways that share a limit and a budget, in simulated time: the very code that runs over
//! Kafka, over a log that is late, loses what was sent, and is cut off from some of them.
//!
//! What all of them let through is compared with one bucket and one purse that see every request.
//! A failure prints its seed; `WEIR_SEED=n` plays that one alone, `WEIR_CLUSTERS=n` plays more.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use weir_limits::{BudgetCounter, Class, Reserved};
use weir_schemas::event::{Caller, Tags};

use super::*;
use crate::control::policy::Subject;
use crate::control::record::{Kind, Record};

const START_US: u64 = 1_780_000_000_000_000;
const STEP_US: u64 = 1_000;
const SECOND: u64 = 1_000_000;
const SUBJECT: Subject<'static> = Subject {
    caller: Caller {
        organisation: None,
        team: Some("t"),
        project: None,
        user: None,
        key_id: Some("k"),
        environment: None,
        tier: None,
        customer: None,
        feature: None,
        tags: Tags(Vec::new()),
    },
    model: "m",
};

/// What is played.
#[derive(Clone, Debug)]
struct Play {
    seed: u64,
    /// Requests a minute, and of how many the budget is.
    per_minute: u64,
    budget: u64,
    /// Requests a second that arrive at each gateway, and for how long at each of them.
    arrivals: Vec<Vec<f64>>,
    shift_us: u64,
    length_us: u64,
    /// Longest time that a message is on its way.
    delay_us_max: u64,
    /// Part of the messages that is lost on its way into the log, and published again.
    loss: f64,
    /// Who is cut off from the log, from when and until when.
    cuts: Vec<(usize, u64, u64)>,
    /// Who dies, and when.
    deaths: Vec<(usize, u64)>,
    /// Longest time that a request takes.
    service_us_max: u64,
}

impl Play {
    fn new(seed: u64, per_minute: u64, arrivals: Vec<Vec<f64>>) -> Self {
        Self {
            seed,
            per_minute,
            budget: u64::MAX / 2,
            arrivals,
            shift_us: 10 * SECOND,
            length_us: 60 * SECOND,
            delay_us_max: 50_000,
            loss: 0.0,
            cuts: Vec::new(),
            deaths: Vec::new(),
            service_us_max: 100_000,
        }
    }

    fn rate(&self) -> RateSpec {
        RateSpec::per_minute(self.per_minute)
    }

    fn arrivals(&self, at_us: u64) -> &[f64] {
        let phase = usize::try_from(at_us / self.shift_us).unwrap();
        &self.arrivals[phase % self.arrivals.len()]
    }
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default)]
struct Outcome {
    /// Let through by all, and refused by any.
    passed: u64,
    refused: u64,
    /// What one gateway would have let through.
    one_would: u64,
    /// Refused though all of them together had room.
    refused_with_room: u64,
    /// The most that was ever in the bucket beyond what it holds, and charged beyond the budget.
    rate_over: u64,
    budget_over: u64,
    paid: u64,
}

struct Node {
    rules: Rules,
    state: PeerState,
    read_to: usize,
    exchange_us: u64,
    /// Told while it was cut off.
    outbox: Vec<String>,
    in_flight: Vec<(u64, Arc<BudgetCounter>, Reserved)>,
    is_dead: bool,
}

struct World {
    play: Play,
    random: SmallRng,
    nodes: Vec<Node>,
    /// When each message can be read, and the message.
    log: Vec<(u64, String)>,
    /// What all took, as one bucket sees it; and what one would have let through.
    truth: Bucket,
    one: Bucket,
    charged: u64,
    outcome: Outcome,
}

fn rules(play: &Play) -> Rules {
    let limit = format!(
        r#"{{"id":"l","requests_per_minute":{},"per":["team"]}}"#,
        play.per_minute
    );
    let budget = format!(
        r#"{{"id":"b","tokens":{},"window":"total","per":["team"]}}"#,
        play.budget
    );
    let records = [(Kind::Limit, limit), (Kind::Budget, budget)].map(|(kind, json)| {
        let record = Record::parse(kind, &json).unwrap();
        ((kind, record.id()), Arc::new(record))
    });
    Rules::build(&BTreeMap::from(records), &Rules::default())
}

fn moment(unix_us: u64) -> Moment {
    Moment {
        unix_us,
        ..Moment::now()
    }
}

impl World {
    fn new(play: Play) -> Self {
        let mut random = SmallRng::seed_from_u64(play.seed);
        let dir = std::path::Path::new("/nowhere");
        let node = |number| Node {
            rules: rules(&play),
            state: PeerState::new(
                format!("gateway-{number}"),
                Arc::new(NotificationLog::open(dir)),
            ),
            read_to: 0,
            exchange_us: random.random_range(0..SYNC_INTERVAL_US),
            outbox: Vec::new(),
            in_flight: Vec::new(),
            is_dead: false,
        };
        let nodes = (0..play.arrivals[0].len()).map(node).collect();
        Self {
            nodes,
            random,
            log: Vec::new(),
            truth: Bucket::default(),
            one: Bucket::default(),
            charged: 0,
            outcome: Outcome::default(),
            play,
        }
    }

    fn run(mut self) -> Outcome {
        // They know each other before the first request comes.
        let warm_us = 3 * SECOND;
        for at_us in (0..warm_us + self.play.length_us).step_by(usize::try_from(STEP_US).unwrap()) {
            for number in 0..self.nodes.len() {
                if self.nodes[number].exchange_us <= at_us {
                    self.nodes[number].exchange_us +=
                        SYNC_INTERVAL_US + self.random.random_range(0..20_000);
                    self.merge(number, at_us);
                }
                if at_us >= warm_us {
                    self.finish(number, at_us);
                    self.arrive(number, at_us, at_us - warm_us);
                }
            }
        }
        self.outcome
    }

    fn merge(&mut self, number: usize, at_us: u64) {
        let is_cut = |(who, from, until): &(usize, u64, u64)| {
            *who == number && (*from..*until).contains(&at_us)
        };
        let cut = self.play.cuts.iter().any(is_cut);
        let node = &mut self.nodes[number];
        if node.is_dead {
            return;
        }
        let now = moment(START_US + at_us);
        if !cut {
            let unread = &self.log[node.read_to..];
            let readable = unread.partition_point(|(visible_us, _)| *visible_us <= at_us);
            let messages: Vec<String> = unread[..readable]
                .iter()
                .map(|(_, message)| message.clone())
                .collect();
            node.read_to += readable;
            node.state.merge_all(&node.rules, &messages, now);
        }
        node.state.settle(&node.rules, now);
        let sent = std::cell::RefCell::new(Vec::new());
        let random = std::cell::RefCell::new(&mut self.random);
        node.state.publish(&node.rules, now, |_, json| {
            let is_sent = !random.borrow_mut().random_bool(self.play.loss);
            if is_sent {
                sent.borrow_mut().push(json.to_owned());
            }
            is_sent
        });
        node.outbox.extend(sent.into_inner());
        if !cut {
            let last_us = self.log.last().map_or(0, |(visible_us, _)| *visible_us);
            let delay_us = self.random.random_range(1_000..=self.play.delay_us_max);
            let visible_us = (at_us + delay_us).max(last_us);
            self.log
                .extend(node.outbox.drain(..).map(|message| (visible_us, message)));
        }
    }

    fn finish(&mut self, number: usize, at_us: u64) {
        let node = &mut self.nodes[number];
        let dies = self
            .play
            .deaths
            .contains(&(number, at_us / SECOND * SECOND));
        node.is_dead = node.is_dead || dies;
        let budget = node.rules.budgets.get("b").unwrap();
        let mut at = 0;
        while at < node.in_flight.len() {
            if node.in_flight[at].0 > at_us && !node.is_dead {
                at += 1;
                continue;
            }
            let (_, purse, reserved) = node.in_flight.swap_remove(at);
            // What a dead gateway had begun was answered, perhaps, and is not charged.
            if !node.is_dead {
                let now_us = START_US + at_us;
                purse.settle(&budget.terms.spec, reserved, 1, now_us / 1000, now_us);
                self.charged += 1;
            }
        }
        let over = self.charged.saturating_sub(self.play.budget);
        self.outcome.budget_over = self.outcome.budget_over.max(over);
    }

    fn arrive(&mut self, number: usize, at_us: u64, since_us: u64) {
        let per_s = self.play.arrivals(since_us)[number];
        // Milliseconds are the steps.
        let mut expected = per_s / 1_000.0;
        while expected > 0.0 {
            let comes = self.random.random_bool(expected.min(1.0));
            if comes && !self.nodes[number].is_dead {
                self.request(number, START_US + at_us, at_us);
            }
            expected -= 1.0;
        }
    }

    fn request(&mut self, number: usize, now_us: u64, at_us: u64) {
        let rate = self.play.rate();
        let node = &mut self.nodes[number];
        let one = self.one.take(&rate, Class::Interactive, 1, now_us);
        self.outcome.one_would += u64::from(one.is_ok());
        let counter = node.rules.limits.get("l").unwrap().counter(&SUBJECT);
        let before = self.truth.read(&rate, now_us);
        if counter
            .requests
            .take(&rate, Class::Interactive, 1, now_us)
            .is_err()
        {
            self.outcome.refused += 1;
            self.outcome.refused_with_room += u64::from(before.remaining > 0);
            return;
        }
        self.outcome.passed += 1;
        self.truth.correct(0, 1);
        let level = self.truth.read(&rate, now_us);
        let over_us = level.reset_us.saturating_sub(now_us);
        let over = over_us.saturating_sub(60 * SECOND) * self.play.per_minute / (60 * SECOND);
        self.outcome.rate_over = self.outcome.rate_over.max(over);

        let budget = node.rules.budgets.get("b").unwrap();
        let purse = budget.counter(&SUBJECT);
        if let Ok((reserved, _)) = purse.reserve(&budget.terms.spec, 1, None, now_us) {
            self.outcome.paid += 1;
            let service_us = self.random.random_range(0..=self.play.service_us_max);
            node.in_flight.push((at_us + service_us, purse, reserved));
        }
    }
}

/// How far gateways may go beyond one: each further one a request more than there is room for, before
/// and after it is known.
fn one_more_each(play: &Play) -> u64 {
    2 * (play.arrivals[0].len() as u64 - 1)
}

/// A twentieth, or what one request more each comes to.
fn tolerated(play: &Play, of: u64) -> u64 {
    (of / 20).max(one_more_each(play))
}

fn plays(count: u64) -> impl Iterator<Item = u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let one: Option<u64> = number("WEIR_SEED");
    let all = 0..number("WEIR_CLUSTERS").unwrap_or(count);
    one.map_or(all, |seed| seed..seed + 1)
}

/// Two to five gateways, with a limit of any size and requests for a part of it or a multiple, which
/// one of them gets, or some, or all by turns.
fn any_play(seed: u64, load: std::ops::Range<f64>) -> Play {
    let mut random = SmallRng::seed_from_u64(seed ^ 0x5eed);
    let gateways = random.random_range(2..=5);
    let per_minute = [6_u32, 30, 120, 600, 3_000][random.random_range(0..5)];
    let per_s = f64::from(per_minute) / 60.0 * random.random_range(load);
    let phases = random.random_range(1..=3);
    let arrivals = (0..phases).map(|_| {
        let weights: Vec<f64> = (0..gateways)
            .map(|_| f64::from(random.random_range(0..4_u32)) + 0.01)
            .collect();
        let all: f64 = weights.iter().sum();
        weights.iter().map(|weight| per_s * weight / all).collect()
    });
    Play::new(seed, u64::from(per_minute), arrivals.collect())
}

#[test]
fn gateways_that_share_a_rate_let_through_what_one_would() {
    for seed in plays(8) {
        let mut play = any_play(seed, 3.0..6.0);
        play.budget = play.per_minute * 3 / 2;
        let outcome = World::new(play.clone()).run();
        let off = outcome.passed.abs_diff(outcome.one_would);
        let shown = format!("{outcome:?} of {play:?}");
        assert!(outcome.refused > 0, "{shown}");
        assert!(off <= tolerated(&play, outcome.one_would), "{shown}");
        assert!(
            outcome.rate_over <= tolerated(&play, play.per_minute),
            "{shown}"
        );
        // All of a budget can be used, and hardly more.
        assert!(outcome.budget_over <= one_more_each(&play), "{shown}");
        assert!(
            outcome.paid + 1 >= play.budget.min(outcome.passed),
            "{shown}"
        );
    }
}

#[test]
fn gateways_that_share_a_rate_refuse_nobody_below_it() {
    for seed in plays(10) {
        let play = any_play(seed, 0.1..0.6);
        let outcome = World::new(play.clone()).run();
        let shown = format!("{outcome:?} of {play:?}");
        // Where shares are smaller than a request, the second one within an exchange may have to wait.
        let waits = if play.per_minute < 60 {
            1 + outcome.one_would / 50
        } else {
            0
        };
        assert!(outcome.refused_with_room <= waits, "{shown}");
        assert_eq!(outcome.paid, outcome.passed, "{shown}");
    }
}

/// Slow and lossy, and one is cut off for two seconds: the bounds hold all the same.
#[test]
fn a_log_that_is_late_and_loses_things_costs_little() {
    for seed in plays(5) {
        let mut play = any_play(seed, 1.5..4.0);
        play.budget = play.per_minute * 3 / 2;
        play.delay_us_max = 400_000;
        play.loss = 0.2;
        play.cuts = vec![(0, 20 * SECOND, 22 * SECOND)];
        let outcome = World::new(play.clone()).run();
        let shown = format!("{outcome:?} of {play:?}");
        let off = outcome.passed.abs_diff(outcome.one_would);
        assert!(off <= 2 * tolerated(&play, outcome.one_would), "{shown}");
        assert!(outcome.budget_over <= 2 * one_more_each(&play), "{shown}");
    }
}

/// Whoever is cut off for longer than it takes to be taken for dead has its share beside what the
/// others then divide among them: that much, and no more, is let through on top.
#[test]
fn a_gateway_that_is_cut_off_keeps_to_its_share() {
    for seed in plays(4) {
        let mut play = any_play(seed, 2.0..3.0);
        play.arrivals = vec![vec![play.arrivals[0].iter().sum::<f64>() / 2.0; 2]];
        play.cuts = vec![(0, 13 * SECOND, 43 * SECOND)];
        play.budget = play.per_minute * 3 / 2;
        let outcome = World::new(play.clone()).run();
        let shown = format!("{outcome:?} of {play:?}");
        // What it held when it was cut off, and half the rate for the twenty seconds in which the other
        // takes it for dead.
        let its_share = play.per_minute / 2 + play.per_minute / 6;
        let most = outcome.one_would + its_share + tolerated(&play, outcome.one_would);
        assert!(outcome.passed <= most, "{shown}");
        let budget_share = play.budget / 2 + one_more_each(&play);
        assert!(outcome.budget_over <= budget_share, "{shown}");
    }
}

/// What a gateway had begun when it died is free again for the others, and what it was charged is not.
#[test]
fn a_gateway_that_dies_leaves_the_rest_to_the_others() {
    for seed in plays(4) {
        let mut play = any_play(seed, 1.5..3.0);
        play.budget = play.per_minute * 2;
        play.length_us = 120 * SECOND;
        play.deaths = vec![(0, 23 * SECOND)];
        for arrivals in &mut play.arrivals {
            // The others have work for all of it.
            let all = arrivals.iter().sum::<f64>();
            arrivals[1] += all;
        }
        let outcome = World::new(play.clone()).run();
        let shown = format!("{outcome:?} of {play:?}");
        let off = outcome.passed.abs_diff(outcome.one_would);
        assert!(off <= 2 * tolerated(&play, outcome.one_would), "{shown}");
        assert!(outcome.budget_over <= one_more_each(&play), "{shown}");
        assert!(
            outcome.paid + 1 >= play.budget.min(outcome.passed),
            "{shown}"
        );
    }
}
