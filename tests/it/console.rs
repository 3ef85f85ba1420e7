//! The console's server, through HTTP: who sees and may do what, and what is answered when something is
//! missing.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;

use serde_json::{Value, json};
use weir_loadtest::mock::{MockHandle, MockOptions, MockProvider};
use weir_tests::gateway::config;
use weir_tests::http::{Answer, Request};
use weir_tests::weir::{Installation, Process, repository, wait_for};

const ROOT: &str = "a-token-of-the-operator";
/// Stands in every column of the other team's rows that a caller chooses.
const SENTINEL: &str = "sentinel";
/// Stands in prompts only.
const PROMPT: &str = "the-secret-of-a-prompt";

/// A gateway with traffic, and a console.
struct Desk {
    weir: Installation,
    console: SocketAddr,
    path: String,
    _mock: MockHandle,
}

/// Somebody who is signed in.
struct Visitor {
    cookie: String,
    csrf: String,
}

impl Desk {
    fn new() -> Self {
        Self::at("")
    }

    /// A console below a path.
    fn at(path: &str) -> Self {
        let mock = MockProvider::start(MockOptions::default()).unwrap();
        let mut weir = Installation::new(&config(&mock)).unwrap();
        weir.add_gateway_settings(&format!("admin_token = \"{ROOT}\""))
            .unwrap();
        let console = weir.add_console(path).unwrap();
        Self {
            weir,
            console,
            path: path.to_owned(),
            _mock: mock,
        }
    }

    fn start(&self, part: &str) -> Process {
        let process = self.weir.start(&[part]).unwrap();
        if part != "console" {
            self.weir.wait_until_ready().unwrap();
        }
        wait_for("the console answers", || {
            let asked = self.get("/").send(self.console);
            Ok(asked.is_ok_and(|answer| answer.status == 200))
        })
        .unwrap_or_else(|error| panic!("{error}\n{}", process.log()));
        process
    }

    fn get(&self, path: &str) -> Request {
        Request::get(&format!("{}{path}", self.path))
    }

    fn sign_in_with(&self, token: &str, headers: &[(&str, &str)]) -> Answer {
        let body = json!({ "token": token }).to_string();
        let request = Request::post(&format!("{}/api/session", self.path), body);
        let request = request.header("content-type", "application/json");
        let request = headers.iter().fold(request, |request, (name, value)| {
            request.header(name, value)
        });
        request.send(self.console).unwrap()
    }

    fn sign_in(&self, token: &str) -> Visitor {
        let answer = self.sign_in_with(token, &[]);
        assert_eq!(answer.status, 200, "{answer:?}");
        let cookie = answer.header("set-cookie").unwrap();
        Visitor {
            cookie: cookie.split(';').next().unwrap().to_owned(),
            csrf: answer.json()["csrf"].as_str().unwrap().to_owned(),
        }
    }

    /// A new token's holder.
    fn holder(&self, id: &str, role: &str, team: &[&str]) -> Visitor {
        let args = [&["tokens", "create", id, "--role", role], team].concat();
        let token = self.weir.run(&args).unwrap();
        self.sign_in(String::from_utf8(token.stdout).unwrap().trim())
    }

    fn ask(&self, visitor: &Visitor, path: &str) -> Answer {
        let request = self.get(&format!("/api/{path}"));
        request
            .header("cookie", &visitor.cookie)
            .send(self.console)
            .unwrap()
    }

    /// The rows of an answer.
    fn rows(&self, visitor: &Visitor, path: &str) -> Vec<Value> {
        let answer = self.ask(visitor, path);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.json()["data"].as_array().unwrap().clone()
    }

    fn change(&self, visitor: &Visitor, method: &str, path: &str, body: &Value) -> Answer {
        let request = Request::new(method, &format!("{}/api/{path}", self.path));
        let request = request.header("cookie", &visitor.cookie);
        let request = request.header("x-weir-csrf", &visitor.csrf);
        request.body(body.to_string()).send(self.console).unwrap()
    }

    fn key(&self, args: &[&str]) -> String {
        let (_, key) = self.weir.create_key_with(args).unwrap();
        self.weir.wait_until_known(&key).unwrap();
        key
    }

