//! Live requests: what the store took in since it was last looked at, about once a second.
//!
//! A row comes when its call has ended, but bears the time at which the call began. So a look does not ask
//! for times after the last one: it asks for rows whose number in their stream it has not seen, within a
//! window of time. The window keeps a look cheap: parts of the table without such times are not opened, and
//! the large ones are soon without. Most calls are quick, and a short window holds them; the calls that take
//! longer are looked for more seldom, in a long one.
//!
//! A look counts what arrived, and brings a bounded sample of it: the requests whose ids have the smallest
//! hashes, which are the same for everybody who watches.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Map, Value};
use tokio::time::timeout;
use weir_store::{Store, StoreError, message_of};

use crate::caps::{
    TAIL_LAG_MAX, TAIL_LOOK_TIME_MAX, TAIL_PAUSE, TAIL_ROWS_MAX, TAIL_STREAMS_MAX, TAIL_WINDOW_MAX,
};

/// Calls that take less are looked for every time.
const QUICK: Duration = Duration::from_secs(60);
/// The others are looked for every so many times.
const SLOW_EVERY: u32 = 10;
/// A look may take this share of the time.
const SHARE_OF_TIME: u32 = 5;

/// What a request is shown with, and the expression for it.
const COLUMNS: [(&str, &str); 26] = [
    ("ts", "ts"),
    ("request_id", "request_id"),
    ("status", "status"),
    ("error_kind", "error_kind"),
    ("organisation", "organisation"),
    ("team", "team"),
    ("project", "project"),
    ("user", "user"),
    ("key_id", "key_id"),
    ("environment", "environment"),
    ("feature", "feature"),
    ("customer", "customer"),
    ("alias", "alias"),
    ("provider", "provider"),
    ("model", "model"),
    ("deployment", "deployment"),
    ("streamed", "streamed"),
    ("attempts", "attempts"),
    ("ttft_ms", "ttft_us / 1000"),
    ("total_ms", "total_us / 1000"),
    ("input_tokens", "input_tokens"),
    ("cached_input_tokens", "cached_input_tokens"),
    ("output_tokens", "output_tokens"),
    ("usage_source", "usage_source"),
    ("cost_usd", "toString(cost_usd)"),
    ("waste_usd", "toString(waste_usd)"),
];

/// Follows the requests that somebody may see. Each watcher has one of its own.
#[derive(Debug)]
pub struct LiveTail {
    store: Store,
    quick: TailLook,
    slow: TailLook,
    looks: u32,
    /// When rows last arrived, or the first look was.
    arrived: Option<Instant>,
    looked: Option<Instant>,
    pause: Duration,
}

/// What one look found.
#[derive(Debug, Serialize)]
pub struct TailNews {
    /// Oldest first. Each is an object with the columns' names.
    pub requests: Vec<Map<String, Value>>,
    pub state: TailState,
}

/// How the tail fares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TailState {
    /// Requests that this look brings, of those that arrived since the one before. The first look brings
    /// the newest ones there are.
    pub shown: u64,
    pub arrived: u64,
    /// One in so many is shown.
    pub sampled_one_in: u64,
    /// Milliseconds since the look before.
    pub over_ms: u64,
    pub store: StoreReach,
    /// Why the store is away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StoreReach {
    Ok,
    Away,
}

/// One kind of calls, and how far each stream's rows of it were seen.
#[derive(Debug)]
struct TailLook {
    /// What the rows must be like.
    condition: String,
    marks: BTreeMap<String, StreamMark>,
    /// Before the first time: how many of the newest rows it brings.
    newest: Option<usize>,
}

#[derive(Debug)]
struct StreamMark {
    seq: u64,
    at: Instant,
}

/// What a statement gave.
#[derive(Debug, Default)]
struct TailFound {
    arrived: u64,
    requests: Vec<SeenRequest>,
}

#[derive(Debug)]
struct SeenRequest {
    /// When it had its answer, in microseconds since 1970.
    ended_us: u64,
    columns: Map<String, Value>,
}

impl LiveTail {
    /// `condition` is SQL: which rows of `weir.requests` the watcher may see and wants. The first look
    /// brings the `newest` of them.
    #[must_use]
    pub fn new(store: Store, condition: &str, newest: usize) -> Self {
        let look = |than: &str, newest| TailLook {
            condition: format!("total_us {than} {} AND ({condition})", QUICK.as_micros()),
            marks: BTreeMap::new(),
            newest: Some(newest),
        };
        Self {
            store,
            quick: look("<", newest.min(TAIL_ROWS_MAX)),
            slow: look(">=", 0),
            looks: 0,
            arrived: None,
            looked: None,
            pause: Duration::ZERO,
        }
    }

    /// Waits until it is time, and looks. That the store is away is news like any other.
    pub async fn next(&mut self) -> TailNews {
        tokio::time::sleep(self.pause).await;
        let begun = Instant::now();
        let found = timeout(TAIL_LOOK_TIME_MAX, self.look(begun)).await;
        let found = found.unwrap_or_else(|_| {
            let seconds = TAIL_LOOK_TIME_MAX.as_secs();
            Err(format!("it does not answer within {seconds} s"))
        });
        let took = begun.elapsed();
        self.pause = (took * (SHARE_OF_TIME - 1)).max(TAIL_PAUSE.saturating_sub(took));
        let since = self.looked.replace(begun).unwrap_or(begun);
        let over = begun.duration_since(since);
        let (found, reason) = match found {
            Ok(found) => (found, None),
            Err(reason) => (TailFound::default(), Some(reason)),
        };
        let shown = found.requests.len() as u64;
        TailNews {
            state: TailState {
                shown,
                arrived: found.arrived,
                sampled_one_in: found.arrived.div_ceil(shown.max(1)).max(1),
                over_ms: u64::try_from(over.as_millis()).unwrap_or(u64::MAX),
                store: match reason {
                    None => StoreReach::Ok,
                    Some(_) => StoreReach::Away,
                },
                reason,
            },
            requests: found
                .requests
                .into_iter()
                .map(|request| request.columns)
                .collect(),
        }
    }

