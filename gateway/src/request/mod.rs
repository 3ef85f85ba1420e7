//! A request's way, from its headers to the last byte of its answer.

pub(crate) mod admission;
pub(crate) mod affinity;
pub(crate) mod answer_reader;
pub(crate) mod attempt;
pub(crate) mod drain;
pub(crate) mod exchange;
pub(crate) mod limit_headers;
pub(crate) mod pieces;
pub(crate) mod pipeline;
pub(crate) mod refusal;
pub(crate) mod relay;
pub(crate) mod request_body;
pub(crate) mod settlement;
pub(crate) mod worker;
