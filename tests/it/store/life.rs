//! The child's life: started, killed, started again, stopped.

use std::io::Read as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

use weir_store::PACKAGE_VERSION;
use weir_store::StoreState;
use weir_tests::port::ReservedPort;
use weir_tests::weir::wait_for;

use super::http::{get, post};
use super::{Running, alone, ready, settled, store_at, supervise};

/// Kills a process that a test started.
pub(super) fn kill_hard(pid: u32) {
    let status = Command::new("kill")
        .args(["-9", &pid.to_string()])
        .status()
        .unwrap();
    assert!(status.success(), "kill -9 {pid}");
}

/// Waits for a failure and returns its two sentences.
async fn failure(supervisor: &weir_store::Supervisor) -> (String, String) {
    match settled(supervisor, |state| {
        matches!(state, StoreState::Failed { .. })
    })
    .await
    {
        StoreState::Failed { reason, how_to_fix } => (reason, how_to_fix),
        other => panic!("the store is {other:?}"),
    }
}

#[test]
fn a_store_that_dies_is_started_again_with_its_data() {
    alone(async {
        let directory = tempfile::tempdir().unwrap();
        let supervisor = supervise(directory.path(), "127.0.0.1:0", &[]);
        let (address, pid) = ready(&supervisor).await;
        let sql = "CREATE TABLE kept ENGINE = MergeTree ORDER BY number AS SELECT number FROM numbers(1000)";
        assert_eq!(post(address, "/", sql).await.status, 200);
        kill_hard(pid);
        let again = settled(
            &supervisor,
            |state| matches!(state, StoreState::Ready { pid: new, .. } if *new != pid),
        );
        let StoreState::Ready { address, .. } = again.await else {
            unreachable!("it was waited for")
        };
        assert_eq!(
            post(address, "/", "SELECT count() FROM kept").await.text(),
            "1000\n"
        );
        supervisor.stop().await;
    });
}

#[test]
fn stopping_lets_a_running_statement_end() {
    alone(async {
        let running = Running::start().await;
        let address = running.address;
        let sql = "CREATE TABLE late ENGINE = MergeTree ORDER BY a AS SELECT sleep(3) AS a";
        let asked = tokio::spawn(async move { post(address, "/", sql).await });
        while post(address, "/", "SELECT count() FROM system.processes")
            .await
            .text()
            != "2\n"
        {
            assert!(
                !asked.is_finished(),
                "the statement was over before it was seen"
            );
        }
        let state = running.supervisor.state();
        let directory = running.stop().await;
        assert_eq!(asked.await.unwrap().status, 200);
        assert_eq!(*state.borrow(), StoreState::Stopped);
        let running = Running::start_in(directory, &[]).await;
        assert_eq!(
            post(running.address, "/", "SELECT count() FROM late")
                .await
                .text(),
            "1\n"
        );
        running.stop().await;
    });
}

#[test]
fn the_child_ends_when_its_parent_lets_go_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_weir-store-child"))
        .arg(directory.path())
        .args(["127.0.0.1:0", "--supervised"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Its report, up to the end of the line: it serves.
    let mut stdout = child.stdout.take().unwrap();
    let mut report = Vec::new();
    while report.last() != Some(&b'\n') {
        let mut byte = [0];
        assert_eq!(
            stdout.read(&mut byte).unwrap(),
            1,
            "{}",
            String::from_utf8_lossy(&report)
        );
        report.push(byte[0]);
    }
    drop(child.stdin.take());
    let mut ended = None;
    let in_time = wait_for("the child ends with its parent", || {
        ended = child.try_wait()?;
        Ok(ended.is_some())
    });
    if in_time.is_err() {
        child.kill().unwrap();
    }
    in_time.unwrap();
    assert!(ended.unwrap().success(), "the child ended with {ended:?}");
}

#[test]
fn a_missing_library_is_a_state_that_says_how_to_fix_it() {
    alone(async {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("nowhere/libchdb.so");
        let flags = ["--library", missing.to_str().unwrap()];
        let supervisor = supervise(directory.path(), "127.0.0.1:0", &flags);
        let (reason, how_to_fix) = failure(&supervisor).await;
        assert!(reason.contains(missing.to_str().unwrap()), "{reason}");
        assert!(reason.contains(PACKAGE_VERSION), "{reason}");
        assert!(
            how_to_fix.contains("compose/fetch-engine.sh"),
            "{how_to_fix}"
        );
        supervisor.stop().await;
    });
}

#[test]
fn a_library_that_appears_later_is_used_without_a_restart() {
    alone(async {
        let found = weir_store::library::find(None, Path::new("nowhere")).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let later = directory.path().join("libchdb.so");
        let flags = ["--library", later.to_str().unwrap()];
        let supervisor = supervise(directory.path(), "127.0.0.1:0", &flags);
        failure(&supervisor).await;
        std::os::unix::fs::symlink(found, &later).unwrap();
        let served = settled(&supervisor, |state| {
            matches!(state, StoreState::Ready { .. })
        })
        .await;
        let StoreState::Ready { address, .. } = served else {
            unreachable!("it was waited for")
        };
        assert_eq!(get(address, "/ping").await.status, 200);
        supervisor.stop().await;
    });
}

#[test]
fn a_broken_library_is_a_state_that_says_how_to_fix_it() {
    alone(async {
        let directory = tempfile::tempdir().unwrap();
        let broken = directory.path().join("libchdb.so");
        std::fs::write(&broken, "this is no library").unwrap();
        let flags = ["--library", broken.to_str().unwrap()];
        let supervisor = supervise(directory.path(), "127.0.0.1:0", &flags);
        let (reason, how_to_fix) = failure(&supervisor).await;
        assert!(
            reason.starts_with("load ") && reason.contains("libchdb.so"),
            "{reason}"
        );
        assert!(
            how_to_fix.contains("compose/fetch-engine.sh"),
            "{how_to_fix}"
        );
        supervisor.stop().await;
    });
}

#[test]
fn a_taken_port_names_the_setting() {
    alone(async {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let directory = tempfile::tempdir().unwrap();
        let supervisor = supervise(directory.path(), &address, &[]);
        let (reason, how_to_fix) = failure(&supervisor).await;
        assert!(reason.contains(&address), "{reason}");
        assert!(how_to_fix.contains("[store] listen"), "{how_to_fix}");
        supervisor.stop().await;
    });
}

#[test]
fn a_directory_in_use_names_who_uses_it() {
    alone(async {
        let running = Running::start().await;
        let (_, pid) = ready(&running.supervisor).await;
        let second = supervise(running.directory.path(), "127.0.0.1:0", &[]);
        let (reason, how_to_fix) = failure(&second).await;
        assert!(reason.contains(&format!("process {pid}")), "{reason}");
        assert!(how_to_fix.contains("--data-dir"), "{how_to_fix}");
        second.stop().await;
        assert_eq!(get(running.address, "/ping").await.status, 200);
        running.stop().await;
    });
}

#[test]
fn a_program_that_is_none_is_a_failure_too() {
    alone(async {
        let supervisor = weir_store::Supervisor::start("/nowhere/weir".into(), Vec::new());
        let (reason, _) = failure(&supervisor).await;
        assert!(reason.contains("/nowhere/weir"), "{reason}");
        supervisor.stop().await;
    });
}

#[test]
fn a_store_that_is_away_is_worth_another_try() {
    alone(async {
        let port = ReservedPort::new().unwrap();
        let error = store_at(port.address).ping().await.unwrap_err();
        assert_eq!(error.class, weir_store::ErrorClass::Transient, "{error}");
    });
}
