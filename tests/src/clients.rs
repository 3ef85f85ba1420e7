//! Real clients, unchanged but for base URL and key, put through the same calls at every provider.
//!
//! [`Gateway::start`] → [`Script::check`] for the SDKs, whose scripts lie in `tests/clients`, and
//! [`Agent::check`] for the coding agents, which edit a file. What a client must have seen depends on
//! its own words alone, never on the provider behind. CI runs the scripts that install quickly, by
//! `tests/it/clients.rs`; `tests/clients/run-all.sh` runs everything.

mod servers;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use weir_loadtest::mock::{FaultKind, FaultRule, MockHandle, MockOptions, MockProvider};

use crate::weir::{Installation, Process, SdkAge, cache, python, repository};

pub use servers::Server;

/// The dialects that mock providers speak; providers and models are named like them in short.
pub const DIALECTS: [(&str, &str); 4] = [
    ("openai", "openai"),
    ("responses", "openai-responses"),
    ("anthropic", "anthropic"),
    ("gemini", "gemini"),
];

/// A model whose abilities Codex knows, so that it offers its free-text tool for patches. It looks
/// names up by their beginning, so an alias may add to it.
const KNOWN_TO_CODEX: &str = "gpt-5.5";

/// The model that answers: of the newest of each maker, one that takes all that is asked for. Opus and
/// Sonnet 5.5 refuse a forced tool.
#[must_use]
pub fn model(dialect: &str) -> &'static str {
    match dialect {
        "openai" | "openai-responses" => "gpt-6.1-sol",
        "anthropic" => "claude-haiku-5-5",
        "gemini" => "gemini-4-argon",
        _ => "small",
    }
}

/// A provider as the gateway's settings name it.
#[derive(Clone, Debug)]
pub struct Provider {
    pub name: &'static str,
    pub dialect: &'static str,
    pub base_url: String,
}

impl Provider {
    /// A mock provider, asked in one of its dialects.
    #[must_use]
    pub fn mock((name, dialect): (&'static str, &'static str), mock: &MockHandle) -> Self {
        let base_url = match dialect {
            "gemini" => mock.gemini_base_url(),
            _ => mock.base_url(),
        };
        Self {
            name,
            dialect,
            base_url,
        }
    }

    /// Its settings, and an alias for each of its models.
    fn settings(&self) -> String {
        let name = self.name;
        let mut settings = format!(
            "[[provider]]\nname = \"{name}\"\ndialect = \"{}\"\nbase_url = \"{}\"\n\n",
            self.dialect, self.base_url
        );
        for (alias, model) in [
            (name.to_owned(), model(self.dialect)),
            (format!("{name}-limited"), "limited"),
            (format!("{name}-broken"), "broken"),
            (format!("{KNOWN_TO_CODEX}-{name}"), model(self.dialect)),
        ] {
            settings.push_str(&format!(
                "[[alias]]\nname = \"{alias}\"\ntargets = [{{ provider = \"{name}\", model = \"{model}\" }}]\n\
                 retry = {{ tries_max = 1 }}\n\n"
            ));
        }
        settings
    }
}

/// A mock provider that refuses what the real API refuses, whose model `limited` is out of requests and whose `broken` ends its streams with an error.
pub fn mock() -> Result<MockHandle> {
    let rule = |kind, model: &str| FaultRule {
        model: Some(model.to_owned()),
        ..FaultRule::always(kind)
    };
    Ok(MockProvider::start(MockOptions {
        faults: vec![
            rule(FaultKind::RateLimit, "limited"),
            rule(FaultKind::StreamError, "broken"),
        ],
        // Agents ask for tens of thousands of tokens.
        output_tokens_max: 48,
        strict: true,
        ..MockOptions::default()
    })?)
}

/// A running gateway, and a key to it.
#[derive(Debug)]
pub struct Gateway {
    pub weir: Installation,
    process: Process,
    pub key: String,
}

impl Gateway {
    pub fn start(providers: &[Provider]) -> Result<Self> {
        let settings: String = providers.iter().map(Provider::settings).collect();
        let weir = Installation::new(&settings)?;
        let process = weir.start(&["up"])?;
        weir.wait_until_ready().with_context(|| process.log())?;
        let key = weir.create_key("clients")?;
        weir.wait_until_known(&key)?;
        Ok(Self { weir, process, key })
    }

    pub fn stop(self) -> Result<()> {
        self.process.stop()
    }
}

/// A client's words: for an answer that ended by itself, and for one that calls tools; the error of
/// a 429.
#[derive(Clone, Copy, Debug)]
pub struct Words {
    surface: &'static str,
    stop: &'static str,
    tools: &'static str,
    limited: &'static str,
}

