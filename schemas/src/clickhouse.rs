//! The tables that events end in.
