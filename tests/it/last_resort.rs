//! When no target is available, the least bad one is tried, and the log says why.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use weir_loadtest::mock::{FaultKind, FaultRule, MockOptions, MockProvider};
use weir_tests::weir::{Installation, PATIENCE};

#[test]
fn a_request_that_found_nobody_available_says_so_in_sql_and_in_words() {
    let refuse = FaultRule {
        retry_after_s: Some(60),
        ..FaultRule::always(FaultKind::RateLimit)
    };
    let mocks = ["one", "two"].map(|name| {
        MockProvider::start(MockOptions {
            name: name.into(),
            faults: vec![refuse.clone()],
            ..MockOptions::default()
        })
        .unwrap()
    });
    let mut config = String::new();
    for mock in &mocks {
        config += &format!(
            "[[provider]]\nname = \"{}\"\ndialect = \"openai\"\nbase_url = \"{}\"\n\n",
            mock.name(),
            mock.base_url()
        );
    }
    config += "[[alias]]\nname = \"chat\"\ntargets = [{ provider = \"one\", model = \"m\" }, \
               { provider = \"two\", model = \"m\" }]\n";
    let weir = Installation::new(&config).unwrap();
    let key = weir.create_key("routing").unwrap();
    let _up = weir.start(&["up"]).unwrap();
    weir.wait_until_ready().unwrap();
    weir.wait_for_store().unwrap();

    let first = call(&weir, &key);
    let second = call(&weir, &key);
    let reason = |id: &str| {
        let row = format!("SELECT count() FROM weir.requests WHERE request_id = '{id}'");
        weir.wait_for_number(&row, 1).unwrap();
        let row = format!("SELECT last_resort FROM weir.requests WHERE request_id = '{id}'");
        let row = weir.sql(&row).unwrap().remove(0);
        row["last_resort"].as_str().unwrap().to_owned()
    };
    assert_eq!(reason(&first), "", "both were in service");
    assert_eq!(reason(&second), "told_to_wait");

    let words = |id: &str| {
        let output = weir.run(&["routes", "explain", id]).unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let said = "last resort, as no target was available: told to wait";
    assert!(!words(&first).contains("last resort"), "{}", words(&first));
    assert!(words(&second).contains(said), "{}", words(&second));
}

/// A refused call. Returns its request id.
fn call(weir: &Installation, key: &str) -> String {
    let body = r#"{"model":"chat","messages":[{"role":"user","content":"hi"}]}"#;
    let mut connection = TcpStream::connect(weir.gateway).unwrap();
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: weir\r\nauthorization: Bearer {key}\r\n\
         content-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    connection.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 429"), "{answer}");
    let mut lines = answer.lines();
    let id = lines.find_map(|line| line.strip_prefix("x-request-id: "));
    id.unwrap().to_owned()
}
