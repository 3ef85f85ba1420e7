//! Makes the provider's request from the client's.
//!
//! If both speak one dialect, only the fields that the gateway acts on change; every other byte of
//! the body is the client's own.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

use crate::api::{ClientApi, Family, UpstreamApi};
use crate::fit::fit;
use crate::generations::When;
use crate::inspect::RequestFacts;
use crate::json::{self, InvalidField};
use crate::limit::limited;
use crate::neutral::LossReport;
use crate::refusal::PrepareError;
use crate::request::ClientRequest;
use crate::response_context::{AnswerIdentity, Conversion, ResponseContext};
use crate::splice::{Edit, Pieces, splice};
use crate::target::Target;
use crate::vendors::StreamUsage;
use crate::{chat, foreign, gemini, messages, responses};

/// A provider's request, which is a POST, without key and host.
#[derive(Debug)]
pub struct UpstreamRequest {
    /// Path and query after the provider's base URL. Starts with a slash.
    pub path: Cow<'static, str>,
    /// Content type, accept headers and passed-on client headers; no key, host or length.
    pub headers: HeaderMap,
    pub body: Pieces,
    /// Fields that the target cannot express and that were left out.
    pub dropped: Vec<String>,
    /// What a [`crate::ResponseMachine`] must know to read the answer.
    pub context: ResponseContext,
}

/// Makes the request for a target.
///
/// # Errors
///
/// When the target cannot answer such a request.
pub fn prepare(
    request: &ClientRequest<'_>,
    target: &Target<'_>,
) -> Result<UpstreamRequest, PrepareError> {
    let no_such_api = || PrepareError::NoSuchApi {
        api: request.api.as_str(),
        vendor: target.vendor.name,
    };
    let upstream = upstream_api(request, target).ok_or_else(no_such_api)?;
    let Some(limited) = limited(request, target, upstream) else {
        return prepare_limited(request, target, upstream);
    };
    let request = ClientRequest {
        body: &limited.body,
        facts: &limited.facts,
        ..*request
    };
    let mut prepared = prepare_limited(&request, target, upstream)?;
    prepared.dropped.extend(limited.dropped.map(str::to_owned));
    Ok(prepared)
}

/// Makes the request with the limit on the answer's tokens that it has.
fn prepare_limited(
    request: &ClientRequest<'_>,
    target: &Target<'_>,
    upstream: UpstreamApi,
) -> Result<UpstreamRequest, PrepareError> {
    let vendor = target.vendor;
    let no_such_api = || PrepareError::NoSuchApi {
        api: request.api.as_str(),
        vendor: vendor.name,
    };
    let path = vendor
        .path(upstream, request.facts.stream)
        .ok_or_else(no_such_api)?;
    let mut report = LossReport::new(
        target.unsupported,
        request.api,
        vendor.name,
        vendor.cache_marks(upstream),
        request.api.family() == Family::OpenAi && vendor.is_openai(upstream),
    );
    let mut context = response_context(request, target, upstream);
    let text = text_of(request)?;
    if !vendor.chat.openai_tools && upstream.is_native_to(request.api) {
        context.is_rewritten = match upstream {
            UpstreamApi::ChatCompletions => chat::holds_openai_tools(text)?,
            UpstreamApi::Responses => responses::holds_free_text(text)?,
            _ => false,
        };
    }
    let body = if context.is_passthrough() {
        native_body(request, text, target, &mut context, &mut report)
    } else {
        translated_body(request, text, target, &mut context, &mut report)
    };
    // The first unsupported field comes before anything that is invalid behind it.
    let dropped = report.finish()?;
    Ok(UpstreamRequest {
        body: body?,
        path: full_path(path, request, target, &context)?,
        headers: headers(request, upstream),
        dropped,
        context,
    })
}

/// The API of the vendor's that serves the request: responses, where the model's chat does not serve
/// it with what it asks for.
fn upstream_api(request: &ClientRequest<'_>, target: &Target<'_>) -> Option<UpstreamApi> {
    let (vendor, generation) = (target.vendor, target.generation);
    let usual = vendor.upstream_api(request.api)?;
    if usual != UpstreamApi::ChatCompletions || vendor.path(UpstreamApi::Responses, false).is_none()
    {
        return Some(usual);
    }
    let is_served = generation.has_chat
        && match request.api {
            // Its client returns the reasoning between calls, for which chat has no place.
            ClientApi::Messages => generation.chat_tools == When::Always,
            _ => {
                !request.facts.has_tools
                    || generation.takes_chat_tools(request.facts.reasoning_effort)
            }
        };
    Some(if is_served {
        usual
    } else {
        UpstreamApi::Responses
    })
}

