//! What the gateway costs, and what the tools themselves cost, so that the figure can be judged: the generator straight at the mock,
//! with the bare proxy in between, and with weir in between if it has been built.
//!
//! `cargo build --release -p weir && cargo build --release -p weir-loadtest --examples && target/release/examples/ceiling [SECONDS] [ROUNDS]`
//!
//! With `taskset` at hand the proxy has core 0 for itself, and generator and mock share core 1, as a gateway would be measured.
#![expect(clippy::print_stderr, reason = "it says there what it does")]

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use weir_loadtest::StopSwitch;
use weir_loadtest::bench::{Arrival, BenchCandidate, BenchOptions, Stop, Workload, compare};
use weir_loadtest::dist::{Distribution, TokenCount};
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
    let weir = Weir::start(&folder.join("../weir"), &upstream)?;
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
        let candidate = |name: &str, addr: SocketAddr, key: &str, watch: u32| BenchCandidate {
            name: name.to_owned(),
            url: format!("http://{addr}/v1"),
            key: Some(key.to_owned()),
            watch: vec![watch],
        };
        let mut candidates = vec![
            candidate("mock", mock.addr, "mock-key", mock.child.id()),
            candidate("generator", mock.addr, "mock-key", std::process::id()),
            candidate("bare proxy", proxy.addr, "mock-key", proxy.child.id()),
        ];
        if let Some(weir) = &weir {
            let (addr, watch) = (weir.process.addr, weir.process.child.id());
            candidates.push(candidate("weir", addr, &weir.key, watch));
        }
        let comparison = compare(&base, &candidates, rounds, &StopSwitch::default())?;
        let mut out = std::io::stdout().lock();
        writeln!(out, "{title}: {comparison}")?;
    }
    Ok(())
}

fn cases() -> [(&'static str, Arrival, Workload); 5] {
    let chat = |streamed, output| Workload {
        model: "gpt-4o-mini".to_owned(),
        input_tokens: TokenCount(Distribution::Fixed(64.0)),
        output_tokens: TokenCount(Distribution::Fixed(output)),
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

/// A gateway with everything on and its events in a journal, if the program has been built.
struct Weir {
    process: Process,
    key: String,
    _dir: tempfile::TempDir,
}

impl Weir {
    fn start(program: &Path, upstream: &str) -> Result<Option<Self>, Failure> {
        if !program.exists() {
            eprintln!("{} is not there: measured without weir", program.display());
            return Ok(None);
        }
        let dir = tempfile::tempdir()?;
        let addr = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let config = dir.path().join("weir.toml");
        std::fs::write(
            &config,
            format!(
                "[gateway]\nlisten = \"{addr}\"\nthreads = 1\n\n[[provider]]\nname = \"mock\"\n\
                 dialect = \"openai\"\nbase_url = \"http://{upstream}/v1\"\n\n[[alias]]\n\
                 name = \"gpt-4o-mini\"\ntargets = [{{ provider = \"mock\", model = \"gpt-4o-mini\" }}]\n"
            ),
        )?;
        let data = dir.path().join("data");
        let places: [&OsStr; 4] = [
            "--config".as_ref(),
            config.as_ref(),
            "--data-dir".as_ref(),
            data.as_ref(),
        ];
        let created = Command::new(program)
            .args(["keys", "create", "--team", "bench"])
            .args(places)
            .output()?;
        let key = String::from_utf8(created.stdout)?.trim().to_owned();
        let mut command = Process::command(0, program);
        let child = command
            .arg("gateway")
            .args(places)
            .stdout(Stdio::null())
            .spawn()?;
        let weir = Self {
            process: Process { child, addr },
            key,
            _dir: dir,
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(addr).is_err() {
            if Instant::now() > deadline {
                return Err("weir does not answer".into());
            }
            std::thread::yield_now();
        }
        Ok(Some(weir))
    }
}

/// A child that is killed when it is dropped.
struct Process {
    child: Child,
    addr: SocketAddr,
}

impl Process {
    fn command(core: usize, program: &Path) -> Command {
        if Command::new("taskset").arg("--version").output().is_err() {
            return Command::new(program);
        }
        let mut command = Command::new("taskset");
        command.args(["-c", &core.to_string()]).arg(program);
        command
    }

    fn start(core: usize, program: &Path, arguments: &[&str]) -> Result<Self, Failure> {
        let mut child = Self::command(core, program)
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
