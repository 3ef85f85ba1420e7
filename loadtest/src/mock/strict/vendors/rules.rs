//! What a vendor refuses of values together, or by model.

use serde_json::Value;

use super::StrictVendor;
use crate::mock::strict::{ApiRule, Complaint, FieldPath, Violation, broken, items};

/// A request to a vendor.
#[derive(Clone, Copy, Debug)]
pub(in crate::mock::strict) struct VendorCall<'a> {
    pub(in crate::mock::strict) vendor: &'static StrictVendor,
    pub(in crate::mock::strict) model: &'a str,
    pub(in crate::mock::strict) body: &'a Value,
}

/// A rule of a vendor's.
pub(in crate::mock::strict) type VendorRule = fn(VendorCall<'_>) -> Result<(), Violation>;

const fn rule(name: &'static str, source: &'static str) -> ApiRule {
    ApiRule { name, source }
}

impl VendorCall<'_> {
    /// What the row's lists say.
    pub(in crate::mock::strict) fn check(self) -> Result<(), Violation> {
        let source = self.vendor.source;
        self.fields(rule("unknown-field", source))?;
        self.messages()?;
        for (index, tool) in items(&self.body["tools"]) {
            let kind = tool["type"].as_str().unwrap_or("function");
            if !self.vendor.tool_kinds.is_empty() && !self.vendor.tool_kinds.contains(&kind) {
                let path = FieldPath::of("tools").at(index).key("type");
                let problem = format!("'{kind}' is not supported: only function is");
                return broken(rule("tool-type", source), path, problem);
            }
        }
        self.vendor.rules.iter().try_for_each(|rule| rule(self))
    }

    fn fields(self, unknown: ApiRule) -> Result<(), Violation> {
        let names = self
            .body
            .as_object()
            .into_iter()
            .flat_map(|body| body.keys());
        for name in names {
            let listed =
                self.vendor.fields.is_empty() || self.vendor.fields.contains(&name.as_str());
            let said = !self.body[name].is_null();
            if !listed || (said && self.vendor.refused.contains(&name.as_str())) {
                return Err(Violation::new(
                    unknown,
                    FieldPath::of(name),
                    Complaint::Unknown,
                ));
            }
        }
        Ok(())
    }

    fn messages(self) -> Result<(), Violation> {
        let source = self.vendor.source;
        for (index, message) in items(&self.body["messages"]) {
            let path = FieldPath::of("messages").at(index);
            let role = message["role"].as_str().unwrap_or_default();
            if !self.vendor.roles.is_empty() && !self.vendor.roles.contains(&role) {
                let problem = format!("'{role}' is none of {}", self.vendor.roles.join(", "));
                return broken(rule("role", source), path.key("role"), problem);
            }
            let listed = self
                .vendor
                .message_fields
                .iter()
                .find(|(name, _)| *name == role);
            let Some((_, fields)) = listed else {
                continue;
            };
            let names = message
                .as_object()
                .into_iter()
                .flat_map(|message| message.keys());
            for name in names {
                if !fields.contains(&name.as_str()) {
                    let rule = rule("unknown-field", source);
                    return Err(Violation::new(rule, path.key(name), Complaint::Unknown));
                }
            }
            self.cache_marks(&message["content"], &path.key("content"))?;
        }
        match self.vendor.message_fields {
            [] => Ok(()),
            _ => self.cache_marks(&self.body["tools"], &FieldPath::of("tools")),
        }
    }

    /// Whoever lists the fields that it takes knows no marks of what is to be cached: "property
    /// 'cache_control' is unsupported".
    fn cache_marks(self, list: &Value, path: &FieldPath) -> Result<(), Violation> {
        for (index, item) in items(list) {
            for mark in ["cache_control", "prompt_cache_breakpoint"] {
                if item.get(mark).is_some() {
                    let rule = rule("unknown-field", self.vendor.source);
                    let path = path.at(index).key(mark);
                    return Err(Violation::new(rule, path, Complaint::Unknown));
                }
            }
        }
        Ok(())
    }

    /// Whether the model thinks: it does unless it is told not to, or is one that does not.
    fn thinks(self) -> bool {
        let switched = self.body["thinking"]["type"].as_str();
        let enabled = self.body["enable_thinking"].as_bool();
        match (self.vendor.name, switched, enabled) {
            (_, Some(kind), _) => kind == "enabled",
            (_, _, Some(enabled)) => enabled,
            ("deepseek", ..) => !self.model.contains("chat"),
            ("kimi", ..) => !["kimi-k2-0", "kimi-k2-turbo", "moonshot-v1"]
                .iter()
                .any(|plain| self.model.starts_with(plain)),
            // Qwen's commercial models do not unless they are told to.
            ("qwen", ..) => self.model.contains("thinking") || self.model.starts_with("qwq"),
            _ => false,
        }
    }
}

/// DeepSeek, Kimi: a call comes back with the reasoning that led to it.
pub(super) fn reasoning_comes_back(call: VendorCall<'_>) -> Result<(), Violation> {
    let source = match call.vendor.name {
        "kimi" => "https://platform.kimi.ai/docs/guide/use-thinking-models",
        _ => "https://api-docs.deepseek.com/guides/thinking_mode",
    };
    if !call.thinks() {
        return Ok(());
    }
    for (index, message) in items(&call.body["messages"]) {
        let calls = items(&message["tool_calls"]).next().is_some();
        if calls && !message["reasoning_content"].is_string() {
            let path = FieldPath::of("messages").at(index).key("reasoning_content");
            let problem = "thinking is enabled but reasoning_content is missing in assistant tool call message";
            return broken(rule("reasoning-comes-back", source), path, problem);
        }
    }
    Ok(())
}

