//! What the feedback measures, against rows of the real engine whose numbers are known.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use weir_controller::{Cell, Measurements, TablePolicy, next_table};
use weir_ingestor::feedback::measure;
use weir_schemas::table::RoutingTable;
use weir_store::Store;

use crate::store::{Running, alone};

const WINDOW: Duration = Duration::from_secs(300);

#[expect(clippy::disallowed_methods, reason = "rows must lie within the window")]
fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_micros()).unwrap()
}

/// Inserts `count` rows that differ from the defaults by `columns`, a second before `now_us`.
async fn insert(store: &Store, table: &str, now_us: u64, count: u32, columns: &[(&str, &str)]) {
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    let values: Vec<&str> = columns.iter().map(|(_, value)| *value).collect();
    let sql = format!(
        "INSERT INTO {table} (ts, stream, seq, {}) SELECT \
         fromUnixTimestamp64Micro(toInt64({}), 'UTC'), toUUID('01234567-89ab-7def-8123-456789abcdef'), \
         number + 1, {} FROM numbers({count})",
        names.join(", "),
        now_us - 1_000_000,
        values.join(", ")
    );
    let mut answer = store.raw_query(&sql, "TSV").unwrap();
    while answer.next().await.unwrap().is_some() {}
}

fn cell<'a>(measured: &'a Measurements, deployment: &str) -> &'a Cell {
    let mut cells = measured.cells.iter();
    cells.find(|cell| cell.deployment == deployment).unwrap()
}

fn is_near(value: Option<f64>, wanted: f64) -> bool {
    value.is_some_and(|value| (value / wanted - 1.0).abs() < 0.001)
}

#[test]
fn the_last_minutes_are_measured_per_alias_deployment_and_size() {
    alone(async {
        let running = Running::start().await;
        let store = running.store();
        store.migrate(0).await.unwrap();
        let now = now_us();
        insert_attempts(&store, now).await;
        let measured = measure(&store, now, WINDOW, &[]).await.unwrap();
        check_streams(&measured);
        check_whole_answers(&measured);
        assert_eq!(measured.cells.len(), 2, "{:?}", measured.cells);
        assert_eq!(measured.inputs.len(), 1);
        assert_eq!(measured.inputs[0].seq, 100);
        let later = measure(&store, now + 400_000_000, WINDOW, &[])
            .await
            .unwrap();
        assert!(later.cells.is_empty(), "what is older does not count");
        running.stop().await;
    });
}

async fn insert_attempts(store: &Store, now: u64) {
    let chat = [("alias", "'chat'"), ("request_bytes", "4000")];
    let at_a = [
        chat[0],
        chat[1],
        ("deployment", "'a/m'"),
        ("streamed", "1"),
        ("input_tokens", "1000"),
    ];
    let with = |more: &[(&'static str, &'static str)]| [at_a.as_slice(), more].concat();
    let answered = with(&[
        ("kind", "'first'"),
        ("delivered", "1"),
        ("output_tokens", "100"),
        ("ttft_us", "200000"),
        ("total_us", "1200000"),
        ("cost_usd", "toDecimal128('0.001', 12)"),
    ]);
    insert(store, "attempts", now, 100, &answered).await;
    let failed = with(&[
        ("kind", "'first'"),
        ("error_kind", "'server_error'"),
        ("total_us", "5"),
        ("cost_usd", "toDecimal128('0.0005', 12)"),
    ]);
    insert(store, "attempts", now, 10, &failed).await;
    let lost = with(&[
        ("kind", "'first'"),
        ("error_kind", "'hedge_lost'"),
        ("total_us", "800000"),
    ]);
    insert(store, "attempts", now, 20, &lost).await;
    let gone = with(&[
        ("kind", "'first'"),
        ("error_kind", "'client_gone'"),
        ("total_us", "9"),
    ]);
    insert(store, "attempts", now, 5, &gone).await;
    let copies = with(&[("kind", "'shadow'"), ("ttft_us", "1"), ("total_us", "2")]);
    insert(store, "attempts", now, 3, &copies).await;
    // Without usage and price; the answer came in one piece.
    let whole = [
        ("alias", "'chat'"),
        ("deployment", "'b/m'"),
        ("kind", "'first'"),
        ("delivered", "1"),
        ("request_bytes", "16000"),
        ("output_tokens", "50"),
        ("ttft_us", "3000000"),
        ("total_us", "3000000"),
    ];
    insert(store, "attempts", now, 100, &whole).await;
}

