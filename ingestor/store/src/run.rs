//! Running one statement on the engine: a thread that feeds rows in and hands output on.
//!
//! The way through [`run`]: open a connection → set it up (database, settings) → stream a SELECT,
//! feed an INSERT, or run anything else to its end. Each statement has a connection of its own, so
//! that nothing of one request (settings, temporary tables, a failed insert) reaches another.
//!
//! What it never does: hold more than a few chunks of a result, commit an INSERT whose body did not
//! arrive to its end, or answer twice. It sends one message with everything, or a head, then chunks,
//! then exactly one end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::block;
use crate::caps::{OUTPUT_STALL_MAX, WHOLE_RESULT_BYTES_MAX};
use crate::config::ReaderLimits;
use crate::decode::BodyDecoder;
use crate::engine::{EmbeddedEngine, EngineConnection, InsertStream, QueryProgress, ResultChunk};
use crate::error::{ServerError, code};
use crate::format::{Joiner, Joining};
use crate::request::{QueryRequest, Rights};
use crate::sql::Statement;

/// A statement with everything that it needs.
pub(crate) struct QueryJob {
    /// With all of the statement's text.
    pub(crate) request: QueryRequest,
    pub(crate) statement: Statement,
    /// What a read-only user is held to.
    pub(crate) limits: Option<ReaderLimits>,
    /// Rows that came with the statement.
    first_rows: Bytes,
    /// Unpacks the other rows.
    decoder: BodyDecoder,
}

impl QueryJob {
    pub(crate) fn new(
        request: QueryRequest,
        statement: Statement,
        first_rows: Bytes,
        decoder: BodyDecoder,
    ) -> Self {
        Self {
            request,
            statement,
            limits: None,
            first_rows,
            decoder,
        }
    }

    /// Format of the output of a statement without rows.
    fn format(&self) -> &str {
        let own = match &self.statement {
            Statement::Select { format } | Statement::Other { format } => format.as_ref(),
            Statement::Insert(_) => None,
        };
        own.or(self.request.default_format.as_ref())
            .map_or("TabSeparated", String::as_str)
    }

    fn is_select(&self) -> bool {
        matches!(self.statement, Statement::Select { .. })
    }
}

/// Rows of an INSERT on their way in.
#[derive(Debug)]
pub(crate) enum RowInput {
    Data(Bytes),
    /// The body arrived to its end. A channel that closes without this is a client that left.
    End,
}

/// What a statement gives.
#[derive(Debug)]
pub(crate) enum QueryOutput {
    /// All of the output of a statement that has ended.
    Whole {
        format: Option<String>,
        output: Bytes,
        progress: QueryProgress,
    },
    /// The first output of a statement that goes on.
    Head {
        format: String,
        first: Bytes,
        progress: QueryProgress,
    },
    Chunk(Bytes),
    /// It ended after a head. Or it failed, perhaps before one.
    End(Result<(), ServerError>),
}

/// Shared by the thread that runs a statement and the connection that may cancel it.
#[derive(Debug, Default)]
pub(crate) struct Running {
    cancelled: AtomicBool,
    finished: AtomicBool,
}

impl Running {
    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Acquire)
    }

    fn check(&self) -> Result<(), ServerError> {
        if self.cancelled.load(Ordering::Acquire) {
            Err(cancelled())
        } else {
            Ok(())
        }
    }
}

fn cancelled() -> ServerError {
    ServerError::new(code::QUERY_WAS_CANCELLED, "The client has left")
}

/// Runs a statement to its end on this thread, which it blocks.
pub(crate) fn run(
    engine: &EmbeddedEngine,
    job: QueryJob,
    running: &Arc<Running>,
    rows: mpsc::Receiver<RowInput>,
    output: mpsc::Sender<QueryOutput>,
) {
    let sender = Sender {
        output,
        compress: job.request.compress,
    };
    let last = run_job(engine, job, running, rows, &sender);
    running.finished.store(true, Ordering::Release);
    // A client that is gone needs no answer.
    let _ = sender.send(last.unwrap_or_else(|error| QueryOutput::End(Err(error))));
}

