//! `weir up --demo`: mock providers, keys for a few teams, some traffic.

use std::net::SocketAddr;
use std::path::Path;
use std::{fs, io};

use anyhow::{Context as _, anyhow};
use serde::{Deserialize, Serialize};
use weir_eventlog::{Fsync, replace_file};
use weir_gateway::Directory;
use weir_gateway::config::{AliasConfig, ModelConfig, ProviderConfig, TargetConfig};
use weir_governance::control::record::{AdminRole, Change, Kind, Record, TokenRecord};
use weir_loadtest::demo::{self, DemoHandle, DemoOptions, Member};
use weir_loadtest::{FaultKind, FaultRule, MockHandle, MockOptions, MockProvider};

use crate::cli::{Cli, KeyArgs};
use crate::command::control_editor::ControlEditor;
use crate::command::keys;
use crate::config::{Config, Loaded};
use crate::context::{settings, unix_ms};

/// Callers: team, user, feature, environment, share of the traffic relative to the others.
const USERS: [(&str, &str, &str, &str, f64); 4] = [
    ("growth", "ana", "onboarding", "prod", 4.0),
    ("growth", "ben", "emails", "staging", 1.0),
    ("support", "chen", "answers", "prod", 3.0),
    ("research", "dora", "reports", "dev", 2.0),
];

/// Aliases with their deployments, in order.
const ALIASES: [(&str, [&str; 2]); 5] = [
    (
        "fast-chat",
        ["mock-fast/gpt-4o-mini", "mock-steady/gpt-4o-mini"],
    ),
    (
        "code-reasoner",
        ["mock-steady/o4-mini", "mock-fast/o4-mini"],
    ),
    ("long-context", ["mock-steady/gpt-4.1", "mock-fast/gpt-4.1"]),
    (
        "zh-business",
        ["mock-fast/deepseek-chat", "mock-steady/deepseek-chat"],
    ),
    (
        EMBEDDINGS,
        [
            "mock-steady/text-embedding-3-small",
            "mock-fast/text-embedding-3-small",
        ],
    ),
];
const EMBEDDINGS: &str = "embeddings";

/// Name of the admin token in the link to the console.
const CONSOLE_TOKEN: &str = "demo-console";

/// Running mock providers, and the configuration to call them.
pub(crate) struct Demo {
    mocks: Vec<MockHandle>,
}

/// A user's key, kept in the data directory for the next start.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DemoKey {
    team: String,
    user: String,
    pub(crate) key: String,
}

/// Running traffic, with the mocks that answer it.
pub(crate) struct Traffic {
    traffic: DemoHandle,
    mocks: Vec<MockHandle>,
}

impl Demo {
    pub(crate) fn start() -> anyhow::Result<Self> {
        // Fast, but fails now and then; the other one takes over.
        let fast = MockOptions {
            faults: vec![
                FaultRule::every(FaultKind::ServerError, 10),
                FaultRule::every(FaultKind::RateLimit, 17),
            ],
            cached_share: 0.3,
            ..mock("mock-fast", "lognormal:120ms,0.5", "lognormal:4ms,0.4")?
        };
        let steady = MockOptions {
            reasoning_share: 0.2,
            ..mock("mock-steady", "lognormal:300ms,0.3", "lognormal:6ms,0.3")?
        };
        let start = |options| MockProvider::start(options).context("start a mock provider");
        Ok(Self {
            mocks: vec![start(fast)?, start(steady)?],
        })
    }

    /// The configuration, with the mocks in place of its providers.
    pub(crate) fn configuration(&self, cli: &Cli) -> anyhow::Result<Loaded> {
        let config = Config {
            providers: self.mocks.iter().map(provider).collect(),
            aliases: ALIASES
                .iter()
                .map(|(name, deployments)| alias(name, deployments))
                .collect(),
            // The mocks speak OpenAI's dialect, in which nobody else serves this one.
            models: vec![ModelConfig::new("deepseek-chat", "gpt-4o-mini")],
            ..settings(cli)?
        };
        let breaker = config.routing.breaker;
        let directory = config
            .price_book()
            .and_then(|book| {
                let (providers, aliases) = (&config.providers, &config.aliases);
                Directory::build(providers, aliases, &config.models, breaker, &book, None)
            })
            .map_err(|problems| anyhow!("the demo's own configuration: {problems:?}"))?;
        Ok(Loaded {
            config,
            directory,
            seen: Vec::new(),
        })
    }

