//! Facts of chat completions and embeddings that pass through.

use weir_schemas::Usage;

use super::{name, read_error};
use crate::chat::finish_reason;
use crate::facts::{FinishReason, ResponseFacts};
use crate::json::PatternStep::{AnyOf, Element, Key};
use crate::json::{JsonCursor, JsonPattern, is_minimax_error};
use crate::upstream_error::UpstreamErrorFacts;
use crate::usage::MergedUsage;
use crate::{caps, tier, usage};

/// Reads the events of one stream.
///
/// Most chunks begin with the same bytes: id, model and so on, up to the first choice's delta. A chunk
/// that begins like the last one is only read from its delta on.
#[derive(Debug, Default)]
pub(super) struct ChatFacts {
    head: Vec<u8>,
    usage: MergedUsage,
    had_calls: bool,
}

/// What is known of a chunk while it is read.
#[derive(Default)]
struct Chunk {
    has_usage: bool,
    /// What its usage says, wherever it stands.
    said: Option<Usage>,
    has_no_choices: bool,
    has_calls: bool,
    /// The reason to stop is there, and says nothing.
    has_blank_reason: bool,
    /// Whether a fact came before the delta that can differ from chunk to chunk.
    head_matters: bool,
    /// Where the first delta is.
    delta_at: Option<usize>,
}

impl ChatFacts {
    /// Reads the data of one event. Returns whether it is the usage chunk: usage, and no choices.
    pub(super) fn read(&mut self, data: &[u8], facts: &mut ResponseFacts) -> bool {
        if data.trim_ascii() == b"[DONE]" {
            facts.terminal_seen = true;
            if facts.finish_reason.is_none() && facts.provider_error.is_none() {
                facts.finish_reason = Some(self.own_reason());
            }
            return false;
        }
        let mut chunk = Chunk::default();
        if !self.head.is_empty() && data.starts_with(&self.head) {
            let mut cursor = JsonCursor::at(data, self.head.len());
            let _ = chunk.read_from_delta(&mut cursor, facts);
        } else {
            let _ =
                JsonCursor::new(data).object(|key, cursor| chunk.read_entry(key, cursor, facts));
            self.remember(data, &chunk);
        }
        if let Some(said) = &chunk.said {
            facts.usage = Some(self.usage.add(said));
            facts.count_search_of_model();
        }
        self.had_calls |= chunk.has_calls;
        if chunk.has_blank_reason && facts.finish_reason.is_none() {
            facts.finish_reason = Some(self.own_reason());
        }
        chunk.has_usage && chunk.has_no_choices
    }

    /// Why the model stopped, if the provider does not say.
    const fn own_reason(&self) -> FinishReason {
        if self.had_calls {
            FinishReason::ToolCalls
        } else {
            FinishReason::Stop
        }
    }

    fn remember(&mut self, data: &[u8], chunk: &Chunk) {
        self.head.clear();
        if let Some(at) = chunk
            .delta_at
            .filter(|at| !chunk.head_matters && *at <= caps::CHUNK_HEAD_BYTES_MAX)
        {
            self.head.extend_from_slice(&data[..at]);
        }
    }
}

impl Chunk {
    fn read_entry(
        &mut self,
        key: &[u8],
        cursor: &mut JsonCursor<'_>,
        facts: &mut ResponseFacts,
    ) -> Option<()> {
        match key {
            b"choices" => {
                self.has_no_choices = self.read_choices(cursor, facts)? == 0;
                return Some(());
            }
            b"usage" => self.has_usage = read_usage(cursor, &mut self.said, facts)?,
            b"x_groq" => read_groq(cursor, &mut self.said, facts)?,
            b"error" => read_error(cursor, facts)?,
            b"base_resp" => read_minimax_error(cursor, facts)?,
            b"model" if facts.upstream_model.is_none() => facts.upstream_model = name(cursor)?,
            b"id" if facts.upstream_id.is_none() => facts.upstream_id = name(cursor)?,
            b"service_tier" => return tier::read(cursor, facts),
            _ => return cursor.skip(),
        }
        self.head_matters |= self.delta_at.is_none() && !matches!(key, b"model" | b"id");
        Some(())
    }

