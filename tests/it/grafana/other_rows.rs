//! A few rows of every table beside requests and attempts.

use serde_json::json;
use weir_store::Store;

const STREAM: &str = "018bcfe5-6800-7000-8000-000000000001";

/// Each as (seconds before the end, columns, values behind stream, number and time).
fn rows() -> Vec<(u64, &'static str, String)> {
    let budget = |rest: serde_json::Value| rest.to_string();
    let table = |version: u64| {
        json!({"version": version, "aliases": [{"alias": "alias-1", "targets": [
            {"deployment": "provider-1/model-1", "weight": 1.5, "ttft_us": 200_000.0, "error_ratio": 0.01, "tries": 900, "change": "measured"},
            {"deployment": "provider-2/model-2", "weight": 0.5, "ttft_us": 300_000.0, "error_ratio": 0.02, "tries": 100, "change": "held"},
        ]}]})
    };
    let change = "control_changes (actor, action, object_kind, object_id, before, after)";
    let routing =
        "routing_tables (version, made_at, measured_from, measured_to, origin, routing_table)";
    let state = "deployment_states (deployment, provider, model, state, cause)";
    let leaf = "checkpoint_leaves (signer, number, position, version, first_seq, last_seq, first_ts, last_ts, fingerprints)";
    let growth =
        budget(json!({"id": "growth", "scope": {"team": "team-1"}, "usd": "1", "window": "month"}));
    let per_user = budget(json!({"id": "each", "per": ["user"], "usd": "1", "window": "month"}));
    let tokens = budget(json!({"id": "tokens", "scope": {}, "tokens": 1000, "window": "day"}));
    let reached = json!({"budget": "growth", "percent": 80, "spent": "$0.80", "limit": "$1", "resets": null, "hard": true});
    let frozen = json!({"command": "freeze"});
    vec![
        (
            400_000,
            change,
            format!("'root', 'create', 'budget', 'growth', '', '{growth}'"),
        ),
        (
            400_000,
            change,
            format!("'root', 'create', 'budget', 'each', '', '{per_user}'"),
        ),
        (
            400_000,
            change,
            format!("'root', 'create', 'budget', 'tokens', '', '{tokens}'"),
        ),
        (
            1800,
            change,
            format!("'gateway', 'threshold', 'budget', 'growth', '', '{reached}'"),
        ),
        (
            1700,
            change,
            "'root', 'create', 'key', 'key-1', '', '{}'".into(),
        ),
        (
            1600,
            change,
            format!("'root', 'update', 'table', 'routing', '{{}}', '{frozen}'"),
        ),
        (
            7000,
            routing,
            format!("1, ts, ts, ts, 'measured', '{}'", table(1)),
        ),
        (
            6000,
            routing,
            format!("2, ts, ts, ts, 'frozen', '{}'", table(2)),
        ),
        (
            5000,
            state,
            "'provider-1/model-1', 'provider-1', 'model-1', 'ejected', 'stalled'".into(),
        ),
        (
            4000,
            state,
            "'provider-1/model-1', 'provider-1', 'model-1', 'recovered', ''".into(),
        ),
        (
            7200,
            "streams (event, instance, version)",
            "'opened', 'host', '1.0'".into(),
        ),
        (
            7100,
            "streams (event, reason, events, since)",
            "'dropped', 'journal_full', 5, ts".into(),
        ),
        (
            120,
            leaf,
            "'signer', 1, 0, 1, 1, 4, ts, ts, [1, 0, 0, 4]".into(),
        ),
        (
            60,
            "seals (version, first_seq, last_seq, chain, fingerprints)",
            "1, 1, 4, 'x', [1]".into(),
        ),
        (
            3000,
            "refusals (last, address, reason, refused, limited)",
            "ts, '10.1.1.1', 'unknown', 7, 2".into(),
        ),
        (
            2900,
            "refusals (last, address, reason, refused, limited)",
            "ts, '10.1.1.2', 'expired', 5, 0".into(),
        ),
        (
            2800,
            "payloads (request_id, team, user, capture, redactions, detectors)",
            "generateUUIDv4(), 'team-1', 'user-1', 'full', 2, ['email']".into(),
        ),
    ]
}

async fn run(store: &Store, sql: &str) {
    let mut answer = store.raw_query(sql, "Null").unwrap();
    while answer.next().await.unwrap().is_some() {}
}

pub(super) async fn fill_other_tables(store: &Store, end_s: u64) {
    for (number, (ago_s, into, values)) in rows().into_iter().enumerate() {
        let (table, columns) = into.split_once(" (").unwrap();
        let (stream, seq) = if table == "checkpoint_leaves" {
            ("stream, ", String::new())
        } else {
            ("stream, seq, ", format!("{}, ", number + 1))
        };
        let at = format!(
            "fromUnixTimestamp64Micro(toInt64({} * 1000000), 'UTC') AS ts",
            end_s - ago_s
        );
        run(
            store,
            &format!(
                "INSERT INTO {table} ({stream}ts, {columns} SELECT '{STREAM}', {seq}{at}, {values}"
            ),
        )
        .await;
    }
    let at = end_s - 100;
    let letters = format!(
        "INSERT INTO dead_letters (ts, source, location, position, kind, reason) SELECT \
         fromUnixTimestamp64Micro(toInt64({at} * 1000000), 'UTC'), 'journal', 'segment', number, 'lost', 'gone' FROM numbers(3)"
    );
    run(store, &letters).await;
    let checkpoint = format!(
        "INSERT INTO checkpoints (signer, number, ts, leaves) SELECT 'signer', 1, fromUnixTimestamp64Micro(toInt64({at} * 1000000), 'UTC'), 1"
    );
    run(store, &checkpoint).await;
}
