//! `weir up`: everything on this machine.
//!
//! The gateway starts first and does not wait for the store, so a slow or broken store costs no
//! request. It also stops first, so that its last events can still be stored.

use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;

use anyhow::Context as _;
use weir_eventlog::Parts;

use crate::cli::{Cli, KeyArgs};
use crate::command::control_editor::ControlEditor;
use crate::command::demo::{self, Demo};
use crate::command::keys;
use crate::config::{Config, EventlogKind, StoreKind};
use crate::context::{config_path, configuration};
use crate::log::LogQueue;
use crate::parts::{
    ConsoleService, EmbeddedStore, Gateway, IngestorService, Signals, keep_memory_private,
};

pub(crate) fn run(cli: &Cli, log: &LogQueue, demo: bool, allow_empty: bool) -> anyhow::Result<()> {
    keep_memory_private();
    let signals = Signals::listen()?;
    let mut private = std::fs::DirBuilder::new();
    let made = private.recursive(true).mode(0o700).create(&cli.data_dir);
    made.with_context(|| format!("create {} (--data-dir)", cli.data_dir.display()))?;

    let demo = demo.then(Demo::start).transpose()?;
    let loaded = match &demo {
        Some(demo) => demo.configuration(cli)?,
        None => configuration(cli)?,
    };
    let config = loaded.config.clone();
    let reload_path = config_path(cli).filter(|_| demo.is_none());
    let parts = Parts::default();
    log.join(&parts);
    let gateway = Gateway::start(loaded, &cli.data_dir, reload_path, allow_empty, &parts)?;
    let store = EmbeddedStore::start(&config, cli, &parts)?;
    let ingestor = IngestorService::start(&config, &cli.data_dir, store.as_ref(), &parts)?;

    let addr = gateway.handle.addr();
    let console = ConsoleService::start(&config, &cli.data_dir, addr, &parts)?;
    let mut console_url = console.as_ref().map(|console| console.url.clone());
    let (key, traffic) = match demo {
        Some(demo) => {
            let keys = demo::keys(cli, &config)?;
            gateway.await_key(keys.last().map(|key| key.key.as_str()));
            let key = keys.first().map(|key| key.key.clone());
            if let Some(url) = &mut console_url {
                let token = demo::console_token(cli, &config)?;
                url.push_str(&format!("#/sign-in?token={token}"));
            }
            (key, Some(demo.start_traffic(addr, &keys)?))
        }
        None => {
            let key = first_key(cli, &config)?;
            gateway.await_key(key.as_deref());
            (key, None)
        }
    };
    welcome(cli, &config, addr, console_url.as_deref(), key.as_deref())?;

    let ended = signals.wait(&parts, || gateway.reload());
    tracing::info!("stopping: requests in flight finish first");
    if let Some(traffic) = traffic {
        traffic.stop();
    }
    if let Some(console) = console {
        console.stop();
    }
    gateway.stop();
    ingestor.stop();
    if let Some(store) = store {
        store.stop();
    }
    ended
}

/// Creates a first key if there is none yet and there is an alias to call.
fn first_key(cli: &Cli, config: &Config) -> anyhow::Result<Option<String>> {
    let mut editor = ControlEditor::open(cli, config)?;
    let wanted = editor.snapshot.keys().is_empty() && !config.aliases.is_empty();
    let args = KeyArgs {
        team: "default".into(),
        ..KeyArgs::default()
    };
    let key = wanted.then(|| keys::make(&mut editor, &args)).transpose()?;
    editor.close()?.check()?;
    Ok(key.map(|(key, _)| key))
}

/// Prints what runs where, and commands to paste.
fn welcome(
    cli: &Cli,
    config: &Config,
    addr: SocketAddr,
    console: Option<&str>,
    key: Option<&str>,
) -> anyhow::Result<()> {
    let data_dir = cli.data_dir.display();
    let log = match config.eventlog.kind {
        EventlogKind::Local => "journal".to_owned(),
        EventlogKind::Kafka => format!("journal, then Kafka topic {}", config.eventlog.topic),
    };
    let store = match config.store.kind {
        StoreKind::Embedded => "embedded ClickHouse",
        StoreKind::Clickhouse => "ClickHouse",
    };
    let url = config.store.url();
    let weir = weir_as_called(cli);
    let next = match config.aliases.first() {
        Some(alias) => first_steps(&weir, addr, &alias.name, key),
        None => format!(
            "No alias is configured yet. Write a configuration and start again:\n  \
             {weir} config example > weir.toml\nOr look around first, with mock providers:\n  \
             {weir} up --demo"
        ),
    };
    let console = console.map_or_else(String::new, |url| format!("console    {url}\n"));
    let mut out = crate::output::stdout();
    writeln!(
        out,
        "gateway    http://{addr}/v1    (also /livez /readyz /metrics)\n\
         {console}\
         events     {log} in {data_dir}\n\
         store      {url} ({store} over HTTP)\n\n{next}"
    )?;
    out.flush()?;
    Ok(())
}

fn first_steps(weir: &str, addr: SocketAddr, alias: &str, key: Option<&str>) -> String {
    let keys = match key {
        Some(_) => "More keys",
        None => "There are keys already; another",
    };
    let key = key.unwrap_or("YOUR_KEY");
    format!(
        "Call it:\n  curl -sS http://{addr}/v1/chat/completions -H 'authorization: Bearer {key}' \
         -H 'content-type: application/json' \
         -d '{{\"model\":\"{alias}\",\"messages\":[{{\"role\":\"user\",\"content\":\"Hello\"}}]}}'\n\n\
         Ask what happened:\n  {weir} sql \"SELECT team, alias, provider, count() AS requests, \
         sum(output_tokens) AS output_tokens, round(avg(total_ms)) AS total_ms \
         FROM weir.requests GROUP BY ALL ORDER BY requests DESC\"\n\n\
         {keys}: {weir} keys create --team NAME"
    )
}

/// The command that started this program, with its global flags, for pasting into a shell.
fn weir_as_called(cli: &Cli) -> String {
    let program = std::env::args().next().unwrap_or_else(|| "weir".into());
    let mut words = vec![quoted(&program)];
    if let Some(path) = &cli.config {
        words.extend(["--config".into(), quoted(&path.to_string_lossy())]);
    }
    if cli.data_dir.as_os_str() != crate::cli::DATA_DIR {
        words.extend(["--data-dir".into(), quoted(&cli.data_dir.to_string_lossy())]);
    }
    words.join(" ")
}

/// A word, quoted for a shell if need be.
fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+=:@%".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn words_survive_a_shell() {
        for word in [
            "target/release/weir",
            "a b",
            "it's",
            "$HOME",
            "",
            "a;b",
            "*",
            "data-ä",
        ] {
            let line = format!("printf %s {}", quoted(word));
            let said = std::process::Command::new("sh")
                .args(["-c", &line])
                .output()
                .unwrap();
            assert_eq!(String::from_utf8(said.stdout).unwrap(), word);
        }
    }
}