    /// Calls as a user, and returns the request's id.
    fn call(&self, key: &str, user: &str, headers: &[(&str, &str)]) -> String {
        let body = json!({
            "model": "fast-chat", "max_tokens": 8, "user": user,
            "messages": [{ "role": "user", "content": PROMPT }],
        });
        let request = Request::post("/v1/chat/completions", body.to_string());
        let request = request
            .bearer(key)
            .header("content-type", "application/json");
        let request = headers.iter().fold(request, |request, (name, value)| {
            request.header(name, value)
        });
        let answer = request.send(self.weir.gateway).unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.request_id().to_owned()
    }

    fn wait_for_requests(&self, count: u64) {
        self.weir.wait_for_store().unwrap();
        self.weir
            .wait_for_number("SELECT count() FROM weir.requests", count)
            .unwrap();
    }
}

/// Every named query, with a value for each of its parameters.
fn named_queries(request_id: &str) -> BTreeMap<String, String> {
    let folder = repository().join("dashboards/src/queries");
    let files = fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path());
    let queries = files.map(|path| {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let sql = fs::read_to_string(&path).unwrap();
        let parameters: Vec<String> = sql
            .split('{')
            .skip(1)
            .filter_map(|rest| rest.split_once('}')?.0.split_once(':'))
            .filter(|(name, _)| !["from", "to", "bucket_s", "rows_max"].contains(name))
            .map(|(name, of_type)| match of_type {
                "UUID" => format!("{name}={request_id}"),
                "UInt64" => format!("{name}=1"),
                _ => format!("{name}={SENTINEL}"),
            })
            .collect();
        let parameters: std::collections::BTreeSet<String> = parameters.into_iter().collect();
        let parameters: Vec<String> = parameters.into_iter().collect();
        (name, parameters.join("&"))
    });
    queries.collect()
}

#[test]
fn nobody_sees_more_than_their_role() {
    let desk = Desk::new();
    let up = desk.start("up");
    desk.weir
        .run(&["payloads", "set", "all", "--capture", "full"])
        .unwrap();
    let ours = desk.key(&["--team", "growth", "--user", "ana"]);
    let theirs = desk.key(&[
        "--team",
        SENTINEL,
        "--user",
        SENTINEL,
        "--project",
        SENTINEL,
        "--env",
        SENTINEL,
    ]);
    let labels = [
        ("x-weir-feature", SENTINEL),
        ("x-weir-customer", SENTINEL),
        ("x-weir-tag-app", SENTINEL),
        ("user-agent", SENTINEL),
    ];
    let own = desk.call(&ours, "ana", &[]);
    let foreign = desk.call(&theirs, SENTINEL, &labels);
    desk.wait_for_requests(2);

    let admin = desk.sign_in(ROOT);
    let auditor = desk.holder("aud", "auditor", &[]);
    let finance = desk.holder("fin", "finance", &[]);
    let owner = desk.holder("olga", "team-owner", &["--team", "growth"]);
    for (name, parameters) in named_queries(&foreign) {
        let path = format!("queries/{name}?{parameters}");
        for reader in [&admin, &auditor] {
            let answer = desk.ask(reader, &path);
            assert_eq!(answer.status, 200, "{path}: {answer:?}");
        }
        let answer = desk.ask(&finance, &path);
        assert!(matches!(answer.status, 200 | 403), "{path}: {answer:?}");
        assert!(!answer.text().contains(PROMPT), "{path}: {answer:?}");
        let answer = desk.ask(&owner, &path);
        assert!(matches!(answer.status, 200 | 403), "{path}: {answer:?}");
        assert!(!answer.text().contains(SENTINEL), "{path}: {answer:?}");
    }
    let payload = format!("queries/request_payload?request_id={foreign}");
    assert!(desk.ask(&auditor, &payload).text().contains(PROMPT));
    assert_eq!(desk.ask(&finance, &payload).status, 403);
    assert_eq!(
        desk.rows(&owner, &format!("queries/request?request_id={own}"))
            .len(),
        1
    );
    assert_eq!(
        desk.rows(&owner, &format!("queries/request?request_id={foreign}"))
            .len(),
        0
    );

    // The explorer, over all that there is, and asked for the other team.
    let known = desk.ask(&owner, "filters").json();
    let names = |of: &str| -> Vec<String> {
        let names = known[of].as_array().unwrap().iter();
        names
            .map(|name| name.as_str().unwrap().to_owned())
            .collect()
    };
    let measures = names("measures")
        .chunks(8)
        .map(|some| some.join(","))
        .collect::<Vec<_>>();
    for by in names("dimensions").iter().chain([&"tag:app".to_owned()]) {
        for how in [
            "",
            "&series=true&compare=true",
            &format!("&team={SENTINEL}"),
        ] {
            let path = format!("explore?by={by}&measure=requests,cost_usd{how}");
            let answer = desk.ask(&owner, &path);
            assert_eq!(answer.status, 200, "{path}: {answer:?}");
            assert!(!answer.text().contains(SENTINEL), "{path}: {answer:?}");
        }
        let answer = desk.ask(&owner, &format!("values/{by}"));
        assert!(!answer.text().contains(SENTINEL), "{by}: {answer:?}");
    }
    for measure in &measures {
        for how in [
            "",
            "&compare=true",
            "&series=true",
            "&from=2026-01-01T00:00:00Z",
        ] {
            let path = format!("explore?by=team&measure={measure}{how}");
            assert_eq!(desk.ask(&owner, &path).status, 200, "{path}");
        }
    }
    assert_eq!(
        desk.rows(&admin, "explore?by=team&measure=requests").len(),
        2
    );
    assert_eq!(
        desk.rows(&owner, "explore?by=team&measure=requests").len(),
        1
    );
    for page in ["gateway/readyz", "gateway/metrics"] {
        assert_eq!(desk.ask(&owner, page).status, 403);
        assert_eq!(desk.ask(&finance, page).status, 200);
    }
    let listed = desk.ask(&owner, "admin/keys");
    assert!(
        listed.status == 200 && !listed.text().contains(SENTINEL),
        "{listed:?}"
    );
    up.stop().unwrap();
}

