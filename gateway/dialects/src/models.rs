//! `GET /v1/models`, in a form that OpenAI's and Anthropic's clients both read.

use bytes::Bytes;
use jiff::Timestamp;

use crate::json::Writer;

/// One model or alias that clients can ask for.
#[derive(Clone, Copy, Debug)]
pub struct ModelEntry<'a> {
    pub id: &'a str,
    pub owned_by: &'a str,
    /// Seconds since 1970.
    pub created_s: u64,
}

/// The whole list. It has one page.
#[must_use]
pub fn models_list(entries: &[ModelEntry<'_>]) -> Bytes {
    let list = Writer::document(256 * (entries.len() + 1), |w| {
        w.put("object", "list");
        w.put_array("data", |w| {
            entries
                .iter()
                .for_each(|entry| w.object(|w| write_model(w, entry)));
        });
        w.put("has_more", false);
        w.put("first_id", entries.first().map(|entry| entry.id));
        w.put("last_id", entries.last().map(|entry| entry.id));
    });
    list.into()
}

/// One model (`GET /v1/models/{id}`).
#[must_use]
pub fn model(entry: &ModelEntry<'_>) -> Bytes {
    Writer::document(256, |w| write_model(w, entry)).into()
}

/// Writes what either family's types require. The names have one meaning each, and the types of both
/// SDKs keep what they do not know.
fn write_model(w: &mut Writer, entry: &ModelEntry<'_>) {
    w.put("id", entry.id);
    w.put("object", "model");
    w.put("type", "model");
    w.put("created", entry.created_s);
    w.put("created_at", &*rfc3339(entry.created_s));
    w.put("owned_by", entry.owned_by);
    w.put("display_name", entry.id);
    // Required by Anthropic's types since 2026. An alias is there, or it is not.
    w.put("lifecycle", "active");
}

/// A time in the form `2025-01-31T12:00:00Z`.
fn rfc3339(unix_s: u64) -> String {
    let time = i64::try_from(unix_s).ok().map(Timestamp::from_second);
    time.and_then(Result::ok).unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRIES: [ModelEntry<'static>; 2] = [
        ModelEntry {
            id: "fast-chat",
            owned_by: "weir",
            created_s: 0,
        },
        ModelEntry {
            id: "claude-x",
            owned_by: "weir",
            created_s: 1_709_210_096,
        },
    ];

    #[test]
    fn each_model_has_what_either_sdk_requires() {
        assert_eq!(
            models_list(&ENTRIES),
            concat!(
                r#"{"object":"list","data":["#,
                r#"{"id":"fast-chat","object":"model","type":"model","created":0,"created_at":"1970-01-01T00:00:00Z","owned_by":"weir","display_name":"fast-chat","lifecycle":"active"},"#,
                r#"{"id":"claude-x","object":"model","type":"model","created":1709210096,"created_at":"2024-02-29T12:34:56Z","owned_by":"weir","display_name":"claude-x","lifecycle":"active"}],"#,
                r#""has_more":false,"first_id":"fast-chat","last_id":"claude-x"}"#
            )
        );
    }

    #[test]
    fn an_empty_list_is_a_list() {
        assert_eq!(
            models_list(&[]),
            r#"{"object":"list","data":[],"has_more":false,"first_id":null,"last_id":null}"#
        );
    }
}
