//! What is done to a stored row is found by `weir audit verify`, and the row named.

use std::path::{Path, PathBuf};
use std::process::Output;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::Value;
use weir_ingestor::audit::{EXPORT_FILE, KEY_FILE};
use weir_ingestor::rollups;
use weir_loadtest::mock::{MockHandle, MockOptions, MockProvider};
use weir_store::Store;
use weir_tests::gateway;
use weir_tests::weir::{Installation, wait_for};

use crate::ingest::{Ingesting, sealed_journal, written_journal};
use crate::store::{Running, alone};

/// An installation whose tables are in a store of the test's.
pub(crate) fn installation(running: &Running) -> Installation {
    Installation::new(&format!("{}retention_days = 3650\n", running.settings())).unwrap()
}

pub(crate) async fn run(store: &Store, sql: &str) {
    let mut answer = store.raw_query(sql, "Null").unwrap();
    while answer.next().await.unwrap().is_some() {}
}

pub(crate) fn weir(installation: &Installation, args: &[&str]) -> Output {
    installation.command(args).output().unwrap()
}

/// What `weir audit verify` says, and whether it exits 0.
pub(crate) fn verify_with(installation: &Installation, args: &[&str]) -> (Value, bool) {
    let args = [&["audit", "verify", "--json"], args].concat();
    let output = weir(installation, &args);
    let report = serde_json::from_slice(&output.stdout);
    let report: Value = report.unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let code = output.status.code();
    assert!(matches!(code, Some(0 | 1)), "{output:?}");
    assert_eq!(report["proven"], code == Some(0), "{report}");
    (report, code == Some(0))
}

pub(crate) fn verify(installation: &Installation) -> (Value, bool) {
    verify_with(installation, &[])
}

fn checkpoint(installation: &Installation) -> String {
    let output = weir(installation, &["audit", "checkpoint"]);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// The first finding: its kind, table, stream and number.
pub(crate) fn first(report: &Value) -> (&str, &str, &str, u64) {
    let finding = &report["findings"][0];
    let text = |name: &str| finding[name].as_str().unwrap_or_default();
    (
        text("kind"),
        text("table"),
        text("stream"),
        finding["seq"].as_u64().unwrap_or_default(),
    )
}

/// The place of some row of a table.
async fn place(store: &Store, table: &str, offset: u32) -> (String, u64) {
    let sql = format!(
        "SELECT toString(stream), seq FROM {table} ORDER BY stream, seq LIMIT 1 OFFSET {offset}"
    );
    let rows: Vec<(String, u64)> = store.fetch(store.query(&sql)).await.unwrap();
    rows.into_iter().next().unwrap()
}

/// Copies of the tables, to put back what was done to them.
struct Kept<'s>(&'s Store);

impl<'s> Kept<'s> {
    async fn of(store: &'s Store) -> Self {
        for table in ["requests", "attempts"] {
            run(store, &format!("CREATE TABLE kept_{table} AS {table}")).await;
            run(
                store,
                &format!("INSERT INTO kept_{table} SELECT * FROM {table}"),
            )
            .await;
        }
        Self(store)
    }

    async fn put_back(&self) {
        for table in ["requests", "attempts"] {
            run(self.0, &format!("TRUNCATE TABLE {table}")).await;
            let copy = format!(
                "INSERT INTO {table} SELECT * FROM kept_{table} SETTINGS insert_deduplicate = 0"
            );
            run(self.0, &copy).await;
        }
    }
}

