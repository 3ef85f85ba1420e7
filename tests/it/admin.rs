//! The admin API, call by call: who may make which one, and what each leaves in the audit trail.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use weir_controller::TablePolicy;
use weir_eventlog::{RecordLog, TableLog, TableLogError};
use weir_loadtest::mock::{MockHandle, MockOptions, MockProvider};
use weir_schemas::table::TableRecord;
use weir_tests::gateway::{chat, config};
use weir_tests::http::{Answer, Request};
use weir_tests::weir::{Installation, Process, wait_for};

const ROOT: &str = "a-token-of-the-operator";

/// A call, and how it answers an admin, the owner of the team `growth`, an auditor and finance.
type Rule = (&'static str, &'static str, [u16; 4]);

/// Every call of the OpenAPI document, whose objects belong to the team `growth`.
const RULES: [Rule; 35] = [
    ("get", "/openapi.json", [200, 200, 200, 200]),
    ("get", "/self", [200, 200, 200, 200]),
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
    ("get", "/routing", [200, 403, 200, 200]),
    ("post", "/routing/freeze", [200, 403, 403, 403]),
    ("post", "/routing/resume", [200, 403, 403, 403]),
    ("post", "/routing/pin", [200, 403, 403, 403]),
    ("post", "/routing/rollback", [200, 403, 403, 403]),
];

struct Office {
    weir: Installation,
    process: Process,
    _mock: MockHandle,
}

impl Office {
    /// The audit trail is in the store, which only `weir up` starts.
    fn open(command: &str) -> Self {
        let mock = MockProvider::start(MockOptions::default()).unwrap();
        // Strangers call more often here than is usual.
        let strangers = "[gateway.unauthenticated]\nrequests_per_minute = 10_000\n";
        let weir = Installation::new(&(config(&mock) + strangers)).unwrap();
        weir.add_gateway_settings(&format!("admin_token = \"{ROOT}\""))
            .unwrap();
        let process = weir.start(&[command]).unwrap();
        weir.wait_until_ready()
            .unwrap_or_else(|error| panic!("{error}\n{}", process.log()));
        Self {
            weir,
            process,
            _mock: mock,
        }
    }

    fn call(&self, token: &str, method: &str, path: &str, body: &Value) -> Answer {
        let call = Request::new(&method.to_uppercase(), &format!("/admin/v1{path}"));
        let call = call.bearer(token);
        let call = match body {
            Value::Null => call,
            body => call.body(body.to_string()),
        };
        call.send(self.weir.gateway).unwrap()
    }

    fn wait_for_store(&self) {
        let store = self.weir.wait_for_store();
        store.unwrap_or_else(|error| panic!("{error}\n{}", self.process.log()));
    }

    /// The status of a chat with a key.
    fn chat(&self, key: &str) -> u16 {
        chat(self.weir.gateway, key).status
    }

    /// A call that must be done.
    fn done(&self, token: &str, method: &str, path: &str, body: &Value) -> Value {
        let answer = self.call(token, method, path, body);
        assert_eq!(answer.status, 200, "{method} {path}: {answer:?}");
        answer.json()
    }

    fn token(&self, id: &str, role: &str, team: Option<&str>) -> String {
        let body = json!({ "id": id, "role": role, "team": team });
        let made = self.done(ROOT, "post", "/tokens", &body);
        made["token"].as_str().unwrap().to_owned()
    }

    /// Publishes routing tables, as the ingestor does.
    fn publish_tables(&self, count: u64) {
        let path = self.weir.data_dir().join("control/routing.log");
        let mut tables = TableLog::new(RecordLog::File(path), TablePolicy::default());
        let published = (1..=count).map(table_of).collect();
        tables
            .change::<TableLogError>(|_, _| Ok(published))
            .unwrap();
    }

