//! Every limit of this crate, in one place.

use std::time::Duration;

/// Buffer of a connection, in bytes: a request's head, or an answer that its client has not taken yet.
pub(crate) const CONNECTION_BUFFER_BYTES_MAX: usize = 64 * 1024;

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

/// Longest text of foreign origin that an event carries; the rest is cut.
pub(crate) const EVENT_TEXT_BYTES_MAX: usize = 512;

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