    pub(crate) fn start_traffic(
        self,
        addr: SocketAddr,
        keys: &[DemoKey],
    ) -> anyhow::Result<Traffic> {
        let member = |((team, user, feature, _, weight), key): (_, &DemoKey)| Member {
            team: String::from(team),
            key: key.key.clone(),
            user: String::from(user),
            feature: String::from(feature),
            weight,
        };
        let chat = ALIASES.iter().map(|(name, _)| *name);
        let chat = chat.filter(|name| *name != EMBEDDINGS);
        let traffic = demo::start(DemoOptions {
            url: format!("http://{addr}/v1"),
            members: USERS.into_iter().zip(keys).map(member).collect(),
            chat_models: chat.map(str::to_owned).collect(),
            embedding_model: Some(EMBEDDINGS.into()),
            ..DemoOptions::default()
        })
        .context("start the demo's traffic")?;
        Ok(Traffic {
            traffic,
            mocks: self.mocks,
        })
    }
}

impl Traffic {
    pub(crate) fn stop(self) {
        self.traffic.stop();
        self.mocks.into_iter().for_each(MockHandle::shutdown);
    }
}

fn mock(name: &str, ttft: &str, inter_token: &str) -> anyhow::Result<MockOptions> {
    Ok(MockOptions {
        name: name.into(),
        ttft: ttft.to_owned().try_into()?,
        inter_token: inter_token.to_owned().try_into()?,
        ..MockOptions::default()
    })
}

fn provider(mock: &MockHandle) -> ProviderConfig {
    ProviderConfig {
        // Real model names have prices.
        prices: Some(vec!["openai".into(), "deepseek".into()]),
        ..ProviderConfig::new(mock.name(), "openai", mock.base_url())
    }
}

fn alias(name: &str, deployments: &[&str]) -> AliasConfig {
    let target = |deployment: &&str| {
        let (provider, model) = deployment.split_once('/').unwrap_or((deployment, ""));
        TargetConfig::new(provider, model)
    };
    AliasConfig::new(name, deployments.iter().map(target).collect())
}

/// The demo's keys, in the order of [`USERS`]: those of the last start, or new ones.
pub(crate) fn keys(cli: &Cli, config: &Config) -> anyhow::Result<Vec<DemoKey>> {
    let path = cli.data_dir.join("demo").join("keys.json");
    let mut editor = ControlEditor::open(cli, config)?;
    if let Some(kept) = kept_keys(&editor, &path) {
        editor.close()?.check()?;
        return Ok(kept);
    }
    let mut made = Vec::new();
    for (team, user, _, environment, _) in USERS {
        let args = KeyArgs {
            team: team.into(),
            organisation: Some("demo".into()),
            user: Some(user.into()),
            environment: Some(environment.into()),
            ..KeyArgs::default()
        };
        let (key, _) = keys::make(&mut editor, &args)?;
        made.push(DemoKey {
            team: team.into(),
            user: user.into(),
            key,
        });
    }
    editor.close()?.check()?;
    keep_keys(&path, &made).with_context(|| format!("write {}", path.display()))?;
    Ok(made)
}

/// A new token that signs in to the console; the one of the last start ends.
pub(crate) fn console_token(cli: &Cli, config: &Config) -> anyhow::Result<String> {
    let mut editor = ControlEditor::open(cli, config)?;
    if editor.snapshot.record(Kind::Token, CONSOLE_TOKEN).is_some() {
        editor.delete(Kind::Token, CONSOLE_TOKEN)?;
    }
    let (token, hash) = editor.control.hash_key.new_token()?;
    let record = Record::Token(TokenRecord {
        id: CONSOLE_TOKEN.into(),
        hash,
        role: AdminRole::Admin,
        team: None,
        created_ms: unix_ms(),
        expires_ms: None,
    });
    editor.change("create", Change::set(record))?;
    editor.close()?.check()?;
    Ok(token)
}

/// The keys of the last start, if all of them are still active.
fn kept_keys(editor: &ControlEditor, path: &Path) -> Option<Vec<DemoKey>> {
    let text = fs::read_to_string(path).ok()?;
    let kept: Vec<DemoKey> = serde_json::from_str(&text).ok()?;
    let hash_key = &editor.control.hash_key;
    let works = |kept: &DemoKey| {
        let found = editor.snapshot.authenticate(hash_key, &kept.key, unix_ms());
        found.is_ok()
    };
    let callers = USERS.iter().map(|(team, user, ..)| (*team, *user));
    let whole = callers.eq(kept.iter().map(|it| (it.team.as_str(), it.user.as_str())));
    (whole && kept.iter().all(works)).then_some(kept)
}

fn keep_keys(path: &Path, keys: &[DemoKey]) -> io::Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    replace_file(path, Fsync::Nothing, |file| {
        serde_json::to_writer_pretty(file, keys).map_err(io::Error::from)
    })
    .map(drop)
}