/// Returns all output at once if it was little, and the end if it has been sent.
fn run_job(
    engine: &EmbeddedEngine,
    job: QueryJob,
    running: &Running,
    rows: mpsc::Receiver<RowInput>,
    sender: &Sender,
) -> Result<QueryOutput, ServerError> {
    running.check()?;
    let mut connection = engine.connect()?;
    set_up(&mut connection, &job)?;
    if let Statement::Insert(insert) = &job.statement {
        let params = &job.request.params;
        let stream = connection.insert(&insert.head, &insert.format, params)?;
        return feed(stream, &job.first_rows, job.decoder, rows);
    }
    let joining = Joining::of(job.format());
    if job.is_select() && joining != Joining::Whole {
        match stream(&mut connection, &job, joining, sender) {
            // WITH … INSERT and its kind look like a SELECT from outside.
            Err(error) if error.message.contains("Streaming query is not supported") => {}
            done => return done,
        }
    }
    whole(&mut connection, &job, sender)
}

/// Gives a fresh connection the request's database and settings.
fn set_up(connection: &mut EngineConnection, job: &QueryJob) -> Result<(), ServerError> {
    if let Some(database) = &job.request.database {
        let name = database.replace('\\', "\\\\").replace('`', "\\`");
        connection.execute(&format!("USE `{name}`"), "Null", &[])?;
    }
    let settings = job.request.settings.iter().cloned();
    let (comment, settings): (Vec<_>, Vec<_>) = settings.partition(is_comment);
    let mut own = vec![("max_result_bytes".to_owned(), whole_result_limit(job))];
    own.push(mark(comment, &job.request.query_id));
    let limits = job.limits.iter().flatten();
    own.extend(limits.map(|(name, value)| ((*name).to_owned(), value.to_string())));
    set(connection, &own)?;
    if job.limits.is_some() {
        connection.execute("SET profile = 'reader'", "Null", &[])?;
    }
    set(connection, &settings)?;
    // Last: what is read-only takes no further settings, or not this one.
    let readonly = match job.request.rights {
        Rights::All => return Ok(()),
        Rights::Read => "SET readonly = 2",
        Rights::ReadAsSet => "SET readonly = 1",
    };
    connection.execute(readonly, "Null", &[]).map(drop)
}

fn set(
    connection: &mut EngineConnection,
    settings: &[(String, String)],
) -> Result<(), ServerError> {
    if settings.is_empty() {
        return Ok(());
    }
    let assignments: Vec<String> = settings
        .iter()
        .map(|(name, value)| format!("{name} = '{}'", escaped(value)))
        .collect();
    let statement = format!("SET {}", assignments.join(", "));
    connection.execute(&statement, "Null", &[]).map(drop)
}

fn is_comment((name, _): &(String, String)) -> bool {
    name == "log_comment"
}

/// Streamed results need no limit; those that are made whole do.
fn whole_result_limit(job: &QueryJob) -> String {
    let whole = job.is_select() && Joining::of(job.format()) == Joining::Whole;
    (if whole { WHOLE_RESULT_BYTES_MAX } else { 0 }).to_string()
}

/// Marks the statement so that [`kill`] finds it. The engine numbers its queries by itself and
/// does not tell; a comment can be set by the client and seen in the list of processes.
fn mark(comment: Vec<(String, String)>, query_id: &str) -> (String, String) {
    let comments = comment.into_iter().map(|(_, comment)| comment + " ");
    let marked = comments.collect::<String>() + &marker(query_id);
    ("log_comment".to_owned(), marked)
}

fn marker(query_id: &str) -> String {
    format!("weir-query:{query_id}")
}

/// Stops the statement with this id, if it runs.
pub(crate) fn kill(engine: &EmbeddedEngine, query_id: &str) -> Result<(), ServerError> {
    let marker = escaped(&marker(query_id));
    let sql =
        format!("KILL QUERY WHERE endsWith(Settings['log_comment'], '{marker}') ASYNC FORMAT Null");
    engine.connect()?.execute(&sql, "Null", &[]).map(drop)
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('\'', "\\'")
}

