//! The admin API, call by call: who may make which one, and what each leaves in the audit trail.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};
use weir_loadtest::mock::{MockOptions, MockProvider};
use weir_tests::weir::{Installation, Process};

use crate::governance::{Answer, chat, config, exchange};

const ROOT: &str = "a-token-of-the-operator";

/// A call, and how it answers an admin, the owner of the team `growth`, an auditor and finance.
type Rule = (&'static str, &'static str, [u16; 4]);

/// Every call of the OpenAPI document, whose objects belong to the team `growth`.
const RULES: [Rule; 29] = [
    ("get", "/openapi.json", [200, 200, 200, 200]),
    ("get", "/keys", [200, 200, 200, 200]),
    ("post", "/keys", [200, 200, 403, 403]),
    ("get", "/keys/{id}", [200, 200, 200, 200]),
    ("post", "/keys/{id}/rotate", [200, 200, 403, 403]),
    ("delete", "/keys/{id}", [200, 200, 403, 403]),
    ("get", "/teams", [200, 200, 200, 200]),
    // Another team than the owner's is none that they know of.
    ("get", "/teams/{id}", [200, 404, 200, 200]),
    ("put", "/teams/{id}", [200, 403, 403, 403]),
    ("delete", "/teams/{id}", [200, 404, 403, 403]),
    ("get", "/limits", [200, 200, 200, 200]),
    ("get", "/limits/{id}", [200, 200, 200, 200]),
    ("put", "/limits/{id}", [200, 403, 403, 403]),
    ("delete", "/limits/{id}", [200, 403, 403, 403]),
    ("get", "/budgets", [200, 200, 200, 200]),
    ("get", "/budgets/{id}", [200, 200, 200, 200]),
    ("put", "/budgets/{id}", [200, 403, 403, 200]),
    ("delete", "/budgets/{id}", [200, 403, 403, 200]),
    ("get", "/access", [200, 200, 200, 200]),
    ("get", "/access/{id}", [200, 200, 200, 200]),
    ("put", "/access/{id}", [200, 403, 403, 403]),
    ("delete", "/access/{id}", [200, 403, 403, 403]),
    ("get", "/payloads", [200, 200, 200, 200]),
    ("get", "/payloads/{id}", [200, 200, 200, 200]),
    ("put", "/payloads/{id}", [200, 403, 403, 403]),
    ("delete", "/payloads/{id}", [200, 403, 403, 403]),
    ("get", "/tokens", [200, 200, 200, 200]),
    ("post", "/tokens", [200, 403, 403, 403]),
    ("delete", "/tokens/{id}", [200, 404, 403, 403]),
];

struct Office {
    weir: Installation,
    up: Process,
}

impl Office {
    fn open() -> Self {
        let mock = MockProvider::start(MockOptions::default()).unwrap();
        let weir = Installation::new(&config(&mock)).unwrap();
        let text = fs::read_to_string(weir.config()).unwrap();
        let token = format!("[gateway]\nadmin_token = \"{ROOT}\"\n");
        fs::write(weir.config(), text.replacen("[gateway]\n", &token, 1)).unwrap();
        let up = weir.start(&["up"]).unwrap();
        weir.wait_until_ready()
            .unwrap_or_else(|error| panic!("{error}\n{}", up.log()));
        Self { weir, up }
    }

    fn call(&self, token: &str, method: &str, path: &str, body: &Value) -> Answer {
        let headers = format!("authorization: Bearer {token}\r\n");
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let line = format!("{} /admin/v1{path}", method.to_uppercase());
        exchange(self.weir.gateway, b"", &line, &headers, &body)
    }

    /// A call that must be done.
    fn done(&self, token: &str, method: &str, path: &str, body: &Value) -> Value {
        let answer = self.call(token, method, path, body);
        assert_eq!(answer.status, 200, "{method} {path}: {}", answer.body);
        answer.json()
    }

    fn token(&self, id: &str, role: &str, team: Option<&str>) -> String {
        let body = json!({ "id": id, "role": role, "team": team });
        let made = self.done(ROOT, "post", "/tokens", &body);
        made["token"].as_str().unwrap().to_owned()
    }

