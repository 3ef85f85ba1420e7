//! A shorter retention says what it would delete, and deletes it when somebody accepts that.

use serde_json::Value;
use weir_store::Store;
use weir_tests::weir::{Installation, wait_for};

use crate::audit::run;
use crate::store::{Running, alone};

fn installation(running: &Running, days: u32) -> Installation {
    Installation::new(&settings(running, days)).unwrap()
}

fn settings(running: &Running, days: u32) -> String {
    format!("{}retention_days = {days}\n", running.settings())
}

async fn requests(store: &Store) -> u64 {
    run(store, "OPTIMIZE TABLE requests FINAL").await;
    let query = store.query("SELECT count() FROM requests");
    store.fetch::<u64>(query).await.unwrap()[0]
}

fn doctor(weir: &Installation) -> Value {
    let output = weir.command(&["doctor", "--json"]).output().unwrap();
    let reports: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut reports = reports.as_array().unwrap().iter();
    reports
        .find(|report| report["check"] == "retention")
        .unwrap()
        .clone()
}

#[test]
fn a_shorter_retention_deletes_nothing_until_that_is_accepted() {
    alone(async {
        let running = Running::start().await;
        let store = running.store();
        store.migrate(0).await.unwrap();
        let rows = "INSERT INTO requests (stream, seq, ts) SELECT generateUUIDv7(), number + 1, \
                    now64(6) - toIntervalDay(100 * (number % 2)) FROM numbers(20)";
        run(&store, rows).await;
        let weir = installation(&running, 30);
        assert_eq!(doctor(&weir)["verdict"], "WARN");
        // A start is no consent.
        let ingestor = weir.start(&["ingestor"]).unwrap();
        wait_for("the deletion is announced", || {
            let log = ingestor.log();
            Ok(log.contains("would delete rows") && log.contains("rows=10"))
        })
        .unwrap();
        ingestor.stop().unwrap();
        assert_eq!(requests(&store).await, 20);
        let report = doctor(&weir);
        assert_eq!(report["verdict"], "WARN", "{report}");
        assert!(
            report["detail"]
                .as_str()
                .unwrap()
                .contains("10 rows of requests"),
            "{report}"
        );
        let listed = weir.run(&["retention", "--json"]).unwrap();
        let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
        assert_eq!(listed[0]["rows"], 10, "{listed}");
        assert_eq!(
            (&listed[0]["days_now"], &listed[0]["days_wanted"]),
            (&0.into(), &30.into())
        );
        weir.run(&["retention", "--accept-deletion"]).unwrap();
        assert_eq!(requests(&store).await, 10);
        assert_eq!(doctor(&weir)["verdict"], "OK");
        // Longer again, and for good: nobody is asked.
        for days in [18_250, 0] {
            let weir = installation(&running, days);
            let ingestor = weir.start(&["ingestor"]).unwrap();
            wait_for("the retention is as configured", || {
                Ok(ingestor.log().contains(&format!("days={days}")))
            })
            .unwrap();
            ingestor.stop().unwrap();
            assert_eq!(requests(&store).await, 10);
        }
        running.stop().await;
    });
}

#[test]
fn a_retention_beyond_the_engines_dates_is_refused_with_its_bound() {
    for (setting, days, is_valid) in [
        ("retention_days", 36_500, false),
        ("payload_retention_days", 18_251, false),
        ("retention_days", 18_250, true),
        ("retention_days", 0, true),
        ("payload_retention_days", 0, true),
    ] {
        let weir = Installation::new("").unwrap();
        std::fs::write(weir.config(), format!("[store]\n{setting} = {days}\n")).unwrap();
        let checked = weir.command(&["config", "check"]).output().unwrap();
        let said = String::from_utf8_lossy(&checked.stderr);
        assert_eq!(
            checked.status.success(),
            is_valid,
            "{setting} = {days}: {said}"
        );
        let names_the_bound = said.contains("at most 18250") && said.contains("0 keeps for good");
        assert!(is_valid || names_the_bound, "{said}");
    }
}