const fn words(
    surface: &'static str,
    stop: &'static str,
    tools: &'static str,
    limited: &'static str,
) -> Words {
    Words {
        surface,
        stop,
        tools,
        limited,
    }
}

/// A script that puts one client through a plain answer, a stream, two tools called at once and
/// their results brought back, a forced tool, a 429, and a stream that breaks.
#[derive(Debug)]
pub struct Script {
    /// The client, with its version.
    pub client: String,
    program: PathBuf,
    script: PathBuf,
    surfaces: Vec<Words>,
}

impl Script {
    /// What Python runs; `package` is what `pins` pins.
    fn python(program: PathBuf, pins: &str, package: &str, script: &str, words: &[Words]) -> Self {
        Self {
            client: format!("{package} {} (Python)", pinned(pins, package)),
            program,
            script: repository().join("tests/clients").join(script),
            surfaces: words.to_vec(),
        }
    }

    /// What Node runs. It looks for modules beside the script, so the scripts lie beside them.
    fn node(age: SdkAge, package: &str, script: &str, words: &[Words]) -> Self {
        let (program, directory) = age.node();
        Self {
            client: format!("{package} {} (Node)", pinned(&age.package(), package)),
            program,
            script: directory.join(script),
            surfaces: words.to_vec(),
        }
    }

    /// The SDKs that install quickly.
    #[must_use]
    pub fn quick() -> Vec<Self> {
        let langchain = [
            words("chat", "stop", "tool_calls", "OpenAIRateLimitError"),
            words(
                "messages",
                "end_turn",
                "tool_use",
                "AnthropicRateLimitError",
            ),
        ];
        let vercel = ["chat", "responses", "messages"]
            .map(|surface| words(surface, "stop", "tool-calls", "APICallError"));
        let pins = SdkAge::Newest.requirements();
        let mut scripts = Self::official(SdkAge::Newest);
        scripts.extend([
            Self::python(
                python(),
                &pins,
                "langchain-core",
                "langchain_python.py",
                &langchain,
            ),
            Self::node(SdkAge::Newest, "ai", "vercel_ai.mjs", &vercel),
        ]);
        scripts.extend(Self::official(SdkAge::Of2025));
        scripts
    }

    /// OpenAI's and Anthropic's own.
    fn official(age: SdkAge) -> Vec<Self> {
        let limited = "RateLimitError";
        let chat = words("chat", "stop", "tool_calls", limited);
        let responses = words("responses", "completed", "completed", limited);
        let messages = words("messages", "end_turn", "tool_use", limited);
        let python = |package, script, words: &[Words]| {
            Self::python(age.python(), &age.requirements(), package, script, words)
        };
        vec![
            python("openai", "openai_python.py", &[chat, responses]),
            python("anthropic", "anthropic_python.py", &[messages]),
            Self::node(age, "openai", "openai.mjs", &[chat, responses]),
            Self::node(age, "@anthropic-ai/sdk", "anthropic.mjs", &[messages]),
        ]
    }

    /// The SDKs that do not.
    #[must_use]
    pub fn slow() -> Vec<Self> {
        let both = ["chat", "messages"]
            .map(|surface| words(surface, "stop", "tool_calls", "RateLimitError"));
        vec![Self::python(
            litellm("python"),
            "tests/clients/litellm.txt",
            "litellm",
            "litellm_python.py",
            &both,
        )]
    }

    /// What holds for a model that says anything at all, and the client that finds out.
    #[must_use]
    pub fn any_model() -> Self {
        let pins = "tests/requirements.txt";
        Self {
            client: "openai and anthropic, any model".to_owned(),
            ..Self::python(python(), pins, "openai", "any_model.py", &[])
        }
    }

    /// Runs the script against these providers and compares what it saw.
    pub fn check(&self, gateway: &Gateway, providers: &[&str]) -> Result<()> {
        let mut command = bounded(&self.program);
        command
            .arg(&self.script)
            .arg(gateway.weir.base_url())
            .arg(&gateway.key)
            .args(providers)
            .env("PYTHONDONTWRITEBYTECODE", "1");
        let seen: Value = serde_json::from_slice(&run(&mut command)?)
            .with_context(|| format!("read what {} saw", self.client))?;
        let counted = seen.as_object().map_or(0, serde_json::Map::len);
        ensure!(
            counted == self.surfaces.len() * providers.len(),
            "{} saw {counted} surfaces: {seen}",
            self.client
        );
        for words in &self.surfaces {
            for provider in providers {
                let name = format!("{} {provider}", words.surface);
                let expected = expected(words);
                ensure!(
                    seen[&name] == expected,
                    "{}: {name}\n saw      {}\n expected {expected}",
                    self.client,
                    seen[&name]
                );
            }
        }
        Ok(())
    }
}

