//! Budgets, in tokens and in money, from outside: what they refuse, how they say it, and whom they
//! tell.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;
use weir_tests::gateway::{MockedGateway, chat_request, messages_request, used_tokens};
use weir_tests::http::{Answer, get};
use weir_tests::receiver::receiver;
use weir_tests::weir::{PATIENCE, wait_for};

/// A dollar for each token in, two for each token out: what is charged is a whole number of dollars.
const PRICES: &str = r#"
[[price]]
provider = "mock"
model = "small"
input = "1000000"
output = "2000000"

[[alias]]
name = "either"
targets = [{ provider = "mock", model = "large" }, { provider = "mock", model = "small" }]
"#;

fn usd_used(answer: &Answer) -> u64 {
    let usage = &answer.json()["usage"];
    usage["prompt_tokens"].as_u64().unwrap() + 2 * usage["completion_tokens"].as_u64().unwrap()
}

/// A thousand requests against a budget that has room for ten of them.
fn ten_of_a_thousand(running: &MockedGateway, option: &str, used: u64, reserved: u64) -> String {
    assert!(used <= reserved);
    // Nine are paid, and the tenth finds room for what it reserves.
    let limit = (9 * used + reserved).to_string();
    running.run(&[
        "budgets", "set", "ten", "--team", "growth", option, &limit, "--window", "total",
    ]);
    let (_, key) = running.known_key(&["--team", "growth"]);
    let (answered, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| {
                for _ in 0..20 {
                    match running.chat(&key).status {
                        200 => answered.fetch_add(1, Ordering::Relaxed),
                        402 => refused.fetch_add(1, Ordering::Relaxed),
                        other => panic!("status {other}"),
                    };
                }
            });
        }
    });
    let at_once = answered.load(Ordering::Relaxed);
    assert_eq!(at_once + refused.load(Ordering::Relaxed), 1000);
    assert!((1..=10).contains(&at_once), "{at_once} were answered");
    let afterwards = (0..20).filter(|_| running.chat(&key).status == 200).count();
    assert_eq!(at_once + afterwards, 10);

    let answer = running.chat(&key);
    let message = answer.message();
    assert!(
        message.contains("budget \"ten\"") && message.contains("does not reset"),
        "{message}"
    );
    assert_eq!(answer.header("x-should-retry"), Some("false"));
    assert_eq!(answer.header("x-weir-budget"), Some("ten"));
    assert_eq!(answer.json()["error"]["code"], "insufficient_quota");
    answer.header("x-weir-budget-remaining").unwrap().to_owned()
}

#[test]
fn a_thousand_requests_at_once_against_a_budget_for_ten_are_never_charged_an_eleventh_time() {
    let running = MockedGateway::configured("");
    let (_, probe) = running.known_key(&["--team", "probe"]);
    let (used, reserved) = (
        used_tokens(&running.chat(&probe)),
        running.reserved("--tokens"),
    );
    let left = ten_of_a_thousand(&running, "--tokens", used, reserved);
    assert_eq!(left, format!("{} tokens", reserved - used));
}

#[test]
fn a_thousand_requests_at_once_against_money_for_ten_are_never_charged_an_eleventh_time() {
    let running = MockedGateway::configured(PRICES);
    let (_, probe) = running.known_key(&["--team", "probe"]);
    let (used, reserved) = (usd_used(&running.chat(&probe)), running.reserved("--usd"));
    let left = ten_of_a_thousand(&running, "--usd", used, reserved);
    assert_eq!(left, format!("{}.00 USD", reserved - used));
}

#[test]
fn money_that_is_used_up_is_refused_in_the_words_of_each_dialect_with_its_reset() {
    let running = MockedGateway::configured(PRICES);
    running.run(&["teams", "set", "growth", "--contact", "ana@corp"]);
    let reserved = running.reserved("--usd");
    let limit = reserved.to_string();
    running.run(&[
        "budgets", "set", "month", "--team", "growth", "--usd", &limit, "--window", "month",
    ]);
    let (_, key) = running.known_key(&["--team", "growth"]);
    let first = running.chat(&key);
    assert_eq!(first.status, 200, "{first:?}");
    assert_eq!(first.header("x-weir-budget"), Some("month"));
    let left = reserved - usd_used(&first);
    assert!(left < reserved, "{left} would be enough for another");

    let refused = running.chat(&key);
    assert_eq!(refused.status, 402);
    let error = &refused.json()["error"];
    assert_eq!(error["type"], "insufficient_quota");
    let reset = refused.header("x-weir-budget-reset").unwrap();
    let message = refused.message();
    for part in [
        &format!("budget \"month\" of {limit}.00 USD"),
        &format!("has {left}.00 USD left"),
        &format!("may use {reserved}.00 USD"),
        &format!("resets at {reset}"),
        "ask ana@corp",
    ] {
        assert!(message.contains(part), "{part} in {message}");
    }
    let remaining = refused.header("x-weir-budget-remaining");
    assert_eq!(remaining, Some(&*format!("{left}.00 USD")));
    assert_eq!(refused.header("x-should-retry"), Some("false"));
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=31 * 86_400).contains(&wait), "{wait}");

    let anthropic = running.send(&messages_request(&key, "fast-chat"));
    assert_eq!(anthropic.status, 402);
    assert_eq!(anthropic.json()["type"], "error");
    assert_eq!(anthropic.json()["error"]["type"], "billing_error");
    assert_eq!(anthropic.message(), message);
    assert_eq!(anthropic.header("x-should-retry"), Some("false"));
    assert_eq!(anthropic.header("x-weir-budget-reset"), Some(reset));
}

