//! The loop from a request to the table that decides the next one.

use std::time::Duration;

use serde_json::Value;
use weir_controller::{TableController, TablePolicy};
use weir_eventlog::{KafkaOptions, RecordLog, TableLog, TableLogError};
use weir_loadtest::mock::{FaultKind, FaultRule};
use weir_schemas::table::{Origin, RoutingTable, TableRecord};
use weir_tests::http::get;
use weir_tests::kafka::Kafka;
use weir_tests::weir::{Process, wait_for};

use super::scene::{Scene, Setting, Traffic, number, unix_us, wait_for_requests};
use crate::alone;

/// Quick tables that are soon forgotten.
const QUICK: &str = "[routing]\nrefresh_s = 1\nwindow_s = 60\n[routing.table]\ntrusted_s = 2\nforgotten_s = 4\ntries_min = 10\n\n";

#[test]
fn what_was_measured_decides_and_is_explained() {
    let _machine = alone();
    let mut setting = Setting {
        config: QUICK.to_owned(),
        ..Setting::default()
    };
    setting.mock("quick", "2ms", Vec::new());
    setting.mock("lazy", "250ms", Vec::new());
    setting.alias("chat", "strategy = \"latency\"", &["quick", "lazy"]);
    let scene = setting.start(&["gateway"]);
    let ingestor = scene.weir.start(&["ingestor"]).unwrap();
    scene.weir.wait_for_store().unwrap();

    let cited = a_decision_cites_the_table(&scene, &ingestor);
    the_table_says_what_was_measured(&scene, cited);
    operators_decide(&scene);
    ingestor.stop().unwrap();
    let scene = a_table_that_nobody_renews_is_forgotten(scene);
    scene.up.stop().unwrap();
}

/// Traffic → measured → published → adopted → cited by a decision → named by its explanation.
fn a_decision_cites_the_table(scene: &Scene, ingestor: &Process) -> u64 {
    let traffic = Traffic::start(scene, "chat", 60);
    let cited = "SELECT max(table_version) FROM weir.requests WHERE table_version IS NOT NULL";
    wait_for("decisions cite a table made from measurements", || {
        Ok(scene.weir.number(cited).is_ok_and(|version| version >= 3))
    })
    .unwrap_or_else(|error| panic!("{error}\n{}\n{}", ingestor.log(), scene.up.log()));
    assert!(traffic.stop().iter().all(|status| *status == 200));
    let one = "SELECT request_id, table_version, candidates, route_seed FROM weir.requests \
               WHERE table_version IS NOT NULL ORDER BY ts DESC LIMIT 1";
    let row = scene.weir.sql(one).unwrap().remove(0);
    let version = number(&row, "table_version");
    let propensities: Vec<f64> = row["candidates"]
        .as_array()
        .unwrap()
        .iter()
        .map(|candidate| candidate[2].as_f64().unwrap())
        .collect();
    assert_eq!(propensities.len(), 2);
    assert!(
        (propensities.iter().sum::<f64>() - 1.0).abs() < 1e-5,
        "{propensities:?}"
    );
    let adopted = format!("SELECT count() FROM weir.routing_tables WHERE version = {version}");
    scene.weir.wait_for_number(&adopted, 1).unwrap();
    let id = row["request_id"].as_str().unwrap();
    let words = scene.weir.run(&["routes", "explain", id]).unwrap();
    let words = String::from_utf8(words.stdout).unwrap();
    for part in [
        format!("routing table {version}"),
        "alias \"chat\", strategy latency".into(),
        "quick/m".into(),
        "lazy/m".into(),
        "attempt 1: first at".into(),
        format!("routing table {version} (measured):"),
    ] {
        assert!(words.contains(&part), "{part:?} is not in {words}");
    }
    version
}

