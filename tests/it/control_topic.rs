//! The control log in Kafka: a topic that was deleted, emptied, cut off or swapped under running gateways is
//! noticed, and nothing of what they know is lost.

use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::Value;
use weir_loadtest::mock::{MockHandle, MockOptions, MockProvider};
use weir_tests::gateway::{chat, config};
use weir_tests::http::Request;
use weir_tests::weir::{Installation, PATIENCE, Process, wait_for};

use crate::kafka_log::KAFKA;
use crate::parts::wait_for_part;

/// A topic on the node that other tests leave in peace.
struct Topic(&'static str);

impl Topic {
    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", KAFKA.brokers());
        config
    }

    fn admin<T>(&self, call: impl AsyncFnOnce(AdminClient<DefaultClientContext>) -> T) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime
            .unwrap()
            .block_on(call(self.client().create().unwrap()))
    }

    fn delete(&self) {
        let deleted =
            self.admin(async |admin| admin.delete_topics(&[self.0], &AdminOptions::new()).await);
        assert!(deleted.unwrap().iter().all(Result::is_ok));
    }

    /// The name of one that was deleted is free a little later.
    fn make(&self) {
        let policy = [("cleanup.policy", "compact")];
        let topic = policy.iter().fold(
            NewTopic::new(self.0, 1, TopicReplication::Fixed(1)),
            |topic, (name, value)| topic.set(name, value),
        );
        wait_for("the topic is made", || {
            let made =
                self.admin(async |admin| admin.create_topics([&topic], &AdminOptions::new()).await);
            Ok(made?.iter().all(Result::is_ok))
        })
        .unwrap();
    }

    /// Deletes all of its records, as retention would if it were not compacted.
    fn empty(&self) {
        self.set("cleanup.policy", "delete");
        let mut until = TopicPartitionList::new();
        until.add_partition_offset(self.0, 0, Offset::End).unwrap();
        let cut =
            self.admin(async |admin| admin.delete_records(&until, &AdminOptions::new()).await);
        let cut = cut.unwrap();
        assert!(cut.elements().iter().all(|it| it.error().is_ok()));
        self.set("cleanup.policy", "compact");
    }

    /// Writes what another installation would write.
    fn write_teams(&self, count: u32) {
        let producer: BaseProducer = self.client().create().unwrap();
        for number in 0..count {
            let id = format!("stranger-{number}");
            let record = format!(r#"{{"kind":"team","id":"{id}","record":{{"id":"{id}"}}}}"#);
            let key = format!("team/{id}");
            let record = BaseRecord::to(self.0)
                .partition(0)
                .key(&key)
                .payload(&record);
            producer.send(record).unwrap();
        }
        producer.flush(PATIENCE).unwrap();
    }

    fn set(&self, name: &str, value: &str) {
        let wanted = AlterConfig::new(ResourceSpecifier::Topic(self.0)).set(name, value);
        let altered =
            self.admin(async |admin| admin.alter_configs([&wanted], &AdminOptions::new()).await);
        assert!(altered.unwrap().iter().all(Result::is_ok));
    }
}

/// A gateway of a cluster whose keys and rules are in a topic.
struct Member {
    weir: Installation,
    gateway: Option<Process>,
    _mock: MockHandle,
}

impl Member {
    fn start(topic: &Topic) -> Self {
        let mock = MockProvider::start(MockOptions::default()).unwrap();
        let weir = Installation::new(&format!(
            "[eventlog]\nkind = \"kafka\"\nbrokers = \"{}\"\ntopic = \"{name}.events\"\npartitions = 1\n\n\
             [control]\ntopic = \"{name}\"\nhash_secret = \"a secret of thirty-two bytes or more\"\n\n{}",
            KAFKA.brokers(),
            config(&mock),
            name = topic.0,
        ))
        .unwrap();
        let mut member = Self {
            weir,
            gateway: None,
            _mock: mock,
        };
        member.restart();
        member
    }

