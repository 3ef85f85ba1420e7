//! Asks the store: a few queries at a time, each bounded in time and in what it answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use weir_store::{Cells, Neutraliser, RawAnswer, Store};

use crate::caps::{
    ANSWER_BYTES_MAX, EXPORT_TIME_MAX, QUERIES_RUNNING_MAX, QUERIES_WAITING_MAX, QUERY_TIME_MAX,
    WAIT_MAX,
};
use crate::error::ConsoleError;
use crate::respond::{Pipe, pipe};

/// The store, as the console asks it. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Asker {
    store: Store,
    places: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
}

/// Counts one that waits, while it does.
struct WaitingQuery(Arc<AtomicUsize>);

impl Drop for WaitingQuery {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Asker {
    pub(crate) fn new(store: Store) -> Self {
        Self {
            store,
            places: Arc::new(Semaphore::new(QUERIES_RUNNING_MAX)),
            waiting: Arc::default(),
        }
    }

    /// For who asks in its own way.
    pub(crate) fn store(&self) -> Store {
        self.store.clone()
    }

    /// The answer as one JSON document.
    pub(crate) async fn json(&self, sql: &str) -> Result<Bytes, ConsoleError> {
        let asked = async {
            let _place = self.place().await?;
            let mut answer = self.send(sql, "JSONCompact", QUERY_TIME_MAX)?;
            let mut collected = BytesMut::new();
            while let Some(piece) = answer.next().await? {
                if collected.len() + piece.len() > ANSWER_BYTES_MAX {
                    let message = "the answer is too large: choose a shorter range or more filters, \
                                   or export it as CSV";
                    return Err(ConsoleError::invalid(message));
                }
                collected.extend_from_slice(&piece);
            }
            Ok(collected.freeze())
        };
        let within = QUERY_TIME_MAX + WAIT_MAX;
        let answered = timeout(within, asked).await;
        answered.unwrap_or_else(|_| Err(ConsoleError::too_slow()))
    }

    /// The answer as CSV, piece by piece. Formulas are neutralised.
    pub(crate) async fn csv(&self, sql: &str) -> Result<Body, ConsoleError> {
        let begun = async {
            let place = self.place().await?;
            let mut answer = self.send(sql, "CSVWithNames", EXPORT_TIME_MAX)?;
            // What is wrong with a query is known before its first row.
            let first = answer.next().await?;
            Ok((place, answer, first))
        };
        let begun = timeout(EXPORT_TIME_MAX + WAIT_MAX, begun).await;
        let (place, answer, first) = begun.unwrap_or_else(|_| Err(ConsoleError::too_slow()))?;
        let (pipe, body) = pipe();
        tokio::task::spawn(relay(place, answer, first, pipe));
        Ok(Body::new(body))
    }

    async fn place(&self) -> Result<OwnedSemaphorePermit, ConsoleError> {
        if let Ok(place) = self.places.clone().try_acquire_owned() {
            return Ok(place);
        }
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = WaitingQuery(self.waiting.clone());
        if before >= QUERIES_WAITING_MAX {
            return Err(ConsoleError::too_many(
                "too many queries wait for the store; try again",
            ));
        }
        let place = self.places.clone().acquire_owned().await;
        place.map_err(|_| ConsoleError::internal("the console is stopping"))
    }

    fn send(&self, sql: &str, format: &str, within: Duration) -> Result<RawAnswer, ConsoleError> {
        let seconds = within.as_secs().to_string();
        let mut settings = vec![("readonly", "2"), ("max_execution_time", seconds.as_str())];
        if format == "JSONCompact" {
            settings.extend([
                ("wait_end_of_query", "1"),
                ("date_time_output_format", "iso"),
                ("output_format_json_quote_64bit_integers", "1"),
                ("output_format_json_quote_decimals", "1"),
            ]);
        }
        Ok(self.store.raw_query_with(sql, format, &settings)?)
    }
}

async fn relay(
    place: OwnedSemaphorePermit,
    mut answer: RawAnswer,
    mut piece: Option<Bytes>,
    pipe: Pipe,
) {
    let mut neutraliser = Neutraliser::new(Cells::Csv);
    while let Some(read) = piece {
        if !pipe.send(neutraliser.push(&read).into()).await {
            return;
        }
        piece = match answer.next().await {
            Ok(piece) => piece,
            Err(error) => return pipe.break_off(error).await,
        };
    }
    drop(place);
    pipe.send(neutraliser.finish().into()).await;
}