fn the_table_says_what_was_measured(scene: &Scene, version: u64) {
    let json = format!("SELECT routing_table FROM weir.routing_tables WHERE version = {version}");
    let row = scene.weir.sql(&json).unwrap().remove(0);
    let table: RoutingTable = serde_json::from_str(row["routing_table"].as_str().unwrap()).unwrap();
    let alias = table.alias("chat").unwrap();
    let (quick, lazy) = (
        alias.target("quick/m").unwrap(),
        alias.target("lazy/m").unwrap(),
    );
    assert!(quick.weight > lazy.weight, "{alias:?}");
    assert!(lazy.ttft_us.unwrap() > quick.ttft_us.unwrap(), "{alias:?}");
    assert!(quick.tries > lazy.tries, "{alias:?}");
    assert!(
        !table.inputs.is_empty() && table.to_us > table.from_us,
        "{table:?}"
    );
}

fn operators_decide(scene: &Scene) {
    let said = |args: &[&str]| {
        let output = scene.weir.run(args).unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(said(&["routes", "freeze"]).contains("frozen by an operator"));
    let shown: Value = serde_json::from_str(&said(&["routes", "show", "--json"])).unwrap();
    let frozen = shown["table"]["version"].as_u64().unwrap();
    assert_eq!(
        (&shown["mode"], &shown["table"]["ages"]),
        (&"frozen".into(), &false.into())
    );
    let states = shown["deployments"].as_array().unwrap();
    assert!(
        states
            .iter()
            .any(|it| it["deployment"] == "quick/m" && it["state"] == "closed")
    );
    is_adopted(scene, frozen);
    let next: Value = serde_json::from_str(&said(&["routes", "dry-run", "--json"])).unwrap();
    assert_eq!(next["version"].as_u64(), Some(frozen + 1));
    let pinned = said(&["routes", "pin", "2"]);
    assert!(
        pinned.contains(&format!("routing table {}", frozen + 1)),
        "{pinned}"
    );
    is_adopted(scene, frozen + 1);
    assert!(said(&["routes", "rollback"]).contains("pinned to 1"));
    is_adopted(scene, frozen + 2);
    let refused = scene
        .weir
        .command(&["routes", "pin", "999"])
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        why.contains("999 is not kept") && why.contains("weir routes show"),
        "{why}"
    );
    assert!(said(&["routes", "resume"]).contains("measurements decide"));
    // Gateways follow each of them, and each is in the audit trail.
    let adopted = format!(
        "SELECT count() FROM weir.routing_tables WHERE origin IN ('frozen', 'pinned', 'rolled_back') \
         AND version BETWEEN {frozen} AND {}",
        frozen + 2
    );
    scene.weir.wait_for_number(&adopted, 3).unwrap();
    let changes = "SELECT count() FROM weir.control_changes WHERE object_kind = 'table'";
    scene.weir.wait_for_number(changes, 4).unwrap();
}

fn is_adopted(scene: &Scene, version: u64) {
    let line = format!("weir_routing_table_version {version}\n");
    wait_for("the gateway has adopted the table", || {
        Ok(get(scene.weir.gateway, "/metrics")?.contains(&line))
    })
    .unwrap();
}

/// The ingestor is gone; the gateway goes on, at first with the table that it has, then without.
fn a_table_that_nobody_renews_is_forgotten(mut scene: Scene) -> Scene {
    let counts_for_nothing = |scene: &Scene| {
        wait_for("the table counts for nothing", || {
            let metrics = get(scene.weir.gateway, "/metrics")?;
            Ok(metrics.contains("weir_routing_table_belief 0.0\n"))
        })
        .unwrap();
        let answer = scene.call("chat", false);
        assert_eq!(answer.status, 200);
        answer.request_id().to_owned()
    };
    let aged = counts_for_nothing(&scene);
    // A gateway that starts with nothing but a stale table goes by what it was configured with.
    scene.up.stop().unwrap();
    scene.up = scene.weir.start(&["gateway"]).unwrap();
    scene.weir.wait_until_ready().unwrap();
    let stale = counts_for_nothing(&scene);
    let ingestor = scene.weir.start(&["ingestor"]).unwrap();
    for request in [aged, stale] {
        let cited = format!(
            "SELECT countIf(table_version IS NULL) FROM weir.requests WHERE request_id = '{request}'"
        );
        scene.weir.wait_for_number(&cited, 1).unwrap();
    }
    ingestor.stop().unwrap();
    scene
}

