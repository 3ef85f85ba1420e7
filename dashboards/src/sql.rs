//! Values as SQL literals. What is shown as SQL is what ran: values are put into the statement, and this
//! is the one place where a text becomes a part of it.

use std::fmt::Write as _;

use crate::error::ConsoleError;

/// A text as a literal. Whatever ends a literal or begins an escape is escaped, and so is what a terminal
/// or an editor would not show.
pub(crate) fn literal(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('\'');
    for character in text.chars() {
        match character {
            '\\' | '\'' => quoted.extend(['\\', character]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            control if control.is_ascii_control() => {
                _ = write!(quoted, "\\x{:02X}", u32::from(control));
            }
            plain => quoted.push(plain),
        }
    }
    quoted.push('\'');
    quoted
}

/// A value of a type: `{name:Type}` in a statement.
pub(crate) fn value(text: &str, of_type: &str) -> String {
    match of_type {
        "String" => literal(text),
        _ => format!("CAST({}, {})", literal(text), literal(of_type)),
    }
}

/// Whether a text is a value of a type. What the types are that parameters of queries may have.
pub(crate) fn check(name: &str, text: &str, of_type: &str) -> Result<(), ConsoleError> {
    let is_valid = match of_type {
        "UUID" => text.len() == 36 && uuid::Uuid::try_parse(text).is_ok(),
        "UInt64" => text.parse::<u64>().is_ok() && !text.starts_with('+'),
        _ => true,
    };
    match is_valid {
        true => Ok(()),
        false => Err(ConsoleError::invalid(format!("{name} is no {of_type}"))),
    }
}

/// Puts something in the place of each `{name:Type}`.
pub(crate) fn fill(
    sql: &str,
    mut value_of: impl FnMut(&str, &str) -> Result<String, ConsoleError>,
) -> Result<String, ConsoleError> {
    let mut filled = String::with_capacity(sql.len() * 2);
    let mut rest = sql;
    while let Some(start) = rest.find('{') {
        let (before, from_brace) = rest.split_at(start);
        filled.push_str(before);
        let inner = from_brace.split_once('}').map(|(inner, _)| &inner[1..]);
        let parameter = inner.and_then(|inner| Some((inner, inner.split_once(':')?)));
        match parameter {
            Some((inner, (name, of_type))) if is_name(name) => {
                filled.push_str(&value_of(name, of_type)?);
                rest = &from_brace[inner.len() + 2..];
            }
            _ => {
                filled.push('{');
                rest = &from_brace[1..];
            }
        }
    }
    filled.push_str(rest);
    Ok(filled)
}

fn is_name(name: &str) -> bool {
    let is_of_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    !name.is_empty() && name.bytes().all(is_of_name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_text_stays_a_literal() {
        assert_eq!(literal(r"o'hara\"), r"'o\'hara\\'");
        assert_eq!(literal("a\n\0b"), r"'a\n\x00b'");
        assert_eq!(value("1", "UInt64"), "CAST('1', 'UInt64')");
        assert_eq!(
            value("2026", "DateTime64(6, 'UTC')"),
            r"CAST('2026', 'DateTime64(6, \'UTC\')')"
        );
    }

    #[test]
    fn parameters_are_filled_and_other_braces_stay() {
        let filled = fill("{a:String} {{b:UInt64} '{1,2}' {", |name, of_type| {
            Ok(format!("<{name} {of_type}>"))
        });
        assert_eq!(filled.unwrap(), "<a String> {<b UInt64> '{1,2}' {");
    }

    #[test]
    fn values_are_checked_by_type() {
        let uuid = "01890a5d-ac96-774b-bcce-b302099a8057";
        assert!(check("id", uuid, "UUID").is_ok());
        for wrong in ["", "1", "01890a5d'ac96-774b-bcce-b302099a8057"] {
            assert!(check("id", wrong, "UUID").is_err(), "{wrong}");
        }
        assert!(check("n", "18446744073709551615", "UInt64").is_ok());
        for wrong in ["", "-1", "+1", "1 OR 1"] {
            assert!(check("n", wrong, "UInt64").is_err(), "{wrong}");
        }
    }

    proptest! {
        /// Read as ClickHouse reads it: a backslash takes the next character along.
        #[test]
        fn nothing_leaves_a_literal(text in ".*") {
            let quoted = literal(&text);
            let inner = quoted.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')).unwrap();
            let mut characters = inner.chars();
            while let Some(character) = characters.next() {
                prop_assert_ne!(character, '\'');
                if character == '\\' {
                    prop_assert!(characters.next().is_some());
                }
            }
        }
    }
}
