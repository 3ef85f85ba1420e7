//! What is anchored outside is checked by others' tools, and tells of a history that was written anew.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use weir_ingestor::audit::EXPORT_FILE;
use weir_store::Store;
use weir_tests::weir::{Installation, cache, repository};

use crate::audit::{run, verify, weir};
use crate::ingest::{Ingesting, written_journal};
use crate::kafka_log::KAFKA;
use crate::store::{Running, alone};

/// An installation whose tables are in a store of the test's, and that anchors there.
fn installation(running: &Running, anchors: &str) -> Installation {
    let store = format!("{}retention_days = 3650\n{anchors}", running.settings());
    Installation::new(&store).unwrap()
}

/// The note in a directory.
fn note_in(dir: &Path) -> PathBuf {
    let mut notes = fs::read_dir(dir).unwrap();
    let note = notes.next().unwrap().unwrap().path();
    assert!(notes.next().is_none());
    note
}

fn export_of(installation: &Installation) -> PathBuf {
    installation.data_dir().join("audit").join(EXPORT_FILE)
}

fn checkpoint(installation: &Installation) -> String {
    let output = weir(installation, &["audit", "checkpoint"]);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn anchored(report: &Value) -> Vec<(u64, u64)> {
    let anchors = report["anchors"].as_array().unwrap().iter();
    let figures = anchors.map(|it| (it["notes"].as_u64(), it["checkpoint"].as_u64()));
    figures
        .map(|(notes, last)| (notes.unwrap_or(0), last.unwrap_or(0)))
        .collect()
}

/// Everything sealed so far is gone, and sealed again with a new key by who may write everywhere here.
async fn rewrite_history(installation: &Installation, store: &Store) {
    for table in ["checkpoints", "checkpoint_leaves"] {
        run(store, &format!("TRUNCATE TABLE {table}")).await;
    }
    let deed = "ALTER TABLE requests DELETE WHERE seq > 100 SETTINGS mutations_sync = 1";
    run(store, deed).await;
    fs::remove_dir_all(installation.data_dir().join("audit")).unwrap();
    let anchored_too = weir(installation, &["audit", "checkpoint"]);
    assert!(anchored_too.status.success(), "{anchored_too:?}");
}

#[test]
fn what_is_anchored_outside_tells_of_a_history_that_was_written_anew() {
    alone(async {
        let running = Running::start().await;
        let store = running.store();
        let outside = tempfile::tempdir().unwrap();
        let anchors = format!(
            "[[audit.anchor]]\nurl = \"file://{}\"\n\
             [[audit.anchor]]\nurl = \"kafka://{}/notes\"\n",
            outside.path().display(),
            KAFKA.brokers()
        );
        let weir = installation(&running, &anchors);
        let journal = tempfile::tempdir().unwrap();
        written_journal(journal.path(), 100);
        Ingesting::drain_journal(journal.path(), running.store()).await;
        let said = checkpoint(&weir);
        assert_eq!(
            said.matches("anchored 1 checkpoints in").count(),
            2,
            "{said}"
        );
        // A note that is there is not written again.
        checkpoint(&weir);
        let (report, proven) = verify(&weir);
        assert!(proven, "{report}");
        assert_eq!(anchored(&report), [(1, 1), (2, 1)]);

        rewrite_history(&weir, &store).await;
        let (report, proven) = verify(&weir);
        assert!(!proven, "{report}");
        let finding = report["findings"][0].clone();
        assert_eq!(finding["kind"], "anchor", "{report}");
        let unsigned = "no signer of the checkpoints has signed it";
        assert!(
            finding["message"].as_str().unwrap().ends_with(unsigned),
            "{report}"
        );
        running.stop().await;
    });
}

#[test]
fn an_outsiders_tool_verifies_what_is_anchored() {
    alone(async {
        let running = Running::start().await;
        let outside = tempfile::tempdir().unwrap();
        let anchors = format!(
            "[[audit.anchor]]\nurl = \"file://{}\"\n",
            outside.path().display()
        );
        let weir_here = installation(&running, "");
        let journal = tempfile::tempdir().unwrap();
        for _ in 0..5 {
            written_journal(journal.path(), 20);
            Ingesting::drain_journal(journal.path(), running.store()).await;
            checkpoint(&weir_here);
        }
        let config = fs::read_to_string(weir_here.config()).unwrap();
        fs::write(weir_here.config(), config + &anchors).unwrap();
        let said = checkpoint(&weir_here);
        assert!(said.contains("anchored 5 checkpoints in file://"), "{said}");

        let key = weir(&weir_here, &["audit", "key", "--note"]).stdout;
        let key = String::from_utf8(key).unwrap();
        let note = note_in(outside.path());
        let check = |note: &Path| {
            Command::new("go")
                .args(["run", ".", key.trim()])
                .args([note, &export_of(&weir_here)])
                .current_dir(repository().join("tests/outsider"))
                .env("GOPATH", cache().join("go"))
                .env("GOCACHE", cache().join("go-build"))
                .env("GOFLAGS", "-modcacherw")
                .output()
                .unwrap()
        };
        let output = check(&note);
        assert_eq!(output.stdout, b"5\n", "{output:?}");
        let text = fs::read_to_string(&note).unwrap();
        let other = outside.path().join("other");
        fs::write(&other, text.replacen("\n5\n", "\n4\n", 1)).unwrap();
        let output = check(&other);
        assert!(!output.status.success(), "{output:?}");
        running.stop().await;
    });
}

/// `tests/run.sh s3` starts a real S3 server, with a bucket whose objects are locked, and runs this.
#[test]
fn notes_go_to_a_bucket_whose_objects_are_locked() {
    let Ok(endpoint) = std::env::var("WEIR_S3") else {
        println!("skipped: WEIR_S3 names no S3 server");
        return;
    };
    alone(async move {
        let running = Running::start().await;
        let anchors = format!(
            "[[audit.anchor]]\nurl = \"s3://notes/weir\"\n\
             properties = {{ aws_endpoint = \"{endpoint}\", aws_allow_http = \"true\" }}\n"
        );
        let weir = installation(&running, &anchors);
        let journal = tempfile::tempdir().unwrap();
        for number in 1..=3 {
            written_journal(journal.path(), 20);
            Ingesting::drain_journal(journal.path(), running.store()).await;
            let said = checkpoint(&weir);
            assert!(
                said.contains(&format!("anchored {number} checkpoints in s3://")),
                "{said}"
            );
        }
        checkpoint(&weir);
        let (report, proven) = verify(&weir);
        assert!(proven, "{report}");
        assert_eq!(anchored(&report), [(3, 3)]);
        rewrite_history(&weir, &running.store()).await;
        let (report, proven) = verify(&weir);
        assert!(!proven, "{report}");
        assert_eq!(report["findings"][0]["kind"], "anchor", "{report}");
        running.stop().await;
    });
}

#[test]
fn a_place_that_cannot_be_is_told_when_the_configuration_is_read() {
    let wrong = [
        ("s3:///", ""),
        ("s3://", ""),
        ("s3:///prefix", ""),
        ("s3://bucket?region=eu/weir", ""),
        ("s3://bucket/weir?region=eu", ""),
        ("s3://bucket/weir", "properties = { region_name = \"eu\" }"),
        ("file://", ""),
        ("file://relative/dir", ""),
        ("file:///dir", "properties = { mode = \"0600\" }"),
        ("kafka://broker/notes", ""),
        ("kafka://broker:9092", ""),
        ("kafka://broker:9092/", ""),
        ("kafka://broker:99999/notes", ""),
        ("kafka://broker:9092,/notes", ""),
        ("kafka://broker:9092/notes/weir", ""),
        ("kafka://broker:9092/notes", "properties = { acks = \"0\" }"),
        (
            "kafka://broker:9092/notes",
            "properties = { \"no.such\" = \"1\" }",
        ),
        ("gs://bucket/weir", ""),
        ("s3:bucket", ""),
        ("", ""),
    ];
    for (url, more) in wrong {
        let anchor = format!("[[audit.anchor]]\nurl = \"{url}\"\n{more}\n");
        let weir = Installation::new(&anchor).unwrap();
        for command in [&["config", "check"][..], &["ingestor"]] {
            let refused = weir.command(command).output().unwrap();
            let said =
                String::from_utf8_lossy(&[refused.stdout, refused.stderr].concat()).into_owned();
            assert_eq!(refused.status.code(), Some(1), "{url} {more}: {said}");
            assert!(said.contains("audit.anchor[0]"), "{url} {more}: {said}");
        }
    }
    for right in [
        "s3://bucket",
        "s3://my-bucket.eu/weir/audit",
        "file:///mnt/anchors",
        "kafka://one:9092,[::1]:9093/notes",
    ] {
        let anchor = format!("[[audit.anchor]]\nurl = \"{right}\"\n");
        let weir = Installation::new(&anchor).unwrap();
        weir.run(&["config", "check"]).unwrap();
    }
}
