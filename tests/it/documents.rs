//! The documents name files that exist, and the recipes for events name every place to edit.

use std::fs;
use std::path::{Path, PathBuf};

use weir_tests::weir::repository;

use crate::architecture::rooms::GATEWAY_ROOMS;
use crate::architecture::workspace;

const FOLDERS: [&str; 8] = [
    "schemas/",
    "gateway/",
    "ingestor/",
    "compose/",
    "loadtest/",
    "tests/",
    "dashboards/",
    "docs/",
];

fn read(path: impl AsRef<Path>) -> String {
    let path = repository().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The Markdown files of the root and of `docs/`.
fn documents() -> Vec<PathBuf> {
    let folders = [repository(), repository().join("docs")];
    let entries = folders.iter().flat_map(|dir| fs::read_dir(dir).unwrap());
    entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect()
}

/// The file or folder, as far as it is written out: `<name>` and `*` stand for anything.
fn written_out(path: &str) -> &str {
    let end = path.find(['<', '*', '{']).unwrap_or(path.len());
    match end == path.len() {
        true => path,
        false => path[..end]
            .rsplit_once('/')
            .map_or("", |(folder, _)| folder),
    }
}

#[test]
fn documents_name_files_that_exist() {
    for document in documents() {
        let text = read(&document);
        let folder = document.parent().unwrap();
        let links = text.split("](").skip(1).filter_map(|rest| {
            let link = rest.split_once(')')?.0;
            (!link.starts_with("http")).then(|| folder.join(link.split('#').next().unwrap()))
        });
        let quoted = text.split('`').skip(1).step_by(2);
        let paths = quoted
            .filter(|word| FOLDERS.iter().any(|folder| word.starts_with(folder)))
            .filter(|word| !word.contains(char::is_whitespace))
            .map(|word| repository().join(written_out(word)));
        for path in links.chain(paths) {
            assert!(
                path.exists(),
                "{} names {}",
                document.display(),
                path.display()
            );
        }
    }
}

/// A recipe of CONTRIBUTING.md: its section, and the place that each of its bullets begins with.
fn recipe(title: &str) -> (String, Vec<String>) {
    let text = read("CONTRIBUTING.md");
    let (_, section) = text
        .split_once(&format!("\n## {title}\n"))
        .unwrap_or_else(|| panic!("CONTRIBUTING.md has no section {title}"));
    let section = section.split("\n## ").next().unwrap_or_default();
    let places = section.lines().filter_map(|line| {
        let place = line.strip_prefix("- `")?.split_once('`')?.0;
        Some(place.to_owned())
    });
    (section.to_owned(), places.collect())
}

/// Whether a file is one of those that a place with `<name>` in it stands for.
fn is_at(place: &str, file: &str) -> bool {
    let first = place.split('<').next().unwrap_or_default();
    let last = place.rsplit('>').next().unwrap_or_default();
    file.starts_with(first) && file.ends_with(last)
}

/// Files of the contracts and of the ingestor that say a word, tests left out.
fn files_with(words: &[&str]) -> Vec<String> {
    let mut folders = vec![
        repository().join("schemas/avro"),
        repository().join("schemas/clickhouse"),
        repository().join("schemas/src"),
        repository().join("ingestor/src"),
    ];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            let product = text.split("#[cfg(test)]").next().unwrap_or_default();
            if words.iter().any(|word| product.contains(word)) {
                let file = path.strip_prefix(repository()).unwrap();
                found.push(file.to_str().unwrap().to_owned());
            }
        }
    }
    found
}

/// What stands in the code for one event, or one field, tells which places another one needs.
fn check(title: &str, words: &[&str]) {
    let (section, places) = recipe(title);
    assert!(places.len() <= 4, "{title}: more than four places");
    let files = files_with(words);
    for file in &files {
        assert!(
            places.iter().any(|place| is_at(place, file)) || section.contains(file.as_str()),
            "{title}: {file} says {words:?} and is no place of the recipe"
        );
    }
    for place in places {
        assert!(
            files.iter().any(|file| is_at(&place, file)),
            "{title}: nothing at {place} says {words:?}"
        );
    }
}

#[test]
fn the_recipe_for_an_event_names_every_place() {
    check(
        "Add an event",
        &["DeploymentStateChanged", "deployment_states"],
    );
    check(
        "Add an event",
        &["RoutingTableAdopted", "weir.routing_tables"],
    );
}

#[test]
fn the_recipe_for_a_field_names_every_place() {
    check("Add a field to an event", &["last_resort"]);
}

#[test]
fn the_code_map_names_every_crate_and_every_room_of_the_gateway() {
    let text = read("ARCHITECTURE.md");
    let (_, map) = text.split_once("\n## Code map\n").unwrap();
    let map = map.split("\n## ").next().unwrap();
    let has_row = |cells: &str| map.lines().any(|line| line.starts_with(cells));
    let metadata = workspace();
    for package in &metadata.packages {
        let folder = package.manifest_path.parent().unwrap();
        let folder = folder.strip_prefix(&metadata.workspace_root).unwrap();
        let cells = format!("| `{folder}/` | `{}` |", package.name);
        assert!(has_row(&cells), "the code map has no row {cells}");
    }
    for room in GATEWAY_ROOMS {
        let cells = format!("| `{room}/` |");
        assert!(has_row(&cells), "the code map has no row {cells}");
    }
}

/// A newcomer reads it in a quarter of an hour. What grows belongs in `docs/`.
#[test]
fn the_architecture_is_short() {
    let words = read("ARCHITECTURE.md").split_whitespace().count();
    assert!(words <= 2_500, "ARCHITECTURE.md has {words} words");
}
