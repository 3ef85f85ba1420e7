//! The embedded store's users: who may do what, and how much of it.
//!
//! The engine itself knows one user. These are told apart in front of it, by their passwords; what
//! the read-only ones may not do is withheld three times: by the kind of their statements
//! ([`crate::sql::refuse_writes`]), by the engine's `readonly`, and by the limits of its profile
//! `reader` ([`crate::config`]).

use std::fmt;

use crate::caps::{
    CONNECTIONS_MAX, OPERATOR_QUERIES_MAX, OPERATOR_REQUESTS_MAX, QUERIES_MAX, READER_QUERIES_MAX,
    READER_REQUESTS_MAX,
};

/// A user of the embedded store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StoreUser {
    /// Dashboards, SDKs and everyone else who asks over HTTP. Reads.
    Reader,
    /// The person at the command line, with places of its own beside the dashboards'. Reads.
    Operator,
    /// Weir's own parts. Reads, writes and changes tables.
    Weir,
}

impl StoreUser {
    pub const ALL: [Self; 3] = [Self::Reader, Self::Operator, Self::Weir];

    /// The name that clients log in with.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Operator => "operator",
            Self::Weir => "weir",
        }
    }

    /// Statements that it may run at once, Weir's INSERTs with rows aside.
    #[must_use]
    pub const fn queries_max(self) -> usize {
        match self {
            Self::Reader => READER_QUERIES_MAX,
            Self::Operator => OPERATOR_QUERIES_MAX,
            Self::Weir => QUERIES_MAX,
        }
    }

    /// Requests that it may have open at once: those that wait for their turn, too.
    pub(crate) const fn requests_max(self) -> usize {
        match self {
            Self::Reader => READER_REQUESTS_MAX,
            Self::Operator => OPERATOR_REQUESTS_MAX,
            Self::Weir => CONNECTIONS_MAX,
        }
    }

    #[must_use]
    pub const fn may_write(self) -> bool {
        matches!(self, Self::Weir)
    }
}

/// A password for each user. Printing it shows none.
#[derive(Clone, PartialEq, Eq)]
pub struct StorePasswords {
    pub reader: String,
    pub operator: String,
    pub weir: String,
}

impl StorePasswords {
    #[must_use]
    pub fn of(&self, user: StoreUser) -> &str {
        match user {
            StoreUser::Reader => &self.reader,
            StoreUser::Operator => &self.operator,
            StoreUser::Weir => &self.weir,
        }
    }
}

impl fmt::Debug for StorePasswords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StorePasswords").finish_non_exhaustive()
    }
}
