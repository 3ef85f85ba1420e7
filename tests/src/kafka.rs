//! One node of real Apache Kafka, for tests.
//!
//! The jars come from Maven Central, once, into `$WEIR_CACHE/kafka` (by default `.weir/kafka` in the
//! repository). A node listens on a free port of 127.0.0.1, keeps its data in a directory of its
//! own, and dies with the process that started it, however that ends: a shell holds a pipe from us
//! and kills the node when it closes.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use tempfile::TempDir;

use crate::port::ReservedPort;

/// Version of Kafka, and of the logger it needs beside it.
const KAFKA: &str = "4.1.1";
const LOG4J: &str = "2.25.2";

/// How long a node may take to answer. Mostly it takes three seconds; the machine may be busy.
const START_MAX: Duration = Duration::from_secs(120);

/// Starts Java, says its process id, and kills it when the pipe from us closes.
const GUARD: &str = r#""$@" </dev/null >>"$LOG" 2>&1 & echo $!; read -r _; kill -9 $!; wait $!"#;

/// A node, running or stopped. Its data and its address stay from one start to the next.
#[derive(Debug)]
pub struct Kafka {
    libs: PathBuf,
    dir: TempDir,
    /// The broker's and the controller's: Kafka must know them before it starts.
    ports: [ReservedPort; 2],
    node: Option<Node>,
}

#[derive(Debug)]
struct Node {
    guard: Child,
    pipe: ChildStdin,
    pid: u32,
}

impl Kafka {
    /// Makes a node with an empty log and starts it. Returns when it answers.
    pub fn start() -> Result<Self> {
        let libs = fetch_jars()?;
        let dir = tempfile::tempdir().context("make directory for kafka")?;
        let ports = [ReservedPort::new()?, ReservedPort::new()?];
        let [port, controller_port] = ports.each_ref().map(ReservedPort::number);
        let properties = properties(dir.path(), port, controller_port);
        fs::write(dir.path().join("server.properties"), properties)?;

        let mut kafka = Self {
            libs,
            dir,
            ports,
            node: None,
        };
        kafka.format()?;
        kafka.start_again()?;
        Ok(kafka)
    }

    /// The address for `bootstrap.servers`.
    #[must_use]
    pub fn brokers(&self) -> String {
        self.ports[0].address.to_string()
    }

    /// Process id of the node, for tests that signal it.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.node.as_ref().map(|node| node.pid)
    }

    /// Kills the node with SIGKILL. Its log stays.
    pub fn kill(&mut self) {
        self.node = None;
    }

    /// Starts a node that was killed. Returns when it answers.
    pub fn start_again(&mut self) -> Result<()> {
        ensure!(self.node.is_none(), "kafka runs already");
        let mut node = self.launch()?;
        let deadline = Instant::now() + START_MAX;
        while !self.answers() {
            let exited = node.guard.try_wait()?.is_some();
            if exited || Instant::now() > deadline {
                drop(node);
                bail!("kafka did not come up; its log says:\n{}", self.log());
            }
        }
        self.node = Some(node);
        Ok(())
    }

    /// What the node has written to its log.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("kafka.log")
    }

    fn java(&self, class: &str) -> Vec<String> {
        let words = [
            "java",
            "-Xmx384m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-cp",
            &format!("{}/*", self.libs.display()),
            class,
        ];
        words.map(str::to_owned).into()
    }

    fn properties_path(&self) -> PathBuf {
        self.dir.path().join("server.properties")
    }

    /// Writes the cluster's id into an empty data directory; Kafka does not start without.
    fn format(&self) -> Result<()> {
        let java = self.java("kafka.tools.StorageTool");
        let output = Command::new(&java[0])
            .args(&java[1..])
            .args([
                "format",
                "--standalone",
                "-t",
                "d2VpciB0ZXN0cyBub2RlLg",
                "-c",
            ])
            .arg(self.properties_path())
            .output()
            .context("run java: install a Java runtime of version 17 or later")?;
        let told = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "format the data directory of kafka: {told}"
        );
        Ok(())
    }

    fn launch(&self) -> Result<Node> {
        let mut guard = Command::new("sh")
            .args(["-c", GUARD, "sh"])
            .args(self.java("kafka.Kafka"))
            .arg(self.properties_path())
            .env("LOG", self.log_path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("start kafka")?;
        let pipe = guard.stdin.take().context("no pipe to kafka's guard")?;
        let told = guard.stdout.take().context("no pipe from kafka's guard")?;
        let mut line = String::new();
        BufReader::new(told).read_line(&mut line)?;
        let pid = line.trim().parse().context("read kafka's process id")?;
        Ok(Node { guard, pipe, pid })
    }

    fn answers(&self) -> bool {
        let client: Result<BaseConsumer, _> = ClientConfig::new()
            .set("bootstrap.servers", self.brokers())
            .set("reconnect.backoff.max.ms", "200")
            .set("log_level", "0")
            .create();
        let metadata =
            client.and_then(|client| client.fetch_metadata(None, Duration::from_secs(2)));
        metadata.is_ok_and(|metadata| !metadata.brokers().is_empty())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // A line tells the guard to kill the node; should the guard be gone, so is the node.
        let _ = self.pipe.write_all(b"\n");
        let _ = self.guard.wait();
    }
}

