//! Properties that hold after any sequence of events.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use weir_limits::{
    Actual, Bucket, BudgetCounter, BudgetSpec, BudgetUnit, Class, LimitCounter, PeerBudgetUsage,
    Permit, RateSpec, SYNC_INTERVAL_US, Share, Spent, Window, WindowKind, share,
};

#[derive(Clone, Debug)]
struct Named(Arc<BudgetSpec>);

impl AsRef<BudgetSpec> for Named {
    fn as_ref(&self) -> &BudgetSpec {
        &self.0
    }
}

fn budget(limit: u128, kind: WindowKind) -> Named {
    Named(Arc::new(BudgetSpec {
        unit: BudgetUnit::Tokens,
        limit,
        hard: true,
        window: Window::utc(kind),
        thresholds_percent: vec![50, 80, 100],
    }))
}

#[derive(Clone, Debug)]
enum Step {
    Reserve(u64),
    Settle(usize, u64),
    Extend(usize, u64),
    Shrink(usize, u64),
    Release(usize),
    Forget(usize),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..200_u64).prop_map(Step::Reserve),
        3 => (any::<usize>(), 0..300_u64).prop_map(|(which, used)| Step::Settle(which, used)),
        2 => (any::<usize>(), 0..200_u64).prop_map(|(which, more)| Step::Extend(which, more)),
        1 => (any::<usize>(), 0..200_u64).prop_map(|(which, less)| Step::Shrink(which, less)),
        1 => any::<usize>().prop_map(Step::Release),
        1 => any::<usize>().prop_map(Step::Forget),
        1 => (0..7_200_000_000_u64).prop_map(Step::Wait),
    ]
}

