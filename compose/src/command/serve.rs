//! One service per process: `weir gateway`, `weir ingestor`, `weir console`, `weir store`.

use std::io::Write as _;

use anyhow::anyhow;
use weir_eventlog::Parts;
use weir_store::{ServeOptions, child::serve};

use crate::cli::Cli;
use crate::context::{config_path, configuration, settings};
use crate::log::LogQueue;
use crate::output::{Reported, stdout};
use crate::parts::{
    ConsoleService, EmbeddedStore, Gateway, IngestorService, Signals, keep_memory_private,
    store_options,
};

pub(crate) fn gateway(cli: &Cli, log: &LogQueue, allow_empty: bool) -> anyhow::Result<()> {
    keep_memory_private();
    let signals = Signals::listen()?;
    let parts = Parts::default();
    log.join(&parts);
    let gateway = Gateway::start(
        configuration(cli)?,
        &cli.data_dir,
        config_path(cli),
        allow_empty,
        &parts,
    )?;
    writeln!(stdout(), "gateway    http://{}/v1", gateway.handle.addr())?;
    let ended = signals.wait(&parts, || gateway.reload());
    gateway.stop();
    ended
}

/// Runs the ingestor, with the embedded store.
pub(crate) fn ingestor(cli: &Cli) -> anyhow::Result<()> {
    let signals = Signals::listen()?;
    let config = settings(cli)?;
    let parts = Parts::default();
    let store = EmbeddedStore::start(&config, cli, &parts)?;
    let ingestor = IngestorService::start(&config, &cli.data_dir, store.as_ref(), &parts)?;
    writeln!(stdout(), "ingestor   into {}", config.store.url())?;
    let ended = signals.wait(&parts, || {
        tracing::warn!("SIGHUP ignored: an ingestor reads its configuration only at start")
    });
    ingestor.stop();
    if let Some(store) = store {
        store.stop();
    }
    ended
}

/// Runs the console alone.
pub(crate) fn console(cli: &Cli) -> anyhow::Result<()> {
    keep_memory_private();
    let signals = Signals::listen()?;
    let config = settings(cli)?;
    let parts = Parts::default();
    let console = ConsoleService::start(&config, &cli.data_dir, config.gateway.listen, &parts)?;
    let console = console.ok_or_else(|| anyhow!("[console] listen is \"\": set an address"))?;
    writeln!(stdout(), "console    {}", console.url)?;
    let ended = signals.wait(&parts, || {
        tracing::warn!("SIGHUP ignored: a console reads its configuration only at start")
    });
    console.stop();
    ended
}

/// Runs the store. With `supervised`, it ends with the process that started it.
pub(crate) fn store(cli: &Cli, supervised: bool) -> anyhow::Result<()> {
    let options = ServeOptions {
        supervised,
        ..store_options(&settings(cli)?, &cli.data_dir)?
    };
    serve(&options).map_err(|error| match supervised {
        // The supervisor reports errors itself.
        true => Reported.into(),
        false => anyhow!("{error}; {}", error.how_to_fix()),
    })
}
