//! weir-loadtest
