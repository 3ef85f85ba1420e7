//! What the rows of models say, and how names find them.

use crate::generations::{
    Generation, Match, ModelConfig, ReasoningControl, ReasoningOff, When, WrongModel,
};
use crate::vendors;

fn of(vendor: &str, model: &str) -> &'static Generation {
    vendors::find(vendor).unwrap().generation(model)
}

#[test]
fn every_row_is_dated_and_found_by_its_own_names() {
    for vendor in vendors::all() {
        for row in vendor.generations {
            assert!(row.source.starts_with("https://"), "{row:?}");
            let rules = row.reasoning;
            let has_none = rules.efforts.contains(crate::neutral::Effort::None);
            if rules.control == ReasoningControl::Effort {
                assert_eq!(has_none, rules.off == ReasoningOff::Switch, "{row:?}");
            }
            assert!(row.date.parse::<jiff::civil::Date>().is_ok(), "{row:?}");
            for name in row.names.iter().filter(|_| row.matches == Match::Known) {
                assert_eq!(of(vendor.name, name), row, "{} {name}", vendor.name);
            }
        }
        let last = vendor.generations.last().unwrap();
        assert_eq!(last.names, [""], "{}: a name that no row fits", vendor.name);
    }
}

#[test]
fn a_name_finds_its_generation_whatever_stands_around_it() {
    for (vendor, model, like) in [
        ("anthropic", "claude-opus-4-7", "claude-opus-4-8"),
        ("anthropic", "claude-opus-4-20250514", "claude-opus-4-0"),
        ("anthropic", "claude-opus-4@20250514", "claude-opus-4-0"),
        (
            "anthropic",
            "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
            "claude-sonnet-4-5",
        ),
        ("anthropic", "anthropic/claude-sonnet-5", "claude-opus-5"),
        ("openai", "gpt-5-2025-08-07", "gpt-5"),
        ("openai", "gpt-5.4-mini-2026-03-17", "gpt-5.4"),
        ("openai", "ft:gpt-4o-mini-2024-07-18:org::id", "gpt-4o-mini"),
        ("openai", "gpt-4-32k-0613", "gpt-4-32k"),
        ("azure", "gpt-5.6-sol", "gpt-5.6"),
        (
            "gemini",
            "models/gemini-2.5-pro-preview-05-06",
            "gemini-2.5-pro",
        ),
        ("vertex", "gemini-2.0-flash-001", "gemini-2.0"),
        ("glm", "GLM-5.3-Flash", "glm-5.3"),
        ("groq", "openai/gpt-oss-120b", "gpt-oss"),
        ("kimi", "kimi-k3.1-pro-highspeed", "kimi-k3"),
    ] {
        let found = of(vendor, model);
        assert_eq!(found.matches, Match::Known, "{model}");
        assert_eq!(found, of(vendor, like), "{model} is like {like}");
    }
}

#[test]
fn an_unknown_model_is_like_the_newest_and_says_so() {
    for (vendor, model, like) in [
        ("anthropic", "claude-opus-6", "claude-opus-5-5"),
        ("anthropic", "claude-opus-5-7", "claude-opus-5-5"),
        ("anthropic", "claude-haiku-6-1", "claude-haiku-5-5"),
        ("openai", "gpt-5.9", "gpt-6.1-sol"),
        ("azure", "gpt-7-terra", "gpt-6.1-sol"),
        ("gemini", "gemini-5-neon", "gemini-4-argon"),
        ("deepseek", "deepseek-v5", "deepseek-v4"),
        ("xai", "grok-5", "grok-4.7"),
    ] {
        let row = of(vendor, model);
        assert_eq!(row.matches, Match::Newest, "{model}");
        assert!(row.is_like(of(vendor, like)), "{model} is like {like}");
        let warning = vendors::find(vendor).unwrap().model_warning(model).unwrap();
        assert!(
            warning.contains(like) && warning.contains(model),
            "{warning}"
        );
    }
    let azure = vendors::find("azure").unwrap();
    let warning = azure.model_warning("prod-chat").unwrap();
    assert!(warning.contains("passes on"), "{warning}");
    for (vendor, model) in [
        ("vllm", "x"),
        ("openrouter", "x"),
        ("openai", "gpt-4o"),
        ("openai", "text-embedding-3-small"),
        ("gemini", "gemini-embedding-001"),
    ] {
        let vendor = vendors::find(vendor).unwrap();
        assert_eq!(vendor.model_warning(model), None, "{model}");
    }
}

fn own(toml: serde_json::Value, vendor: &str) -> Result<Generation, WrongModel> {
    let config: ModelConfig = serde_json::from_value(toml).unwrap();
    vendors::find(vendor).unwrap().own_generation(&config)
}

#[test]
fn the_configuration_says_what_a_model_is_like() {
    let json = serde_json::json!({
        "name": "prod-*", "like": "gpt-6-sol", "efforts": ["low", "high"],
        "reasoning_can_be_off": false, "temperature": "never", "output_tokens_max": 7,
    });
    let found = own(json, "azure").unwrap();
    let like = of("azure", "gpt-6-sol");
    assert_eq!(found.sampling.temperature, When::Never);
    assert_eq!(found.sampling.top_p, like.sampling.top_p);
    assert_eq!(found.output_tokens_max, Some(7));
    assert_eq!(found.reasoning.off, ReasoningOff::Impossible);
    assert!(!found.takes_chat_tools(None));
}

#[test]
fn a_wrong_model_section_names_its_setting() {
    for (json, vendor, setting) in [
        (
            serde_json::json!({"name": "x", "like": "gpt-99"}),
            "openai",
            "like",
        ),
        (
            serde_json::json!({"name": "x", "like": "gpt-5"}),
            "anthropic",
            "like",
        ),
        (
            serde_json::json!({"name": "x", "like": "gpt-4o", "efforts": ["low"]}),
            "openai",
            "efforts",
        ),
        (
            serde_json::json!({"name": "x", "like": "gpt-5", "efforts": []}),
            "openai",
            "efforts",
        ),
        (
            serde_json::json!({"name": "x", "like": "gpt-5", "budget_tokens_min": 1}),
            "openai",
            "budget_tokens_min",
        ),
        (
            serde_json::json!({"name": "x", "like": "gemini-2.5-pro", "budget_tokens_max": 1}),
            "gemini",
            "budget_tokens_max",
        ),
        (
            serde_json::json!({"name": "x", "like": "gpt-5", "answers_max": 0}),
            "openai",
            "answers_max",
        ),
    ] {
        let shown = json.to_string();
        let wrong = own(json, vendor).unwrap_err();
        assert_eq!(wrong.setting, setting, "{shown}: {}", wrong.message);
    }
}

#[test]
fn stars_stand_for_anything() {
    let config = |name: &str, provider: Option<&str>| -> ModelConfig {
        let json = serde_json::json!({"name": name, "like": "gpt-5", "provider": provider});
        serde_json::from_value(json).unwrap()
    };
    for (name, model, fits) in [
        ("gpt-7", "gpt-7", true),
        ("gpt-7", "gpt-7-sol", false),
        ("gpt-7*", "gpt-7-sol", true),
        ("*-sol", "gpt-7-sol", true),
        ("*7*", "gpt-7-sol", true),
        ("*", "anything", true),
    ] {
        assert_eq!(
            config(name, None).is_for("p", model),
            fits,
            "{name} {model}"
        );
    }
    assert!(!config("*", Some("other")).is_for("p", "m"));
}
