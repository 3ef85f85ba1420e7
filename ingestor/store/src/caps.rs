//! Every limit of the store, in one place.

use std::time::Duration;

// The server: connections, statements, bodies

/// Connections open at once.
pub(crate) const CONNECTIONS_MAX: usize = 256;

/// Statements of Weir's own that run at once, INSERTs with rows aside.
pub(crate) const QUERIES_MAX: usize = 8;

/// INSERTs with rows that run at once.
pub(crate) const INSERTS_MAX: usize = 8;

/// Statements of `weir sql` that run at once.
pub(crate) const OPERATOR_QUERIES_MAX: usize = 3;

/// Statements of dashboards and SDKs that run at once.
pub(crate) const READER_QUERIES_MAX: usize = 5;

/// Requests of `weir sql` that are open at once.
pub(crate) const OPERATOR_REQUESTS_MAX: usize = 32;

/// Requests of dashboards and SDKs that are open at once.
pub(crate) const READER_REQUESTS_MAX: usize = 64;

/// The part of the engine's memory that a read-only statement may take. All of them together leave
/// two parts to Weir's own.
pub(crate) const READ_MEMORY_PARTS: u64 = (READER_QUERIES_MAX + OPERATOR_QUERIES_MAX) as u64 + 2;

/// What a read-only statement may write to disk while it sorts and groups.
pub(crate) const READ_SPILL_BYTES_MAX: u64 = 16 << 30;

/// Time after which a statement is stopped, unless it asks for another limit itself; a read-only one for a
/// shorter one.
pub(crate) const STATEMENT_TIME_MAX: Duration = Duration::from_secs(300);

/// How long a statement waits for its turn.
pub(crate) const PLACE_WAIT_MAX: Duration = Duration::from_secs(10);

/// Frames of a body that wait for the engine, each at most about 400 KiB.
pub(crate) const ROWS_QUEUED_MAX: usize = 4;

/// Chunks of output that wait for the client, each of at most 65 409 rows.
pub(crate) const OUTPUT_QUEUED_MAX: usize = 2;

/// How long a request's head may take to arrive.
pub(crate) const HEAD_TIME_MAX: Duration = Duration::from_secs(60);

/// The longest statement, without an INSERT's rows.
pub(crate) const STATEMENT_BYTES_MAX: usize = 1 << 20;

/// How long a body may pause.
pub(crate) const BODY_PAUSE_MAX: Duration = Duration::from_secs(60);

/// How much of an unwanted body is read so that the client sees the answer.
pub(crate) const DRAIN_BYTES_MAX: usize = 64 << 20;

pub(crate) const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);

/// The same of somebody who is not let in.
pub(crate) const STRANGER_DRAIN_BYTES_MAX: usize = 1 << 20;

/// A client that takes no output for this long has left, as far as the engine is concerned.
pub(crate) const OUTPUT_STALL_MAX: Duration = Duration::from_secs(300);

/// A result in a format that must be made whole may be this large, before it is formatted.
pub(crate) const WHOLE_RESULT_BYTES_MAX: u64 = 512 << 20;

/// Packed bytes that are unpacked in one step.
pub(crate) const UNPACK_STEP_BYTES: usize = 16 << 10;

/// What deflate unpacks into at a time.
pub(crate) const INFLATE_BYTES: usize = 256 << 10;

/// The largest block that is taken. Clients cut blocks of 1 MiB at most; the bound is there so that
/// a hostile header cannot ask for memory.
pub(crate) const BLOCK_BYTES_MAX: usize = 64 << 20;

// The client

pub(crate) const PING_TIME_MAX: Duration = Duration::from_secs(5);

/// For one piece of a batch to be taken, and then for the batch to be stored.
pub(crate) const INSERT_TIME_MAX: Duration = Duration::from_secs(120);

/// For a query of Weir's own to answer in full.
pub(crate) const QUERY_TIME_MAX: Duration = Duration::from_secs(60);

/// For one statement of a migration.
pub(crate) const MIGRATION_TIME_MAX: Duration = Duration::from_secs(600);

// The child process

/// How long running statements may take to end when the process is stopped.
pub(crate) const STOP_GRACE: Duration = Duration::from_secs(5);

/// How long the child may take to say that it is ready. Loading many parts takes a while.
pub(crate) const START_TIME_MAX: Duration = Duration::from_secs(120);

/// How long it may take to end when told to, before it is killed.
pub(crate) const STOP_TIME_MAX: Duration = Duration::from_secs(15);

/// The first pause before a restart; each further one is twice as long.
pub(crate) const RESTART_PAUSE_MIN: Duration = Duration::from_millis(200);

pub(crate) const RESTART_PAUSE_MAX: Duration = Duration::from_secs(10);

/// A child that served for this long was healthy: the next pause is short again.
pub(crate) const HEALTHY_AFTER: Duration = Duration::from_secs(30);
