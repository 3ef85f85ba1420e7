//! Questions of an audit: `weir audit calls`, and every file of `dashboards/queries`, against known
//! rows; and how long the answers take with as many rows as one likes.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};
use weir_store::Store;
use weir_tests::http::Request;
use weir_tests::weir::{Installation, python, repository};

use crate::store::{Running, alone, as_user, password};

/// An installation whose tables are in a store of the test's.
async fn installation(running: &Running) -> Installation {
    running.store().migrate(3650).await.unwrap();
    Installation::new(&format!("{}retention_days = 3650\n", running.settings())).unwrap()
}

async fn run(store: &Store, sql: &str) {
    let mut answer = store.raw_query(sql, "Null").unwrap();
    while answer.next().await.unwrap().is_some() {}
}

fn lines(weir: &Installation, args: &[&str]) -> Vec<String> {
    let output = weir.run(args).unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// Requests as (hours ago, team, user, key, address, model, cost in USD, tokens in, tokens out).
const REQUESTS: &str = "
    (1,    'growth',   'ana',  'k1', '10.0.0.1', 'opus',   1.5,  1000, 100),
    (2,    'growth',   'ana',  'k1', '10.0.0.1', 'opus',   0.5,  500,  50),
    (30,   'growth',   'ben',  'k1', '10.0.0.1', 'gemini', 0.25, 100,  10),
    (3,    'growth',   'o\\'hara', 'k1', '10.9.9.9', 'opus', 0.125, 10, 1),
    (2000, 'research', 'cleo', 'k2', '10.0.0.2', 'opus',   4,    9000, 900),
    (4,    'research', 'cleo', 'k2', '10.0.0.2', 'secret', NULL, 70,   7),
    (2300, 'research', 'cleo', 'k2', '10.0.0.2', 'opus',   8,    1,    1)";

/// Tries as (hours ago, number, kind, cause, deployment, error, delivered, cost in USD).
const ATTEMPTS: &str = "
    (1, 1, 'first',    '',             'a/opus', 'server_error', false, 0),
    (1, 2, 'retry',    'server_error', 'a/opus', 'timeout',      false, 0.25),
    (1, 3, 'fallback', 'timeout',      'b/opus', '',             true,  1.5),
    (2, 1, 'first',    '',             'a/opus', '',             true,  0.5)";

/// The rows; what they have in common stands in the statement.
async fn fill(store: &Store) {
    let requests = format!(
        "INSERT INTO requests (stream, seq, ts, request_id, organisation, team, user, key_id, \
         client_ip, feature, alias, provider, model, status, attempts, cost_usd, unpriced_reason, \
         input_tokens, output_tokens, ttft_us, total_us) \
         SELECT '018bcfe5-6800-7000-8000-000000000001', 10 + rowNumberInAllBlocks(), \
         now64(6) - toIntervalHour(ago), toUUID('018bcfe5-6800-7000-8000-00000000000' || toString(rowNumberInAllBlocks())), \
         'acme', team, user, key, ip, 'onboarding', 'fast-chat', 'a', model, 200, 1, cost, \
         if(cost IS NULL, 'the price book does not have the model', ''), input, \
         output, 200000, 900000 FROM values('ago UInt32, team String, user String, key String, \
         ip String, model String, cost Nullable(Decimal(38, 12)), input UInt64, output UInt64', {REQUESTS})"
    );
    run(store, &requests).await;
    let attempts = format!(
        "INSERT INTO attempts (stream, seq, ts, request_id, attempt, kind, cause, deployment, \
         provider, error_kind, delivered, cost_usd, alias, team, user) \
         SELECT '018bcfe5-6800-7000-8000-000000000001', 20 + rowNumberInAllBlocks(), \
         now64(6) - toIntervalHour(ago), '018bcfe5-6800-7000-8000-000000000000', number, kind, cause, \
         deployment, splitByChar('/', deployment)[1], error, delivered, cost, 'fast-chat', 'growth', \
         'ana' FROM values('ago UInt32, number UInt16, kind String, cause String, \
         deployment String, error String, delivered Bool, cost Decimal(38, 12)', {ATTEMPTS})"
    );
    run(store, &attempts).await;
    run(
        store,
        "INSERT INTO streams (stream, seq, ts, event) VALUES \
         ('018bcfe5-6800-7000-8000-000000000001', 1, now64(6), 'opened')",
    )
    .await;
    run(
        store,
        "INSERT INTO control_changes (stream, seq, ts, actor, action, object_kind, object_id, after) \
         VALUES ('018bcfe5-6800-7000-8000-000000000001', 2, now64(6), 'root', 'create', 'key', \
         'k1', '{}')",
    )
    .await;
    run(
        store,
        "INSERT INTO payloads (stream, seq, ts, request_id, user, capture, request, answer) VALUES \
         ('018bcfe5-6800-7000-8000-000000000001', 24, now64(6), \
         '00000000-0000-0000-0000-000000000000', 'ana', 'full', '{\"q\":1}', '{\"a\":2}')",
    )
    .await;
    run(
        store,
        "INSERT INTO refusals (stream, seq, ts, last, address, reason, refused) VALUES \
         ('018bcfe5-6800-7000-8000-000000000001', 25, now64(6), now64(6), '192.0.2.1', 'unknown', 3)",
    )
    .await;
}

/// What each file must answer: some columns of all its rows.
fn expected() -> BTreeMap<&'static str, (&'static str, Value)> {
    BTreeMap::from([
        (
            "who_called_what",
            (
                "user, model, toUInt32(requests), toFloat64(cost_usd)",
                json!([
                    ["ana", "opus", 2, 2.0],
                    ["ben", "gemini", 1, 0.25],
                    ["o'hara", "opus", 1, 0.125],
                    ["cleo", "opus", 1, 4.0],
                    ["cleo", "secret", 1, null]
                ]),
            ),
        ),
        (
            "spend_by_team_and_feature",
            (
                "team, feature, model, toUInt32(requests), toFloat64(cost_usd), toUInt32(unpriced)",
                json!([
                    ["growth", "onboarding", "opus", 3, 2.125, 0],
                    ["growth", "onboarding", "gemini", 1, 0.25, 0],
                    ["research", "onboarding", "secret", 1, null, 1]
                ]),
            ),
        ),
        (
            "most_expensive_calls",
            (
                "user, toFloat64(cost_usd)",
                json!([
                    ["cleo", 4.0],
                    ["ana", 1.5],
                    ["ana", 0.5],
                    ["ben", 0.25],
                    ["o'hara", 0.125]
                ]),
            ),
        ),
        (
            "retries_by_deployment",
            (
                "error_kind, kind, tried_next, toUInt32(attempts), toUInt32(delivered)",
                json!([
                    ["server_error", "retry", "a/opus", 1, 0],
                    ["timeout", "fallback", "b/opus", 1, 1]
                ]),
            ),
        ),
        (
            "keys_from_new_addresses",
            (
                "key_id, client_ip, user, toUInt32(requests)",
                json!([["k1", "10.9.9.9", "o'hara", 1]]),
            ),
        ),
        (
            "answered_by_fallback",
            (
                "answered_by, error_kind_before, attempts",
                json!([["b/opus", "timeout", 3]]),
            ),
        ),
        (
            "unpriced_calls",
            (
                "provider, model, unpriced_reason, toUInt32(requests), toUInt32(input_tokens)",
                json!([[
                    "a",
                    "secret",
                    "the price book does not have the model",
                    1,
                    70
                ]]),
            ),
        ),
        (
            "errors_by_provider",
            (
                "provider, error_kind, toUInt32(attempts), percent",
                json!([
                    ["a", "", 1, 33.33],
                    ["a", "server_error", 1, 33.33],
                    ["a", "timeout", 1, 33.33],
                    ["b", "", 1, 100.0]
                ]),
            ),
        ),
        (
            "latency_by_model",
            (
                "model, toUInt32(requests), ttft_ms_p50, total_ms_p95",
                json!([["opus", 3, 200.0, 900.0], ["secret", 1, 200.0, 900.0]]),
            ),
        ),
        (
            "wasted_spend",
            (
                "deployment, kind, error_kind, toFloat64(cost_usd)",
                json!([["a/opus", "retry", "timeout", 0.25]]),
            ),
        ),
        (
            "who_changed_what",
            (
                "actor, action, object_id",
                json!([["root", "create", "k1"]]),
            ),
        ),
        (
            "incomplete_streams",
            ("toUInt32(last_seq), toUInt32(missing)", json!([[25, 10]])),
        ),
        (
            "payload_of_one_request",
            (
                "user, capture, request, answer",
                json!([["ana", "full", "{\"q\":1}", "{\"a\":2}"]]),
            ),
        ),
    ])
}

#[test]
fn every_ready_made_question_is_answered_rightly() {
    alone(async {
        let running = Running::start().await;
        let weir = installation(&running).await;
        fill(&running.store()).await;
        let mut expected = expected();
        for entry in fs::read_dir(repository().join("dashboards/queries")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "sql") {
                continue;
            }
            let name = path.file_stem().unwrap().to_str().unwrap();
            let question = fs::read_to_string(&path).unwrap();
            assert!(
                question.starts_with("-- "),
                "{name} does not say what it answers"
            );
            let known = expected.remove(name);
            let (columns, rows) = known.unwrap_or_else(|| panic!("nothing is known of {name}"));
            let statement = format!("SELECT {columns} FROM ({question})");
            let args = ["sql", &statement, "--format", "JSONCompactEachRow"];
            let answer: Vec<Value> = lines(&weir, &args)
                .iter()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect();
            assert_eq!(plain(Value::Array(answer)), plain(rows), "{name}");
        }
        assert!(expected.is_empty(), "files are missing: {expected:?}");
        running.stop().await;
    });
}