#[test]
fn a_budget_in_money_lets_through_only_what_has_a_price() {
    let running = MockedGateway::configured(PRICES);
    running.run(&[
        "budgets", "set", "strict", "--team", "strict", "--usd", "10000", "--window", "day",
    ]);
    running.run(&[
        "budgets",
        "set",
        "lax",
        "--team",
        "lax",
        "--usd",
        "10000",
        "--window",
        "day",
        "--allow-unpriced",
    ]);
    running.run(&[
        "budgets", "set", "soft", "--team", "soft", "--usd", "1", "--window", "day", "--soft",
    ]);
    let (_, strict) = running.known_key(&["--team", "strict"]);
    let (_, lax) = running.known_key(&["--team", "lax"]);
    let (_, soft) = running.known_key(&["--team", "soft"]);

    let refused = running.send(&chat_request(&strict, "opus"));
    assert_eq!(refused.status, 403);
    let message = refused.message();
    for part in [
        "budget \"strict\" counts money",
        "\"opus\" has no price at mock/large (the price book does not have the model)",
        "[[price]]",
        "unpriced = \"allow\"",
    ] {
        assert!(message.contains(part), "{part} in {message}");
    }
    let anthropic = running.send(&messages_request(&strict, "opus"));
    assert_eq!(anthropic.json()["error"]["type"], "permission_error");

    // The alias's first target has no price, so the second one is the one to go to.
    let deployment = |key: &str| {
        let answer = running.send(&chat_request(key, "either"));
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.header("x-weir-deployment").unwrap().to_owned()
    };
    assert_eq!(deployment(&strict), "mock/small");
    assert_eq!(deployment(&lax), "mock/large");
    assert_eq!(deployment(&soft), "mock/large");
    for key in [&lax, &soft] {
        assert_eq!(running.send(&chat_request(key, "opus")).status, 200);
    }
}

#[test]
fn budgets_are_listed_with_what_is_spent_and_left_of_them() {
    let mut running = MockedGateway::configured(PRICES);
    let none = running.weir.command(&["budgets", "list"]).output().unwrap();
    let said = String::from_utf8_lossy(&none.stderr);
    assert!(said.contains("there is no budget"), "{said}");
    let none = running.json(&["budgets", "list", "--json"]);
    assert_eq!(none, serde_json::json!([]));
    running.run(&[
        "budgets", "set", "month", "--team", "growth", "--usd", "10000", "--per", "user",
        "--window", "month",
    ]);
    running.run(&[
        "budgets", "set", "tokens", "--tokens", "5000", "--window", "total", "--soft",
    ]);
    let (_, key) = running.known_key(&["--team", "growth", "--user", "ana"]);
    let first = running.chat(&key);
    let (used, resets) = (
        usd_used(&first),
        first.header("x-weir-budget-reset").map(str::to_owned),
    );
    let json = |running: &MockedGateway| {
        let mut listed = running.json(&["budgets", "list", "--json"]);
        // They change by the second.
        let standing = listed.pointer_mut("/0/standings/0");
        if let Some(standing) = standing.and_then(Value::as_object_mut) {
            for name in ["ends", "per_hour"] {
                assert!(standing.remove(name).is_some(), "{name}");
            }
        }
        listed
    };
    let expected = serde_json::json!([{
        "subject": "ana",
        "spent": format!("{used}.00"),
        "reserved": "0.00",
        "remaining": format!("{}.00", 10_000 - used),
        "resets": resets,
    }]);
    wait_for("what was used is settled", || {
        Ok(json(&running)[0]["standings"] == expected)
    })
    .unwrap();
    // At the rate of this minute it does not last for ever.
    let total = &running.json(&["budgets", "list", "--json"])[1]["standings"][0];
    assert!(
        total["ends"].is_string() && total["per_hour"] != "0",
        "{total}"
    );
    let text = running.run(&["budgets", "list"]).stdout;
    let text = String::from_utf8(text).unwrap();
    let words = |line: &str| -> Vec<String> {
        let cells = text.lines().find(|it| it.starts_with(line)).unwrap();
        let cells = cells.split("  ").map(str::trim);
        cells
            .filter(|cell| !cell.is_empty())
            .map(str::to_owned)
            .collect()
    };
    let without_end = |line| {
        let mut words = words(line);
        words.remove(7);
        words
    };
    let left = format!("{}.00", 10_000 - used);
    let spent = format!("{used}.00");
    let month = [
        "month",
        "ana",
        "10000.00 USD",
        "month",
        &spent,
        "0.00",
        &left,
        &resets.unwrap(),
        "team=growth",
    ];
    assert_eq!(without_end("month"), month, "{text}");
    let used_tokens = used_tokens(&first).to_string();
    let left_tokens = (5000 - used_tokens.parse::<u64>().unwrap()).to_string();
    let tokens = [
        "tokens",
        "-",
        "5000 tokens, soft",
        "total",
        &used_tokens,
        "0",
        &left_tokens,
        "never",
        "everything",
    ];
    assert_eq!(without_end("tokens"), tokens, "{text}");

    // Shared by a group, and one that is everybody's own and that nobody has used yet.
    running.run(&[
        "budgets", "set", "group", "--team", "ops", "--usd", "1", "--window", "12h",
    ]);
    running.run(&[
        "budgets", "set", "unused", "--team", "ops", "--tokens", "9", "--per", "user", "--window",
        "day",
    ]);
    let shown = |line: &str, start: &[&str]| {
        let text = running.run(&["budgets", "list"]).stdout;
        let text = String::from_utf8(text).unwrap();
        let cells: Vec<&str> = text
            .lines()
            .find(|it| it.starts_with(line))?
            .split("  ")
            .collect();
        let cells = cells
            .into_iter()
            .map(str::trim)
            .filter(|cell| !cell.is_empty());
        Some(cells.zip(start).all(|(cell, word)| cell == *word))
    };
    let group = ["group", "-", "1.00 USD", "12h", "0.00", "0.00", "1.00", "-"];
    assert_eq!(shown("group", &group), Some(true));
    let unused = ["unused", "each user", "9 tokens", "day", "-", "-", "-", "-"];
    assert_eq!(shown("unused", &unused), Some(true));

    // Without a gateway the rules are there all the same, and what is missing is said.
    running.stop();
    assert_eq!(json(&running)[0]["standings"], Value::Null);
    let output = running.weir.command(&["budgets", "list"]).output().unwrap();
    let (said, text) = (
        String::from_utf8_lossy(&output.stderr),
        String::from_utf8_lossy(&output.stdout),
    );
    assert!(
        output.status.success() && text.contains("10000.00 USD"),
        "{text}"
    );
    assert!(said.contains("amounts are unknown"), "{said}");
}

