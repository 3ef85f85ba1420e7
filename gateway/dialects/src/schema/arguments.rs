//! The schema of a tool's arguments: an object, said to be one.
//!
//! Anthropic wants `type`, OpenAI wants `type` and `properties`, and all of them an object. Neither
//! takes a choice between schemas at the top (`anyOf`, `oneOf`, `allOf`).

use std::borrow::Cow;

use super::{elements, entries, has_type, value};
use crate::json::Writer;

/// Schema of a tool without arguments.
pub(crate) const EMPTY_SCHEMA: &str = r#"{"type":"object","properties":{}}"#;

/// The schema with `type` and `properties`. An error says what it must be instead.
pub(crate) fn arguments_schema(raw: &str) -> Result<Cow<'_, str>, &'static str> {
    const NO_OBJECT: &str = "must be a JSON schema of type object";
    if raw == "true" {
        return Ok(Cow::Borrowed(EMPTY_SCHEMA));
    }
    if !raw.starts_with('{') {
        return Err(NO_OBJECT);
    }
    let found = entries(raw);
    let (kind, properties) = (value(&found, "type"), value(&found, "properties"));
    if kind.is_some() && !has_type(&found, "object") {
        return Err(NO_OBJECT);
    }
    if properties.is_some_and(|properties| !properties.starts_with('{')) {
        return Err("must have an object of properties");
    }
    if kind == Some(r#""object""#) && properties.is_some() {
        return Ok(Cow::Borrowed(raw));
    }
    Ok(Cow::Owned(Writer::document(raw.len() + 32, |w| {
        w.put("type", "object");
        w.put_raw("properties", properties.unwrap_or("{}"));
        for (key, raw) in found {
            if !matches!(key, "type" | "properties") {
                w.put_raw(key, raw);
            }
        }
    })))
}

const CHOICES: [&str; 3] = ["anyOf", "oneOf", "allOf"];

/// How deep choices may stand in each other.
const DEPTH_MAX: usize = 8;

/// The schema with the properties of all that could be chosen at its top. `None` if there is no
/// choice.
pub(crate) fn without_top_level_choice(raw: &str) -> Option<String> {
    // All three end like this, and nearly no schema has one.
    memchr::memmem::find(raw.as_bytes(), b"Of\"")?;
    let top = entries(raw);
    if !top.iter().any(|(key, _)| CHOICES.contains(key)) {
        return None;
    }
    let definitions = ["$defs", "definitions"].map(|key| value(&top, key).map(entries));
    let mut merged = Merged {
        definitions: definitions.into_iter().flatten().flatten().collect(),
        properties: Vec::new(),
    };
    let required = merged.add(raw, 0);
    Some(Writer::document(raw.len(), |w| {
        w.put("type", "object");
        w.put_object("properties", |w| merged.write(w));
        if !required.is_empty() {
            w.put_array("required", |w| required.iter().for_each(|name| w.raw(name)));
        }
        let is_merged = |key: &str| matches!(key, "type" | "properties" | "required");
        for (key, raw) in &top {
            if !is_merged(key) && !CHOICES.contains(key) {
                w.put_raw(key, raw);
            }
        }
    }))
}

/// The properties of several schemas, each with the schemas that it has in them.
struct Merged<'a> {
    definitions: Vec<(&'a str, &'a str)>,
    properties: Vec<(&'a str, Vec<&'a str>)>,
}