    /// Reads a chunk whose beginning is known, from the first delta on.
    fn read_from_delta(
        &mut self,
        cursor: &mut JsonCursor<'_>,
        facts: &mut ResponseFacts,
    ) -> Option<()> {
        self.read_delta(cursor, facts)?;
        cursor.further_entries(|key, cursor| self.read_choice_entry(key, cursor, facts))?;
        cursor.further_elements(|cursor| self.read_choice(cursor, facts))?;
        cursor.further_entries(|key, cursor| self.read_entry(key, cursor, facts))
    }

    /// Returns how many choices there are.
    fn read_choices(
        &mut self,
        cursor: &mut JsonCursor<'_>,
        facts: &mut ResponseFacts,
    ) -> Option<usize> {
        if cursor.peek()? != b'[' {
            return cursor.skip().map(|()| 0);
        }
        let mut choices = 0;
        cursor.array(|cursor| {
            choices += 1;
            self.read_choice(cursor, facts)
        })?;
        Some(choices)
    }

    fn read_choice(
        &mut self,
        cursor: &mut JsonCursor<'_>,
        facts: &mut ResponseFacts,
    ) -> Option<()> {
        cursor.object(|key, cursor| self.read_choice_entry(key, cursor, facts))
    }

    fn read_choice_entry(
        &mut self,
        key: &[u8],
        cursor: &mut JsonCursor<'_>,
        facts: &mut ResponseFacts,
    ) -> Option<()> {
        match key {
            b"delta" => {
                let at = cursor.position();
                self.delta_at.get_or_insert(at);
                return self.read_delta(cursor, facts);
            }
            // Some servers send the whole message as one chunk, or once more at the end.
            b"message" if facts.text_bytes == 0 => self.read_delta(cursor, facts)?,
            b"finish_reason" => {
                let word = cursor.string_or_skip()?;
                self.has_blank_reason |= word == Some(b"");
                let reason = word.filter(|word| !word.is_empty()).map(finish_reason);
                facts.finish_reason = reason.or(facts.finish_reason);
            }
            // Moonshot puts usage here.
            b"usage" => read_usage(cursor, &mut self.said, facts).map(|_| ())?,
            _ => return cursor.skip(),
        }
        self.head_matters |= self.delta_at.is_none();
        Some(())
    }

    /// Counts the text in a delta, of any kind.
    fn read_delta(&mut self, cursor: &mut JsonCursor<'_>, facts: &mut ResponseFacts) -> Option<()> {
        cursor.object_or_skip(|key, cursor| {
            match key {
                b"content" | b"reasoning_content" | b"reasoning" | b"refusal" => {
                    // Content may be a list of parts, which counts as JSON.
                    let text = match cursor.peek()? {
                        b'"' => cursor.string()?,
                        b'[' | b'{' => cursor.value()?,
                        _ => return cursor.skip(),
                    };
                    facts.add_text(text);
                }
                b"tool_calls" => {
                    let before = facts.text_bytes;
                    read_calls(cursor, facts)?;
                    self.has_calls |= facts.text_bytes > before;
                }
                b"function_call" => read_call(cursor, facts)?,
                // Audio counts as part of the answer, but has no text.
                b"audio" => match cursor.peek()? {
                    b'[' | b'{' => facts.text_bytes += cursor.value()?.len() as u64,
                    _ => cursor.skip()?,
                },
                _ => cursor.skip()?,
            }
            Some(())
        })
    }
}

fn read_calls(cursor: &mut JsonCursor<'_>, facts: &mut ResponseFacts) -> Option<()> {
    if cursor.peek()? != b'[' {
        return cursor.skip();
    }
    cursor.array(|cursor| {
        cursor.object_or_skip(|key, cursor| match key {
            b"function" => read_call(cursor, facts),
            _ => cursor.skip(),
        })
    })
}