#[test]
fn what_is_done_to_a_stored_row_is_found_and_the_row_named() {
    let seed = std::env::var("WEIR_SEED").map_or_else(|_| rand::random(), |s| s.parse().unwrap());
    println!("seed {seed} (WEIR_SEED={seed} repeats the choice of rows)");
    let mut random = StdRng::seed_from_u64(seed);
    alone(async move {
        let running = Running::start().await;
        let store = running.store();
        let weir = installation(&running);
        let dir = tempfile::tempdir().unwrap();
        written_journal(dir.path(), 400);
        Ingesting::drain_journal(dir.path(), running.store()).await;

        let (report, proven) = verify(&weir);
        assert!(proven, "{report}");
        assert_eq!(
            (&report["events"], &report["unsealed_events"]),
            (&2406.into(), &2406.into())
        );
        assert!(checkpoint(&weir).contains("checkpoint 1: 2406 events"));
        assert!(checkpoint(&weir).contains("sealed already"));
        let (report, proven) = verify(&weir);
        assert!(proven, "{report}");
        assert_eq!(
            (&report["streams"], &report["unsealed_events"]),
            (&3.into(), &0.into())
        );
        assert_eq!(report["signers"][0]["checkpoints"], 1);
        assert!(report["rollup_rows"].as_u64() > Some(100));

        let kept = Kept::of(&store).await;
        // (table, what is done to the row, what is found). Refused requests have no cost at all.
        let deeds = [
            (
                "requests",
                "ALTER TABLE requests UPDATE cost_usd = ifNull(cost_usd, 0) + 1 WHERE",
                "edited",
            ),
            (
                "requests",
                "ALTER TABLE requests UPDATE model = 'cheaper' WHERE",
                "edited",
            ),
            (
                "attempts",
                "ALTER TABLE attempts UPDATE status = 503 WHERE",
                "edited",
            ),
            ("requests", "ALTER TABLE requests DELETE WHERE", "missing"),
            ("attempts", "ALTER TABLE attempts DELETE WHERE", "missing"),
            (
                "requests",
                "INSERT INTO requests SELECT * FROM kept_requests WHERE",
                "doubled",
            ),
            (
                "attempts",
                "INSERT INTO attempts SELECT * FROM kept_attempts WHERE",
                "doubled",
            ),
            // Out of its order: it takes the place of the next but one, which then is there twice.
            (
                "requests",
                "ALTER TABLE requests UPDATE seq = seq + 2 WHERE",
                "missing",
            ),
            // Put where its stream has nothing else.
            (
                "requests",
                "INSERT INTO requests SELECT * REPLACE (ts - INTERVAL 40 DAY AS ts) \
                 FROM kept_requests WHERE",
                "doubled",
            ),
        ];
        for (table, deed, kind) in deeds {
            let (stream, seq) = place(&store, table, random.random_range(0..1199)).await;
            let settings = if deed.starts_with("ALTER") {
                "mutations_sync = 1"
            } else {
                "insert_deduplicate = 0"
            };
            let here = format!("stream = '{stream}' AND seq = {seq} SETTINGS {settings}");
            run(&store, &format!("{deed} {here}")).await;
            let (report, proven) = verify(&weir);
            assert!(!proven, "{deed}");
            let table = if kind == "missing" { "" } else { table };
            assert_eq!(
                first(&report),
                (kind, table, &*stream, seq),
                "{deed}: {report}"
            );
            kept.put_back().await;
        }
        let (report, proven) = verify(&weir);
        assert!(proven, "the rows are back as they were: {report}");
        running.stop().await;
    });
}

#[test]
fn two_rows_that_change_places_are_found() {
    alone(async {
        let running = Running::start().await;
        let store = running.store();
        let weir = installation(&running);
        let dir = tempfile::tempdir().unwrap();
        written_journal(dir.path(), 50);
        Ingesting::drain_journal(dir.path(), running.store()).await;
        checkpoint(&weir);
        let (stream, seq) = place(&store, "requests", 20).await;
        let next = seq + 2;
        let swap = format!(
            "ALTER TABLE requests UPDATE seq = if(seq = {seq}, {next}, {seq}) \
             WHERE stream = '{stream}' AND seq IN ({seq}, {next}) SETTINGS mutations_sync = 1"
        );
        run(&store, &swap).await;
        let (report, _) = verify(&weir);
        assert_eq!(
            first(&report),
            ("edited", "requests", &*stream, seq),
            "{report}"
        );
        assert_eq!(report["findings"][1]["seq"], next);
        running.stop().await;
    });
}

