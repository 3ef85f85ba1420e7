//! Hedges, retries and fallbacks through the real gateway: what breaks before the first token is hidden
//! from the client, and every attempt is metered.

use std::io::Write as _;
use std::net::SocketAddr;

use serde_json::Value;
use weir_loadtest::mock::{FaultKind, FaultRule};
use weir_tests::http::{json_answer, serve};
use weir_tests::weir::wait_for;

use super::scene::{Scene, Setting, number, wait_for_requests};
use crate::alone;

/// A provider that refuses every content, as Azure says it. It answers until the test ends.
fn censor() -> SocketAddr {
    let body = r#"{"error":{"message":"The response was filtered","type":null,"param":"prompt","code":"content_filter","status":400}}"#;
    serve(move |_, client| Ok(client.write_all(json_answer(400, body).as_bytes())?)).unwrap()
}

#[test]
fn attempts_beside_and_after_the_first_are_hidden_from_clients_and_metered() {
    let _machine = alone();
    let mut setting = Setting::default();
    setting.mock("fine", "1ms", Vec::new());
    setting.mock("slow", "4s", Vec::new());
    let at_once = |kind| FaultRule {
        after_tokens: Some(0),
        ..FaultRule::always(kind)
    };
    setting.mock("cut", "1ms", vec![at_once(FaultKind::Cut)]);
    setting.mock("stall", "1ms", vec![at_once(FaultKind::Stall)]);
    setting.mock("half", "1ms", vec![FaultRule::always(FaultKind::Cut)]);
    setting.mock(
        "headers",
        "1ms",
        vec![FaultRule::always(FaultKind::SlowHeaders)],
    );
    setting.mock(
        "small",
        "1ms",
        vec![FaultRule::always(FaultKind::ContextLength)],
    );
    setting.provider("nowhere", "http://no-such-host.invalid/v1");
    let plain = setting.mocks[0].addr;
    setting.provider("not-tls", &format!("https://{plain}/v1"));
    setting.config = setting
        .config
        .replace("first_byte_ms = 5000", "first_byte_ms = 600");
    setting.config = setting
        .config
        .replacen("first_byte_ms = 600", "first_byte_ms = 5000", 2);
    let broken = [
        "cut", "stall", "half", "headers", "small", "nowhere", "not-tls",
    ];
    for name in broken {
        setting.alias(name, "retry = { tries_per_target = 1 }", &[name, "fine"]);
    }
    setting.provider("censor", &format!("http://{}/v1", censor()));
    let elsewhere = "retry = { fallback_on = [\"content_filter\"] }";
    setting.alias("censor", elsewhere, &["censor", "fine"]);
    setting.alias("censored", "", &["censor", "fine"]);
    let hedge = "hedge = { budget_ratio = 1.0, after_ms_min = 50 }";
    setting.alias("hedged", hedge, &["slow", "fine"]);
    let shadow = "shadow = { provider = \"slow\", model = \"trial\", share = 1.0 }";
    setting.alias("shadowed", shadow, &["fine"]);
    setting.config.push_str(
        "[[alias]]\nname = \"windows\"\ntargets = [\n\
         { provider = \"slow\", model = \"short\", context_window_tokens = 500 },\n\
         { provider = \"fine\", model = \"long\", context_window_tokens = 100_000 },\n]\n",
    );
    let scene = setting.start(&["up"]);
    scene.weir.wait_for_store().unwrap();

    what_breaks_before_the_first_token_falls_back(&scene);
    a_late_first_token_is_hedged(&scene);
    copies_are_not_waited_for(&scene);
    a_prompt_that_cannot_fit_goes_to_a_longer_window(&scene);
}

fn what_breaks_before_the_first_token_falls_back(scene: &Scene) {
    // Alias, whether it is asked for a stream, and how its first target fails.
    let cases = [
        ("cut", true, "cut"),
        ("stall", true, "first_token_timeout"),
        ("half", false, "cut"),
        ("headers", true, "first_token_timeout"),
        ("small", false, "context_window"),
        ("nowhere", false, "connect"),
        ("not-tls", true, "connect"),
        ("censor", false, "content_filter"),
    ];
    for (alias, stream, kind) in cases {
        let answer = scene.call(alias, stream);
        assert_eq!(answer.status, 200, "{alias}: {answer:?}");
        let whole = if stream { "[DONE]" } else { "\"usage\"" };
        assert!(answer.text().contains(whole), "{alias}: {answer:?}");
        let attempts = scene.attempts(alias, 2);
        let told = |row: &Value| {
            let names = ["kind", "deployment", "error_kind", "cause"];
            names.map(|name| row[name].as_str().unwrap().to_owned())
        };
        let first = told(&attempts[0]);
        assert_eq!(first, ["first", &format!("{alias}/m"), kind, ""], "{alias}");
        assert_eq!(told(&attempts[1]), ["fallback", "fine/m", "", kind]);
        assert_eq!(attempts[0]["delivered"], false);
        assert_eq!(attempts[1]["delivered"], true);
    }
    // What is refused as content goes elsewhere only where that was asked for.
    let answer = scene.call("censored", false);
    assert_eq!(answer.status, 400, "{answer:?}");
    assert_eq!(scene.attempts("censored", 1).len(), 1);
}

