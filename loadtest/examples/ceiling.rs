//! What the tools themselves cost, so that a figure about the gateway can be judged: the generator straight at the mock, and with
//! the bare proxy in between.
//!
//! `cargo build --release -p weir-loadtest --examples && target/release/examples/ceiling [SECONDS] [ROUNDS]`
//!
//! With `taskset` at hand the proxy has core 0 for itself, and generator and mock share core 1, as a gateway would be measured.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use weir_loadtest::StopSwitch;
use weir_loadtest::bench::{Arrival, BenchOptions, Candidate, Stop, Workload, compare};
use weir_loadtest::dist::{Count, Distribution};
use weir_loadtest::mock::{MockOptions, MockProvider};

/// The allocator of the binary that mock and generator are shipped in.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let first = arguments.next();
    if first.as_deref() == Some("mock") {
        return mock();
    }
    let seconds = first.map_or(Ok(5), |text| text.parse())?;
    let rounds = arguments.next().map_or(Ok(3), |text| text.parse())?;
    let own = std::env::current_exe()?;
    let folder = own.parent().ok_or("an executable lies in a folder")?;
    let mock = Process::start(1, &own, &["mock"])?;
    let upstream = mock.addr.to_string();
    let proxy = Process::start(0, &folder.join("bare_proxy"), &["127.0.0.1:0", &upstream])?;
    pin_self();
    for (title, arrival, workload) in cases() {
        let base = BenchOptions {
            arrival,
            workload,
            stop: Stop {
                after: Some(Duration::from_secs(seconds)),
                requests: None,
            },
            warm_up: Duration::from_secs(1),
            ..BenchOptions::default()
        };
        let candidates = [
            ("mock", &mock, mock.child.id()),
            ("generator", &mock, std::process::id()),
            ("bare proxy", &proxy, proxy.child.id()),
        ]
        .map(|(name, target, watch)| Candidate {
            name: name.to_owned(),
            url: format!("http://{}/v1", target.addr),
            key: Some("mock-key".to_owned()),
            watch: vec![watch],
        });
        let comparison = compare(&base, &candidates, rounds, &StopSwitch::default())?;
        let mut out = std::io::stdout().lock();
        writeln!(out, "{title}: {comparison}")?;
    }
    Ok(())
}

fn cases() -> [(&'static str, Arrival, Workload); 5] {
    let chat = |streamed, output| Workload::Chat {
        model: "gpt-4o-mini".to_owned(),
        input_tokens: Count(Distribution::Fixed(64.0)),
        output_tokens: Count(Distribution::Fixed(output)),
        streamed,
    };
    let constant = |per_second| Arrival::Constant { per_second };
    [
        ("plain, closed loop", Arrival::Closed, chat(false, 16.0)),
        ("plain, open loop", constant(1000.0), chat(false, 16.0)),
        ("plain, open loop", constant(5000.0), chat(false, 16.0)),
        (
            "streams of 100 tokens, closed loop",
            Arrival::Closed,
            chat(true, 100.0),
        ),
        (
            "streams of 100 tokens, open loop",
            constant(20.0),
            chat(true, 100.0),
        ),
    ]
}

/// The mock as a process of its own; it ends with its standard input.
fn mock() -> Result<(), Failure> {
    let mock = MockProvider::start(MockOptions::default())?;
    eprintln!("mock provider on {}", mock.addr());
    std::io::stdin().lines().for_each(drop);
    Ok(())
}

/// A child that is killed when it is dropped.
struct Process {
    child: Child,
    addr: SocketAddr,
}

impl Process {
    fn start(core: usize, program: &std::path::Path, arguments: &[&str]) -> Result<Self, Failure> {
        let pinned = Command::new("taskset").arg("--version").output().is_ok();
        let mut command = if pinned {
            let mut command = Command::new("taskset");
            command.args(["-c", &core.to_string()]).arg(program);
            command
        } else {
            Command::new(program)
        };
        let mut child = command
            .args(arguments)
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let stderr = child.stderr.take().ok_or("stderr is piped")?;
        let mut process = Self {
            child,
            addr: SocketAddr::from(([0, 0, 0, 0], 0)),
        };
        // "… on ADDRESS …" is the first line of both.
        let mut line = String::new();
        BufReader::new(stderr).read_line(&mut line)?;
        let addr = line
            .split(" on ")
            .nth(1)
            .and_then(|rest| rest.split_whitespace().next());
        process.addr = addr
            .ok_or_else(|| format!("no address in {line:?}"))?
            .parse()?;
        Ok(process)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Puts this process on core 1; without `taskset` it stays where it is.
fn pin_self() {
    let pid = std::process::id().to_string();
    let _ = Command::new("taskset")
        .args(["-a", "-p", "-c", "1", &pid])
        .output();
}
