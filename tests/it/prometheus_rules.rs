//! The rules for Prometheus: valid by its own tool, about metrics that there are, with runbooks that there are.

use std::fs;
use std::process::Command;

use weir_tests::weir::{cache, repository};

fn read(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap()
}

#[test]
fn promtool_takes_the_rules_and_their_tests_pass() {
    let promtool = cache().join("promtool/promtool");
    assert!(
        promtool.exists(),
        "promtool is missing: run tests/install.sh"
    );
    for args in [
        ["check", "config", "prometheus.yml"],
        ["check", "rules", "rules.yml"],
        ["test", "rules", "rules_test.yml"],
    ] {
        let command = Command::new(&promtool)
            .args(args)
            .current_dir(repository().join("dashboards/prometheus"))
            .output()
            .unwrap();
        assert!(command.status.success(), "{args:?}: {command:?}");
    }
}

/// A gateway's metrics are those of `docs/metrics.md`; a test of the gateway compares the two.
#[test]
fn rules_are_about_metrics_that_there_are() {
    let (rules, page) = (
        read("dashboards/prometheus/rules.yml"),
        read("docs/metrics.md"),
    );
    let is_of_name = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let words = rules.split(|character| !is_of_name(character));
    let metrics: Vec<&str> = words.filter(|word| word.starts_with("weir_")).collect();
    assert!(metrics.len() > 10, "{metrics:?}");
    for metric in metrics {
        let family = metric.strip_suffix("_bucket").unwrap_or(metric);
        assert!(
            page.contains(&format!("`{family}`")),
            "{metric} is no metric"
        );
    }
}

#[test]
fn runbooks_name_headings_that_there_are() {
    let rules = read("dashboards/prometheus/rules.yml");
    let alerts = rules.matches("- alert: ").count();
    let runbooks: Vec<&str> = rules.split("runbook: ").skip(1).collect();
    assert_eq!(runbooks.len(), alerts);
    for runbook in runbooks {
        let link = runbook.lines().next().unwrap();
        let (document, anchor) = link.split_once('#').unwrap();
        let text = read(document);
        let headings = text.lines().filter_map(|line| line.strip_prefix("## "));
        let mut anchors = headings.map(|heading| {
            let plain = heading.to_lowercase().replace(' ', "-");
            plain.replace(|it: char| !it.is_alphanumeric() && it != '-', "")
        });
        assert!(anchors.any(|it| it == anchor), "{link}");
    }
}
