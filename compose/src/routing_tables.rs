//! The log of routing tables: the ingestor's feedback writes it, the gateway follows it.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use weir_eventlog::{PartHandle, RecordLog, StopSignal, StoppableThread, TableLog};
use weir_gateway::TableAdopter;

use crate::config::Config;

/// How soon a gateway sees a new table.
const FOLLOW_POLL: Duration = Duration::from_millis(100);

/// The log, at its beginning: a file beside the keys, or a topic of its own with Kafka.
pub(crate) fn table_log(config: &Config, data_dir: &Path) -> TableLog {
    let log = match config.eventlog.kafka_topic(&config.routing.topic) {
        Some(kafka) => RecordLog::Topic(kafka),
        None => RecordLog::File(data_dir.join("control").join("routing.log")),
    };
    TableLog::new(log, config.routing.table.clone())
}

/// Feeds the newest table to a gateway. While the log is unavailable, the gateway keeps its table,
/// which ages.
pub(crate) fn follow(
    config: &Config,
    data_dir: &Path,
    adopter: TableAdopter,
    part: PartHandle,
) -> anyhow::Result<StoppableThread> {
    let mut tables = table_log(config, data_dir);
    let mut adopted = 0;
    let mut adopter = Some(adopter);
    let told = part.clone();
    let run = move |stop: &StopSignal| {
        while !stop.is_set() {
            let followed = tables.follow(FOLLOW_POLL);
            match &followed {
                Ok(_) => told.ok(),
                // Logged once, not ten times a second.
                Err(error) => {
                    if told.failed(error) {
                        tracing::error!(%error, "failed to read the routing tables");
                    }
                }
            }
            let newest = tables.controller().in_force();
            if let Some(table) = newest.filter(|table| table.version != adopted) {
                adopted = table.version;
                if let Some(adopter) = &adopter {
                    adopter.adopt(table.clone());
                }
            }
            let _ = stop.sleep(FOLLOW_POLL);
        }
        if let Some(adopter) = adopter.take() {
            adopter.close();
        }
        Ok(())
    };
    part.keep_running(run).context("start a thread")
}
