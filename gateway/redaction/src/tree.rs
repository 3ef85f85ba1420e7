//! A JSON body as a tree that can be searched and shortened.
//!
//! Its fields keep their order. Lists of numbers are counted and not kept: vectors and token ids hold
//! text in a form that cannot be searched. A body with too many values is refused, so that a small one
//! cannot take much memory.

use std::cell::Cell;
use std::fmt::{self, Write};

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

use crate::caps::{NUMBERS_MAX, READ_BYTES_MAX, VALUES_MAX};
use crate::kept::Omitted;

/// Name of a field that holds tokens one by one, across which a secret would not be found.
const TOKENS: &str = "logprobs";

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Tree {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Self>),
    Object(Vec<(String, Self)>),
}

impl Tree {
    pub(crate) fn read(body: &[u8]) -> Result<Self, Omitted> {
        if body.len() > READ_BYTES_MAX {
            return Err(Omitted::TooLarge);
        }
        let left = Cell::new(VALUES_MAX);
        let mut json = serde_json::Deserializer::from_slice(body);
        let read = TreeReader { left: &left }.deserialize(&mut json);
        let read = read.and_then(|tree| json.end().map(|()| tree));
        read.map_err(|_| match left.get() {
            0 => Omitted::TooLarge,
            _ => Omitted::Unreadable,
        })
    }

    /// The JSON, with texts and lists shortened until it fits, and whether they were. `None` if it
    /// cannot be made to fit.
    pub(crate) fn write_within(&self, bytes_max: usize) -> Option<(String, bool)> {
        const SHORTER: [Shortening; 8] = [
            Shortening::new(usize::MAX, usize::MAX),
            Shortening::new(16_384, usize::MAX),
            Shortening::new(4_096, usize::MAX),
            Shortening::new(1_024, usize::MAX),
            Shortening::new(256, usize::MAX),
            Shortening::new(256, 64),
            Shortening::new(64, 16),
            Shortening::new(16, 4),
        ];
        SHORTER.iter().enumerate().find_map(|(round, shortening)| {
            let mut out = Bounded {
                json: String::new(),
                bytes_max,
            };
            self.write(shortening, &mut out).ok()?;
            Some((out.json, round > 0))
        })
    }

    fn write(&self, shortening: &Shortening, out: &mut Bounded) -> fmt::Result {
        match self {
            Self::Null => out.write_str("null"),
            Self::Bool(value) => write!(out, "{value}"),
            Self::Number(number) => write!(out, "{number}"),
            Self::Text(text) => write_shortened(text, shortening.text_bytes, out),
            Self::List(items) => {
                let spared = items
                    .len()
                    .saturating_sub(shortening.items.saturating_mul(2));
                out.write_char('[')?;
                for (number, item) in items.iter().enumerate() {
                    let is_spared = spared > 0
                        && (shortening.items..items.len() - shortening.items).contains(&number);
                    if is_spared && number > shortening.items {
                        continue;
                    }
                    if number > 0 {
                        out.write_char(',')?;
                    }
                    if is_spared {
                        write!(out, "\"[{spared} items left out]\"")?;
                    } else {
                        item.write(shortening, out)?;
                    }
                }
                out.write_char(']')
            }
            Self::Object(fields) => {
                out.write_char('{')?;
                for (number, (name, value)) in fields.iter().enumerate() {
                    if number > 0 {
                        out.write_char(',')?;
                    }
                    write_shortened(name, shortening.text_bytes, out)?;
                    out.write_char(':')?;
                    value.write(shortening, out)?;
                }
                out.write_char('}')
            }
        }
    }

    /// The text of one of an object's fields.
    pub(crate) fn text_of(&self, wanted: &str) -> Option<&str> {
        let Self::Object(fields) = self else {
            return None;
        };
        fields.iter().find_map(|(name, value)| match value {
            Self::Text(text) if name == wanted => Some(text.as_str()),
            _ => None,
        })
    }

    /// Size of its texts.
    pub(crate) fn text_bytes(&self) -> usize {
        match self {
            Self::Null | Self::Bool(_) | Self::Number(_) => 0,
            Self::Text(text) => text.len(),
            Self::List(items) => items.iter().map(Self::text_bytes).sum(),
            Self::Object(fields) => fields
                .iter()
                .map(|(name, value)| name.len() + value.text_bytes())
                .sum(),
        }
    }
}

/// How much of long texts and lists is written.
struct Shortening {
    text_bytes: usize,
    /// Items kept at the start of a list, and at its end.
    items: usize,
}

impl Shortening {
    const fn new(text_bytes: usize, items: usize) -> Self {
        Self { text_bytes, items }
    }
}

/// Fails as soon as it would grow too large.
struct Bounded {
    json: String,
    bytes_max: usize,
}

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if text.len() > self.bytes_max - self.json.len() {
            return Err(fmt::Error);
        }
        self.json.push_str(text);
        Ok(())
    }
}