/// JSON writes 200.0 as 200.
fn plain(value: Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(items) => items.into_iter().map(plain).collect(),
        other => other,
    }
}

#[test]
fn audit_calls_lists_who_called_what() {
    alone(async {
        let running = Running::start().await;
        let weir = installation(&running).await;
        fill(&running.store()).await;
        let calls = |args: &[&str]| {
            let args = [&["audit", "calls"], args].concat();
            lines(&weir, &args)
        };
        let models = |lines: Vec<String>| -> Vec<(String, Value)> {
            let rows = lines.iter().map(|line| {
                let row: Value = serde_json::from_str(line).unwrap();
                (
                    row["model"].as_str().unwrap().to_owned(),
                    row["cost_usd"].clone(),
                )
            });
            rows.collect()
        };
        let ana = models(calls(&["--user", "ana", "--since", "90d", "--json"]));
        assert_eq!(
            ana,
            [("opus".into(), json!(1.5)), ("opus".into(), json!(0.5))]
        );
        let old = calls(&["--user", "cleo", "--since", "90d", "--json"]);
        assert_eq!(old.len(), 2, "the call of 2300 hours ago is older");
        assert_eq!(calls(&["--user", "cleo", "--json"]).len(), 3);
        assert_eq!(
            calls(&["--team", "growth", "--model", "opus", "--json"]).len(),
            3
        );
        assert_eq!(
            calls(&["--team", "growth", "--model", "fast-chat", "--json"]).len(),
            4
        );
        assert_eq!(calls(&["--key", "k2", "--limit", "1", "--json"]).len(), 1);
        assert_eq!(calls(&["--user", "o'hara", "--json"]).len(), 1);
        assert_eq!(calls(&["--user", "' OR 1 = 1 --", "--json"]).len(), 0);
        let csv = calls(&["--user", "ben", "--csv"]);
        assert!(
            csv[0].starts_with("\"ts\",\"request_id\",\"organisation\""),
            "{csv:?}"
        );
        assert_eq!(csv.len(), 2);
        assert!(csv[1].contains("\"ben\""));
        running.stop().await;
    });
}