fn response_context(
    request: &ClientRequest<'_>,
    target: &Target<'_>,
    upstream: UpstreamApi,
) -> ResponseContext {
    let facts = request.facts;
    ResponseContext {
        provider: target.vendor.name,
        errors: target.vendor.errors,
        wants_stream: facts.stream,
        wants_usage: facts.asks_stream_usage(),
        identity: AnswerIdentity {
            request_id: request.request_id.to_owned(),
            model: target.model.to_owned(),
            created_s: request.now_s,
        },
        ..ResponseContext::new(request.api, upstream)
    }
}

/// The client's own body, edited where it must be.
fn native_body(
    request: &ClientRequest<'_>,
    body: &str,
    target: &Target<'_>,
    context: &mut ResponseContext,
    report: &mut LossReport,
) -> json::Result<Pieces> {
    let (facts, quirks) = (request.facts, &target.vendor.chat);
    let mut edits = Vec::new();
    edits.extend(model_edit(facts, target.model));
    // Who names the model itself knows what it takes.
    let is_rewritten = facts.model != target.model;
    match context.upstream {
        UpstreamApi::ChatCompletions => {
            if facts.stream && quirks.stream_usage == StreamUsage::OnRequest {
                edits.extend(usage_edit(facts, request.body));
            }
            // Some vendors report usage unasked, in a chunk of its own.
            context.strips_usage = facts.stream && !facts.asks_stream_usage();
            edits.extend(chat::native_edits(
                body,
                facts,
                quirks,
                target.generation,
                report,
            )?);
        }
        UpstreamApi::Messages | UpstreamApi::CountTokens => {
            edits.extend(foreign::edits_of_messages(body)?);
            if is_rewritten {
                edits.extend(messages::native_edits(
                    body,
                    facts,
                    target.generation,
                    report,
                )?);
            }
        }
        UpstreamApi::Responses => {
            edits.extend(foreign::edits_of_responses(body)?);
            if is_rewritten {
                edits.extend(responses::native_edits(body, facts, target, report)?);
            }
        }
        _ => {}
    }
    Ok(splice(request.body, edits))
}

fn translated_body(
    request: &ClientRequest<'_>,
    text: &str,
    target: &Target<'_>,
    context: &mut ResponseContext,
    report: &mut LossReport,
) -> json::Result<Pieces> {
    let (model, generation) = (target.model, target.generation);
    if context.upstream == UpstreamApi::BatchEmbedContents {
        let (body, base64) = gemini::write_embeddings_request(text, model, report)?;
        context.conversion = Some(Conversion::Embeddings { base64 });
        return Ok(Bytes::from(body).into());
    }
    let mut read = match request.api {
        ClientApi::ChatCompletions | ClientApi::Embeddings => chat::read_request(text, report)?,
        ClientApi::Messages | ClientApi::CountTokens => messages::read_request(text, report)?,
        ClientApi::Responses => responses::read_request(text, report)?,
    };
    let free_text = read.tools.iter().filter(|tool| tool.free_text.is_some());
    context.free_text_tools = free_text
        .map(|tool| tool.name.as_escaped().to_owned())
        .collect();
    context.stand_ins = fit(&mut read, target, context.upstream, report);
    context.choices = read.choices.unwrap_or(1);
    let body = match context.upstream {
        UpstreamApi::ChatCompletions | UpstreamApi::Embeddings => {
            chat::write_request(&read, model, &target.vendor.chat, generation, report)
        }
        UpstreamApi::Messages | UpstreamApi::CountTokens => {
            messages::write_request(&read, model, generation, report)
        }
        UpstreamApi::Responses => {
            responses::write_request(&read, model, target.vendor, generation, report)
        }
        UpstreamApi::GeminiCountTokens => {
            context.conversion = Some(Conversion::Count);
            gemini::write_count_request(
                &read,
                model,
                generation,
                target.vendor.wraps_counts,
                report,
            )
        }
        UpstreamApi::GenerateContent | UpstreamApi::BatchEmbedContents => {
            gemini::write_request(&read, generation, report)
        }
    };
    Ok(Bytes::from(body).into())
}

/// The body as text, which [`inspect()`](crate::inspect()) has checked.
fn text_of<'a>(request: &ClientRequest<'a>) -> json::Result<&'a str> {
    std::str::from_utf8(request.body).map_err(|_| InvalidField::new("body", "is not UTF-8"))
}

