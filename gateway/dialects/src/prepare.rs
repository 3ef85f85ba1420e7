//! From a client's request to the request that a provider gets.
//!
//! Where the provider speaks the client's dialect, only the fields that are acted on change, and
//! every other byte of the body is the client's own.

use std::borrow::Cow;

use bytes::Bytes;
use http::Method;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use thiserror::Error;

use crate::api::{ClientApi, UpstreamApi};
use crate::inspect::{RequestFacts, StreamOptions};
use crate::json;
use crate::response::Exchange;
use crate::splice::{Edit, Pieces, splice};
use crate::vendors::{StreamUsage, Vendor};

/// What a client sent.
#[derive(Clone, Copy, Debug)]
pub struct ClientRequest<'a> {
    pub api: ClientApi,
    pub headers: &'a HeaderMap,
    /// What stood after the question mark of the URL.
    pub query: Option<&'a str>,
    pub body: &'a Bytes,
    /// What [`crate::inspect`] found in the body.
    pub facts: &'a RequestFacts,
    /// Id of the request. A translated answer makes its ids from it where the provider gives none.
    pub request_id: &'a str,
    /// Seconds since 1970, for answers that must say when they were made.
    pub now_s: u64,
}

/// Where the request goes.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    pub vendor: &'static Vendor,
    /// Model name as the provider knows it.
    pub model: &'a str,
    /// What to do with a field that the target cannot express.
    pub unsupported: Unsupported,
    /// Version of the API, for vendors that want one in the URL or a header.
    pub api_version: Option<&'a str>,
}

impl<'a> Target<'a> {
    #[must_use]
    pub fn new(vendor: &'static Vendor, model: &'a str) -> Self {
        Self {
            vendor,
            model,
            unsupported: Unsupported::Refuse,
            api_version: None,
        }
    }
}

/// What to do with a field that a target cannot express.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unsupported {
    /// Answer 400 and name the field.
    #[default]
    Refuse,
    /// Leave it out, and list it in [`UpstreamRequest::dropped`].
    Drop,
}

/// The request that a provider gets, apart from its key and host.
#[derive(Debug)]
pub struct UpstreamRequest {
    pub method: Method,
    /// Path and query, to be put after the provider's base URL. Starts with a slash.
    pub path: Cow<'static, str>,
    /// Content type, accept and what is passed on from the client; no key, no host, no length.
    pub headers: HeaderMap,
    pub body: Pieces,
    /// Fields that the target cannot express and that were left out.
    pub dropped: Vec<String>,
    /// What a [`crate::ResponseMachine`] must know to read the answer.
    pub exchange: Exchange,
}

/// Why a request cannot be sent to a target.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    #[error("{vendor} has no API that answers {api}")]
    NoSuchApi {
        api: &'static str,
        vendor: &'static str,
    },
}

impl Refusal {
    /// The field that cannot be expressed, if it is one field.
    #[must_use]
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::NoSuchApi { .. } => None,
        }
    }
}

/// Makes the request for a target.
///
/// # Errors
///
/// When the target cannot answer such a request.
pub fn prepare(
    request: &ClientRequest<'_>,
    target: &Target<'_>,
) -> Result<UpstreamRequest, Refusal> {
    let no_such_api = Refusal::NoSuchApi {
        api: request.api.as_str(),
        vendor: target.vendor.name,
    };
    let Some(upstream) = target.vendor.upstream_api(request.api) else {
        return Err(no_such_api);
    };
    let Some(path) = target.vendor.path(upstream) else {
        return Err(no_such_api);
    };
    let facts = request.facts;
    let mut edits = Vec::new();
    edits.extend(model_edit(facts, target.model));
    let asks_usage = upstream == UpstreamApi::ChatCompletions
        && facts.stream
        && target.vendor.stream_usage == StreamUsage::OnRequest;
    if asks_usage {
        edits.extend(usage_edit(facts, request.body));
    }
    Ok(UpstreamRequest {
        method: Method::POST,
        path: Cow::Borrowed(path),
        headers: headers(request),
        body: splice(request.body, edits),
        dropped: Vec::new(),
        exchange: Exchange {
            api: request.api,
            upstream,
            strips_usage: asks_usage && !facts.asks_stream_usage(),
        },
    })
}

fn model_edit(facts: &RequestFacts, model: &str) -> Option<Edit> {
    (facts.model != model).then(|| Edit {
        at: facts.spans.model.clone(),
        with: json::quoted(model),
    })
}