fn stream(
    connection: &mut EngineConnection,
    job: &QueryJob,
    joining: Joining,
    sender: &Sender,
) -> Result<QueryOutput, ServerError> {
    let format = job.format();
    let mut stream = connection.stream(&job.request.query, format, &job.request.params)?;
    let mut joiner = Joiner::new(joining);
    let mut progress = QueryProgress::default();
    let mut bytes_of = |chunk: ResultChunk, progress: &mut QueryProgress| {
        *progress += chunk.progress();
        // The engine's memory travels as it is, and is freed when it has been written.
        sender.packed(joiner.join(Bytes::from_owner(chunk)))
    };
    let first = stream
        .next_chunk()?
        .map(|chunk| bytes_of(chunk, &mut progress));
    let first = first.unwrap_or_default();
    // Looking one chunk ahead, small results are answered with a length and a summary, and more
    // errors with a status.
    let mut next = stream.next_chunk()?;
    if next.is_none() {
        return Ok(QueryOutput::Whole {
            format: Some(format.to_owned()),
            output: first,
            progress,
        });
    }
    sender.send(QueryOutput::Head {
        format: format.to_owned(),
        first,
        progress,
    })?;
    while let Some(chunk) = next {
        let bytes = bytes_of(chunk, &mut progress);
        if !bytes.is_empty() {
            sender.send(QueryOutput::Chunk(bytes))?;
        }
        next = stream.next_chunk()?;
    }
    Ok(QueryOutput::End(Ok(())))
}

fn whole(
    connection: &mut EngineConnection,
    job: &QueryJob,
    sender: &Sender,
) -> Result<QueryOutput, ServerError> {
    let format = job.format();
    let result = connection
        .execute(&job.request.query, format, &job.request.params)
        .map_err(explain_result_limit)?;
    let progress = result.progress();
    let output = sender.packed(Bytes::from_owner(result));
    Ok(QueryOutput::Whole {
        format: Some(format.to_owned()),
        output,
        progress,
    })
}

fn explain_result_limit(mut error: ServerError) -> ServerError {
    if error.code == code::TOO_MANY_ROWS_OR_BYTES.number {
        error.message.push_str(
            " A format that is one document is made whole in memory: ask for a format of rows \
             (JSONEachRow, TSV, CSV, RowBinary, Native), which is streamed, or raise max_result_bytes.",
        );
    }
    error
}

/// Feeds an INSERT. The rows are stored only if all of them arrived.
fn feed(
    mut stream: InsertStream<'_>,
    first_rows: &Bytes,
    decoder: BodyDecoder,
    rows: mpsc::Receiver<RowInput>,
) -> Result<QueryOutput, ServerError> {
    if first_rows.is_empty() || stream.append(first_rows) {
        feed_body(&mut stream, decoder, rows)?;
    }
    let progress = stream.finish()?.progress();
    Ok(QueryOutput::Whole {
        format: None,
        output: Bytes::new(),
        progress,
    })
}

/// Hands over a body as it comes, until it ends or the engine gives the insert up.
fn feed_body(
    stream: &mut InsertStream<'_>,
    mut decoder: BodyDecoder,
    mut rows: mpsc::Receiver<RowInput>,
) -> Result<(), ServerError> {
    let mut take = |data: &[u8]| stream.append(data);
    loop {
        match rows.blocking_recv().ok_or_else(cancelled)? {
            RowInput::End => return decoder.finish(&mut take),
            RowInput::Data(data) => {
                if !decoder.unpack(&data, &mut take)? {
                    return Ok(());
                }
            }
        }
    }
}

/// The way out, which blocks while the client is slow.
struct Sender {
    output: mpsc::Sender<QueryOutput>,
    compress: bool,
}

impl Sender {
    fn packed(&self, bytes: Bytes) -> Bytes {
        if self.compress && !bytes.is_empty() {
            block::encode(&bytes)
        } else {
            bytes
        }
    }

    fn send(&self, output: QueryOutput) -> Result<(), ServerError> {
        let sent = Handle::current().block_on(timeout(OUTPUT_STALL_MAX, self.output.send(output)));
        match sent {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(cancelled()),
            Err(_) => Err(ServerError::new(
                code::SOCKET_TIMEOUT,
                "The client has taken no output for 300 seconds",
            )),
        }
    }
}
