//! The parts of a process that nobody watches: one that fails says so and comes back, and none takes
//! another with it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use serde_json::Value;
use weir_eventlog::{Chaining, Journal, JournalOptions};
use weir_ingestor::CHAINING;
use weir_loadtest::mock::{MockHandle, MockOptions, MockProvider};
use weir_tests::gateway::{chat, chat_request, config};
use weir_tests::http::Request;
use weir_tests::weir::{Installation, Process, wait_for};

use crate::ingest::events::write;

/// A gateway with a key that works, before a mock provider.
struct Scene {
    weir: Installation,
    gateway: Process,
    key: String,
    mock: MockHandle,
}

impl Scene {
    fn start(args: &[&str]) -> Self {
        let mock = MockProvider::start(MockOptions::default()).unwrap();
        let weir = Installation::new(&config(&mock)).unwrap();
        let key = weir.create_key("growth").unwrap();
        let gateway = weir.start(args).unwrap();
        weir.wait_until_ready().unwrap();
        let scene = Self {
            weir,
            gateway,
            key,
            mock,
        };
        scene.serves();
        scene
    }

    fn serves(&self) {
        assert_eq!(chat(self.weir.gateway, &self.key).status, 200);
    }

    fn control_log(&self) -> PathBuf {
        self.weir.data_dir().join("control/control.log")
    }

    /// Waits until a part of the gateway is in a state, while requests are welcome all the time. Returns
    /// the reason.
    fn wait_for_part(&self, name: &str, state: &str) -> String {
        wait_for_part(&self.weir, name, state)
    }

    /// What doctor says of a part.
    fn doctor(&self, part: &str) -> Value {
        let said = self.weir.command(&["doctor", "--json"]).output().unwrap();
        let checks: Vec<Value> = serde_json::from_slice(&said.stdout).unwrap();
        let check = format!("part {part}");
        let found = checks.into_iter().find(|found| found["check"] == check);
        found.unwrap_or_else(|| panic!("doctor does not know {check}"))
    }
}

pub(crate) fn wait_for_part(weir: &Installation, name: &str, state: &str) -> String {
    let mut reason = String::new();
    wait_for(&format!("{name} is {state}"), || {
        let ready = Request::get("/readyz").send(weir.gateway).unwrap();
        assert_eq!(ready.status, 200, "{}", ready.text());
        let ready = ready.json();
        let parts = ready["parts"].as_array().unwrap();
        let part = parts.iter().find(|part| part["name"] == name);
        // Those that begin last are not known from the beginning.
        let Some(part) = part else { return Ok(false) };
        reason = part["reason"].as_str().unwrap_or_default().to_owned();
        Ok(part["state"] == state)
    })
    .unwrap();
    reason
}

#[test]
fn a_control_log_that_is_deleted_is_written_anew_from_memory() {
    let scene = Scene::start(&["gateway"]);
    let budget = [
        "budgets", "set", "b", "--team", "growth", "--tokens", "1000000",
    ];
    scene.weir.run(&budget).unwrap();
    // The log is read in order: who knows the key, knows the budget.
    let known = scene.weir.create_key("growth").unwrap();
    scene.weir.wait_until_known(&known).unwrap();
    let control = scene.weir.data_dir().join("control");
    for deleted in [scene.control_log(), control.clone()] {
        match deleted.is_dir() {
            true => fs::remove_dir_all(&deleted).unwrap(),
            false => fs::remove_file(&deleted).unwrap(),
        }
        let secret = control.join("hash.key");
        wait_for("the log is there again", || {
            Ok(scene.control_log().exists() && secret.exists())
        })
        .unwrap();
        scene.wait_for_part("control-log", "ok");
        scene.serves();
        let later = scene.weir.create_key("growth").unwrap();
        scene.weir.wait_until_known(&later).unwrap();
    }
    assert!(scene.gateway.log().contains("the control log was deleted"));
    let Scene {
        weir, gateway, key, ..
    } = scene;
    gateway.stop().unwrap();
    let _gateway = weir.start(&["gateway"]).unwrap();
    weir.wait_until_ready().unwrap();
    assert_eq!(chat(weir.gateway, &key).status, 200);
    let budgets = weir.run(&["budgets", "list", "--json"]).unwrap();
    let budgets = String::from_utf8_lossy(&budgets.stdout);
    assert!(budgets.contains("growth"), "{budgets}");
}