/// Sets `stream_options.include_usage`, wherever in that there is room for it.
fn usage_edit(facts: &RequestFacts, body: &Bytes) -> Option<Edit> {
    let Some(options) = &facts.spans.stream_options else {
        let at = memchr::memchr(b'{', body)? + 1;
        return Some(insert(at, r#""stream_options":{"include_usage":true},"#));
    };
    match options {
        StreamOptions {
            include_usage: Some(true),
            ..
        } => None,
        StreamOptions {
            include_usage_value: Some(value),
            ..
        } => Some(Edit {
            at: value.clone(),
            with: "true".to_owned(),
        }),
        StreamOptions {
            is_object: false,
            value,
            ..
        } => Some(Edit {
            at: value.clone(),
            with: r#"{"include_usage":true}"#.to_owned(),
        }),
        StreamOptions {
            value, is_empty, ..
        } => {
            let comma = if *is_empty { "" } else { "," };
            Some(insert(
                value.start + 1,
                &format!(r#""include_usage":true{comma}"#),
            ))
        }
    }
}

fn insert(at: usize, with: &str) -> Edit {
    Edit {
        at: at..at,
        with: with.to_owned(),
    }
}

/// Headers of the client that mean something to the provider.
static PASSED_ON: [HeaderName; 4] = [
    HeaderName::from_static("openai-beta"),
    HeaderName::from_static("idempotency-key"),
    HeaderName::from_static("anthropic-version"),
    HeaderName::from_static("anthropic-beta"),
];

fn headers(request: &ClientRequest<'_>) -> HeaderMap {
    let accept = if request.facts.stream {
        "text/event-stream"
    } else {
        "application/json"
    };
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT, HeaderValue::from_static(accept));
    // The answer is read on its way through, so it must not be compressed.
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    for name in &PASSED_ON {
        for value in request.headers.get_all(name) {
            headers.append(name, value.clone());
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{inspect, vendors};

    fn prepared(body: &str, model: &str) -> UpstreamRequest {
        let body = Bytes::from(body.to_owned());
        let facts = inspect(ClientApi::ChatCompletions, &body).unwrap();
        let request = ClientRequest {
            api: ClientApi::ChatCompletions,
            headers: &HeaderMap::new(),
            query: None,
            body: &body,
            facts: &facts,
            request_id: "r1",
            now_s: 0,
        };
        let vendor = vendors::find("openai").unwrap();
        prepare(&request, &Target::new(vendor, model)).unwrap()
    }

    fn check(body: &str, expect: &str) {
        assert_eq!(prepared(body, "up").body.to_bytes(), expect);
    }

    #[test]
    fn only_the_model_changes() {
        check(
            "{ \"x\" : [1.0e+2, \"\\u00e9\"],\t\"model\" : \"a\" ,\"y\":{\"model\":\"a\"}}",
            "{ \"x\" : [1.0e+2, \"\\u00e9\"],\t\"model\" : \"up\" ,\"y\":{\"model\":\"a\"}}",
        );
        check(r#"{"model":"up"}"#, r#"{"model":"up"}"#);
    }

    #[test]
    fn a_body_that_need_not_change_is_not_copied() {
        let body = Bytes::from_static(br#"{"model":"up"}"#);
        let facts = inspect(ClientApi::Embeddings, &body).unwrap();
        let request = ClientRequest {
            api: ClientApi::Embeddings,
            headers: &HeaderMap::new(),
            query: None,
            body: &body,
            facts: &facts,
            request_id: "r1",
            now_s: 0,
        };
        let vendor = vendors::find("openai").unwrap();
        let upstream = prepare(&request, &Target::new(vendor, "up")).unwrap();
        assert_eq!(upstream.path, "/embeddings");
        assert_eq!(upstream.body.to_bytes().as_ptr(), body.as_ptr());
    }

    #[test]
    fn a_model_name_is_quoted() {
        let upstream = prepared(r#"{"model":"a"}"#, "q\"uote\n");
        assert_eq!(upstream.body.to_bytes(), r#"{"model":"q\"uote\n"}"#);
    }

    #[test]
    fn streams_ask_for_usage_wherever_the_option_stands() {
        check(
            r#"{"model":"up","stream":true}"#,
            r#"{"stream_options":{"include_usage":true},"model":"up","stream":true}"#,
        );
        check(
            r#"{"model":"a","stream":true,"stream_options":null}"#,
            r#"{"model":"up","stream":true,"stream_options":{"include_usage":true}}"#,
        );
        check(
            r#"{"model":"up","stream":true,"stream_options":{ }}"#,
            r#"{"model":"up","stream":true,"stream_options":{"include_usage":true }}"#,
        );
        check(
            r#"{"model":"up","stream":true,"stream_options":{"a":1}}"#,
            r#"{"model":"up","stream":true,"stream_options":{"include_usage":true,"a":1}}"#,
        );
        check(
            r#"{"model":"up","stream":true,"stream_options":{"include_usage":false,"a":1}}"#,
            r#"{"model":"up","stream":true,"stream_options":{"include_usage":true,"a":1}}"#,
        );
        check(
            r#"{"model":"up","stream":true,"stream_options":{"include_usage":null}}"#,
            r#"{"model":"up","stream":true,"stream_options":{"include_usage":true}}"#,
        );
    }

    #[test]
    fn the_usage_chunk_is_stripped_only_if_the_client_did_not_ask() {
        let asked = r#"{"model":"up","stream":true,"stream_options":{"include_usage":true}}"#;
        check(asked, asked);
        assert!(!prepared(asked, "up").exchange.strips_usage);
        assert!(
            prepared(r#"{"model":"up","stream":true}"#, "up")
                .exchange
                .strips_usage
        );
        assert!(!prepared(r#"{"model":"up"}"#, "up").exchange.strips_usage);
    }

    #[test]
    fn an_api_that_the_vendor_lacks_is_refused() {
        let body = Bytes::from_static(br#"{"model":"m"}"#);
        let facts = inspect(ClientApi::CountTokens, &body).unwrap();
        let request = ClientRequest {
            api: ClientApi::CountTokens,
            headers: &HeaderMap::new(),
            query: None,
            body: &body,
            facts: &facts,
            request_id: "r1",
            now_s: 0,
        };
        let vendor = vendors::find("openai").unwrap();
        let refusal = prepare(&request, &Target::new(vendor, "m")).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "openai has no API that answers anthropic.count_tokens"
        );
    }
}