/// Settings that clients, their drivers and server profiles change, and that change what SQL means.
const CLIENT_SETTINGS: [&str; 18] = [
    "join_use_nulls=1",
    "join_default_strictness=",
    "join_default_strictness=ANY",
    "any_join_distinct_right_table_keys=1",
    "join_algorithm=full_sorting_merge",
    "aggregate_functions_null_for_empty=1",
    "group_by_use_nulls=1",
    "transform_null_in=1",
    "prefer_column_name_to_alias=1",
    "joined_subquery_requires_alias=0",
    "union_default_mode=",
    "data_type_default_nullable=1",
    "cast_keep_nullable=1",
    "enable_analyzer=0",
    "enable_positional_arguments=0",
    "optimize_use_projections=0",
    "session_timezone=Asia/Kolkata",
    "compatibility=24.3",
];

/// The ready-made questions, and all of every view.
async fn statements(store: &Store) -> Vec<(String, String)> {
    let files = fs::read_dir(repository().join("dashboards/queries")).unwrap();
    let paths = files.map(|entry| entry.unwrap().path());
    let mut statements: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "sql"))
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            (path.display().to_string(), text)
        })
        .collect();
    let views = "SELECT name FROM system.tables WHERE database = 'weir' AND engine = 'View'";
    let views: Vec<String> = store.fetch(store.query(views)).await.unwrap();
    assert!(views.len() >= 4, "{views:?}");
    for view in views {
        let all = format!("SELECT * FROM weir.{view} ORDER BY toString(tuple(*))");
        let types = format!("SELECT toTypeName(tuple(*)) AS types FROM weir.{view} LIMIT 1");
        statements.push((view.clone(), all));
        statements.push((format!("types of {view}"), types));
    }
    statements
}