#[test]
fn changes_need_the_sessions_word_and_the_role() {
    let desk = Desk::new();
    let gateway = desk.start_both("gateway");
    let answer = desk.sign_in_with(ROOT, &[("x-forwarded-proto", "https")]);
    let cookie = answer.header("set-cookie").unwrap();
    for attribute in ["HttpOnly", "SameSite=Strict", "Path=/", "Secure"] {
        assert!(cookie.contains(attribute), "{cookie}");
    }
    assert!(
        cookie.contains(&format!("_{}=", desk.console.port())),
        "{cookie}"
    );
    assert!(!answer.text().contains(ROOT) && !cookie.contains(ROOT));

    let admin = desk.sign_in(ROOT);
    let auditor = desk.holder("aud", "auditor", &[]);
    let finance = desk.holder("fin", "finance", &[]);
    let budget = json!({ "tokens": 1_000, "window": "day", "scope": { "team": "growth" } });
    let forged = Request::new("PUT", "/api/admin/budgets/b").header("cookie", &admin.cookie);
    for request in [forged.clone(), forged.header("x-weir-csrf", "guess")] {
        let answer = request.body(budget.to_string()).send(desk.console).unwrap();
        assert_eq!(answer.status, 403, "{answer:?}");
        assert_eq!(answer.json()["error"]["code"], "permission_denied");
    }
    let set = |visitor| {
        desk.change(visitor, "PUT", "admin/budgets/b", &budget)
            .status
    };
    assert_eq!(set(&auditor), 403);
    assert_eq!(desk.ask(&admin, "admin/budgets").json()["data"], json!([]));
    assert_eq!(set(&finance), 200);
    let listed = desk.ask(&auditor, "admin/budgets").json();
    assert_eq!(listed["data"][0]["id"], "b", "{listed}");
    let limit = json!({ "concurrency": 1 });
    assert_eq!(
        desk.change(&finance, "PUT", "admin/limits/l", &limit)
            .status,
        403
    );
    assert_eq!(
        desk.change(&admin, "PUT", "admin/limits/l", &limit).status,
        200
    );
    for steps in ["admin/../../v1/models", "admin/%2e%2e/x"] {
        assert_eq!(desk.ask(&admin, steps).status, 400, "{steps}");
    }

    // Signed out is signed out, for that session only.
    let again = desk.sign_in(ROOT);
    assert_eq!(
        desk.change(&admin, "DELETE", "session", &Value::Null)
            .status,
        200
    );
    assert_eq!(desk.ask(&admin, "session").status, 401);
    assert_eq!(desk.ask(&again, "session").json()["role"], "admin");
    drop(gateway);
}