    async fn look(&mut self, now: Instant) -> Result<TailFound, String> {
        // What nothing followed yet may be stored late: an ingestor was away, or the store.
        let quiet = now.duration_since(*self.arrived.get_or_insert(now));
        let window = (quiet + QUICK + TAIL_LAG_MAX).min(TAIL_WINDOW_MAX);
        let mut found = self.quick.take(&self.store, window, now).await?;
        if self.looks.is_multiple_of(SLOW_EVERY) {
            let slow = self.slow.take(&self.store, TAIL_WINDOW_MAX, now).await?;
            found.arrived += slow.arrived;
            found.requests.extend(slow.requests);
        }
        self.looks = self.looks.wrapping_add(1);
        if found.arrived > 0 {
            self.arrived = Some(now);
        }
        found.requests.sort_by_key(|request| request.ended_us);
        Ok(found)
    }
}

impl TailLook {
    async fn take(
        &mut self,
        store: &Store,
        window: Duration,
        now: Instant,
    ) -> Result<TailFound, String> {
        let answer = ask(store, &self.statement(window)).await.map_err(reason)?;
        let (arrived, marks, mut requests) = read(&answer).ok_or("its answer is odd")?;
        for (stream, seq) in marks {
            self.marks.insert(stream, StreamMark { seq, at: now });
        }
        // Rows of a stream that has been silent for a window's length are outside of it.
        let is_near = |mark: &StreamMark| now.duration_since(mark.at) <= 2 * TAIL_WINDOW_MAX;
        self.marks.retain(|_, mark| is_near(mark));
        if let Some(newest) = self.newest.take() {
            requests.truncate(newest);
            return Ok(TailFound {
                arrived: requests.len() as u64,
                requests,
            });
        }
        Ok(TailFound { arrived, requests })
    }

    /// How many rows are new, how far they reach in each stream, and a sample of them.
    fn statement(&self, window: Duration) -> String {
        let columns: Vec<&str> = COLUMNS.iter().map(|(_, column)| *column).collect();
        let columns = columns.join(", ");
        let ended = "toUnixTimestamp64Micro(ts) + total_us";
        let order = match self.newest {
            Some(_) => format!("-toInt64({ended})"),
            None => "toInt64(bitShiftRight(cityHash64(request_id), 1))".to_owned(),
        };
        let condition = &self.condition;
        let (seconds, rows, unseen) = (window.as_secs(), TAIL_ROWS_MAX, self.unseen());
        format!(
            "SELECT count(), maxMap([toString(stream)], [seq]), \
             groupArraySorted({rows})(tuple({order}, {ended}, {columns})) \
             FROM weir.requests WHERE ts >= now64(6) - INTERVAL {seconds} SECOND AND {unseen} \
             AND {condition}"
        )
    }

    fn unseen(&self) -> String {
        if self.marks.is_empty() {
            return "true".to_owned();
        }
        let mut newest: Vec<_> = self.marks.iter().collect();
        newest.sort_by_key(|(_, mark)| std::cmp::Reverse(mark.at));
        let (mut streams, mut seqs) = (String::new(), String::new());
        for (stream, mark) in newest.into_iter().take(TAIL_STREAMS_MAX) {
            let comma = if streams.is_empty() { "" } else { "," };
            let _ = write!(streams, "{comma}'{stream}'");
            let _ = write!(seqs, "{comma}{}", mark.seq);
        }
        format!("seq > transform(toString(stream), [{streams}], [{seqs}], toUInt64(0))")
    }
}

async fn ask(store: &Store, sql: &str) -> Result<bytes::Bytes, StoreError> {
    let seconds = TAIL_LOOK_TIME_MAX.as_secs().to_string();
    let settings = [
        ("readonly", "2"),
        ("max_execution_time", seconds.as_str()),
        ("date_time_output_format", "iso"),
        ("output_format_json_quote_64bit_integers", "0"),
    ];
    store
        .raw_query_with(sql, "JSONCompactEachRow", &settings)?
        .collect()
        .await
}

fn reason(error: StoreError) -> String {
    message_of(&error.message).to_owned()
}

/// A count, the last number of each stream, and rows.
type TailAnswer = (u64, (Vec<String>, Vec<u64>), Vec<Vec<Value>>);
type TailReading = (u64, Vec<(String, u64)>, Vec<SeenRequest>);

fn read(answer: &[u8]) -> Option<TailReading> {
    let (arrived, (streams, seqs), rows): TailAnswer = serde_json::from_slice(answer).ok()?;
    // What they were ordered by stands before.
    let request = |row: Vec<Value>| {
        let mut row = row.into_iter().skip(1);
        let ended_us = row.next()?.as_u64()?;
        let names = COLUMNS.iter().map(|(name, _)| (*name).to_owned());
        Some(SeenRequest {
            ended_us,
            columns: names.zip(row).collect(),
        })
    };
    let rows = rows.into_iter().map(request).collect::<Option<_>>()?;
    Some((arrived, streams.into_iter().zip(seqs).collect(), rows))
}
