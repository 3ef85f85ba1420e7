//! Schemas that constrain what Claude writes: the format of an answer, the arguments of a strict tool.
//!
//! Claude wants every object closed and knows few constraints
//! (platform.claude.com/docs/en/build-with-claude/structured-outputs, "JSON Schema limitations").
//! Like Anthropic's own SDKs, this moves the others into the description, where the model reads them.

use super::{elements, entries, is_of_objects, value};
use crate::json::{Text, Writer, text_of};

/// A schema in Claude's form, and what it lost.
#[derive(Debug, Default)]
pub(crate) struct ClaudeSchema {
    pub(crate) json: String,
    /// Constraints that only stand in the description now.
    pub(crate) described: Vec<&'static str>,
    /// What Claude cannot express.
    pub(crate) unsupported: Option<&'static str>,
    /// Properties that are not required.
    pub(crate) optional: usize,
    /// Properties of several types.
    pub(crate) unions: usize,
}

/// Constraints on values that Claude does not know.
const DESCRIBED: [&str; 15] = [
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "maxItems",
    "uniqueItems",
    "contains",
    "minContains",
    "maxContains",
    "minProperties",
    "maxProperties",
    "propertyNames",
];

/// Keywords that change which answers there are.
const UNSUPPORTED: [&str; 10] = [
    "patternProperties",
    "prefixItems",
    "additionalItems",
    "if",
    "then",
    "else",
    "not",
    "dependentRequired",
    "dependentSchemas",
    "unevaluatedProperties",
];

/// Formats of strings that Claude knows.
const FORMATS: [&str; 10] = [
    "date-time",
    "time",
    "date",
    "duration",
    "email",
    "hostname",
    "uri",
    "ipv4",
    "ipv6",
    "uuid",
];

pub(crate) fn claude_schema(raw: &str) -> ClaudeSchema {
    let top = entries(raw);
    let definitions = ["$defs", "definitions"].map(|key| value(&top, key).map(entries));
    let definitions: Vec<_> = definitions.into_iter().flatten().flatten().collect();
    let mut schema = ClaudeSchema::default();
    if definitions
        .iter()
        .any(|(name, _)| reaches(&definitions, name))
    {
        schema.unsupported = Some("recursive");
    }
    let mut w = Writer::with_capacity(raw.len() + 64);
    schema.write(raw, &mut w);
    schema.json = w.into_string();
    schema
}

/// Whether a definition refers to itself, through whatever others.
fn reaches(definitions: &[(&str, &str)], name: &str) -> bool {
    let mut seen: Vec<&str> = Vec::new();
    let mut waiting = vec![name];
    while let Some(next) = waiting.pop() {
        let Some(schema) = value(definitions, next) else {
            continue;
        };
        for (known, _) in definitions {
            if !refers_to(schema, known) {
                continue;
            }
            if *known == name {
                return true;
            }
            if !seen.contains(known) {
                seen.push(known);
                waiting.push(known);
            }
        }
    }
    false
}

fn refers_to(schema: &str, name: &str) -> bool {
    ["$defs", "definitions"]
        .iter()
        .any(|key| schema.contains(&format!("\"#/{key}/{name}\"")))
}

impl ClaudeSchema {
    fn described(&mut self, keyword: &'static str) {
        if !self.described.contains(&keyword) {
            self.described.push(keyword);
        }
    }

    fn unsupported(&mut self, keyword: &'static str) {
        self.unsupported.get_or_insert(keyword);
    }

    /// Writes a schema, whether it stands at the top or inside.
    fn write(&mut self, raw: &str, w: &mut Writer) {
        if !raw.starts_with('{') {
            return w.raw(raw);
        }
        let found = entries(raw);
        if let Some(target) = value(&found, "$ref") {
            return self.write_reference(target, &found, w);
        }
        if value(&found, "type").is_some_and(|kind| kind.starts_with('['))
            || ["anyOf", "oneOf"]
                .iter()
                .any(|key| value(&found, key).is_some())
        {
            self.unions += 1;
        }
        w.object(|w| {
            let mut lost: Vec<(&str, &str)> = Vec::new();
            for (key, raw) in &found {
                self.write_entry(key, raw, &mut lost, w);
            }
            if is_of_objects(&found) {
                self.close(&found, w);
            }
            write_description(&found, &lost, w);
        });
    }

