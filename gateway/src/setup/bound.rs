//! The most that a request can be billed.

use std::sync::Arc;

use jiff::Timestamp;
use weir_dialects::{BoundTarget, ClientApi, ClientRequest, RequestFacts, Unbounded};
use weir_routing::{Alias, TargetSet};
use weir_schemas::PicoUsd;
use weir_schemas::prices::{CallBound, Unpriced};

use crate::setup::directory::{Cost, Deployment, Directory};

/// The most that one try of a request can be billed, over the targets of its alias.
///
/// Every try can be billed, those that fail, time out or lose a race too: what holds this for a whole
/// request reserves it again before each further try.
#[derive(Clone, Debug, Default)]
pub(crate) struct RequestBound {
    /// Tokens in and out. Saturates.
    pub(crate) tokens: u64,
    /// Tokens out, of all choices.
    pub(crate) output_tokens: u64,
    /// The dearest, and the targets without a price.
    pub(crate) cost: Cost,
    /// Positions of the targets at which nothing bounds the request.
    pub(crate) unbounded: TargetSet,
    /// Which they are, each with what is unbounded.
    pub(crate) unbounded_at: Vec<(Arc<Deployment>, Unbounded)>,
}

impl Directory {
    /// An upper bound by prices that were made with the directory: those of the dearest service tier,
    /// hour and size. Used while budgets are far from their end.
    pub(crate) fn coarse_bound(
        &self,
        alias: &Alias,
        api: ClientApi,
        facts: &RequestFacts,
    ) -> RequestBound {
        self.bound(alias, api, facts, None, |deployment, call| {
            deployment
                .ceiling
                .as_ref()
                .map_err(Clone::clone)?
                .cost(call)
        })
    }

    /// The closest upper bound. `output_limit` is what the gateway would send.
    pub(crate) fn tight_bound(
        &self,
        alias: &Alias,
        api: ClientApi,
        facts: &RequestFacts,
        output_limit: Option<u64>,
        now_us: u64,
    ) -> RequestBound {
        self.bound(alias, api, facts, output_limit, |deployment, call| {
            deployment.most(call, facts, now_us)
        })
    }

    /// The least limit on an answer's tokens that every target takes, and the greatest that one of them
    /// does.
    pub(crate) fn output_limits(&self, alias: &Alias, api: ClientApi) -> (u64, u64) {
        let mut limits = (1, 1);
        for target in &alias.targets {
            let deployment = self.deployment(target.deployment);
            let (least, most) = deployment.bound_target().output_limits(api);
            limits = (limits.0.max(least), limits.1.max(most));
        }
        limits
    }

    fn bound(
        &self,
        alias: &Alias,
        api: ClientApi,
        facts: &RequestFacts,
        output_limit: Option<u64>,
        price: impl Fn(&Deployment, &CallBound) -> Result<PicoUsd, Unpriced>,
    ) -> RequestBound {
        let mut bound = RequestBound::default();
        for (number, target) in alias.targets.iter().enumerate() {
            let deployment = self.deployment(target.deployment);
            let call = match deployment.bound_target().bound(api, facts, output_limit) {
                Ok(call) => call,
                Err(unbounded) => {
                    bound.unbounded.insert(number);
                    bound.unbounded_at.push((deployment.clone(), unbounded));
                    continue;
                }
            };
            let tokens = call.input_tokens.saturating_add(call.output_tokens);
            bound.tokens = bound.tokens.max(tokens);
            bound.output_tokens = bound.output_tokens.max(call.output_tokens);
            match price(deployment, &call) {
                Ok(here) => bound.cost.dearest = bound.cost.dearest.max(Some(here)),
                Err(reason) => {
                    bound.cost.unpriced.insert(number);
                    bound.cost.unpriced_at.push((deployment.clone(), reason));
                }
            }
        }
        bound
    }
}