fn check_streams(measured: &Measurements) {
    let a = cell(measured, "a/m");
    assert_eq!(
        (a.size_class, a.attempts, a.failures, a.timed),
        (1, 110, 10, 120)
    );
    // A prompt of reference size: first tokens stand as they were, lost attempts by what was waited.
    assert!(is_near(a.ttft_us_p50, 200_000.0), "{a:?}");
    assert!(is_near(a.ttft_us_p95, 800_000.0), "{a:?}");
    assert!(is_near(a.output_tokens_per_s, 100.0), "{a:?}");
    assert_eq!(
        (a.priced_attempts, a.input_tokens, a.output_tokens),
        (100, 100_000, 10_000)
    );
    assert_eq!(
        (a.cost_picousd, a.waste_picousd),
        (100_000_000_000, 5_000_000_000)
    );
}

fn check_whole_answers(measured: &Measurements) {
    let b = cell(measured, "b/m");
    assert_eq!(
        (b.size_class, b.attempts, b.failures, b.timed),
        (2, 100, 0, 100)
    );
    assert_eq!(b.output_tokens_per_s, None);
    assert_eq!((b.priced_attempts, b.cost_picousd), (0, 0));
    let table = next_table(&RoutingTable::none(), measured, &TablePolicy::default(), 1);
    let entry = table.alias("chat").unwrap().target("b/m").unwrap();
    // 3 s for 4000 tokens in and 50 out are 0.82 s to the first token of a prompt of 1000.
    assert!(
        is_near(entry.ttft_us, 3e6 * 3_000.0 / (6_000.0 + 5_000.0)),
        "{entry:?}"
    );
    assert_eq!(entry.picousd_per_token, None, "unpriced is not free");
    let a = table.alias("chat").unwrap().target("a/m").unwrap();
    // With its waste: 105 thousand million over 100 000 tokens in and 10 000 out at four each.
    assert!(is_near(a.picousd_per_token, 105e9 / 140_000.0), "{a:?}");
}

#[test]
fn tables_are_compared_by_how_requests_fared_under_them() {
    alone(async {
        let running = Running::start().await;
        let store = running.store();
        store.migrate(0).await.unwrap();
        let now = now_us();
        let under = |version: &'static str| {
            [
                ("alias", "'chat'"),
                ("table_version", version),
                ("streamed", "1"),
                ("input_tokens", "4000"),
                ("output_tokens", "10"),
            ]
        };
        let with = |version, more: &[(&'static str, &'static str)]| {
            [under(version).as_slice(), more].concat()
        };
        let served = [
            ("ttft_us", "600000"),
            ("cost_usd", "toDecimal128('0.002', 12)"),
        ];
        insert(&store, "requests", now, 50, &with("7", &served)).await;
        let failed = [("error_kind", "'server_error'"), ("status", "502")];
        insert(&store, "requests", now, 5, &with("7", &failed)).await;
        let refused = [("error_kind", "'invalid_request'"), ("status", "400")];
        insert(&store, "requests", now, 2, &with("7", &refused)).await;
        insert(&store, "requests", now, 9, &with("8", &served)).await;
        insert(&store, "requests", now, 9, &with("3", &served)).await;

        let measured = measure(&store, now, WINDOW, &[7, 8]).await.unwrap();
        let versions: Vec<u64> = measured
            .outcomes
            .iter()
            .map(|it| it.table_version)
            .collect();
        assert_eq!(versions, [7, 8]);
        let outcome = &measured.outcomes[0];
        assert_eq!((outcome.requests, outcome.errors), (57, 5));
        // 0.6 s for 4000 tokens are 0.3 s for 1000.
        assert!(is_near(outcome.ttft_us_mean, 300_000.0), "{outcome:?}");
        let paid = 50.0 * 0.002e12 / (50.0 * 4_040.0);
        assert!(is_near(outcome.picousd_per_token, paid), "{outcome:?}");
        running.stop().await;
    });
}
