//! The commented example of a configuration, and the tests that keep it true.

/// What `weir config example` prints: every setting, with its default.
pub(crate) const EXAMPLE: &str = include_str!("../weir.example.toml");

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;
    use crate::config::{Config, Loaded, parse};

    fn load(source: &str) -> Loaded {
        let source = source.replace("${env:OPENAI_API_KEY}", "sk-example");
        parse("weir.example.toml", &source, None).unwrap()
    }

    /// The example with its optional settings in use, but for those that name files. One of them
    /// belongs to a mode that is not the default.
    fn with_options() -> String {
        let in_use = |line: &str| match line.strip_prefix('#') {
            Some(option) if option.starts_with(char::is_alphanumeric) && !option.contains('/') => {
                option.to_owned()
            }
            _ => line.to_owned(),
        };
        let sampled = EXAMPLE.replace("capture = \"off\"", "capture = \"sampled\"");
        sampled.lines().map(|line| in_use(line) + "\n").collect()
    }

    #[test]
    fn what_the_example_says_is_the_default() {
        let example = load(EXAMPLE).config;
        let default = Config::default();
        let shown = |part: &dyn std::fmt::Debug| format!("{part:#?}");
        assert_eq!(shown(&example.gateway), shown(&default.gateway));
        assert_eq!(shown(&example.control), shown(&default.control));
        assert_eq!(shown(&example.eventlog), shown(&default.eventlog));
        assert_eq!(shown(&example.store), shown(&default.store));
        assert_eq!(shown(&example.console), shown(&default.console));
        assert_eq!(shown(&example.payloads), shown(&default.payloads));
        // The second provider is written without what the first one spells out.
        let [spelt_out, short] = example.providers.as_slice() else {
            panic!("two providers")
        };
        assert_eq!(shown(&spelt_out.timeouts), shown(&short.timeouts));
        assert_eq!(shown(&example.routing), shown(&default.routing));
        // The second alias shows what has no default, and hedges as one does that says no more.
        let [alias, clever] = example.aliases.as_slice() else {
            panic!("two aliases")
        };
        assert_eq!(alias.sticky, Default::default());
        assert_eq!(clever.hedge, Some(Default::default()));
        assert_eq!(alias.retry, the_default_of(&alias.retry));
        assert_eq!(alias.strategy, Default::default());
        assert_eq!(alias.targets[0].weight, alias.targets[1].weight);
    }

    fn the_default_of<T: Default>(_: &T) -> T {
        T::default()
    }

    #[test]
    fn optional_settings_are_written_as_they_must_be() {
        let config = load(&with_options()).config;
        assert_eq!(config.gateway.threads.map(usize::from), Some(2));
        assert_eq!(config.eventlog.replication, Some(3));
        assert_eq!(config.providers[0].region.as_deref(), Some("eu"));
    }

    #[test]
    fn no_setting_is_missing() {
        let schema = serde_json::to_value(schemars::schema_for!(Config)).unwrap();
        let mut settings = BTreeSet::new();
        collect_settings(&schema, &mut settings);
        assert!(settings.len() > 40, "{settings:?}");
        let sections = [
            "gateway",
            "webhook",
            "unauthenticated",
            "control",
            "eventlog",
            "store",
            "console",
            "audit",
            "anchor",
            "payloads",
            "provider",
            "alias",
            "timeouts",
            "retry",
            "routing",
            "breaker",
            "table",
            "model",
            "price",
            "exchange_rate",
        ];
        let missing: Vec<&String> = settings
            .iter()
            .filter(|name| !sections.contains(&name.as_str()))
            .filter(|name| !EXAMPLE.contains(&format!("{name} = ")))
            .collect();
        assert!(missing.is_empty(), "{missing:?}");
    }

    fn collect_settings(schema: &Value, settings: &mut BTreeSet<String>) {
        match schema {
            Value::Object(fields) => {
                for (name, value) in fields {
                    match (name.as_str(), value) {
                        ("properties", Value::Object(properties)) => {
                            settings.extend(properties.keys().cloned());
                            properties
                                .values()
                                .for_each(|value| collect_settings(value, settings));
                        }
                        _ => collect_settings(value, settings),
                    }
                }
            }
            Value::Array(items) => items
                .iter()
                .for_each(|item| collect_settings(item, settings)),
            _ => {}
        }
    }
}