impl Deployment {
    /// The most that a request can be billed here, in tokens and in money; `None` if nothing bounds it.
    pub(crate) fn bound(
        &self,
        request: &ClientRequest<'_>,
        now_us: u64,
    ) -> Option<(u64, Option<PicoUsd>)> {
        let ClientRequest {
            api,
            facts,
            output_limit,
            ..
        } = *request;
        let call = self.bound_target().bound(api, facts, output_limit).ok()?;
        let tokens = call.input_tokens.saturating_add(call.output_tokens);
        Some((tokens, self.most(&call, facts, now_us).ok()))
    }

    fn most(
        &self,
        call: &CallBound,
        facts: &RequestFacts,
        now_us: u64,
    ) -> Result<PicoUsd, Unpriced> {
        let now_us = i64::try_from(now_us).unwrap_or(i64::MAX);
        let at = Timestamp::from_microsecond(now_us).unwrap_or(Timestamp::MAX);
        let prices = self.prices.as_ref().ok_or(Unpriced::NotInBook)?;
        prices.most(call, self.bound_target().tiers(facts), at)
    }

    fn bound_target(&self) -> BoundTarget<'_> {
        BoundTarget {
            vendor: self.provider.vendor,
            model: &self.model,
            generation: &self.generation,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;
    use serde_json::json;
    use weir_dialects::vendors;
    use weir_schemas::Usage;
    use weir_schemas::prices::{Book, PricedCall, providers_of};

    use super::*;

    static BOOK: LazyLock<Book> = LazyLock::new(|| Book::built_in().unwrap());

    const MODELS: [(&str, &str); 9] = [
        ("openai", "gpt-4o"),
        ("openai", "gpt-4o-mini"),
        ("openai", "gpt-5"),
        ("openai", "gpt-5.4"),
        ("openai", "gpt-5.6-sol"),
        ("anthropic", "claude-opus-4-8"),
        ("anthropic", "claude-sonnet-4-5"),
        ("gemini", "gemini-2.5-pro"),
        ("gemini", "gemini-3.1-pro-preview"),
    ];

    /// A request, and how much of its bound an answer uses, in thousandths.
    #[derive(Clone, Debug)]
    struct Case {
        model: (&'static str, &'static str),
        text: String,
        images: u64,
        max_tokens: Option<u64>,
        choices: u64,
        tier: Option<&'static str>,
        marks: bool,
        input: u64,
        output: u64,
        parts: [u64; 5],
    }

    fn cases() -> impl Strategy<Value = Case> {
        let tiers = [None, Some("priority"), Some("flex"), Some("default")];
        let request = (
            prop::sample::select(MODELS.to_vec()),
            "\\PC{0,400}",
            0_u64..4,
            prop::option::of(1_u64..20_000),
            1_u64..4,
            prop::sample::select(tiers.to_vec()),
            any::<bool>(),
        );
        let usage = (0_u64..=1000, 0_u64..=1000, any::<[u64; 5]>());
        (request, usage).prop_map(|(request, (input, output, parts))| {
            let (model, text, images, max_tokens, choices, tier, marks) = request;
            Case {
                model,
                text,
                images,
                max_tokens,
                choices,
                tier,
                marks,
                input,
                output,
                parts,
            }
        })
    }

    impl Case {
        fn body(&self) -> String {
            let image =
                json!({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}});
            let mut content = vec![json!({"type": "text", "text": self.text})];
            content.extend(std::iter::repeat_n(
                image,
                usize::try_from(self.images).unwrap(),
            ));
            let mut body = json!({"model": "m", "n": self.choices,
                "messages": [{"role": "user", "content": content}]});
            body["max_tokens"] = json!(self.max_tokens);
            body["service_tier"] = json!(self.tier);
            if self.marks {
                body["messages"][0]["content"][0]["cache_control"] =
                    json!({"type": "ephemeral", "ttl": "1h"});
            }
            body.to_string()
        }

        /// What a provider that keeps its rules may report: never more than the text's bytes, its most for
        /// each image, the limit for each choice; of these any part.
        fn usage(&self, most: &CallBound) -> Usage {
            let (_, model) = self.model;
            let image = match model {
                "gpt-4o" => 1105,
                "gpt-4o-mini" => 36_835,
                "gpt-5" => 910,
                "gpt-5.4" => 2_500,
                "gpt-5.6-sol" => 20_000,
                "claude-opus-4-8" => 4_784,
                "claude-sonnet-4-5" => 1_568,
                _ => 1_120,
            };
            let input = self.text.len() as u64 + 7 + self.images * image;
            let input = input * self.input / 1000;
            // A higher limit than the model's own is refused, or changes nothing.
            let of_model = if model.starts_with("gpt-4o") {
                16_384
            } else {
                u64::MAX
            };
            let output = self.max_tokens.unwrap_or(most.output_tokens / self.choices);
            let output = output.min(of_model);
            let output = output * self.choices * self.output / 1000;
            let part = |number: usize, whole: u64| Some(self.parts[number] % (whole + 1));
            let long_write = self.marks.then(|| part(2, input)).flatten();
            Usage {
                input_tokens: Some(input),
                cached_input_tokens: part(0, input),
                cache_write_5m_tokens: self.marks.then(|| part(1, input)).flatten(),
                cache_write_1h_tokens: long_write.filter(|_| self.model.0 == "anthropic"),
                image_input_tokens: (self.images > 0).then(|| part(3, input)).flatten(),
                output_tokens: Some(output),
                reasoning_tokens: part(4, output),
                ..Usage::default()
            }
        }
    }

