//! Properties that hold after any sequence of events.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::VecDeque;
use std::sync::Arc;

use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use weir_limits::{
    Actual, Bucket, BudgetSpec, Class, HEARING_US, Others, Permit, Purse, RateSpec, Share, Slots,
    Spent, Unit, Window, WindowKind, share,
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
        unit: Unit::Tokens,
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
    Release(usize),
    Forget(usize),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..200_u64).prop_map(Step::Reserve),
        3 => (any::<usize>(), 0..300_u64).prop_map(|(which, used)| Step::Settle(which, used)),
        1 => any::<usize>().prop_map(Step::Release),
        1 => any::<usize>().prop_map(Step::Forget),
        1 => (0..7_200_000_000_u64).prop_map(Step::Wait),
    ]
}

proptest! {
    #[test]
    fn reserved_is_settled_and_released_and_outstanding(steps in prop::collection::vec(step(), 1..200)) {
        let (purse, spec) = (Purse::default(), budget(1000, WindowKind::Hour));
        let spec = spec.as_ref();
        let (mut held, mut now_us) = (Vec::new(), 0);
        for step in steps {
            match step {
                Step::Reserve(amount) => {
                    let before = purse.read(spec, now_us).committed;
                    match purse.reserve(spec, u128::from(amount), now_us) {
                        Ok(reserved) => {
                            prop_assert!(before + u128::from(amount) <= 1000);
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
                    purse.settle(spec, &reserved, u128::from(used), now_us / 1000, now_us);
                }
                Step::Release(which) if !held.is_empty() => {
                    purse.release(&held.swap_remove(which % held.len()));
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
        held.iter().for_each(|reserved| purse.release(reserved));
        prop_assert_eq!(purse.flow().outstanding, 0);
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
        let (bucket, slots, purse) = (Arc::new(Bucket::default()), Arc::new(Slots::default()), Arc::new(Purse::default()));
        let spec = RateSpec::per_minute(100);
        let mut permit = Permit::new();
        permit.take_request(&bucket, &spec, Class::Interactive, 0).unwrap();
        permit.take_slot(&slots, 1, Class::Interactive).unwrap();
        prop_assert!(permit.reserve(&purse, budget(u128::from(tokens) - 1, WindowKind::Day), u128::from(tokens), 0).is_err());
        drop(permit);
        prop_assert_eq!(bucket.read(&spec, 0).remaining, 100);
        prop_assert_eq!(slots.read().0, 0);
        prop_assert_eq!(purse.flow().outstanding, 0);
    }
}

/// A million requests, of which one in twenty dies with its process, leave nothing behind.
#[test]
fn a_million_requests_with_kills_leave_no_reservation() {
    let mut random = SmallRng::seed_from_u64(5);
    let (bucket, slots) = (Arc::new(Bucket::default()), Arc::new(Slots::default()));
    let purse = Arc::new(Purse::default());
    let (rate, spec) = (
        RateSpec::per_minute(60_000),
        budget(u128::MAX, WindowKind::Day),
    );
    let mut in_flight = VecDeque::new();
    let (mut now_us, mut spent) = (0, 0_u128);
    for _ in 0..1_000_000_u64 {
        now_us += random.random_range(0..2000);
        let mut permit = Permit::new();
        let estimate = random.random_range(1..1000);
        let taken = permit
            .take_request(&bucket, &rate, Class::Interactive, now_us)
            .is_ok()
            && permit.take_slot(&slots, 100, Class::Interactive).is_ok()
            && permit
                .reserve(&purse, spec.clone(), u128::from(estimate), now_us)
                .is_ok();
        if taken {
            permit.admit();
            in_flight.push_back((permit, estimate));
        }
        if in_flight.len() > random.random_range(0..90)
            && let Some((permit, estimate)) = in_flight.pop_front()
        {
            if random.random_ratio(1, 20) {
                drop(permit);
            } else {
                let actual = Actual {
                    tokens: random.random_range(0..=estimate),
                    pico_usd: None,
                    at_ms: 1,
                };
                spent += u128::from(actual.tokens);
                permit.settle(&actual, 1000, |_, _| {});
            }
        }
        let flow = purse.flow();
        assert_eq!(
            flow.reserved,
            flow.settled + flow.released + flow.outstanding
        );
    }
    in_flight.clear();
    let flow = purse.flow();
    assert_eq!(flow.outstanding, 0);
    assert_eq!(flow.reserved, flow.settled + flow.released);
    assert_eq!(slots.read().0, 0);
    assert!(spent > 0 && purse.read(spec.as_ref(), 1000).committed == spent);
}

/// One of several gateways in simulated time, and what it last told the others.
#[derive(Default)]
struct Gateway {
    bucket: Bucket,
    purse: Purse,
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
        gateway.bucket.hear(
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
        if now_us % HEARING_US == 0 {
            exchange(&mut gateways, rate, now_us, &mut asked_before);
        }
        for (gateway, per_s) in gateways.iter().zip(arrivals_per_s) {
            if random.random_bool(per_s / 1000.0) {
                match gateway.bucket.take(rate, Class::Interactive, 1, now_us) {
                    Ok(()) => passed += 1,
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
                let others = Others {
                    spent,
                    ..Others::default()
                };
                gateway.purse.hear(spec, others, new, 0);
                while let Ok(reserved) = gateway.purse.reserve(spec, 1, 0) {
                    gateway.purse.settle(spec, &reserved, 1, 0, 0);
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
