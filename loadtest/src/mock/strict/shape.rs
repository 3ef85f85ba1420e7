//! What a JSON value must look like, as a table: fields, types, ranges and enumerations.
//!
//! What depends on more than one value (order, pairs, models) is code in the file of its API.

use serde_json::{Map, Value};

use super::{ApiRule, Complaint, FieldPath, Violation};

/// An object's fields, and the page that lists them.
#[derive(Debug)]
pub(super) struct Shape {
    source: &'static str,
    fields: &'static [Field],
    /// Whether it has fields besides that no rule here is about.
    open: bool,
}

/// An object that has these fields and no others.
pub(super) const fn closed(source: &'static str, fields: &'static [Field]) -> Shape {
    Shape {
        source,
        fields,
        open: false,
    }
}

/// An object of which only these fields are checked.
pub(super) const fn open(source: &'static str, fields: &'static [Field]) -> Shape {
    Shape {
        source,
        fields,
        open: true,
    }
}

#[derive(Debug)]
pub(super) struct Field {
    name: &'static str,
    kind: ValueShape,
    need: Need,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    Optional,
    /// Optional, and null is taken for absent.
    Nullable,
    Required,
}

/// What a value may be.
#[derive(Debug)]
pub(super) enum ValueShape {
    Any,
    Bool,
    Text,
    /// At least and at most so many characters.
    Sized(usize, usize),
    /// A name: these many characters at most, all letters, digits or of the given others.
    Name(usize, &'static str),
    Whole(i64, i64),
    Number(f64, f64),
    OneOf(&'static [&'static str]),
    /// So many items at least and at most.
    List(&'static ValueShape, usize, usize),
    Object(&'static Shape),
    /// An object with any names.
    Map(&'static ValueShape),
    /// An object whose field names its shape; with the field.
    Tagged(&'static str, &'static [(&'static str, &'static Shape)]),
    /// The same; an object without the field is of the named shape.
    TaggedOr(
        &'static str,
        &'static str,
        &'static [(&'static str, &'static Shape)],
    ),
    /// The first of these that has the value's JSON type.
    Either(&'static [ValueShape]),
}

pub(super) const COUNT: ValueShape = ValueShape::Whole(0, i64::MAX);
pub(super) const POSITIVE: ValueShape = ValueShape::Whole(1, i64::MAX);
pub(super) const MAP: ValueShape = ValueShape::Map(&ValueShape::Any);
pub(super) const TEXTS: ValueShape = ValueShape::List(&ValueShape::Text, 0, usize::MAX);

pub(super) const fn opt(name: &'static str, kind: ValueShape) -> Field {
    let need = Need::Optional;
    Field { name, kind, need }
}

pub(super) const fn nul(name: &'static str, kind: ValueShape) -> Field {
    let need = Need::Nullable;
    Field { name, kind, need }
}

pub(super) const fn req(name: &'static str, kind: ValueShape) -> Field {
    let need = Need::Required;
    Field { name, kind, need }
}

/// A field that holds what its object is: `"type": "text"`.
pub(super) const fn tag(name: &'static str) -> Field {
    req(name, ValueShape::Text)
}

/// How an API takes what its documentation does not list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unknown {
    Refused,
    Ignored,
}

/// A walk over a request, by the habits of one API.
#[derive(Clone, Copy, Debug)]
pub(super) struct ShapeCheck {
    pub(super) unknown: Unknown,
    /// Whether null is always taken for absent.
    pub(super) null_is_absent: bool,
}

const fn rule(name: &'static str, source: &'static str) -> ApiRule {
    ApiRule { name, source }
}

impl ShapeCheck {
    pub(super) fn object(
        self,
        shape: &Shape,
        value: &Value,
        path: &FieldPath,
    ) -> Result<(), Violation> {
        let Some(object) = value.as_object() else {
            return Err(wrong_type(shape.source, path, "an object", value));
        };
        for field in shape.fields {
            self.field(shape, field, object, path)?;
        }
        if self.unknown == Unknown::Refused && !shape.open {
            let unknown = object
                .keys()
                .find(|key| !shape.fields.iter().any(|field| field.name == *key));
            if let Some(key) = unknown {
                let rule = rule("unknown-field", shape.source);
                return Err(Violation::new(rule, path.key(key), Complaint::Unknown));
            }
        }
        Ok(())
    }

    fn field(
        self,
        shape: &Shape,
        field: &Field,
        object: &Map<String, Value>,
        path: &FieldPath,
    ) -> Result<(), Violation> {
        let path = || path.key(field.name);
        match object.get(field.name) {
            None if field.need == Need::Required => {
                let rule = rule("required-field", shape.source);
                Err(Violation::new(rule, path(), Complaint::Missing))
            }
            None => Ok(()),
            Some(Value::Null) if field.need == Need::Nullable => Ok(()),
            Some(Value::Null) if self.null_is_absent && field.need == Need::Optional => Ok(()),
            Some(value) => self.kind(&field.kind, value, &path(), shape.source),
        }
    }

    pub(super) fn kind(
        self,
        kind: &ValueShape,
        value: &Value,
        path: &FieldPath,
        source: &'static str,
    ) -> Result<(), Violation> {
        let wrong = |expected| Err(wrong_type(source, path, expected, value));
        match (kind, value) {
            (ValueShape::Any, _)
            | (ValueShape::Bool, Value::Bool(_))
            | (ValueShape::Text, Value::String(_)) => Ok(()),
            (ValueShape::Bool, _) => wrong("a boolean"),
            (ValueShape::Sized(min, max), Value::String(text)) => {
                within(text.chars().count(), *min, *max, "characters", source, path)
            }
            (ValueShape::Name(max, others), Value::String(text)) => {
                name(text, *max, others, source, path)
            }
            (ValueShape::OneOf(values), Value::String(text)) => one_of(text, values, source, path),
            (
                ValueShape::Text
                | ValueShape::Sized(..)
                | ValueShape::Name(..)
                | ValueShape::OneOf(_),
                _,
            ) => wrong("a string"),
            (ValueShape::Whole(min, max), Value::Number(number)) => {
                whole(number, *min, *max, source, path)
            }
            (ValueShape::Whole(..), _) => wrong("an integer"),
            (ValueShape::Number(min, max), Value::Number(number)) => {
                let number = number.as_f64().unwrap_or(f64::NAN);
                range((*min..=*max).contains(&number), min, max, source, path)
            }
            (ValueShape::Number(..), _) => wrong("a number"),
            (ValueShape::List(kind, min, max), Value::Array(items)) => {
                within(items.len(), *min, *max, "items", source, path)?;
                self.items(kind, items, path, source)
            }
            (ValueShape::List(..), _) => wrong("an array"),
            (ValueShape::Object(shape), _) => self.object(shape, value, path),
            (ValueShape::Map(kind), Value::Object(map)) => map
                .iter()
                .try_for_each(|(key, value)| self.kind(kind, value, &path.key(key), source)),
            (ValueShape::Map(_), _) => wrong("an object"),
            (ValueShape::Tagged(tag, shapes), _) => {
                self.tagged((tag, None), shapes, value, path, source)
            }
            (ValueShape::TaggedOr(tag, absent, shapes), _) => {
                self.tagged((tag, Some(absent)), shapes, value, path, source)
            }
            (ValueShape::Either(kinds), _) => {
                match kinds.iter().find(|kind| kind.has_type_of(value)) {
                    Some(kind) => self.kind(kind, value, path, source),
                    None => wrong("another type"),
                }
            }
        }
    }

    fn items(
        self,
        kind: &ValueShape,
        items: &[Value],
        path: &FieldPath,
        source: &'static str,
    ) -> Result<(), Violation> {
        items
            .iter()
            .enumerate()
            .try_for_each(|(index, item)| self.kind(kind, item, &path.at(index), source))
    }

    fn tagged(
        self,
        (tag, absent): (&str, Option<&str>),
        shapes: &[(&str, &Shape)],
        value: &Value,
        path: &FieldPath,
        source: &'static str,
    ) -> Result<(), Violation> {
        let Some(object) = value.as_object() else {
            return Err(wrong_type(source, path, "an object", value));
        };
        let found = match (object.get(tag), absent) {
            (Some(Value::String(found)), _) => found.as_str(),
            (Some(found), _) => {
                return Err(wrong_type(source, &path.key(tag), "a string", found));
            }
            (None, Some(absent)) => absent,
            (None, None) => {
                let rule = rule("required-field", source);
                return Err(Violation::new(rule, path.key(tag), Complaint::Missing));
            }
        };
        match shapes.iter().find(|(name, _)| *name == found) {
            Some((_, shape)) => self.object(shape, value, path),
            None => {
                let names: Vec<_> = shapes.iter().map(|(name, _)| *name).collect();
                one_of(found, &names, source, &path.key(tag))
            }
        }
    }
}

impl ValueShape {
    fn has_type_of(&self, value: &Value) -> bool {
        match self {
            Self::Any => true,
            Self::Bool => value.is_boolean(),
            Self::Text | Self::Sized(..) | Self::Name(..) | Self::OneOf(_) => value.is_string(),
            Self::Whole(..) | Self::Number(..) => value.is_number(),
            Self::List(..) => value.is_array(),
            Self::Object(_) | Self::Map(_) | Self::Tagged(..) | Self::TaggedOr(..) => {
                value.is_object()
            }
            Self::Either(kinds) => kinds.iter().any(|kind| kind.has_type_of(value)),
        }
    }
}

/// What a value is, in the words of JSON Schema.
pub(super) fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a decimal",
        Value::Number(_) => "an integer",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

fn wrong_type(
    source: &'static str,
    path: &FieldPath,
    expected: &'static str,
    found: &Value,
) -> Violation {
    let found = type_of(found);
    let problem = Complaint::Type { expected, found };
    Violation::new(rule("type", source), path.clone(), problem)
}

fn value(source: &'static str, path: &FieldPath, problem: String) -> Violation {
    Violation::new(
        rule("value", source),
        path.clone(),
        Complaint::Value(problem),
    )
}

fn within(
    found: usize,
    min: usize,
    max: usize,
    what: &str,
    source: &'static str,
    path: &FieldPath,
) -> Result<(), Violation> {
    if found < min {
        let problem = format!("has {found} {what}, at least {min} are needed");
        return Err(value(source, path, problem));
    }
    if found > max {
        let problem = format!("has {found} {what}, at most {max} are allowed");
        return Err(value(source, path, problem));
    }
    Ok(())
}

fn name(
    text: &str,
    max: usize,
    others: &str,
    source: &'static str,
    path: &FieldPath,
) -> Result<(), Violation> {
    within(text.chars().count(), 1, max, "characters", source, path)?;
    let strange = text
        .chars()
        .find(|c| !c.is_ascii_alphanumeric() && !others.contains(*c));
    match strange {
        None => Ok(()),
        Some(c) => {
            let problem = format!("holds {c:?}; allowed are letters, digits and {others:?}");
            Err(value(source, path, problem))
        }
    }
}

fn one_of(
    text: &str,
    values: &[&str],
    source: &'static str,
    path: &FieldPath,
) -> Result<(), Violation> {
    if values.contains(&text) {
        return Ok(());
    }
    let problem = format!("is '{text}'; supported values are: {}", values.join(", "));
    Err(value(source, path, problem))
}

fn whole(
    number: &serde_json::Number,
    min: i64,
    max: i64,
    source: &'static str,
    path: &FieldPath,
) -> Result<(), Violation> {
    let is_whole = number.is_i64() || number.is_u64();
    // What is beyond i64 fits where nothing is too large.
    let fits = match number.as_i64() {
        Some(number) => (min..=max).contains(&number),
        None => max == i64::MAX,
    };
    match max {
        _ if !is_whole => {}
        i64::MAX if fits => return Ok(()),
        i64::MAX => {
            let problem = Complaint::Value(format!("must be at least {min}"));
            return Err(Violation::new(rule("range", source), path.clone(), problem));
        }
        _ => return range(fits, &min, &max, source, path),
    }
    Err(wrong_type(
        source,
        path,
        "an integer",
        &Value::Number(number.clone()),
    ))
}

fn range(
    fits: bool,
    min: &dyn std::fmt::Display,
    max: &dyn std::fmt::Display,
    source: &'static str,
    path: &FieldPath,
) -> Result<(), Violation> {
    if fits {
        return Ok(());
    }
    let problem = Complaint::Value(format!("must lie in {min} to {max}"));
    Err(Violation::new(rule("range", source), path.clone(), problem))
}