#[test]
fn a_webhook_is_told_once_of_each_threshold_though_it_fails_and_the_gateway_restarts() {
    let (address, posts) = receiver(&[500, 404]);
    let next = || posts.recv_timeout(PATIENCE).unwrap();
    let hook = format!("\n[gateway.webhook]\nurl = \"http://{address}/hook?x=1\"\n");
    let mut running = MockedGateway::configured(&hook);
    let (_, probe) = running.known_key(&["--team", "probe"]);
    let used = used_tokens(&running.chat(&probe));
    let budget = |id: &str, team: &str| {
        let limit = (4 * used).to_string();
        let args = ["budgets", "set", id, "--team", team, "--tokens", &limit];
        running.run(&[&args[..], &["--window", "month", "--soft", "--per", "user"]].concat());
        running.known_key(&["--team", team, "--user", "ana"]).1
    };
    let (first, last) = (budget("a", "growth"), budget("z", "other"));

    assert_eq!(running.chat(&first).status, 200);
    assert_eq!(running.chat(&first).status, 200);
    let told = [next(), next(), next()];
    assert_eq!(told.each_ref().map(|(status, _)| *status), [500, 404, 200]);
    assert!(told.iter().all(|(_, json)| json == &told[0].1));
    let post = &told[2].1;
    let text = post["text"].as_str().unwrap();
    let spent = format!("{} tokens of {} tokens", 2 * used, 4 * used);
    assert!(
        text.starts_with(&format!("Budget \"a of ana\" has reached 50%: {spent}.")),
        "{text}"
    );
    let facts = &post["budget"];
    assert_eq!(
        (&facts["id"], &facts["percent"], &facts["hard"]),
        (&"a".into(), &50.into(), &false.into())
    );
    assert!(facts["resets"].as_str().unwrap().ends_with('Z'));
    let metrics = get(running.weir.gateway, "/metrics").unwrap();
    assert!(
        metrics.contains("weir_webhook_failures_total 2"),
        "{metrics}"
    );

    // Three of four is below 80%; the fourth passes 80% and 100%, of which the higher is said.
    for _ in 0..2 {
        assert_eq!(running.chat(&first).status, 200);
    }
    let percents: Vec<Value> = std::iter::repeat_with(|| next().1["budget"]["percent"].clone())
        .take_while(|percent| *percent != 100)
        .collect();
    assert!(percents.is_empty(), "{percents:?}");

    // What was said of the first budget would be said again before anything of the last one.
    running.stop();
    running.restart();
    for _ in 0..2 {
        assert_eq!(running.chat(&last).status, 200);
    }
    let (_, post) = next();
    assert_eq!(post["budget"]["id"], "z", "{post}");
    running.stop();
    assert!(posts.recv_timeout(Duration::ZERO).is_err());
}
