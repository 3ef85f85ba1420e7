//! Every limit of this crate, in one place.

use std::time::Duration;

/// Longest id of a record, in bytes.
pub(crate) const ID_BYTES_MAX: usize = 128;

/// Longest label of a provider key, in bytes.
pub const LABEL_BYTES_MAX: usize = 64;

/// Subjects of one rule that are counted apart; further ones share a counter.
pub(crate) const SUBJECTS_MAX: usize = 100_000;

/// How often a request that others were quicker than looks for what a budget still affords.
pub(crate) const CLAMPS_MAX: usize = 8;

/// How long a start waits for the topic before it goes on with the copy.
pub(crate) const CONTROL_FIRST_READ_MAX: Duration = Duration::from_secs(5);

/// How long a change waits for the topic.
pub(crate) const CONTROL_WHOLE_READ_MAX: Duration = Duration::from_secs(10);

/// How long whoever makes a change waits until it is in force.
pub(crate) const IN_FORCE_MAX: Duration = Duration::from_secs(5);

/// Size of the ledger's file of lines at which totals are written, in bytes.
pub(crate) const LEDGER_LINES_BYTES_MAX: u64 = 16 << 20;

/// Notifications that are computed at once; further ones wait for the next look.
pub(crate) const PENDING_MAX: usize = 100;

/// How long a start waits for what others published.
pub(crate) const PEERS_FIRST_READ_MAX: Duration = Duration::from_secs(5);

/// How long a gateway that stops waits until its last message is in the log.
pub(crate) const PEERS_LAST_FLUSH_MAX: Duration = Duration::from_secs(2);
