#!/usr/bin/env bash
# rdkafka (Rust) 0.39.0: `describe_configs` of a topic that does not exist is `Ok` without entries, not an error.
#
# `AdminClient::describe_configs` gives a `Result` for each resource. Kafka answers with an error for each resource too,
# and librdkafka hands it on, but the crate does not read it: a missing topic is `Ok(ConfigResource { entries: [] })`.
# confluent-kafka, on the same librdkafka 2.12.1 and the same broker, raises UNKNOWN_TOPIC_OR_PART. Who looks up
# `retention.ms` takes a misspelled topic for one without that setting.
# Seen: the lines below, of Apache Kafka 4.1.1. Fails if that changes. Needs Java 17 or later, and Maven.
set -euo pipefail
dir="$(mktemp -d)"
broker=""
trap '[ -z "$broker" ] || kill -9 "$broker"; rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check confluent-kafka==2.12.1
cat >pom.xml <<'XML'
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>finding</groupId><artifactId>finding</artifactId><version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>4.1.1</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>2.25.2</version>
    </dependency>
  </dependencies>
</project>
XML
mvn --batch-mode --quiet dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory=libs >&2
mkdir src
cat >Cargo.toml <<'TOML'
[package]
name = "finding"
version = "0.0.0"
edition = "2021"

[dependencies]
pollster = "=0.4.0"
rdkafka = { version = "=0.39.0", default-features = false }
rdkafka-sys = "=4.10.0"
TOML
cat >src/main.rs <<'RUST'
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier::Topic};
use rdkafka::client::DefaultClientContext;
use rdkafka::ClientConfig;

fn main() {
    let brokers = std::env::args().nth(1).unwrap();
    let client: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap();
    let topics = ["there", "missing"];
    let asked = topics.map(Topic);
    let told = pollster::block_on(client.describe_configs(&asked, &AdminOptions::new())).unwrap();
    for (topic, told) in topics.iter().zip(told) {
        let told = told.map(|resource| {
            let value = resource.get("retention.ms").map(|entry| entry.value.clone());
            (resource.entries.is_empty(), value.flatten())
        });
        match told {
            Ok((empty, value)) => println!("rdkafka, {topic}: Ok, empty: {empty}, retention.ms: {value:?}"),
            Err(error) => println!("rdkafka, {topic}: {error:?}"),
        }
    }
}
RUST
cat >finding.py <<'PY'
import sys, time
import confluent_kafka
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic

client = AdminClient({"bootstrap.servers": sys.argv[1], "reconnect.backoff.max.ms": 200, "log_level": 0})
deadline = time.monotonic() + 120
while True:
    try:
        client.list_topics(timeout=2)
        break
    except confluent_kafka.KafkaException:
        if time.monotonic() > deadline:
            raise
client.create_topics([NewTopic("there", 1, 1, config={"retention.ms": "3600000"})])["there"].result()
for topic in ("there", "missing"):
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
    try:
        told = "retention.ms: " + client.describe_configs([resource])[resource].result()["retention.ms"].value
    except confluent_kafka.KafkaException as error:
        told = error.args[0].name()
    print(f"confluent-kafka on librdkafka {confluent_kafka.libversion()[0]}, {topic}: {told}")
PY
read -r port controller <<<"$(python3 -c '
import socket
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(it.getsockname()[1] for it in held))')"
cat >server.properties <<PROPERTIES
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:$controller
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$dir/data
log.cleaner.dedupe.buffer.size=8388608
auto.create.topics.enable=false
PROPERTIES
kafka=(java -Xmx384m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp "$dir/libs/*")
"${kafka[@]}" kafka.tools.StorageTool format --standalone -t c29tZSBjbHVzdGVyJ3MgaQ -c server.properties >&2
CARGO_TARGET_DIR="$dir/target" cargo build --quiet
"${kafka[@]}" kafka.Kafka server.properties &>kafka.log &
broker=$!
disown
seen="$(venv/bin/python finding.py "127.0.0.1:$port" && target/debug/finding "127.0.0.1:$port")"
echo "$seen"
[ "$seen" = "confluent-kafka on librdkafka 2.12.1, there: retention.ms: 3600000
confluent-kafka on librdkafka 2.12.1, missing: UNKNOWN_TOPIC_OR_PART
rdkafka, there: Ok, empty: false, retention.ms: Some(\"3600000\")
rdkafka, missing: Ok, empty: true, retention.ms: None" ]