/// What the writer hashed of an event is what the store hashes of its row, whatever is in it; and what is
/// done to a row is found before there is any checkpoint.
#[test]
fn rows_are_what_their_writer_sealed() {
    let seed = std::env::var("WEIR_SEED").map_or_else(|_| rand::random(), |s| s.parse().unwrap());
    println!("seed {seed} (WEIR_SEED={seed} repeats the events)");
    let mut random = StdRng::seed_from_u64(seed);
    alone(async move {
        let running = Running::start().await;
        let store = running.store();
        let weir = installation(&running);
        let dir = tempfile::tempdir().unwrap();
        sealed_journal(dir.path(), &mut random, 700);
        Ingesting::drain_journal(dir.path(), running.store()).await;
        let (report, proven) = verify(&weir);
        assert!(proven, "{report}");
        // The stream's opening, its end, and a seal at least.
        assert!(report["events"].as_u64() >= Some(702), "{report}");
        assert_eq!(report["checkpoint_only_events"], 0);
        assert_eq!(report["unsealed_events"], 1, "the end: {report}");

        let deeds = [
            ("requests", "UPDATE total_us = total_us + 1", "edited"),
            ("requests", "UPDATE cost_usd = 0.001", "edited"),
            ("attempts", "UPDATE tags = map('a', 'b')", "edited"),
            ("corrections", "UPDATE reason = 'none'", "edited"),
            ("payloads", "UPDATE content_hash = ''", "edited"),
            ("control_changes", "UPDATE actor = 'nobody'", "edited"),
            ("routing_tables", "UPDATE origin = 'pinned!'", "edited"),
            ("deployment_states", "DELETE", "missing"),
        ];
        let mut places = Vec::new();
        for (table, deed, kind) in deeds {
            let (stream, seq) = place(&store, table, random.random_range(0..30)).await;
            let sql =
                format!("ALTER TABLE {table} {deed} WHERE stream = '{stream}' AND seq = {seq}");
            run(&store, &format!("{sql} SETTINGS mutations_sync = 1")).await;
            places.push((seq, kind));
            // One who seals what is there does not make it true.
            checkpoint(&weir);
        }
        let (report, _) = verify(&weir);
        places.sort_unstable();
        places.dedup();
        let findings = report["findings"].as_array().unwrap().iter();
        let found = findings.filter(|it| it["kind"] == "edited" || it["kind"] == "missing");
        let mut found: Vec<_> = found
            .map(|it| (it["seq"].as_u64().unwrap(), it["kind"].as_str().unwrap()))
            .collect();
        found.sort_unstable();
        found.dedup();
        assert_eq!(found, places, "{report}");
        running.stop().await;
    });
}

/// A gateway and an ingestor with a store of the test's.
fn with_provider(running: &Running, mock: &MockHandle) -> Installation {
    let weir = installation(running);
    let config = std::fs::read_to_string(weir.config()).unwrap() + &gateway::config(mock);
    std::fs::write(weir.config(), config).unwrap();
    weir
}

#[test]
fn a_row_changed_in_the_second_after_it_was_stored_is_found() {
    alone(async {
        let running = Running::start().await;
        let mock = MockProvider::start(MockOptions::default()).unwrap();
        let weir = with_provider(&running, &mock);
        let key = weir.create_key("growth").unwrap();
        let _gateway = weir.start(&["gateway"]).unwrap();
        let _ingestor = weir.start(&["ingestor"]).unwrap();
        weir.wait_until_ready().unwrap();
        (0..5).for_each(|_| assert_eq!(gateway::chat(weir.gateway, &key).status, 200));
        let sealed = "SELECT count() FROM weir.requests AS r INNER JOIN weir.seals AS s \
                      ON r.stream = s.stream WHERE r.seq BETWEEN s.first_seq AND s.last_seq";
        weir.wait_for_number(sealed, 5).unwrap();
        let (report, proven) = verify(&weir);
        assert!(proven, "{report}");
        assert_eq!(
            weir.number("SELECT count() FROM weir.checkpoints").unwrap(),
            0
        );

        let store = running.store();
        let (stream, seq) = place(&store, "requests", 2).await;
        let sql = format!(
            "ALTER TABLE requests UPDATE input_tokens = 1 WHERE stream = '{stream}' \
             AND seq = {seq} SETTINGS mutations_sync = 1"
        );
        run(&store, &sql).await;
        let (report, _) = verify(&weir);
        assert_eq!(
            first(&report),
            ("edited", "requests", &*stream, seq),
            "{report}"
        );
        running.stop().await;
    });
}

#[test]
fn events_that_are_gone_from_the_end_of_the_journal_are_named() {
    lose_half_a_segment(false);
}

/// The journal has lost what it noted of its seals as well: the ledger of what was charged tells.
#[test]
fn events_that_are_gone_from_the_end_of_the_journal_were_charged() {
    lose_half_a_segment(true);
}