    /// Claude takes a reference alone, to a definition of the same schema.
    fn write_reference(&mut self, target: &str, found: &[(&str, &str)], w: &mut Writer) {
        match target.trim_matches('"') {
            "#" => self.unsupported("recursive"),
            inner if inner.starts_with("#/$defs/") || inner.starts_with("#/definitions/") => {}
            _ => self.unsupported("$ref"),
        }
        w.object(|w| {
            w.put_raw("$ref", target);
            for key in ["$defs", "definitions"] {
                if let Some(raw) = value(found, key) {
                    self.write_named(key, raw, w);
                }
            }
        });
    }

    fn write_entry<'a>(
        &mut self,
        key: &'a str,
        raw: &'a str,
        lost: &mut Vec<(&'a str, &'a str)>,
        w: &mut Writer,
    ) {
        match key {
            "type" | "title" | "required" | "const" | "default" => w.put_raw(key, raw),
            "properties" => {
                let schemas = entries(raw);
                w.put_object(key, |w| self.write_all(schemas, w));
            }
            "$defs" | "definitions" => self.write_named(key, raw, w),
            "items" if raw.starts_with('[') => self.unsupported("items"),
            "items" => {
                w.key(key);
                self.write(raw, w);
            }
            "anyOf" | "allOf" | "oneOf" => self.write_options(key, raw, w),
            "enum"
                if elements(raw)
                    .iter()
                    .any(|value| value.starts_with(['{', '['])) =>
            {
                self.unsupported("enum of objects");
            }
            "enum" => w.put_raw(key, raw),
            "minItems" if matches!(raw, "0" | "1") => w.put_raw(key, raw),
            "minItems" => {
                self.described("minItems");
                lost.push((key, raw));
            }
            "format" if FORMATS.contains(&raw.trim_matches('"')) => w.put_raw(key, raw),
            "format" => {
                self.described("format");
                lost.push((key, raw));
            }
            "pattern" if is_simple_pattern(raw) => w.put_raw(key, raw),
            "pattern" => {
                self.described("pattern");
                lost.push((key, raw));
            }
            "examples" => lost.push((key, raw)),
            _ => self.lose(key, raw, lost),
        }
    }

    /// Leaves out a keyword that Claude does not know. What is no constraint is no loss.
    fn lose<'a>(&mut self, key: &'a str, raw: &'a str, lost: &mut Vec<(&'a str, &'a str)>) {
        if let Some(keyword) = DESCRIBED.into_iter().find(|keyword| *keyword == key) {
            self.described(keyword);
            lost.push((key, raw));
        } else if let Some(keyword) = UNSUPPORTED.into_iter().find(|keyword| *keyword == key) {
            self.unsupported(keyword);
        }
    }

    fn write_named(&mut self, key: &str, raw: &str, w: &mut Writer) {
        let schemas = entries(raw);
        w.put_object(key, |w| self.write_all(schemas, w));
    }

    fn write_all(&mut self, schemas: Vec<(&str, &str)>, w: &mut Writer) {
        for (name, schema) in schemas {
            w.key(name);
            self.write(schema, w);
        }
    }

    fn write_options(&mut self, key: &str, raw: &str, w: &mut Writer) {
        let options = elements(raw);
        if key == "allOf"
            && options
                .iter()
                .any(|option| value(&entries(option), "$ref").is_some())
        {
            self.unsupported("allOf with $ref");
        }
        let key = match key {
            "oneOf" => {
                self.described("oneOf");
                "anyOf"
            }
            key => key,
        };
        w.put_array(key, |w| {
            options.iter().for_each(|option| self.write(option, w))
        });
    }

    /// Closes an object. One that is open on purpose, or has no properties of its own, cannot be
    /// expressed; one that merely allows more can.
    fn close(&mut self, found: &[(&str, &str)], w: &mut Writer) {
        let properties = value(found, "properties").map(entries).unwrap_or_default();
        let required = value(found, "required").map(elements).unwrap_or_default();
        let is_optional = |name: &str| !required.iter().any(|raw| raw.trim_matches('"') == name);
        self.optional += properties
            .iter()
            .filter(|(name, _)| is_optional(name))
            .count();
        match value(found, "additionalProperties") {
            Some("false") => {}
            Some("true") if !properties.is_empty() => self.described("additionalProperties"),
            None if !properties.is_empty() => {}
            Some(_) => self.unsupported("additionalProperties"),
            None => self.unsupported("object without properties"),
        }
        w.put("additionalProperties", false);
    }
}

