//! Token counts, from each provider's form into [`Usage`].

use weir_schemas::Usage;

use crate::json::{Cursor, whole_number};

/// Reads the `usage` object of chat completions, embeddings and their relatives.
///
/// Beside OpenAI's fields it knows `prompt_cache_hit_tokens` (DeepSeek) and `cached_tokens` at the
/// top (Moonshot). Some vendors (xAI) count reasoning beside the output and not in it, which shows
/// in the total.
pub(crate) fn openai(raw: &[u8]) -> Option<Usage> {
    let mut usage = Usage::default();
    let mut total = None;
    Cursor::new(raw).object(|key, cursor| {
        match key {
            b"prompt_tokens" | b"input_tokens" => usage.input_tokens = count(cursor)?,
            b"completion_tokens" | b"output_tokens" => usage.output_tokens = count(cursor)?,
            b"total_tokens" => total = count(cursor)?,
            b"prompt_tokens_details" | b"input_tokens_details" => {
                openai_input_details(cursor, &mut usage)?;
            }
            b"completion_tokens_details" | b"output_tokens_details" => {
                openai_output_details(cursor, &mut usage)?;
            }
            b"prompt_cache_hit_tokens" | b"cached_tokens" => {
                let cached = count(cursor)?;
                usage.cached_input_tokens = usage.cached_input_tokens.or(cached);
            }
            _ => cursor.skip()?,
        }
        Some(())
    })?;
    if let (Some(input), Some(output), Some(reasoning), Some(total)) = (
        usage.input_tokens,
        usage.output_tokens,
        usage.reasoning_tokens,
        total,
    ) && input.saturating_add(output).saturating_add(reasoning) == total
    {
        usage.output_tokens = Some(output.saturating_add(reasoning));
    }
    (!usage.is_empty()).then_some(usage)
}

fn openai_input_details(cursor: &mut Cursor<'_>, usage: &mut Usage) -> Option<()> {
    if cursor.peek()? != b'{' {
        return cursor.skip();
    }
    cursor.object(|key, cursor| {
        match key {
            b"cached_tokens" => usage.cached_input_tokens = count(cursor)?,
            b"cache_write_tokens" => usage.cache_write_5m_tokens = count(cursor)?,
            b"audio_tokens" => usage.audio_input_tokens = count(cursor)?,
            _ => cursor.skip()?,
        }
        Some(())
    })
}

fn openai_output_details(cursor: &mut Cursor<'_>, usage: &mut Usage) -> Option<()> {
    if cursor.peek()? != b'{' {
        return cursor.skip();
    }
    cursor.object(|key, cursor| {
        match key {
            b"reasoning_tokens" => usage.reasoning_tokens = count(cursor)?,
            b"audio_tokens" => usage.audio_output_tokens = count(cursor)?,
            _ => cursor.skip()?,
        }
        Some(())
    })
}

/// A count. What is no count is absent, and does not spoil the others.
fn count(cursor: &mut Cursor<'_>) -> Option<Option<u64>> {
    cursor.value().map(whole_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openai_counts_nest() {
        let raw = br#"{"prompt_tokens":100,"completion_tokens":50,"total_tokens":150,
            "prompt_tokens_details":{"cached_tokens":80,"audio_tokens":3},
            "completion_tokens_details":{"reasoning_tokens":30,"audio_tokens":4,
                "accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}"#;
        let expect = Usage {
            input_tokens: Some(100),
            cached_input_tokens: Some(80),
            audio_input_tokens: Some(3),
            output_tokens: Some(50),
            reasoning_tokens: Some(30),
            audio_output_tokens: Some(4),
            ..Usage::default()
        };
        assert_eq!(openai(raw), Some(expect));
    }

    #[test]
    fn cached_tokens_are_found_where_vendors_put_them() {
        let deepseek = br#"{"prompt_tokens":10,"completion_tokens":1,"prompt_cache_hit_tokens":7,
            "prompt_cache_miss_tokens":3}"#;
        let moonshot = br#"{"prompt_tokens":10,"completion_tokens":1,"cached_tokens":7}"#;
        for raw in [deepseek.as_slice(), moonshot] {
            assert_eq!(
                openai(raw).and_then(|usage| usage.cached_input_tokens),
                Some(7)
            );
        }
    }

    #[test]
    fn reasoning_beside_the_output_is_added_to_it() {
        let beside = br#"{"prompt_tokens":10,"completion_tokens":5,"total_tokens":115,
            "completion_tokens_details":{"reasoning_tokens":100}}"#;
        assert_eq!(
            openai(beside).and_then(|usage| usage.output_tokens),
            Some(105)
        );
        let within = br#"{"prompt_tokens":10,"completion_tokens":105,"total_tokens":115,
            "completion_tokens_details":{"reasoning_tokens":100}}"#;
        assert_eq!(
            openai(within).and_then(|usage| usage.output_tokens),
            Some(105)
        );
    }

    #[test]
    fn absent_is_not_zero_and_nonsense_is_absent() {
        assert_eq!(openai(b"null"), None);
        assert_eq!(openai(b"{}"), None);
        let raw = br#"{"prompt_tokens":-1,"completion_tokens":"9","total_tokens":1e99,
            "prompt_tokens_details":null,"completion_tokens_details":{"reasoning_tokens":0}}"#;
        let expect = Usage {
            reasoning_tokens: Some(0),
            ..Usage::default()
        };
        assert_eq!(openai(raw), Some(expect));
    }
}