fn properties(dir: &Path, port: u16, controller_port: u16) -> String {
    let data = dir.join("data");
    format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         controller.quorum.bootstrap.servers=127.0.0.1:{controller_port}\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}\n\
         controller.listener.names=CONTROLLER\n\
         inter.broker.listener.name=PLAINTEXT\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
         log.dirs={}\n\
         auto.create.topics.enable=false\n\
         num.partitions=1\n\
         offsets.topic.num.partitions=1\n\
         offsets.topic.replication.factor=1\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n\
         share.coordinator.state.topic.replication.factor=1\n\
         share.coordinator.state.topic.min.isr=1\n\
         group.initial.rebalance.delay.ms=0\n\
         group.min.session.timeout.ms=1000\n\
         log.cleaner.dedupe.buffer.size=8388608\n\
         log.cleaner.backoff.ms=200\n\
         log.segment.bytes=16777216\n",
        data.display()
    )
}

/// Where things are kept that are fetched once.
fn cache_dir() -> PathBuf {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    std::env::var_os("WEIR_CACHE").map_or_else(|| repository.join(".weir"), PathBuf::from)
}

/// The directory with Kafka's jars. Fetches them if they are not there; one process at a time.
fn fetch_jars() -> Result<PathBuf> {
    let cache = cache_dir().join("kafka");
    fs::create_dir_all(&cache).with_context(|| format!("create {}", cache.display()))?;
    let lock = File::create(cache.join("lock"))?;
    lock.lock()
        .context("wait for another process that fetches kafka")?;

    let libs = cache.join(format!("{KAFKA}-libs"));
    if libs.is_dir() {
        return Ok(libs);
    }
    let unfinished = cache.join("unfinished");
    if unfinished.is_dir() {
        fs::remove_dir_all(&unfinished)?;
    }
    let pom = cache.join("pom.xml");
    fs::write(&pom, pom_xml())?;
    let output = Command::new("mvn")
        .args(["--batch-mode", "--quiet", "--strict-checksums", "--file"])
        .arg(&pom)
        .arg("dependency:copy-dependencies")
        .arg("-DincludeScope=runtime")
        .arg(format!("-DoutputDirectory={}", unfinished.display()))
        .output()
        .context("run mvn: install Maven, which fetches Apache Kafka for the tests")?;
    let told = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "fetch kafka {KAFKA} by Maven: {told}"
    );
    fs::rename(&unfinished, &libs)?;
    Ok(libs)
}

fn pom_xml() -> String {
    let dependency = |group: &str, artifact: &str, version: &str| {
        format!(
            "<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId>\
             <version>{version}</version></dependency>\n"
        )
    };
    let kafka = dependency("org.apache.kafka", "kafka_2.13", KAFKA);
    let log4j = dependency("org.apache.logging.log4j", "log4j-slf4j-impl", LOG4J);
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\">\n\
         <modelVersion>4.0.0</modelVersion>\n\
         <groupId>weir</groupId><artifactId>kafka-for-tests</artifactId><version>1</version>\n\
         <dependencies>\n{kafka}{log4j}</dependencies>\n</project>\n"
    )
}
