//! Token counts in each provider's form, read into [`Usage`].

use weir_schemas::Usage;

use crate::json::{JsonCursor, non_negative_integer};

/// Reads the `usage` object of chat completions, embeddings and their relatives.
///
/// It also knows `prompt_cache_hit_tokens` (DeepSeek) and `cached_tokens` at the top level
/// (Moonshot). Some vendors (xAI) exclude reasoning from the output count, which the total reveals.
pub(crate) fn openai(raw: &[u8]) -> Option<Usage> {
    let mut usage = Usage::default();
    let mut total = None;
    JsonCursor::new(raw).object(|key, cursor| match key {
        b"prompt_tokens" | b"input_tokens" => count(cursor, &mut usage.input_tokens),
        b"completion_tokens" | b"output_tokens" => count(cursor, &mut usage.output_tokens),
        b"total_tokens" => count(cursor, &mut total),
        b"prompt_tokens_details" | b"input_tokens_details" => {
            cursor.object_or_skip(|key, cursor| match key {
                b"cached_tokens" => count(cursor, &mut usage.cached_input_tokens),
                b"cache_write_tokens" => count(cursor, &mut usage.cache_write_5m_tokens),
                b"audio_tokens" => count(cursor, &mut usage.audio_input_tokens),
                _ => cursor.skip(),
            })
        }
        b"completion_tokens_details" | b"output_tokens_details" => {
            cursor.object_or_skip(|key, cursor| match key {
                b"reasoning_tokens" => count(cursor, &mut usage.reasoning_tokens),
                b"audio_tokens" => count(cursor, &mut usage.audio_output_tokens),
                _ => cursor.skip(),
            })
        }
        b"prompt_cache_hit_tokens" | b"cached_tokens" => {
            let known = usage.cached_input_tokens;
            count(cursor, &mut usage.cached_input_tokens)?;
            usage.cached_input_tokens = known.or(usage.cached_input_tokens);
            Some(())
        }
        _ => cursor.skip(),
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

/// Reads a count. Anything else counts as absent.
fn count(cursor: &mut JsonCursor<'_>, into: &mut Option<u64>) -> Option<()> {
    *into = non_negative_integer(cursor.value()?);
    Some(())
}

/// Anthropic's counts, of which none includes another, as far as they are known.
///
/// A stream reports them at the start and again at the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct AnthropicCounts {
    input: Option<u64>,
    cache_read: Option<u64>,
    cache_write: Option<u64>,
    cache_write_5m: Option<u64>,
    cache_write_1h: Option<u64>,
    output: Option<u64>,
    thinking: Option<u64>,
}

impl AnthropicCounts {
    /// Reads a `usage` object. Counts that it lacks keep their values.
    pub(crate) fn read(&mut self, raw: &[u8]) {
        let _ = JsonCursor::new(raw).object(|key, cursor| match key {
            b"input_tokens" => take_over(cursor, &mut self.input),
            b"cache_read_input_tokens" => take_over(cursor, &mut self.cache_read),
            b"cache_creation_input_tokens" => take_over(cursor, &mut self.cache_write),
            b"output_tokens" => take_over(cursor, &mut self.output),
            b"cache_creation" => cursor.object_or_skip(|key, cursor| match key {
                b"ephemeral_5m_input_tokens" => take_over(cursor, &mut self.cache_write_5m),
                b"ephemeral_1h_input_tokens" => take_over(cursor, &mut self.cache_write_1h),
                _ => cursor.skip(),
            }),
            b"output_tokens_details" => cursor.object_or_skip(|key, cursor| match key {
                b"thinking_tokens" => take_over(cursor, &mut self.thinking),
                _ => cursor.skip(),
            }),
            _ => cursor.skip(),
        });
    }

    /// The counts as [`Usage`], whose input includes cached tokens.
    pub(crate) fn usage(&self) -> Option<Usage> {
        // Without a breakdown, writes have the default lifetime of five minutes.
        let write_5m = match self.cache_write_1h {
            None => self.cache_write_5m.or(self.cache_write),
            Some(_) => self.cache_write_5m,
        };
        let beside = [self.cache_read, write_5m, self.cache_write_1h];
        let input = self.input.map(|input| {
            beside
                .iter()
                .flatten()
                .fold(input, |sum, count| sum.saturating_add(*count))
        });
        let usage = Usage {
            input_tokens: input,
            cached_input_tokens: self.cache_read,
            cache_write_5m_tokens: write_5m,
            cache_write_1h_tokens: self.cache_write_1h,
            output_tokens: self.output,
            reasoning_tokens: self.thinking,
            ..Usage::default()
        };
        (!usage.is_empty()).then_some(usage)
    }
}

/// Reads a count, or keeps the one that is known.
fn take_over(cursor: &mut JsonCursor<'_>, known: &mut Option<u64>) -> Option<()> {
    let mut found = None;
    count(cursor, &mut found)?;
    *known = found.or(*known);
    Some(())
}

/// Reads Gemini's `usageMetadata`, whose candidates exclude thoughts and whose prompt excludes tool
/// prompts.
pub(crate) fn gemini(raw: &[u8]) -> Option<Usage> {
    let (mut prompt, mut tool_prompt, mut cached) = (None, None, None);
    let (mut candidates, mut thoughts) = (None, None);
    let (mut audio_in, mut audio_out) = (None, None);
    JsonCursor::new(raw).object(|key, cursor| match key {
        b"promptTokenCount" => count(cursor, &mut prompt),
        b"toolUsePromptTokenCount" => count(cursor, &mut tool_prompt),
        b"cachedContentTokenCount" => count(cursor, &mut cached),
        b"candidatesTokenCount" => count(cursor, &mut candidates),
        b"thoughtsTokenCount" => count(cursor, &mut thoughts),
        b"promptTokensDetails" => audio(cursor, &mut audio_in),
        b"candidatesTokensDetails" => audio(cursor, &mut audio_out),
        _ => cursor.skip(),
    })?;
    let sum = |a: Option<u64>, b: Option<u64>| match (a, b) {
        (None, None) => None,
        (a, b) => Some(a.unwrap_or(0).saturating_add(b.unwrap_or(0))),
    };
    let usage = Usage {
        input_tokens: sum(prompt, tool_prompt),
        cached_input_tokens: cached,
        audio_input_tokens: audio_in,
        output_tokens: sum(candidates, thoughts),
        reasoning_tokens: thoughts,
        audio_output_tokens: audio_out,
        ..Usage::default()
    };
    (!usage.is_empty()).then_some(usage)
}

/// The audio tokens of `[{"modality": "AUDIO", "tokenCount": 7}, …]`.
fn audio(cursor: &mut JsonCursor<'_>, into: &mut Option<u64>) -> Option<()> {
    *into = None;
    if cursor.peek()? != b'[' {
        return cursor.skip();
    }
    cursor.array(|cursor| {
        let (mut is_audio, mut tokens) = (false, None);
        cursor.object(|key, cursor| {
            match key {
                b"modality" => is_audio = cursor.value()? == b"\"AUDIO\"",
                b"tokenCount" => count(cursor, &mut tokens)?,
                _ => cursor.skip()?,
            }
            Some(())
        })?;
        if is_audio {
            *into = tokens;
        }
        Some(())
    })
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
    fn anthropic_counts_are_put_together_from_start_and_end() {
        let mut counts = AnthropicCounts::default();
        counts.read(
            br#"{"input_tokens":10,"cache_creation_input_tokens":30,"cache_read_input_tokens":5,
            "cache_creation":{"ephemeral_5m_input_tokens":20,"ephemeral_1h_input_tokens":10},
            "output_tokens":1,"service_tier":"standard"}"#,
        );
        counts.read(br#"{"output_tokens":50,"output_tokens_details":{"thinking_tokens":7}}"#);
        let expect = Usage {
            input_tokens: Some(45),
            cached_input_tokens: Some(5),
            cache_write_5m_tokens: Some(20),
            cache_write_1h_tokens: Some(10),
            output_tokens: Some(50),
            reasoning_tokens: Some(7),
            ..Usage::default()
        };
        assert_eq!(counts.usage(), Some(expect));
        assert_eq!(AnthropicCounts::default().usage(), None);
    }

    #[test]
    fn gemini_counts_thoughts_as_output() {
        let raw = br#"{"promptTokenCount":12,"cachedContentTokenCount":4,"candidatesTokenCount":20,
            "thoughtsTokenCount":30,"toolUsePromptTokenCount":3,"totalTokenCount":65,
            "promptTokensDetails":[{"modality":"TEXT","tokenCount":5},
                {"modality":"AUDIO","tokenCount":7}]}"#;
        let expect = Usage {
            input_tokens: Some(15),
            cached_input_tokens: Some(4),
            audio_input_tokens: Some(7),
            output_tokens: Some(50),
            reasoning_tokens: Some(30),
            ..Usage::default()
        };
        assert_eq!(gemini(raw), Some(expect));
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