#[test]
fn a_token_that_is_revoked_ends_its_sessions() {
    let desk = Desk::new();
    let gateway = desk.start_both("gateway");
    let [first, second] = ["first", "second"].map(|id| desk.holder(id, "auditor", &[]));
    for id in ["first", "second"] {
        desk.weir.run(&["tokens", "revoke", id]).unwrap();
    }
    // What the gateway is asked for, it refuses at once; what only the store is asked for, within a minute.
    assert_eq!(desk.ask(&first, "admin/keys").status, 401);
    assert_eq!(desk.ask(&first, "session").status, 401);
    wait_for("the session ends", || {
        Ok(desk.ask(&second, "session").status == 401)
    })
    .unwrap();

    for (token, expected) in [("", 401), ("weir_admin_x", 401), ("a\u{7f}b", 400)] {
        assert_eq!(desk.sign_in_with(token, &[]).status, expected, "{token:?}");
    }
    let plain = Request::post("/api/session", format!("{{\"token\":\"{ROOT}\"}}"));
    let plain = plain
        .header("content-type", "text/plain")
        .send(desk.console)
        .unwrap();
    assert_eq!(plain.status, 400);
    let guesses: Vec<u16> = (0..30)
        .map(|_| desk.sign_in_with("guess", &[]).status)
        .collect();
    assert_eq!(guesses.last(), Some(&429));
    drop(gateway);
}

impl Desk {
    /// A part, and the console alone.
    fn start_both(&self, part: &str) -> [Process; 2] {
        let part = self.weir.start(&[part]).unwrap();
        self.weir.wait_until_ready().unwrap();
        [part, self.start("console")]
    }
}

