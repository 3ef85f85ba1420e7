//! `GET /v1/models`, in both shapes.

use bytes::Bytes;
use serde::Serialize;

use crate::api::Family;

/// One model or alias that clients can ask for.
#[derive(Clone, Copy, Debug)]
pub struct ModelEntry<'a> {
    pub id: &'a str,
    pub owned_by: &'a str,
    /// Seconds since 1970.
    pub created_s: u64,
}

#[derive(Serialize)]
struct OpenAiList<'a> {
    object: &'static str,
    data: Vec<OpenAiModel<'a>>,
}

#[derive(Serialize)]
struct OpenAiModel<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    owned_by: &'a str,
}

#[derive(Serialize)]
struct AnthropicList<'a> {
    data: Vec<AnthropicModel<'a>>,
    has_more: bool,
    first_id: Option<&'a str>,
    last_id: Option<&'a str>,
}

#[derive(Serialize)]
struct AnthropicModel<'a> {
    r#type: &'static str,
    id: &'a str,
    display_name: &'a str,
    created_at: String,
}

/// The whole list.
#[must_use]
pub fn models_list(family: Family, entries: &[ModelEntry<'_>]) -> Bytes {
    let json = match family {
        Family::OpenAi => serde_json::to_vec(&OpenAiList {
            object: "list",
            data: entries.iter().map(openai_model).collect(),
        }),
        Family::Anthropic => serde_json::to_vec(&AnthropicList {
            data: entries.iter().map(anthropic_model).collect(),
            has_more: false,
            first_id: entries.first().map(|entry| entry.id),
            last_id: entries.last().map(|entry| entry.id),
        }),
    };
    // Serialising text and numbers cannot fail.
    json.unwrap_or_default().into()
}

/// One model (`GET /v1/models/{id}`).
#[must_use]
pub fn model(family: Family, entry: &ModelEntry<'_>) -> Bytes {
    let json = match family {
        Family::OpenAi => serde_json::to_vec(&openai_model(entry)),
        Family::Anthropic => serde_json::to_vec(&anthropic_model(entry)),
    };
    json.unwrap_or_default().into()
}

fn openai_model<'a>(entry: &ModelEntry<'a>) -> OpenAiModel<'a> {
    OpenAiModel {
        id: entry.id,
        object: "model",
        created: entry.created_s,
        owned_by: entry.owned_by,
    }
}

fn anthropic_model<'a>(entry: &ModelEntry<'a>) -> AnthropicModel<'a> {
    AnthropicModel {
        r#type: "model",
        id: entry.id,
        display_name: entry.id,
        created_at: rfc3339(entry.created_s),
    }
}

/// A time in the form `2025-01-31T12:00:00Z`.
fn rfc3339(unix_s: u64) -> String {
    let (days, second) = (unix_s / 86_400, unix_s % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The date of a day since 1970 (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
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
