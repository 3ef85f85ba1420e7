//! The `usage` object of chat completions, responses, embeddings and their relatives.
//!
//! The names of all vendors are read as one set: they do not collide, and servers in front of other
//! servers mix them. The table in `vendors` has a row for each with its source.

use std::time::Duration;

use weir_schemas::Usage;

use super::{CacheWrites, add_count, count, fit_parts, sum};
use crate::caps;
use crate::json::JsonCursor;

/// What an object says, before it is settled.
#[derive(Default)]
struct OpenAiCounts {
    usage: Usage,
    total: Option<u64>,
    writes: CacheWrites,
    /// Whether a count has one of Anthropic's names, which stand beside the input.
    has_beside: bool,
    /// Reasoning in the object itself. Perplexity's is beside the output, SGLang's within it.
    own_reasoning: Option<u64>,
    /// Sources of xAI's live search, which is billed by them.
    sources: Option<u64>,
}

/// Reads a `usage` object.
pub(crate) fn openai(raw: &[u8]) -> Option<Usage> {
    // Most chunks of a stream say `null`.
    raw.starts_with(b"{").then_some(())?;
    let mut counts = OpenAiCounts::default();
    JsonCursor::new(raw).object(|key, cursor| counts.read_entry(key, cursor))?;
    let usage = counts.settle();
    (!usage.is_empty()).then_some(usage)
}

impl OpenAiCounts {
    fn read_entry(&mut self, key: &[u8], cursor: &mut JsonCursor<'_>) -> Option<()> {
        let usage = &mut self.usage;
        match key {
            b"prompt_tokens" | b"input_tokens" | b"inputTokens" => {
                count(cursor, &mut usage.input_tokens)
            }
            b"completion_tokens" | b"output_tokens" | b"outputTokens" => {
                count(cursor, &mut usage.output_tokens)
            }
            b"total_tokens" | b"totalTokens" => count(cursor, &mut self.total),
            b"prompt_tokens_details" | b"input_tokens_details" | b"input_token_details" => {
                cursor.object_or_skip(|key, cursor| self.read_input_detail(key, cursor))
            }
            b"completion_tokens_details" | b"output_tokens_details" | b"output_token_details" => {
                cursor.object_or_skip(|key, cursor| self.read_output_detail(key, cursor))
            }
            b"prompt_cache_hit_tokens" | b"cached_tokens" | b"num_cached_tokens" => {
                count(cursor, &mut usage.cached_input_tokens)
            }
            b"cache_read_input_tokens" | b"cacheReadInputTokens" => {
                self.has_beside = true;
                count(cursor, &mut usage.cached_input_tokens)
            }
            b"cache_creation_input_tokens" | b"cacheWriteInputTokens" => {
                self.has_beside = true;
                count(cursor, &mut self.writes.all)
            }
            b"cache_write_tokens" => count(cursor, &mut self.writes.all),
            b"cached_tokens_details" => self.read_input_detail(key, cursor),
            b"cache_creation" => self.writes.read_lifetimes(cursor),
            b"cacheDetails" => self.read_bedrock_writes(cursor),
            b"reasoning_tokens" => count(cursor, &mut self.own_reasoning),
            b"citation_tokens" => count(cursor, &mut usage.citation_tokens),
            b"seconds" | b"prompt_audio_seconds" => {
                usage.audio_input_ms = usage.audio_input_ms.max(milliseconds(cursor.value()?));
                Some(())
            }
            b"num_sources_used" => count(cursor, &mut self.sources),
            _ => self.read_tools(key, cursor),
        }
    }

    fn read_input_detail(&mut self, key: &[u8], cursor: &mut JsonCursor<'_>) -> Option<()> {
        let usage = &mut self.usage;
        match key {
            b"cached_tokens" | b"cache_read_input_tokens" => {
                count(cursor, &mut usage.cached_input_tokens)
            }
            b"cached_tokens_details" => cursor.object_or_skip(|key, cursor| match key {
                b"audio_tokens" | b"cached_audio_tokens" => {
                    count(cursor, &mut usage.cached_audio_input_tokens)
                }
                b"image_tokens" | b"cached_image_tokens" => {
                    count(cursor, &mut usage.cached_image_input_tokens)
                }
                _ => cursor.skip(),
            }),
            b"cache_write_tokens" | b"cache_creation_tokens" | b"cache_creation_input_tokens" => {
                count(cursor, &mut self.writes.all)
            }
            b"cache_write_tokens_details" | b"cache_creation" | b"cache_creation_token_details" => {
                self.writes.read_lifetimes(cursor)
            }
            b"audio_tokens" => count(cursor, &mut usage.audio_input_tokens),
            b"image_tokens" => count(cursor, &mut usage.image_input_tokens),
            b"video_tokens" => count(cursor, &mut usage.video_input_tokens),
            b"web_search_requests" => count(cursor, &mut usage.web_searches),
            _ => cursor.skip(),
        }
    }

