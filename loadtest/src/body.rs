//! Request bodies of a known size.

use std::fmt::Write as _;

use serde_json::Value;

use crate::mock::filler;

/// A chat completion request.
#[derive(Clone, Debug)]
pub(crate) struct Chat<'a> {
    pub(crate) model: &'a str,
    pub(crate) input_tokens: u32,
    pub(crate) output_tokens: u32,
    pub(crate) streamed: bool,
    /// OpenAI's `user`, if any.
    pub(crate) user: Option<&'a str>,
    /// Goes into `metadata`.
    pub(crate) metadata: &'a [(&'a str, &'a str)],
}

impl Chat<'_> {
    pub(crate) fn json(&self) -> String {
        let mut out = String::with_capacity(160 + 4 * self.input_tokens as usize);
        let _ = write!(
            out,
            "{{\"model\":{},\"messages\":[{{\"role\":\"user\",\"content\":\"{}\"}}],\"max_tokens\":{}",
            quoted(self.model),
            filler(self.input_tokens),
            self.output_tokens,
        );
        if self.streamed {
            out.push_str(",\"stream\":true,\"stream_options\":{\"include_usage\":true}");
        }
        if let Some(user) = self.user {
            let _ = write!(out, ",\"user\":{}", quoted(user));
        }
        for (at, (name, value)) in self.metadata.iter().enumerate() {
            out.push_str(if at == 0 { ",\"metadata\":{" } else { "," });
            let _ = write!(out, "{}:{}", quoted(name), quoted(value));
        }
        out.push_str(if self.metadata.is_empty() { "}" } else { "}}" });
        out
    }
}

/// An embeddings request.
pub(crate) fn embeddings(model: &str, input_tokens: u32, user: Option<&str>) -> String {
    let mut out = format!(
        "{{\"model\":{},\"input\":\"{}\",\"encoding_format\":\"base64\"",
        quoted(model),
        filler(input_tokens)
    );
    if let Some(user) = user {
        let _ = write!(out, ",\"user\":{}", quoted(user));
    }
    out.push('}');
    out
}

fn quoted(text: &str) -> Value {
    Value::from(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_json_of_the_asked_size() {
        let chat = Chat {
            model: "a\"b",
            input_tokens: 374,
            output_tokens: 44,
            streamed: true,
            user: Some("u1"),
            metadata: &[("feature", "search"), ("mock_fault", "cut")],
        };
        let json: Value = serde_json::from_str(&chat.json()).unwrap();
        assert_eq!(json["model"], "a\"b");
        assert_eq!(
            json["messages"][0]["content"].as_str().unwrap().len(),
            374 * 4
        );
        assert_eq!(json["stream_options"]["include_usage"], true);
        assert_eq!(json["metadata"]["mock_fault"], "cut");
        let plain = Chat {
            streamed: false,
            user: None,
            metadata: &[],
            ..chat
        };
        let json: Value = serde_json::from_str(&plain.json()).unwrap();
        assert_eq!((json.get("stream"), json.get("metadata")), (None, None));
        let json: Value = serde_json::from_str(&embeddings("e", 3, Some("u2"))).unwrap();
        assert_eq!(
            (json["input"].as_str().unwrap().len(), json["user"].as_str()),
            (12, Some("u2"))
        );
    }
}
