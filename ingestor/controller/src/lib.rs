//! The slow loop's decisions: which routing table follows from what was measured.
//!
//! The way through: the ingestor queries [`Measurements`], [`next_table()`] makes the table that follows
//! the one in force, a [`TableController`] decides whether it is published. Everything here is pure;
//! only the ingestor queries, only the log carries, only gateways adopt.

mod controller;
mod next_table;

use serde::{Deserialize, Serialize};
use weir_schemas::table::{InputPosition, size};

pub use controller::{TABLES_KEPT, TableCommandError, TableController, TableMode};
pub use next_table::{TablePolicy, next_table};

/// What the ingestor measured over one period.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Measurements {
    pub from_us: u64,
    pub to_us: u64,
    pub inputs: Vec<InputPosition>,
    pub cells: Vec<Cell>,
    /// How requests fared under the table in force and the one before it.
    pub outcomes: Vec<AliasOutcome>,
}

/// The attempts of one alias at one deployment in one size class.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    pub alias: String,
    pub deployment: String,
    /// [`size::class`] of the prompt.
    pub size_class: u8,
    pub attempts: u64,
    /// Attempts that failed through the deployment's fault.
    pub failures: u64,
    /// Attempts whose time to first token is known.
    pub timed: u64,
    pub ttft_us_p50: Option<f64>,
    pub ttft_us_p95: Option<f64>,
    pub output_tokens_per_s: Option<f64>,
    /// Sums over the attempts whose cost is known.
    pub priced_attempts: u64,
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub cost_picousd: i64,
    /// Cost of attempts whose answer was not delivered.
    pub waste_picousd: i64,
}

impl Cell {
    /// The prompt size that stands for the cell: its own mean where it has one, its class's
    /// otherwise.
    #[must_use]
    pub fn prompt_tokens(&self) -> u32 {
        let mean = self.input_tokens.checked_div(self.priced_attempts);
        let upper = size::CLASS_ENDS.get(usize::from(self.size_class)).copied();
        let assumed = upper.map_or(2 * size::CLASS_ENDS[size::CLASS_ENDS.len() - 1], |end| {
            end / 2
        });
        u32::try_from(mean.unwrap_or(assumed)).unwrap_or(u32::MAX)
    }
}

/// How an alias's requests fared under one table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AliasOutcome {
    pub alias: String,
    pub table_version: u64,
    pub requests: u64,
    /// Requests that ended in an error which was not the client's.
    pub errors: u64,
    /// Mean time to first token of the requests, at reference size.
    pub ttft_us_mean: Option<f64>,
    /// Mean cost of a priced token.
    pub picousd_per_token: Option<f64>,
}