#[test]
fn questions_and_views_say_the_same_under_every_setting_of_a_client() {
    alone(async {
        let running = Running::start().await;
        let store = running.store();
        store.migrate(3650).await.unwrap();
        fill(&store).await;
        run(
            &store,
            "INSERT INTO corrections (stream, seq, ts, request_id, attempt, delivered, \
             cost_before_usd, cost_usd) SELECT '018bcfe5-6800-7000-8000-000000000001', \
             30 + rowNumberInAllBlocks(), now64(6), \
             toUUID('018bcfe5-6800-7000-8000-00000000000' || toString(request)), attempt, delivered, \
             before, now FROM values('request UInt8, attempt UInt16, delivered Bool, \
             before Nullable(Decimal(38, 12)), now Nullable(Decimal(38, 12))', \
             (0, 3, true, 1.5, 2.5), (0, 2, false, 0.25, 0.5), (2, 1, true, 0.25, NULL), \
             (5, 1, true, NULL, 3))",
        )
        .await;
        let waste = "ALTER TABLE requests UPDATE waste_usd = 0.25 WHERE cost_usd > 1 SETTINGS mutations_sync = 1";
        run(&store, waste).await;
        let ask = |statement: &str, setting: &str| {
            let path = format!("/?default_format=TSVWithNames&database=weir&{setting}");
            let question = as_user(Request::post(&path, statement), "weir");
            let answer = question.send(running.address).unwrap();
            (answer.status, answer.text())
        };
        for (name, statement) in statements(&store).await {
            let plain = ask(&statement, "max_threads=1");
            assert_eq!(plain.0, 200, "{name}: {}", plain.1);
            for setting in CLIENT_SETTINGS {
                assert_eq!(ask(&statement, setting), plain, "{name} with {setting}");
            }
        }
        let costs = "SELECT toString(cost_usd), toString(waste_usd) FROM weir.rerated_requests \
                     WHERE cost_usd IS DISTINCT FROM cost_before_usd ORDER BY request_id";
        let costs = ask(costs, "join_use_nulls=1&default_format=TSV").1;
        assert_eq!(costs, "2.5\t0.5\n\\N\t\\N\n3\t\\N\n");
        running.stop().await;
    });
}

/// Arrow and Avro have no type for `DateTime`: it is a number there.
#[test]
fn every_column_with_a_time_is_a_time_in_arrow_and_avro() {
    alone(async {
        let running = Running::start().await;
        running.store().migrate(3650).await.unwrap();
        fill(&running.store()).await;
        let url = format!("http://{}", running.address);
        let script = repository().join("tests/clients/sql_times.py");
        let found = Command::new(python())
            .arg("-B")
            .arg(script)
            .args([&url, "reader", &password("reader")])
            .output()
            .unwrap();
        assert!(found.status.success(), "{found:?}");
        let seen: Value = serde_json::from_slice(&found.stdout).unwrap();
        assert_eq!(seen["wrong"], json!([]));
        assert!(seen["columns"].as_u64().unwrap() > 15, "{seen}");
        running.stop().await;
    });
}

