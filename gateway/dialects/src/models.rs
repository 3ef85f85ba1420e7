//! `GET /v1/models`, in OpenAI's and Anthropic's form.

use bytes::Bytes;
use jiff::Timestamp;

use crate::api::Family;
use crate::json::Writer;

/// One model or alias that clients can ask for.
#[derive(Clone, Copy, Debug)]
pub struct ModelEntry<'a> {
    pub id: &'a str,
    pub owned_by: &'a str,
    /// Seconds since 1970.
    pub created_s: u64,
}

/// The whole list.
#[must_use]
pub fn models_list(family: Family, entries: &[ModelEntry<'_>]) -> Bytes {
    let list = Writer::document(128 * (entries.len() + 1), |w| {
        if family == Family::OpenAi {
            w.put("object", "list");
        }
        w.put_array("data", |w| {
            entries
                .iter()
                .for_each(|entry| w.object(|w| write_model(w, family, entry)));
        });
        if family == Family::Anthropic {
            w.put("has_more", false);
            w.put("first_id", entries.first().map(|entry| entry.id));
            w.put("last_id", entries.last().map(|entry| entry.id));
        }
    });
    list.into()
}

/// One model (`GET /v1/models/{id}`).
#[must_use]
pub fn model(family: Family, entry: &ModelEntry<'_>) -> Bytes {
    Writer::document(128, |w| write_model(w, family, entry)).into()
}

fn write_model(w: &mut Writer, family: Family, entry: &ModelEntry<'_>) {
    match family {
        Family::OpenAi => {
            w.put("id", entry.id);
            w.put("object", "model");
            w.put("created", entry.created_s);
            w.put("owned_by", entry.owned_by);
        }
        Family::Anthropic => {
            w.put("type", "model");
            w.put("id", entry.id);
            w.put("display_name", entry.id);
            w.put("created_at", &*rfc3339(entry.created_s));
        }
    }
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

    fn check(family: Family, expect: &str) {
        assert_eq!(models_list(family, &ENTRIES), expect);
    }

    #[test]
    fn openai_shape() {
        check(
            Family::OpenAi,
            r#"{"object":"list","data":[{"id":"fast-chat","object":"model","created":0,"owned_by":"weir"},{"id":"claude-x","object":"model","created":1709210096,"owned_by":"weir"}]}"#,
        );
    }

    #[test]
    fn anthropic_shape() {
        check(
            Family::Anthropic,
            r#"{"data":[{"type":"model","id":"fast-chat","display_name":"fast-chat","created_at":"1970-01-01T00:00:00Z"},{"type":"model","id":"claude-x","display_name":"claude-x","created_at":"2024-02-29T12:34:56Z"}],"has_more":false,"first_id":"fast-chat","last_id":"claude-x"}"#,
        );
    }

    #[test]
    fn an_empty_list_is_a_list() {
        let empty = models_list(Family::Anthropic, &[]);
        assert_eq!(
            empty,
            r#"{"data":[],"has_more":false,"first_id":null,"last_id":null}"#
        );
    }
}