fn lose_half_a_segment(with_note_of_seals: bool) {
    alone(async move {
        let running = Running::start().await;
        let mock = MockProvider::start(MockOptions::default()).unwrap();
        let weir = with_provider(&running, &mock);
        let key = weir.create_key("growth").unwrap();
        let budget = ["--tokens", "1000000000", "--window", "total"];
        weir.run(&[&["budgets", "set", "all"][..], &budget].concat())
            .unwrap();
        let mut gateway = weir.start(&["gateway"]).unwrap();
        weir.wait_until_ready().unwrap();
        (0..8).for_each(|_| assert_eq!(gateway::chat(weir.gateway, &key).status, 200));
        let mut longest = None;
        // Opening, attempt, request, and then the seal.
        wait_for("requests are sealed", || {
            longest = longest_sealed(&weir.data_dir().join("journal"));
            Ok(longest.is_some())
        })
        .unwrap();
        gateway.kill().unwrap();
        let (dir, sealed) = longest.unwrap();
        let files = std::fs::read_dir(&dir)
            .unwrap()
            .map(|it| it.unwrap().path());
        let segment = files
            .into_iter()
            .find(|it| it.extension().is_some_and(|it| it == "seg"));
        let segment = std::fs::OpenOptions::new()
            .write(true)
            .open(segment.unwrap())
            .unwrap();
        let length = segment.metadata().unwrap().len();
        segment.set_len(length / 2).unwrap();
        if with_note_of_seals {
            std::fs::remove_file(dir.join("sealed")).unwrap();
        }

        let _ingestor = weir.start(&["ingestor"]).unwrap();
        let stream = dir.file_name().unwrap().to_str().unwrap().to_owned();
        let end = format!(
            "SELECT max(seq) FROM weir.streams WHERE stream = '{stream}' AND event = 'closed'"
        );
        if with_note_of_seals {
            wait_for("the stream is closed", || {
                Ok(weir.number(&end).is_ok_and(|seq| seq > 0))
            })
            .unwrap();
            let (report, proven) = verify(&weir);
            assert!(!proven, "{report}");
            assert_eq!(first(&report).0, "journal", "{report}");
            assert!(message(&report).contains("requests that were charged"));
            running.stop().await;
            return;
        }
        weir.wait_for_number(&end, sealed + 1).unwrap();
        let (report, proven) = verify(&weir);
        assert!(!proven, "{report}");
        let (kind, _, of, seq) = first(&report);
        assert_eq!(
            (of, kind == "gap" || kind == "dead_letter"),
            (&*stream, true),
            "{report}"
        );
        assert!(seq <= sealed, "{report}");
        running.stop().await;
    });
}

/// The directory of a stream with sealed requests in it, and the number of its last seal.
fn longest_sealed(journal: &Path) -> Option<(PathBuf, u64)> {
    let streams = std::fs::read_dir(journal)
        .unwrap()
        .map(|it| it.unwrap().path());
    let sealed = |dir: PathBuf| {
        let bytes = std::fs::read(dir.join("sealed")).ok()?;
        Some((dir, u64::from_le_bytes(*bytes.first_chunk()?)))
    };
    streams
        .filter_map(sealed)
        .filter(|(_, seq)| *seq >= 4)
        .max_by_key(|(_, seq)| *seq)
}