/// `WEIR_AUDIT_ROWS=100000000 cargo test -p weir-tests --test it at_any_size -- --nocapture` measures; it
/// takes 10 GB below `TMPDIR` for that, and `WEIR_BIN` names a release build.
#[test]
fn an_audit_is_answered_at_any_size() {
    let asked = std::env::var("WEIR_AUDIT_ROWS").map(|rows| rows.parse().unwrap());
    let (rows, days) = asked.map_or((4_000, 8), |rows: u64| (rows, 90));
    alone(async move {
        let running = Running::start().await;
        let weir = installation(&running).await;
        let store = running.store();
        let began = Instant::now();
        for day in 0..days {
            let [requests, attempts] = generated(day, rows / days);
            run(&store, &requests).await;
            // No question here is about tries: a few days of them tell their size.
            if day < 8 {
                run(&store, &attempts).await;
            }
            if day % 10 == 9 {
                println!("{} days generated in {:?}", day + 1, began.elapsed());
            }
        }
        for table in ["requests", "attempts"] {
            let sql = format!(
                "SELECT sum(bytes_on_disk) / sum(rows) FROM system.parts \
                 WHERE database = 'weir' AND table = '{table}' AND active"
            );
            let bytes: Vec<f64> = store.fetch(store.query(&sql)).await.unwrap();
            println!("{table}: {:.1} bytes a row on disk", bytes[0]);
        }

        let sql = "SELECT user, count() FROM requests GROUP BY user ORDER BY count() DESC, user";
        let users = lines(&weir, &["sql", sql]);
        for rank in [20, users.len() / 2] {
            let (user, calls) = users[rank].split_once('\t').unwrap();
            let calls: u64 = calls.parse().unwrap();
            let what = format!("{calls} calls of user {rank} of {}", users.len());
            let told = timed(&what, || {
                lines(&weir, &["audit", "calls", "--user", user, "--json"])
            });
            assert_eq!(told.len() as u64, calls);
        }
        let by_day = "SELECT toDate(ts) AS day, team, sum(cost_usd) FROM requests GROUP BY day, team ORDER BY day, team";
        let summed = timed("cost by team and day", || lines(&weir, &["sql", by_day]));
        let view = "SELECT day, team, sum(cost_usd) FROM usage_by_day GROUP BY day, team ORDER BY day, team";
        let from_view = timed("the same from usage_by_day", || {
            lines(&weir, &["sql", view])
        });
        let raw = format!("{by_day} SETTINGS optimize_use_projections = 0");
        let from_rows = timed("the same from the rows", || lines(&weir, &["sql", &raw]));
        assert_eq!(summed, from_rows);
        assert_eq!(from_view, from_rows);
        assert!(from_rows.len() as u64 >= days);
        running.stop().await;
    });
}

fn timed<T>(what: &str, work: impl Fn() -> T) -> T {
    // The first time reads what is not in memory yet.
    for _ in 0..2 {
        work();
    }
    let began = Instant::now();
    let done = work();
    println!("{what}: {:?}, the process's start with it", began.elapsed());
    done
}

