//! How much a request can be billed for at most, by the rules of the provider that answers it.
//!
//! Tokens of text are at most its bytes: no token of a byte-level vocabulary, nor one of the bytes that
//! other vocabularies fall back to, is shorter than one. What does not follow the body's bytes has a rule
//! of its own, fills the model's window at most, or is bounded by nothing, which is said by name.

use std::borrow::Cow;

use weir_schemas::prices::{CallBound, Kinds};

use crate::api::{ClientApi, UpstreamApi};
use crate::generations::{Generation, Match};
use crate::inspect::RequestFacts;
use crate::vendors::Vendor;

/// What of a request's size can be seen in its body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Billable {
    /// Bytes that may become prompt: all of the body but the data of files.
    pub(crate) text_bytes: u64,
    pub(crate) images: u64,
    /// Audio, as Base64.
    pub(crate) audio_bytes: u64,
    /// What the prompt also holds that is not in the body, or not as text: the first thing found.
    pub(crate) outside: Option<&'static str>,
    /// What nothing bounds: the first thing found.
    pub(crate) unbounded: Option<&'static str>,
    /// Whether audio may be answered.
    pub(crate) audio_output: bool,
    /// Whether what is written to the cache may have to live for an hour or longer.
    pub(crate) long_cache_writes: bool,
}

/// Nothing bounds what a request can be billed for, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unbounded(pub Cow<'static, str>);

/// Most tokens of an answer where neither the client nor a row says how many, if the gateway sets the
/// limit: no model takes less.
const OUTPUT_TOKENS_UNKNOWN: u64 = 4096;

impl Generation {
    /// The most that a request can be billed for at a model, with the limit that the gateway sends.
    ///
    /// # Errors
    ///
    /// When nothing bounds it.
    pub fn bound(
        &self,
        vendor: &Vendor,
        api: ClientApi,
        facts: &RequestFacts,
        output_limit: Option<u64>,
    ) -> Result<CallBound, Unbounded> {
        let billable = &facts.billable;
        if api == ClientApi::CountTokens {
            // Counting is free.
            return Ok(CallBound::default());
        }
        let kinds = Kinds {
            media_input: billable.images > 0
                || billable.audio_bytes > 0
                || billable.outside.is_some(),
            audio_output: billable.audio_output,
            long_cache_writes: billable.long_cache_writes,
        };
        Ok(CallBound {
            input_tokens: self.input_bound(billable)?,
            output_tokens: self.output_bound(vendor, api, facts, output_limit)?,
            kinds,
            ..CallBound::default()
        })
    }

    fn input_bound(&self, billable: &Billable) -> Result<u64, Unbounded> {
        if let Some(what) = billable.unbounded {
            return Err(Unbounded(what.into()));
        }
        let window = self.window();
        if let Some(what) = billable.outside {
            return window.ok_or_else(|| Unbounded(what.into()));
        }
        let most = billable.text_bytes.saturating_add(billable.audio_bytes);
        Ok(window.map_or(most, |window| most.min(window)))
    }

    fn output_bound(
        &self,
        vendor: &Vendor,
        api: ClientApi,
        facts: &RequestFacts,
        output_limit: Option<u64>,
    ) -> Result<u64, Unbounded> {
        if api == ClientApi::Embeddings {
            return Ok(0);
        }
        let least = self.output_tokens_min(vendor, api);
        let sent = [facts.max_output_tokens, output_limit];
        let sent = sent
            .into_iter()
            .flatten()
            .min()
            .map(|limit| limit.max(least));
        let most = self
            .output_tokens_max
            .filter(|_| self.matches == Match::Known);
        let limit = sent.into_iter().chain(most).min();
        let unknown = || Unbounded("no limit on the answer's tokens is known".into());
        let limit = limit.ok_or_else(unknown)?;
        let choices = facts.choices.unwrap_or(1).max(1);
        Ok(limit.saturating_mul(choices))
    }

    /// The least and the greatest limit on an answer's tokens that the gateway may send for a request
    /// without one.
    #[must_use]
    pub fn output_limits(&self, vendor: &Vendor, api: ClientApi) -> (u64, u64) {
        let most = self.output_tokens_max.unwrap_or(OUTPUT_TOKENS_UNKNOWN);
        (self.output_tokens_min(vendor, api), most)
    }

    fn output_tokens_min(&self, vendor: &Vendor, api: ClientApi) -> u64 {
        // Chat may become responses for some models.
        let upstream = vendor.upstream_api(api).unwrap_or(UpstreamApi::Responses);
        let least = vendor.output_tokens_min(upstream);
        let by_responses = vendor.output_tokens_min(UpstreamApi::Responses);
        let moves = upstream == UpstreamApi::ChatCompletions && vendor.has_responses();
        if moves {
            least.max(by_responses)
        } else {
            least
        }
        .max(1)
    }

    /// Tokens that a prompt has at most. Of a model that is only thought to be like another one, nothing
    /// is certain.
    fn window(&self) -> Option<u64> {
        self.context_tokens.filter(|_| self.matches == Match::Known)
    }
}
