//! How much a request can be billed for at most, by the rules of the provider that answers it.
//!
//! Tokens of text are at most its bytes: no token of a byte-level vocabulary, nor one of the bytes that
//! other vocabularies fall back to, is shorter than one. What does not follow the body's bytes has a rule
//! of its own, fills the model's window at most, or is bounded by nothing, which is said by name.

use std::borrow::Cow;
use std::fmt;

use weir_schemas::prices::{CallBound, Kinds, Tiers};

use crate::api::{ClientApi, UpstreamApi};
use crate::billable::Billable;
use crate::facts::is_search_model;
use crate::generations::{Generation, Match, ReasoningLimit};
use crate::inspect::RequestFacts;
use crate::vendors::Vendor;

/// What of a request nothing bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unbounded {
    what: Cow<'static, str>,
    setting: Option<&'static str>,
}

impl fmt::Display for Unbounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Unbounded {
    fn new(what: impl Into<Cow<'static, str>>) -> Self {
        Self {
            what: what.into(),
            setting: None,
        }
    }

    /// The setting of a `[[model]]` would bound it.
    const fn but_for(mut self, setting: &'static str) -> Self {
        self.setting = Some(setting);
        self
    }

    /// The setting of a `[[model]]` that would bound it, if one would.
    #[must_use]
    pub const fn setting(&self) -> Option<&'static str> {
        self.setting
    }
}

const WINDOW: &str = "context_window_tokens";

/// Most tokens of an answer where neither the client nor a row says how many and the gateway sets the
/// limit: every model takes as many.
pub(crate) const OUTPUT_TOKENS_UNKNOWN: u64 = 4096;
/// Most tokens of the description of a tool that the client only names: 735 of a computer and 499 beside
/// it (platform.claude.com/docs/en/agents-and-tools/tool-use/overview, 2026-11-30).
const TOOL_TOKENS_MAX: u64 = 1500;
/// Fewest bytes of audio, in Base64, per token: a second has at least 1333 and at most 32 tokens.
const AUDIO_BYTES_PER_TOKEN: u64 = 32;

/// The model that a request is bounded for.
#[derive(Clone, Copy, Debug)]
pub struct BoundTarget<'a> {
    pub vendor: &'a Vendor,
    /// Model name as the provider knows it.
    pub model: &'a str,
    pub generation: &'a Generation,
}

