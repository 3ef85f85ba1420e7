//! weir-eventlog
