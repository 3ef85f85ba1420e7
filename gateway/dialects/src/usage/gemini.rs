//! Gemini's `usageMetadata`, whose candidates exclude thoughts and whose prompt excludes tool
//! prompts.

use weir_schemas::Usage;

use super::{add_count, count, fit_parts, sum};
use crate::json::JsonCursor;
use crate::{caps, tier};

#[derive(Default)]
struct GeminiCounts {
    prompt: Option<u64>,
    tool_prompt: Option<u64>,
    candidates: Option<u64>,
    total: Option<u64>,
    usage: Usage,
    input: Modalities,
    cached: Modalities,
    output: Modalities,
}

/// Reads a `usageMetadata` object: the counts, and the tier that is named among them.
pub(crate) fn gemini(raw: &[u8]) -> (Option<Usage>, Option<&[u8]>) {
    let (mut counts, mut tier) = (GeminiCounts::default(), tier::GeminiTier::default());
    let walked = JsonCursor::new(raw).object(|key, cursor| {
        if tier.read(key, cursor)? {
            return Some(());
        }
        counts.read_entry(key, cursor)
    });
    if walked.is_none() {
        return (None, None);
    }
    let usage = counts.settle();
    ((!usage.is_empty()).then_some(usage), tier.word())
}

impl GeminiCounts {
    fn read_entry(&mut self, key: &[u8], cursor: &mut JsonCursor<'_>) -> Option<()> {
        match key {
            b"promptTokenCount" => count(cursor, &mut self.prompt),
            b"toolUsePromptTokenCount" => count(cursor, &mut self.tool_prompt),
            b"cachedContentTokenCount" => count(cursor, &mut self.usage.cached_input_tokens),
            // The live API says `response`.
            b"candidatesTokenCount" | b"responseTokenCount" => count(cursor, &mut self.candidates),
            b"thoughtsTokenCount" => count(cursor, &mut self.usage.reasoning_tokens),
            b"totalTokenCount" => count(cursor, &mut self.total),
            b"promptTokensDetails" | b"toolUsePromptTokensDetails" => self.input.read(cursor),
            b"cacheTokensDetails" => self.cached.read(cursor),
            b"candidatesTokensDetails" | b"responseTokensDetails" => self.output.read(cursor),
            _ => cursor.skip(),
        }
    }

    fn settle(self) -> Usage {
        let mut usage = self.usage;
        usage.input_tokens = sum([self.prompt, self.tool_prompt]);
        usage.output_tokens = sum([self.candidates, usage.reasoning_tokens]);
        let (input, output) = (usage.input_tokens.unwrap_or(0), usage.output_tokens);
        let known = input.saturating_add(output.unwrap_or(0));
        let surplus = self.total.unwrap_or(0).saturating_sub(known);
        // The total has all four counts. What it has more was thought, or is of a prompt that is not
        // counted.
        if (1..=caps::SURPLUS_TOKENS_MAX).contains(&surplus) {
            if input > 0 {
                usage.output_tokens = sum([output, Some(surplus)]);
            } else if output.is_some_and(|output| output > 0) {
                usage.input_tokens = Some(surplus);
            }
        }
        usage.audio_input_tokens = self.input.audio;
        usage.image_input_tokens = self.input.image;
        // Cached video has no count of its own: it is billed as cached.
        let cached = self.cached.video.unwrap_or(0);
        usage.video_input_tokens = self.input.video.map(|video| video.saturating_sub(cached));
        usage.cached_audio_input_tokens = self.cached.audio;
        usage.cached_image_input_tokens = self.cached.image;
        usage.audio_output_tokens = self.output.audio;
        usage.image_output_tokens = self.output.image;
        usage.video_output_tokens = self.output.video;
        fit_parts(&mut usage);
        usage
    }
}

/// Tokens that are not of text. Google sells documents at the price of text.
#[derive(Default)]
struct Modalities {
    audio: Option<u64>,
    image: Option<u64>,
    video: Option<u64>,
}

impl Modalities {
    /// Reads `[{"modality": "AUDIO", "tokenCount": 7}, …]`, and adds it.
    fn read(&mut self, cursor: &mut JsonCursor<'_>) -> Option<()> {
        if cursor.peek()? != b'[' {
            return cursor.skip();
        }
        cursor.array(|cursor| {
            let (mut modality, mut tokens) = (None, None);
            cursor.object_or_skip(|key, cursor| {
                match key {
                    b"modality" => modality = cursor.string_or_skip()?,
                    b"tokenCount" => add_count(cursor, &mut tokens)?,
                    _ => cursor.skip()?,
                }
                Some(())
            })?;
            let known = match modality {
                Some(b"AUDIO") => &mut self.audio,
                Some(b"IMAGE") => &mut self.image,
                Some(b"VIDEO") => &mut self.video,
                _ => return Some(()),
            };
            *known = sum([*known, tokens]);
            Some(())
        })
    }
}

/// Searches that Google bills for one answer of a model with so many queries: Gemini 3 and later by
/// query, earlier ones by prompt, however many queries they needed (ai.google.dev/gemini-api/docs/
/// pricing, November 2026).
pub(crate) fn grounding_searches(model: &str, queries: u64) -> u64 {
    let name = model.rsplit('/').next().unwrap_or_default();
    let is_by_prompt = ["gemini-1", "gemini-2", "gemini-pro", "gemini-flash"]
        .iter()
        .any(|older| name.starts_with(older));
    if is_by_prompt {
        queries.min(1)
    } else {
        queries
    }
}
