//! A running installation over mock providers, and traffic through it.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use weir_loadtest::mock::{FaultRule, MockLedger};
use weir_tests::gateway::completion;
use weir_tests::http::{Answer, Request, get};
use weir_tests::weir::{Installation, Process, program, wait_for};

/// Providers, and the configuration that names them.
#[derive(Default)]
pub(crate) struct Setting {
    pub(crate) config: String,
    pub(crate) mocks: Vec<Mock>,
}

impl Setting {
    /// A mock provider. Returns its place among the mocks.
    pub(crate) fn mock(&mut self, name: &str, ttft: &str, faults: Vec<FaultRule>) -> usize {
        let mock = Mock::start(name, ttft);
        if !faults.is_empty() {
            mock.set_faults(faults);
        }
        self.provider(name, &mock.base_url());
        self.mocks.push(mock);
        self.mocks.len() - 1
    }

    pub(crate) fn provider(&mut self, name: &str, base_url: &str) {
        self.config.push_str(&format!(
            "[[provider]]\nname = \"{name}\"\ndialect = \"openai\"\nbase_url = \"{base_url}\"\n\
             timeouts = {{ connect_ms = 1000, first_byte_ms = 5000, idle_ms = 2000 }}\n\n"
        ));
    }

    /// An alias over targets at providers, each with the model `m`.
    pub(crate) fn alias(&mut self, name: &str, settings: &str, providers: &[&str]) {
        let targets = providers
            .iter()
            .map(|provider| format!("{{ provider = \"{provider}\", model = \"m\" }}"))
            .collect::<Vec<_>>()
            .join(", ");
        self.config.push_str(&format!(
            "[[alias]]\nname = \"{name}\"\n{settings}\ntargets = [{targets}]\n\n"
        ));
    }

    pub(crate) fn start(self, args: &[&str]) -> Scene {
        let weir = Installation::new(&self.config).unwrap();
        let key = weir.create_key("routing").unwrap();
        let up = weir.start(args).unwrap();
        weir.wait_until_ready()
            .unwrap_or_else(|error| panic!("{error}\n{}", up.log()));
        Scene {
            weir,
            up,
            key,
            mocks: self.mocks,
        }
    }
}

/// A mock provider in a process of its own, which is told over HTTP how to behave.
pub(crate) struct Mock {
    process: Child,
    pub(crate) addr: SocketAddr,
}

impl Mock {
    fn start(name: &str, ttft: &str) -> Self {
        let mut process = Command::new(program())
            .args(["mock-provider", "--listen", "127.0.0.1:0", "--name", name])
            .args(["--ttft", ttft])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        let mut out = BufReader::new(process.stdout.take().unwrap());
        out.read_line(&mut said).unwrap();
        let (_, after) = said.split_once("http://").unwrap();
        let (addr, _) = after.split_once('/').unwrap();
        Self {
            process,
            addr: addr.parse().unwrap(),
        }
    }

    pub(crate) fn base_url(&self) -> String {
        format!("http://{}/v1", self.addr)
    }

    pub(crate) fn ledger(&self) -> MockLedger {
        let ledger = get(self.addr, "/__mock/ledger").unwrap();
        serde_json::from_str(&ledger).unwrap()
    }

    /// For the calls that begin from now on.
    pub(crate) fn set_faults(&self, rules: Vec<FaultRule>) {
        let rules = serde_json::to_string(&rules).unwrap();
        let request = Request::post("/__mock/faults", rules);
        let answer = request.header("content-type", "application/json");
        let answer = answer.send(self.addr).unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A running installation.
pub(crate) struct Scene {
    pub(crate) weir: Installation,
    pub(crate) up: Process,
    pub(crate) key: String,
    pub(crate) mocks: Vec<Mock>,
}

impl Scene {
    pub(crate) fn call(&self, model: &str, stream: bool) -> Answer {
        self.caller().call(model, stream, "hi")
    }

    pub(crate) fn caller(&self) -> Caller {
        Caller {
            gateway: self.weir.gateway,
            key: self.key.clone(),
        }
    }

    /// The tries of an alias's requests, in their order, when there are so many.
    pub(crate) fn attempts(&self, alias: &str, count: u64) -> Vec<Value> {
        let counted = format!("SELECT count() FROM weir.attempts WHERE alias = '{alias}'");
        self.weir.wait_for_number(&counted, count).unwrap();
        let rows = format!(
            "SELECT * FROM weir.attempts WHERE alias = '{alias}' ORDER BY ts, attempt = 0, attempt"
        );
        self.weir.sql(&rows).unwrap()
    }
}

#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) gateway: SocketAddr,
    pub(crate) key: String,
}

impl Caller {
    pub(crate) fn call(&self, model: &str, stream: bool, content: &str) -> Answer {
        let body = format!(
            r#"{{"model":"{model}","messages":[{{"role":"user","content":"{content}"}}],"max_tokens":8,"stream":{stream}}}"#
        );
        completion(&self.key, body).send(self.gateway).unwrap()
    }
}

/// Steady traffic in the background.
pub(crate) struct Traffic {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Vec<u16>>>,
}

impl Traffic {
    /// So many calls a second, each answered within a fraction of a second.
    pub(crate) fn start(scene: &Scene, model: &'static str, per_second: u64) -> Self {
        const THREADS: u64 = 16;
        let stop = Arc::new(AtomicBool::new(false));
        let served = Arc::new(AtomicU64::new(0));
        let pause = Duration::from_micros(THREADS * 1_000_000 / per_second);
        let run = |number: u64| {
            let (stop, served, caller) = (stop.clone(), served.clone(), scene.caller());
            std::thread::spawn(move || {
                let mut statuses = Vec::new();
                let mut due = Instant::now() + pause * u32::try_from(number).unwrap() / 16;
                while !stop.load(Ordering::Relaxed) {
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    due += pause;
                    statuses.push(caller.call(model, true, "hi").status);
                    served.fetch_add(1, Ordering::Relaxed);
                }
                statuses
            })
        };
        let threads = (0..THREADS).map(run).collect();
        Self {
            stop,
            served,
            threads,
        }
    }

    pub(crate) fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    pub(crate) fn wait_for_calls(&self, more: u64) {
        let until = self.served.load(Ordering::Relaxed) + more;
        wait_for("the traffic flows", || {
            Ok(self.served.load(Ordering::Relaxed) >= until)
        })
        .unwrap();
    }

    pub(crate) fn stop(self) -> Vec<u16> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    }
}

/// Waits until so many requests are stored; then their attempts are, too.
pub(crate) fn wait_for_requests(scene: &Scene, alias: &str, count: usize) {
    let counted = format!("SELECT count() FROM weir.requests WHERE alias = '{alias}'");
    scene.weir.wait_for_number(&counted, count as u64).unwrap();
}

#[expect(clippy::disallowed_methods, reason = "compared with times of events")]
pub(crate) fn unix_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_micros()).unwrap()
}

pub(crate) fn number(row: &Value, name: &str) -> u64 {
    let value = &row[name];
    value
        .as_u64()
        .or_else(|| value.as_str()?.parse().ok())
        .unwrap_or_else(|| panic!("{name} is {value}"))
}