/// Kimi, Qwen: a thinking model decides by itself which tool to call.
pub(super) fn no_forced_tools_while_thinking(call: VendorCall<'_>) -> Result<(), Violation> {
    let choice = &call.body["tool_choice"];
    let forces = choice.is_object() || choice == "required";
    if forces && call.thinks() {
        let rule = rule("tool-choice-while-thinking", call.vendor.source);
        let problem = "is incompatible with thinking enabled; only auto and none are not";
        return broken(rule, FieldPath::of("tool_choice"), problem);
    }
    Ok(())
}

/// Qwen: JSON mode wants the word in the prompt.
pub(super) fn json_word(call: VendorCall<'_>) -> Result<(), Violation> {
    let is_json = call.body["response_format"]["type"] == "json_object";
    let prompt = call.body["messages"].to_string().to_lowercase();
    if is_json && !prompt.contains("json") {
        let rule = rule(
            "json-mode-says-json",
            "https://www.alibabacloud.com/help/en/model-studio/json-mode",
        );
        let problem = "must contain the word 'json' in some form";
        return broken(rule, FieldPath::of("messages"), problem);
    }
    Ok(())
}

/// Kimi K2.5 and later: temperature 1.0 (0.6 without thinking) and `top_p` 0.95, or unset.
pub(super) fn fixed_sampling(call: VendorCall<'_>) -> Result<(), Violation> {
    let version = call.model.strip_prefix("kimi-k").unwrap_or_default();
    let is_fixed = version.starts_with("2.") || version.starts_with('3');
    let temperature = if call.thinks() { 1.0 } else { 0.6 };
    for (name, only) in [("temperature", temperature), ("top_p", 0.95)] {
        let value = call.body[name].as_f64().unwrap_or(only);
        if is_fixed && (value - only).abs() > 1e-9 {
            let rule = rule(
                "sampling",
                "https://platform.kimi.ai/docs/guide/kimi-k2-5-quickstart",
            );
            let problem = format!("only {only} is allowed for this model");
            return broken(rule, FieldPath::of(name), problem);
        }
    }
    Ok(())
}

/// Mistral: "Tool call id was x but must be a-z, A-Z, 0-9, with a length of 9."
pub(super) fn nine_letter_ids(call: VendorCall<'_>) -> Result<(), Violation> {
    let fits = |id: &str| id.len() == 9 && id.bytes().all(|b| b.is_ascii_alphanumeric());
    for (index, message) in items(&call.body["messages"]) {
        let path = FieldPath::of("messages").at(index);
        let answered = message["tool_call_id"].as_str();
        let called = items(&message["tool_calls"]).filter_map(|(_, call)| call["id"].as_str());
        if let Some(id) = answered.into_iter().chain(called).find(|id| !fits(id)) {
            let rule = rule(
                "tool-call-ids",
                "https://docs.mistral.ai/capabilities/function_calling",
            );
            let problem =
                format!("Tool call id was {id} but must be a-z, A-Z, 0-9, with a length of 9.");
            return broken(rule, path.key("tool_calls"), problem);
        }
    }
    Ok(())
}

/// Mistral: the last message is the user's, a tool's, or one to continue.
pub(super) fn ends_with_the_user(call: VendorCall<'_>) -> Result<(), Violation> {
    let Some((index, last)) = items(&call.body["messages"]).last() else {
        return Ok(());
    };
    if last["role"] == "assistant" && last["prefix"] != true {
        let rule = rule(
            "last-message",
            "https://docs.mistral.ai/capabilities/completion/usage",
        );
        let problem = "Expected last role User or Tool (or Assistant with prefix True) for serving but got assistant";
        return broken(rule, FieldPath::of("messages").at(index), problem);
    }
    Ok(())
}

/// Groq: gpt-oss takes low to high, Qwen none and default, others nothing.
pub(super) fn groq_efforts(call: VendorCall<'_>) -> Result<(), Violation> {
    let Some(effort) = call.body["reasoning_effort"].as_str() else {
        return Ok(());
    };
    let efforts: &[&str] = match call.model {
        model if model.contains("gpt-oss") => &["low", "medium", "high"],
        model if model.starts_with("qwen/") => &["none", "default"],
        _ => return Ok(()),
    };
    if efforts.contains(&effort) {
        return Ok(());
    }
    let rule = rule("effort", "https://console.groq.com/docs/reasoning");
    let problem = format!("must be one of {}", efforts.join(", "));
    broken(rule, FieldPath::of("reasoning_effort"), problem)
}

/// xAI: "presencePenalty, frequencyPenalty and stop parameters are not supported by reasoning models."
pub(super) fn no_penalties_while_reasoning(call: VendorCall<'_>) -> Result<(), Violation> {
    let reasons = call.model.starts_with("grok-4") && !call.model.contains("non-reasoning");
    let said = ["presence_penalty", "frequency_penalty", "stop"]
        .into_iter()
        .find(|name| !call.body[name].is_null());
    match said {
        Some(name) if reasons => {
            let rule = rule("sampling", call.vendor.source);
            broken(
                rule,
                FieldPath::of(name),
                "is not supported by reasoning models",
            )
        }
        _ => Ok(()),
    }
}

/// OpenRouter: an effort or a number of tokens.
pub(super) fn one_reasoning_control(call: VendorCall<'_>) -> Result<(), Violation> {
    let reasoning = &call.body["reasoning"];
    if !reasoning["effort"].is_null() && !reasoning["max_tokens"].is_null() {
        let rule = rule("one-reasoning-control", call.vendor.source);
        let problem = "only one of effort and max_tokens can be specified";
        return broken(rule, FieldPath::of("reasoning"), problem);
    }
    Ok(())
}
