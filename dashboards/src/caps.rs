//! Every limit of the console, in one place.

use std::time::Duration;

/// Connections served at once; a further one is closed.
pub(crate) const CONNECTIONS_MAX: usize = 128;

/// Time in which a browser must send a request's headers.
pub(crate) const HEAD_TIME_MAX: Duration = Duration::from_secs(10);

/// Pause after a connection could not be accepted, as when no descriptor is left.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long requests in flight may take to end when the console is stopped.
pub(crate) const STOP_GRACE: Duration = Duration::from_secs(2);

/// The largest body that is taken, and passed on to the admin API.
pub(crate) const BODY_BYTES_MAX: usize = 1 << 20;

// Sessions

/// Sessions open at once. A further one takes the place of the one that ends first.
pub(crate) const SESSIONS_MAX: usize = 500;

/// After that the gateway is asked again whether the session's token is still valid.
pub(crate) const TOKEN_CHECKED_FOR: Duration = Duration::from_secs(30);

/// Failed sign-ins from one address in a minute; further ones are refused unseen.
pub(crate) const FAILED_SIGN_INS_MAX: u32 = 20;

/// Addresses whose failed sign-ins are counted; the count of the oldest is forgotten.
pub(crate) const ADDRESSES_MAX: usize = 1_000;

pub(crate) const SIGN_IN_WINDOW: Duration = Duration::from_secs(60);

// Queries

/// Queries that run at once: one less than the store gives its readers, which dashboards and SDKs are, too.
pub(crate) const QUERIES_RUNNING_MAX: usize = 4;

/// Queries that wait for their turn.
pub(crate) const QUERIES_WAITING_MAX: usize = 48;

/// Time of a query, in the store.
pub(crate) const QUERY_TIME_MAX: Duration = Duration::from_secs(20);

/// Time of an export, in the store.
pub(crate) const EXPORT_TIME_MAX: Duration = Duration::from_secs(120);

/// What the wait for a turn and for the store may add to that.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(10);

/// Bytes of an answer that is not an export.
pub(crate) const ANSWER_BYTES_MAX: usize = 8 << 20;

/// Rows of an answer, and of an export.
pub(crate) const ROWS_MAX: u32 = 10_000;
pub(crate) const EXPORT_ROWS_MAX: u32 = 1_000_000;

/// Pieces of a streamed answer that wait for the browser.
pub(crate) const PIECES_WAITING_MAX: usize = 2;

/// A browser that takes nothing of a streamed answer for this long has left.
pub(crate) const STALL_MAX: Duration = Duration::from_secs(30);

/// Values of all filters of a query together, and the bytes of one.
pub(crate) const FILTER_VALUES_MAX: usize = 200;
pub(crate) const VALUE_BYTES_MAX: usize = 1_024;

/// Buckets of a chart.
pub(crate) const BUCKETS_MAX: i64 = 300;

// The gateway

/// Time for the gateway to answer.
pub(crate) const GATEWAY_TIME_MAX: Duration = Duration::from_secs(10);

/// Bytes of what it answers.
pub(crate) const GATEWAY_ANSWER_BYTES_MAX: usize = 8 << 20;

// Live requests

/// Rows that a look brings of quick calls, and of slow ones.
pub(crate) const TAIL_ROWS_MAX: usize = 100;

/// From one look to the next.
pub(crate) const TAIL_PAUSE: Duration = Duration::from_secs(1);

/// Time of a look.
pub(crate) const TAIL_LOOK_TIME_MAX: Duration = Duration::from_secs(10);

/// A call that is stored later than this after its end, while others arrive, is not shown.
pub(crate) const TAIL_LAG_MAX: Duration = Duration::from_secs(60);

/// Calls that began before are not shown.
pub(crate) const TAIL_WINDOW_MAX: Duration = Duration::from_secs(900);

/// Streams whose rows are known in a look: a statement holds at most 256 KiB.
pub(crate) const TAIL_STREAMS_MAX: usize = 2_000;

/// Pages that follow live requests.
pub(crate) const TAIL_PAGES_MAX: usize = 16;

/// Requests that such a page begins with.
pub(crate) const TAIL_NEWEST: usize = 20;
