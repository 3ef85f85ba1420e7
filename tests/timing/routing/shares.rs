//! Shares follow what providers do, through the real gateway.

use serde_json::Value;
use weir_loadtest::mock::{FaultKind, FaultRule};
use weir_schemas::table::RoutingTable;
use weir_tests::http::get;
use weir_tests::weir::wait_for;

use super::scene::{Mock, Scene, Setting, Traffic, number, unix_us, wait_for_requests};
use crate::alone;

#[test]
fn shares_follow_what_providers_do() {
    let _machine = alone();
    let mut setting = Setting::default();
    let hole = setting.mock("hole", "10ms", Vec::new());
    setting.mock("sound", "10ms", Vec::new());
    // So slow that what a busy machine adds is little beside it.
    let turning = ["busy", "closed"].map(|name| setting.mock(name, "150ms", Vec::new()));
    for name in ["calm-1", "calm-2", "calm-3", "calm-4"] {
        setting.mock(name, "150ms", Vec::new());
    }
    let lame = setting.mock("lame", "500ms", Vec::new());
    for name in ["steady-1", "steady-2"] {
        setting.mock(name, "10ms", Vec::new());
    }
    let doomed = [
        setting.mock(
            "doomed-1",
            "1ms",
            vec![FaultRule::always(FaultKind::ServerError)],
        ),
        setting.mock(
            "doomed-2",
            "1ms",
            vec![FaultRule::always(FaultKind::Unavailable)],
        ),
    ];
    let latency = "strategy = \"latency\"";
    setting.alias("hole", latency, &["hole", "sound"]);
    setting.alias("busy", latency, &["busy", "calm-1", "calm-2"]);
    setting.alias("closed", latency, &["closed", "calm-3", "calm-4"]);
    setting.alias("lame", latency, &["lame", "steady-1", "steady-2", "sound"]);
    setting.alias("doomed", latency, &["doomed-1", "doomed-2"]);
    let scene = setting.start(&["up"]);
    scene.weir.wait_for_store().unwrap();

    a_slow_provider_gets_little(&scene, &scene.mocks[lame]);
    refusals_attract_nobody_and_their_end_no_crowd(&scene, turning);
    a_black_hole_is_out_at_once_and_comes_back(&scene, &scene.mocks[hole]);
    when_everything_fails_providers_see_little_more(&scene, doomed);
}

fn a_slow_provider_gets_little(scene: &Scene, lame: &Mock) {
    let traffic = Traffic::start(scene, "lame", 80);
    traffic.wait_for_calls(100);
    let (before, served) = (lame.ledger().total.calls, traffic.served());
    traffic.wait_for_calls(200);
    let calls = lame.ledger().total.calls - before;
    let all = traffic.served() - served;
    assert!(traffic.stop().iter().all(|status| *status == 200));
    // An even share were a quarter.
    assert!(
        calls * 8 <= all,
        "{calls} of {all} went to one that is half a second slower"
    );
}

/// Two providers refuse at once, one with 429 and one with 503; then they recover.
fn refusals_attract_nobody_and_their_end_no_crowd(scene: &Scene, turning: [usize; 2]) {
    let aliases = ["busy", "closed"];
    let set = |faults: [Vec<FaultRule>; 2]| {
        for (at, faults) in turning.into_iter().zip(faults) {
            scene.mocks[at].set_faults(faults);
        }
        unix_us()
    };
    let traffic = aliases.map(|alias| Traffic::start(scene, alias, 60));
    let wait = |calls: u64| {
        let until = traffic.each_ref().map(|it| it.served() + calls);
        for (it, until) in traffic.iter().zip(until) {
            it.wait_for_calls(until.saturating_sub(it.served()));
        }
    };
    wait(90);
    let kinds = [FaultKind::RateLimit, FaultKind::Unavailable];
    let turned = set(kinds.map(|kind| vec![FaultRule::always(kind)]));
    wait(240);
    let recovered = set([Vec::new(), Vec::new()]);
    wait(700);
    for (alias, traffic) in aliases.into_iter().zip(traffic) {
        let statuses = traffic.stop();
        let all_served = statuses.iter().all(|status| *status == 200);
        assert!(all_served, "a fallback hides it: {statuses:?}");
        wait_for_requests(scene, alias, statuses.len());
    }
    for alias in aliases {
        let later = format!(
            "FROM weir.attempts WHERE alias = '{alias}' AND toUnixTimestamp64Micro(ts) \
             BETWEEN {} AND {recovered}",
            turned + 1_000_000
        );
        let there = format!("SELECT countIf(provider = '{alias}') {later}");
        let there = scene.weir.number(&there).unwrap();
        let all = scene
            .weir
            .number(&format!("SELECT count() {later}"))
            .unwrap();
        assert!(all > 100, "only {all} tries to judge by");
        assert!(
            there * 50 <= all,
            "{alias}: {there} of {all} tries went to one that refuses all"
        );
    }
    a_recovered_provider_gets_its_share_and_little_more(scene, recovered);
}