/// Counts the name and arguments of a call.
fn read_call(cursor: &mut JsonCursor<'_>, facts: &mut ResponseFacts) -> Option<()> {
    cursor.object_or_skip(|key, cursor| {
        match (key, cursor.peek()?) {
            (b"name" | b"arguments", b'"') => facts.add_text(cursor.string()?),
            // Some servers send the object itself.
            (b"arguments", b'{') => facts.add_text(cursor.value()?),
            _ => cursor.skip()?,
        }
        Some(())
    })
}

/// Reads Groq's own field for usage.
fn read_groq(
    cursor: &mut JsonCursor<'_>,
    said: &mut Option<Usage>,
    facts: &mut ResponseFacts,
) -> Option<()> {
    cursor.object_or_skip(|key, cursor| match key {
        b"usage" => read_usage(cursor, said, facts).map(|_| ()),
        _ => cursor.skip(),
    })
}

/// Returns whether there was usage.
fn read_usage(
    cursor: &mut JsonCursor<'_>,
    said: &mut Option<Usage>,
    facts: &mut ResponseFacts,
) -> Option<bool> {
    let raw = cursor.value()?;
    let Some(found) = usage::openai(raw) else {
        return Some(false);
    };
    said.get_or_insert_default().merge(&found);
    if let Some(word) = tier::in_usage(raw) {
        tier::add_to_facts(word, facts);
    }
    Some(true)
}

/// Reads MiniMax's status of an answer.
pub(super) fn read_minimax_error(
    cursor: &mut JsonCursor<'_>,
    facts: &mut ResponseFacts,
) -> Option<()> {
    let raw = cursor.value()?;
    if str::from_utf8(raw).is_ok_and(is_minimax_error) {
        facts.provider_error = Some(UpstreamErrorFacts::in_stream(raw));
    }
    Some(())
}

/// The values that are read of a plain body, in the order of the places in [`super`], and its texts.
pub(super) const PATTERNS: &[JsonPattern] = &[
    JsonPattern::Capture(&[Key("usage")]),
    JsonPattern::Capture(&[Key("model")]),
    JsonPattern::Capture(&[Key("id")]),
    JsonPattern::Capture(&[Key("choices"), Element, Key("finish_reason")]),
    JsonPattern::Capture(&[Key("error")]),
    JsonPattern::Capture(&[Key("service_tier")]),
    JsonPattern::Capture(&[Key("base_resp")]),
    JsonPattern::Capture(&[Key("choices"), Element, Key("error")]),
    JsonPattern::Text(&[
        Key("choices"),
        Element,
        Key("message"),
        AnyOf(&["content", "reasoning_content", "reasoning", "refusal"]),
    ]),
    JsonPattern::Text(&[
        Key("choices"),
        Element,
        Key("message"),
        Key("tool_calls"),
        Element,
        Key("function"),
        Key("arguments"),
    ]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_says_the_same_whether_its_beginning_is_known_or_not() {
        let chunks = [
            r#"{"id":"1","choices":[{"index":0,"delta":{"content":"ab"},"finish_reason":null},{"delta":{"content":"c"}}],"usage":null}"#,
            r#"{"id":"1","choices":[{"index":0,"delta":{"tool_calls":[{"function":{"arguments":"{}"}}]},"finish_reason":"stop"}],"usage":{"prompt_tokens":3}}"#,
            r#"{"choices":[{"message":{"content":"x"},"delta":{"content":"abc"},"finish_reason":""}]}"#,
            r#"{"choices":[{"finish_reason":"length","usage":{"prompt_tokens":7},"delta":{}}]}"#,
            r#"{"usage":{"prompt_tokens":9},"choices":[{"delta":{"content":"d"}}]}"#,
            r#"{"usage":{"prompt_tokens":9},"choices":[]}"#,
        ];
        for (first, second) in chunks.iter().flat_map(|a| chunks.map(|b| (a, b))) {
            let read = |forgets: bool| {
                let (mut reader, mut facts) = (ChatFacts::default(), ResponseFacts::default());
                let mut are_usage = Vec::new();
                for chunk in [*first, second, second] {
                    are_usage.push(reader.read(chunk.as_bytes(), &mut facts));
                    if forgets {
                        reader.head.clear();
                    }
                }
                (are_usage, facts)
            };
            assert_eq!(read(true), read(false), "{first}\n{second}");
        }
    }
}
