//! What each attempt of a request used, and what it costs.

use weir_routing::FailureKind;
use weir_schemas::{PicoUsd, UsageSource};

use crate::record::attempt::{AttemptCharge, AttemptEnd, AttemptRecord};
use crate::setup::directory::ChargedCall;

/// Tokenizers differ by less than this factor.
const TOKENIZERS_DIFFER: u64 = 2;

/// Whether such a failure comes before the provider has the call.
pub(crate) const fn never_called(kind: FailureKind) -> bool {
    use FailureKind::{Connect, ConnectTimeout, InvalidRequest};
    matches!(kind, Connect | ConnectTimeout | InvalidRequest)
}

impl AttemptRecord {
    /// Tokens as limits and budgets count them, those at other models too.
    pub(super) fn tokens(&self) -> u64 {
        let others = self.other_models.iter().map(|other| &other.usage);
        let usages = others.chain([&self.usage]);
        let tokens = usages.flat_map(|usage| [usage.input_tokens, usage.output_tokens]);
        tokens.flatten().fold(0, u64::saturating_add)
    }

    /// Fills in what the provider did not report. A zero that cannot be is a placeholder: a prompt
    /// without tokens, or text without any. `output_max` is the most that its provider's rules allow.
    pub(super) fn estimate(&mut self, prompt_tokens: impl Fn() -> u64, output_max: Option<u64>) {
        let is_reported = self.usage_source != UsageSource::None;
        if is_reported && self.has_other_counts() || !is_reported && !self.was_served() {
            return;
        }
        let [input, output] = [self.usage.input_tokens, self.usage.output_tokens];
        let (lacks_input, output) = (input.unwrap_or(0) == 0, output.unwrap_or(0));
        // A stream that is cut has reported its beginning, at most.
        let answer = self.answer_tokens_within(output_max);
        let lacks_output = (output == 0 || self.failure.is_some()) && output < answer;
        if lacks_input {
            self.usage.input_tokens = Some(prompt_tokens());
        }
        if lacks_output {
            self.usage.output_tokens = Some(answer);
        }
        if lacks_input || lacks_output {
            self.usage_source = UsageSource::Estimated;
        }
    }

    /// Tokens of the answer by its text, counted with another tokenizer than the provider's. What passes
    /// the limit by no more than that explains has kept it.
    fn answer_tokens_within(&self, output_max: Option<u64>) -> u64 {
        let tokens = self.answer_tokens;
        let is_near = |max: &u64| tokens / TOKENIZERS_DIFFER <= *max;
        output_max
            .filter(is_near)
            .map_or(tokens, |max| tokens.min(max))
    }

    /// Whether a usage without input is right: another model gave the answer, or the audio's length is
    /// billed.
    fn has_other_counts(&self) -> bool {
        let has_input = self.usage.input_tokens.is_some_and(|input| input > 0);
        let is_by_time = self.usage.audio_input_ms.is_some_and(|length| length > 0);
        !has_input && (is_by_time || !self.other_models.is_empty())
    }

    /// Whether the provider began to answer, or had the call and was not waited for any longer: by the
    /// client, for another attempt that was faster, or because its time was up. It has read the prompt
    /// then, most likely, and will bill it.
    fn was_served(&self) -> bool {
        match self.status() {
            Some(status) => status < 400,
            None => self.sent.is_some() && !self.was_not_called(),
        }
    }

    /// Prices what was used.
    pub(super) fn price(&mut self) {
        let is_used = !self.usage.is_empty() || !self.other_models.is_empty();
        self.charge = if !is_used && self.was_not_billed() {
            AttemptCharge {
                cost: Some(PicoUsd(0)),
                ..AttemptCharge::default()
            }
        } else {
            let call = ChargedCall {
                usage: &self.usage,
                response_model: self.response_model.as_deref(),
                service_tier: self.service_tier.as_deref().unwrap_or_default(),
                inference_geo: self.inference_geo.as_deref().unwrap_or_default(),
                other_models: &self.other_models,
            };
            self.deployment.charge(&call, self.started.unix_us).into()
        };
    }

    /// Whether it is known to cost nothing: the provider answered with an error, or got no call.
    fn was_not_billed(&self) -> bool {
        self.was_not_called() || self.status().is_some_and(|status| status >= 400)
    }

    fn was_not_called(&self) -> bool {
        matches!(self.failure, Some((AttemptEnd::Failed(kind), _)) if never_called(kind))
    }
}
