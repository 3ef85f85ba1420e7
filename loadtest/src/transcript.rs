//! An answer as an application sees it: parsed, with its usage, and with the word on whether it was whole.
//!
//! Used where the traffic is small and every answer counts (replay, demo). The load generator's own listener parses nothing.

use std::time::Instant;

use http::header::CONTENT_TYPE;
use http::response;
use serde::{Deserialize, Serialize};

use crate::client::Listener;
use crate::mock::TokenCounts;

/// Answers larger than this are not kept; their usage is then unknown.
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Hears and parses one answer.
#[derive(Debug, Default)]
pub(crate) struct ChatTranscript {
    pub(crate) status: Option<u16>,
    pub(crate) request_id: Option<String>,
    pub(crate) head_at: Option<Instant>,
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
    fn head(&mut self, head: &response::Parts, now: Instant) {
        self.status = Some(head.status.as_u16());
        self.head_at = Some(now);
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
        let body = std::mem::take(&mut self.buffer);
        match serde_json::from_slice::<ChatEvent>(&body) {
            Ok(event) => {
                self.usage = event.usage.map(ChatUsage::tokens);
                self.error = event.error.map(|error| error.message);
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
        let Ok(event) = serde_json::from_slice::<ChatEvent>(data) else {
            return;
        };
        self.deltas += event
            .choices
            .iter()
            .filter(|choice| choice.has_text())
            .count() as u64;
        if let Some(usage) = event.usage {
            self.usage = Some(usage.tokens());
        }
        if let Some(error) = event.error {
            self.error = Some(error.message);
        }
    }
}

/// What is of interest in a chunk, and in a plain answer.
#[derive(Deserialize)]
struct ChatEvent {
    #[serde(default)]
    choices: Vec<ChatChoice>,
    #[serde(default)]
    usage: Option<ChatUsage>,
    #[serde(default)]
    error: Option<ChatError>,
}

#[derive(Deserialize)]
struct ChatChoice {
    #[serde(default)]
    delta: Option<Delta>,
}

impl ChatChoice {
    fn has_text(&self) -> bool {
        self.delta
            .as_ref()
            .and_then(|delta| delta.content.as_ref())
            .is_some_and(|text| !text.is_empty())
    }
}

#[derive(Deserialize)]
struct Delta {
    #[serde(default)]
    content: Option<String>,
}

#[derive(Deserialize)]
struct ChatError {
    #[serde(default)]
    message: String,
}

/// OpenAI's usage block.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
struct ChatUsage {
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
    #[serde(default)]
    prompt_tokens_details: Option<PromptDetails>,
    #[serde(default)]
    completion_tokens_details: Option<CompletionDetails>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
struct PromptDetails {
    #[serde(default)]
    cached_tokens: u64,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
struct CompletionDetails {
    #[serde(default)]
    reasoning_tokens: u64,
}

impl ChatUsage {
    fn tokens(self) -> TokenCounts {
        TokenCounts {
            input: self.prompt_tokens,
            cached_input: self
                .prompt_tokens_details
                .map_or(0, |details| details.cached_tokens),
            output: self.completion_tokens,
            reasoning: self
                .completion_tokens_details
                .map_or(0, |details| details.reasoning_tokens),
        }
    }
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