    /// The path of a call, with an object of its own that is there if the call needs one.
    fn path(&self, method: &str, pattern: &str, id: &str) -> (String, String) {
        let kind = pattern.split('/').nth(1).unwrap();
        let id = match (kind, method) {
            (_, _) if !pattern.contains("{id}") => id.to_owned(),
            ("keys", _) => {
                let made = self.done(ROOT, "post", "/keys", &body("keys", id));
                made["id"].as_str().unwrap().to_owned()
            }
            ("tokens", _) => {
                self.done(ROOT, "post", "/tokens", &body("tokens", id));
                id.to_owned()
            }
            (_, "put") => id.to_owned(),
            _ => {
                self.done(ROOT, "put", &format!("/{kind}/{id}"), &body(kind, id));
                id.to_owned()
            }
        };
        (pattern.replace("{id}", &id), id)
    }
}

/// What something of a kind is made of.
fn body(kind: &str, id: &str) -> Value {
    let scope = json!({ "team": "growth" });
    match kind {
        "keys" => json!({ "team": "growth" }),
        "teams" => json!({ "contact": "#llm-help" }),
        "limits" => json!({ "concurrency": 100, "scope": scope }),
        "budgets" => json!({ "tokens": 1_000_000, "window": "day", "scope": scope }),
        "access" => json!({ "models_denied": ["none"], "scope": scope }),
        "payloads" => json!({ "capture": "off", "scope": scope }),
        "tokens" => json!({ "id": id, "role": "auditor" }),
        other => panic!("nothing is known of {other}"),
    }
}

/// What a call is called in the audit trail.
fn action(method: &str, pattern: &str) -> &'static str {
    match (method, pattern) {
        ("post", "/keys/{id}/rotate") => "rotate",
        ("delete", "/keys/{id}") => "revoke",
        ("delete", _) => "delete",
        _ => "create",
    }
}

fn kind_of(pattern: &str) -> &str {
    match pattern.split('/').nth(1).unwrap() {
        "access" => "access",
        plural => plural.strip_suffix('s').unwrap(),
    }
}

#[test]
fn every_call_asks_for_its_role_and_every_change_is_one_audit_row() {
    let office = Office::open();
    let document = office.done("", "get", "/openapi.json", &Value::Null);
    let documented: BTreeSet<(String, String)> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap().keys();
            methods.map(move |method| (method.clone(), path.replacen("/admin/v1", "", 1)))
        })
        .collect();
    let known = RULES.map(|(method, path, _)| (method.to_owned(), path.to_owned()));
    assert_eq!(documented, BTreeSet::from(known));

    let roles = [
        ("ada", "admin", None),
        ("olga", "team_owner", Some("growth")),
        ("aud", "auditor", None),
        ("fin", "finance", None),
    ];
    let tokens = roles.map(|(id, role, team)| office.token(id, role, team));
    let mut expected = BTreeSet::new();
    for (number, (method, pattern, statuses)) in RULES.iter().enumerate() {
        for ((name, role, _), (token, status)) in roles.iter().zip(tokens.iter().zip(statuses)) {
            let (path, id) = office.path(method, pattern, &format!("{name}-{number}"));
            let body = match *method {
                "put" | "post" if !pattern.ends_with("rotate") => {
                    body(pattern.split('/').nth(1).unwrap(), &id)
                }
                _ => Value::Null,
            };
            let answer = office.call(token, method, &path, &body);
            assert_eq!(
                answer.status, *status,
                "{method} {path} by {role}: {}",
                answer.body
            );
            if *status == 403 {
                let message = answer.message();
                let named = format!("the role {role} of token \"{name}\" may not ");
                assert!(message.starts_with(&named), "{message}");
            }
            if *status == 200 && *method != "get" {
                let id = match *pattern {
                    "/keys" => answer.json()["id"].as_str().unwrap().to_owned(),
                    _ => id,
                };
                let action = action(method, pattern);
                expected.insert(format!("token:{name} {action} {} {id}", kind_of(pattern)));
            }
        }
        if *pattern != "/openapi.json" {
            let path = pattern.replace("{id}", "x");
            for stranger in ["", "weir_reader_", "weir_admin_x"] {
                let status = office.call(stranger, method, &path, &Value::Null).status;
                assert_eq!(status, 401, "{method} {path} by {stranger:?}");
            }
        }
    }

    office
        .weir
        .wait_for_store()
        .unwrap_or_else(|error| panic!("{error}\n{}", office.up.log()));
    let by_roles = "FROM weir.control_changes WHERE actor IN ('token:ada', 'token:olga', 'token:aud', 'token:fin')";
    let count = format!("SELECT count() {by_roles}");
    office
        .weir
        .wait_for_number(&count, expected.len() as u64)
        .unwrap();
    let rows = office
        .weir
        .sql(&format!(
            "SELECT actor, action, object_kind, object_id {by_roles}"
        ))
        .unwrap();
    let text = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
    let columns = ["actor", "action", "object_kind", "object_id"];
    let written: BTreeSet<String> = rows
        .iter()
        .map(|row| columns.map(|name| text(row, name)).join(" "))
        .collect();
    assert_eq!(written, expected);
    office.up.stop().unwrap();
}