/// Both together, in windows of so many tries from the recovery on.
fn a_recovered_provider_gets_its_share_and_little_more(scene: &Scene, recovered: u64) {
    const WINDOW: u64 = 460;
    let windows = format!(
        "SELECT intDiv(number - 1, {WINDOW}) AS window, countIf(there) AS there, count() AS tries \
         FROM (SELECT row_number() OVER (ORDER BY ts) AS number, provider = alias AS there \
               FROM weir.attempts WHERE alias IN ('busy', 'closed') AND kind = 'first' \
               AND toUnixTimestamp64Micro(ts) >= {recovered}) \
         GROUP BY window HAVING tries = {WINDOW} ORDER BY window"
    );
    let windows = scene.weir.sql(&windows).unwrap();
    let shares: Vec<f64> = windows
        .iter()
        .map(|row: &Value| number(row, "there") as f64 / number(row, "tries") as f64)
        .collect();
    println!("shares after the recovery: {shares:.3?}");
    assert!(shares.len() >= 2, "{windows:?}");
    let most = shares.iter().copied().fold(0.0, f64::max);
    assert!(most <= 1.2 / 3.0, "a third is its share: {shares:?}");
    assert!(most > 0.5 / 3.0, "it is back: {shares:?}");
}

fn a_black_hole_is_out_at_once_and_comes_back(scene: &Scene, hole: &Mock) {
    let traffic = Traffic::start(scene, "hole", 100);
    traffic.wait_for_calls(150);
    hole.set_faults(vec![FaultRule::always(FaultKind::Timeout)]);
    let swallowed = unix_us();
    let metrics = || get(scene.weir.gateway, "/metrics").unwrap();
    let is_open = "weir_deployment_state{deployment=\"hole/m\",state=\"open\"} 1";
    wait_for("the metrics say that it is out of service", || {
        Ok(metrics().contains(is_open))
    })
    .unwrap();
    let shown = scene.weir.run(&["routes", "show"]).unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(
        shown.contains("hole/m") && shown.contains("sound/m"),
        "{shown}"
    );
    traffic.wait_for_calls(100);
    hole.set_faults(Vec::new());
    let recovered = unix_us();
    let is_back = "weir_deployment_state{deployment=\"hole/m\",state=\"slow_start\"} 1";
    wait_for("it is back", || Ok(metrics().contains(is_back))).unwrap();
    traffic.wait_for_calls(50);
    let statuses = traffic.stop();
    assert!(
        statuses.iter().all(|status| *status == 200),
        "nobody waits in it: {statuses:?}"
    );
    wait_for_requests(scene, "hole", statuses.len());
    let passed_by = format!(
        "SELECT toString(request_id) AS id FROM weir.requests WHERE alias = 'hole' \
         AND toUnixTimestamp64Micro(ts) BETWEEN {swallowed} AND {recovered} \
         AND length(candidates) = 1 LIMIT 1"
    );
    let passed_by = scene.weir.sql(&passed_by).unwrap().remove(0);
    let words = scene
        .weir
        .run(&["routes", "explain", passed_by["id"].as_str().unwrap()])
        .unwrap();
    let words = String::from_utf8(words.stdout).unwrap();
    assert!(words.contains("left out: hole/m: ejected ("), "{words}");

    let first = |state: &str, since: u64| {
        let of_state = format!(
            "FROM weir.deployment_states WHERE deployment = 'hole/m' AND state = '{state}' \
             AND toUnixTimestamp64Micro(ts) >= {since}"
        );
        let is_there = format!("SELECT count() > 0 {of_state}");
        scene.weir.wait_for_number(&is_there, 1).unwrap();
        let first = format!("SELECT min(toUnixTimestamp64Micro(ts)) {of_state}");
        scene.weir.number(&first).unwrap()
    };
    let ejected_ms = (first("ejected", swallowed) - swallowed) / 1_000;
    let back_ms = (first("recovered", recovered) - recovered) / 1_000;
    println!("ejected after {ejected_ms} ms, back {back_ms} ms after its recovery");
    // Silence ejected it, before a request waited so long that it failed.
    let cause = format!(
        "SELECT argMin(cause, ts) AS cause FROM weir.deployment_states \
         WHERE deployment = 'hole/m' AND state = 'ejected' \
         AND toUnixTimestamp64Micro(ts) >= {swallowed}"
    );
    assert_eq!(scene.weir.sql(&cause).unwrap()[0]["cause"], "stalled");
}

fn when_everything_fails_providers_see_little_more(scene: &Scene, doomed: [usize; 2]) {
    let traffic = Traffic::start(scene, "doomed", 150);
    traffic.wait_for_calls(500);
    let requests = traffic.stop().len() as u64;
    let calls: u64 = doomed
        .iter()
        .map(|at| scene.mocks[*at].ledger().total.calls)
        .sum();
    assert!(
        calls * 10 <= requests * 12,
        "{calls} calls for {requests} requests"
    );
    // Whoever comes when both are out is sent to the less bad one, and the log says so.
    let last =
        "SELECT count() FROM weir.requests WHERE alias = 'doomed' AND last_resort = 'ejected'";
    wait_for("a request was a last resort", || {
        Ok(scene.weir.number(last)? > 0)
    })
    .unwrap();
}