    /// The path of a call, with an object of its own that is there if the call needs one.
    fn path(&self, method: &str, pattern: &str, id: &str) -> (String, String) {
        let kind = pattern.split('/').nth(1).unwrap();
        let id = match (kind, method) {
            (kind, _) if kind != "routing" && !pattern.contains("{id}") => id.to_owned(),
            ("keys", _) => {
                let made = self.done(ROOT, "post", "/keys", &body("keys", id));
                made["id"].as_str().unwrap().to_owned()
            }
            ("routing", _) => "routing".to_owned(),
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

/// The routing table of this number, in which more than before goes to one target.
fn table_of(version: u64) -> TableRecord {
    let table = json!({
        "version": version, "made_at_us": 5_000_000 + version, "from_us": 1_000_000, "to_us": 4_000_000,
        "inputs": [], "origin": "measured", "ages": true,
        "trusted_us": 60_000_000, "forgotten_us": 600_000_000,
        "aliases": [{ "alias": "chat", "output_tokens_mean": 12.5, "targets": [{
            "deployment": "quick/m", "weight": 1.0 + version as f64 / 10.0, "ttft_us": 250_000.0,
            "ttft_p95_us": null, "error_ratio": 0.0, "output_tokens_per_s": null,
            "picousd_per_token": null, "tries": 500, "change": "capped",
        }] }],
    });
    TableRecord::Published(serde_json::from_value(table).unwrap())
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
        "routing" => json!({ "version": 2 }),
        other => panic!("nothing is known of {other}"),
    }
}

/// What a call is called in the audit trail.
fn action(method: &str, pattern: &str) -> &'static str {
    match (method, pattern) {
        ("post", "/keys/{id}/rotate") => "rotate",
        ("delete", "/keys/{id}") => "revoke",
        ("delete", _) => "delete",
        (_, pattern) if pattern.starts_with("/routing") => "update",
        _ => "create",
    }
}

fn kind_of(pattern: &str) -> &str {
    match pattern.split('/').nth(1).unwrap() {
        "access" => "access",
        "routing" => "table",
        plural => plural.strip_suffix('s').unwrap(),
    }
}

#[test]
fn every_call_asks_for_its_role_and_every_change_is_one_audit_row() {
    let office = Office::open("up");
    office.publish_tables(4);
    let document = office.done("", "get", "/openapi.json", &Value::Null);
    let change = &document["paths"]["/admin/v1/budgets/{id}"]["put"];
    assert!(change["requestBody"].is_object(), "{change}");
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
    let mut expected = Vec::new();
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
                "{method} {path} by {role}: {answer:?}"
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
                expected.push(format!("token:{name} {action} {} {id}", kind_of(pattern)));
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

    office.wait_for_store();
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
    let mut written: Vec<String> = rows
        .iter()
        .map(|row| columns.map(|name| text(row, name)).join(" "))
        .collect();
    written.sort();
    expected.sort();
    assert_eq!(written, expected);
    office.process.stop().unwrap();
}

#[test]
fn a_team_owner_sees_and_reaches_nothing_beyond_the_team() {
    let office = Office::open("gateway");
    let owner = office.token("olga", "team_owner", Some("growth"));
    let foreign = office.done(ROOT, "post", "/keys", &json!({ "team": "other" }));
    let foreign = foreign["id"].as_str().unwrap();
    for (method, path) in [
        ("get", format!("/keys/{foreign}")),
        ("post", format!("/keys/{foreign}/rotate")),
        ("delete", format!("/keys/{foreign}")),
    ] {
        let answer = office.call(&owner, method, &path, &Value::Null);
        assert_eq!(answer.status, 404, "{method} {path}: {answer:?}");
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
        assert_eq!(answer.status, 403, "{answer:?}");
        assert!(answer.message().contains("those of its team"), "{answer:?}");
    }
    office.process.stop().unwrap();
}

#[test]
fn a_body_that_makes_no_sense_is_refused_with_the_field() {
    let office = Office::open("gateway");
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
        (
            "put",
            "/limits/l",
            json!({ "concurrency": 0, "x": 1 }),
            "unknown field",
        ),
        (
            "put",
            "/limits/l",
            json!({ "id": "m", "concurrency": 1 }),
            "id",
        ),
    ] {
        let answer = office.call(ROOT, method, path, &wish);
        assert_eq!(answer.status, 400, "{wish}: {answer:?}");
        assert!(answer.message().contains(said), "{wish}: {answer:?}");
    }
    office.process.stop().unwrap();
}

