//! weir-gateway

pub mod config;
