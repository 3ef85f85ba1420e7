//! How much was consumed where the provider did not say it: an estimate by size, marked as one.
//!
//! It is no tokenizer's count. A prompt counts a token for every four bytes, an answer too, but at
//! least one for each chunk of its stream, in which most providers send a token. What was reported
//! is never put lower.

use weir_dialects::ResponseFacts;
use weir_schemas::UsageSource;

use crate::trail::{AttemptTrail, Trail};

/// Bytes of text that make a token, about.
pub(crate) const BYTES_PER_TOKEN: u64 = 4;

/// Tokens of an answer, as far as it was read.
pub(crate) fn answer_tokens(facts: &ResponseFacts) -> u64 {
    let by_size = facts.text_bytes.div_ceil(BYTES_PER_TOKEN);
    by_size.max(facts.text_chunks)
}

impl Trail {
    /// Fills in what nobody reported, before the tries are priced.
    pub(crate) fn estimate(&mut self) {
        let Some(prompt_tokens) = self.prompt_tokens else {
            return;
        };
        for attempt in &mut self.attempts {
            attempt.estimate(prompt_tokens);
        }
    }
}

impl AttemptTrail {
    fn estimate(&mut self, prompt_tokens: u64) {
        let reported = self.usage.output_tokens.unwrap_or(0);
        let is_cut = self.failure.is_some();
        match self.usage_source {
            UsageSource::None if self.was_served() => {
                self.usage.input_tokens = Some(prompt_tokens);
                self.usage.output_tokens = (self.answer_tokens > 0).then_some(self.answer_tokens);
                self.usage_source = UsageSource::Estimated;
            }
            // A stream that is cut has said how it began, at most.
            UsageSource::Reported | UsageSource::Drained
                if is_cut && reported < self.answer_tokens =>
            {
                self.usage.input_tokens.get_or_insert(prompt_tokens);
                self.usage.output_tokens = Some(self.answer_tokens);
                self.usage_source = UsageSource::Estimated;
            }
            _ => {}
        }
    }

    /// Whether the provider has begun to answer, or was left by the client while it worked.
    fn was_served(&self) -> bool {
        let client_left = self
            .failure
            .as_ref()
            .is_some_and(|(kind, _)| *kind == "client_gone");
        match self.status {
            Some(status) => status < 400,
            None => client_left && self.was_sent(),
        }
    }
}
