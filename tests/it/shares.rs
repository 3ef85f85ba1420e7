//! Fair shares of a provider's limits: batch work floods, and somebody waits.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use weir_loadtest::mock::{LimitsReturn, MockOptions, MockProvider};
use weir_tests::gateway::{chat, chat_request};
use weir_tests::http::get;
use weir_tests::weir::{Installation, wait_for};

const PER_MINUTE: u64 = 300;

fn limited(requests_per_minute: u64) -> MockOptions {
    MockOptions {
        requests_per_minute,
        enforce_limits: true,
        limits_return: LimitsReturn::Steadily,
        ..MockOptions::default()
    }
}

fn provider(name: &str, base_url: &str) -> String {
    format!("[[provider]]\nname = \"{name}\"\ndialect = \"openai\"\nbase_url = \"{base_url}\"\n\n")
}

#[test]
fn a_batch_flood_starves_nobody_and_the_provider_refuses_next_to_nothing() {
    const FLOODING: u64 = 4;
    const ASKED: u64 = 60;
    let mock = MockProvider::start(limited(PER_MINUTE)).unwrap();
    let config = provider("mock", &mock.base_url())
        + "[[alias]]\nname = \"fast-chat\"\ntargets = [{ provider = \"mock\", model = \"small\" }]\n";
    let weir = Installation::new(&config).unwrap();
    let (flood, trickle) = (
        weir.create_key("nightly").unwrap(),
        weir.create_key("growth").unwrap(),
    );
    let up = weir.start(&["up"]).unwrap();
    weir.wait_until_ready().unwrap();
    weir.wait_for_store().unwrap();
    weir.wait_until_known(&trickle).unwrap();

    let (over, batch_refused) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut refused = 0;
    std::thread::scope(|scope| {
        for _ in 0..FLOODING {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let call = chat_request(&flood, "fast-chat").header("x-weir-priority", "batch");
                    let answer = call.send(weir.gateway).unwrap();
                    if answer.status == 429 {
                        assert!(answer.message().contains("used up for batch"), "{answer:?}");
                        assert!(answer.header("retry-after").is_some(), "{answer:?}");
                        batch_refused.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        let flooded = wait_for("the flood has used up its part", || {
            Ok(batch_refused.load(Ordering::Relaxed) > 50)
        });
        for _ in 0..ASKED {
            // The pace of somebody who reads the answers, well below what the provider grants.
            std::thread::sleep(Duration::from_millis(300));
            refused += u64::from(chat(weir.gateway, &trickle).status != 200);
        }
        over.store(true, Ordering::Relaxed);
        flooded.unwrap();
    });
    let statuses = mock.ledger().total.by_status;
    println!("refused: {refused} of {ASKED}; at the provider: {statuses:?}");
    assert!(refused * 50 <= ASKED, "{refused} of {ASKED} were refused");
    let at_provider = statuses.get(&429).copied().unwrap_or(0);
    assert!(at_provider * 50 <= statuses[&200], "{statuses:?}");
    // Batch work had most of what there was: all but the part that is kept, and what was asked.
    let batch = statuses[&200] - (ASKED - refused);
    assert!(batch >= PER_MINUTE * 7 / 10, "{statuses:?}");

    let page = get(weir.gateway, "/metrics").unwrap();
    let limit = format!(
        "weir_provider_limit_size{{deployment=\"mock/small\",unit=\"requests\"}} {PER_MINUTE}"
    );
    assert!(page.contains(&limit), "{page}");
    let shown = weir.run(&["routes", "show"]).unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(
        shown.contains(&format!("of {PER_MINUTE} requests left")),
        "{shown}"
    );
    let kind = "SELECT count() FROM weir.requests WHERE error_kind = 'provider_limit' AND team = ";
    let counted = batch_refused.load(Ordering::Relaxed);
    weir.wait_for_number(&format!("{kind}'nightly'"), counted)
        .unwrap();
    drop(up);
}

#[test]
fn a_used_up_limit_sends_requests_to_the_next_provider_and_then_lets_them_wait() {
    let small = MockProvider::start(limited(4)).unwrap();
    let next = MockProvider::start(limited(60)).unwrap();
    let config = provider("small", &small.base_url())
        + &provider("next", &next.base_url())
        + "[[alias]]\nname = \"fast-chat\"\ntargets = [{ provider = \"small\", model = \"m\" }, \
           { provider = \"next\", model = \"m\" }]\n";
    let weir = Installation::new(&config).unwrap();
    weir.add_gateway_settings("provider_limit_wait_ms = 5000")
        .unwrap();
    let key = weir.create_key("growth").unwrap();
    let _gateway = weir.start(&["gateway"]).unwrap();
    weir.wait_until_ready().unwrap();
    weir.wait_until_known(&key).unwrap();

    // More than both have at once and get back meanwhile: the last ones wait for the second's next.
    let waited = "weir_over_provider_limit_total{class=\"interactive\",outcome=\"waited\"}";
    wait_for("requests wait", || {
        for _ in 0..10 {
            let answer = chat(weir.gateway, &key);
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        Ok(get(weir.gateway, "/metrics")?.contains(waited))
    })
    .unwrap();
    assert!(small.ledger().total.calls >= 4 && next.ledger().total.calls >= 60);
    let refused =
        |ledger: weir_loadtest::mock::MockLedger| ledger.total.by_status.get(&429).copied();
    assert_eq!(
        (refused(small.ledger()), refused(next.ledger())),
        (None, None)
    );
}
