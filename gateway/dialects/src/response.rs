//! The provider's answer on its way to the client.
//!
//! Bytes go in as they arrive and come out as the client expects them; facts are gathered on the
//! way. Between two sides of one dialect, the same bytes come out.

use bytes::Bytes;

use crate::convert::Converter;
use crate::error::{ApiError, ApiErrorKind, ErrorResponse, error_body};
use crate::facts::{ResponseFacts, StreamError};
use crate::json;
use crate::opening::{Opened, Opening};
use crate::passthrough::{PassthroughBody, PassthroughStream};
use crate::response_context::ResponseContext;
use crate::translate::Translator;
use crate::upstream_error::UpstreamErrorFacts;

/// Reads one answer. Fed with every piece of the body, then finished.
#[derive(Debug)]
pub struct ResponseMachine {
    reader: ResponseReader,
    /// Whether a byte order mark was left out.
    is_shortened: bool,
    facts: ResponseFacts,
}

#[derive(Debug)]
enum ResponseReader {
    /// Nothing has come that tells the form.
    Opening(Box<ResponseContext>, Opening),
    Stream(PassthroughStream),
    Plain(PassthroughBody),
    Translator(Box<Translator>),
    Converter(Converter),
}

impl ResponseReader {
    fn new(context: &ResponseContext, is_stream: bool) -> Self {
        match (context.conversion, context.passes(is_stream), is_stream) {
            (Some(conversion), _, _) => {
                Self::Converter(Converter::new(conversion, context.identity.clone()))
            }
            (None, false, _) => Self::Translator(Box::new(Translator::new(context, is_stream))),
            (None, true, true) => Self::Stream(PassthroughStream::new(context)),
            (None, true, false) => Self::Plain(PassthroughBody::new(context)),
        }
    }
}

impl ResponseMachine {
    /// For an answer with a success status. `is_stream` tells whether its content type is
    /// `text/event-stream`; its first bytes may tell otherwise.
    #[must_use]
    pub fn new(context: &ResponseContext, is_stream: bool) -> Self {
        let opening = Opening::new(is_stream);
        Self {
            reader: ResponseReader::Opening(Box::new(context.clone()), opening),
            is_shortened: false,
            facts: ResponseFacts::default(),
        }
    }

    /// Whether output and input have the same length, so that the provider's `content-length` holds
    /// for the client too.
    #[must_use]
    pub const fn keeps_length(&self) -> bool {
        matches!(self.reader, ResponseReader::Plain(_)) && !self.is_shortened
    }

    /// Whether the provider streams. Before its first bytes are there, what its header says.
    #[must_use]
    pub fn reads_stream(&self) -> bool {
        match &self.reader {
            ResponseReader::Opening(_, opening) => opening.is_stream(),
            ResponseReader::Stream(_) => true,
            ResponseReader::Plain(_) | ResponseReader::Converter(_) => false,
            ResponseReader::Translator(translator) => translator.reads_stream(),
        }
    }

    /// Whether the client gets a stream, whatever the provider sends.
    #[must_use]
    pub fn writes_stream(&self) -> bool {
        match &self.reader {
            ResponseReader::Opening(context, opening) => {
                context.wants_stream || context.passes(true) && opening.is_stream()
            }
            ResponseReader::Stream(_) => true,
            ResponseReader::Plain(_) | ResponseReader::Converter(_) => false,
            ResponseReader::Translator(translator) => translator.writes_stream(),
        }
    }

    /// Whether the client gets other bytes than the provider sent.
    #[must_use]
    pub const fn translates(&self) -> bool {
        matches!(
            self.reader,
            ResponseReader::Translator(_) | ResponseReader::Converter(_)
        )
    }