fn write_shortened(text: &str, bytes_max: usize, out: &mut Bounded) -> fmt::Result {
    out.write_char('"')?;
    if text.len() <= bytes_max {
        write_escaped(text, out)?;
    } else {
        let kept = text.floor_char_boundary(bytes_max);
        write_escaped(&text[..kept], out)?;
        write!(out, "… [{} bytes left out]", text.len() - kept)?;
    }
    out.write_char('"')
}

fn write_escaped(text: &str, out: &mut Bounded) -> fmt::Result {
    let mut from = 0;
    for (at, byte) in text.bytes().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.write_str(&text[from..at])?;
        match byte {
            b'"' => out.write_str("\\\"")?,
            b'\\' => out.write_str("\\\\")?,
            b'\n' => out.write_str("\\n")?,
            b'\r' => out.write_str("\\r")?,
            b'\t' => out.write_str("\\t")?,
            other => write!(out, "\\u{other:04x}")?,
        }
        from = at + 1;
    }
    out.write_str(&text[from..])
}

#[derive(Clone, Copy)]
struct TreeReader<'a> {
    /// Values that may still be read.
    left: &'a Cell<usize>,
}

impl TreeReader<'_> {
    fn count<E: serde::de::Error>(self) -> Result<(), E> {
        match self.left.get() {
            0 => Err(E::custom("too many values")),
            left => {
                self.left.set(left - 1);
                Ok(())
            }
        }
    }
}

impl<'de> DeserializeSeed<'de> for TreeReader<'_> {
    type Value = Tree;

    fn deserialize<D: serde::Deserializer<'de>>(self, json: D) -> Result<Tree, D::Error> {
        self.count()?;
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for TreeReader<'_> {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
        Ok(Number::from_f64(value).map_or(Tree::Null, Tree::Number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Tree, E> {
        Ok(Tree::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element_seed(self)? {
            items.push(item);
            let is_numbers = items.len() > NUMBERS_MAX
                && items.iter().all(|item| matches!(item, Tree::Number(_)));
            if is_numbers {
                let mut count = items.len();
                while list.next_element::<IgnoredAny>()?.is_some() {
                    count += 1;
                }
                return Ok(Tree::Text(format!("[{count} numbers]")));
            }
        }
        Ok(Tree::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut fields = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            self.count()?;
            let value = map.next_value_seed(self)?;
            let value = match value {
                Tree::Object(_) | Tree::List(_) if name == TOKENS => {
                    Tree::Text("[left out]".into())
                }
                value => value,
            };
            fields.push((name, value));
        }
        Ok(Tree::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &str, bytes_max: usize, expected: &str) {
        let tree = Tree::read(json.as_bytes()).unwrap();
        let (written, is_truncated) = tree.write_within(bytes_max).unwrap();
        assert_eq!(written, expected);
        assert_eq!(is_truncated, json.len() > bytes_max);
        assert!(written.len() <= bytes_max);
    }

    #[test]
    fn a_body_is_written_as_it_was_read() {
        let json = r#"{"z":[1,-2,0.5],"a":{"é":"\"\\\n\u0001","n":null,"b":true},"z":"again"}"#;
        check(json, 1000, json);
    }

    #[test]
    fn what_is_too_long_is_shortened_and_stays_json() {
        let long = "é".repeat(4000);
        let json = format!(r#"{{"model":"m","content":"{long}"}}"#);
        let kept = "é".repeat(2048);
        let expected = format!(r#"{{"model":"m","content":"{kept}… [3904 bytes left out]"}}"#);
        check(&json, 5000, &expected);
        let items: Vec<String> = (0..200)
            .map(|number| format!("\"item {number}\""))
            .collect();
        let json = format!("[{}]", items.join(","));
        let expected = format!(
            "[{},\"[72 items left out]\",{}]",
            items[..64].join(","),
            items[136..].join(",")
        );
        check(&json, 1900, &expected);
        assert_eq!(Tree::read(b"[[],{}]").unwrap().write_within(5), None);
    }

    #[test]
    fn vectors_token_ids_and_probabilities_are_left_out() {
        check(
            "{\"input\":[[1,2,3,4,5,6],[7]],\"logprobs\":[{\"token\":\"a\"}]}",
            100,
            "{\"input\":[\"[6 numbers]\",[7]],\"logprobs\":\"[left out]\"}",
        );
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for bad in ["", "{", "{\"a\":1}x", "nope", "\"\\ud800\""] {
            assert_eq!(
                Tree::read(bad.as_bytes()).err(),
                Some(Omitted::Unreadable),
                "{bad}"
            );
        }
        assert_eq!(Tree::read(b"\"\xff\"").err(), Some(Omitted::Unreadable));
        let deep = "[".repeat(10_000);
        assert_eq!(Tree::read(deep.as_bytes()).err(), Some(Omitted::Unreadable));
        let many = format!("[{}[]]", "[],".repeat(300_000));
        assert_eq!(Tree::read(many.as_bytes()).err(), Some(Omitted::TooLarge));
        let large = vec![b' '; READ_BYTES_MAX + 1];
        assert_eq!(Tree::read(&large).err(), Some(Omitted::TooLarge));
    }
}
