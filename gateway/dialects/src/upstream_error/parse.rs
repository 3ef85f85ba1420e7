//! The fields of an error body, in any of the envelopes.

use std::time::Duration;

use serde_json::Value;

use super::UpstreamErrorKind;
use super::seconds;
use crate::caps;

/// Most words that are taken from an error for the table.
const CODES_MAX: usize = 12;

/// The fields of an error body.
#[derive(Clone, Debug, Default)]
pub(super) struct ParsedError {
    pub(super) message: Option<String>,
    pub(super) kind: Option<String>,
    pub(super) code: Option<String>,
    pub(super) param: Option<String>,
    pub(super) retry_delay: Option<Duration>,
    /// Codes in other places: Google's reasons, Azure's inner code, OpenRouter's metadata.
    pub(super) inner: Vec<String>,
    pub(super) relayed: Relayed,
}

/// What an aggregator passes on of the provider behind it. That provider's key is not the gateway's.
#[derive(Clone, Debug, Default)]
pub(super) struct Relayed {
    message: Option<String>,
    codes: Vec<String>,
}

impl ParsedError {
    pub(super) fn read(body: &[u8]) -> Self {
        match serde_json::from_slice::<Value>(body) {
            // Gemini's stream endpoints wrap errors in an array.
            Ok(Value::Array(mut items)) if !items.is_empty() => {
                Self::from_body(&items.swap_remove(0))
            }
            Ok(value) => Self::from_body(&value),
            Err(_) => Self {
                message: plain_text(body),
                ..Self::default()
            },
        }
    }

    fn from_body(body: &Value) -> Self {
        match body.get("error") {
            Some(error @ Value::Object(_)) => {
                let inner = Self::from_error(error);
                // Some servers name the code beside the error.
                let beside = || text(body, "code");
                Self {
                    code: inner.code.clone().or_else(beside),
                    ..inner
                }
            }
            // Ollama: {"error": "…"}; xAI: {"code": "…", "error": "…"}
            Some(Value::String(message)) => Self {
                message: Some(shortened(message)),
                ..Self::from_error(body)
            },
            _ => match body.get("errors").and_then(|errors| errors.get(0)) {
                // Cloudflare: {"errors": [{"message": …}]}
                Some(error) => Self::from_error(error),
                None => Self::from_error(body),
            },
        }
    }

    pub(super) fn from_error(error: &Value) -> Self {
        // FastAPI servers answer {"detail": …}, vLLM and Mistral {"object": "error", "message": …}.
        let detail = || Some(shortened(&error.get("detail")?.to_string()));
        let message = text(error, "message").or_else(|| text(error, "detail"));
        let message = message.or_else(|| text(error, "msg"));
        // MiniMax: {"status_code": 1008, "status_msg": "insufficient balance"}
        let message = message
            .or_else(|| text(error, "status_msg"))
            .or_else(detail);
        Self {
            message: message.or_else(|| error.as_str().map(shortened)),
            kind: text(error, "type").or_else(|| text(error, "status")),
            code: text(error, "code").or_else(|| text(error, "status_code")),
            param: text(error, "param"),
            retry_delay: retry_delay(error),
            inner: inner_codes(error),
            relayed: relayed(error),
        }
    }

    /// The words of the error that are codes.
    pub(super) fn codes(&self) -> impl Iterator<Item = &str> {
        let outer = [self.code.as_deref(), self.kind.as_deref()];
        let inner = self.inner.iter().map(String::as_str);
        outer.into_iter().flatten().chain(inner)
    }

    /// The same of the provider behind an aggregator, as far as they may decide for this kind.
    pub(super) fn relayed_codes(&self, kind: UpstreamErrorKind) -> impl Iterator<Item = &str> {
        let counts = kind.is_about_request();
        let codes = self.relayed.codes.iter().map(String::as_str);
        codes.filter(move |_| counts)
    }

    pub(super) fn relayed_message(&self, kind: UpstreamErrorKind) -> Option<&str> {
        let message = self.relayed.message.as_deref();
        message.filter(|_| kind.is_about_request())
    }
}

fn text(error: &Value, name: &str) -> Option<String> {
    match error.get(name) {
        Some(Value::String(text)) => Some(shortened(text)),
        Some(Value::Number(number)) => Some(number.to_string()),
        _ => None,
    }
}

fn inner_codes(error: &Value) -> Vec<String> {
    let mut codes = Vec::new();
    // Azure: a code within the code.
    for name in ["innererror", "inner_error"] {
        codes.extend(error.get(name).and_then(|inner| text(inner, "code")));
    }
    // Anthropic: what exactly is used up. Google: the status beside the code.
    let details = error.get("details").filter(|details| details.is_object());
    codes.extend(details.and_then(|details| text(details, "error_code")));
    codes.extend(text(error, "status"));
    // Google: details[].reason
    let details = error.get("details").and_then(Value::as_array);
    let reasons = details.into_iter().flatten();
    codes.extend(reasons.filter_map(|detail| text(detail, "reason")));
    // OpenRouter: why the prompt was flagged.
    if let Some(metadata) = error.get("metadata") {
        for name in ["reasons", "flagged_input"] {
            let says_why = metadata.get(name).is_some_and(|why| !why.is_null());
            codes.extend(says_why.then(|| format!("metadata.{name}")));
        }
        codes.extend(text(metadata, "error_type"));
    }
    codes.truncate(CODES_MAX);
    codes
}

/// OpenRouter: `metadata.raw` is the provider's own body.
fn relayed(error: &Value) -> Relayed {
    let Some(metadata) = error.get("metadata") else {
        return Relayed::default();
    };
    let mut codes: Vec<String> = text(metadata, "provider_code").into_iter().collect();
    let message = match metadata.get("raw") {
        Some(Value::String(raw)) => {
            let own = serde_json::from_str::<Value>(raw).ok();
            let own = own.as_ref().map(|own| own.get("error").unwrap_or(own));
            codes.extend(own.and_then(|own| text(own, "code")));
            Some(shortened(raw))
        }
        Some(raw @ Value::Object(_)) => Some(shortened(&raw.to_string())),
        _ => None,
    };
    Relayed { message, codes }
}

/// Gemini: `details[].retryDelay`, such as `"34.5s"`.
fn retry_delay(error: &Value) -> Option<Duration> {
    let details = error.get("details")?.as_array()?;
    let delay = details
        .iter()
        .find_map(|detail| detail.get("retryDelay")?.as_str())?;
    seconds(delay.strip_suffix('s')?)
}

fn plain_text(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(&body[..body.len().min(caps::ERROR_MESSAGE_BYTES_MAX)]);
    let text = text.trim();
    // The first lines of a proxy's HTML page are of no use.
    (!text.is_empty() && !text.starts_with('<')).then(|| shortened(text))
}

fn shortened(text: &str) -> String {
    text[..text.floor_char_boundary(caps::ERROR_MESSAGE_BYTES_MAX)].to_owned()
}