proptest! {
    #[test]
    fn reserved_is_settled_and_released_and_outstanding(steps in prop::collection::vec(step(), 1..200)) {
        let (purse, spec) = (BudgetCounter::default(), budget(1000, WindowKind::Hour));
        let spec = spec.as_ref();
        let (mut held, mut now_us) = (Vec::new(), 0);
        for step in steps {
            match step {
                Step::Reserve(amount) => {
                    let before = purse.read(spec, now_us).committed;
                    match purse.reserve(spec, u128::from(amount), None, now_us) {
                        Ok((reserved, standing)) => {
                            prop_assert!(before + u128::from(amount) <= 1000);
                            prop_assert_eq!(standing.committed(), before + u128::from(amount));
                            held.push(reserved);
                        }
                        Err(refused) => {
                            prop_assert!(before >= 1000 || before + u128::from(amount) > 1000);
                            prop_assert_eq!(refused.remaining, 1000_u128.saturating_sub(before));
                        }
                    }
                }
                Step::Settle(which, used) if !held.is_empty() => {
                    let reserved = held.swap_remove(which % held.len());
                    purse.settle(spec, reserved, u128::from(used), now_us / 1000, now_us);
                }
                Step::Extend(which, more) if !held.is_empty() => {
                    let at = which % held.len();
                    let before = purse.read(spec, now_us).committed;
                    let fits = before < 1000 && before + u128::from(more) <= 1000;
                    let extended = purse.extend(spec, &mut held[at], u128::from(more), now_us);
                    prop_assert_eq!(extended.is_ok(), fits);
                }
                Step::Shrink(which, less) if !held.is_empty() => {
                    let at = which % held.len();
                    purse.shrink(&mut held[at], u128::from(less));
                }
                Step::Release(which) if !held.is_empty() => {
                    purse.release(held.swap_remove(which % held.len()));
                }
                // Its holder died: it expires.
                Step::Forget(which) if !held.is_empty() => drop(held.swap_remove(which % held.len())),
                Step::Wait(us) => {
                    now_us += us;
                    purse.expire(now_us);
                }
                _ => {}
            }
            let flow = purse.flow();
            prop_assert_eq!(flow.reserved, flow.settled + flow.released + flow.outstanding);
        }
        purse.expire(u64::MAX);
        held.into_iter().for_each(|reserved| purse.release(reserved));
        prop_assert_eq!(purse.flow().outstanding, 0);
    }

    /// Requests of any size that come, wait, are called, leave and end in any order: nobody is let in
    /// before one who waits already, who can be let in is never left waiting, and the limit holds.
    #[test]
    fn who_waits_for_a_budget_is_served_in_order_and_never_forgotten(
        steps in prop::collection::vec((0..4_u8, any::<usize>(), 1..60_u128), 1..300),
    ) {
        let (purse, spec) = (Arc::new(BudgetCounter::default()), budget(100, WindowKind::Total));
        let spec = spec.as_ref();
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let (mut held, mut line) = (Vec::new(), VecDeque::new());
        for (step, which, amount) in steps {
            match step {
                0 | 1 => match purse.reserve(spec, amount, None, 0) {
                    Ok((reserved, _)) => {
                        prop_assert!(line.is_empty(), "it overtook");
                        held.push(reserved);
                    }
                    Err(_) => line.push_back((purse.wait().unwrap(), amount)),
                },
                2 if !held.is_empty() => purse.release(held.swap_remove(which % held.len())),
                3 if !line.is_empty() => drop(line.remove(which % line.len())),
                _ => {}
            }
            // As an executor does: who is called tries again.
            let mut at = 0;
            while let Some((turn, amount)) = line.get_mut(at) {
                if std::pin::Pin::new(&mut *turn).poll(&mut context).is_pending() {
                    break;
                }
                prop_assert_eq!(at, 0, "only the first is called");
                match purse.reserve(spec, *amount, Some(&*turn), 0) {
                    Ok((reserved, _)) => {
                        held.push(reserved);
                        line.pop_front();
                    }
                    Err(_) => at += 1,
                }
            }
            let committed = purse.read(spec, 0).committed;
            prop_assert!(committed <= 100);
            if let Some((_, amount)) = line.front() {
                prop_assert!(committed + amount > 100 || committed >= 100, "it waits for nothing");
            }
        }
    }

    /// A reference that keeps every arrival: what was let through in exact fractions of a minute.
    #[test]
    fn the_bucket_agrees_with_a_reference_on_any_arrivals(
        per_minute in 1..5000_u64,
        burst in prop::option::of(1..500_u64),
        gaps in prop::collection::vec((0..2_000_000_u64, 1..4_u64), 1..400),
    ) {
        let spec = RateSpec { per_minute, burst };
        let bucket = Bucket::default();
        let capacity = u128::from(spec.burst()) * 60_000_000;
        let (mut now_us, mut level) = (0_u64, 0_u128);
        for (gap, units) in gaps {
            now_us += gap;
            level = level.saturating_sub(u128::from(gap) * u128::from(per_minute));
            let cost = u128::from(units) * 60_000_000;
            let fits = level + cost.min(capacity) <= capacity;
            let taken = bucket.take(&spec, Class::Interactive, units, now_us);
            prop_assert_eq!(taken.is_ok(), fits);
            if fits {
                level += cost;
            } else if let Err(refused) = taken {
                // What it says is when it is let through, and not before.
                let over = level + cost.min(capacity) - capacity;
                prop_assert_eq!(u128::from(refused.wait_us), over.div_ceil(u128::from(per_minute)));
            }
        }
    }

    #[test]
    fn a_request_that_one_counter_refuses_leaves_no_trace_at_the_others(tokens in 1..100_u64) {
        let (counter, purse) = (Arc::new(LimitCounter::default()), Arc::new(BudgetCounter::default()));
        let spec = RateSpec::per_minute(100);
        let mut permit = Permit::new(1, 1);
        let held = permit.under(counter.clone());
        held.take_request(&spec, Class::Interactive, 0).unwrap();
        held.take_tokens(&spec, Class::Interactive, tokens, 0).unwrap();
        held.take_slot(1, Class::Interactive).unwrap();
        prop_assert!(permit.reserve(purse.clone(), budget(u128::from(tokens) - 1, WindowKind::Day), u128::from(tokens), None, 0).is_err());
        drop(permit);
        prop_assert_eq!(counter.requests.read(&spec, 0).remaining, 100);
        prop_assert_eq!(counter.tokens.read(&spec, 0).remaining, 100);
        prop_assert_eq!(counter.slots.read().0, 0);
        prop_assert_eq!(purse.flow().outstanding, 0);
    }
}

/// What outlives a process: what was charged in each window, as the log has it.
#[derive(Default)]
struct Log(BTreeMap<u64, u128>);

/// A gateway process: it holds its counters in memory, and begins with what the log says.
struct Process {
    counter: Arc<LimitCounter>,
    purse: Arc<BudgetCounter>,
    in_flight: VecDeque<(Permit<Named>, u64)>,
}

impl Process {
    fn begin(log: &Log, budget: &Named, now_us: u64) -> Self {
        let purse = Arc::new(BudgetCounter::default());
        for (at_ms, amount) in &log.0 {
            purse.restore(budget.as_ref(), *at_ms, *amount, now_us);
        }
        Self {
            counter: Arc::default(),
            purse,
            in_flight: VecDeque::new(),
        }
    }
}

/// Everything that ever went through the purses of processes that are gone. What they had outstanding
/// when they died was released by that.
#[derive(Default)]
struct Gone {
    reserved: u128,
    settled: u128,
    released: u128,
}

