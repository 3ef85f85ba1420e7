//! Every limit of this crate.

/// Largest body that is read.
pub const READ_BYTES_MAX: usize = 4 << 20;
/// Values of one body.
pub(crate) const VALUES_MAX: usize = 200_000;
/// Longest list of numbers that is kept.
pub(crate) const NUMBERS_MAX: usize = 4;
/// Patterns that an operator may configure.
pub(crate) const PATTERNS_MAX: usize = 64;
/// Memory that one compiled expression may take.
pub(crate) const PATTERN_BYTES_MAX: usize = 1 << 20;
/// Levels of escapes within escapes that are resolved.
pub(crate) const ESCAPES_MAX: usize = 4;
