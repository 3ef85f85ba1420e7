//! An answer as an application sees it: parsed, with its usage, and with the word on whether it was whole.
//!
//! Used where the traffic is small and every answer counts (replay, demo). The load generator's own listener parses nothing.

use std::time::Instant;

use http::header::CONTENT_TYPE;
use http::response;
use serde_json::Value;

use crate::client::Listener;
use crate::mock::TokenCounts;

/// Answers larger than this are not kept; their usage is then unknown.
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Hears and parses one answer.
#[derive(Debug, Default)]
pub(crate) struct ChatTranscript {
    pub(crate) status: Option<u16>,
    pub(crate) request_id: Option<String>,
    pub(crate) streamed: bool,
    /// Content deltas with text in them.
    pub(crate) deltas: u64,
    pub(crate) usage: Option<TokenCounts>,
    /// `[DONE]` came.
    pub(crate) done: bool,
    /// The message of an error event, or of an error answer.
    pub(crate) error: Option<String>,
    buffer: Vec<u8>,
}

impl Listener for ChatTranscript {
    fn head(&mut self, head: &response::Parts, _now: Instant) {
        self.status = Some(head.status.as_u16());
        let text = |name: &str| Some(head.headers.get(name)?.to_str().ok()?.to_owned());
        self.request_id = text("x-request-id");
        self.streamed =
            text(CONTENT_TYPE.as_str()).is_some_and(|kind| kind.starts_with("text/event-stream"));
    }

    fn data(&mut self, data: &[u8], _now: Instant) {
        if self.buffer.len() + data.len() > BODY_BYTES_MAX {
            self.buffer.clear();
            return;
        }
        self.buffer.extend_from_slice(data);
        if self.streamed {
            self.take_lines();
        }
    }
}

impl ChatTranscript {
    /// The answer is over: a plain body is read now. `whole`: the connection delivered all of it.
    pub(crate) fn finish(&mut self, whole: bool) {
        if self.streamed || !whole {
            return;
        }
        match serde_json::from_slice(&std::mem::take(&mut self.buffer)) {
            Ok(body) => {
                self.note(&body);
                self.done = true;
            }
            Err(problem) => self.error = Some(format!("the body is not JSON: {problem}")),
        }
    }

    fn take_lines(&mut self) {
        let Some(end) = memchr::memrchr(b'\n', &self.buffer) else {
            return;
        };
        let rest = self.buffer.split_off(end + 1);
        let lines = std::mem::replace(&mut self.buffer, rest);
        for line in lines.split(|byte| *byte == b'\n') {
            if let Some(data) = line.strip_prefix(b"data: ") {
                self.event(data.trim_ascii_end());
            }
        }
    }

    fn event(&mut self, data: &[u8]) {
        if data == b"[DONE]" {
            self.done = true;
            return;
        }
        // A chunk that is not JSON is passed over, as SDKs that survive one do; its text is then missing from `deltas`.
        if let Ok(event) = serde_json::from_slice(data) {
            self.note(&event);
        }
    }

    /// Takes what is of interest in a chunk, or in a plain answer.
    fn note(&mut self, event: &Value) {
        let choices = event["choices"].as_array().into_iter().flatten();
        let texts = choices.filter_map(|choice| choice["delta"]["content"].as_str());
        self.deltas += texts.filter(|text| !text.is_empty()).count() as u64;
        self.usage = tokens(&event["usage"]).or(self.usage);
        if let Some(error) = event["error"].as_object() {
            let message = error.get("message").and_then(Value::as_str);
            self.error = Some(message.unwrap_or_default().to_owned());
        }
    }
}

/// What OpenAI's usage block says.
fn tokens(usage: &Value) -> Option<TokenCounts> {
    let count = |field: &str| usage.pointer(field).and_then(Value::as_u64);
    Some(TokenCounts {
        input: count("/prompt_tokens")?,
        cached_input: count("/prompt_tokens_details/cached_tokens").unwrap_or(0),
        output: count("/completion_tokens").unwrap_or(0),
        reasoning: count("/completion_tokens_details/reasoning_tokens").unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hear(kind: &str, parts: &[&[u8]]) -> ChatTranscript {
        let response = http::Response::builder()
            .header(CONTENT_TYPE, kind)
            .body(())
            .unwrap();
        let mut transcript = ChatTranscript::default();
        transcript.head(&response.into_parts().0, Instant::now());
        for part in parts {
            transcript.data(part, Instant::now());
        }
        transcript.finish(true);
        transcript
    }

    const STREAM: &[u8] = b"data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n\
        data: {\"choices\":[{\"delta\":{\"content\":\" weir\"}}]}\r\n\r\ndata: {\"brok\n\n\
        data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1}}\n\ndata: [DONE]\n\n";

    #[test]
    fn a_stream_is_read_alike_at_every_split() {
        for split in 0..=STREAM.len() {
            let heard = hear("text/event-stream", &[&STREAM[..split], &STREAM[split..]]);
            let usage = heard.usage.map(|usage| (usage.input, usage.output));
            assert_eq!(
                (heard.deltas, usage, heard.done),
                (1, Some((3, 1)), true),
                "at {split}"
            );
        }
    }

    #[test]
    fn a_plain_answer_is_read_at_its_end() {
        let heard = hear(
            "application/json",
            &[b"{\"usage\":{\"prompt_", b"tokens\":7}}"],
        );
        assert_eq!(heard.usage.map(|usage| usage.input), Some(7));
        let heard = hear("application/json", &[b"{\"error\":{\"message\":\"no\"}}"]);
        assert_eq!((heard.usage, heard.error.as_deref()), (None, Some("no")));
        assert!(
            hear("text/html", &[b"<html>"])
                .error
                .unwrap()
                .contains("not JSON")
        );
    }
}