    fn read_output_detail(&mut self, key: &[u8], cursor: &mut JsonCursor<'_>) -> Option<()> {
        let usage = &mut self.usage;
        match key {
            b"reasoning_tokens" | b"thinking_tokens" => count(cursor, &mut usage.reasoning_tokens),
            b"audio_tokens" => count(cursor, &mut usage.audio_output_tokens),
            b"image_tokens" => count(cursor, &mut usage.image_output_tokens),
            b"video_tokens" => count(cursor, &mut usage.video_output_tokens),
            _ => cursor.skip(),
        }
    }

    /// Bedrock's `[{"ttl": "1h", "inputTokens": 7}, …]`.
    fn read_bedrock_writes(&mut self, cursor: &mut JsonCursor<'_>) -> Option<()> {
        if cursor.peek()? != b'[' {
            return cursor.skip();
        }
        cursor.array(|cursor| {
            let (mut is_hour, mut tokens) = (false, None);
            cursor.object_or_skip(|key, cursor| {
                match key {
                    b"ttl" => is_hour = cursor.value()? == b"\"1h\"",
                    b"inputTokens" => count(cursor, &mut tokens)?,
                    _ => cursor.skip()?,
                }
                Some(())
            })?;
            let writes = &mut self.writes;
            let known = if is_hour {
                &mut writes.of_1h
            } else {
                &mut writes.of_5m
            };
            *known = sum([*known, tokens]);
            Some(())
        })
    }

    /// Calls of tools that ran at the provider.
    fn read_tools(&mut self, key: &[u8], cursor: &mut JsonCursor<'_>) -> Option<()> {
        let usage = &mut self.usage;
        match key {
            b"num_search_queries" => count(cursor, &mut usage.web_searches),
            b"server_tool_use" => cursor.object_or_skip(|key, cursor| match key {
                b"web_search_requests" => count(cursor, &mut usage.web_searches),
                b"code_execution_requests" => count(cursor, &mut usage.code_executions),
                _ => cursor.skip(),
            }),
            b"server_side_tool_usage_details" | b"server_side_tool_usage" => {
                let mut calls = Usage::default();
                cursor.object_or_skip(|key, cursor| match xai_tool(key, &mut calls) {
                    Some(calls) => add_count(cursor, calls),
                    None => cursor.skip(),
                })?;
                usage.merge(&calls);
                Some(())
            }
            b"tool_calls_details" => cursor.object_or_skip(|key, cursor| {
                let is_search = key == b"web_search" || key == b"search_web";
                cursor.object_or_skip(|key, cursor| match key {
                    b"invocation" if is_search => count(cursor, &mut usage.web_searches),
                    _ => cursor.skip(),
                })
            }),
            _ => cursor.skip(),
        }
    }

    fn settle(mut self) -> Usage {
        self.usage.reasoning_tokens = self.usage.reasoning_tokens.max(self.own_reasoning);
        self.writes.add_to(&mut self.usage);
        if self.usage.web_searches.unwrap_or(0) == 0 {
            self.usage.web_searches = self.usage.web_searches.max(self.sources);
        }
        if !self.explain_total() {
            self.add_beside();
        }
        fit_parts(&mut self.usage);
        self.usage
    }

    /// Finds out where the tokens are that only the total has. Returns whether there are any.
    fn explain_total(&mut self) -> bool {
        let stored = self.stored();
        let usage = &mut self.usage;
        let (input, output) = (usage.input_tokens, usage.output_tokens);
        let known = sum([input, output]).unwrap_or(0);
        let total = self.total.unwrap_or(0);
        let surplus = total.saturating_sub(known);
        if surplus == 0 || surplus > caps::SURPLUS_TOKENS_MAX {
            return false;
        }
        let grown = match (input.unwrap_or(0), output) {
            // Two placeholders: nothing says which of them the total is.
            (0, Some(0)) => return false,
            // Embeddings and rankings have no output.
            (0, _) => &mut usage.input_tokens,
            _ if usage.reasoning_tokens == Some(surplus) => &mut usage.output_tokens,
            _ if stored == surplus => &mut usage.input_tokens,
            _ => &mut usage.output_tokens,
        };
        *grown = sum([*grown, Some(surplus)]);
        true
    }

    /// Adds parts to their whole that cannot be parts of it.
    fn add_beside(&mut self) {
        let stored = self.stored();
        let usage = &mut self.usage;
        let input = usage.input_tokens.unwrap_or(0);
        if self.has_beside && input > 0 && stored > input {
            usage.input_tokens = Some(input + stored);
        }
        // Perplexity's completion has neither what was thought nor what was cited.
        let output = usage.output_tokens.unwrap_or(0);
        let reasoning = self.own_reasoning.unwrap_or(0);
        if output > 0 && (reasoning > output || usage.citation_tokens.is_some()) {
            let cited = usage.citation_tokens.unwrap_or(0);
            usage.output_tokens = Some(output + reasoning + cited);
        }
    }