impl Gone {
    fn add(&mut self, process: &Process) {
        let flow = process.purse.flow();
        self.reserved += flow.reserved;
        self.settled += flow.settled;
        self.released += flow.released + flow.outstanding;
    }
}

/// A million requests, of which one in twenty dies with its process. At every step all that was ever
/// reserved is what was settled, released and is outstanding, over all processes; the budget is what
/// the log says, is never exceeded, and nothing stays reserved.
#[test]
fn a_million_requests_with_killed_processes_leave_no_reservation() {
    const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
    const LIMIT: u128 = 30_000_000;
    let mut random = SmallRng::seed_from_u64(5);
    let (rate, spec) = (
        RateSpec::per_minute(600_000),
        budget(LIMIT, WindowKind::Day),
    );
    let (mut log, mut gone, mut now_us) = (Log::default(), Gone::default(), 0);
    let mut process = Process::begin(&log, &spec, now_us);
    let (mut admitted, mut kills, mut refused) = (0_u64, 0_u64, 0_u64);
    for _ in 0..1_000_000_u64 {
        now_us += random.random_range(0..200_000);
        let mut permit = Permit::new(1, 1);
        let estimate = random.random_range(1..1000);
        let held = permit.under(process.counter.clone());
        let taken = held.take_request(&rate, Class::Interactive, now_us).is_ok()
            && held.take_slot(100, Class::Interactive).is_ok()
            && permit
                .reserve(
                    process.purse.clone(),
                    spec.clone(),
                    u128::from(estimate),
                    None,
                    now_us,
                )
                .is_ok();
        if taken {
            permit.admit();
            admitted += 1;
            process.in_flight.push_back((permit, estimate));
        } else {
            refused += 1;
        }
        if random.random_ratio(1, 20) {
            kills += 1;
            gone.add(&process);
            process = Process::begin(&log, &spec, now_us);
        } else if process.in_flight.len() > random.random_range(0..90)
            && let Some((permit, estimate)) = process.in_flight.pop_front()
        {
            if random.random_ratio(1, 20) {
                drop(permit);
            } else {
                let actual = Actual {
                    billed_tokens: random.random_range(0..=estimate),
                    at_ms: now_us / 1000,
                    ..Actual::default()
                };
                let day_ms = actual.at_ms / DAY_MS * DAY_MS;
                *log.0.entry(day_ms).or_default() += u128::from(actual.billed_tokens);
                permit.settle(&actual, now_us, |_, _| {});
            }
        }
        let flow = process.purse.flow();
        assert_eq!(
            gone.reserved + flow.reserved,
            gone.settled + gone.released + flow.settled + flow.released + flow.outstanding
        );
        let committed = process.purse.read(spec.as_ref(), now_us).committed;
        let day_ms = now_us / 1000 / DAY_MS * DAY_MS;
        let spent = log.0.get(&day_ms).copied().unwrap_or(0);
        assert!(committed <= LIMIT, "{committed}");
        assert_eq!(committed, spent + flow.outstanding);
    }
    process.in_flight.clear();
    let flow = process.purse.flow();
    assert_eq!(flow.outstanding, 0);
    assert_eq!(
        gone.reserved + flow.reserved,
        gone.settled + gone.released + flow.settled + flow.released
    );
    assert_eq!(process.counter.slots.read().0, 0);
    assert!(
        kills > 40_000 && admitted > 500_000 && refused > 0,
        "{kills} {admitted} {refused}"
    );
}

/// One of several gateways in simulated time, and what it last told the others.
#[derive(Default)]
struct Gateway {
    bucket: Bucket,
    purse: BudgetCounter,
    told: (u64, u64),
    claimed: u64,
    heard: Vec<u64>,
}

/// Each gateway hears the others, one hearing late, as over a log.
fn exchange(
    gateways: &mut [Gateway],
    rate: &RateSpec,
    now_us: u64,
    asked_before: &mut Vec<Vec<u64>>,
) {
    let told: Vec<(u64, u64)> = gateways.iter().map(|gateway| gateway.told).collect();
    let claims: Vec<u64> = gateways.iter().map(|gateway| gateway.claimed).collect();
    let claimed: u64 = claims.iter().sum();
    let asked: Vec<u64> = told.iter().map(|told| told.1).collect();
    asked_before.push(asked.clone());
    let before = asked_before[asked_before.len().saturating_sub(20)].clone();
    let lately: Vec<u64> = asked
        .iter()
        .zip(&before)
        .map(|(now, then)| now - then)
        .collect();
    let all: u64 = lately.iter().sum();
    let count = u32::try_from(gateways.len()).unwrap();
    for (number, gateway) in gateways.iter_mut().enumerate() {
        let others: u64 = told
            .iter()
            .enumerate()
            .filter(|(at, _)| *at != number)
            .map(|(_, told)| told.0)
            .sum();
        let heard = gateway.heard.last().copied().unwrap_or(0);
        gateway.heard.push(others);
        let share = Share {
            ppm: share::ppm(lately[number], all, count),
            is_new: true,
        };
        gateway.bucket.merge_peers(
            rate,
            i64::try_from(others - heard).unwrap(),
            claimed - claims[number],
            share,
            now_us,
        );
        let reading = gateway.bucket.state(rate, now_us);
        gateway.told = (reading.taken, reading.asked);
        gateway.claimed = reading.claimed;
    }
}

