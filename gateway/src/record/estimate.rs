//! How much was consumed where the provider did not report it: an estimate by a tokenizer, marked as
//! one.
//!
//! Samples of the prompt ([`Prompt`]) and of the answer are kept while a request is under way. They
//! are counted only where an attempt ends without reported counts, and the count is scaled up to the
//! whole, so an estimate costs the same however long a text is. What was reported is never put
//! lower, and a stream has at least a token for each of its chunks, in which most providers send one.
//!
//! The tokenizer is OpenAI's `o200k_base` for every provider: see docs/money.md for how far off
//! that is. It is loaded when it is first needed.

mod prompt;

use std::borrow::Cow;
use std::sync::LazyLock;

use tiktoken::CoreBpe;
use weir_dialects::ResponseFacts;

pub(crate) use self::prompt::Prompt;

/// Bytes per token of usual text, for estimates that should be neither high nor low.
pub(crate) const BYTES_PER_TOKEN_MEAN: u64 = 4;

static TOKENIZER: LazyLock<CoreBpe> = LazyLock::new(tiktoken::encoding::o200k_base);

fn count(text: &str) -> u64 {
    TOKENIZER.count(text) as u64
}

/// The count of a sample, for the whole that it is a part of.
fn scale(tokens: u64, sample_bytes: usize, bytes: u64) -> u64 {
    let scaled = u128::from(tokens) * u128::from(bytes) / (sample_bytes.max(1) as u128);
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

/// The inside of a JSON string as text. One that was cut loses what is left of its last escape.
fn unescaped(inner: &[u8]) -> Cow<'_, str> {
    const LONGEST_ESCAPE: usize = r"\ud83d\ude0".len();
    if memchr::memchr(b'\\', inner).is_none() {
        return String::from_utf8_lossy(inner);
    }
    let mut quoted = Vec::with_capacity(inner.len() + 2);
    for cut in 0..=LONGEST_ESCAPE.min(inner.len()) {
        quoted.clear();
        quoted.push(b'"');
        quoted.extend_from_slice(&inner[..inner.len() - cut]);
        quoted.push(b'"');
        if let Ok(text) = serde_json::from_slice::<String>(&quoted) {
            return text.into();
        }
    }
    String::from_utf8_lossy(inner)
}

/// Tokens of an answer, as far as it was read.
pub(crate) fn answer_tokens(facts: &ResponseFacts) -> u64 {
    let sample = &facts.text_sample;
    let by_text = if sample.is_empty() {
        facts.text_bytes.div_ceil(BYTES_PER_TOKEN_MEAN)
    } else {
        scale(count(&unescaped(sample)), sample.len(), facts.text_bytes)
    };
    by_text.max(facts.text_chunks)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A text of which the whole is in the sample.
    fn facts(escaped: &str, chunks: u64) -> ResponseFacts {
        ResponseFacts {
            text_bytes: escaped.len() as u64,
            text_sample: escaped.as_bytes().to_vec(),
            text_chunks: chunks,
            ..ResponseFacts::default()
        }
    }

    #[test]
    fn an_answer_counts_what_the_tokenizer_says_and_at_least_its_chunks() {
        // Counts by OpenAI's own tokenizer.
        let prose = "A weir is a low dam that lets the river through and measures it exactly.";
        assert_eq!(answer_tokens(&facts(prose, 1)), 17);
        assert_eq!(
            answer_tokens(&facts(r"\u4f60\u597d\uff0c\u4e16\u754c", 1)),
            3
        );
        assert_eq!(answer_tokens(&facts("你好，世界", 1)), 3);
        assert_eq!(answer_tokens(&facts("hi", 40)), 40);
    }

    #[test]
    fn a_sample_stands_for_the_whole() {
        let text = "A weir is a low dam that lets the river through. ".repeat(100);
        let whole = answer_tokens(&facts(&text, 0));
        let sampled = answer_tokens(&ResponseFacts {
            text_sample: text.as_bytes()[..text.len() / 2].to_vec(),
            ..facts(&text, 0)
        });
        assert!(whole.abs_diff(sampled) <= whole / 100, "{whole}, {sampled}");
        let unseen = ResponseFacts {
            text_bytes: 40,
            ..ResponseFacts::default()
        };
        assert_eq!(answer_tokens(&unseen), 10, "without a sample, by size");
    }

    #[test]
    fn a_cut_escape_is_left_out() {
        assert_eq!(unescaped(br"a\nb"), "a\nb");
        assert_eq!(unescaped(br"caf\u00e9 \ud83d\ude00"), "caf\u{e9} \u{1f600}");
        assert_eq!(unescaped(br"caf\u00e9 \ud83d\ude0"), "caf\u{e9} ");
        assert_eq!(unescaped(br"a\"), "a");
    }
}