fn a_late_first_token_is_hedged(scene: &Scene) {
    let answer = scene.call("hedged", true);
    assert_eq!(answer.status, 200);
    assert!(answer.text().contains("[DONE]"), "{answer:?}");
    wait_for_requests(scene, "hedged", 1);
    let attempts = scene.attempts("hedged", 2);
    let told: Vec<[&str; 4]> = attempts
        .iter()
        .map(|row| ["kind", "deployment", "error_kind", "cause"].map(|n| row[n].as_str().unwrap()))
        .collect();
    assert_eq!(told[0], ["first", "slow/m", "hedge_lost", ""]);
    assert_eq!(told[1], ["hedge", "fine/m", "", "late"]);
    assert_eq!(attempts[1]["delivered"], true);
    assert_eq!(
        attempts[0]["usage_source"], "estimated",
        "it read the prompt"
    );
    assert!(number(&attempts[0], "input_tokens") > 0);
    assert_eq!(
        (
            number(&attempts[0], "attempt"),
            number(&attempts[1], "attempt")
        ),
        (1, 2)
    );
    let request = format!(
        "SELECT attempts, deployment FROM weir.requests WHERE request_id = '{}'",
        answer.request_id()
    );
    let request = scene.weir.sql(&request).unwrap().remove(0);
    assert_eq!(
        (number(&request, "attempts"), &request["deployment"]),
        (2, &"fine/m".into())
    );
    // The provider saw that nobody waits any more.
    wait_for("the loser is cancelled", || {
        Ok(scene.mocks[1].ledger().total.disconnects == 1)
    })
    .unwrap();
    let words = scene
        .weir
        .run(&["routes", "explain", answer.request_id()])
        .unwrap();
    let words = String::from_utf8(words.stdout).unwrap();
    assert!(
        words.contains("attempt 2: hedge at fine/m, because of late: answered"),
        "{words}"
    );
}

fn copies_are_not_waited_for(scene: &Scene) {
    for _ in 0..3 {
        assert_eq!(scene.call("shadowed", false).status, 200);
    }
    // The requests are stored, and over, while their copies are still waited for by nobody.
    let requests = "SELECT count() FROM weir.requests WHERE alias = 'shadowed'";
    scene.weir.wait_for_number(requests, 3).unwrap();
    let attempts = scene.attempts("shadowed", 6);
    let shadows: Vec<&Value> = attempts
        .iter()
        .filter(|row| row["kind"] == "shadow")
        .collect();
    assert_eq!(shadows.len(), 3);
    for row in shadows {
        assert_eq!(row["deployment"], "slow/trial");
        assert_eq!(
            (&row["delivered"], &row["error_kind"]),
            (&false.into(), &"".into())
        );
        assert_eq!(number(row, "output_tokens"), 8, "its answer is measured");
        assert_eq!(
            (number(row, "attempt"), &row["team"]),
            (0, &"routing".into())
        );
    }
    let slowest = "SELECT max(total_us) FROM weir.requests WHERE alias = 'shadowed'";
    let copies = "SELECT min(total_us) FROM weir.attempts WHERE kind = 'shadow'";
    assert!(scene.weir.number(slowest).unwrap() < scene.weir.number(copies).unwrap());
    let tries = "SELECT max(attempts) FROM weir.requests WHERE alias = 'shadowed'";
    assert_eq!(
        scene.weir.number(tries).unwrap(),
        1,
        "a copy is no try of the request"
    );
}

fn a_prompt_that_cannot_fit_goes_to_a_longer_window(scene: &Scene) {
    let long = "word ".repeat(1_000);
    let answer = scene.caller().call("windows", false, &long);
    assert_eq!(answer.status, 200);
    let attempts = scene.attempts("windows", 1);
    assert_eq!(
        attempts[0]["deployment"], "fine/long",
        "before it was sent anywhere"
    );
    assert_eq!(attempts[0]["kind"], "first");
}