impl<'a> Merged<'a> {
    /// Adds a schema, and returns the names that it requires, still quoted.
    fn add(&mut self, raw: &'a str, depth: usize) -> Vec<&'a str> {
        let found = entries(self.resolved(raw));
        for (name, schema) in value(&found, "properties").map(entries).unwrap_or_default() {
            self.add_property(name, schema);
        }
        let mut required = value(&found, "required").map(elements).unwrap_or_default();
        if depth == DEPTH_MAX {
            return required;
        }
        for key in CHOICES {
            let options = value(&found, key).map(elements).unwrap_or_default();
            let options: Vec<_> = options
                .into_iter()
                .map(|raw| self.add(raw, depth + 1))
                .collect();
            let of_all = match (key, options.split_first()) {
                ("allOf", _) => options.concat(),
                // What every option requires.
                (_, Some((first, rest))) => {
                    let in_rest = |name: &&&str| rest.iter().all(|option| option.contains(*name));
                    first.iter().filter(in_rest).copied().collect()
                }
                (_, None) => Vec::new(),
            };
            required.extend(of_all);
        }
        required.sort_unstable();
        required.dedup();
        required
    }

    fn add_property(&mut self, name: &'a str, schema: &'a str) {
        match self.properties.iter_mut().find(|(known, _)| *known == name) {
            Some((_, schemas)) if schemas.contains(&schema) => {}
            Some((_, schemas)) => schemas.push(schema),
            None => self.properties.push((name, vec![schema])),
        }
    }

    /// A schema, or what it refers to.
    fn resolved(&self, raw: &'a str) -> &'a str {
        let found = entries(raw);
        let name =
            value(&found, "$ref").and_then(|raw| Some(raw.trim_matches('"').rsplit_once('/')?.1));
        name.and_then(|name| value(&self.definitions, name))
            .unwrap_or(raw)
    }

    fn write(&self, w: &mut Writer) {
        for (name, schemas) in &self.properties {
            match schemas.as_slice() {
                [only] => w.put_raw(name, only),
                several => w.put_object(name, |w| {
                    w.put_array("anyOf", |w| several.iter().for_each(|raw| w.raw(raw)));
                }),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_always_has_type_and_properties() {
        let fixed = |raw| arguments_schema(raw).map(Cow::into_owned);
        for raw in [
            "{}",
            r#"{"type":"object"}"#,
            r#"{"type":null,"properties":null}"#,
            "true",
            r#"{"type":["object","null"]}"#,
            r#"{ "properties" : {} }"#,
        ] {
            assert_eq!(
                fixed(raw).as_deref(),
                Ok(r#"{"type":"object","properties":{}}"#),
                "{raw}"
            );
        }
        let whole =
            r##"{"$defs":{"a":{}},"type":"object","properties":{"a":{"$ref":"#/$defs/a"}}}"##;
        assert!(matches!(arguments_schema(whole), Ok(Cow::Borrowed(_))));
        let defs = r#"{"$defs":{"a":{"type":"string"}},"required":[]}"#;
        assert_eq!(
            fixed(defs).as_deref(),
            Ok(
                r#"{"type":"object","properties":{},"$defs":{"a":{"type":"string"}},"required":[]}"#
            )
        );
        for raw in [
            "[]",
            "1",
            "false",
            r#""object""#,
            r#"{"type":"string"}"#,
            r#"{"properties":[]}"#,
        ] {
            assert!(fixed(raw).is_err(), "{raw}");
        }
    }

    #[test]
    fn a_choice_at_the_top_becomes_the_properties_of_all() {
        let raw = r##"{"type":"object","properties":{"x":{"type":"string"}},"required":["x"],
            "$defs":{"B":{"type":"object","properties":{"kind":{"const":"b"},"n":{"type":"integer"}},"required":["kind","n"]}},
            "oneOf":[{"type":"object","properties":{"kind":{"const":"a"}},"required":["kind"]},{"$ref":"#/$defs/B"}]}"##;
        let merged = without_top_level_choice(raw).unwrap();
        let merged: serde_json::Value = serde_json::from_str(&merged).unwrap();
        assert_eq!(merged["required"], serde_json::json!(["kind", "x"]));
        let kind = serde_json::json!({"anyOf": [{"const": "a"}, {"const": "b"}]});
        assert_eq!(merged["properties"]["kind"], kind);
        assert_eq!(
            merged["properties"]["n"],
            serde_json::json!({"type": "integer"})
        );
        assert!(merged.get("oneOf").is_none() && merged.get("$defs").is_some());
        assert_eq!(
            without_top_level_choice(r#"{"type":"object","properties":{"anyOf":{}}}"#),
            None
        );
    }
}
