//! Servers that others wrote, as providers: they speak OpenAI's format in their own words.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use weir_loadtest::mock::MockHandle;

use super::{at_home, litellm, llamacpp};
use crate::http::is_up;
use crate::port::ReservedPort;
use crate::weir::{repository, wait_within};

/// LiteLLM's proxy reads a quarter of a gigabyte of Python before it listens.
const STARTS_WITHIN: Duration = Duration::from_secs(300);

/// A server that is killed when dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    _port: ReservedPort,
    /// With `/v1`.
    pub base_url: String,
}

impl Server {
    /// LiteLLM's proxy before a mock provider, all of whose models it passes on.
    pub fn litellm(dir: &Path, behind: &MockHandle) -> Result<Self> {
        let model = |name: &str| {
            format!(
                "  - model_name: {name}\n    litellm_params:\n      model: openai/{name}\n      \
                 api_base: {}\n      api_key: none\n",
                behind.base_url()
            )
        };
        let config = format!(
            "model_list:\n{}{}{}\
             router_settings:\n  num_retries: 0\n  disable_cooldowns: true\n\
             litellm_settings:\n  num_retries: 0\n  telemetry: false\n  drop_params: true\n",
            model("small"),
            model("limited"),
            model("broken")
        );
        let file = dir.join("litellm.yaml");
        fs::write(&file, config)?;
        let mut command = at_home(dir, &litellm("litellm"));
        command
            .arg("--config")
            .arg(file)
            .args(["--host", "127.0.0.1", "--telemetry", "False"])
            .env("LITELLM_LOCAL_MODEL_COST_MAP", "True");
        Self::start(command, dir.join("litellm.log"), "/health/liveliness")
    }

    /// llama.cpp's Python server with a tiny model of random numbers, made on the spot.
    pub fn llamacpp(dir: &Path) -> Result<Self> {
        let model = dir.join("small.gguf");
        let made = Command::new(llamacpp("python"))
            .arg(repository().join("tests/clients/tiny_model.py"))
            .arg(&model)
            .output()
            .context("start llama.cpp's Python, which tests/clients/run-all.sh installs")?;
        if !made.status.success() {
            bail!("make a model: {}", String::from_utf8_lossy(&made.stderr));
        }
        let mut command = at_home(dir, &llamacpp("python"));
        command
            .args(["-m", "llama_cpp.server", "--host", "127.0.0.1", "--model"])
            .arg(model)
            .args([
                "--model_alias",
                "small",
                "--n_ctx",
                "4096",
                "--n_threads",
                "1",
            ])
            // The format that lets it be forced to call a tool, by a grammar.
            .args(["--chat_format", "chatml-function-calling"]);
        Self::start(command, dir.join("llamacpp.log"), "/v1/models")
    }

    fn start(mut command: Command, log: PathBuf, ready: &str) -> Result<Self> {
        let port = ReservedPort::new()?;
        let address = port.address;
        let output = fs::File::create(&log)?;
        let child = command
            .args(["--port", &address.port().to_string()])
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("start a server")?;
        let mut server = Self {
            child,
            _port: port,
            base_url: format!("http://{address}/v1"),
        };
        wait_within(STARTS_WITHIN, "the server answers", || {
            if let Some(status) = server.child.try_wait()? {
                bail!("it ended with {status}");
            }
            Ok(is_up(address, ready))
        })
        .with_context(|| fs::read_to_string(&log).unwrap_or_default())?;
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