#[test]
fn a_control_log_that_was_cut_off_or_is_another_is_not_read_and_said_to_be_so() {
    let scene = Scene::start(&["gateway"]);
    let other = Installation::new("").unwrap();
    other.create_key("elsewhere").unwrap();
    let foreign = fs::read(other.data_dir().join("control/control.log")).unwrap();
    let good = fs::read(scene.control_log()).unwrap();
    let half = &good[..good.len() / 2];
    for wrong in [&b""[..], half, &foreign, &foreign.repeat(9)] {
        fs::write(scene.control_log(), wrong).unwrap();
        let reason = scene.wait_for_part("control-log", "failed");
        assert!(reason.contains("was cut off or is another one"), "{reason}");
        scene.serves();
        let refused = scene.weir.command(&["keys", "create", "--team", "t"]);
        let refused = { refused }.output().unwrap();
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(
            !refused.status.success() && said.contains("control.mark"),
            "{said}"
        );
        assert_eq!(
            fs::read(scene.control_log()).unwrap(),
            wrong,
            "it was touched"
        );
        assert_eq!(scene.doctor("control-log")["verdict"], "FAIL");
        // The way out: without it, the gateway writes what it knows.
        fs::remove_file(scene.control_log()).unwrap();
        scene.wait_for_part("control-log", "ok");
        let later = scene.weir.create_key("growth").unwrap();
        scene.weir.wait_until_known(&later).unwrap();
    }
    assert!(
        scene
            .gateway
            .log()
            .contains("failed to read the control log")
    );
    // What cannot be read at all, too.
    let aside = scene.control_log().with_extension("aside");
    fs::rename(scene.control_log(), &aside).unwrap();
    fs::create_dir(scene.control_log()).unwrap();
    scene.wait_for_part("control-log", "failed");
    scene.serves();
    fs::remove_dir(scene.control_log()).unwrap();
    fs::rename(&aside, scene.control_log()).unwrap();
    scene.wait_for_part("control-log", "ok");
    assert_eq!(scene.doctor("control-log")["verdict"], "OK");
}

#[test]
fn a_start_without_the_control_log_that_was_there_is_refused() {
    let Scene {
        weir,
        gateway,
        mock,
        ..
    } = Scene::start(&["gateway"]);
    gateway.stop().unwrap();
    let log = weir.data_dir().join("control/control.log");
    fs::remove_file(&log).unwrap();
    for args in [
        &["gateway"][..],
        &["keys", "create", "--team", "t"],
        &["keys", "list"],
    ] {
        let refused = weir.command(args).output().unwrap();
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(
            !refused.status.success() && said.contains("is gone"),
            "{args:?}: {said}"
        );
        assert!(!log.exists(), "{args:?} made an empty one");
    }
    fs::remove_file(weir.data_dir().join("control.mark")).unwrap();
    let key = weir.create_key("growth").unwrap();
    let _gateway = weir.start(&["gateway"]).unwrap();
    weir.wait_until_ready().unwrap();
    assert_eq!(chat(weir.gateway, &key).status, 200);
    drop(mock);
}