    proptest! {
        #[test]
        fn no_answer_within_the_rules_is_billed_more_than_the_bounds(case in cases()) {
            let (vendor, model) = case.model;
            let vendor = vendors::find(vendor).unwrap();
            let places = providers_of(vendor.name).iter().copied();
            let prices = BOOK.find("", places, model, jiff::civil::Date::MAX).unwrap();
            let body = case.body();
            let api = ClientApi::ChatCompletions;
            let facts = weir_dialects::inspect(api, body.as_bytes()).unwrap();
            let target = BoundTarget { vendor, model, generation: vendor.generation(model) };
            let bound = target.bound(api, &facts, None).unwrap();
            let at: Timestamp = "2026-11-30T12:00:00Z".parse().unwrap();
            let coarse = prices.ceiling(at).unwrap().cost(&bound).unwrap();
            let tight = prices.most(&bound, target.tiers(&facts), at).unwrap();
            prop_assert!(coarse >= tight, "{coarse:?} {tight:?}");
            let usage = case.usage(&bound);
            prop_assert!(usage.input_tokens <= Some(bound.input_tokens), "{usage:?} {bound:?}");
            // A tier that is asked for may be refused for the standard one; without one the project decides.
            for tier in ["", case.tier.unwrap_or("priority")] {
                let call = PricedCall {
                    at,
                    input_tokens: usage.input_tokens.unwrap_or(0),
                    service_tier: tier,
                    inference_geo: "",
                };
                if case.tier.is_none() && !tier.is_empty() && vendor.name != "openai" {
                    continue;
                }
                // What has no price is charged as it was reserved.
                if let Ok((billed, _)) = prices.charge(call, &usage) {
                    prop_assert!(tight >= billed, "{tight:?} {billed:?} {usage:?} {body}");
                }
            }
        }
    }