#[test]
fn one_of_ten_that_is_five_times_slower_costs_half_the_p99_of_an_even_split() {
    let _machine = alone();
    let mut setting = Setting::default();
    let names: Vec<String> = (0..10).map(|n| format!("p{n}")).collect();
    for (n, name) in names.iter().enumerate() {
        let ttft = if n == 3 { "1s" } else { "200ms" };
        setting.mock(name, ttft, Vec::new());
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    setting.alias("learns", "strategy = \"latency\"", &names);
    setting.alias("even", "strategy = \"weighted\"", &names);
    let scene = setting.start(&["up"]);
    scene.weir.wait_for_store().unwrap();
    let p99_ms = ["learns", "even"].map(|alias| {
        let traffic = Traffic::start(&scene, alias, 50);
        traffic.wait_for_calls(100);
        let since = unix_us();
        traffic.wait_for_calls(250);
        let statuses = traffic.stop();
        assert!(statuses.iter().all(|status| *status == 200));
        wait_for_requests(&scene, alias, statuses.len());
        let p99 = format!(
            "SELECT toUInt64(quantileExact(0.99)(ttft_us) / 1000) FROM weir.requests \
             WHERE alias = '{alias}' AND toUnixTimestamp64Micro(ts) >= {since}"
        );
        scene.weir.number(&p99).unwrap()
    });
    println!(
        "p99 of the first token: {} ms, evenly split {} ms",
        p99_ms[0], p99_ms[1]
    );
    assert!(2 * p99_ms[0] <= p99_ms[1], "{p99_ms:?}");
}

#[test]
fn a_doubled_price_moves_the_share() {
    let _machine = alone();
    let mut setting = Setting {
        config: "[routing]\nrefresh_s = 1\nwindow_s = 2\n[routing.table]\ntries_min = 10\n\n"
            .to_owned(),
        ..Setting::default()
    };
    let cheap = setting.mock("cheap", "5ms", Vec::new());
    let dear = setting.mock("dear", "5ms", Vec::new());
    let objective = "strategy = \"objective\"\n\
                     objective = { limits = { ttft_p95_ms = 5_000, error_ratio = 0.1 } }";
    setting.alias("thrift", objective, &["cheap", "dear"]);
    let price = |provider: &str, input: &str, output: &str| {
        format!(
            "[[price]]\nprovider = \"{provider}\"\nmodel = \"m\"\ninput = \"{input}\"\n\
             output = \"{output}\"\n\n"
        )
    };
    setting.config += &price("cheap", "1.0", "4.0");
    setting.config += &price("dear", "1.5", "6.0");
    let scene = setting.start(&["up"]);
    scene.weir.wait_for_store().unwrap();
    // Of the calls while so many more are served, the share that the first one gets.
    let share = |traffic: &Traffic, more: u64| {
        let calls = || [cheap, dear].map(|at| scene.mocks[at].ledger().total.calls);
        let before = calls();
        traffic.wait_for_calls(more);
        let after = calls();
        let got = [after[0] - before[0], after[1] - before[1]];
        got[0] as f64 / (got[0] + got[1]).max(1) as f64
    };
    let traffic = Traffic::start(&scene, "thrift", 60);
    let before = share(&traffic, 150);
    assert!(
        before > 0.7,
        "{before} of the calls went to the cheaper one"
    );

    let config = std::fs::read_to_string(scene.weir.config()).unwrap();
    let doubled = config.replace(&price("cheap", "1.0", "4.0"), &price("cheap", "2.0", "8.0"));
    assert_ne!(doubled, config);
    std::fs::write(scene.weir.config(), doubled).unwrap();
    wait_for("the share moves", || Ok(share(&traffic, 40) < 0.3)).unwrap();
    // What is really paid gets into the tables.
    let latest = "SELECT routing_table FROM weir.routing_tables ORDER BY ts DESC LIMIT 1";
    wait_for("a table says what was paid", || {
        // The tables may not be there yet.
        let Some(row) = scene.weir.sql(latest).ok().and_then(|mut rows| rows.pop()) else {
            return Ok(false);
        };
        let table: RoutingTable = serde_json::from_str(row["routing_table"].as_str().unwrap())?;
        let paid = |deployment: &str| {
            let target = table.alias("thrift")?.target(deployment)?;
            target.picousd_per_token
        };
        // 1 and 1.5 dollars per million tokens, before one of them doubles.
        let is_near = |value: Option<f64>, least, most| {
            value.is_some_and(|value| (least * 0.99..=most * 1.01).contains(&value))
        };
        Ok(is_near(paid("cheap/m"), 1e6, 2e6) && is_near(paid("dear/m"), 1.5e6, 1.5e6))
    })
    .unwrap();
    assert!(traffic.stop().iter().all(|status| *status == 200));
}
