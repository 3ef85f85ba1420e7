//! Every limit of this crate, in one place.

use std::time::Duration;

/// Buffer of a connection, in bytes: a request's head, or an answer that its client has not taken yet.
pub(crate) const CONNECTION_BUFFER_BYTES_MAX: usize = 64 * 1024;

/// Headers of one request.
pub(crate) const REQUEST_HEADERS_MAX: usize = 256;

/// Connections beyond the limit that wait for a place, or are told that there is none.
pub(crate) const NEWCOMERS_MAX: usize = 64;

/// How long a connection beyond the limit waits for one that was idle to be closed.
pub(crate) const NEWCOMER_WAIT_MAX: Duration = Duration::from_millis(500);

/// How long a connection that is closed with an error stays open for its client to read it.
pub(crate) const FAREWELL_MAX: Duration = Duration::from_secs(1);

/// How long answers that a shutdown cuts may take to say so.
pub(crate) const LAST_WORDS_MAX: Duration = Duration::from_secs(2);

/// Pause between two lines in the log about the limit of connections.
pub(crate) const WARNED_AGAIN: Duration = Duration::from_secs(10);

/// File descriptors that are kept back from clients and providers: for the control log, the journal, the
/// store and the like. Of a small limit, a quarter.
pub(crate) const DESCRIPTORS_RESERVED: u64 = 256;

/// Largest PROXY protocol header after its fixed part, in bytes; addresses alone need at most 36.
pub(crate) const PROXY_HEADER_BYTES_MAX: usize = 2048;

/// Largest body of a request to the admin API, in bytes.
pub(crate) const ADMIN_BODY_BYTES_MAX: usize = 256 * 1024;

/// Subjects of one budget in a list of all budgets.
pub(crate) const STANDINGS_LISTED_MAX: usize = 100;

/// How long a webhook post may still take when the gateway stops.
pub(crate) const LAST_POST_MAX: Duration = Duration::from_secs(2);

/// Longest pause after webhook posts that failed.
pub(crate) const WEBHOOK_PAUSE_MAX: Duration = Duration::from_secs(300);

/// Sample of a prompt for estimates, in bytes.
pub(crate) const PROMPT_SAMPLE_BYTES_MAX: usize = 16 * 1024;

/// Longest side of a captured payload, in bytes: two fit into an event that Kafka takes by default (1 MB).
pub(crate) const PAYLOAD_KEPT_BYTES_MAX: usize = 384 << 10;

/// Smallest setting of the same, in bytes: less would hold hardly more than a request's frame.
pub(crate) const PAYLOAD_KEPT_BYTES_MIN: usize = 1 << 10;

/// Held of a stream beyond what is kept, in bytes, so that a secret at the cut is seen whole. A match of
/// a pattern can be so long and be found there.
pub(crate) const PAYLOAD_BEYOND_BYTES_MAX: usize = 16 << 10;

/// Names in one message, of models or deployments: enough to recognise what was meant.
pub(crate) const NAMES_SHOWN_MAX: usize = 3;

/// Shadows under way at once, per worker. No client waits for one, so further ones are left out, and
/// counted.
pub(crate) const SHADOWS_MAX: usize = 64;

/// Bytes of an answer that are held back before it is relayed as it comes: one so large is no error that
/// another attempt could mend.
pub(crate) const HELD_ANSWER_BYTES_MAX: usize = 256 * 1024;

/// Window of a request body packed by zstd, in bytes: what RFC 9659 allows.
pub(crate) const ZSTD_WINDOW_BYTES_MAX: u64 = 8 << 20;

/// Bytes of a compressed body that are unpacked at once: they may become a thousand times as many.
pub(crate) const UNPACKED_FROM_BYTES: usize = 256;

/// Bytes after which no more of a compressed body is unpacked before these are passed on.
pub(crate) const UNPACKED_AT_ONCE_BYTES: usize = 64 * 1024;

/// Bytes of a provider's error answer that are read; its message comes first.
pub(crate) const ERROR_BODY_BYTES_MAX: usize = 64 * 1024;

/// How long a provider may take to finish an error answer: the status alone carries most of it.
pub(crate) const ERROR_BODY_MAX: Duration = Duration::from_secs(5);

/// Longest list of dropped fields in a response header, in characters. Clients refuse headers that are
/// longer than some kilobytes.
pub(crate) const DROPPED_CHARS_MAX: usize = 2_000;

/// Longest Retry-After of a provider that is believed, in microseconds: one mistaken answer should not
/// keep a deployment away for long.
pub(crate) const PROVIDER_PAUSE_US_MAX: u64 = 60_000_000;

/// Longest time until a provider's rate limit resets, in microseconds: a year. What says more is no time.
pub(crate) const LIMIT_RESET_US_MAX: f64 = 365.0 * 86_400e6;

/// Longest text of foreign origin that an event carries; the rest is cut.
pub(crate) const EVENT_TEXT_BYTES_MAX: usize = 512;

/// Calls without a valid key that have rows of their own, for each address in a minute.
pub(crate) const ROWS_PER_ADDRESS_MAX: u32 = 10;

/// Tags of a request that are kept.
pub(crate) const TAGS_MAX: usize = 16;

/// Longest name of a tag, in bytes.
pub(crate) const TAG_NAME_BYTES_MAX: usize = 64;

/// Longest value of a label or tag, in bytes; the rest is cut.
pub(crate) const LABEL_VALUE_BYTES_MAX: usize = 256;

/// Entries of the header `baggage` that are read.
pub(crate) const BAGGAGE_ENTRIES_MAX: usize = 64;

/// Largest file of a provider key, in bytes.
pub(crate) const PROVIDER_KEY_BYTES_MAX: u64 = 64 * 1024;

/// Provider keys in one directory.
pub(crate) const DIR_KEYS_MAX: usize = 1_000;

/// How long a connection to a provider stays open idle. Most providers close it after a minute.
pub(crate) const IDLE_MAX: Duration = Duration::from_secs(50);

/// Idle connections per endpoint and worker; further ones are closed.
pub(crate) const IDLE_CONNECTIONS_MAX: usize = 512;

/// Pieces that are there at once are passed on as one, up to this size, and no more is read ahead.
pub(crate) const COALESCED_BYTES_MAX: usize = 64 * 1024;

/// Largest answer of a proxy to CONNECT, in bytes.
pub(crate) const PROXY_HEAD_BYTES_MAX: usize = 8 * 1024;