    /// A request of each kind that follows no bytes, and what of it is unbounded or fills the window.
    #[test]
    fn what_follows_no_bytes_fills_the_window_or_is_named() {
        let responses = ClientApi::Responses;
        let messages = ClientApi::Messages;
        let chat = ClientApi::ChatCompletions;
        let of = |api, (vendor, model): (&str, &str), body: &str| {
            let vendor = vendors::find(vendor).unwrap();
            let facts = weir_dialects::inspect(api, body.as_bytes()).unwrap();
            let target = BoundTarget {
                vendor,
                model,
                generation: vendor.generation(model),
            };
            target
                .bound(api, &facts, Some(100))
                .map(|bound| bound.input_tokens)
        };
        let gpt = ("openai", "gpt-5");
        let claude = ("anthropic", "claude-sonnet-4-5");
        for (api, target, body, window) in [
            (
                responses,
                gpt,
                r#"{"model":"m","input":"x","previous_response_id":"r"}"#,
                400_000,
            ),
            (
                responses,
                gpt,
                r#"{"model":"m","input":"x","conversation":{"id":"c"}}"#,
                400_000,
            ),
            (
                responses,
                gpt,
                r#"{"model":"m","prompt":{"id":"p"}}"#,
                400_000,
            ),
            (
                responses,
                gpt,
                r#"{"model":"m","input":[{"id":"rs_1"}]}"#,
                400_000,
            ),
            (
                responses,
                gpt,
                r#"{"model":"m","input":[{"type":"item_reference","id":"i"}]}"#,
                400_000,
            ),
            (
                responses,
                gpt,
                r#"{"model":"m","input":[{"role":"user","content":[{"type":"input_file","file_id":"f"}]}]}"#,
                400_000,
            ),
            (
                chat,
                gpt,
                r#"{"model":"m","messages":[{"role":"user","content":[{"ty\u0070e":"image_url"}]}]}"#,
                400_000,
            ),
            (
                messages,
                claude,
                r#"{"model":"m","messages":[{"role":"user","content":[{"type":"document","source":{"type":"url","url":"https://x"}}]}]}"#,
                200_000,
            ),
            (
                messages,
                claude,
                r#"{"model":"m","messages":[],"tools":[{"type":"web_search_20250305","name":"web_search","max_uses":3}]}"#,
                800_000,
            ),
            (
                responses,
                gpt,
                r#"{"model":"m","input":"x","max_tool_calls":1,"tools":[{"type":"web_search"}]}"#,
                800_000,
            ),
        ] {
            assert_eq!(of(api, target, body), Ok(window), "{body}");
        }
        for (api, target, body, what) in [
            (
                responses,
                gpt,
                r#"{"model":"m","input":"x","tools":[{"type":"web_search"}]}"#,
                "max_tool_calls",
            ),
            (
                responses,
                gpt,
                r#"{"model":"m","input":"x","max_tool_calls":1,"tools":[{"type":"image_generation"}]}"#,
                "another model",
            ),
            (
                messages,
                claude,
                r#"{"model":"m","messages":[],"tools":[{"type":"web_search_20250305","name":"w"}]}"#,
                "max_uses",
            ),
            (
                messages,
                claude,
                r#"{"model":"m","messages":[],"mcp_servers":[{"url":"https://x"}]}"#,
                "provider runs",
            ),
            (
                chat,
                ("openrouter", "x/y"),
                r#"{"model":"m","messages":[],"models":["a"]}"#,
                "other models",
            ),
            (
                chat,
                ("openai", "gpt-7"),
                r#"{"model":"m","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://x"}}]}]}"#,
                "known window",
            ),
        ] {
            let unbounded = of(api, target, body).unwrap_err().to_string();
            assert!(unbounded.contains(what), "{body}: {unbounded}");
        }
        // Text in the form of a file is text, and a file is not.
        let data = "iVBORw0KGgo".repeat(1000);
        let text = format!(
            r#"{{"model":"m","messages":[{{"role":"user","content":"data:image/png;base64,{data}"}}]}}"#
        );
        assert!(of(chat, gpt, &text).unwrap() > 11_000);
        let image = format!(
            r#"{{"model":"m","messages":[{{"role":"user","content":[{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{data}"}}}}]}}]}}"#
        );
        assert!(of(chat, gpt, &image).unwrap() < 5_000);
    }
}
