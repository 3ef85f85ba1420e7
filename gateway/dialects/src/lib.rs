//! Wire formats of clients and providers, as pure state machines: bytes in, bytes and facts out.
//!
//! The way through: [`inspect`] reads what a request asks for; routing picks a target; [`prepare`]
//! makes the request that this target gets; a [`ResponseMachine`] turns the answer's bytes, piece
//! by piece, into what the client gets, and gathers what the meter needs. Errors of providers are
//! understood by [`classify_upstream_error`], errors of the gateway worded by [`error_body`].
//!
//! Where client and provider speak the same dialect, bytes pass as they are: only the fields that
//! are acted on change. Across dialects a body goes through one neutral model, so each dialect is
//! written once and not once per pair.
//!
//! Nothing here opens a connection, reads a clock or draws a random number; nothing panics,
//! whatever the bytes; nothing grows with the length of an answer that passes through.

// The way of a request and its answer.
mod api;
mod convert;
mod foreign;
mod inspect;
mod passthrough;
mod prepare;
mod response;
mod translate;

// What is between dialects, and the dialects.
mod answer;
mod chat;
mod gemini;
mod messages;
mod neutral;
mod responses;
pub mod vendors;

// What the gateway itself says.
mod error;
mod models;
mod upstream_error;

// Tools.
pub mod caps;
mod json;
mod splice;
mod sse;
mod tier;
mod usage;

// What is kept of an answer.
mod transcript;

pub use api::{ClientApi, Family, ProviderDialect, UpstreamApi};
pub use error::{ApiError, ApiErrorKind, ErrorResponse, error_body, relay_error};
pub use inspect::{BadRequest, RequestFacts, inspect};
pub use models::{ModelEntry, model, models_list};
pub use prepare::{ClientRequest, Refusal, Target, Unsupported, UpstreamRequest, prepare};
pub use response::{Exchange, FinishReason, ResponseFacts, ResponseMachine, StreamError};
pub use splice::Pieces;
pub use transcript::{NoTranscript, Transcript};
pub use upstream_error::{UpstreamErrorFacts, UpstreamErrorKind, classify_upstream_error};
pub use vendors::Vendor;