/// The path with model and version filled in, and the client's query if the API takes one.
fn full_path(
    path: &'static str,
    request: &ClientRequest<'_>,
    target: &Target<'_>,
    context: &ResponseContext,
) -> Result<Cow<'static, str>, PrepareError> {
    // Anthropic's SDKs ask for beta features by `?beta=true`.
    let query = request.query.filter(|_| {
        matches!(
            context.upstream,
            UpstreamApi::Messages | UpstreamApi::CountTokens
        ) && context.is_passthrough()
    });
    if let Some(query) = query {
        return Ok(Cow::Owned(format!("{path}?{query}")));
    }
    if !path.contains('{') {
        return Ok(Cow::Borrowed(path));
    }
    let model = safe_segment(target.model)?;
    let version = target.api_version.unwrap_or_default();
    let version = safe_query(version);
    let filled = path.split(['{', '}']).map(|part| match part {
        "model" => model,
        "version" => &version,
        part => part,
    });
    Ok(Cow::Owned(filled.collect()))
}

/// A model name in a URL may be a path of its own (`tuned/x`), but must not lead elsewhere.
fn safe_segment(model: &str) -> Result<&str, PrepareError> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.@:/".contains(&byte);
    let is_safe = !model.is_empty()
        && model.bytes().all(fits)
        && model
            .split('/')
            .all(|part| !part.is_empty() && part.bytes().any(|byte| byte != b'.'));
    is_safe.then_some(model).ok_or_else(|| {
        let model = model.to_owned();
        PrepareError::UnsafeModel { model }
    })
}

fn safe_query(version: &str) -> String {
    version
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'))
        .collect()
}

fn model_edit(facts: &RequestFacts, model: &str) -> Option<Edit> {
    (facts.model != model).then(|| Edit::new(facts.spans.model.clone(), json::quoted(model)))
}

/// Sets `stream_options.include_usage`, wherever the body has room for it.
fn usage_edit(facts: &RequestFacts, body: &Bytes) -> Option<Edit> {
    let Some(options) = &facts.spans.stream_options else {
        let at = memchr::memchr(b'{', body)? + 1;
        let with = r#""stream_options":{"include_usage":true},"#;
        return Some(Edit::insert(at, with));
    };
    let (at, is_empty) = (&options.value, options.is_empty);
    match &options.include_usage_value {
        _ if options.include_usage == Some(true) => None,
        Some(value) => Some(Edit::new(value.clone(), "true")),
        None if !options.is_object => Some(Edit::new(at.clone(), r#"{"include_usage":true}"#)),
        None => {
            let comma = if is_empty { "" } else { "," };
            let with = format!(r#""include_usage":true{comma}"#);
            Some(Edit::insert(at.start + 1, with))
        }
    }
}

/// Client headers that are passed on to a provider of the client's family.
static OPENAI_HEADERS: [HeaderName; 2] = [
    HeaderName::from_static("openai-beta"),
    HeaderName::from_static("idempotency-key"),
];
static ANTHROPIC_HEADERS: [HeaderName; 2] = [
    HeaderName::from_static("anthropic-version"),
    HeaderName::from_static("anthropic-beta"),
];

fn headers(request: &ClientRequest<'_>, upstream: UpstreamApi) -> HeaderMap {
    let accept = if request.facts.stream {
        "text/event-stream"
    } else {
        "application/json"
    };
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT, HeaderValue::from_static(accept));
    // The gateway reads the answer, so it must not be compressed.
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let is_anthropic = upstream.is_claude();
    let passed_on = match (request.api.family(), is_anthropic) {
        (Family::OpenAi, false) => OPENAI_HEADERS.as_slice(),
        (Family::Anthropic, true) => ANTHROPIC_HEADERS.as_slice(),
        _ => &[],
    };
    for name in passed_on {
        for value in request.headers.get_all(name) {
            headers.append(name, value.clone());
        }
    }
    if is_anthropic && !headers.contains_key(&ANTHROPIC_HEADERS[0]) {
        headers.insert(
            &ANTHROPIC_HEADERS[0],
            HeaderValue::from_static(messages::VERSION),
        );
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
            output_limit: None,
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
            output_limit: None,
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
        assert!(!prepared(asked, "up").context.strips_usage);
        assert!(
            prepared(r#"{"model":"up","stream":true}"#, "up")
                .context
                .strips_usage
        );
        assert!(!prepared(r#"{"model":"up"}"#, "up").context.strips_usage);
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
            output_limit: None,
            request_id: "r1",
            now_s: 0,
        };
        let vendor = vendors::find("openai").unwrap();
        let refusal = prepare(&request, &Target::new(vendor, "m")).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "openai has no API that serves anthropic.count_tokens"
        );
    }
}