    /// Takes the next piece of the body and returns the bytes for the client, which may be none yet.
    /// Of a stream, they are always whole events.
    ///
    /// # Errors
    ///
    /// When the answer cannot be passed on. The client then gets the output of [`Self::fail`].
    pub fn push(&mut self, input: Bytes) -> Result<Bytes, StreamError> {
        let input = match &mut self.reader {
            ResponseReader::Opening(_, opening) => match opening.read(input) {
                Some(opened) => self.open(opened),
                None => return Ok(Bytes::new()),
            },
            _ => input,
        };
        let output = match &mut self.reader {
            ResponseReader::Stream(reader) => reader.push(&input, &mut self.facts),
            ResponseReader::Plain(reader) => {
                reader.push(&input, &mut self.facts);
                input
            }
            ResponseReader::Translator(translator) => translator.push(&input, &mut self.facts)?,
            ResponseReader::Converter(converter) => {
                converter.push(&input)?;
                Bytes::new()
            }
            ResponseReader::Opening(..) => Bytes::new(),
        };
        self.facts.output_bytes += output.len() as u64;
        Ok(output)
    }

    /// Reads on in the form that the first bytes have told. Returns them.
    fn open(&mut self, opened: Opened) -> Bytes {
        if let ResponseReader::Opening(context, _) = &self.reader {
            self.reader = ResponseReader::new(context, opened.is_stream);
            self.is_shortened = opened.had_bom;
        }
        opened.bytes
    }

    /// Ends the body and returns the last bytes for the client.
    ///
    /// # Errors
    ///
    /// When the answer was not complete.
    pub fn finish(&mut self) -> Result<Bytes, StreamError> {
        if let ResponseReader::Opening(_, opening) = &mut self.reader {
            // There is nothing but blanks.
            let opened = opening.end();
            self.open(opened);
        }
        let output = match &mut self.reader {
            ResponseReader::Stream(reader) => reader.finish(&mut self.facts)?,
            ResponseReader::Plain(reader) => {
                reader.finish(&mut self.facts)?;
                Bytes::new()
            }
            ResponseReader::Translator(translator) => translator.finish(&mut self.facts)?,
            ResponseReader::Converter(converter) => converter.finish(&mut self.facts)?,
            ResponseReader::Opening(..) => Bytes::new(),
        };
        self.facts.output_bytes += output.len() as u64;
        Ok(output)
    }

    /// Ends a stream that cannot go on with an error event in the client's dialect. Held bytes are
    /// dropped. A plain body gets nothing, because it can only be cut off.
    pub fn fail(&mut self, error: &ApiError<'_>) -> Bytes {
        let writes_stream = self.writes_stream();
        let output = match &mut self.reader {
            ResponseReader::Stream(reader) => reader.fail(error, &self.facts),
            ResponseReader::Translator(translator) => translator.fail(error).into(),
            ResponseReader::Opening(context, _) if writes_stream => {
                PassthroughStream::new(context).fail(error, &self.facts)
            }
            ResponseReader::Opening(..)
            | ResponseReader::Plain(_)
            | ResponseReader::Converter(_) => Bytes::new(),
        };
        self.facts.output_bytes += output.len() as u64;
        output
    }

    #[must_use]
    pub const fn facts(&self) -> &ResponseFacts {
        &self.facts
    }

    #[must_use]
    pub fn into_facts(self) -> ResponseFacts {
        self.facts
    }
}

