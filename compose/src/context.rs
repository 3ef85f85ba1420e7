//! What every command needs: the configuration, the paths in the data directory, a runtime, the time.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use tokio::runtime::{Builder, Runtime};
use weir_gateway::config::Secret;
use weir_governance::control::Control;

use crate::cli::Cli;
use crate::config::{Config, Loaded, load, load_settings, parse};

/// The configuration file: the one named, or `weir.toml` in the working directory if it exists.
pub(crate) fn config_path(cli: &Cli) -> Option<PathBuf> {
    const DEFAULT_FILE: &str = "weir.toml";
    cli.config
        .clone()
        .or_else(|| Some(PathBuf::from(DEFAULT_FILE)).filter(|path| path.exists()))
}

/// The whole configuration, or the defaults if there is no file.
pub(crate) fn configuration(cli: &Cli) -> anyhow::Result<Loaded> {
    Ok(match config_path(cli) {
        Some(path) => load(&path, None)?,
        None => parse("(defaults)", "", None)?,
    })
}

/// The configuration without provider keys, for commands that serve no requests.
pub(crate) fn settings(cli: &Cli) -> anyhow::Result<Config> {
    Ok(match config_path(cli) {
        Some(path) => load_settings(&path)?,
        None => Config::default(),
    })
}

/// The directory of the embedded store.
pub(crate) fn store_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("store")
}

/// The directory of the signing key and the exported checkpoints.
pub(crate) fn audit_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("audit")
}

/// The log of keys and rules.
pub(crate) fn control(config: &Config, data_dir: &Path) -> anyhow::Result<Control> {
    let secret = config.control.hash_secret.as_ref().map(Secret::expose);
    let topic = config.eventlog.kafka_topic(&config.control.topic);
    Control::open(data_dir, secret, topic).context("open the control log ([control])")
}

/// A single-threaded runtime.
pub(crate) fn runtime() -> anyhow::Result<Runtime> {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start a runtime")
}

#[expect(clippy::disallowed_methods, reason = "the clock of the command line")]
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
