//! Who changes keys or rules finds the change in force when the command, or the admin API, returns.

use serde_json::{Value, json};
use weir_tests::gateway::MockedGateway;
use weir_tests::http::Request;

/// Enough for a change to fall anywhere between two looks of the gateway.
const ROUNDS: usize = 10;

#[test]
fn a_command_returns_when_its_change_is_in_force() {
    let gateway = MockedGateway::start();
    for round in 0..ROUNDS {
        let team = format!("team-{round}");
        let (id, key) = gateway.key(&["--team", &team]);
        assert_eq!(gateway.chat(&key).status, 200, "round {round}: created");
        let none = ["budgets", "set", &team, "--team", &team, "--tokens", "1"];
        gateway.run(&none);
        assert_eq!(
            gateway.chat(&key).json()["error"]["code"],
            "insufficient_quota"
        );
        gateway.run(&["budgets", "delete", &team]);
        assert_eq!(gateway.chat(&key).status, 200, "round {round}: no budget");
        gateway.run(&["keys", "revoke", &id]);
        assert_eq!(gateway.chat(&key).status, 401, "round {round}: revoked");
    }
}

#[test]
fn the_admin_api_answers_when_its_change_is_in_force() {
    let gateway = MockedGateway::start();
    let created = gateway.run(&["tokens", "create", "ops", "--role", "admin", "--json"]);
    let created: Value = serde_json::from_slice(&created.stdout).unwrap();
    let token = created["token"].as_str().unwrap();
    for round in 0..ROUNDS {
        let new = Request::post("/admin/v1/keys", json!({ "team": "growth" }).to_string());
        let made = gateway.send(&new.bearer(token));
        assert_eq!(made.status, 200, "{made:?}");
        let key = made.json()["key"].as_str().unwrap().to_owned();
        assert_eq!(gateway.chat(&key).status, 200, "round {round}");
        let path = format!("/admin/v1/keys/{}", made.json()["id"].as_str().unwrap());
        let revoked = gateway.send(&Request::new("DELETE", &path).bearer(token));
        assert_eq!(revoked.status, 200, "{revoked:?}");
        assert_eq!(gateway.chat(&key).status, 401, "round {round}");
    }
}

#[test]
fn without_a_gateway_a_command_returns_and_says_nothing_of_one() {
    let mut gateway = MockedGateway::start();
    gateway.stop();
    let made = gateway.run(&["keys", "create", "--team", "growth"]);
    let said = String::from_utf8(made.stderr).unwrap();
    assert!(!said.contains("gateway"), "{said}");
    gateway.restart();
    gateway.process.as_mut().unwrap().kill().unwrap();
    let made = gateway.run(&["keys", "create", "--team", "growth"]);
    let said = String::from_utf8(made.stderr).unwrap();
    assert!(!said.contains("gateway"), "killed: {said}");
}

#[test]
fn a_gateway_that_does_not_follow_is_told_of_and_the_change_is_made() {
    let gateway = MockedGateway::start();
    let process = gateway.process.as_ref().unwrap();
    process.signal("STOP").unwrap();
    let made = gateway
        .weir
        .command(&["keys", "create", "--team", "growth"]);
    let made = { made }.output().unwrap();
    process.signal("CONT").unwrap();
    let said = String::from_utf8(made.stderr).unwrap();
    assert_eq!(made.status.code(), Some(1), "{said}");
    assert!(
        said.contains("1 running gateway(s)") && said.contains("5 s"),
        "{said}"
    );
    let key = String::from_utf8(made.stdout).unwrap();
    gateway.weir.wait_until_known(key.trim()).unwrap();
}