/// A day's requests, and a try for each: 40 teams with 120 projects and two features each, 5000 users of
/// whom few make most calls, two aliases a project, two models an alias.
fn generated(day: u64, rows: u64) -> [String; 2] {
    let common = format!(
        "toUUID('018bcfe5-6800-7000-8000-0000000{day:03}0' || toString(number % 8)) AS stream, \
         toStartOfDay(now64(6, 'UTC')) - INTERVAL {day} DAY + toIntervalMicrosecond(toUInt64(number * (86400000000 / {rows}))) AS ts, \
         generateUUIDv7(number) AS request_id, 'acme' AS organisation, \
         'user-' || toString(toUInt32(5000 * pow(rand(1) / 4294967296, 3))) AS user, \
         'team-' || toString(cityHash64(user) % 40) AS team, \
         'project-' || toString(cityHash64(user) % 120) AS project, \
         'key-' || toString(cityHash64(user) % 2000) AS key_id, \
         ['prod', 'staging', 'dev'][1 + (rand(2) % 10 > 7) + (rand(2) % 100 > 95)] AS environment, 'paid' AS tier, \
         'feature-' || toString((cityHash64(project) + rand(3) % 2) % 30) AS feature, map('run', toString(rand(4) % 50)) AS tags, \
         'openai.chat' AS dialect, 'alias-' || toString((cityHash64(project) + rand(5) % 2) % 8) AS alias, rand(6) % 3 > 0 AS streamed, \
         'model-' || toString((cityHash64(alias) + rand(7) % 2) % 15) AS model, 'provider-' || toString(cityHash64(model) % 6) AS provider, \
         provider || '/' || model AS deployment, model || '-2025' AS response_model, \
         toUInt64(exp(randNormal(6.5, 1.2))) AS input_tokens, toUInt64(exp(randNormal(5, 1))) AS output_tokens, \
         if(rand(8) % 4 = 0, toUInt64(input_tokens / 2), NULL) AS cached_input_tokens, \
         'reported' AS usage_source, \
         toDecimal128((input_tokens * 37500 + output_tokens * 150000) / 1000000000000, 12) AS cost_usd, \
         'genai-prices-1:42' AS price_version, toUInt64(exp(randNormal(12.5, 0.6))) AS ttft_us, \
         toUInt64(exp(randNormal(14.5, 0.7))) AS total_us, 'weighted' AS strategy, \
         input_tokens * 4 AS request_bytes, output_tokens * 5 AS response_bytes, 'stop' AS finish_reason"
    );
    let shared = "stream, ts, request_id, organisation, user, team, project, key_id, environment, \
                  tier, feature, tags, dialect, alias, streamed, model, provider, deployment, \
                  response_model, input_tokens, output_tokens, cached_input_tokens, usage_source, \
                  cost_usd, price_version, ttft_us, total_us, strategy, request_bytes, \
                  response_bytes, finish_reason";
    [
        format!(
            "INSERT INTO requests ({shared}, seq, client_ip, user_agent, status, attempts, \
             queue_us, overhead_us, route_seed, candidates, max_output_tokens) \
             SELECT {common}, 2 * intDiv(number, 8) + 2, '10.0.' || toString(rand(9) % 12) || '.' || toString(cityHash64(user) % 250), \
             'openai-python/' || toString(rand(10) % 6), 200, 1, rand(11) % 20, 60 + rand(12) % 100, \
             rand64(13), [('provider-1/model-1', 0.5, 0.9), ('provider-2/model-2', 0.25, 0.1)], 1024 \
             FROM numbers({rows})"
        ),
        format!(
            "INSERT INTO attempts ({shared}, seq, attempt, kind, provider_key, status, delivered, \
             upstream_request_id, connection_reused, headers_us, propensity) \
             SELECT {common}, 2 * intDiv(number, 8) + 3, 1, 'first', 'key 1', 200, true, \
             'req_' || lower(hex(rand64(14))), true, toUInt64(ttft_us * 0.9), 0.9 FROM numbers({rows})"
        ),
    ]
}

/// A deployment that went out of service after a request had arrived, and before it was routed.
#[test]
fn what_was_ejected_while_a_request_was_on_its_way_is_explained() {
    alone(async {
        let running = Running::start().await;
        let weir = installation(&running).await;
        let store = running.store();
        let (stream, id) = (
            "018bcfe5-6800-7000-8000-000000000001",
            "018bcfe5-6800-7000-8000-0000000000aa",
        );
        let arrived = "toDateTime64('2026-11-30 12:00:00', 6, 'UTC')";
        for statement in [
            format!(
                "INSERT INTO attempts (stream, seq, ts, request_id, attempt, kind, alias, deployment) VALUES \
                 ('{stream}', 1, {arrived} - INTERVAL 1 MINUTE, '{stream}', 1, 'first', 'hole', 'hole/m'), \
                 ('{stream}', 3, {arrived} + INTERVAL 5 MILLISECOND, '{id}', 1, 'first', 'hole', 'sound/m')"
            ),
            format!(
                "INSERT INTO deployment_states (stream, seq, ts, deployment, state, cause) VALUES \
                 ('{stream}', 2, {arrived} + INTERVAL 3 MILLISECOND, 'hole/m', 'ejected', 'stalled')"
            ),
            format!(
                "INSERT INTO requests (stream, seq, ts, request_id, alias, deployment, strategy, candidates, status) VALUES \
                 ('{stream}', 4, {arrived}, '{id}', 'hole', 'sound/m', 'latency', [('sound/m', 1, 1)], 200)"
            ),
        ] {
            run(&store, &statement).await;
        }
        let said = lines(&weir, &["routes", "explain", id]).join("\n");
        assert!(said.contains("left out: hole/m: ejected ("), "{said}");
        running.stop().await;
    });
}
