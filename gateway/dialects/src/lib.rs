//! Wire formats of clients and providers, as pure state machines: bytes in, bytes and facts out.
//!
//! [`inspect()`] reads what a request asks for; routing picks a target; [`prepare()`] makes the request
//! for that target; a [`ResponseMachine`] turns the answer's bytes, piece by piece, into what the
//! client gets, and gathers what the meter needs. [`Vendor::classify_error`] reads a provider's
//! error; [`error_body`] words one of the gateway's.
//!
//! Between two sides of one dialect, bytes pass unchanged but for the fields that the gateway acts
//! on. Across dialects a body goes through one neutral model, so each dialect is written once and
//! not once per pair.
//!
//! Nothing here does I/O, reads a clock or draws a random number. Nothing panics, whatever the
//! bytes. Memory does not grow with an answer that passes through.

// A request and its answer, from top to bottom.
mod convert;
mod fit;
mod foreign;
mod inspect;
mod opening;
mod passthrough;
mod prepare;
mod response;
mod translate;

// The dialects, and the model between them.
mod answer;
mod chat;
mod gemini;
mod generations;
mod messages;
mod neutral;
mod responses;
mod schema;
pub mod vendors;

// What the gateway itself answers.
mod error;
mod models;
mod upstream_error;

// What all of them share.
mod api;
mod billable;
mod bound;
pub mod caps;
mod entries;
mod facts;
mod json;
mod limit;
mod refusal;
mod request;
mod response_context;
mod splice;
mod sse;
mod target;
mod tier;
mod usage;

// The answer as it is captured.
mod transcript;

pub use api::{ClientApi, Family, ProviderDialect, UpstreamApi};
pub use bound::{BoundTarget, Unbounded};
pub use error::{ApiError, ApiErrorKind, ErrorResponse, error_body};
pub use facts::{FinishReason, ResponseFacts, StreamError};
pub use generations::{Generation, Match, ModelConfig, When, WrongModel};
pub use inspect::{BadRequest, RequestFacts, inspect};
pub use json::InvalidField;
pub use models::{ModelEntry, model, models_list};
pub use neutral::Effort;
pub use prepare::{UpstreamRequest, prepare};
pub use refusal::{PrepareError, Unsupported};
pub use request::ClientRequest;
pub use response::{ResponseMachine, relay_error};
pub use response_context::ResponseContext;
pub use splice::Pieces;
pub use target::Target;
pub use transcript::{NoTranscript, Transcript};
pub use upstream_error::{UpstreamErrorFacts, UpstreamErrorKind};
pub use vendors::Vendor;

#[cfg(test)]
mod generations_property;
#[cfg(test)]
mod generations_tests;