/// Requests let through by `count` gateways in two minutes, at arrivals per second each.
fn let_through(arrivals_per_s: &[f64], rate: &RateSpec, seed: u64) -> (u64, u64) {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut gateways: Vec<Gateway> = arrivals_per_s.iter().map(|_| Gateway::default()).collect();
    let (mut asked_before, mut passed, mut refused) = (Vec::new(), 0, 0);
    exchange(&mut gateways, rate, 0, &mut asked_before);
    for now_us in (0..120_000_000).step_by(1000) {
        if now_us % SYNC_INTERVAL_US == 0 {
            exchange(&mut gateways, rate, now_us, &mut asked_before);
        }
        for (gateway, per_s) in gateways.iter().zip(arrivals_per_s) {
            if random.random_bool(per_s / 1000.0) {
                match gateway.bucket.take(rate, Class::Interactive, 1, now_us) {
                    Ok(_) => passed += 1,
                    Err(_) => refused += 1,
                }
            }
        }
    }
    (passed, refused)
}

#[test]
fn gateways_that_share_a_rate_let_through_what_one_would_within_5_percent() {
    let rate = RateSpec::per_minute(600);
    // One bucket: a burst of a minute's worth, then two minutes' worth.
    let one = 600 + 2 * 600;
    for (seed, arrivals) in [[50.0, 50.0, 50.0], [100.0, 0.5, 5.0], [15.0, 15.0, 300.0]]
        .iter()
        .enumerate()
    {
        let (passed, refused) = let_through(arrivals, &rate, seed as u64);
        assert!(refused > 0);
        let error = (f64::from(u32::try_from(passed).unwrap()) / f64::from(one) - 1.0).abs();
        assert!(error <= 0.05, "{arrivals:?}: {passed} of {one}");
    }
}

#[test]
fn gateways_that_share_a_rate_refuse_nobody_below_it() {
    let rate = RateSpec::per_minute(600);
    for (seed, arrivals) in [[3.0, 3.0, 3.0], [9.0, 0.0, 0.0], [0.1, 0.1, 8.8]]
        .iter()
        .enumerate()
    {
        let (passed, refused) = let_through(arrivals, &rate, seed as u64);
        assert!(passed > 900);
        assert_eq!(refused, 0, "{arrivals:?}");
    }
}

/// Gateways that hear each other late use all of a shared budget, and at most one request more for
/// each further one.
#[test]
fn gateways_that_share_a_budget_overshoot_by_less_than_the_bound() {
    const LIMIT: u128 = 1000;
    let spec = budget(LIMIT, WindowKind::Day);
    let spec = spec.as_ref();
    for count in [2_u32, 3, 8] {
        let gateways: Vec<Gateway> = (0..count).map(|_| Gateway::default()).collect();
        let mut told = vec![0_u128; gateways.len()];
        let new = Share {
            ppm: share::ppm(1, u64::from(count), count),
            is_new: true,
        };
        let mut rounds = 0;
        loop {
            let heard = told.clone();
            let mut taken = 0;
            for (number, gateway) in gateways.iter().enumerate() {
                let others = heard.iter().enumerate().filter(|(at, _)| *at != number);
                let amount = others.map(|(_, amount)| amount).sum();
                let spent = vec![Spent {
                    start_ms: 0,
                    amount,
                }];
                let others = PeerBudgetUsage {
                    spent,
                    ..PeerBudgetUsage::default()
                };
                gateway.purse.merge_peers(spec, others, new, 0);
                while let Ok((reserved, _)) = gateway.purse.reserve(spec, 1, None, 0) {
                    gateway.purse.settle(spec, reserved, 1, 0, 0);
                    told[number] += 1;
                    taken += 1;
                }
            }
            rounds += 1;
            if taken == 0 || rounds > 100 {
                break;
            }
        }
        let spent: u128 = told.iter().sum();
        let most = LIMIT + u128::from(count) - 1;
        assert!(
            (LIMIT..=most).contains(&spent),
            "{count} gateways spent {spent} of {LIMIT}"
        );
    }
}
