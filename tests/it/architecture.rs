//! Which crate may depend on which, and which room of a crate on which other. ARCHITECTURE.md says why.

mod names;
pub(crate) mod rooms;
mod source;

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

pub(crate) fn workspace() -> Metadata {
    MetadataCommand::new()
        .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .no_deps()
        .exec()
        .unwrap()
}

/// Normal dependencies of each crate of the workspace.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    workspace()
        .packages
        .iter()
        .map(|package| {
            let normal = package
                .dependencies
                .iter()
                .filter(|dependency| dependency.kind == DependencyKind::Normal)
                .map(|dependency| dependency.name.clone());
            (package.name.to_string(), normal.collect())
        })
        .collect()
}

fn weir_crates_of(name: &str) -> BTreeSet<String> {
    let all = dependencies();
    all[name]
        .iter()
        .filter(|name| name.starts_with("weir-"))
        .cloned()
        .collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn schemas_know_nobody() {
    assert_eq!(weir_crates_of("weir-schemas"), set(&[]));
}

/// The crates that compute and do no I/O, and their folders.
const PURE: [(&str, &str); 6] = [
    ("weir-schemas", "schemas"),
    ("weir-dialects", "gateway/dialects"),
    ("weir-routing", "gateway/routing"),
    ("weir-limits", "gateway/limits"),
    ("weir-redaction", "gateway/redaction"),
    ("weir-controller", "ingestor/controller"),
];

#[test]
fn pure_crates_know_only_schemas() {
    for (name, _) in PURE {
        let known = weir_crates_of(name);
        assert!(
            known.is_subset(&set(&["weir-schemas"])),
            "{name} knows {known:?}"
        );
    }
}

#[test]
fn governance_knows_schemas_limits_and_the_log_and_no_http() {
    let known = weir_crates_of("weir-governance");
    assert_eq!(
        known,
        set(&["weir-eventlog", "weir-limits", "weir-schemas"])
    );
    for foreign in ["hyper", "http", "tokio"] {
        assert!(!dependencies()["weir-governance"].contains(foreign));
    }
}

#[test]
fn pure_crates_have_no_runtime_and_no_io() {
    let all = dependencies();
    for (name, _) in PURE {
        for impure in ["tokio", "hyper", "rdkafka", "clickhouse", "socket2"] {
            assert!(!all[name].contains(impure), "{name} depends on {impure}");
        }
    }
}

/// A crate's own clippy.toml replaces the workspace's instead of adding to it.
#[test]
fn no_crate_escapes_the_lints_of_the_workspace() {
    let read = |path: &str| {
        let path = format!("{}/../{path}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    };
    let pure = read("clippy-pure.toml");
    for (_, folder) in PURE {
        assert_eq!(read(&format!("{folder}/clippy.toml")), pure, "{folder}");
    }
    let workspace = read("clippy.toml");
    for own in ["clippy-pure.toml", "gateway/clippy.toml"] {
        let entries = read(own);
        let missing = workspace.lines().find(|line| !entries.contains(line));
        assert_eq!(missing, None, "{own} lacks an entry of clippy.toml");
    }
}

#[test]
fn the_gateway_never_sees_the_store() {
    let all = dependencies();
    for name in ["weir-store", "weir-ingestor", "clickhouse"] {
        assert!(
            !all["weir-gateway"].contains(name),
            "weir-gateway depends on {name}"
        );
    }
}

#[test]
fn the_ingestor_never_sees_the_gateway() {
    for name in ["weir-ingestor", "weir-store", "weir-eventlog"] {
        let known = weir_crates_of(name);
        let gateway = set(&[
            "weir-gateway",
            "weir-governance",
            "weir-dialects",
            "weir-routing",
            "weir-limits",
            "weir-redaction",
        ]);
        assert!(known.is_disjoint(&gateway), "{name} knows {known:?}");
    }
}

#[test]
fn only_the_composition_root_joins_gateway_and_ingestor() {
    for (name, known) in dependencies() {
        let joins = known.contains("weir-gateway") && known.contains("weir-ingestor");
        assert!(
            !joins || name == "weir",
            "{name} joins gateway and ingestor"
        );
    }
}
