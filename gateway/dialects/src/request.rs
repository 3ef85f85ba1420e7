//! A client's request, as it is made a provider's.

use bytes::Bytes;
use http::HeaderMap;

use crate::api::ClientApi;
use crate::inspect::RequestFacts;

/// A client's request.
#[derive(Clone, Copy, Debug)]
pub struct ClientRequest<'a> {
    pub api: ClientApi,
    pub headers: &'a HeaderMap,
    /// The query of the URL, without the question mark.
    pub query: Option<&'a str>,
    pub body: &'a Bytes,
    /// What [`inspect()`](crate::inspect()) found in the body.
    pub facts: &'a RequestFacts,
    /// The most tokens that a choice may have, set by the gateway. The smaller of it and the client's
    /// own limit is sent.
    pub output_limit: Option<u64>,
    /// Id of the request. Translated answers derive missing ids from it.
    pub request_id: &'a str,
    /// Seconds since 1970, for answers that carry a creation time.
    pub now_s: u64,
}