/// Writes the description with the constraints that have no other place.
fn write_description(found: &[(&str, &str)], lost: &[(&str, &str)], w: &mut Writer) {
    let said = value(found, "description").and_then(text_of);
    if lost.is_empty() {
        return w.put_some("description", said);
    }
    let mut description = said.map_or(String::new(), |said| format!("{}\\n\\n", said.as_escaped()));
    let mut separator = "{";
    for (key, raw) in lost {
        description.push_str(separator);
        let constraint = format!("{key}: {raw}");
        description.push_str(Text::plain(&constraint).as_escaped());
        separator = ", ";
    }
    description.push('}');
    w.put("description", Text::escaped(&description));
}

/// Whether Claude takes a regular expression: no look-around, no references back, no boundaries of
/// words.
fn is_simple_pattern(raw: &str) -> bool {
    let pattern = text_of(raw);
    let pattern = pattern
        .as_ref()
        .and_then(Text::unescape)
        .unwrap_or_default();
    let mut escaped = false;
    let has_odd_escape = pattern.chars().any(|c| {
        let is_odd = escaped && (c.is_ascii_digit() || matches!(c, 'b' | 'B' | 'k' | 'p' | 'P'));
        escaped = !escaped && c == '\\';
        is_odd
    });
    !pattern.is_empty() && !has_odd_escape && !pattern.contains("(?")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn converted(schema: &Value) -> (Value, ClaudeSchema) {
        let found = claude_schema(&schema.to_string());
        (serde_json::from_str(&found.json).unwrap(), found)
    }

    #[test]
    fn every_object_is_closed_wherever_it_stands() {
        let object =
            json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]});
        let schema = json!({
            "type": "object",
            "$defs": {"D": object},
            "properties": {
                "list": {"type": "array", "items": object},
                "either": {"anyOf": [object, {"type": "null"}]},
                "both": {"allOf": [object]},
                "or": {"type": ["object", "null"], "properties": {"a": {"type": "string"}}},
                "untyped": {"properties": {"a": {"type": "string"}}},
                "def": {"$ref": "#/$defs/D"}}});
        let (closed, found) = converted(&schema);
        assert_eq!(
            closed
                .to_string()
                .matches(r#""additionalProperties":false"#)
                .count(),
            7
        );
        assert_eq!((found.unsupported, found.described), (None, vec![]));
        assert_eq!(found.optional, 8);
    }

    #[test]
    fn constraints_move_into_the_description() {
        let schema = json!({"type": "object", "additionalProperties": false, "required": ["n", "s", "p"], "properties": {
            "n": {"type": "integer", "minimum": 1, "maximum": 9, "description": "How \"many\""},
            "s": {"type": "string", "maxLength": 3, "format": "uuid", "pattern": "^a\\d$"},
            "p": {"type": "string", "pattern": "(?=x)", "format": "regex"}}});
        let (converted, found) = converted(&schema);
        let properties = &converted["properties"];
        assert_eq!(
            properties["n"],
            json!({"type": "integer", "description": "How \"many\"\n\n{maximum: 9, minimum: 1}"})
        );
        assert_eq!(
            properties["s"],
            json!({"type": "string", "format": "uuid", "pattern": "^a\\d$", "description": "{maxLength: 3}"})
        );
        assert_eq!(
            properties["p"]["description"],
            "{format: \"regex\", pattern: \"(?=x)\"}"
        );
        assert_eq!(
            found.described,
            ["maximum", "minimum", "format", "pattern", "maxLength"]
        );
    }

    #[test]
    fn what_claude_cannot_express_is_named() {
        let object = |rest: Value| {
            let mut schema = json!({"type": "object", "properties": {"a": rest}});
            schema["required"] = json!(["a"]);
            schema
        };
        for (schema, named) in [
            (json!({"type": "object"}), "object without properties"),
            (
                object(json!({"type": "object", "additionalProperties": {"type": "string"}})),
                "additionalProperties",
            ),
            (
                object(json!({"type": "array", "prefixItems": []})),
                "prefixItems",
            ),
            (
                object(json!({"$ref": "https://example.com/s.json"})),
                "$ref",
            ),
            (object(json!({"$ref": "#"})), "recursive"),
            (object(json!({"enum": [{"a": 1}]})), "enum of objects"),
            (
                object(json!({"type": "string", "not": {"const": "x"}})),
                "not",
            ),
            (
                json!({"$defs": {"A": {"type": "array", "items": {"$ref": "#/$defs/B"}}, "B": {"$ref": "#/$defs/A"}}, "$ref": "#/$defs/A"}),
                "recursive",
            ),
        ] {
            assert_eq!(converted(&schema).1.unsupported, Some(named), "{schema}");
        }
    }
}
