//! Several gateways that share a limit and a budget, in simulated time: the very code that runs over
//! Kafka, over a log that is late, loses what was sent, and is cut off from some of them.
//!
//! What all of them let through is compared with one bucket and one purse that see every request. Requests
//! ask a budget for one token each, or, as those under a hard budget do, for the most that they can be
//! billed: they are billed less, let their answers be limited, and wait for others to settle.
//! A failure prints its seed; `WEIR_SEED=n` plays that one alone, `WEIR_CLUSTERS=n` plays more.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use weir_limits::{BudgetCounter, BudgetExhausted, BudgetSpec, BudgetTurn, Class, Reserved};
use weir_schemas::event::{Caller, Tags};

use super::*;
use crate::control::policy::Subject;
use crate::control::record::{Kind, Record};

const START_US: u64 = 1_780_000_000_000_000;
const STEP_US: u64 = 1_000;
const SECOND: u64 = 1_000_000;
const WARM_US: u64 = 3 * SECOND;
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
    /// The most that any request can be billed.
    bound_max: u64,
    /// How long a request waits for the budget.
    patience_us: u64,
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
            bound_max: 1,
            patience_us: 0,
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
    /// What was left of the budget when a gateway was cut off, and when one died with what it had in
    /// flight: the sums of those.
    left_at_cuts: u64,
    in_flight_at_deaths: u64,
    waited: u64,
    clamped: u64,
}

/// What a request asks of the budget.
#[derive(Clone, Copy, Debug)]
struct Ask {
    /// The most that it can be billed, and with the shortest answer.
    most: u64,
    least: u64,
    /// The part of its bound that it is billed, in percent.
    billed_percent: u64,
}

impl Ask {
    /// As the admission of a request does it: the whole bound, or the longest answer that there is room
    /// for.
    fn reserve(
        self,
        purse: &BudgetCounter,
        spec: &BudgetSpec,
        turn: Option<&BudgetTurn>,
        now_us: u64,
    ) -> Result<Reserved, BudgetExhausted> {
        let reserve = |amount: u64| purse.reserve(spec, u128::from(amount), turn, now_us);
        let reserved = reserve(self.most).or_else(|full| {
            let room = u64::try_from(full.available).unwrap_or(u64::MAX);
            if room < self.least {
                return Err(full);
            }
            reserve(room.min(self.most))
        });
        reserved.map(|(reserved, _)| reserved)
    }

    /// Whether there would be room if nothing were reserved.
    fn may_wait(self, full: BudgetExhausted) -> bool {
        u128::from(self.least) <= full.unspent
            && (full.remaining < full.unspent || full.available < full.remaining)
    }
}

struct InFlight {
    until_us: u64,
    purse: Arc<BudgetCounter>,
    reserved: Reserved,
    billed: u64,
}

struct WaitingAsk {
    until_us: u64,
    ask: Ask,
    purse: Arc<BudgetCounter>,
    turn: BudgetTurn,
}

struct Node {
    rules: Rules,
    state: PeerState,
    read_to: usize,
    exchange_us: u64,
    /// Told while it was cut off.
    outbox: Vec<String>,
    in_flight: Vec<InFlight>,
    waiting: Vec<WaitingAsk>,
    is_dead: bool,
}

