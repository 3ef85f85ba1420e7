//! Calls without a valid key: what they leave behind is bounded, and its sums are exact.

use serde_json::{Value, json};
use weir_loadtest::mock::{MockOptions, MockProvider};
use weir_tests::gateway::{chat, chat_request, config, messages_request};
use weir_tests::http::{Answer, Request, get};
use weir_tests::weir::Installation;

/// What an auditor asks: how many, from where, why.
const SUMS: &str = "SELECT address, reason, toUInt32(sum(refused)) AS refused, \
    toUInt32(sum(limited)) AS limited, min(ts) <= max(last) AS is_ordered \
    FROM weir.refusals GROUP BY address, reason ORDER BY address, reason";

/// The key of another installation.
fn unknown_key(config: &str) -> String {
    let other = Installation::new(config).unwrap();
    other.create_key("elsewhere").unwrap()
}

fn count(answers: &[Answer], status: u16) -> usize {
    answers
        .iter()
        .filter(|answer| answer.status == status)
        .count()
}

fn sums(address: &str, reason: &str, refused: usize, limited: usize) -> Value {
    json!({"address": address, "reason": reason, "refused": refused, "limited": limited, "is_ordered": 1})
}

#[test]
fn strangers_leave_few_rows_and_exact_sums() {
    let mock = MockProvider::start(MockOptions::default()).unwrap();
    let weir = Installation::new(&config(&mock)).unwrap();
    let key = weir.create_key("growth").unwrap();
    let unknown = unknown_key(&config(&mock));
    let up = weir.start(&["up"]).unwrap();
    weir.wait_until_ready().unwrap();

    let stranger = chat_request(&unknown, "fast-chat");
    let answers: Vec<Answer> = (0..300)
        .map(|_| stranger.send(weir.gateway).unwrap())
        .collect();
    assert_eq!((count(&answers, 401), count(&answers, 429)), (60, 240));
    let limited = answers.last().unwrap();
    let wait: u64 = limited.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{limited:?}");
    assert!(
        limited
            .message()
            .starts_with("the API key is unknown. Too many"),
        "{limited:?}"
    );
    let limited = messages_request("", "fast-chat")
        .send(weir.gateway)
        .unwrap();
    assert_eq!(
        limited.json()["error"]["type"],
        "rate_limit_error",
        "{limited:?}"
    );
    let models = Request::get("/v1/models").bearer(&unknown);
    assert_eq!(models.send(weir.gateway).unwrap().status, 429);
    let admin = Request::get("/admin/v1/keys").bearer("weir_admin_guess");
    let limited = admin.send(weir.gateway).unwrap();
    assert_eq!(limited.status, 429, "{limited:?}");
    assert!(limited.header("retry-after").is_some());
    // Who has a key is not held up.
    assert_eq!(chat(weir.gateway, &key).status, 200);
    let page = get(weir.gateway, "/metrics").unwrap();
    for (answer, number) in [("refused", 60), ("limited", 241)] {
        let line = format!(
            "weir_unauthenticated_requests_total{{reason=\"unknown\",answer=\"{answer}\"}} {number}"
        );
        assert!(page.contains(&line), "{line} in {page}");
    }

    // The counts of the last minute are written when the gateway stops.
    up.stop().unwrap();
    let _up = weir.start(&["up"]).unwrap();
    weir.wait_for_store().unwrap();
    weir.wait_for_number("SELECT sum(refused) FROM weir.refusals", 293)
        .unwrap();
    let expect = [
        sums("127.0.0.1", "admin_token", 1, 1),
        sums("127.0.0.1", "missing", 1, 1),
        sums("127.0.0.1", "unknown", 291, 241),
    ];
    assert_eq!(weir.sql(SUMS).unwrap(), expect);
    let rows = "SELECT count() FROM weir.requests WHERE stage = 'authenticate'";
    assert_eq!(weir.number(rows).unwrap(), 10, "the first ones are whole");
}

#[test]
fn strangers_behind_a_proxy_are_counted_by_their_own_addresses() {
    let mock = MockProvider::start(MockOptions::default()).unwrap();
    let weir = Installation::new(&config(&mock)).unwrap();
    let settings = "trusted_proxies = [\"127.0.0.0/8\"]\n\
        unauthenticated = { requests_per_minute = 5, rows_per_minute = 3, addresses_max = 2 }";
    weir.add_gateway_settings(settings).unwrap();
    let unknown = unknown_key(&config(&mock));
    let up = weir.start(&["up"]).unwrap();
    weir.wait_until_ready().unwrap();
    let send = |address: &str, times: usize| {
        let answers = (0..times).map(|_| {
            let request = chat_request(&unknown, "fast-chat").header("x-forwarded-for", address);
            request.send(weir.gateway).unwrap()
        });
        let answers: Vec<Answer> = answers.collect();
        (count(&answers, 401), count(&answers, 429))
    };
    assert_eq!(send("203.0.113.9", 8), (5, 3));
    assert_eq!(send("2001:db8:1:2::1", 4), (4, 0), "another address");
    assert_eq!(
        send("2001:db8:1:2:ffff::2", 2),
        (1, 1),
        "of the same subscriber"
    );
    assert_eq!(
        send("203.0.113.10", 9),
        (9, 0),
        "one too many to be counted apart"
    );
    up.stop().unwrap();
    let _up = weir.start(&["up"]).unwrap();
    weir.wait_for_store().unwrap();
    weir.wait_for_number("SELECT sum(refused) FROM weir.refusals", 20)
        .unwrap();
    let expect = [
        sums("2001:db8:1:2::/64", "unknown", 6, 1),
        sums("203.0.113.9", "unknown", 5, 3),
        sums("other", "unknown", 9, 0),
    ];
    assert_eq!(weir.sql(SUMS).unwrap(), expect);
    let rows = "SELECT count() FROM weir.requests WHERE client_ip = '203.0.113.9'";
    assert_eq!(weir.number(rows).unwrap(), 3);
}
