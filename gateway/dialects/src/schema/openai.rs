//! What OpenAI's strict mode wants of a schema
//! (developers.openai.com/api/docs/guides/structured-outputs).

use super::{elements, entries, is_of_objects, value};

/// Keywords that strict mode refuses.
const REFUSED: [&str; 9] = [
    "allOf",
    "oneOf",
    "not",
    "dependentRequired",
    "dependentSchemas",
    "if",
    "then",
    "else",
    "patternProperties",
];

/// Whether strict mode takes a schema: every object is closed and requires all its properties.
pub(crate) fn is_strict_for_openai(schema: &str) -> bool {
    let top = entries(schema);
    value(&top, "anyOf").is_none() && is_of_objects(&top) && is_strict(schema)
}

fn is_strict(schema: &str) -> bool {
    let found = entries(schema);
    if found.iter().any(|(key, _)| REFUSED.contains(key)) {
        return false;
    }
    let properties = value(&found, "properties").map(entries).unwrap_or_default();
    if is_of_objects(&found) {
        let required = value(&found, "required").map(elements).unwrap_or_default();
        let is_required = |name: &str| required.iter().any(|raw| raw.trim_matches('"') == name);
        let is_closed = value(&found, "additionalProperties") == Some("false");
        if !is_closed || !properties.iter().all(|(name, _)| is_required(name)) {
            return false;
        }
    }
    let definitions = ["$defs", "definitions"].map(|key| value(&found, key).map(entries));
    let named = properties
        .into_iter()
        .chain(definitions.into_iter().flatten().flatten());
    let options = value(&found, "anyOf").map(elements).unwrap_or_default();
    named
        .map(|(_, schema)| schema)
        .chain(options)
        .chain(value(&found, "items"))
        .all(is_strict)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strict_schemas_are_closed_and_require_everything() {
        let strict = r#"{"type":"object","properties":{"a":{"type":["array","null"],"items":{"type":"object","properties":{},"additionalProperties":false}}},"required":["a"],"additionalProperties":false}"#;
        assert!(is_strict_for_openai(strict));
        for lax in [
            strict.replace(r#""required":["a"],"#, ""),
            strict.replace(
                r#""properties":{},"additionalProperties":false"#,
                r#""properties":{}"#,
            ),
            r#"{"anyOf":[]}"#.to_owned(),
            "{}".to_owned(),
        ] {
            assert!(!is_strict_for_openai(&lax), "{lax}");
        }
    }
}
