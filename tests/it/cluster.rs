//! Two gateways with directories of their own on one Kafka: keys and rules hold on both.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use weir_loadtest::mock::{MockHandle, MockOptions, MockProvider};
use weir_tests::gateway::{chat, config, used_tokens};
use weir_tests::http::Request;
use weir_tests::kafka::Kafka;
use weir_tests::receiver::receiver;
use weir_tests::weir::{Installation, PATIENCE, Process, wait_for};

const SECRET: &str = "a secret of thirty-two bytes or more";

fn installation(kafka: &Kafka, mock: &MockHandle, secret: &str) -> Installation {
    Installation::new(&format!(
        "[eventlog]\nkind = \"kafka\"\nbrokers = \"{}\"\npartitions = 1\n\n[control]\nhash_secret = \"{secret}\"\n\n{}",
        kafka.brokers(),
        config(mock)
    ))
    .unwrap()
}

fn start(weir: &Installation) -> Process {
    let gateway = weir.start(&["gateway"]).unwrap();
    weir.wait_until_ready()
        .unwrap_or_else(|error| panic!("{error}\n{}", gateway.log()));
    gateway
}

/// Waits until both gateways answer with a status.
fn both_answer(gateways: [&Installation; 2], key: &str, status: u16) {
    wait_for(&format!("both answer {status}"), || {
        Ok(gateways
            .iter()
            .all(|weir| chat(weir.gateway, key).status == status))
    })
    .unwrap();
}