/// Tables are made of the last seconds, and the ingestor stands still for several of their ages.
#[test]
fn late_tables_make_no_share_swing() {
    let _machine = alone();
    let mut setting = Setting {
        config: "[routing]\nrefresh_s = 1\nwindow_s = 6\n[routing.table]\ntrusted_s = 4\n\
                 forgotten_s = 12\ntries_min = 10\n\n"
            .to_owned(),
        ..Setting::default()
    };
    setting.mock("near", "100ms", Vec::new());
    setting.mock("middle", "125ms", Vec::new());
    setting.mock("far", "150ms", Vec::new());
    setting.alias("chat", "strategy = \"latency\"", &["near", "middle", "far"]);
    let scene = setting.start(&["gateway"]);
    let ingestor = scene.weir.start(&["ingestor"]).unwrap();
    scene.weir.wait_for_store().unwrap();
    let traffic = Traffic::start(&scene, "chat", 100);
    let measured = "SELECT max(version) FROM weir.routing_tables";
    wait_for("tables are made", || {
        Ok(scene
            .weir
            .number(measured)
            .is_ok_and(|version| version >= 3))
    })
    .unwrap();
    let since = unix_us();
    for _ in 0..2 {
        ingestor.signal("STOP").unwrap();
        traffic.wait_for_calls(500);
        ingestor.signal("CONT").unwrap();
        traffic.wait_for_calls(200);
    }
    let until = unix_us();
    let statuses = traffic.stop();
    assert!(statuses.iter().all(|status| *status == 200));
    wait_for_requests(&scene, "chat", statuses.len());
    let swings = format!(
        "SELECT provider, count() AS windows, avg(share) AS mean, stddevPop(share) / mean AS swing \
         FROM (SELECT intDiv(us - {since}, 2000000) AS two_s, \
                 arrayJoin(['near', 'middle', 'far']) AS provider, \
                 avg(of = provider) AS share \
               FROM (SELECT toUnixTimestamp64Micro(ts) AS us, provider AS of FROM weir.attempts \
                     WHERE alias = 'chat' AND kind = 'first' AND us BETWEEN {since} AND {until}) \
               GROUP BY two_s, provider HAVING count() >= 100) \
         GROUP BY provider ORDER BY provider"
    );
    let swings = scene.weir.sql(&swings).unwrap();
    println!("{swings:?}");
    assert_eq!(swings.len(), 3);
    for row in &swings {
        assert!(number(row, "windows") >= 4, "{swings:?}");
        let swing = row["swing"].as_f64().unwrap();
        assert!(swing < 0.2, "{swings:?}");
    }
    // They decided all the time, fresh and late ones.
    let cited = format!(
        "SELECT uniqExact(table_version) FROM weir.requests WHERE alias = 'chat' \
         AND toUnixTimestamp64Micro(ts) >= {since}"
    );
    assert!(scene.weir.number(&cited).unwrap() >= 3);
    ingestor.stop().unwrap();
    scene.up.stop().unwrap();
}