#[test]
fn answers_are_exact_bounded_and_harmless() {
    let desk = Desk::at("/weir");
    let up = desk.start("up");
    let key = desk.key(&["--team", "growth"]);
    let users = [
        "=1+1",
        "o'hara\\",
        "<script>alert(1)</script>",
        "a\u{202e}b",
        "', 1) OR ('' = '",
    ];
    for user in users {
        desk.call(&key, user, &[]);
    }
    for _ in users.len()..1_005 {
        desk.call(&key, "ana", &[]);
    }
    desk.wait_for_requests(1_005);
    let admin = desk.sign_in(ROOT);
    for user in users {
        let user = percent(user);
        for path in ["queries/audit_calls?user=", "explore?by=user&user="] {
            let rows = desk.rows(&admin, &format!("{path}{user}"));
            assert_eq!(rows.len(), 1, "{path}{user}");
        }
        let shown = desk.ask(&admin, &format!("queries/audit_calls?user={user}&show=sql"));
        let sql = shown.text();
        assert_eq!(desk.weir.sql(sql.trim()).unwrap().len(), 1, "{sql}");
    }
    let csv = desk.ask(&admin, "explore?by=user&measure=requests&format=csv");
    assert!(csv.text().contains("\"'=1+1\",1\n"), "{csv:?}");
    let disposition = csv.header("content-disposition").unwrap();
    assert!(disposition.contains("attachment"), "{disposition}");

    // As many as the limit says, and that there are more.
    let latest = desk.ask(&admin, "queries/audit_calls");
    assert_eq!(latest.json()["rows"], 1_000);
    assert_eq!(latest.header("x-weir-truncated"), Some("true"));
    let some = desk.ask(
        &admin,
        &format!("queries/audit_calls?user={}", percent("=1+1")),
    );
    assert_eq!(some.header("x-weir-truncated"), None);

    // Figures equal SQL, to the last digit.
    let rows = desk.rows(
        &admin,
        "explore?by=team&measure=cost_usd,requests,output_tokens",
    );
    let said = desk
        .weir
        .sql(
            "SELECT toString(sum(cost_usd)) AS cost, toString(count()) AS requests, \
             toString(sum(output_tokens)) AS tokens FROM weir.requests WHERE team = 'growth'",
        )
        .unwrap();
    let said = &said[0];
    assert_eq!(
        rows,
        [json!([
            "growth",
            said["cost"],
            said["requests"],
            said["tokens"]
        ])]
    );

    for (path, word) in [
        ("queries/audit_calls?colour=red", "colour"),
        ("queries/spend_and_waste_by_day?user=ana", "user"),
        ("queries/audit_calls?status=teapot", "status"),
        ("queries/audit_calls?from=yesterday", "from"),
        ("queries/request?request_id=1", "request_id"),
        ("queries/request", "request_id"),
        ("explore?by=colour", "colour"),
        ("explore?by=team&measure=money", "money"),
        ("values/day", "day"),
        ("queries/audit_calls?format=xml", "format"),
    ] {
        let answer = desk.ask(&admin, path);
        assert_eq!(answer.status, 400, "{path}: {answer:?}");
        assert!(answer.message().contains(word), "{path}: {answer:?}");
    }
    assert_eq!(desk.ask(&admin, "queries/none").status, 404);

    // Below its path and nowhere else, with its headers on everything.
    let root = Request::get("/").send(desk.console).unwrap();
    let bare = Request::get("/weir").send(desk.console).unwrap();
    assert_eq!((root.status, bare.status), (404, 308));
    assert_eq!(bare.header("location"), Some("/weir/"));
    for answer in [
        root,
        bare,
        desk.get("/").send(desk.console).unwrap(),
        latest,
    ] {
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
    for path in [
        "session",
        "filters",
        "queries/audit_calls",
        "explore",
        "values/team",
        "tail",
        "admin/keys",
        "gateway/readyz",
    ] {
        let answer = desk
            .get(&format!("/api/{path}"))
            .send(desk.console)
            .unwrap();
        assert_eq!(answer.status, 401, "{path}: {answer:?}");
    }
    up.stop().unwrap();
}

/// A text as a value in a URL.
fn percent(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[test]
fn what_is_away_is_said_and_comes_back() {
    let desk = Desk::new();
    let [mut gateway, _console] = desk.start_both("gateway");
    let admin = desk.sign_in(ROOT);
    let away = desk.ask(&admin, "queries/audit_calls");
    assert_eq!(away.json()["error"]["code"], "store_away", "{away:?}");
    assert_eq!(away.status, 503);
    let _ingestor = desk.weir.start(&["ingestor"]).unwrap();
    wait_for("the store is back", || {
        Ok(desk.ask(&admin, "queries/audit_calls").status == 200)
    })
    .unwrap();

    gateway.kill().unwrap();
    for path in ["admin/keys", "gateway/readyz"] {
        let away = desk.ask(&admin, path);
        assert_eq!(away.json()["error"]["code"], "gateway_away", "{away:?}");
        assert_eq!(away.status, 503);
    }
    assert_eq!(desk.sign_in_with(ROOT, &[]).status, 503);
    // Who is signed in goes on reading.
    assert_eq!(desk.rows(&admin, "queries/audit_calls").len(), 0);
}

#[test]
fn live_requests_arrive_for_who_may_see_them() {
    use std::io::Read as _;
    let desk = Desk::new();
    let up = desk.start("up");
    let [ours, theirs] = ["growth", SENTINEL].map(|team| desk.key(&["--team", team]));
    desk.call(&theirs, SENTINEL, &[]);
    desk.wait_for_requests(1);
    let owner = desk.holder("olga", "team-owner", &["--team", "growth"]);
    let follow = desk.get("/api/tail").header("cookie", &owner.cookie);
    let mut stream = follow.open(desk.console).unwrap();
    desk.call(&theirs, SENTINEL, &[]);
    let own = desk.call(&ours, "ana", &[]);
    let mut read = Vec::new();
    let mut piece = [0; 4096];
    wait_for("the request is in the stream", || {
        let length = stream.read(&mut piece)?;
        read.extend_from_slice(&piece[..length]);
        Ok(String::from_utf8_lossy(&read).contains(&own))
    })
    .unwrap();
    let text = String::from_utf8_lossy(&read);
    assert!(text.contains("content-type: text/event-stream"), "{text}");
    assert!(text.contains("event: state"), "{text}");
    assert!(!text.contains(SENTINEL), "{text}");
    up.stop().unwrap();
}
