//! The JSON schemas of tools and answers.

use serde_json::{Map, Value};

use super::{ApiRule, FieldPath, Violation, broken};

/// What an API wants of the schemas under it.
#[derive(Clone, Copy, Debug)]
pub(super) struct SchemaRules {
    pub(super) rule: ApiRule,
    /// Keywords that it refuses.
    pub(super) refused: &'static [&'static str],
    /// Whether every object needs `additionalProperties: false`.
    pub(super) closed: bool,
    /// Whether every property must be listed in `required`.
    pub(super) all_required: bool,
}

const TYPES: [&str; 7] = [
    "object", "array", "string", "number", "integer", "boolean", "null",
];

/// What is done with each schema.
type Visit<'v> = dyn FnMut(&Map<String, Value>, &FieldPath) -> Result<(), Violation> + 'v;

/// Calls `visit` for a schema and all schemas in it.
pub(super) fn each(
    schema: &Value,
    path: &FieldPath,
    visit: &mut Visit<'_>,
) -> Result<(), Violation> {
    let Some(object) = schema.as_object() else {
        return Ok(());
    };
    visit(object, path)?;
    for (keyword, value) in object {
        let path = path.key(keyword);
        match (keyword.as_str(), value) {
            ("properties" | "$defs" | "definitions" | "patternProperties", Value::Object(map)) => {
                for (name, schema) in map {
                    each(schema, &path.key(name), visit)?;
                }
            }
            ("anyOf" | "oneOf" | "allOf" | "prefixItems", Value::Array(schemas)) => {
                for (index, schema) in schemas.iter().enumerate() {
                    each(schema, &path.at(index), visit)?;
                }
            }
            ("items" | "not" | "additionalProperties" | "if" | "then" | "else", schema) => {
                each(schema, &path, visit)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether a schema is one of draft 2020-12, as far as the types of its keywords go.
pub(super) fn valid(schema: &Value, path: &FieldPath, rule: ApiRule) -> Result<(), Violation> {
    each(schema, path, &mut |object, path| {
        for (keyword, value) in object {
            let fits = match keyword.as_str() {
                "type" => is_type(value),
                "properties" | "$defs" | "patternProperties" => value
                    .as_object()
                    .is_some_and(|map| map.values().all(is_schema)),
                "required" => is_texts(value),
                "enum" => value.is_array(),
                "items" | "additionalProperties" | "not" => is_schema(value),
                "anyOf" | "oneOf" | "allOf" => value
                    .as_array()
                    .is_some_and(|all| !all.is_empty() && all.iter().all(is_schema)),
                "description" | "title" | "pattern" | "format" | "$ref" => value.is_string(),
                "minimum" | "maximum" | "multipleOf" => value.is_number(),
                "exclusiveMinimum" | "exclusiveMaximum" => value.is_number(),
                "minItems" | "maxItems" | "minLength" | "maxLength" => value.is_u64(),
                _ => true,
            };
            if !fits {
                let problem = format!("is no valid `{keyword}` of JSON Schema draft 2020-12");
                return broken(rule, path.key(keyword), problem);
            }
        }
        Ok(())
    })
}

fn is_schema(value: &Value) -> bool {
    value.is_object() || value.is_boolean()
}

fn is_texts(value: &Value) -> bool {
    value
        .as_array()
        .is_some_and(|all| all.iter().all(Value::is_string))
}

fn is_type(value: &Value) -> bool {
    let known = |value: &Value| value.as_str().is_some_and(|name| TYPES.contains(&name));
    match value {
        Value::Array(all) => !all.is_empty() && all.iter().all(known),
        one => known(one),
    }
}

fn has_type(object: &Map<String, Value>, wanted: &str) -> bool {
    match object.get("type") {
        Some(Value::Array(all)) => all.iter().any(|one| one == wanted),
        Some(one) => one == wanted,
        None => false,
    }
}

/// What an API wants of a schema that the model must follow to the letter.
pub(super) fn strict(
    schema: &Value,
    path: &FieldPath,
    rules: &SchemaRules,
) -> Result<(), Violation> {
    each(schema, path, &mut |object, path| {
        if let Some(keyword) = object
            .keys()
            .find(|key| rules.refused.contains(&key.as_str()))
        {
            let problem = format!("`{keyword}` is not permitted");
            return broken(rules.rule, path.key(keyword), problem);
        }
        let properties = object.get("properties").and_then(Value::as_object);
        if !has_type(object, "object") && properties.is_none() {
            return Ok(());
        }
        let closed = object.get("additionalProperties") == Some(&Value::Bool(false));
        if rules.closed && !closed {
            let problem = "`additionalProperties` is required and must be false";
            return broken(rules.rule, path.clone(), problem);
        }
        let required = object.get("required").and_then(Value::as_array);
        let is_required =
            |name: &String| required.is_some_and(|all| all.iter().any(|one| one == name));
        let missing = properties.and_then(|all| all.keys().find(|name| !is_required(name)));
        match missing {
            Some(name) if rules.all_required => {
                let problem = format!("`required` must list every property, and lacks '{name}'");
                broken(rules.rule, path.clone(), problem)
            }
            _ => Ok(()),
        }
    })
}