impl Node {
    fn spec(&self) -> BudgetSpec {
        self.rules.budgets.get("b").unwrap().terms.spec.clone()
    }
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
    played_us: u64,
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
            waiting: Vec::new(),
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
            played_us: 0,
            outcome: Outcome::default(),
            play,
        }
    }

    fn run(mut self) -> Outcome {
        self.play_until(WARM_US + self.play.length_us);
        self.outcome
    }

    /// They know each other before the first request comes, and agree after the last.
    fn play_until(&mut self, end_us: u64) {
        for at_us in (self.played_us..end_us).step_by(usize::try_from(STEP_US).unwrap()) {
            self.note_cuts(at_us);
            for number in 0..self.nodes.len() {
                if self.nodes[number].exchange_us <= at_us {
                    self.nodes[number].exchange_us +=
                        SYNC_INTERVAL_US + self.random.random_range(0..20_000);
                    self.merge(number, at_us);
                }
                if at_us >= WARM_US {
                    self.finish(number, at_us);
                    self.call_waiting(number, at_us);
                }
                if (WARM_US..WARM_US + self.play.length_us).contains(&at_us) {
                    self.arrive(number, at_us, at_us - WARM_US);
                }
            }
        }
        self.played_us = end_us;
    }

    fn note_cuts(&mut self, at_us: u64) {
        let begins = |(_, from, _): &&(usize, u64, u64)| (*from..from + STEP_US).contains(&at_us);
        let begun = self.play.cuts.iter().filter(begins).count() as u64;
        let left = self.play.budget.saturating_sub(self.charged);
        self.outcome.left_at_cuts = self.outcome.left_at_cuts.saturating_add(begun * left);
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
        if dies && !node.is_dead {
            node.is_dead = true;
            node.waiting.clear();
            let lost = node.in_flight.iter().map(|call| call.billed);
            self.outcome.in_flight_at_deaths += lost.sum::<u64>();
        }
        let (spec, now_us) = (node.spec(), START_US + at_us);
        let mut at = 0;
        while at < node.in_flight.len() {
            if node.in_flight[at].until_us > at_us && !node.is_dead {
                at += 1;
                continue;
            }
            let call = node.in_flight.swap_remove(at);
            // What a dead gateway had begun was answered, perhaps, and is not charged.
            if !node.is_dead {
                let billed = u128::from(call.billed);
                call.purse
                    .settle(&spec, call.reserved, billed, now_us / 1000, now_us);
                self.charged += call.billed;
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

        let purse = node.rules.budgets.get("b").unwrap().counter(&SUBJECT);
        let ask = self.draw();
        if let Err(full) = self.try_ask(number, ask, &purse, None, at_us)
            && self.play.patience_us > 0
            && ask.may_wait(full)
            && let Some(turn) = purse.wait()
        {
            self.outcome.waited += 1;
            self.nodes[number].waiting.push(WaitingAsk {
                until_us: at_us + self.play.patience_us,
                ask,
                purse,
                turn,
            });
        }
    }

    fn draw(&mut self) -> Ask {
        if self.play.bound_max == 1 {
            return Ask {
                most: 1,
                least: 1,
                billed_percent: 100,
            };
        }
        let most = self.random.random_range(1..=self.play.bound_max);
        let can_be_limited = self.random.random_bool(0.3);
        Ask {
            most,
            least: if can_be_limited {
                most.div_ceil(10)
            } else {
                most
            },
            billed_percent: self.random.random_range(0..=100),
        }
    }

    fn try_ask(
        &mut self,
        number: usize,
        ask: Ask,
        purse: &Arc<BudgetCounter>,
        turn: Option<&BudgetTurn>,
        at_us: u64,
    ) -> Result<(), BudgetExhausted> {
        let node = &mut self.nodes[number];
        let reserved = ask.reserve(purse, &node.spec(), turn, START_US + at_us)?;
        let amount = u64::try_from(reserved.amount).unwrap();
        self.outcome.paid += 1;
        self.outcome.clamped += u64::from(amount < ask.most);
        let service_us = self.random.random_range(0..=self.play.service_us_max);
        node.in_flight.push(InFlight {
            until_us: at_us + service_us,
            purse: purse.clone(),
            billed: (amount * ask.billed_percent).div_ceil(100),
            reserved,
        });
        Ok(())
    }

    /// Lets those try again whose turn it is, or who will not wait any longer.
    fn call_waiting(&mut self, number: usize, at_us: u64) {
        let mut context = Context::from_waker(Waker::noop());
        for mut waiting in std::mem::take(&mut self.nodes[number].waiting) {
            let is_last = waiting.until_us <= at_us;
            let is_called = Pin::new(&mut waiting.turn).poll(&mut context).is_ready();
            let WaitingAsk {
                ask, turn, purse, ..
            } = &waiting;
            let goes = is_last || is_called;
            let is_in = goes && self.try_ask(number, *ask, purse, Some(turn), at_us).is_ok();
            if !is_in && !is_last {
                self.nodes[number].waiting.push(waiting);
            }
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

/// Any of these at once: a late and lossy log, gateways that are cut off for a moment or for long, one that
/// dies; requests whose bounds differ, that are billed any part of them, let their answers be limited, and
/// wait.
fn any_hard_play(seed: u64) -> Play {
    let mut random = SmallRng::seed_from_u64(seed ^ 0xb0d6e7);
    let mut play = any_play(seed, 0.2..0.8);
    let gateways = play.arrivals[0].len();
    play.length_us = 40 * SECOND;
    play.delay_us_max = [5_000, 50_000, 400_000][random.random_range(0..3)];
    play.loss = [0.0, 0.1, 0.3][random.random_range(0..3)];
    play.service_us_max = [50_000, 500_000, 3_000_000][random.random_range(0..3)];
    play.bound_max = [10, 1_000, 1_000_000][random.random_range(0..3)];
    play.patience_us = [0, 300_000, 2_000_000][random.random_range(0..3)];
    // Used up before it is over, if all calls were half of the largest.
    play.budget = play.per_minute * play.bound_max / [100, 30, 10][random.random_range(0..3)];
    play.budget = play.budget.max(2 * play.bound_max);
    if random.random_bool(0.5) {
        let from = random.random_range(WARM_US..20 * SECOND);
        let length = [SECOND, 5 * SECOND, 20 * SECOND][random.random_range(0..3)];
        let who = random.random_range(0..gateways);
        play.cuts = vec![(who, from / STEP_US * STEP_US, from + length)];
    }
    if random.random_bool(0.3) {
        let who = random.random_range(0..gateways);
        play.deaths = vec![(who, random.random_range(4..20) * SECOND)];
    }
    play
}

/// What is said of a cluster: it overspends a hard budget by two of the largest reservations for each
/// further gateway, by what was left where one was cut off, and by what one had in flight that died. At
/// rest nothing is reserved, and all know what was spent.
#[test]
fn gateways_overspend_a_hard_budget_by_no_more_than_is_said() {
    let (mut waited, mut clamped, mut used_up) = (0, 0, 0);
    for seed in plays(20) {
        let play = any_hard_play(seed);
        let mut world = World::new(play.clone());
        world.play_until(WARM_US + play.length_us + 10 * SECOND);
        let outcome = world.outcome;
        let shown = format!("{outcome:?} of {play:?}");
        let of_requests = one_more_each(&play) * play.bound_max;
        let most = of_requests + outcome.left_at_cuts + outcome.in_flight_at_deaths;
        assert!(outcome.budget_over <= most, "{shown}");
        waited += outcome.waited;
        clamped += outcome.clamped;
        used_up += u64::from(world.charged + play.bound_max > play.budget);
        let is_whole = play.deaths.is_empty();
        for node in world.nodes.iter().filter(|node| !node.is_dead) {
            assert!(
                node.waiting.is_empty() && node.in_flight.is_empty(),
                "{shown}"
            );
            let purse = node.rules.budgets.get("b").unwrap().counter(&SUBJECT);
            let balance = purse.standing(&node.spec(), START_US + world.played_us);
            assert_eq!(balance.reserved, 0, "{shown}");
            assert!(
                !is_whole || balance.spent == u128::from(world.charged),
                "{shown}"
            );
        }
    }
    assert!(
        waited > 0 && clamped > 0 && used_up > 0,
        "{waited} {clamped} {used_up}"
    );
}