#[test]
fn an_empty_or_half_written_configuration_leaves_the_old_one_in_force() {
    let scene = Scene::start(&["gateway"]);
    let path = scene.weir.config();
    let good = fs::read_to_string(&path).unwrap();
    let (before_aliases, _) = good.split_once("[[alias]]").unwrap();
    for wrong in ["", before_aliases, &good[..good.len() / 3]] {
        fs::write(&path, wrong).unwrap();
        scene.wait_for_part("config", "failed");
        scene.serves();
        // Doctor asks the gateway at the address that the file names.
        if wrong == before_aliases {
            assert_eq!(scene.doctor("config")["verdict"], "FAIL");
        }
        fs::write(&path, &good).unwrap();
        scene.wait_for_part("config", "ok");
        scene.serves();
    }
    // A file that is gone, and one that an editor or a mount puts in its place.
    fs::remove_file(&path).unwrap();
    scene.wait_for_part("config", "failed");
    scene.serves();
    let renamed = good.replace("\"fast-chat\"", "\"renamed\"");
    let beside = path.with_extension("new");
    fs::write(&beside, renamed).unwrap();
    fs::rename(&beside, &path).unwrap();
    wait_for("the new one is in force", || {
        Ok(chat(scene.weir.gateway, &scene.key).status == 404)
    })
    .unwrap();
    scene.wait_for_part("config", "ok");
    // One line for each that was wrong.
    let complaints = scene.gateway.log();
    assert_eq!(
        complaints.matches("failed to reload").count(),
        4,
        "{complaints}"
    );
    scene.gateway.stop().unwrap();
}

/// As Kubernetes mounts a ConfigMap: the file is a link through `..data`, which is swapped as a whole.
#[test]
fn a_configuration_behind_a_swapped_link_is_followed_as_a_file_is() {
    let scene = Scene::start(&["gateway"]);
    let (path, dir) = (scene.weir.config(), scene.weir.dir());
    let good = fs::read_to_string(&path).unwrap();
    let publish = |version: &str, text: &str| {
        fs::create_dir(dir.join(version)).unwrap();
        fs::write(dir.join(version).join("weir.toml"), text).unwrap();
        symlink(version, dir.join("..data_tmp")).unwrap();
        fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
    };
    publish("..1", &good);
    symlink("..data/weir.toml", dir.join("link")).unwrap();
    fs::rename(dir.join("link"), &path).unwrap();

    let is_answered = |alias: &str, status: u16| {
        wait_for(&format!("{alias} is answered {status}"), || {
            let answer = chat_request(&scene.key, alias).send(scene.weir.gateway)?;
            Ok(answer.status == status)
        })
        .unwrap();
    };
    publish("..2", &good.replace("\"fast-chat\"", "\"renamed\""));
    fs::remove_dir_all(dir.join("..1")).unwrap();
    is_answered("renamed", 200);
    is_answered("fast-chat", 404);
    let half = &good[..good.len() / 3];
    for (version, wrong) in [("..3", ""), ("..5", half)] {
        publish(version, wrong);
        scene.wait_for_part("config", "failed");
        is_answered("renamed", 200);
        publish(&format!("{version}.mended"), &good);
        is_answered("fast-chat", 200);
        scene.wait_for_part("config", "ok");
        publish(
            &format!("{version}.renamed"),
            &good.replace("\"fast-chat\"", "\"renamed\""),
        );
        is_answered("renamed", 200);
    }
    // A mount that is gone for a while.
    fs::remove_file(dir.join("..data")).unwrap();
    scene.wait_for_part("config", "failed");
    is_answered("renamed", 200);
    publish("..9", &good);
    is_answered("fast-chat", 200);
    scene.wait_for_part("config", "ok");
}

#[test]
fn a_configuration_without_aliases_is_put_in_force_on_demand() {
    let scene = Scene::start(&["gateway", "--allow-empty"]);
    fs::write(scene.weir.config(), "").unwrap();
    wait_for("nothing is served", || {
        Ok(chat(scene.weir.gateway, &scene.key).status == 404)
    })
    .unwrap();
    scene.wait_for_part("config", "ok");
}