/// Rows that no gateway wrote: of number 0, of a stream that nobody opened, behind a stream's end. And a
/// view that makes other sums of the rows.
#[test]
fn forged_rows_and_views_are_named_and_never_proven() {
    alone(async {
        let running = Running::start().await;
        let store = running.store();
        let weir = installation(&running);
        let dir = tempfile::tempdir().unwrap();
        written_journal(dir.path(), 50);
        Ingesting::drain_journal(dir.path(), running.store()).await;
        checkpoint(&weir);
        let said = self::weir(&weir, &["audit", "verify"]).stdout;
        let said = String::from_utf8(said).unwrap();
        assert!(said.contains("\nPROVEN up to 20"), "{said}");
        assert!(!said.contains("not yet sealed"), "{said}");

        let kept = Kept::of(&store).await;
        let (stream, _) = place(&store, "requests", 0).await;
        const NIL: &str = "00000000-0000-0000-0000-000000000000";
        let unknown = "018f0000-0000-7000-8000-000000000001";
        let forge = |stream: &str, seq: u64| {
            format!(
                "INSERT INTO requests SELECT * REPLACE (toUUID('{stream}') AS stream, \
                 {seq} AS seq, 99999 AS cost_usd) FROM kept_requests LIMIT 1 \
                 SETTINGS insert_deduplicate = 0"
            )
        };
        let forgeries = [
            (NIL, 0, "unnumbered"),
            (unknown, 5, "unknown_stream"),
            (&*stream, 103, "behind_end"),
            (&*stream, 4_000_000_000_000, "behind_end"),
        ];
        for (stream, seq, kind) in forgeries {
            run(&store, &forge(stream, seq)).await;
            let (report, _) = verify(&weir);
            let named = (kind, "requests", stream, seq);
            assert_eq!(first(&report), named, "{report}");
            kept.put_back().await;
        }

        let view = "CREATE OR REPLACE VIEW rerated_requests AS SELECT * REPLACE (0 AS cost_usd) \
                    FROM (SELECT *, cost_usd AS cost_before_usd, waste_usd AS waste_before_usd FROM requests)";
        run(&store, view).await;
        let (report, _) = verify(&weir);
        let named = report["findings"].as_array().unwrap();
        let view = named.iter().find(|it| it["kind"] == "rollup").unwrap();
        assert_eq!(view["table"], "rerated_requests", "{report}");
        running.stop().await;
    });
}

/// A batch reaches its tables one after the other. What of it is there must not be sealed before all
/// of it is.
#[test]
fn a_batch_that_is_half_stored_is_not_sealed() {
    alone(async {
        let running = Running::start().await;
        let store = running.store();
        let weir = installation(&running);
        let dir = tempfile::tempdir().unwrap();
        written_journal(dir.path(), 50);
        Ingesting::drain_journal(dir.path(), running.store()).await;
        let kept = Kept::of(&store).await;
        let delete = "ALTER TABLE attempts DELETE WHERE seq > 30 SETTINGS mutations_sync = 1";
        run(&store, delete).await;
        let said = checkpoint(&weir);
        let sealed: u64 = said.split(' ').nth(2).unwrap().parse().unwrap();
        assert!((90..=96).contains(&sealed), "{said}");
        kept.put_back().await;
        let (report, proven) = verify(&weir);
        assert!(proven, "{report}");
        assert!(checkpoint(&weir).contains(&format!("{} events", 306 - sealed)));
        assert_eq!(verify(&weir).0["unsealed_events"], 0);
        running.stop().await;
    });
}

#[test]
fn a_gap_is_named_and_told_from_a_dead_letter() {
    alone(async {
        let running = Running::start().await;
        let store = running.store();
        let weir = installation(&running);
        let dir = tempfile::tempdir().unwrap();
        written_journal(dir.path(), 50);
        Ingesting::drain_journal(dir.path(), running.store()).await;
        let (stream, seq) = place(&store, "attempts", 10).await;
        let delete = format!(
            "ALTER TABLE attempts DELETE WHERE stream = '{stream}' AND seq = {seq} \
             SETTINGS mutations_sync = 1"
        );
        run(&store, &delete).await;
        let (report, _) = verify(&weir);
        assert_eq!(first(&report), ("gap", "", &*stream, seq), "{report}");
        let letter = format!(
            "INSERT INTO dead_letters (ts, source, location, position, stream, seq, reason) \
             VALUES (now64(6), 'journal', 'x', 1, '{stream}', {seq}, 'poison')"
        );
        run(&store, &letter).await;
        let (report, _) = verify(&weir);
        assert_eq!(
            first(&report),
            ("dead_letter", "", &*stream, seq),
            "{report}"
        );
        running.stop().await;
    });
}