/// The answer to a client after the last provider refused. If the client can act on the error and
/// speaks the provider's dialect, it gets `body`, the provider's own, byte for byte.
#[must_use]
pub fn relay_error(
    context: &ResponseContext,
    provider: &str,
    status: u16,
    facts: &UpstreamErrorFacts,
    body: &Bytes,
    request_id: &str,
) -> ErrorResponse {
    let family = context.api.family();
    let mut error = facts.to_api_error(provider).with_request_id(request_id);
    let concerns_client = error.kind.concerns_client() && (400..500).contains(&status);
    let keeps_body = concerns_client
        && context.is_passthrough()
        && json::valid(body).is_ok()
        && facts.is_quotable(body);
    let is_status_of_request = !matches!(status, 401..=403 | 407 | 408 | 429);
    let has_own_status = error.kind == ApiErrorKind::InvalidRequest && is_status_of_request;
    if concerns_client && (has_own_status || keeps_body && error.kind != ApiErrorKind::RateLimited)
    {
        error.status = Some(status);
    }
    let (headers, own_body) = error_body(family, &error);
    ErrorResponse {
        status: error.status(family),
        headers,
        body: if keeps_body { body.clone() } else { own_body },
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use http::HeaderMap;
    use weir_schemas::Usage;

    use super::*;
    use crate::api::{ClientApi, Family, UpstreamApi};
    use crate::facts::FinishReason;
    use crate::upstream_error::UpstreamErrorKind;
    use crate::vendors;

    fn context(strips_usage: bool, wants_stream: bool) -> ResponseContext {
        let api = ClientApi::ChatCompletions;
        ResponseContext {
            strips_usage,
            wants_stream,
            ..ResponseContext::new(api, UpstreamApi::ChatCompletions)
        }
    }

    /// Feeds the pieces; returns what came out and the machine.
    fn run(
        strips_usage: bool,
        is_stream: bool,
        pieces: &[&[u8]],
    ) -> (Vec<u8>, Result<(), StreamError>, ResponseFacts) {
        let mut machine = ResponseMachine::new(&context(strips_usage, is_stream), is_stream);
        let mut out = Vec::new();
        for piece in pieces {
            let done_before = machine.facts().terminal_seen;
            let output = machine.push(Bytes::copy_from_slice(piece)).unwrap();
            out.extend_from_slice(&output);
            let done = memchr::memmem::find(&out, b"[DONE]").is_some();
            if is_stream && !done_before {
                assert_eq!(
                    machine.facts().terminal_seen,
                    done,
                    "the end is reported with its bytes"
                );
            }
        }
        let finished = machine.finish().map(|rest| out.extend_from_slice(&rest));
        assert_eq!(machine.facts().output_bytes, out.len() as u64);
        (out, finished, machine.into_facts())
    }

    const ROLE: &str = "data: {\"id\":\"c1\",\"object\":\"chat.completion.chunk\",\"model\":\"gpt-4o-2024\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\",\"refusal\":null},\"logprobs\":null,\"finish_reason\":null}],\"usage\":null,\"obfuscation\":\"aa\"}\n\n";
    const TEXT: &str = "data: {\"id\":\"c1\",\"model\":\"gpt-4o-2024\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hello \\\"usage\\\"\"},\"finish_reason\":null}],\"usage\":null}\n\n";
    const END: &str = "data: {\"id\":\"c1\",\"model\":\"gpt-4o-2024\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":null}\n\n";
    const USAGE: &str = "data: {\"id\":\"c1\",\"model\":\"gpt-4o-2024\",\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":2,\"total_tokens\":11,\"prompt_tokens_details\":{\"cached_tokens\":4}}}\n\n";
    const DONE: &str = "data: [DONE]\n\n";

    fn stream() -> String {
        [": keep-alive\n\n", ROLE, TEXT, END, USAGE, DONE].concat()
    }

    fn expected_facts(output_bytes: usize) -> ResponseFacts {
        ResponseFacts {
            usage: Some(Usage {
                input_tokens: Some(9),
                cached_input_tokens: Some(4),
                output_tokens: Some(2),
                ..Usage::default()
            }),
            upstream_model: Some("gpt-4o-2024".to_owned()),
            upstream_id: Some("c1".to_owned()),
            finish_reason: Some(FinishReason::Stop),
            service_tier: None,
            inference_geo: None,
            other_models: Vec::new(),
            first_token_seen: true,
            terminal_seen: true,
            provider_error: None,
            lost: Vec::new(),
            text_bytes: r#"Hello \"usage\""#.len() as u64,
            text_sample: br#"Hello \"usage\""#.to_vec(),
            text_chunks: 1,
            output_bytes: output_bytes as u64,
        }
    }

    #[test]
    fn a_stream_passes_unchanged_at_every_split() {
        let stream = stream();
        for split in 0..=stream.len() {
            let (a, b) = stream.as_bytes().split_at(split);
            let (out, finished, facts) = run(false, true, &[a, b]);
            assert_eq!(out, stream.as_bytes(), "split at {split}");
            assert_eq!(finished, Ok(()));
            assert_eq!(facts, expected_facts(stream.len()), "split at {split}");
        }
    }

    #[test]
    fn the_usage_chunk_is_taken_out_at_every_split() {
        let stream = stream();
        let without = stream.replace(USAGE, "");
        for split in 0..=stream.len() {
            let (a, b) = stream.as_bytes().split_at(split);
            let (out, _, facts) = run(true, true, &[a, b]);
            assert_eq!(out, without.as_bytes(), "split at {split}");
            assert_eq!(facts, expected_facts(without.len()), "split at {split}");
        }
        let bytes: Vec<&[u8]> = stream.as_bytes().chunks(1).collect();
        assert_eq!(run(true, true, &bytes).0, without.as_bytes());
    }

    #[test]
    fn a_chunk_that_announces_the_role_is_no_token() {
        let mut machine = ResponseMachine::new(&context(false, true), true);
        machine.push(Bytes::from_static(ROLE.as_bytes())).unwrap();
        assert!(!machine.facts().first_token_seen);
        machine.push(Bytes::from_static(TEXT.as_bytes())).unwrap();
        assert!(machine.facts().first_token_seen);
    }

    #[test]
    fn tool_calls_and_reasoning_are_tokens() {
        for delta in [
            r#"{"tool_calls":[{"index":0,"function":{"arguments":"{"}}]}"#,
            r#"{"reasoning_content":"hm","content":null}"#,
            r#"{"reasoning":"hm"}"#,
            r#"{"content":[{"type":"text","text":"x"}]}"#,
        ] {
            let event = format!("data: {{\"choices\":[{{\"delta\":{delta}}}]}}\n\n");
            let (_, _, facts) = run(false, true, &[event.as_bytes()]);
            assert!(facts.first_token_seen, "{delta}");
        }
    }

    #[test]
    fn usage_is_found_where_vendors_put_it() {
        for event in [
            r#"{"choices":[],"x_groq":{"id":"r","usage":{"prompt_tokens":9}}}"#,
            r#"{"choices":[{"delta":{},"finish_reason":"stop","usage":{"prompt_tokens":9}}]}"#,
            r#"{"choices":[{"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":9}}"#,
        ] {
            let stream = format!("data: {event}\n\n");
            let (out, _, facts) = run(true, true, &[stream.as_bytes()]);
            assert_eq!(facts.usage.unwrap().input_tokens, Some(9), "{event}");
            assert!(out.starts_with(stream.as_bytes()) || event.contains("x_groq"));
        }
    }

    #[test]
    fn a_cut_stream_is_told_and_a_missing_last_line_is_added() {
        let (_, finished, facts) = run(false, true, &[ROLE.as_bytes(), TEXT.as_bytes()]);
        assert_eq!(finished, Err(StreamError::Truncated));
        assert!(!facts.terminal_seen);
        let (out, finished, facts) = run(false, true, &[TEXT.as_bytes(), END.as_bytes()]);
        assert_eq!(finished, Ok(()));
        assert_eq!(out, [TEXT, END, DONE].concat().as_bytes());
        assert!(facts.terminal_seen);
        let unfinished = END.trim_end();
        let (out, _, _) = run(false, true, &[unfinished.as_bytes()]);
        assert_eq!(out, [END, DONE].concat().as_bytes());
    }

    #[test]
    fn an_error_in_the_stream_is_passed_on_and_noted() {
        let event = "data: {\"error\":{\"message\":\"slow down\",\"type\":\"server_error\",\"code\":\"rate_limit_exceeded\"}}\n\n";
        let (out, finished, facts) = run(true, true, &[TEXT.as_bytes(), event.as_bytes()]);
        assert_eq!(out, [TEXT, event].concat().as_bytes());
        assert_eq!(finished, Ok(()));
        let error = facts.provider_error.unwrap();
        assert_eq!(
            (error.kind, error.message.as_str()),
            (UpstreamErrorKind::RateLimited, "slow down")
        );
    }

    #[test]
    fn an_error_about_the_operator_is_hidden_in_the_stream_at_every_split() {
        for error in [
            r#"{"message":"Your credit balance is too low","type":"invalid_request_error","code":null}"#,
            r#"{"message":"Rate limit reached for m in organization org-a1b2c3d4","code":"rate_limit_exceeded"}"#,
            r#"{"message":"Incorrect API key provided: sk-abc1****wxyz","code":"invalid_api_key"}"#,
            r#"{"message":"x","code":403,"metadata":{"account":"481c7584-ab46-4974-b86b-a4978384e229"}}"#,
        ] {
            let event = format!("data: {{\"error\":{error}}}\n\n");
            let stream = [TEXT, &event, DONE].concat();
            for split in 0..=stream.len() {
                let (a, b) = stream.as_bytes().split_at(split);
                let mut machine = ResponseMachine::new(&context(true, true), true);
                let mut out = Vec::new();
                for piece in [a, b] {
                    out.extend(machine.push(Bytes::copy_from_slice(piece)).unwrap());
                }
                out.extend(machine.finish().unwrap());
                let out = String::from_utf8(out).unwrap();
                let rest = out.strip_prefix(TEXT).unwrap();
                assert!(
                    rest.starts_with("data: {\"error\":{\"message\":\""),
                    "{rest}"
                );
                assert_eq!(rest.matches("data: ").count(), 1, "{rest}");
                for word in ["credit", "org-", "organization", "API key", "sk-", "481c"] {
                    assert!(!rest.contains(word), "{rest}");
                }
                assert!(machine.facts().provider_error.is_some());
            }
        }
    }

    #[test]
    fn a_failed_stream_ends_with_an_error_event() {
        let mut machine = ResponseMachine::new(&context(false, true), true);
        machine.push(Bytes::from_static(b"data: {\"half")).unwrap();
        let error = ApiError::new(ApiErrorKind::ProviderError, "openai: cut off");
        assert_eq!(
            machine.fail(&error),
            "data: {\"error\":{\"message\":\"openai: cut off\",\"type\":\"server_error\",\"param\":null,\"code\":\"provider_error\"}}\n\n"
        );
    }

    const PLAIN: &str = r#"{"id":"c1","object":"chat.completion","model":"gpt-4o-2024","choices":[{"index":0,
        "message":{"role":"assistant","content":"Hello \"usage\"","refusal":null,"annotations":[]},
        "finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11,
        "prompt_tokens_details":{"cached_tokens":4}},"service_tier":"default"}"#;

    #[test]
    fn a_plain_body_passes_unchanged_at_every_split() {
        for split in 0..=PLAIN.len() {
            let (a, b) = PLAIN.as_bytes().split_at(split);
            let (out, finished, facts) = run(false, false, &[a, b]);
            assert_eq!(out, PLAIN.as_bytes());
            assert_eq!(finished, Ok(()));
            let expect = ResponseFacts {
                text_chunks: 0,
                service_tier: Some("default".to_owned()),
                ..expected_facts(PLAIN.len())
            };
            assert_eq!(facts, expect, "split at {split}");
        }
    }

    #[test]
    fn a_plain_body_is_not_copied_and_a_cut_one_is_told() {
        let mut machine = ResponseMachine::new(&context(false, false), false);
        let input = Bytes::from_static(PLAIN.as_bytes()).slice(..100);
        assert_eq!(
            machine.push(input.clone()).unwrap().as_ptr(),
            input.as_ptr()
        );
        assert!(!machine.facts().terminal_seen);
        assert_eq!(machine.finish(), Err(StreamError::Truncated));
    }

    #[test]
    fn embeddings_are_read_for_their_usage() {
        let body = r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.1,-2e-3]}],
            "model":"text-embedding-3-small","usage":{"prompt_tokens":8,"total_tokens":8}}"#;
        let (_, _, facts) = run(false, false, &[body.as_bytes()]);
        assert_eq!(
            facts.usage,
            Some(Usage {
                input_tokens: Some(8),
                ..Usage::default()
            })
        );
        assert_eq!(
            facts.upstream_model.as_deref(),
            Some("text-embedding-3-small")
        );
    }

    fn relayed(status: u16, body: &'static str) -> ErrorResponse {
        let context =
            ResponseContext::new(ClientApi::ChatCompletions, UpstreamApi::ChatCompletions);
        let body = Bytes::from_static(body.as_bytes());
        let vendor = vendors::find("openai").unwrap();
        let facts = vendor.classify_error(status, &HeaderMap::new(), &body, SystemTime::UNIX_EPOCH);
        relay_error(&context, "openai", status, &facts, &body, "r1")
    }

    #[test]
    fn a_provider_that_finds_fault_with_the_request_is_quoted_exactly() {
        let body = r#"{ "error" : {"message":"bad `x`","type":"invalid_request_error","param":"x","code":null,"new":1}}"#;
        let response = relayed(422, body);
        assert_eq!(
            (response.status, response.body),
            (422, Bytes::from_static(body.as_bytes()))
        );
    }

    #[test]
    fn what_concerns_the_operators_account_is_not_quoted() {
        for body in [
            r#"{"error":{"message":"Rate limit reached for m in organization org-a1b2c3d4","code":"rate_limit_exceeded"}}"#,
            r#"{"error":{"message":"bad `x`","type":"invalid_request_error"},"user_id":"user_2abcdef1"}"#,
        ] {
            let response = relayed(429, body);
            let shown = String::from_utf8_lossy(&response.body);
            assert!(
                !shown.contains("org-") && !shown.contains("user_2"),
                "{shown}"
            );
        }
    }

    #[test]
    fn a_flagged_prompt_is_told_to_the_client_that_wrote_it() {
        let body = r#"{"error":{"message":"Your input was flagged","code":403,"metadata":{"reasons":["violence"],"flagged_input":"t"}}}"#;
        let response = relayed(403, body);
        assert_eq!(
            (response.status, response.body),
            (403, Bytes::from_static(body.as_bytes()))
        );
        assert!(!response.headers.contains_key("x-should-retry"));
    }

    #[test]
    fn a_provider_without_the_model_is_not_asked_again_and_a_long_pause_is_not_waited_for() {
        let response = relayed(
            404,
            r#"{"error":{"message":"no such model","code":"model_not_found"}}"#,
        );
        assert_eq!(response.headers["x-should-retry"], "false");
        let vendor = vendors::find("openai").unwrap();
        for (seconds, expect) in [("30", None), ("3600", Some("false"))] {
            let headers = [("retry-after", seconds)].map(|(name, value)| {
                let name = http::HeaderName::from_static(name);
                (name, http::HeaderValue::from_static(value))
            });
            let headers = HeaderMap::from_iter(headers);
            let facts = vendor.classify_error(429, &headers, b"", SystemTime::UNIX_EPOCH);
            let (headers, _) = error_body(Family::Anthropic, &facts.to_api_error("p"));
            let told = headers
                .get("x-should-retry")
                .map(|value| value.to_str().unwrap());
            assert_eq!(
                (told, headers["retry-after"].to_str().unwrap()),
                (expect, seconds)
            );
        }
    }

    #[test]
    fn a_provider_that_fails_is_reported_in_the_gateways_words() {
        for (status, body, expect) in [
            (500, "<html>", 502),
            (
                401,
                r#"{"error":{"message":"Incorrect API key provided: sk-abc"}}"#,
                502,
            ),
            (
                404,
                r#"{"error":{"message":"no such model","code":"model_not_found"}}"#,
                502,
            ),
            (503, "busy", 503),
            (504, "", 504),
            (400, "not json", 400),
        ] {
            let response = relayed(status, body);
            assert_eq!(response.status, expect, "{status}");
            let body = String::from_utf8_lossy(&response.body);
            assert!(body.starts_with(r#"{"error":{"message":"openai"#), "{body}");
            assert!(!body.contains("sk-abc"), "{body}");
        }
    }
}
