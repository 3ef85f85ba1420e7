//! The check that text is JSON at all.

use serde::de::IgnoredAny;

/// The text of a JSON value, without blanks around it, or why the bytes are none.
pub(crate) fn valid(bytes: &[u8]) -> Result<&str, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| error.to_string())?;
    Ok(text.trim_ascii())
}
