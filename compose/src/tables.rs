//! The routing tables' way through this process: from the ingestor's feedback into their log, and
//! from the log into the gateway.

use std::path::Path;
use std::time::Duration;

use tokio::sync::watch;
use weir_eventlog::{KafkaOptions, RecordLog, TableLog};
use weir_gateway::TableAdopter;
use weir_ingestor::feedback::{self, FeedbackOptions};
use weir_store::StoreState;

use crate::config::Config;
use crate::parts::{EmbeddedStore, Stoppable, runtime};

/// How soon a gateway sees a new table.
const FOLLOW_POLL: Duration = Duration::from_millis(100);

/// Where the tables are: beside the keys on one machine, in a topic of their own with Kafka.
pub(crate) fn record_log(config: &Config, data_dir: &Path) -> RecordLog {
    match config.eventlog.kafka_options() {
        Some(kafka) => RecordLog::Topic(KafkaOptions {
            topic: config.routing.topic.clone(),
            ..kafka
        }),
        None => RecordLog::File(data_dir.join("control").join("routing.log")),
    }
}

/// The log with nothing of it read yet.
pub(crate) fn table_log(config: &Config, data_dir: &Path) -> TableLog {
    TableLog::new(record_log(config, data_dir), config.routing.table.clone())
}

/// Lets a gateway go by the newest table. A log that is away leaves it with the one it has, which
/// ages.
pub(crate) fn follow(
    config: &Config,
    data_dir: &Path,
    adopter: TableAdopter,
) -> anyhow::Result<Stoppable> {
    let mut tables = table_log(config, data_dir);
    Stoppable::start("routing-tables", move |stopped| {
        let mut adopted = 0;
        let mut failing = false;
        while !*stopped.borrow() {
            let followed = tables.follow(FOLLOW_POLL);
            // Said once, not ten times a second.
            if let (Err(error), false) = (&followed, failing) {
                tracing::error!(%error, "follow the routing tables");
            }
            failing = followed.is_err();
            let newest = tables.controller().in_force();
            if let Some(table) = newest.filter(|table| table.version != adopted) {
                adopted = table.version;
                adopter.adopt(table.clone());
            }
            std::thread::park_timeout(FOLLOW_POLL);
        }
        adopter.close();
    })
}

/// Makes tables from what is stored, on a thread of its own. It begins when the embedded store, if
/// there is one, is ready or has failed.
pub(crate) fn start_feedback(
    config: &Config,
    data_dir: &Path,
    store: Option<&EmbeddedStore>,
) -> anyhow::Result<Stoppable> {
    let store_state = store.map(EmbeddedStore::state);
    let options = FeedbackOptions {
        store: config.store.connect()?,
        log: record_log(config, data_dir),
        policy: config.routing.table.clone(),
        refresh: Duration::from_secs(u64::from(config.routing.refresh_s)),
        window: Duration::from_secs(u64::from(config.routing.window_s)),
    };
    let runtime = runtime()?;
    let publish = async move |mut stopped: watch::Receiver<bool>| {
        if let Some(mut state) = store_state {
            tokio::select! {
                _ = state.wait_for(|state| *state != StoreState::Starting) => {}
                _ = stopped.wait_for(|stop| *stop) => {}
            }
        }
        feedback::run(options, stopped).await;
    };
    Stoppable::start("feedback", move |stopped| {
        runtime.block_on(publish(stopped));
    })
}
