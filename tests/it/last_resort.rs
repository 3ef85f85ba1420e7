//! When no target is available, the least bad one is tried, and the log says why. Where providers'
//! limits are used up, none is.

use weir_loadtest::mock::{FaultKind, FaultRule, MockOptions, MockProvider};
use weir_tests::gateway::chat_request;
use weir_tests::weir::Installation;

#[test]
fn a_request_that_found_nobody_available_says_so_in_sql_and_in_words() {
    let refusing = |name: &str, kind| {
        let faults = vec![FaultRule {
            retry_after_s: Some(60),
            ..FaultRule::always(kind)
        }];
        MockProvider::start(MockOptions {
            name: name.into(),
            faults,
            ..MockOptions::default()
        })
        .unwrap()
    };
    let mocks = [
        refusing("down-1", FaultKind::Unavailable),
        refusing("down-2", FaultKind::Unavailable),
        refusing("full-1", FaultKind::RateLimit),
        refusing("full-2", FaultKind::RateLimit),
    ];
    let mut config = String::new();
    for mock in &mocks {
        config += &format!(
            "[[provider]]\nname = \"{}\"\ndialect = \"openai\"\nbase_url = \"{}\"\n\n",
            mock.name(),
            mock.base_url()
        );
    }
    for alias in ["down", "full"] {
        config += &format!(
            "[[alias]]\nname = \"{alias}\"\ntargets = [{{ provider = \"{alias}-1\", model = \"m\" }}, \
             {{ provider = \"{alias}-2\", model = \"m\" }}]\n\n"
        );
    }
    let weir = Installation::new(&config).unwrap();
    let key = weir.create_key("routing").unwrap();
    let _up = weir.start(&["up"]).unwrap();
    weir.wait_until_ready().unwrap();
    weir.wait_for_store().unwrap();

    let [first, second] = [(); 2].map(|()| call(&weir, &key, "down", 503));
    let [last, too_late] = [(); 2].map(|()| call(&weir, &key, "full", 429));
    let tried = |id: &str| {
        let row = format!("SELECT count() FROM weir.requests WHERE request_id = '{id}'");
        weir.wait_for_number(&row, 1).unwrap();
        let row =
            format!("SELECT last_resort, attempts FROM weir.requests WHERE request_id = '{id}'");
        let row = weir.sql(&row).unwrap().remove(0);
        let reason = row["last_resort"].as_str().unwrap().to_owned();
        (reason, row["attempts"].as_u64().unwrap() > 0)
    };
    assert_eq!(tried(&first), (String::new(), true), "both were in service");
    assert_eq!(tried(&second), ("told_to_wait".into(), true));
    assert_eq!(tried(&last), (String::new(), true));
    assert_eq!(tried(&too_late), (String::new(), false), "nobody is asked");

    let words = |id: &str| {
        let output = weir.run(&["routes", "explain", id]).unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let said = "last resort, as no target was available: told to wait";
    assert!(words(&second).contains(said), "{}", words(&second));
    for id in [first, last, too_late] {
        assert!(!words(&id).contains("last resort"), "{}", words(&id));
    }
}

/// A refused call. Returns its request id.
fn call(weir: &Installation, key: &str, alias: &str, status: u16) -> String {
    let answer = chat_request(key, alias).send(weir.gateway).unwrap();
    assert_eq!(answer.status, status, "{answer:?}");
    answer.header("x-request-id").unwrap().to_owned()
}
