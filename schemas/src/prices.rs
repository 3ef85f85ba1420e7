//! The price book: what a token costs, where, from when on, and since when that has been known.
//!
//! The way through: [`Book::read`] takes rows as text, [`Book::find`] gathers those of one model at
//! one provider into [`Prices`], [`Prices::row`] says which of them applies to a call, and
//! [`Row::charge`] multiplies it out. Arithmetic is in integers and rounds once, at the end.
//!
//! A book has two times. A row is *effective* over a period, and was *known* from a day on. All rows
//! of a model that became known on one day are a generation; the latest one counts and replaces
//! those before it whole. So yesterday's bill can be explained with what was known yesterday, and
//! rated again with what is known now.
//!
//! What is never done: pricing what there is no row for. [`Unpriced`] says why.

mod amount;
mod book;
mod ceiling;
mod charge;
mod parts;
mod row;

pub use amount::{Amount, BadAmount};
pub use book::{
    Book, BookError, ExchangeRate, PricedCall, Prices, billed_prices, charge_whole, providers_of,
};
pub use ceiling::{CallBound, Ceiling, Kinds, Tiers};
pub use charge::Unpriced;
pub use row::{Hours, Pattern, Row, Unit};

/// The book that Weir brings along: made by `weir prices import` from the package `genai-prices`
/// (MIT), with rows from elsewhere added; each row names its source.
pub const BUILT_IN: &str = include_str!("../prices/prices.csv");

/// Exchange rates that the book needs, each with its day and its source.
pub const BUILT_IN_RATES: &str = include_str!("../prices/exchange_rates.csv");