#[test]
fn an_ingestor_that_ends_is_started_again_until_it_can_go_on() {
    let mock = MockProvider::start(MockOptions::default()).unwrap();
    let weir = Installation::new(&config(&mock)).unwrap();
    let key = weir.create_key("growth").unwrap();
    // It cannot sign checkpoints with what is no key.
    let checkpoint_key = weir.data_dir().join("audit/checkpoint.key");
    fs::write(&checkpoint_key, "").unwrap();
    let up = weir.start(&["up"]).unwrap();
    weir.wait_until_ready().unwrap();
    let reason = wait_for_part(&weir, "ingestor", "restarting");
    assert!(reason.contains("seal"), "{reason}");
    let metrics = Request::get("/metrics").send(weir.gateway).unwrap();
    assert!(metrics.text().contains("weir_part_up{part=\"ingestor\"} 0"));
    assert_eq!(chat(weir.gateway, &key).status, 200);
    fs::remove_file(&checkpoint_key).unwrap();
    let stored = "SELECT count() FROM weir.requests WHERE status = 200";
    weir.wait_for_number(stored, 1).unwrap();
    wait_for_part(&weir, "ingestor", "ok");
    for part in [
        "store",
        "feedback",
        "journal-reader",
        "seals",
        "routing-tables",
        "upkeep",
    ] {
        wait_for_part(&weir, part, "ok");
    }
    // The engine's process, too.
    up.kill_child().unwrap();
    assert_eq!(chat(weir.gateway, &key).status, 200);
    weir.wait_for_number(stored, 2).unwrap();
    wait_for_part(&weir, "store", "ok");
    up.stop().unwrap();
}

/// Here the writer itself seals other than it writes: to an ingestor that looks as if its events were
/// changed on the way.
#[test]
fn rows_that_are_not_what_was_sealed_fail_a_part_and_no_request() {
    let mock = MockProvider::start(MockOptions::default()).unwrap();
    let weir = Installation::new(&config(&mock)).unwrap();
    let key = weir.create_key("growth").unwrap();
    let journal = Journal::open(JournalOptions {
        chaining: Some(Chaining {
            link: |chain, seq, payload| (CHAINING.link)(chain, seq, payload) ^ 1,
            ..CHAINING
        }),
        ..JournalOptions::new(weir.data_dir().join("journal"))
    });
    let journal = journal.unwrap();
    let writer = journal.open_stream(0).unwrap();
    write(&writer, 0, 1);
    writer.close().unwrap();
    drop(journal);
    let up = weir.start(&["up"]).unwrap();
    weir.wait_until_ready().unwrap();
    let reason = wait_for_part(&weir, "seals", "failed");
    assert!(reason.contains("weir audit verify"), "{reason}");
    let metrics = Request::get("/metrics").send(weir.gateway).unwrap();
    assert!(metrics.text().contains("weir_part_up{part=\"seals\"} 0"));
    assert!(up.log().contains("a row is not what its gateway sealed"));
    assert_eq!(chat(weir.gateway, &key).status, 200);
}

/// Followers go on when there is no file descriptor for a while, as when connections take all of them.
#[test]
fn who_follows_files_survives_a_lack_of_descriptors() {
    let scene = Scene::start(&["gateway"]);
    let good = fs::read_to_string(scene.weir.config()).unwrap();
    // The limit counts by number: below three, all are taken.
    scene.gateway.limit_descriptors(3).unwrap();
    // It says that nobody takes the key over yet.
    let create = ["keys", "create", "--json", "--team", "growth"];
    let made = scene.weir.command(&create).output().unwrap();
    assert_eq!(made.status.code(), Some(1), "{made:?}");
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    let later = made["key"].as_str().unwrap();
    let renamed = good.replace("\"fast-chat\"", "\"renamed\"");
    fs::write(scene.weir.config(), &renamed).unwrap();
    let log = scene.control_log();
    let mut complaints = String::new();
    wait_for("both complain", || {
        complaints = scene.gateway.log();
        let complains = |what: &str| complaints.contains(what);
        Ok(complains("failed to read the control log") && complains("failed to reload"))
    })
    .unwrap();
    assert!(complaints.contains("Too many open files"), "{complaints}");
    assert!(log.exists());
    scene.gateway.limit_descriptors(1024).unwrap();
    for part in ["config", "control-log", "routing-tables"] {
        scene.wait_for_part(part, "ok");
    }
    wait_for("both are followed again", || {
        let called = chat_request(later, "renamed").send(scene.weir.gateway)?;
        Ok(called.status == 200)
    })
    .unwrap();
    scene.gateway.stop().unwrap();
}
