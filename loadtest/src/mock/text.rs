//! Text with a known number of tokens, and how prompts are counted.
//!
//! The mock's tokenizer is a rule that anyone can apply: **a prompt has one token for every four bytes of its text, rounded up**
//! (at least one), text being every string under `content`, `text`, `parts`, `input` or `output`, and each number of a
//! token array.
//! An answer of N tokens is N words of a fixed list.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::chance;

/// A power of two, so that choosing is a mask. No word needs escaping in JSON.
const WORDS: [&str; 64] = [
    " the", " river", " runs", " over", " a", " low", " dam", " and", " every", " drop", " is",
    " counted", " once", " before", " it", " goes", " on", " to", " sea", " where", " nobody",
    " asks", " how", " much", " came", " from", " which", " hill", " but", " here", " we", " keep",
    " books", " so", " that", " mill", " can", " pay", " for", " its", " share", " of", " water",
    " when", " month", " ends", " in", " spring", " flood", " stones", " hold", " by", " summer",
    " they", " show", " their", " moss", " still", " count", " goes", " as", " far", " down",
    " weir",
];

/// The `index`th token of answer `number`.
pub(super) fn word(number: u64, index: u32) -> &'static str {
    let at = chance::mix(number, u64::from(index)) & 63;
    // The mask keeps it in range; 0 is never needed.
    WORDS[usize::try_from(at).unwrap_or(0)]
}

/// Text that counts as exactly `tokens` input tokens, for prompts of a given size.
#[must_use]
pub fn filler(tokens: u32) -> String {
    // Four bytes a token; the last is a full stop, so that cutting it anywhere shows.
    let mut text = "dam ".repeat(usize::try_from(tokens).unwrap_or(usize::MAX).max(1));
    text.pop();
    text.push('.');
    text
}

/// How many input tokens so many bytes of text are.
#[must_use]
pub fn input_tokens_of_text(bytes: u64) -> u64 {
    bytes.div_ceil(4).max(1)
}

/// `fp_` and ten hexadecimal digits, one per seed.
pub(super) fn fingerprint(seed: u64) -> String {
    format!("fp_{:010x}", chance::mix(seed, 0) & 0xff_ffff_ffff)
}

/// So many letters and digits that belong to (`seed`, `number`).
pub(super) fn id(seed: u64, number: u64, length: usize) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789xy";
    (0..)
        .flat_map(|part| {
            // Ten characters of six bits from each number.
            let bits = chance::mix(chance::mix(seed, part), number);
            (0..10).map(move |at| usize::try_from(bits >> (6 * at) & 63).unwrap_or(0))
        })
        .take(length)
        .map(|at| char::from(ALPHABET[at]))
        .collect()
}

/// 32 hexadecimal digits that belong to (`seed`, `number`).
pub(super) fn hex(seed: u64, number: u64) -> String {
    let (high, low) = (chance::mix(seed ^ 1, number), chance::mix(seed, number));
    format!("{high:016x}{low:016x}")
}

/// Bytes of prompt text in a JSON value, counted while it is read, without keeping it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PromptBytes(pub(super) u64);

impl<'de> serde::Deserialize<'de> for PromptBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        TextVisitor.deserialize(deserializer).map(Self)
    }
}

/// Sums the text bytes of a value that stands where prompt text may.
#[derive(Clone, Copy)]
struct TextVisitor;

impl<'de> DeserializeSeed<'de> for TextVisitor {
    type Value = u64;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<u64, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for TextVisitor {
    type Value = u64;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("prompt text")
    }

    fn visit_str<E>(self, text: &str) -> Result<u64, E> {
        Ok(text.len() as u64)
    }

    fn visit_u64<E>(self, _token: u64) -> Result<u64, E> {
        // A prompt given as token numbers: each is one token.
        Ok(4)
    }

    fn visit_i64<E>(self, _number: i64) -> Result<u64, E> {
        Ok(0)
    }

    fn visit_f64<E>(self, _number: f64) -> Result<u64, E> {
        Ok(0)
    }

    fn visit_bool<E>(self, _flag: bool) -> Result<u64, E> {
        Ok(0)
    }

    fn visit_unit<E>(self) -> Result<u64, E> {
        Ok(0)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<u64, A::Error> {
        let mut sum = 0;
        while let Some(bytes) = items.next_element_seed(self)? {
            sum += bytes;
        }
        Ok(sum)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<u64, A::Error> {
        let mut sum = 0;
        while let Some(key) = fields.next_key()? {
            if let TextKey::Other = key {
                fields.next_value::<IgnoredAny>()?;
            } else {
                sum += fields.next_value_seed(self)?;
            }
        }
        Ok(sum)
    }
}

/// A key of a message or content part that has text under it, or another.
#[derive(serde::Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum TextKey {
    Content,
    Text,
    Parts,
    Input,
    Output,
    #[serde(other)]
    Other,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(json: &str) -> u64 {
        input_tokens_of_text(serde_json::from_str::<PromptBytes>(json).unwrap().0)
    }

    #[test]
    fn filler_counts_as_asked() {
        for asked in [1, 2, 7, 374, 4096] {
            let json = format!(r#"[{{"role":"user","content":"{}"}}]"#, filler(asked));
            assert_eq!(tokens(&json), u64::from(asked));
        }
    }

    #[test]
    fn counts_text_wherever_it_stands_and_nothing_else() {
        assert_eq!(
            tokens(r#"[{"role":"system","content":"abcd"},{"role":"user","content":"abcde"}]"#),
            3
        );
        let parts = r#"[{"role":"user","content":[{"type":"text","text":"abcdefgh"},
            {"type":"image_url","image_url":{"url":"data:image/png;base64,AAAAAAAAAAAAAAAAAAAA"}}]}]"#;
        assert_eq!(tokens(parts), 2);
        assert_eq!(
            tokens(r#"[{"role":"assistant","content":null,"tool_calls":[{"id":"x"}]}]"#),
            1
        );
        assert_eq!(tokens(r#"["abcd","efgh"]"#), 2);
        assert_eq!(tokens("[15339, 1917, 0]"), 3);
        assert_eq!(tokens(r#""a\nb\u00e9""#), 2);
    }

    #[test]
    fn words_need_no_escaping() {
        for word in WORDS {
            assert_eq!(serde_json::to_string(word).unwrap(), format!("\"{word}\""));
        }
    }

    #[test]
    fn ids_are_unique_and_reproducible() {
        let id = |number| id(9, number, 29);
        assert_eq!(id(3), id(3));
        assert_eq!(id(3).len(), 29);
        let ids: std::collections::BTreeSet<_> = (0..10_000).map(id).collect();
        assert_eq!(ids.len(), 10_000);
    }
}
