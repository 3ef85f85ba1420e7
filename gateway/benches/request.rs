//! One request after the other over one connection: straight to a mock provider, and through the
//! gateway with its events written. The difference is what the gateway adds to an idle system.
//!
//! `cargo bench -p weir-gateway`. Under load, and against a bare proxy, measure with
//! the example `ceiling` of `weir-loadtest`.
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot start has nothing to say"
)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use criterion::{Criterion, criterion_group, criterion_main};
use weir_controller::TablePolicy;
use weir_eventlog::{Journal, JournalOptions, Parts, RecordLog, TableLog};
use weir_gateway::config::BreakerSpec;
use weir_gateway::config::{AliasConfig, GatewayConfig, ProviderConfig};
use weir_gateway::{Directory, GatewayHandle, GatewayOptions};
use weir_governance::control::record::{Change, KeyRecord, Record};
use weir_governance::control::{Control, key};
use weir_loadtest::mock::{MockOptions, MockProvider};
use weir_schemas::prices::Book;

/// A connection that sends the same request again and again.
struct Caller {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
    request: Vec<u8>,
}

impl Caller {
    fn connect(address: SocketAddr, key: &str, streamed: bool) -> Self {
        let body = format!(
            r#"{{"model":"fast-chat","messages":[{{"role":"user","content":"hello"}}],"max_tokens":16,"stream":{streamed}}}"#
        );
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: weir\r\nauthorization: Bearer {key}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        let reader = BufReader::new(stream.try_clone().unwrap());
        Self {
            stream,
            reader,
            request: [head, body].concat().into_bytes(),
        }
    }

    /// Sends the request and reads the whole answer.
    fn call(&mut self) -> usize {
        self.stream.write_all(&self.request).unwrap();
        let (mut line, mut length, mut first) = (String::new(), None, true);
        loop {
            line.clear();
            self.reader.read_line(&mut line).unwrap();
            assert!(!first || line.contains("200"), "{line}");
            first = false;
            let lower = line.to_ascii_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = Some(value.trim().parse::<usize>().unwrap());
            }
            if line == "\r\n" {
                break;
            }
        }
        match length {
            Some(length) => self.read(length),
            None => self.read_chunks(),
        }
    }

    fn read(&mut self, length: usize) -> usize {
        let mut body = vec![0; length];
        self.reader.read_exact(&mut body).unwrap();
        length
    }

    fn read_chunks(&mut self) -> usize {
        let mut total = 0;
        loop {
            let mut line = String::new();
            self.reader.read_line(&mut line).unwrap();
            let length = usize::from_str_radix(line.trim(), 16).unwrap();
            self.read(length + 2);
            if length == 0 {
                return total;
            }
            total += length;
        }
    }
}

fn gateway(dir: &std::path::Path, upstream: &str) -> (GatewayHandle, String) {
    let provider: ProviderConfig = serde_json::from_value(serde_json::json!({
        "name": "mock", "dialect": "openai", "base_url": upstream
    }))
    .unwrap();
    let alias: AliasConfig = serde_json::from_value(serde_json::json!({
        "name": "fast-chat", "targets": [{ "provider": "mock", "model": "small" }]
    }))
    .unwrap();
    let control = Control::open(dir, None, None).unwrap();
    let (key, hash) = control.hash_key.new_key().unwrap();
    let record = KeyRecord {
        team: Some("bench".into()),
        ..KeyRecord::new(key::KeyId(1), hash, 0)
    };
    let change = Change::set(Record::Key(record));
    control.append(&change).unwrap();
    let handle = weir_gateway::start(GatewayOptions {
        config: GatewayConfig {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            threads: std::num::NonZeroUsize::new(1),
            ..GatewayConfig::default()
        },
        directory: Directory::build(
            &[provider],
            &[alias],
            &[],
            BreakerSpec::default(),
            &Book::built_in().unwrap(),
            None,
        )
        .unwrap(),
        control: control.follow(&Parts::default()).unwrap(),
        spend_dir: dir.join("spend"),
        peers: None,
        parts: Parts::default(),
        tables: TableLog::new(
            RecordLog::File(dir.join("routing.log")),
            TablePolicy::default(),
        ),
        journal: Journal::open(JournalOptions::new(dir.join("journal"))).unwrap(),
        payloads: weir_gateway::Payloads::build(&weir_gateway::config::PayloadsConfig::default())
            .unwrap(),
    })
    .unwrap();
    (handle, key)
}

fn round_trips(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let mock = MockProvider::start(MockOptions::default()).unwrap();
    let (gateway, key) = gateway(dir.path(), &mock.base_url());
    for (name, streamed) in [("plain", false), ("stream of 16 tokens", true)] {
        let mut group = criterion.benchmark_group(name);
        let mut direct = Caller::connect(mock.addr(), "mock", streamed);
        group.bench_function("direct", |bencher| bencher.iter(|| direct.call()));
        let mut through = Caller::connect(gateway.addr(), &key, streamed);
        group.bench_function("through weir", |bencher| bencher.iter(|| through.call()));
        group.finish();
    }
    gateway.shutdown();
}

criterion_group!(benches, round_trips);
criterion_main!(benches);