#[test]
fn checkpoints_that_are_taken_away_or_forged_are_found() {
    alone(async {
        let running = Running::start().await;
        let store = running.store();
        let weir = installation(&running);
        let dir = tempfile::tempdir().unwrap();
        for round in 1..=3 {
            let journal = dir.path().join(round.to_string());
            written_journal(&journal, 50);
            Ingesting::drain_journal(&journal, running.store()).await;
            let said = checkpoint(&weir);
            assert!(
                said.contains(&format!("checkpoint {round}: 306 events")),
                "{said}"
            );
        }
        let (report, proven) = verify(&weir);
        assert!(proven, "{report}");
        let audit = weir.data_dir().join("audit");
        let elsewhere = dir.path().join("copy.jsonl");
        std::fs::copy(audit.join(EXPORT_FILE), &elsewhere).unwrap();
        let elsewhere = elsewhere.to_str().unwrap();
        let key = weir.run(&["audit", "key"]).unwrap().stdout;
        let key = String::from_utf8(key).unwrap().trim().to_owned();
        assert!(verify_with(&weir, &["--signer", &key, "--copy", elsewhere]).1);
        let (report, _) = verify_with(&weir, &["--signer", "abcd"]);
        assert!(message(&report).contains("its signer"), "{report}");

        // Without a store.
        let checked = weir.run(&["audit", "check-export", elsewhere]).unwrap();
        let told = String::from_utf8(checked.stdout).unwrap();
        assert!(
            told.contains(&key) && told.contains("3 checkpoints"),
            "{told}"
        );

        run(&store, "CREATE TABLE kept AS checkpoints").await;
        run(
            &store,
            "INSERT INTO kept SELECT * FROM checkpoints WHERE number = 3",
        )
        .await;
        let delete = "ALTER TABLE checkpoints DELETE WHERE number = 3 SETTINGS mutations_sync = 1";
        run(&store, delete).await;
        // Who can write to the store may reach the export as well, but not the copy.
        std::fs::remove_file(audit.join(EXPORT_FILE)).unwrap();
        assert!(verify(&weir).1, "the last rows count as not sealed yet");
        let (report, _) = verify_with(&weir, &["--copy", elsewhere]);
        assert!(message(&report).contains("copy.jsonl"), "{report}");

        // Somebody without the key makes another in its place.
        let forge = "INSERT INTO checkpoints SELECT * REPLACE (ts + 1 AS ts) FROM kept";
        run(&store, forge).await;
        assert!(message(&verify(&weir).0).contains("its hash"));

        let text = std::fs::read_to_string(elsewhere).unwrap();
        std::fs::write(elsewhere, text.replacen("\"number\":2", "\"number\":7", 1)).unwrap();
        let output = self::weir(&weir, &["audit", "check-export", elsewhere]);
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(":2: checkpoint 7"), "{said}");
        assert!(audit.join(KEY_FILE).exists());
        running.stop().await;
    });
}

fn message(report: &Value) -> &str {
    report["findings"][0]["message"].as_str().unwrap()
}

#[test]
fn rollups_equal_the_rows_and_can_be_made_anew() {
    alone(async {
        let running = Running::start().await;
        let store = running.store();
        let weir = installation(&running);
        let dir = tempfile::tempdir().unwrap();
        written_journal(dir.path(), 1000);
        Ingesting::drain_journal(dir.path(), running.store()).await;
        let clear = "ALTER TABLE requests CLEAR PROJECTION by_hour SETTINGS mutations_sync = 1";
        run(&store, clear).await;
        assert_eq!(projection_rows(&store, "by_hour").await, 0);
        weir.run(&["rollups", "rebuild"]).unwrap();
        for (view, projection) in rollups::VIEWS
            .iter()
            .zip(["by_minute", "by_hour", "by_day"])
        {
            let compared = rollups::compare(&store, *view, 0).await.unwrap();
            assert!(
                compared.is_equal && compared.rows > 0,
                "{view:?}: {compared:?}"
            );
            assert!(projection_rows(&store, projection).await >= compared.rows);
            let name = view.name;
            let sql = format!("EXPLAIN SELECT team, sum(cost_usd) FROM {name} GROUP BY team");
            let plan: Vec<String> = store.fetch(store.query(&sql)).await.unwrap();
            let plan = plan.join("\n");
            assert!(
                plan.contains(projection),
                "{name} does not read {projection}:\n{plan}"
            );
        }
        running.stop().await;
    });
}

async fn projection_rows(store: &Store, projection: &str) -> u64 {
    let sql = "SELECT sum(rows) FROM system.projection_parts \
               WHERE table = 'requests' AND active AND name = ?";
    let rows: Vec<u64> = store
        .fetch(store.query(sql).bind(projection))
        .await
        .unwrap();
    rows[0]
}