#[test]
fn routing_is_shown_with_what_it_rests_on_and_commanded_with_what_was_wrong() {
    let office = Office::open("gateway");
    let refused = |path: &str, wish: Value| {
        let answer = office.call(ROOT, "post", path, &wish);
        (answer.status, answer.message())
    };
    let nothing = office.done(ROOT, "get", "/routing", &Value::Null);
    assert_eq!(
        (&nothing["table"], &nothing["history"]),
        (&Value::Null, &json!([]))
    );
    let (status, why) = refused("/routing/freeze", Value::Null);
    assert!(
        status == 409 && why.contains("no routing table was published"),
        "{why}"
    );

    office.publish_tables(3);
    let auditor = office.token("aud", "auditor", None);
    let shown = office.done(&auditor, "get", "/routing", &Value::Null);
    assert_eq!(shown["mode_in_words"], "measurements decide");
    assert_eq!(shown["table"]["version"], 3);
    let target = &shown["table"]["aliases"][0]["targets"][0];
    let weights = (&target["weight"], &target["weight_before"]);
    assert_eq!(weights, (&json!(1.3), &json!(1.2)));
    assert_eq!(
        (&target["tries"], &target["ttft_us"]),
        (&json!(500), &json!(250_000.0))
    );
    assert_eq!(
        target["change_in_words"],
        "capped: one refresh moves only so far"
    );
    let versions = |shown: &Value| -> Vec<Value> {
        let history = shown["history"].as_array().unwrap().iter();
        history.map(|table| table["version"].clone()).collect()
    };
    assert_eq!(versions(&shown), [3, 2, 1]);

    for (path, wish, status, said) in [
        (
            "/routing/pin",
            json!({ "version": 9 }),
            404,
            "routing table 9 is not kept any more",
        ),
        ("/routing/pin", json!({}), 400, "missing field `version`"),
        (
            "/routing/pin",
            json!({ "version": 1, "why": "" }),
            400,
            "unknown field `why`",
        ),
        ("/routing/resume", Value::Null, 409, "not frozen or pinned"),
    ] {
        let (found, why) = refused(path, wish);
        assert!(
            found == status && why.contains(said),
            "{path}: {found} {why}"
        );
    }
    let pinned = office.done(ROOT, "post", "/routing/pin", &json!({ "version": 1 }));
    assert_eq!(
        (&pinned["mode"], &pinned["table"]["version"]),
        (&json!({ "pinned": { "version": 1 } }), &json!(4))
    );
    assert_eq!(
        pinned["table"]["origin_in_words"],
        "table 1, pinned by an operator"
    );
    assert_eq!(versions(&pinned), [4, 3, 2, 1]);
    // The command line sees the same, and its commands are seen here.
    let said = office.weir.run(&["routes", "resume"]).unwrap();
    assert!(String::from_utf8_lossy(&said.stdout).contains("routing table 5 is in force"));
    wait_for("the gateway goes by the table", || {
        let shown = office.done(&auditor, "get", "/routing", &Value::Null);
        Ok(shown["adopted_version"] == 5 && shown["mode"] == "measuring")
    })
    .unwrap();
    office.process.stop().unwrap();
}

#[test]
fn an_expired_key_says_so_and_an_expired_token_opens_nothing() {
    let office = Office::open("gateway");
    let expired = json!({ "team": "growth", "expires_ms": 1 });
    let expired = office.done(ROOT, "post", "/keys", &expired);
    let refused = chat(office.weir.gateway, expired["key"].as_str().unwrap());
    assert_eq!(refused.status, 401);
    assert!(refused.message().contains("has expired"), "{refused:?}");
    let late = json!({ "id": "late", "role": "admin", "expires_ms": 1 });
    let late = office.done(ROOT, "post", "/tokens", &late);
    let refused = office.call(
        late["token"].as_str().unwrap(),
        "get",
        "/keys",
        &Value::Null,
    );
    assert_eq!(refused.status, 401, "{refused:?}");
    office.process.stop().unwrap();
}

#[test]
fn a_change_of_a_key_or_token_is_in_force_when_its_call_returns() {
    let office = Office::open("gateway");
    let owner = office.token("olga", "team_owner", Some("growth"));
    let made = office.done(&owner, "post", "/keys", &json!({ "team": "growth" }));
    let (id, key) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    assert_eq!(office.chat(key), 200);

    let no_grace = json!({ "grace_ms": 0 });
    let rotated = office.done(&owner, "post", &format!("/keys/{id}/rotate"), &no_grace);
    let new = rotated["key"].as_str().unwrap();
    assert_eq!((office.chat(key), office.chat(new)), (401, 200));
    office.done(&owner, "delete", &format!("/keys/{id}"), &Value::Null);
    assert_eq!(office.chat(new), 401);

    office.done(ROOT, "delete", "/tokens/olga", &Value::Null);
    let refused = office.call(&owner, "get", "/keys", &Value::Null);
    assert_eq!(refused.status, 401, "{refused:?}");
    office.process.stop().unwrap();
}