fn expected(words: &Words) -> Value {
    let answer = json!({"words": 16, "finish": words.stop, "input": 3, "output": 16});
    let calls = json!([["weather", {"city": "Paris"}], ["weather", {"city": "São Paulo"}]]);
    json!({
        "plain": answer,
        "stream": answer,
        "tools": {"calls": calls, "finish": words.tools, "after": words.stop},
        "tools_streamed": calls,
        "forced": ["weather"],
        "limited": {"type": words.limited, "status": 429},
        "broken": true,
    })
}

/// A coding agent that is told to edit a file, and does it by a tool call of the model.
#[derive(Debug)]
pub struct Agent {
    /// The agent, with its version.
    pub client: String,
    command: fn(&Path, &Gateway, &str) -> Result<Command>,
    /// The mock calls the tool that this names, with these arguments; `{dir}` is the directory.
    prompt: &'static str,
    /// What it takes at least: to call the tool, to bring the result back, and what it asks besides.
    calls: u64,
}

impl Agent {
    #[must_use]
    pub fn all() -> Vec<Self> {
        let client = |name: &str, package| {
            format!(
                "{name} {}",
                pinned("tests/clients/agents/package.json", package)
            )
        };
        vec![
            Self {
                client: client("Codex CLI", "@openai/codex"),
                command: codex,
                prompt: r#"[[call apply_patch "*** Begin Patch\n*** Update File: note.txt\n@@\n-before\n+after\n*** End Patch\n"]]"#,
                calls: 2,
            },
            Self {
                client: client("OpenCode", "opencode-linux-x64-baseline"),
                command: opencode,
                prompt: r#"[[call write {"filePath":"{dir}/note.txt","content":"after\n"}]]"#,
                // It wants a title too.
                calls: 3,
            },
            Self {
                client: client("Claude Code", "@anthropic-ai/claude-code-linux-x64"),
                command: claude_code,
                // It refuses to edit what it has not read.
                prompt: r#"[[call Read {"file_path":"{dir}/note.txt"}]] [[call Edit {"file_path":"{dir}/note.txt","old_string":"before","new_string":"after"}]]"#,
                calls: 2,
            },
        ]
    }

    /// Lets it work in a fresh directory, and looks at the file, and whether the model was told of the
    /// tool's result.
    pub fn check(&self, gateway: &Gateway, provider: &str, mock: &MockHandle) -> Result<()> {
        let dir = tempfile::tempdir()?;
        let work = dir.path().join("work");
        let note = work.join("note.txt");
        fs::create_dir(&work)?;
        fs::write(&note, "before\n")?;
        let prompt = dir.path().join("prompt");
        let said = self.prompt.replace("{dir}", &work.display().to_string());
        fs::write(&prompt, format!("Change the note. {said}\n"))?;
        mock.reset_ledger();
        let mut command = (self.command)(dir.path(), gateway, provider)?;
        command.current_dir(&work).stdin(fs::File::open(&prompt)?);
        let output = run(&mut command)?;
        let note = fs::read_to_string(&note)?;
        let output = String::from_utf8_lossy(&output);
        ensure!(
            note == "after\n",
            "the file holds {note:?}; {} said:\n{output}",
            self.client
        );
        let ledger = mock.ledger();
        ensure!(
            ledger.refused.is_empty(),
            "the real API would refuse, by rule: {:?}; {} said:\n{output}",
            ledger.refused,
            self.client
        );
        let calls = ledger.total;
        ensure!(
            calls.by_status == [(200, calls.calls)].into() && calls.calls >= self.calls,
            "the provider had {:?} calls by status instead of {} answered 200; {} said:\n{output}",
            calls.by_status,
            self.calls,
            self.client
        );
        Ok(())
    }
}

/// Where `run-all.sh` installs the agents.
fn agents() -> PathBuf {
    cache().join("clients/agents/node_modules")
}

/// A program of LiteLLM's virtual environment.
#[must_use]
pub fn litellm(program: &str) -> PathBuf {
    cache().join("clients/litellm/bin").join(program)
}

/// A program of the virtual environment of llama.cpp's server.
#[must_use]
pub fn llamacpp(program: &str) -> PathBuf {
    cache().join("clients/llamacpp/bin").join(program)
}