    fn restart(&mut self) {
        if let Some(gateway) = self.gateway.take() {
            gateway.stop().unwrap();
        }
        self.gateway = Some(self.weir.start(&["gateway"]).unwrap());
        self.weir.wait_until_ready().unwrap();
    }

    fn status(&self, key: &str) -> u16 {
        chat(self.weir.gateway, key).status
    }

    fn doctor(&self, check: &str) -> Value {
        let said = self.weir.command(&["doctor", "--json"]).output().unwrap();
        let checks: Vec<Value> = serde_json::from_slice(&said.stdout).unwrap();
        checks.into_iter().find(|it| it["check"] == check).unwrap()
    }

    /// Neither a command nor the admin API makes a key of which nobody would hear.
    fn refuses_changes(&self, admin_token: &str) {
        let create = ["keys", "create", "--team", "late"];
        let refused = self.weir.command(&create).output().unwrap();
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(
            !refused.status.success() && said.contains("weir control repair"),
            "{said}"
        );
        let refused = Request::post("/admin/v1/keys", r#"{"team":"late"}"#)
            .bearer(admin_token)
            .send(self.weir.gateway)
            .unwrap();
        assert_eq!(refused.status, 503, "{refused:?}");
        assert!(
            refused.message().starts_with("nothing was changed: "),
            "{refused:?}"
        );
    }
}

#[test]
fn a_control_topic_that_lost_what_was_in_it_is_refused_until_it_is_repaired() {
    let topic = Topic("lost.control");
    let mut member = Member::start(&topic);
    let key = member.weir.create_key("growth").unwrap();
    let (revoked_id, revoked) = member.weir.create_key_with(&["--team", "growth"]).unwrap();
    member.weir.run(&["keys", "revoke", &revoked_id]).unwrap();
    let token = ["tokens", "create", "operator", "--role", "admin", "--json"];
    let token: Value = serde_json::from_slice(&member.weir.run(&token).unwrap().stdout).unwrap();
    let token = token["token"].as_str().unwrap();

    let damages: [(&str, &dyn Fn()); 4] = [
        ("deleted", &|| topic.delete()),
        ("made anew", &|| {
            topic.delete();
            topic.make();
        }),
        ("another one, and longer", &|| {
            topic.delete();
            topic.make();
            topic.write_teams(200);
        }),
        ("emptied", &|| topic.empty()),
    ];
    for (what, damage) in damages {
        damage();
        let reason = wait_for_part(&member.weir, "control-log", "failed");
        assert!(reason.contains("weir control repair"), "{what}: {reason}");
        assert_eq!(member.doctor("part control-log")["verdict"], "FAIL");
        member.refuses_changes(token);
        assert_eq!([&key, &revoked].map(|it| member.status(it)), [200, 401]);
        // Nor does a start take the topic's word.
        member.restart();
        wait_for_part(&member.weir, "control-log", "failed");
        member.refuses_changes(token);
        assert_eq!([&key, &revoked].map(|it| member.status(it)), [200, 401]);

        member.weir.run(&["control", "repair"]).unwrap();
        wait_for_part(&member.weir, "control-log", "ok");
        let later = member.weir.create_key("growth").unwrap();
        assert_eq!(
            [&key, &revoked, &later].map(|it| member.status(it)),
            [200, 401, 200],
            "{what}"
        );
    }
    // Another machine reads all of it from the topic.
    let other = Member::start(&topic);
    assert_eq!([&key, &revoked].map(|it| other.status(it)), [200, 401]);
    let again = member.weir.run(&["control", "repair"]).unwrap().stdout;
    assert!(String::from_utf8_lossy(&again).contains("lacks nothing"));
}

#[test]
fn a_control_topic_that_deletes_its_records_is_told() {
    let topic = Topic("deleting.control");
    let member = Member::start(&topic);
    assert_eq!(member.doctor("control topic")["verdict"], "OK");
    topic.set("cleanup.policy", "delete");
    let report = member.doctor("control topic");
    assert_eq!(report["verdict"], "FAIL", "{report}");
    assert!(
        report["detail"].as_str().unwrap().contains("168.0 h"),
        "{report}"
    );
}