impl BoundTarget<'_> {
    /// The most that one try of a request can be billed for, with the limit on the answer's tokens that the
    /// gateway sends.
    ///
    /// # Errors
    ///
    /// When nothing bounds it.
    pub fn bound(
        &self,
        api: ClientApi,
        facts: &RequestFacts,
        output_limit: Option<u64>,
    ) -> Result<CallBound, Unbounded> {
        let billable = &facts.billable;
        if api == ClientApi::CountTokens {
            // Counting is free.
            return Ok(CallBound::default());
        }
        let upstream = self.vendor.upstream_api(api);
        let is_claude = upstream.is_some_and(UpstreamApi::is_claude);
        let calls = self.tool_calls(upstream, billable)?;
        let searches = calls.max(u64::from(is_search_model(self.model)));
        let of_kind = |is_there: bool| if is_there { calls } else { 0 };
        let outside = searches > 0 || billable.outside.is_some();
        Ok(CallBound {
            input_tokens: self
                .input_tokens(billable, outside)?
                .saturating_mul(calls.saturating_add(1)),
            output_tokens: self
                .output_tokens(api, facts, output_limit)?
                .saturating_mul(if is_claude {
                    calls.saturating_add(1)
                } else {
                    1
                }),
            web_searches: if is_search_model(self.model) {
                searches
            } else {
                of_kind(billable.tools.web_search)
            },
            file_searches: of_kind(billable.tools.file_search),
            code_executions: of_kind(billable.tools.code_execution),
            kinds: Kinds {
                media_input: billable.images > 0 || billable.audio_bytes > 0 || outside,
                audio_output: billable.audio_output,
                cache_writes: billable.cache_writes || !is_claude,
                long_cache_writes: billable.long_cache_writes,
            },
        })
    }

    /// Most calls of tools that run at the provider, each of which has the prompt read again.
    fn tool_calls(
        &self,
        upstream: Option<UpstreamApi>,
        billable: &Billable,
    ) -> Result<u64, Unbounded> {
        if let Some(what) = billable.unbounded {
            return Err(Unbounded::new(what));
        }
        if billable.tools.run == 0 {
            return Ok(0);
        }
        let most = match upstream {
            Some(UpstreamApi::Messages) => billable.tools.max_uses,
            Some(UpstreamApi::Responses) => billable.tool_calls_max,
            _ => None,
        };
        most.ok_or_else(|| {
            let what = "calls of a tool that the provider runs: the request has no max_uses (Claude) or \
                        max_tool_calls (responses) for it";
            Unbounded::new(what)
        })
    }

    /// `outside` is whether the prompt also holds what is not in the body.
    fn input_tokens(&self, billable: &Billable, outside: bool) -> Result<u64, Unbounded> {
        let window = self.window();
        let filled = |what: &'static str| {
            window.ok_or_else(|| {
                Unbounded::new(format!("{what}, at a model without a known window")).but_for(WINDOW)
            })
        };
        if outside {
            return filled(billable.outside.unwrap_or("what a search finds"));
        }
        let images = match (billable.images, self.generation.image_tokens_max) {
            (0, _) => 0,
            (images, Some(each)) => images.saturating_mul(each),
            (_, None) => return filled("images"),
        };
        let preamble = self.generation.preamble;
        let preamble = if billable.has_preamble {
            preamble.beside_tools
        } else {
            preamble.always
        };
        let tools = billable.tools.described.saturating_mul(TOOL_TOKENS_MAX);
        let text = billable.body_bytes.saturating_sub(billable.file_bytes);
        let audio = billable.audio_bytes.div_ceil(AUDIO_BYTES_PER_TOKEN);
        let parts = [images, preamble, tools, audio];
        let most = parts.into_iter().fold(text, u64::saturating_add);
        Ok(window.map_or(most, |window| most.min(window)))
    }

    fn output_tokens(
        &self,
        api: ClientApi,
        facts: &RequestFacts,
        output_limit: Option<u64>,
    ) -> Result<u64, Unbounded> {
        if api == ClientApi::Embeddings {
            return Ok(0);
        }
        let generation = self.generation;
        let is_outside = match generation.reasoning_limit {
            ReasoningLimit::Inside => false,
            ReasoningLimit::OutsideOldLimit => {
                facts.billable.has_old_limit && output_limit.is_none()
            }
            ReasoningLimit::Outside => true,
        };
        if is_outside {
            let what = "reasoning, which the limit on the answer's tokens does not count";
            let unbounded = || Unbounded::new(what).but_for(WINDOW);
            return self.window().ok_or_else(unbounded);
        }
        let least = generation.output_tokens_min(self.vendor, api);
        let sent = [facts.max_output_tokens, output_limit];
        let sent = sent
            .into_iter()
            .flatten()
            .min()
            .map(|limit| limit.max(least));
        let is_sure = generation.matches == Match::Known;
        let most = generation.output_tokens_max.filter(|_| is_sure);
        let what = "an answer without a limit, at a model without a known one";
        let limit = sent.into_iter().chain(most).min();
        let limit = limit.ok_or_else(|| Unbounded::new(what).but_for("output_tokens_max"))?;
        let rejected = if facts.billable.has_prediction {
            facts.billable.body_bytes
        } else {
            0
        };
        let choices = facts.choices.unwrap_or(1).max(1);
        Ok(limit.saturating_add(rejected).saturating_mul(choices))
    }

    /// Tokens that a prompt has at most. Of a model that is only thought to be like another one, nothing
    /// is certain.
    fn window(&self) -> Option<u64> {
        let is_sure = self.generation.matches == Match::Known;
        self.generation.context_tokens.filter(|_| is_sure)
    }

    /// The service tiers that a request may be billed in. At OpenAI the project's settings decide what
    /// holds for a request that asks for none.
    #[must_use]
    pub fn tiers<'f>(&self, facts: &'f RequestFacts) -> Tiers<'f> {
        match facts.billable.tier.as_deref() {
            None if self.vendor.is_openai_itself() => Tiers::Any,
            None => Tiers::StandardAnd(""),
            // Written so that it could be overlooked.
            Some(tier) if tier.contains('\\') => Tiers::Any,
            Some(tier) => Tiers::StandardAnd(tier),
        }
    }

    /// The least and the greatest limit on an answer's tokens that the gateway may send for a request.
    #[must_use]
    pub fn output_limits(&self, api: ClientApi) -> (u64, u64) {
        let most = self.generation.output_tokens_max;
        let least = self.generation.output_tokens_min(self.vendor, api);
        (least, most.unwrap_or(OUTPUT_TOKENS_UNKNOWN))
    }
}

impl Generation {
    fn output_tokens_min(&self, vendor: &Vendor, api: ClientApi) -> u64 {
        let usual = vendor.upstream_api(api).unwrap_or(UpstreamApi::Responses);
        // Some models are served by responses where others are by chat.
        let moves = usual == UpstreamApi::ChatCompletions && vendor.has_responses();
        let upstream = if moves { UpstreamApi::Responses } else { usual };
        vendor.output_tokens_min(upstream).max(1)
    }
}