#[test]
fn keys_hold_on_all_gateways_of_a_cluster_and_while_kafka_is_away() {
    let mut kafka = Kafka::start().unwrap();
    let mock = MockProvider::start(MockOptions::default()).unwrap();
    let (one, two) = (
        installation(&kafka, &mock, SECRET),
        installation(&kafka, &mock, SECRET),
    );
    let (first, second) = (start(&one), start(&two));

    one.run(&["teams", "set", "growth", "--contact", "#llm help"])
        .unwrap();
    let (id, key) = one.create_key_with(&["--team", "growth"]).unwrap();
    assert_eq!(chat(one.gateway, &key).status, 200, "in force where made");
    both_answer([&one, &two], &key, 200);
    let (_, kept) = two.create_key_with(&["--team", "growth"]).unwrap();
    both_answer([&one, &two], &kept, 200);

    two.run(&["keys", "revoke", &id]).unwrap();
    both_answer([&one, &two], &key, 401);

    // Another secret would know no key, so the gateway says so and does not start.
    let stranger = installation(&kafka, &mock, "another secret of thirty-two bytes");
    let output = stranger.command(&["gateway"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && said.contains("[control] hash_secret"),
        "{said}"
    );

    let token = ["tokens", "create", "operator", "--role", "admin", "--json"];
    let token: Value = serde_json::from_slice(&one.run(&token).unwrap().stdout).unwrap();
    let token = token["token"].as_str().unwrap();
    let admin = |call: Request| call.bearer(token).send(one.gateway).unwrap();
    let list_keys = || admin(Request::get("/admin/v1/keys"));
    wait_for("the token is known", || Ok(list_keys().status == 200)).unwrap();

    kafka.kill();
    let refused = admin(Request::post("/admin/v1/keys", r#"{"team":"t"}"#));
    assert_eq!(refused.status, 503, "{refused:?}");
    let said = refused.message();
    assert!(
        said.starts_with("nothing was changed: ") && said.contains("weir.control"),
        "{said}"
    );
    assert_eq!(list_keys().status, 200, "and reading goes on");
    assert_eq!(
        chat(one.gateway, &kept).status,
        200,
        "keys work from memory"
    );
    let refused = one
        .command(&["keys", "create", "--team", "t"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && said.contains("weir.control"),
        "{said}"
    );
    drop(second);
    let second = start(&two);
    assert_eq!(chat(two.gateway, &kept).status, 200, "and over a restart");
    assert_eq!(
        chat(two.gateway, &key).status,
        401,
        "a revoked key stays revoked"
    );

    kafka.start_again().unwrap();
    let (_, late) = one.create_key_with(&["--team", "growth"]).unwrap();
    both_answer([&one, &two], &late, 200);
    assert!(
        !fs::read_to_string(one.data_dir().join("control/control.log"))
            .unwrap()
            .contains(&late)
    );
    drop((first, second));
}

/// Calls both gateways from two threads each for so long, and until so many were answered and refused; how
/// many were.
fn hammer(
    gateways: [&Installation; 2],
    key: &str,
    (time, answered_min, refused_min): (Duration, u64, u64),
) -> (u64, u64) {
    let (answered, refused) = (AtomicU64::new(0), AtomicU64::new(0));
    let since = Instant::now();
    let goes_on = || {
        let is_short = |count: &AtomicU64, least| count.load(Ordering::Relaxed) < least;
        let lacks = is_short(&answered, answered_min) || is_short(&refused, refused_min);
        since.elapsed() < time || (lacks && since.elapsed() < PATIENCE)
    };
    std::thread::scope(|scope| {
        for weir in gateways.iter().chain(&gateways) {
            scope.spawn(|| {
                while goes_on() {
                    let counter = match chat(weir.gateway, key).status {
                        200 => &answered,
                        402 | 429 => &refused,
                        other => panic!("status {other}"),
                    };
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    (answered.into_inner(), refused.into_inner())
}

#[test]
fn limits_and_budgets_hold_over_all_gateways_of_a_cluster() {
    let kafka = Kafka::start().unwrap();
    let mock = MockProvider::start(MockOptions::default()).unwrap();
    let (one, two) = (
        installation(&kafka, &mock, SECRET),
        installation(&kafka, &mock, SECRET),
    );
    let (first, second) = (start(&one), start(&two));
    one.run(&[
        "limits", "set", "shared", "--team", "limited", "--rpm", "300",
    ])
    .unwrap();
    let (_, probe) = one.create_key_with(&["--team", "probe"]).unwrap();
    both_answer([&one, &two], &probe, 200);
    let used = used_tokens(&chat(one.gateway, &probe));
    // Thirty-nine are paid, and the fortieth finds room for what it reserves.
    one.run(&[
        "budgets", "set", "one", "--team", "none", "--tokens", "1", "--window", "total",
    ])
    .unwrap();
    let (_, none) = one.create_key_with(&["--team", "none"]).unwrap();
    let refused = chat(one.gateway, &none).message();
    let (_, reserved) = refused.split_once("may use ").unwrap();
    let reserved: u64 = reserved.split(' ').next().unwrap().parse().unwrap();
    let limit = (39 * used + reserved).to_string();
    one.run(&[
        "budgets", "set", "forty", "--team", "spender", "--tokens", &limit, "--window", "total",
    ])
    .unwrap();
    let (_, limited) = one.create_key_with(&["--team", "limited"]).unwrap();
    let (_, spender) = one.create_key_with(&["--team", "spender"]).unwrap();
    let known = |key: &str| {
        [&one, &two]
            .iter()
            .for_each(|weir| weir.wait_until_known(key).unwrap())
    };
    known(&limited);
    known(&spender);

    let since = Instant::now();
    let (answered, refused) = hammer([&one, &two], &limited, (Duration::from_secs(6), 300, 100));
    // A minute's worth at once, and five a second afterwards.
    let one_would = 300.0 + 5.0 * since.elapsed().as_secs_f64();
    let answered_f = f64::from(u32::try_from(answered).unwrap());
    println!("{answered} answered, {refused} refused, one gateway would answer {one_would}");
    assert!(refused > 0);
    assert!(
        (answered_f / one_would - 1.0).abs() <= 0.05,
        "{answered} of {one_would}"
    );

    let (answered, refused) = hammer([&one, &two], &spender, (Duration::from_secs(3), 37, 1));
    println!("{answered} paid of 40, {refused} refused");
    assert!(
        refused > 0 && (37..=42).contains(&answered),
        "{answered} were paid"
    );
    // A gateway that starts again knows what all have spent.
    drop(first);
    let first = start(&one);
    let (again, _) = hammer([&one, &two], &spender, (Duration::from_secs(1), 0, 0));
    assert!(answered + again <= 42, "{again} more were paid");
    drop((first, second));
}

/// What the gateway of an installation knows to be spent of a budget, and reserved.
fn standing(weir: &Installation, budget: &str) -> (u64, u64) {
    let listed = weir.run(&["budgets", "list", "--json"]).unwrap().stdout;
    let listed: Value = serde_json::from_slice(&listed).unwrap();
    let mut budgets = listed.as_array().unwrap().iter();
    let found = budgets.find(|listed| listed["id"] == budget);
    let standing = found.map_or(&Value::Null, |listed| &listed["standings"][0]);
    let number = |name: &str| {
        standing[name]
            .as_str()
            .map_or(0, |text| text.parse().unwrap())
    };
    (number("spent"), number("reserved"))
}

#[test]
fn of_several_gateways_one_tells_the_webhook_and_another_when_that_one_is_gone() {
    let (address, posts) = receiver(&[]);
    let hook = format!("\n[gateway.webhook]\nurl = \"http://{address}/hook?x=1\"\n");
    let kafka = Kafka::start().unwrap();
    let mock = MockProvider::start(MockOptions::default()).unwrap();
    let installed = || {
        let weir = installation(&kafka, &mock, SECRET);
        let text = fs::read_to_string(weir.config()).unwrap();
        fs::write(weir.config(), text + &hook).unwrap();
        weir
    };
    let weirs = [installed(), installed()];
    let mut gateways = [Some(start(&weirs[0])), Some(start(&weirs[1]))];
    let (_, probe) = weirs[0].create_key_with(&["--team", "probe"]).unwrap();
    weirs
        .iter()
        .for_each(|weir| weir.wait_until_known(&probe).unwrap());
    let used = used_tokens(&chat(weirs[0].gateway, &probe));
    let budget = |id: &str, team: &str| {
        let limit = (4 * used).to_string();
        let args = ["budgets", "set", id, "--team", team, "--tokens", &limit];
        weirs[0]
            .run(&[&args[..], &["--window", "total", "--soft"]].concat())
            .unwrap();
        let (_, key) = weirs[0].create_key_with(&["--team", team]).unwrap();
        weirs
            .iter()
            .for_each(|weir| weir.wait_until_known(&key).unwrap());
        key
    };
    // Each hears what the other one is asked: a budget without thresholds in reach shows it.
    let (heard, first, last) = (
        budget("heard", "heard"),
        budget("a", "growth"),
        budget("z", "other"),
    );
    for (number, weir) in weirs.iter().enumerate() {
        // One of four is below all thresholds.
        if number == 0 {
            assert_eq!(chat(weir.gateway, &heard).status, 200);
        }
        wait_for("what the others spent is heard", || {
            Ok(standing(weir, "heard") == (used, 0))
        })
        .unwrap();
    }

    let next = || {
        let (_, post) = posts.recv_timeout(PATIENCE).unwrap();
        let budget = &post["budget"];
        format!("{} {}", budget["id"].as_str().unwrap(), budget["percent"])
    };
    // Both spend, and half of it is reached by both together.
    for weir in &weirs {
        assert_eq!(chat(weir.gateway, &first).status, 200);
    }
    assert_eq!(next(), "a 50");
    for weir in &weirs {
        assert_eq!(chat(weir.gateway, &first).status, 200);
    }
    assert_eq!(next(), "a 100");

    // The first by name speaks; when it is gone, the other one does, and repeats nothing.
    let names = weirs
        .each_ref()
        .map(|weir| fs::read_to_string(weir.data_dir().join("spend/instance")).unwrap());
    let speaker = usize::from(names[1] < names[0]);
    gateways[speaker].take().unwrap().stop().unwrap();
    let other = &weirs[1 - speaker];
    for _ in 0..2 {
        assert_eq!(chat(other.gateway, &last).status, 200);
    }
    assert_eq!(next(), "z 50");
    gateways[1 - speaker].take().unwrap().stop().unwrap();
    assert!(posts.try_recv().is_err(), "a threshold was told twice");
}