    /// Tokens that were read from the cache or written to it.
    fn stored(&self) -> u64 {
        let cached = self.usage.cached_input_tokens;
        sum([cached, super::cache_writes(&self.usage)]).unwrap_or(0)
    }
}

/// The count that one of xAI's tools adds to.
fn xai_tool<'u>(key: &[u8], calls: &'u mut Usage) -> Option<&'u mut Option<u64>> {
    Some(match key {
        b"web_search_calls"
        | b"x_search_calls"
        | b"SERVER_SIDE_TOOL_WEB_SEARCH"
        | b"SERVER_SIDE_TOOL_X_SEARCH" => &mut calls.web_searches,
        b"file_search_calls"
        | b"collections_search_calls"
        | b"document_search_calls"
        | b"SERVER_SIDE_TOOL_COLLECTIONS_SEARCH" => &mut calls.file_searches,
        b"code_interpreter_calls"
        | b"code_execution_calls"
        | b"SERVER_SIDE_TOOL_CODE_EXECUTION" => &mut calls.code_executions,
        _ => return None,
    })
}

/// A duration in seconds, which has a fraction.
fn milliseconds(raw: &[u8]) -> Option<u64> {
    let seconds: f64 = std::str::from_utf8(raw).ok()?.parse().ok()?;
    let length = Duration::try_from_secs_f64(seconds).ok()?;
    let milliseconds = u64::try_from(length.as_millis()).ok()?;
    (milliseconds <= caps::COUNT_MAX).then_some(milliseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(raw: &str) -> (Option<u64>, Option<u64>) {
        let usage = openai(raw.as_bytes()).unwrap_or_default();
        (usage.input_tokens, usage.output_tokens)
    }

    #[test]
    fn absent_is_not_zero() {
        assert_eq!(openai(b"null"), None);
        assert_eq!(openai(b"{}"), None);
        let expect = Usage {
            output_tokens: Some(0),
            reasoning_tokens: Some(0),
            ..Usage::default()
        };
        let raw = br#"{"completion_tokens":0,"completion_tokens_details":{"reasoning_tokens":0}}"#;
        assert_eq!(openai(raw), Some(expect));
    }

    #[test]
    fn two_names_of_one_count_stand_in_any_order() {
        let filled = [
            r#""prompt_tokens":1200"#,
            r#""completion_tokens":300"#,
            r#""prompt_tokens_details":{"cached_tokens":1000}"#,
        ];
        let empty = [
            r#""input_tokens":0"#,
            r#""output_tokens":0"#,
            r#""input_tokens_details":{"cached_tokens":0}"#,
        ];
        for turn in 0..6 {
            for first in [[filled, empty], [empty, filled]] {
                let mut entries = first.concat();
                entries.rotate_left(turn);
                let raw = format!("{{{}}}", entries.join(","));
                let usage = openai(raw.as_bytes()).unwrap();
                assert_eq!(usage.cached_input_tokens, Some(1000), "{raw}");
                assert_eq!(seen(&raw), (Some(1200), Some(300)), "{raw}");
            }
        }
    }

    #[test]
    fn a_total_says_where_its_surplus_is() {
        let cases = [
            // The output's, where both parts are real.
            (
                r#"{"prompt_tokens":35,"completion_tokens":12,"total_tokens":109}"#,
                (35, 74),
            ),
            // All of it was thought.
            (
                r#"{"prompt_tokens":35,"completion_tokens":0,"total_tokens":109}"#,
                (35, 74),
            ),
            (r#"{"prompt_tokens":35,"total_tokens":109}"#, (35, 74)),
            // The prompt is the placeholder.
            (
                r#"{"prompt_tokens":0,"completion_tokens":12,"total_tokens":109}"#,
                (97, 12),
            ),
            // A total of parts only, less than its parts, and one of something else.
            (
                r#"{"prompt_tokens":35,"completion_tokens":12,"total_tokens":47}"#,
                (35, 12),
            ),
            (
                r#"{"prompt_tokens":35,"completion_tokens":12,"total_tokens":0}"#,
                (35, 12),
            ),
            (
                r#"{"prompt_tokens":35,"completion_tokens":12,"total_tokens":9000000}"#,
                (35, 12),
            ),
            // Nothing says what is what.
            (
                r#"{"prompt_tokens":0,"completion_tokens":0,"total_tokens":109}"#,
                (0, 0),
            ),
        ];
        for (raw, (input, output)) in cases {
            assert_eq!(seen(raw), (Some(input), Some(output)), "{raw}");
        }
    }

    #[test]
    fn reasoning_is_never_more_than_the_output() {
        let raw = br#"{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15,
            "completion_tokens_details":{"reasoning_tokens":100}}"#;
        let usage = openai(raw).unwrap();
        assert_eq!(
            (usage.output_tokens, usage.reasoning_tokens),
            (Some(5), Some(5))
        );
    }
}