#[test]
fn a_budget_shows_what_is_spent_and_a_key_when_it_was_used() {
    let office = Office::open("gateway");
    office.done(ROOT, "put", "/budgets/b", &body("budgets", "b"));
    let made = office.done(ROOT, "post", "/keys", &body("keys", ""));
    assert_eq!(office.chat(made["key"].as_str().unwrap()), 200);
    let auditor = office.token("aud", "auditor", None);
    wait_for("the budget shows what is spent", || {
        let listed = office.done(&auditor, "get", "/budgets", &Value::Null);
        let standing = &listed["data"][0]["standings"][0];
        Ok(standing["spent"] != "0" && standing["reserved"] == "0")
    })
    .unwrap();
    let path = format!("/keys/{}", made["id"].as_str().unwrap());
    let seen = office.done(&auditor, "get", &path, &Value::Null);
    assert!(seen["last_used_ms"].as_u64().unwrap() > 0, "{seen}");
    assert!(seen.get("hash").is_none(), "{seen}");
    office.process.stop().unwrap();
}

/// A rule's kind and path, and what it is before and after a change.
fn changed_rules() -> [(&'static str, &'static str, Value, Value); 4] {
    [
        (
            "team",
            "teams",
            json!({ "contact": "a" }),
            json!({ "contact": "b" }),
        ),
        (
            "limit",
            "limits",
            json!({ "concurrency": 1 }),
            json!({ "concurrency": 2 }),
        ),
        (
            "budget",
            "budgets",
            json!({ "tokens": 1, "window": "day" }),
            json!({ "tokens": 2, "window": "day" }),
        ),
        (
            "access",
            "access",
            json!({ "models_denied": ["a"] }),
            json!({ "models_denied": ["b"] }),
        ),
    ]
}

#[test]
fn the_audit_trail_has_every_rule_before_and_after_a_change_and_no_secret() {
    let office = Office::open("up");
    let rules = changed_rules();
    for (_, path, first, second) in &rules {
        let place = format!("/{path}/audited");
        office.done(ROOT, "put", &place, first);
        office.done(ROOT, "put", &place, second);
        office.done(ROOT, "delete", &place, &Value::Null);
    }
    let made = office.done(ROOT, "post", "/keys", &body("keys", ""));
    let rotate = format!("/keys/{}/rotate", made["id"].as_str().unwrap());
    office.done(ROOT, "post", &rotate, &json!({ "grace_ms": 0 }));

    office.wait_for_store();
    let by_operator = "FROM weir.control_changes WHERE actor = 'token:configured'";
    let changes = 3 * rules.len() as u64 + 2;
    office
        .weir
        .wait_for_number(&format!("SELECT count() {by_operator}"), changes)
        .unwrap();
    let rows = office
        .weir
        .sql(&format!(
            "SELECT object_kind, action, before, after {by_operator} AND object_id = 'audited' ORDER BY ts, seq"
        ))
        .unwrap();
    assert_eq!(rows.len(), 3 * rules.len());
    for (rows, (kind, _, first, second)) in rows.chunks(3).zip(&rules) {
        assert_change(&rows[0], kind, "create", None, Some(first));
        assert_change(&rows[1], kind, "update", Some(first), Some(second));
        assert_change(&rows[2], kind, "delete", Some(second), None);
    }
    let secrets = "SELECT count() FROM weir.control_changes \
                   WHERE before LIKE '%hash%' OR after LIKE '%hash%' OR after LIKE '%weir_%'";
    assert_eq!(office.weir.number(secrets).unwrap(), 0);
    office.process.stop().unwrap();
}

/// A row says that a rule was changed from what holds `before` to what holds `after`.
fn assert_change(
    row: &Value,
    kind: &str,
    action: &str,
    before: Option<&Value>,
    after: Option<&Value>,
) {
    assert_eq!(
        (&row["object_kind"], &row["action"]),
        (&json!(kind), &json!(action))
    );
    for (side, wanted) in [("before", before), ("after", after)] {
        let Some(wanted) = wanted else { continue };
        let record: Value = serde_json::from_str(row[side].as_str().unwrap()).unwrap();
        for (name, value) in wanted.as_object().unwrap() {
            assert_eq!(&record[name], value, "{side}: {row}");
        }
    }
}