fn codex(dir: &Path, gateway: &Gateway, provider: &str) -> Result<Command> {
    let home = dir.join("codex");
    fs::create_dir(&home)?;
    // Web search runs at OpenAI, and the tools for other agents come as a group of a kind that no
    // other format has: with them, providers that are not OpenAI's are refused, or want
    // `unsupported = "drop"`. Switched off, everything that is left can be carried.
    fs::write(
        home.join("config.toml"),
        format!(
            "model_provider = \"weir\"\n\
             approval_policy = \"never\"\n\
             sandbox_mode = \"danger-full-access\"\n\
             web_search = \"disabled\"\n\
             [features]\n\
             multi_agent = false\n\
             [analytics]\n\
             enabled = false\n\
             [model_providers.weir]\n\
             name = \"Weir\"\n\
             base_url = \"{}\"\n\
             env_key = \"WEIR_KEY\"\n\
             wire_api = \"responses\"\n",
            gateway.weir.base_url()
        ),
    )?;
    let mut command = agent(dir, &SdkAge::Newest.node().0);
    command
        .arg(agents().join("@openai/codex/bin/codex.js"))
        .args(["exec", "--skip-git-repo-check", "--model"])
        .arg(format!("{KNOWN_TO_CODEX}-{provider}"))
        .arg("-")
        .env("CODEX_HOME", home)
        .env("WEIR_KEY", &gateway.key);
    Ok(command)
}

fn opencode(dir: &Path, gateway: &Gateway, provider: &str) -> Result<Command> {
    let config = json!({
        "$schema": "https://opencode.ai/config.json",
        "autoupdate": false,
        "share": "disabled",
        "enabled_providers": ["weir"],
        "provider": {"weir": {
            "npm": "@ai-sdk/openai-compatible",
            "name": "Weir",
            "options": {"baseURL": gateway.weir.base_url(), "apiKey": "{env:WEIR_KEY}"},
            "models": {provider: {}},
        }},
    });
    fs::write(dir.join("work/opencode.json"), config.to_string())?;
    let mut command = agent(
        dir,
        &agents().join("opencode-linux-x64-baseline/bin/opencode"),
    );
    command
        .args(["run", "--model", &format!("weir/{provider}")])
        .env("WEIR_KEY", &gateway.key)
        .env("OPENCODE_DISABLE_AUTOUPDATE", "1")
        .env("OPENCODE_DISABLE_MODELS_FETCH", "1");
    Ok(command)
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "the other agents have settings to write"
)]
fn claude_code(dir: &Path, gateway: &Gateway, provider: &str) -> Result<Command> {
    let base_url = gateway.weir.base_url();
    let mut command = agent(
        dir,
        &agents().join("@anthropic-ai/claude-code-linux-x64/claude"),
    );
    command
        .args(["-p", "--permission-mode", "acceptEdits"])
        .args(["--model", provider])
        // It puts /v1 before its paths itself.
        .env("ANTHROPIC_BASE_URL", base_url.trim_end_matches("/v1"))
        .env("ANTHROPIC_AUTH_TOKEN", &gateway.key)
        .env("ANTHROPIC_DEFAULT_HAIKU_MODEL", provider)
        // Tools that are loaded later (`defer_loading`) are Anthropic's alone; without this it asks,
        // is refused, and goes on without them.
        .env("ENABLE_TOOL_SEARCH", "false")
        .env("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1")
        .env("DISABLE_TELEMETRY", "1")
        .env("DISABLE_ERROR_REPORTING", "1")
        .env("DISABLE_AUTOUPDATER", "1");
    Ok(command)
}

const BOUND: [&str; 2] = ["--kill-after=5", "300"];

/// A client that is given five minutes.
fn bounded(program: &Path) -> Command {
    let mut command = Command::new("timeout");
    command.args(BOUND).arg(program);
    command
}

/// A program whose home is a fresh directory: settings and proxies of this machine are none of its
/// business.
fn at_home(dir: &Path, program: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", dir)
        .env("LANG", "C.UTF-8");
    command
}

/// The same for an agent, which is given five minutes.
fn agent(dir: &Path, program: &Path) -> Command {
    let mut command = at_home(dir, Path::new("timeout"));
    command.args(BOUND).arg(program);
    command
}

/// Runs a client to its end; what it wrote to stdout.
fn run(command: &mut Command) -> Result<Vec<u8>> {
    let output = command.output().context("start `timeout` of coreutils")?;
    match output.status.code() {
        Some(0) => return Ok(output.stdout),
        Some(124 | 137) => bail!("it did not end within five minutes"),
        Some(126 | 127) => bail!(
            "it is not installed: tests/run.sh installs the quick clients, tests/clients/run-all.sh all of them"
        ),
        _ => {}
    }
    bail!(
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr),
        String::from_utf8_lossy(&output.stdout)
    )
}

/// The version that a list of requirements or a `package.json` pins.
fn pinned(file: &str, package: &str) -> String {
    let text = fs::read_to_string(repository().join(file)).unwrap_or_default();
    let listed = |line: &str| {
        let line = line.trim().trim_end_matches(',');
        let version = line
            .strip_prefix(&format!("\"{package}\": "))
            .or_else(|| line.strip_prefix(package)?.split_once("==").map(|(_, v)| v))?;
        Some(version.trim_matches('"').to_owned())
    };
    text.lines().find_map(listed).unwrap_or_default()
}