#[test]
fn a_team_owner_sees_and_reaches_nothing_beyond_the_team() {
    let office = Office::open();
    let owner = office.token("olga", "team_owner", Some("growth"));
    let foreign = office.done(ROOT, "post", "/keys", &json!({ "team": "other" }));
    let foreign = foreign["id"].as_str().unwrap();
    for (method, path) in [
        ("get", format!("/keys/{foreign}")),
        ("post", format!("/keys/{foreign}/rotate")),
        ("delete", format!("/keys/{foreign}")),
    ] {
        let answer = office.call(&owner, method, &path, &Value::Null);
        assert_eq!(answer.status, 404, "{method} {path}: {}", answer.body);
    }
    office.done(&owner, "post", "/keys", &json!({ "team": "growth" }));
    for (path, kind) in [("/limits", "limits"), ("/budgets", "budgets")] {
        office.done(ROOT, "put", &format!("{path}/ours"), &body(kind, ""));
        let mut other = body(kind, "");
        other["scope"] = json!({ "team": "other" });
        office.done(ROOT, "put", &format!("{path}/theirs"), &other);
        other["scope"] = json!({});
        office.done(ROOT, "put", &format!("{path}/everybodys"), &other);
        let listed = office.done(&owner, "get", path, &Value::Null);
        let ids: Vec<&str> = listed["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|rule| rule["id"].as_str().unwrap())
            .collect();
        assert_eq!(ids, ["ours"]);
    }
    let keys = office.done(&owner, "get", "/keys", &Value::Null);
    let teams = keys["data"].as_array().unwrap().iter();
    assert!(teams.clone().count() == 1 && teams.clone().all(|key| key["team"] == "growth"));
    // A tier or organisation of its own would take a key out of its team's limits.
    for field in ["tier", "organisation"] {
        let mut wish = json!({ "team": "growth" });
        wish[field] = "internal".into();
        let answer = office.call(&owner, "post", "/keys", &wish);
        assert_eq!(answer.status, 403, "{}", answer.body);
        assert!(
            answer.message().contains("those of its team"),
            "{}",
            answer.body
        );
    }

    // What cannot be a name, or says nothing, is refused with the field.
    for (method, path, wish, said) in [
        (
            "post",
            "/keys",
            json!({ "team": "growth", "user": "a\u{1f}b" }),
            "user: a name has",
        ),
        ("post", "/keys", json!({ "team": "\0" }), "team: a name has"),
        (
            "post",
            "/keys",
            json!({ "team": "t", "project": "p".repeat(4000) }),
            "project: a name has",
        ),
        ("put", "/access/a", json!({}), "allows and denies nothing"),
        (
            "post",
            "/tokens",
            json!({ "id": "t", "role": "auditor", "team": "t" }),
            "team goes with",
        ),
        (
            "post",
            "/tokens",
            json!({ "id": "t", "role": "team_owner" }),
            "team goes with",
        ),
    ] {
        let answer = office.call(ROOT, method, path, &wish);
        assert_eq!(answer.status, 400, "{wish}: {}", answer.body);
        assert!(answer.message().contains(said), "{}", answer.body);
    }

    // An expired key says so, and an expired token opens nothing.
    let expired = json!({ "team": "growth", "expires_ms": 1 });
    let expired = office.done(&owner, "post", "/keys", &expired);
    let refused = chat(office.weir.gateway, expired["key"].as_str().unwrap());
    assert_eq!(refused.status, 401);
    assert!(
        refused.message().contains("has expired"),
        "{}",
        refused.body
    );
    let late = json!({ "id": "late", "role": "admin", "expires_ms": 1 });
    let late = office.done(ROOT, "post", "/tokens", &late);
    let refused = office.call(
        late["token"].as_str().unwrap(),
        "get",
        "/keys",
        &Value::Null,
    );
    assert_eq!(refused.status, 401, "{}", refused.body);
    office.up.stop().unwrap();
}