/// Requests fare well under one table and badly under the next. So that it does not depend on how fast
/// anything happens, an operator changes the table, and the ingestor is away meanwhile.
#[test]
fn a_table_under_which_requests_fare_worse_goes_back_by_itself() {
    let _machine = alone();
    let mut setting = Setting {
        config: "[routing]\nrefresh_s = 6\nwindow_s = 300\n[routing.table]\ntries_min = 10\n\
                 revert_requests_min = 30\n\n"
            .to_owned(),
        ..Setting::default()
    };
    for name in ["one", "two"] {
        setting.mock(name, "5ms", Vec::new());
    }
    setting.alias("chat", "strategy = \"latency\"", &["one", "two"]);
    let scene = setting.start(&["gateway"]);
    let ingestor = scene.weir.start(&["ingestor"]).unwrap();
    scene.weir.wait_for_store().unwrap();
    let traffic = Traffic::start(&scene, "chat", 40);
    wait_for("there is a table", || {
        let shown = scene.weir.run(&["routes", "show", "--json"])?;
        let shown: Value = serde_json::from_slice(&shown.stdout)?;
        Ok(shown["table"]["version"].as_u64().is_some())
    })
    .unwrap();
    ingestor.stop().unwrap();
    scene.weir.run(&["routes", "freeze"]).unwrap();
    let shown = scene.weir.run(&["routes", "show", "--json"]).unwrap();
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    let good = number(&shown["table"], "version");
    is_adopted(&scene, good);
    traffic.wait_for_calls(80);
    for mock in &scene.mocks {
        mock.set_faults(vec![FaultRule::always(FaultKind::ServerError)]);
    }
    scene.weir.run(&["routes", "resume"]).unwrap();
    is_adopted(&scene, good + 1);
    traffic.wait_for_calls(80);
    traffic.stop();

    let ingestor = scene.weir.start(&["ingestor"]).unwrap();
    scene.weir.wait_for_store().unwrap();
    let reverted = "SELECT routing_table FROM weir.routing_tables WHERE origin = 'reverted'";
    let mut rows = Vec::new();
    wait_for("the table goes back", || {
        rows = scene.weir.sql(reverted)?;
        Ok(!rows.is_empty())
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", ingestor.log()));
    let table: RoutingTable =
        serde_json::from_str(rows[0]["routing_table"].as_str().unwrap()).unwrap();
    let Origin::Reverted { of, to, aliases } = &table.origin else {
        panic!("{:?}", table.origin);
    };
    assert_eq!((*of, *to, table.version), (good + 1, good, good + 2));
    assert_eq!(aliases, &["chat"]);
    let shown = scene.weir.run(&["routes", "show"]).unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(
        shown.contains("(reverted)") || shown.contains("and was reverted"),
        "{shown}"
    );
    ingestor.stop().unwrap();
    scene.up.stop().unwrap();
}

#[test]
fn tables_travel_over_a_compacted_topic() {
    let _machine = alone();
    let kafka = Kafka::start().unwrap();
    let log = RecordLog::Topic(KafkaOptions {
        topic: "weir.routing".into(),
        ..KafkaOptions::new(kafka.brokers())
    });
    let mut ingestor = TableLog::new(log.clone(), TablePolicy::default());
    let mut gateway = TableLog::new(log.clone(), TablePolicy::default());
    gateway.catch_up().unwrap();
    assert!(gateway.controller().in_force().is_none());
    let publish = |tables: &mut TableLog, version| {
        tables.change::<TableLogError>(|_, _| {
            Ok(vec![TableRecord::Published(RoutingTable {
                version,
                ..RoutingTable::none()
            })])
        })
    };
    for version in 1..=3 {
        publish(&mut ingestor, version).unwrap();
    }
    let is_there = || {
        gateway.follow(Duration::from_millis(200))?;
        Ok(gateway
            .controller()
            .in_force()
            .is_some_and(|table| table.version == 3))
    };
    wait_for("the gateway has the third table", is_there).unwrap();
    // One that stood still between looking and publishing is told that it came too late.
    let mut zombie = TableLog::new(log.clone(), TablePolicy::default());
    let next = |controller: &TableController| {
        let newest = controller.in_force().map_or(0, |table| table.version);
        vec![TableRecord::Published(RoutingTable {
            version: newest + 1,
            ..RoutingTable::none()
        })]
    };
    let overtaken = zombie.change::<TableLogError>(|controller, _| {
        publish(&mut ingestor, 4).unwrap();
        Ok(next(controller))
    });
    assert!(
        matches!(overtaken, Err(TableLogError::Overtaken)),
        "{overtaken:?}"
    );
    // Both tables are in the topic under one number. Whoever was there and whoever comes now holds
    // the same one, and the zombie goes on from it.
    let mut late = TableLog::new(log, TablePolicy::default());
    late.catch_up().unwrap();
    let winner = ingestor.controller().table(4).unwrap().publisher.clone();
    wait_for("the gateway has the fourth table", || {
        gateway.follow(Duration::from_millis(200))?;
        Ok(gateway.controller().table(4).is_some())
    })
    .unwrap();
    for reader in [&gateway, &late, &zombie] {
        assert_eq!(reader.controller().table(4).unwrap().publisher, winner);
    }
    zombie
        .change::<TableLogError>(|controller, _| Ok(next(controller)))
        .unwrap();
    assert_eq!(zombie.controller().in_force().unwrap().version, 5);
}
